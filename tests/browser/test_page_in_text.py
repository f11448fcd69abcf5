"""The live page in Chromium, by text: what a person sees and can do."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser_support import Complaints, opened, until
from langgraph.checkpoint.memory import InMemorySaver
from page_support import served, shelf_of
from pydantic import BaseModel

from graph_voice import (
    Agent,
    Conversation,
    Done,
    Handoff,
    RunContext,
    Task,
    TaskGroup,
    create_voice_graph,
    function_tool,
)
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Utterance
from graph_voice_livekit.inprocess.entries import Handoff as Handed
from graph_voice_livekit.page.replay import Replay
from graph_voice_livekit.page.thread import replay_of

pytestmark = pytest.mark.browser

MARKUP = "<img src=x onerror=window.harmed=1><script>window.harmed=1</script>"


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def look_up(ctx: RunContext[Caller], what: str) -> str:
    """Look something up."""
    ctx.userdata.name = MARKUP
    return f"It is {what}."


def graph_of(script: Any) -> Any:
    desk = Agent("desk", instructions=f"Help. {MARKUP}", tools=[look_up], handoffs=[Handoff("billing")])
    billing = Agent("billing", instructions="Bill.", on_enter="Greet.")
    return create_voice_graph([desk, billing], userdata=Caller, llm=ScriptedModel(script))


async def types(shown: Any, text: str) -> None:
    await shown.wait_for_selector("#text:enabled")
    await shown.fill("#text", text)
    await shown.press("#text", "Enter")


async def test_a_call_by_text(browse: Any, complaints: Complaints) -> None:
    script = {
        "desk": [
            say("One moment.", call("look_up", {"what": MARKUP})),
            f"There: {MARKUP}",
            call("transfer_to_billing"),
        ],
        "billing": ["Billing here."],
    }
    async with served(shelf_of(graph_of(script))) as client, browse() as browser:
        shown = await opened(browser, client, complaints)
        await types(shown, f"Where is {MARKUP}?")
        lines = shown.locator("#lines")
        await lines.get_by_text("There:").wait_for()
        # Everything that comes from a call is text.
        assert MARKUP in await lines.inner_text()
        await shown.locator("#facts").get_by_text(MARKUP).wait_for()
        assert await shown.locator("main img, main script").count() == 0

        # What the model was shown: opened and closed with the keyboard, and the focus comes back.
        await lines.locator("button.link").first.focus()
        await shown.keyboard.press("Enter")
        await shown.locator("#prompt-body").get_by_text("Help.").wait_for()
        assert await shown.locator("#prompt-body img").count() == 0
        await shown.keyboard.press("Escape")
        assert not await shown.locator("#prompt").is_visible()
        assert await shown.evaluate("document.activeElement.className") == "link"

        # A handoff: the node of the new agent is active, its edge is marked, the listener is told.
        assert await shown.locator("g.active").get_attribute("data-node") == "desk"
        await types(shown, "My bill, please.")
        await shown.locator("g.active[data-node=billing]").wait_for()
        assert await shown.locator("g.edge.taken").get_attribute("data-target") == "billing"
        await lines.get_by_text("Billing here.").wait_for()
        assert "handoff from desk to billing" in await shown.locator("#spoken").inner_text()
        assert await shown.locator("#times .row").count() == 2

        # Restart: another call with the same graph.
        await shown.click("#restart")
        await shown.locator("g.active[data-node=desk]").wait_for()
        assert await lines.inner_text() == ""
        assert await shown.evaluate("window.harmed") is None


@function_tool
async def broken(ctx: RunContext[Caller]) -> str:
    """Fail."""
    raise ValueError("the till is stuck")


async def test_words_of_another_direction_and_a_tool_that_fails(browse: Any, complaints: Complaints) -> None:
    arabic = "مرحبا، رقم الطلب هو A-77."
    desk = Agent("a" * 60, instructions="Help.", tools=[broken])
    graph = create_voice_graph([desk], llm=ScriptedModel([arabic, call("broken"), "I'm sorry."]))
    complaints.expect("tool broken failed")
    phone = {"width": 390, "height": 844}
    async with served(shelf_of(graph)) as client, browse() as browser:
        shown = await opened(browser, client, complaints, viewport=phone)
        await types(shown, "Hello.")
        await shown.locator("span.heard", has_text=arabic).wait_for()
        await until(shown, "getComputedStyle(document.querySelector('span.heard').parentElement).direction === 'rtl'")
        await types(shown, "Break.")
        await shown.get_by_text("I'm sorry.").first.wait_for()
        assert "An internal error occurred." in await shown.locator(".tool .result").inner_text()
        assert await shown.locator(".tool .raised").inner_text() == "ValueError: the till is stuck"
        assert await shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # What is typed can be seen without scrolling, wherever the transcript is.
        place = await shown.locator("#say").bounding_box()
        assert place["y"] + place["height"] <= phone["height"]


@function_tool
async def record(ctx: RunContext[Caller], value: str) -> Done:
    """Record it."""
    return ctx.complete(value)


FORM = TaskGroup(
    "form", [Task(name, instructions="Ask.", on_enter="Ask.", tools=[record]) for name in ("name", "city")]
)


@function_tool
async def register(ctx: RunContext[Caller]) -> str:
    """Register."""
    found = await ctx.run_task(FORM)
    return f"Registered {found['name']} of {found['city']}."


async def test_each_step_of_a_group_of_tasks_is_entered_and_left(browse: Any, complaints: Complaints) -> None:
    script = {
        "desk": [call("register"), "You are registered."],
        "name": ["Your name?", call("record", {"value": "Ada"})],
        "city": ["Your city?", call("record", {"value": "London"})],
    }
    desk = Agent("desk", instructions="Help.", tools=[register], tasks=[FORM])
    graph = create_voice_graph([desk, FORM], userdata=Caller, llm=ScriptedModel(script))
    async with served(shelf_of(graph)) as client, browse() as browser:
        shown = await opened(browser, client, complaints)
        for said, answer in (("Hello.", "Your name?"), ("Ada.", "Your city?"), ("London.", "You are registered.")):
            await types(shown, said)
            await shown.locator(".turn.closed .line.heard", has_text=answer).wait_for()
        assert await shown.locator("#lines .handoff").all_inner_texts() == [
            "desk → name a task begins",
            "name → desk back from a task",
            "desk → city a task begins",
            "city → desk back from a task",
        ]


async def test_a_server_that_is_gone_and_comes_back(browse: Any, complaints: Complaints, unused_tcp_port: int) -> None:
    graph = graph_of(lambda messages: f"You said: {messages[-1].text}")
    complaints.expect("ERR_CONNECTION_REFUSED")
    gone = "The server is gone. Start it again, then press Restart."
    async with browse() as browser:
        async with served(shelf_of(graph), port=unused_tcp_port) as client:
            shown = await opened(browser, client, complaints)
            await types(shown, "apples")
            await shown.get_by_text("You said: apples").first.wait_for()
        await shown.get_by_text(gone).wait_for()
        assert await shown.locator("#state").inner_text() == "offline"
        assert "You said: apples" in await shown.locator("#lines").inner_text()
        await shown.click("#restart")
        await shown.locator(".notice", has_text=gone).nth(1).wait_for()
        async with served(shelf_of(graph), port=unused_tcp_port):
            await shown.click("#restart")
            await types(shown, "pears")
            await shown.get_by_text("You said: pears").first.wait_for()
            assert await shown.locator(".notice").count() == 0
            assert "apples" not in await shown.locator("#lines").inner_text()


async def test_two_tabs_a_reload_and_a_phone(browse: Any, complaints: Complaints) -> None:
    graph = graph_of(lambda messages: f"You said: {messages[-1].text}")
    async with served(shelf_of(graph), max_calls=2) as client, browse() as browser:
        one = await opened(browser, client, complaints)
        two = await opened(browser, client, complaints, viewport={"width": 360, "height": 740}, color_scheme="dark")
        await types(one, "apples")
        await types(two, "pears")
        await one.get_by_text("You said: apples").first.wait_for()
        await two.get_by_text("You said: pears").first.wait_for()
        assert "pears" not in await one.locator("#lines").inner_text()
        assert await two.evaluate("document.documentElement.scrollWidth <= innerWidth")
        # A reload hangs up, so that its place is free for the call that the page begins anew.
        await one.reload()
        await types(one, "plums")
        await one.get_by_text("You said: plums").first.wait_for()
        assert "apples" not in await one.locator("#lines").inner_text()
        await one.close()
        await types(two, "figs")
        await two.get_by_text("You said: figs").first.wait_for()


async def test_a_stored_call_is_scrubbed(browse: Any, complaints: Complaints, tmp_path: Path) -> None:
    log = CallLog(
        (
            Utterance("desk", "Hello there.", 0.2, 1.0),
            Utterance(CALLER, "My bill.", 1.2, 2.0),
            Handed("desk", "billing", 2.5),
            Utterance("billing", "Billing", 2.6, 3.0, interrupted=True, generated="Billing here."),
        ),
        duration=4.0,
        first_agent="desk",
    )
    (tmp_path / "call.json").write_text(log.to_json(), encoding="utf-8")
    (tmp_path / "state.json").write_text(json.dumps({"userdata": {"name": "Ada"}}), encoding="utf-8")
    soundfile.write(tmp_path / "call.wav", np.zeros((4 * 8000, 2), np.int16), 8000)
    shelf = shelf_of(graph_of([]))
    async with served(shelf, replay=Replay.load(tmp_path)) as client, browse() as browser:
        shown = await opened(browser, client, complaints)
        position, lines = shown.locator("#position"), shown.locator("#lines")
        await shown.locator("g.active[data-node=desk]").wait_for()
        await position.fill("3.5")
        await shown.locator("g.active[data-node=billing]").wait_for()
        assert await lines.locator("s").inner_text() == "here."
        await position.fill("1.1")
        await shown.locator("g.active[data-node=desk]").wait_for()
        assert "My bill." not in await lines.inner_text()
        await shown.click("#play")
        await lines.get_by_text("My bill.").wait_for()
        await shown.locator("#facts").get_by_text("Ada").wait_for()


async def test_a_thread_of_a_store_is_scrubbed(browse: Any, complaints: Complaints) -> None:
    script = {
        "desk": [call("look_up", {"what": "open"}), "Anything else?", call("transfer_to_billing")],
        "billing": ["Yes?"],
    }
    saver, graph = InMemorySaver(), graph_of(script)
    conversation: Conversation[Any] = Conversation(graph, thread_id="call-7", saver=saver)
    await conversation.open()
    await conversation.run("Are you open?")
    await conversation.flush()
    await asyncio.sleep(0.1)  # a store knows the order of things by their times
    await conversation.run("My bill.")
    await conversation.aclose()
    shelf = shelf_of(graph)
    stored = await replay_of(saver, "call-7", await shelf.load())
    async with served(shelf, replay=stored) as client, browse() as browser:
        shown = await opened(browser, client, complaints)
        position, lines = shown.locator("#position"), shown.locator("#lines")
        await shown.locator("g.active[data-node=desk]").wait_for()
        await position.fill(str(stored.duration))
        await shown.locator("g.active[data-node=billing]").wait_for()
        assert "My bill." in await lines.inner_text()
        assert MARKUP in await shown.locator("#facts").inner_text()
        await position.fill("0")
        await shown.locator("g.active[data-node=desk]").wait_for()
        assert "My bill." not in await lines.inner_text()
        assert await shown.locator("#where-time-went").is_hidden()
        assert await shown.evaluate("window.harmed") is None
