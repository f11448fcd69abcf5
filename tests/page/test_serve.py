"""`graph-voice serve`, as a process; and many pages at once."""

import asyncio
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from page_support import Page, page, running, served, shelf_of

from graph_voice import Agent, Conversation, Handoff, create_voice_graph
from graph_voice.errors import LoadError
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.commands import ServeError, serve
from graph_voice_livekit.page.parts import Shelf, others_beside
from graph_voice_livekit.page.replay import ReplayError
from graph_voice_livekit.page.save import TestWriter

GRAPH = """
from graph_voice import Agent, create_voice_graph
from graph_voice.testing import ScriptedModel

graph = create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel(["Hello."]))
"""
ANSWERS = GRAPH.replace('["Hello."]', 'lambda messages: "Hello."')
WITH_A_TOOL = '''
from pathlib import Path

from graph_voice import Agent, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call


@function_tool
async def book(table: int) -> str:
    """Book a table."""
    with (Path(__file__).parent / "booked").open("a") as file:
        file.write("once")
    return f"Table {table} is booked."


model = ScriptedModel([call("book", {"table": 4}), "Done."])
graph = create_voice_graph([Agent("desk", instructions="Help.", tools=[book])], llm=model)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_agent.py").write_text(GRAPH, encoding="utf-8")
    (tmp_path / "other.py").write_text(GRAPH.replace("Hello.", "Other."), encoding="utf-8")
    graphs = {"other": "./other.py:graph", "remote": {"path": "./other.py:graph"}, "js": "./graph.js:graph", "bad": 7}
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": graphs}), encoding="utf-8")
    return tmp_path


async def test_a_call_in_a_process(folder: Path) -> None:
    async with running(folder) as address, ClientSession() as client:
        assert address.startswith("http://127.0.0.1:")
        async with client.ws_connect(f"{address}call", headers={"Origin": address.rstrip("/")}) as opened:
            shown = Page(opened)
            await shown.start(graph="other")
            turn = await shown.say("Hello?")
            assert turn["steps"][0]["words"][0]["heard"] == "Other."
            assert shown.last("welcome")["graphs"] == ["my_agent", "other", "remote"]


async def test_another_host_needs_the_token_that_is_printed(folder: Path) -> None:
    async with running(folder, "--host", "0.0.0.0") as address, ClientSession() as client:
        found = re.fullmatch(r"http://([^/:]+):(\d+)/\?token=(\S+)", address)
        assert found is not None
        here = f"http://127.0.0.1:{found[2]}/"
        assert (await client.get(here)).status == 403
        assert (await client.get(f"{here}?token={found[3]}")).status == 200
        named = {"Host": f"{found[1]}:{found[2]}"}
        assert (await client.get(f"{here}?token={found[3]}", headers=named)).status == 200
        strange = {"Host": f"evil.example:{found[2]}"}
        assert (await client.get(f"{here}?token={found[3]}", headers=strange)).status == 403


def test_a_port_that_is_taken(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ServeError, match="--port 0"):
        serve(str(folder / "my_agent.py"), text=True, port=taken.getsockname()[1], open_browser=False)


def test_what_is_wrong_is_said_before_anything_is_served(folder: Path) -> None:
    with pytest.raises(LoadError, match="there is no file"):
        serve(str(folder / "missing.py"), text=True, port=0, open_browser=False)
    with pytest.raises(ReplayError, match=r"call\.json"):
        serve(str(folder / "my_agent.py"), replay=str(folder), port=0, open_browser=False)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"graphs": []}', '{"graphs": null}'])
def test_a_langgraph_json_without_graphs(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "langgraph.json").write_text(text, encoding="utf-8")
    assert others_beside(tmp_path) == {}


async def answer(client: Any) -> str:
    async with page(client) as shown:
        await shown.start()
        if shown.all("ended"):
            return str(shown.last("notice")["text"])
        turn = await shown.say("Hello?")
        return str(turn["steps"][0]["words"][0]["heard"])


async def test_a_file_that_has_changed_is_loaded_again_for_the_next_call(folder: Path) -> None:
    file = folder / "my_agent.py"
    file.write_text(ANSWERS, encoding="utf-8")
    async with served(Shelf(Choices(f"{file}:graph"), text_only=True)) as client, page(client) as earlier:
        await earlier.start()
        assert await answer(client) == "Hello."
        file.write_text(ANSWERS.replace("Hello.", "I have changed."), encoding="utf-8")
        assert await answer(client) == "I have changed."
        file.write_text("graph = (", encoding="utf-8")
        assert "SyntaxError" in await answer(client)
        file.write_text(ANSWERS.replace("Hello.", "I am mended."), encoding="utf-8")
        assert await answer(client) == "I am mended."
        file.unlink()
        assert await answer(client) == "I am mended."
        turn = await earlier.say("And you?")  # its call has begun before
        assert turn["steps"][0]["words"][0]["heard"] == "Hello."


async def test_a_graph_for_studio_brings_its_model(folder: Path) -> None:
    bound = (
        GRAPH.replace("llm=ScriptedModel", "llm=None").replace("None([", "None)  # ([")
        + "\ngraph = graph.compile().with_config({'configurable': {'llm': ScriptedModel(['Bound.'])}})\n"
    )
    (folder / "other.py").write_text(bound, encoding="utf-8")
    shelf = Shelf(Choices("first.py", llm="offline"), text_only=True, others=others_beside(folder))
    parts = await shelf.load("other")
    assert parts.model.name == "the graph's own"
    shelf.keep(parts)
    async with served(shelf) as client, page(client) as shown:
        await shown.start(graph="other")
        turn = await shown.say("Hello?")
        assert turn["steps"][0]["words"][0]["heard"] == "Bound."


async def test_twenty_pages_at_once() -> None:
    desk = Agent("desk", instructions="Help.", handoffs=[Handoff("billing")])
    billing = Agent("billing", instructions="Bill.")
    model = ScriptedModel(
        {"desk": [("bill", [call("transfer_to_billing")])], "billing": lambda messages: f"Billed: {_last(messages)}"}
    )
    graph = create_voice_graph([desk, billing], llm=model)

    async def one(client: Any, number: int) -> None:
        async with page(client) as shown:
            await shown.start()
            for each in range(3):
                text = f"bill {number}-{each}"
                turn = await shown.say(text)
                assert turn["user"] == text
                # A fresh agent is not shown what the caller has said to the other.
                said = text if each else "(The caller is on the line and waits for you to speak.)"
                assert turn["steps"][-1]["words"][-1]["heard"] == f"Billed: {said}"
            assert shown.last("agent")["name"] == "billing"

    async with served(shelf_of(graph), max_calls=20) as client:
        await asyncio.gather(*(one(client, number) for number in range(20)))
    assert not model.errors


def _last(messages: Any) -> str:
    return str(next(m for m in reversed(messages) if m.type == "human").text)


async def test_a_call_is_saved_as_a_test(folder: Path) -> None:
    (folder / "my_agent.py").write_text(WITH_A_TOOL, encoding="utf-8")
    shelf = Shelf(Choices(str(folder / "my_agent.py")), text_only=True)
    async with served(shelf, save=TestWriter(shelf, folder / "tests")) as client, page(client) as shown:
        assert shown.last("welcome")["save"]
        await shown.start()
        await shown.say("Book a table.")
        await shown.send("save_test")
        await shown.until(lambda: bool(shown.all("notice")))
        assert shown.last("notice")["kind"] == "info", shown.last("notice")
    (file,) = (folder / "tests").glob("test_my_agent_*.py")
    text = file.read_text(encoding="utf-8")
    assert "Book a table." in text
    compile(text, str(file), "exec")
    assert (folder / "booked").read_text(encoding="utf-8") == "once"  # the tool did not act again


async def test_a_test_that_can_not_be_written(folder: Path) -> None:
    async def save(graph: str, conversation: Conversation[Any]) -> str:
        raise OSError("the disk is full")

    async with served(shelf_of(create_graph()), save=save) as client, page(client) as shown:
        await shown.start()
        await shown.say("Hello.")
        await shown.send("save_test")
        await shown.until(lambda: bool(shown.all("notice")))
        assert "the disk is full" in shown.last("notice")["text"]


def create_graph() -> Any:
    return create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel(["Yes?"]))
