"""`get_stream_writer()` in tools, hooks and nodes: `events.Custom`, when it is certain that what wrote it happened."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import tool as langchain_tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.prebuilt import ToolRuntime
from pydantic import SecretStr

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    Turn,
    VoiceState,
    create_voice_graph,
    events,
    function_tool,
)
from graph_voice.call.custom_delivery import CustomDelivery
from graph_voice.testing import Call, ScriptedModel, call, run, say

pytestmark = pytest.mark.virtual_clock


def cart(**data: Any) -> dict[str, Any]:
    return {"key": "cart", **data}


@function_tool
async def add(item: str) -> str:
    """Add an item."""
    get_stream_writer()(cart(items=item))
    return f"{item} added"


@function_tool
def add_in_a_thread(item: str) -> str:
    """Add an item."""
    get_stream_writer()(cart(items=item))
    return f"{item} added"


@langchain_tool
async def add_langchain(item: str, runtime: ToolRuntime) -> str:
    """Add an item."""
    runtime.stream_writer(cart(items=item))
    return f"{item} added"


def desk(*script: Any, tools: Any = (add, add_in_a_thread, add_langchain), **options: Any) -> Any:
    agent = Agent("desk", instructions="D", tools=list(tools), **options)
    return create_voice_graph([agent], llm=ScriptedModel(list(script)))


@pytest.mark.parametrize("name", ["add", "add_in_a_thread", "add_langchain"])
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_what_a_tool_writes_comes_once_with_agent_and_tool(front_end: str, name: str) -> None:
    seen: list[events.Custom] = []
    graph = desk(call(name, {"item": "tea"}), "Done.")
    async with Call(graph, front_end=front_end, on_custom=seen.append) as line:
        await line.says("Tea, please.")
    assert seen == [events.Custom("desk", cart(items="tea"), "desk_tools", name)]
    assert seen[0].key == "cart"


async def test_it_is_an_event_of_the_turn_before_the_tools_result() -> None:
    conversation = Conversation(desk(call("add", {"item": "tea"}), "Done."))
    seen = [type(event).__name__ for event in await conversation.run("Tea.")]
    assert seen.index("ToolCalls") < seen.index("Custom") < seen.index("ToolResult")
    assert not any("cart" in str(message) for message in conversation.messages)


async def test_a_tool_that_goes_on_after_a_barge_in_is_shown_since_it_acts() -> None:
    @function_tool
    async def slow(item: str) -> str:
        """Add an item."""
        await asyncio.sleep(5)
        get_stream_writer()(cart(items=item))
        return "added"

    seen: list[Any] = []
    async with Call(
        desk(call("slow", {"item": "tea"}), "Sure.", "Added.", tools=[slow]), front_end="core", on_custom=seen.append
    ) as line:
        line.during_tool("slow").says("Hurry up.")
        await line.says("Tea.")
        await line.silence(10)
    assert [event.data["items"] for event in seen] == ["tea"]


class State(VoiceState[dict[str, Any]]):
    pass


def with_lookup(*script: Any, speculative: bool) -> Any:
    async def lookup(state: State) -> dict[str, Any]:
        writer = get_stream_writer()
        for step in range(3):
            writer({"key": "progress", "step": step})
        writer({"found": 1})
        return {}

    graph = create_voice_graph([Agent("desk", instructions="D")], llm=ScriptedModel(list(script)), state_schema=State)
    graph.add_node("lookup", lookup, metadata={"speculative": speculative})
    graph.add_edge("desk", "lookup")
    return graph


async def drain(turn: Turn) -> list[events.Event]:
    return [event async for event in turn]


@pytest.mark.parametrize("speculative", [True, False])
async def test_a_guess_that_is_dropped_shows_nothing(speculative: bool) -> None:
    seen: list[Any] = []
    conversation = Conversation(with_lookup("One.", "Two.", speculative=speculative), on_custom=seen.append)
    guess = conversation.turn("I wa")
    draining = asyncio.create_task(drain(guess))
    await asyncio.sleep(1)
    assert seen == []
    guess.discard()
    assert not [event for event in await draining if isinstance(event, events.Custom)]
    assert seen == []
    await conversation.run("I want tea.")
    assert [event.data for event in seen] == [{"key": "progress", "step": n} for n in range(3)] + [{"found": 1}]
    assert {(event.node, event.tool, event.agent) for event in seen} == {("lookup", None, "desk")}


async def test_what_a_guess_wrote_comes_when_it_is_committed_the_latest_of_each_key() -> None:
    seen: list[Any] = []
    conversation = Conversation(with_lookup("One.", speculative=True), on_custom=seen.append)
    guess = conversation.turn("Tea.")
    await asyncio.sleep(1)
    assert guess.finished
    assert seen == []
    guess.commit()
    assert [event.data for event in seen] == [{"key": "progress", "step": 2}, {"found": 1}]
    guess.close()


def with_a_greeting(on_enter: Any) -> Any:
    lead = Agent("lead", instructions="L", handoffs=[Handoff("desk", say="One moment please, I will pass you on.")])
    desk = Agent("desk", instructions="D", on_enter=on_enter)
    model = {"lead": ["Hello.", call("transfer_to_desk"), "Yes?"], "desk": ["Hi."]}
    return create_voice_graph([lead, desk], llm=ScriptedModel(model))


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("cut", [True, False])
async def test_behind_a_handoff_that_does_not_happen_nothing_is_shown(front_end: str, cut: bool) -> None:
    async def on_enter(ctx: RunContext) -> None:
        get_stream_writer()({"key": "desk", "open": True})
        await ctx.say("Desk.")

    seen: list[Any] = []
    async with Call(with_a_greeting(on_enter), front_end=front_end, on_custom=seen.append) as line:
        await line.says("Hello.")
        if cut:
            line.during_handoff().says("Wait.")
        await line.says("The desk, please.")
        happened = line.conversation.active_agent == "desk"
    assert happened is not cut
    assert [event.data for event in seen] == ([] if cut else [{"key": "desk", "open": True}])
    assert {(event.agent, event.node) for event in seen} <= {("desk", "desk")}


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("cut", [True, False])
async def test_nor_of_a_node_that_runs_ahead_of_the_handoff(front_end: str, cut: bool) -> None:
    async def note(state: State) -> dict[str, Any]:
        get_stream_writer()({"key": "desk", "said": state["messages"][-1].text})
        return {}

    graph = with_a_greeting(None)
    graph.add_node("note", note, metadata={"speculative": True, "silent": True})
    graph.add_edge("desk", "note")
    seen: list[Any] = []
    async with Call(graph, front_end=front_end, on_custom=seen.append) as line:
        await line.says("Hello.")
        if cut:
            line.during_handoff().says("Wait.")
        await line.says("The desk, please.")
        assert (line.conversation.active_agent == "desk") is not cut
    assert [event.data for event in seen] == ([] if cut else [{"key": "desk", "said": "Hi."}])


async def test_a_graph_inside_a_tool_writes_to_its_own_stream_as_in_langgraph() -> None:
    async def inner(state: State) -> dict[str, Any]:
        get_stream_writer()({"inside": True})
        return {}

    inside = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()

    @function_tool
    async def outer() -> str:
        """Run a graph."""
        async for data in inside.astream({"messages": []}, stream_mode="custom"):
            get_stream_writer()({"passed on": data})
        return "done"

    seen: list[Any] = []
    await Conversation(desk(call("outer"), "Done.", tools=[outer]), on_custom=seen.append).run("Go.")
    assert [(event.data, event.tool) for event in seen] == [({"passed on": {"inside": True}}, "outer")]


async def test_without_a_conversation_langgraph_streams_it_as_ever() -> None:
    graph = desk(call("add", {"item": "tea"}), "Done.").compile()
    streamed = [part async for part in graph.astream({"messages": ["Tea."]}, stream_mode="custom")]
    assert streamed == [cart(items="tea")]


async def test_a_number_that_the_caller_has_said_is_redacted_as_in_a_result() -> None:
    @function_tool
    async def take_card(number: SecretStr) -> str:
        """Take a card."""
        get_stream_writer()({"card": number.get_secret_value(), "digits": "5193 8765 2091 3657", "ok": True})
        return "Taken."

    seen: list[Any] = []
    script = [call("take_card", {"number": "5193876520913657"}), "Thank you."]
    conversation = Conversation(desk(*script, tools=[take_card]), on_custom=seen.append)
    await conversation.run("It is 5193 8765 2091 3657.")
    assert "5193" not in str(seen)
    assert "3657" not in str(seen)
    assert seen[0].data["ok"] is True


async def test_a_program_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: events.Custom) -> None:
        raise ConnectionError("no page")

    conversation = Conversation(desk(call("add", {"item": "tea"}), "Done."), on_custom=broken)
    await conversation.run("Tea.")
    assert conversation.messages[-1].text == "Done."
    assert "on_custom failed" in caplog.text


async def test_the_caller_is_not_kept_waiting_by_a_page_and_the_end_of_the_call_waits_for_it() -> None:
    shown: list[Any] = []

    async def show(event: events.Custom) -> None:
        await asyncio.sleep(3)
        shown.append(event.data["items"])

    script = [say("", *(call("add", {"item": item}) for item in ("tea", "milk", "cake"))), "Done."]
    conversation = Conversation(desk(*script), on_custom=show)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await conversation.run("Tea, milk and cake.")
    assert loop.time() - began < 3
    await conversation.aclose()
    assert shown == ["tea", "cake"], "the latest state wins"


KEYS = st.sampled_from(["a", "b", None])


@given(st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=20))
def test_the_last_of_each_key_is_delivered_and_all_without_one_in_order(written: list[tuple[str | None, int]]) -> None:
    async def scenario() -> None:
        got: list[Any] = []

        async def take(event: events.Custom) -> None:
            await asyncio.sleep(2)
            got.append(event.data)

        delivery = CustomDelivery(take)
        sent = [{"n": n, **({"key": key} if key else {})} for n, (key, _) in enumerate(written)]
        for data, (_, pause) in zip(sent, written, strict=True):
            delivery.deliver(events.Custom("a", data))
            await asyncio.sleep(pause)
        await asyncio.sleep(3 * len(sent) + 3)
        assert [d for d in got if "key" not in d] == [d for d in sent if "key" not in d]
        for key in ("a", "b"):
            ours, theirs = ([d for d in found if d.get("key") == key] for found in (got, sent))
            assert ours[-1:] == theirs[-1:]
            assert [d["n"] for d in ours] == sorted(d["n"] for d in ours)

    run(scenario())


def test_what_has_no_text_as_key_has_none() -> None:
    for data in ("cart", 3, None, ["key"], {"key": 3}, {"type": "cart"}):
        assert events.Custom("desk", data).key is None
