"""`ctx.update`: what is told of a running tool, to whom, and in which order. More on both front ends: tests/livekit."""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from pydantic import SecretStr
from turn_support import told, until

from graph_voice import (
    Agent,
    Conversation,
    RunContext,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.agents.run_context import MAX_UPDATE
from graph_voice.errors import TurnError
from graph_voice.messages.pairs import PROGRESS
from graph_voice.testing import ScriptedModel, call, check_prompt, say
from graph_voice.testing.clock import run as run_virtual
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock

Step = float | str | tuple[str]


def search(*steps: Step, name: str = "search", result: Any = "found it", **options: Any) -> Any:
    """A tool that goes through these steps: a number of seconds, an update, a silent one in a tuple."""

    @function_tool(name=name, **options)
    async def searching(ctx: RunContext[Any]) -> Any:
        """Search."""
        for step in steps:
            if isinstance(step, str):
                await ctx.update(step)
            elif isinstance(step, tuple):
                await ctx.update(step[0], silent=True)
            else:
                await asyncio.sleep(step)
        return result

    return searching


def host(script: Any, *tools: Any, **options: Any) -> tuple[Conversation[Any], ScriptedModel]:
    model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
    agent = Agent("host", instructions="Help.", tools=list(tools))
    return Conversation(create_voice_graph([agent], llm=model, **options)), model


def results(model: ScriptedModel, number: int = -1) -> list[str]:
    """The results of tool calls in one prompt."""
    return [m.text for m in model.prompts[number].messages if isinstance(m, ToolMessage)]


async def test_it_is_a_line_of_the_tool() -> None:
    script = [say("Let me see.", call("search")), "I am asking the airline.", "I found it."]
    conversation, model = host(script, search("asking the airline", 5))
    seen = await conversation.run("search")
    assert told(conversation)[1] == "ai: Let me see. I am asking the airline. +call_1"
    assert model.prompts[1].messages[-1].additional_kwargs[PROGRESS] == "asking the airline"
    assert model.prompts[1].messages[-2].text == "Let me see."
    check_prompt(model.prompts[1].messages)
    check_invariants(conversation, heard=["Let me see.", "I am asking the airline.", "I found it."])
    result = next(i for i, e in enumerate(seen) if isinstance(e, events.ToolResult))
    words = [i for i, e in enumerate(seen) if isinstance(e, events.Text) and e.message_id.startswith("update-")]
    assert words
    assert max(words) < result


async def test_it_returns_at_once() -> None:
    at: list[float] = []

    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        at.append(asyncio.get_running_loop().time())
        await ctx.update("one")
        await ctx.update("two", silent=True)
        at.append(asyncio.get_running_loop().time())
        return "found it"

    conversation, _ = host(ScriptedModel([say(call("search")), "I found it."], first_token=2.0), search)
    await conversation.run("search")
    assert at[0] == at[1]


@pytest.mark.parametrize("message", [None, 3, {"done": 3}, b"half"])
async def test_what_is_no_text_is_refused_with_words(message: Any) -> None:
    refused: list[str] = []

    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        try:
            await ctx.update(message)
        except TurnError as error:
            refused.append(str(error))
        return "found it"

    conversation, model = host([say(call("search")), "I found it."], search)
    await conversation.run("search")
    assert type(message).__name__ in refused[0]
    assert len(model.prompts) == 2


async def test_a_long_text_is_cut_and_a_blank_one_tells_nothing() -> None:
    conversation, model = host([say(call("search")), "At it.", "I found it."], search(" ", "x" * 5000, 2))
    seen = await conversation.run("search")
    (update,) = (e for e in seen if isinstance(e, events.ToolUpdate))
    assert update.message == "x" * MAX_UPDATE + "..."
    assert update.message in results(model, 1)[0]


async def test_half_a_character_can_be_sent() -> None:
    conversation, _ = host([say(call("search")), "At it.", "I found it."], search("caf\ud83d", 2))
    seen = await conversation.run("search")
    assert [e.message.encode() for e in seen if isinstance(e, events.ToolUpdate)] == [b"caf?"]


@pytest.mark.parametrize("method", ["on_enter", "on_exit"])
async def test_a_hook_is_no_tool_call(method: str) -> None:
    refused: list[str] = []

    async def hook(ctx: RunContext[Any]) -> None:
        try:
            await ctx.update("at it")
        except TurnError as error:
            refused.append(str(error))

    model = ScriptedModel(["Hello."])
    agent = Agent("host", instructions="Help.", **{method: hook})  # type: ignore[arg-type]
    conversation: Conversation[Any] = Conversation(create_voice_graph([agent], llm=model))
    if method == "on_enter":
        await conversation.run(turn=conversation.enter())
    await conversation.run("hi")
    await conversation.aclose()
    assert "await ctx.say(...)" in refused[0]


async def test_outside_a_turn_nobody_speaks() -> None:
    tool = search("at it", ("page 2",), 1)
    model = ScriptedModel([say(call("search")), "I found it."])
    graph = create_voice_graph([Agent("host", instructions="Help.", tools=[tool])], llm=model).compile()
    state = await graph.ainvoke({"messages": [("user", "search")]})
    assert [m.text for m in state["messages"]] == ["search", "", "found it", "I found it."]


async def test_a_context_made_by_hand_lists_them() -> None:
    ctx: RunContext[Any] = RunContext("host", None, {}, [], runtime=None)  # type: ignore[arg-type]
    await ctx.update("one")
    await ctx.update("two", silent=True)
    assert ctx.updates == ["one", "two"]


async def test_what_runs_on_behind_the_tool_tells_nobody() -> None:
    later: list[asyncio.Task[None]] = []

    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""

        async def go_on() -> None:
            await asyncio.sleep(1)
            await ctx.update("too late")

        later.append(asyncio.create_task(go_on()))
        return "started"

    conversation, model = host([say(call("search")), "It runs."], search)
    seen = await conversation.run("search")
    await later[0]
    assert len(model.prompts) == 2
    assert not [e for e in seen if isinstance(e, events.ToolUpdate)]


async def test_secrets_are_masked_in_it() -> None:
    number = "4111111111111111"

    @function_tool
    async def pay(ctx: RunContext[Any], card: SecretStr) -> str:
        """Pay."""
        await ctx.update(f"charging {card.get_secret_value()}")
        await asyncio.sleep(5)
        await ctx.update(f"again {card.get_secret_value()}", silent=True)
        await asyncio.sleep(5)
        return "paid"

    model = ScriptedModel([say(call("pay", {"card": number})), f"I charge {number}.", "Paid."])
    conversation, _ = host(model, pay)
    seen: list[str] = []
    turn = conversation.turn(f"pay with {number}")
    turn.commit()
    async for event in turn:
        match event:
            case events.ToolCalls(calls=calls):
                turn.allow(calls[0].id)
            case events.ToolUpdate():
                seen += [event.message, *(m.text for m in conversation.messages)]
            case events.Text(message_id=message_id):
                found = turn.record.spoken(message_id)
                assert found is not None
                turn.heard(message_id, found[1].produced)
    turn.close()
    assert not [text for text in seen if number in text]
    for prompt in model.prompts[1:]:
        assert number not in str([m.model_dump() for m in prompt.messages])
    assert number not in str([m.model_dump() for m in conversation.messages])
    assert [e for e in seen if e.startswith("charging ")]


async def test_an_edited_context_is_what_the_model_is_shown() -> None:
    """As in the turn's other prompts: LiveKit's `generate_reply(chat_ctx=...)`, and a handoff's history."""
    script = [say("Let me see.", call("search")), "I am at it.", "I found it."]
    model = ScriptedModel(script)
    agent = Agent("host", instructions="Help.", tools=[search("at it", 5)])
    conversation: Conversation[Any] = Conversation(create_voice_graph([agent], llm=model))
    conversation.add(HumanMessage("Long ago."))
    conversation.update_chat_ctx(history.truncate(max_items=1))
    await conversation.run("search")
    shown = [[m.text for m in prompt.messages if isinstance(m, HumanMessage)] for prompt in model.prompts]
    assert shown[0] == shown[1] == shown[2]


async def test_words_about_an_update_tell_no_late_result() -> None:
    """The result of an earlier tool is announced, though the model has seen it when it spoke about an update."""
    tools = [
        search(8, name="first", result="the first"),
        search("at it", 30, name="second", late="merge"),
    ]
    model = ScriptedModel(
        [("one", [say(call("first"))]), ("two", [say(call("second")), "I am at it."]), ("has ended", "The first came.")]
    )
    conversation, _ = host(model, *tools)
    for words in ("one", "two"):
        turn = conversation.turn(words)
        turn.commit()
        turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
        await asyncio.sleep(1)
        for line in (line for step in turn.record.steps() for line in step.lines):
            turn.heard(line.id, line.produced)
        turn.interrupt()
        turn.close()
        await asyncio.sleep(40)
    assert "the first" in results(model, 2)
    assert told(conversation)[-2] == "ai: I am at it. +call_2"
    assert conversation.announce() is not None


def script_of(messages: list[BaseMessage]) -> Any:
    """A model that calls two tools, speaks about updates in their own words, and then of the results."""
    texts = [m.text for m in messages if isinstance(m, ToolMessage)]
    if updates := [t.split("message: ")[1].split("\n")[0] for t in texts if "message: " in t]:
        return f"[{' '.join(updates)}]"
    return "Done." if texts else say(call("one"), call("two"))


STEPS = st.lists(st.one_of(st.sampled_from([0.1, 1.0, 3.0]), st.just("spoken"), st.just("silent")), max_size=6)


@settings(deadline=None, max_examples=60)
@given(STEPS, STEPS, st.sampled_from([0.0, 0.5, 2.0]), st.one_of(st.none(), st.floats(0.1, 12.0)), st.booleans())
def test_whenever_it_comes_each_is_heard_once_at_most_and_nothing_dangles(
    one: list[Any], two: list[Any], first_token: float, barge_in: float | None, nothing: bool
) -> None:
    """The caller hears a subsequence of each tool's updates, in order, and never one that was silent."""
    count = itertools.count()

    def steps_of(name: str, steps: list[Any]) -> list[Step]:
        told = {"spoken": lambda: f"{name}{next(count)}", "silent": lambda: (f"-{name}{next(count)}",)}
        return [told[step]() if isinstance(step, str) else step for step in steps]

    steps = {"one": steps_of("one", one), "two": steps_of("two", two)}

    async def go() -> None:
        tools = [search(*steps[name], name=name, result=None if nothing else name) for name in steps]
        model = ScriptedModel(script_of, first_token=first_token)
        conversation, _ = host(model, *tools)
        turn = conversation.turn("go")
        turn.commit()
        if barge_in is not None:
            asyncio.get_running_loop().call_later(barge_in, turn.interrupt)
        async for event in turn:
            match event:
                case events.ToolCalls(calls=calls):
                    for asked in calls:
                        turn.allow(asked.id)
                case events.Text(message_id=message_id) if not turn.interrupted:
                    found = turn.record.spoken(message_id)
                    assert found is not None
                    turn.heard(message_id, found[1].produced)
            check_invariants(conversation)
        turn.close()
        check_invariants(conversation)
        heard = " ".join(m.text for m in conversation.messages if m.type == "ai")
        for name in steps:
            places = [heard.find(step) for step in steps[name] if isinstance(step, str) and step in heard]
            assert places == sorted(places)
            assert all(heard.count(step) <= 1 for step in steps[name] if isinstance(step, str))
            assert f"-{name}" not in heard
        for prompt in model.prompts:
            check_prompt(prompt.messages)
        assert not model.errors

    run_virtual(go())


@pytest.mark.parametrize("ended", [False, True])
async def test_a_call_that_is_stopped_leaves_nothing_that_waits(ended: bool) -> None:
    """The process ends while the words about an update are played, before or behind the end of the tool."""
    tool = search("at it", 1.0 if ended else 50.0)
    last = say("I found it.", first_token=50.0)
    conversation, _ = host([say(call("search")), "I am at it.", last], tool)
    turn = conversation.turn("search")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    await asyncio.sleep(5)
    await conversation.call.abandon()
    await asyncio.sleep(1)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "graph_voice.update"]
