"""`RemoteGraph` on a real server: spoken word by word, asked and answered, interrupted, and remembered as heard."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from livekit.agents import AgentSession
from remote_support import LocalServer
from turn_support import rest, until

from graph_voice import Conversation, events
from graph_voice.errors import BuildError
from graph_voice.testing import check_prompt
from graph_voice_livekit import GraphAgent
from tests.studio import remote_graphs
from tests.studio.studio_server import Studio


@asynccontextmanager
async def remote(studio: Studio, name: str) -> AsyncIterator[RemoteGraph]:
    async with get_client(url=str(studio.http.base_url)) as client:
        yield RemoteGraph(name, client=client)


@asynccontextmanager
async def calls(studio: Studio, name: str, *speak: str, **options: Any) -> AsyncIterator[Conversation[Any]]:
    async with remote(studio, name) as graph:
        options = {"thread_id": str(uuid.uuid4()), "speak": speak or ["model"], **options}
        async with Conversation(graph, **options) as conversation:
            yield conversation


@asynccontextmanager
async def speaks(studio: Studio, name: str, *speak: str) -> AsyncIterator[tuple[AgentSession[Any], GraphAgent]]:
    """The same in LiveKit."""
    async with remote(studio, name) as graph, AgentSession[Any](vad=None) as session:
        agent = GraphAgent(graph, speak=speak or ["model"], thread_id=str(uuid.uuid4()))
        await session.start(agent)
        try:
            yield session, agent
        finally:
            await agent.aclose()


def held(studio: Studio, thread: str) -> list[tuple[str, str, str]]:
    found = studio.get(f"/threads/{thread}/state")["values"]["messages"]
    return [(m["type"], m["id"], m["content"]) for m in found]


def told(messages: list[AnyMessage]) -> list[tuple[str, str, str]]:
    return [(m.type, str(m.id), m.text) for m in messages]


def statuses(studio: Studio, thread: str) -> list[str]:
    return [run["status"] for run in studio.get(f"/threads/{thread}/runs")]


def spoken(seen: list[events.Event]) -> str:
    return "".join(event.text for event in seen if isinstance(event, events.Text | events.Say))


async def test_words_are_streamed_and_tool_calls_are_seen_and_the_thread_holds_what_is_remembered(
    studio: Studio,
) -> None:
    async with calls(studio, "forecaster") as conversation:
        seen = await conversation.run("How is the weather?")
        again = await conversation.run("Thank you.")
    assert [e.text for e in seen if isinstance(e, events.Text)][:3] == ["Let", " me", " see."]
    assert spoken(seen) == "Let me see.It is sunny in Oslo."
    (asked,) = [e for e in seen if isinstance(e, events.ToolCalls)]
    assert [(c.name, c.args) for c in asked.calls] == [("weather", {"city": "Oslo"})]
    (done,) = [e for e in seen if isinstance(e, events.ToolResult)]
    assert done.output == "sunny in Oslo."
    assert seen.index(asked) < seen.index(done) < len(seen) - 3
    assert spoken(again) == "You said 'Thank you.' after 'It is sunny in Oslo.'."
    assert held(studio, conversation.thread_id) == told(conversation.messages)
    check_prompt(conversation.messages)


async def test_a_question_is_asked_and_the_next_words_answer_it(studio: Studio) -> None:
    async with calls(studio, "travel", "book") as conversation:
        (asked, _) = await conversation.run("I want to fly.")
        assert isinstance(asked, events.Interrupt)
        assert asked.words == "Which city do you want to fly to?"
        assert [i.value for i in conversation.interrupts] == [asked.words]
        assert spoken(await conversation.run("Oslo")) == "Your flight to Oslo is booked."
        assert not conversation.interrupts
    assert held(studio, conversation.thread_id) == told(conversation.messages)


@pytest.mark.parametrize(
    ("answer", "result"), [("Yes, please.", "20 paid."), ("No, wait.", "No, wait.")], ids=["yes", "no"]
)
async def test_a_tool_is_approved_and_the_prompts_stay_valid(studio: Studio, answer: str, result: str) -> None:
    async with calls(studio, "payer") as conversation:
        seen = await conversation.run("Pay.")
        assert spoken(seen) == "One moment."
        assert [e.words for e in seen if isinstance(e, events.Interrupt)] == ["Shall I pay the bill?"]
        answered = await conversation.run(answer)
        assert result in spoken(answered)
        await conversation.run("What were you shown?")
    check_prompt(conversation.messages)
    assert held(studio, conversation.thread_id) == told(conversation.messages)
    tools = [m for m in conversation.messages if m.type == "tool"]
    assert len(tools) == 1
    assert result in tools[0].text


async def test_a_barge_in_cancels_the_run_on_the_server_and_the_thread_holds_what_was_heard(studio: Studio) -> None:
    async with calls(studio, "storyteller") as conversation:
        turn = conversation.turn("Tell me a story.")
        turn.commit()
        first = await until(turn, events.Text)
        turn.heard(first.message_id, "Once upon")
        turn.interrupt()
        turn.close()
        await rest(turn)
        seen = await conversation.run("Stop.")
        assert spoken(seen) == "You interrupted 'Once upon'."
        assert sorted(statuses(studio, conversation.thread_id)) == ["interrupted", "success"]
    assert [m.text for m in conversation.messages if isinstance(m, AIMessage)] == ["Once upon", spoken(seen)]
    assert held(studio, conversation.thread_id) == told(conversation.messages)


async def test_a_call_that_ends_while_it_speaks_leaves_no_run_and_no_word_that_was_not_heard(studio: Studio) -> None:
    async with calls(studio, "storyteller") as conversation:
        turn = conversation.turn("Tell me a story.")
        turn.commit()
        first = await until(turn, events.Text)
        turn.heard(first.message_id, "Once")
    assert statuses(studio, conversation.thread_id) == ["interrupted"]
    assert [text for *_, text in held(studio, conversation.thread_id)] == ["Tell me a story.", "Once"]


async def test_a_reply_that_was_complete_on_the_server_is_mended_there(studio: Studio) -> None:
    async with calls(studio, "forecaster") as conversation:
        turn = conversation.turn("Hello")
        turn.commit()
        seen = await rest(turn)
        (message_id,) = {e.message_id for e in seen if isinstance(e, events.Text)}
        turn.heard(message_id, "You said")
        turn.close()
        assert spoken(await conversation.run("Again.")) == "You said 'Again.' after 'You said'."
    assert held(studio, conversation.thread_id) == told(conversation.messages)


async def test_a_tool_that_does_not_end_is_cancelled_when_the_caller_goes_on(studio: Studio) -> None:
    async with calls(studio, "searcher") as conversation:
        turn = conversation.turn("Look it up.")
        turn.commit()
        await until(turn, events.ToolCalls)
        turn.interrupt()
        turn.close()
        seen = await conversation.run("Never mind.")
        assert spoken(seen) == "Instead: Never mind."
    assert sorted(statuses(studio, conversation.thread_id)) == ["interrupted", "success"]
    check_prompt(conversation.messages)
    assert held(studio, conversation.thread_id) == told(conversation.messages)


async def test_another_process_goes_on_with_the_thread_and_its_open_question(studio: Studio) -> None:
    name = f"room-{uuid.uuid4()}"
    async with calls(studio, "travel", "book", thread_id=name) as first:
        await first.run("I want to fly.")
    async with calls(studio, "travel", "book", thread_id=name) as second:
        assert told(second.messages)[0] == told(first.messages)[0]
        assert spoken(await second.run("Rome")) == "Your flight to Rome is booked."


async def test_a_graph_of_the_servers_that_does_not_have_the_node_is_refused(studio: Studio) -> None:
    with pytest.raises(BuildError, match=r"speak=\['nobody'\]: the remote graph's nodes are model, tools"):
        async with calls(studio, "forecaster", "nobody"):
            pass


async def test_livekit_speaks_it_word_by_word_and_shows_its_tool_calls(studio: Studio) -> None:
    async with speaks(studio, "forecaster") as (session, agent):
        result = await session.run(user_input="How is the weather?")
        result.expect.contains_message(role="assistant")
        said = [m.text_content for m in session.history.messages() if m.role == "assistant"]
    assert " ".join(map(str, said)) == "Let me see. It is sunny in Oslo."
    assert held(studio, agent.conversation.thread_id) == told(agent.conversation.messages)


async def test_livekit_asks_the_question_and_the_next_words_answer_it(studio: Studio) -> None:
    async with speaks(studio, "travel", "book") as (session, agent):
        await session.run(user_input="I want to fly.")
        await session.run(user_input="Oslo")
        said = [m.text_content for m in session.history.messages() if m.role == "assistant"]
    assert said == ["Which city do you want to fly to?", "Your flight to Oslo is booked."]
    assert held(studio, agent.conversation.thread_id) == told(agent.conversation.messages)


async def test_a_barge_in_in_livekit_cancels_the_run_on_the_server(studio: Studio) -> None:
    async with speaks(studio, "storyteller") as (session, agent):
        speaking = asyncio.Event()
        agent.conversation.call.on_event = lambda turn, event: speaking.set()
        told_by = session.run(user_input="Tell me a story.")
        await speaking.wait()
        await session.interrupt()
        await told_by
        await session.run(user_input="Stop.")
    thread = agent.conversation.thread_id
    assert sorted(statuses(studio, thread)) == ["interrupted", "success"]
    assert held(studio, thread) == told(agent.conversation.messages)


def shape(part: Any) -> Any:
    """What a part says, without what differs from run to run."""
    data = part["data"]
    if part["type"] == "messages":
        message, metadata = data
        return "messages", message["type"], message["content"], metadata["langgraph_node"]
    if part["type"] == "values":
        return "values", [m["content"] for m in data["messages"]], [i.value for i in part["interrupts"]]
    if part["type"] == "tasks":
        return (
            "tasks",
            data["name"],
            sorted(data.keys() - {"metadata", "path"}),
            [i["value"] for i in data.get("interrupts", ())],
        )
    return part["type"], {
        node: json.dumps(u)[:20] if node != "__interrupt__" else u[0]["value"] for node, u in data.items()
    }


async def parts(graph: RemoteGraph, given: Any, thread: str) -> list[Any]:
    modes: Any = ["updates", "values", "messages", "tasks"]
    config: Any = {"configurable": {"thread_id": thread}}
    options: Any = {"on_disconnect": "cancel", "on_run_created": lambda run: None}
    stream = graph.astream(given, config, stream_mode=modes, subgraphs=True, version="v2", **options)
    return [shape(part) async for part in stream]


@pytest.mark.parametrize("name", ["forecaster", "travel", "payer"])
async def test_the_server_in_this_process_says_what_the_real_one_says(studio: Studio, name: str) -> None:
    words = {"forecaster": "How is the weather?", "travel": "Fly.", "payer": "Pay."}[name]
    given = {"messages": [{"type": "human", "content": words, "id": "u-1"}]}
    here = LocalServer(getattr(remote_graphs, name).builder)
    thread = str(uuid.uuid4())
    async with remote(studio, name) as graph:
        assert await parts(graph, given, thread) == await parts(here.remote(), given, thread)
        theirs = await graph.client.threads.get_state(thread)
        ours = await here.get_state(thread)
    assert theirs["next"] == ours["next"]
    assert [i["value"] for t in theirs["tasks"] for i in t["interrupts"]] == [
        i["value"] for t in ours["tasks"] for i in t["interrupts"]
    ]


async def test_a_server_that_does_not_answer_is_an_apology() -> None:
    async with LangGraphClient(httpx.AsyncClient(base_url="http://127.0.0.1:9")) as client:
        conversation = Conversation(RemoteGraph("forecaster", client=client), speak=["model"])
        seen = await conversation.run("Hello")
        await conversation.aclose()
    assert [type(event) for event in seen] == [events.Failed, events.Say, events.Ended]


@pytest.fixture
def program(studio: Studio, tmp_path: Path) -> str:
    """The file of a program whose graph is on the server."""
    file = tmp_path / "my_agent.py"
    url = str(studio.http.base_url)
    file.write_text(
        f"from langgraph.pregel.remote import RemoteGraph\n\ngraph = RemoteGraph('forecaster', url={url!r})\n"
    )
    return str(file)


def command(*words: str, said: str = "") -> str:
    run = [Path(sys.executable).with_name("graph-voice"), *words]
    done = subprocess.run(run, input=said, capture_output=True, text=True, timeout=120, check=False)
    return " ".join((done.stdout + done.stderr).split())


def test_the_commands_take_it(program: str, tmp_path: Path) -> None:
    assert "It is sunny in Oslo." in command("chat", program, "--speak", "model", said="How is the weather?\n")
    assert "--speak NODE" in command("chat", program, said="Hello\n")
    assert "nothing of it can be checked here" in command("check", program)
    drawn = tmp_path / "graph.svg"
    command("draw", program, "--output", str(drawn))
    assert "tools" in drawn.read_text()
