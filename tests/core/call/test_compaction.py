"""A long stay with one agent: `Agent(context=...)` keeps what its model is shown short, and no turn waits for it."""

import asyncio
import itertools
import time
from typing import Any

import pytest
from history_support import assert_strict
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, function_tool, history
from graph_voice.errors import BuildError, HistoryError
from graph_voice.testing import ScriptedModel, call, fail, hang, say
from graph_voice.testing.invariants import check_invariants

LIMIT = 20
SUMMARY = "Prior conversation summary: "


@function_tool
async def look_up(n: int) -> str:
    """Look something up."""
    return f"Result {n}."


def answers(messages: list[Any]) -> Any:
    """Every third question asks two tools."""
    last = messages[-1]
    asked = last.text if isinstance(last, HumanMessage) else ""
    if asked.endswith("0"):
        numbers = itertools.count(len(messages))
        return say("One moment.", call("look_up", {"n": next(numbers)}), call("look_up", {"n": next(numbers)}))
    return f"Answer to {asked}" if asked else "Done."


def counting(first_token: float = 3.0) -> ScriptedModel:
    """A summariser that names each summary by its number, which takes its time."""
    numbers = itertools.count(1)
    return ScriptedModel(lambda messages: f"S{next(numbers)}.", first_token=first_token)


def long_stay(policy: history.Operation, voice: Any = None, **options: Any) -> tuple[Conversation[Any], ScriptedModel]:
    model = voice or ScriptedModel(answers)
    desk = Agent("desk", instructions="Answer.", tools=[look_up], context=policy)
    return Conversation(create_voice_graph([desk], llm=model), **options), model


def sizes(model: ScriptedModel) -> list[int]:
    return [len(p.messages) for p in model.prompts]


# ---- within its limits


@pytest.mark.virtual_clock
async def test_five_hundred_turns_are_shown_in_bounds_and_no_turn_waits_for_a_summary() -> None:
    summaries = counting()
    policy = history.when(max_items=LIMIT, then=history.summarize(model=summaries, keep_last_turns=3))
    conversation, model = long_stay(policy, ScriptedModel(answers, first_token=0.4))
    plain, _ = long_stay(history.full(), ScriptedModel(answers, first_token=0.4))
    for number in range(500):
        waited = []
        for one in (conversation, plain):
            if one is plain and number > 30:
                continue  # what a turn takes without any upkeep is known by now
            began = time.time()
            await one.run(f"Question {number}")
            waited.append(round(time.time() - began, 2))
        expected = 0.8 if number % 10 == 0 else 0.4
        assert waited == [expected] * len(waited)
        assert_strict(conversation.chat_ctx)
        await asyncio.sleep(1)
    # Three seconds for a summary are three turns, in which the long context goes on growing.
    assert max(sizes(model)) <= 1 + LIMIT + 4 * 5
    assert len(conversation.messages) == 500 * 2 + 50 * 3, "everything that was said and done is remembered"
    assert 25 < len(summaries.prompts) < 100
    assert conversation.chat_ctx[0].text.startswith(SUMMARY), "the newest replaces the older"
    assert sum(m.text.startswith(SUMMARY) for m in conversation.chat_ctx) == 1
    assert len(summaries.prompts[-1].messages[-1].text) < 4_000, "each folds in the one before"
    check_invariants(conversation)
    for one in (conversation, plain):
        await one.aclose()


@pytest.mark.virtual_clock
async def test_a_cut_without_a_model_keeps_it_short_too() -> None:
    conversation, model = long_stay(history.when(max_items=LIMIT, then=history.truncate(max_items=6)))
    for number in range(100):
        await conversation.run(f"Question {number}")
        assert_strict(conversation.chat_ctx)
    assert LIMIT <= max(sizes(model)) <= LIMIT + 7
    grown = [b for a, b in itertools.pairwise(sizes(model)) if b > a]
    assert len(grown) > 60, "it grows to the limit before it is cut again"
    assert len(conversation.messages) == 100 * 2 + 10 * 3
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_limit_in_tokens_counts_words_not_messages() -> None:
    policy = history.when(max_tokens=300, then=history.trim_tokens(100))
    conversation, model = long_stay(policy, ScriptedModel([("", "word " * 40)]))
    for number in range(30):
        await conversation.run(f"Question {number}")
    assert 5 < max(sizes(model)) < 16
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_the_active_agents_model_is_asked_when_none_is_named_and_nobody_hears_it() -> None:
    def answer(messages: list[Any]) -> str:
        return "S." if messages[0].text.startswith("Compress") else "I see."

    conversation, _ = long_stay(history.when(max_items=4, then=history.summarize()), ScriptedModel(answer))
    heard = []
    for number in range(4):
        heard += [e for e in await conversation.run(f"Question {number}") if hasattr(e, "text")]
        await asyncio.sleep(1)
    assert conversation.chat_ctx[0].text == SUMMARY + "S."
    assert "".join(e.text for e in heard) == "I see." * 4
    await conversation.aclose()


# ---- what may go wrong


@pytest.mark.virtual_clock
@pytest.mark.parametrize("trouble", [fail(ValueError("no quota")), say("  ")], ids=["raises", "empty"])
async def test_a_failing_summariser_leaves_the_context_as_it_is_and_the_next_turn_tries_again(trouble: Any) -> None:
    summaries = ScriptedModel([trouble, trouble, "At last."])
    policy = history.when(max_items=4, then=history.summarize(model=summaries, keep_last_turns=1))
    conversation, model = long_stay(policy)
    for number in (1, 2, 3, 4, 5):
        await conversation.run(f"Question {number}")
        await asyncio.sleep(1)
        if number < 5:
            assert len(conversation.chat_ctx) == 2 * number
    assert conversation.chat_ctx[0].text == SUMMARY + "At last."
    assert not model.errors
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_behind_a_summariser_that_never_works_a_ceiling_still_holds() -> None:
    dead = ScriptedModel(lambda messages: fail(ValueError("gone")))
    policy = history.when(
        max_items=10, then=history.summarize(model=dead, keep_last_turns=1) | history.truncate(max_items=16)
    )
    conversation, model = long_stay(policy)
    for number in range(60):
        await conversation.run(f"Question {number}")
        await asyncio.sleep(1)
    assert max(sizes(model)) <= 16 + 1 + 5 + 1
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_summariser_that_hangs_is_given_up_after_a_minute_and_costs_no_turn_anything() -> None:
    summaries = ScriptedModel([hang(), "Later."])
    policy = history.when(max_items=4, then=history.summarize(model=summaries, keep_last_turns=1))
    conversation, _ = long_stay(policy)
    for number in range(1, 5):
        began = time.time()
        await conversation.run(f"Question {number}")
        assert round(time.time() - began, 2) == 0
    assert len(summaries.prompts) == 1, "one at a time"
    await asyncio.sleep(61)
    await conversation.run("Question 5")
    await asyncio.sleep(1)
    assert conversation.chat_ctx[0].text == SUMMARY + "Later."
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_the_end_of_the_call_ends_it() -> None:
    summaries = ScriptedModel([hang()])
    conversation, _ = long_stay(history.when(max_items=2, then=history.summarize(model=summaries)))
    for number in (1, 2):
        await conversation.run(f"Question {number}")
    await asyncio.sleep(1)
    await conversation.aclose()
    assert [p.outcome for p in summaries.prompts] == ["cancelled"]


@pytest.mark.virtual_clock
async def test_a_speculation_that_is_discarded_leaves_no_trace_and_one_that_is_committed_is_answered() -> None:
    """The summary arrives while a speculative turn is live: its fork has the long context, the call the short one."""
    policy = history.when(max_items=4, then=history.summarize(model=counting(), keep_last_turns=1))
    conversation, model = long_stay(policy, ScriptedModel(answers, first_token=5.0))
    for number in (1, 2, 3):
        await conversation.run(f"Question {number}")
    dropped, kept = conversation.turn("Question"), conversation.turn("Question 4")
    await asyncio.sleep(4)
    assert conversation.chat_ctx[0].text == SUMMARY + "S1."
    dropped.discard()
    kept.commit()
    async for event in kept:
        if hasattr(event, "message_id"):
            kept.heard(event.message_id, "Answer to Question 4")
    kept.close()
    assert [m.text for m in conversation.chat_ctx[-2:]] == ["Question 4", "Answer to Question 4"]
    assert conversation.chat_ctx[0].text == SUMMARY + "S1.", "the long context of the fork does not come back"
    await conversation.run("Question 5")
    assert model.prompts[-1].messages[1].text.count(SUMMARY) == 1
    check_invariants(conversation, said=[f"Question {n}" for n in range(1, 6)])
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_call_that_still_runs_is_shown_with_its_result_once_it_comes() -> None:
    """The turn whose tool is slow has been interrupted; the next one settles before the result is there."""
    go = asyncio.Event()

    @function_tool
    async def slow() -> str:
        """Take your time."""
        await go.wait()
        return "At last."

    model = ScriptedModel([("slow", [say("Wait.", call("slow")), "Done."]), ("", ["I see."])])
    desk = Agent(
        "desk",
        instructions="Answer.",
        tools=[slow],
        context=history.when(max_items=3, then=history.truncate(max_items=3)),
    )
    conversation = Conversation(create_voice_graph([desk], llm=model))
    turn = conversation.turn("slow please")
    turn.commit()
    async for event in turn:
        if type(event).__name__ == "ToolCalls":
            turn.allow(event.calls[0].id)
            break
    await asyncio.sleep(1)
    turn.interrupt()
    turn.close()
    for number in range(3):
        await conversation.run(f"Question {number}!")
        await asyncio.sleep(1)
    go.set()
    await asyncio.sleep(1)
    assert [m.text for m in conversation.messages if isinstance(m, ToolMessage)] == ["At last."]
    for number in range(3):
        await conversation.run(f"More {number}!")
        await asyncio.sleep(1)
        assert_strict(conversation.chat_ctx)
    check_invariants(conversation)
    assert len(conversation.chat_ctx) <= 3
    await conversation.aclose()


# ---- beside everything else that shapes a context


def two_agents(summaries: ScriptedModel, script: Any, **handoff: Any) -> tuple[Conversation[Any], ScriptedModel]:
    model = ScriptedModel(script)
    policy = history.when(max_items=4, then=history.summarize(model=summaries, keep_last_turns=1))
    return Conversation(
        create_voice_graph(
            [
                Agent("a", instructions="A.", handoffs=[Handoff("b", **handoff)], context=policy),
                Agent("b", instructions="B.", handoffs=[Handoff("a", history=history.fresh() | history.resume())]),
            ],
            llm=model,
        )
    ), model


SCRIPT: dict[str, Any] = {
    "a": [("transfer", [call("transfer_to_b"), "From a."]), ("", ["From a."] * 3)],
    "b": [("back", [call("transfer_to_a")]), ("", ["From b."] * 3)],
}


@pytest.mark.virtual_clock
async def test_a_summary_that_comes_after_the_floor_has_changed_is_dropped() -> None:
    summaries = counting(5.0)
    conversation, _ = two_agents(summaries, SCRIPT)
    for text in ("one", "two", "three", "transfer"):
        await conversation.run(text)
    assert conversation.active_agent == "b"
    shown = conversation.chat_ctx
    await asyncio.sleep(10)
    assert conversation.chat_ctx == shown
    assert [p.outcome for p in summaries.prompts] == ["cancelled"]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_an_agent_that_comes_back_takes_up_its_short_context_once_and_in_order() -> None:
    conversation, model = two_agents(counting(1.0), SCRIPT)
    for text in ("one", "two", "three"):
        await conversation.run(text)
        await asyncio.sleep(2)
    await conversation.run("transfer")
    await conversation.run("back")
    assert conversation.active_agent == "a"
    texts = [m.text for m in conversation.chat_ctx]
    assert texts[0].startswith(SUMMARY)
    assert texts[1:] == ["three", "From a.", "transfer", "", "Transferring to b.", "From a."]
    assert [m.text for m in model.prompts[-1].messages].count("three") == 1
    check_invariants(conversation)
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_a_handoff_carries_the_short_context() -> None:
    conversation, _ = two_agents(counting(1.0), SCRIPT, history=history.full())
    for text in ("one", "two", "three"):
        await conversation.run(text)
        await asyncio.sleep(2)
    await conversation.run("transfer")
    texts = [m.text for m in conversation.chat_ctx]
    assert texts == [SUMMARY + "S1.", "three", "From a.", "transfer", "", "Transferring to b.", "From b."]
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_an_operation_that_a_node_returned_meanwhile_is_not_lost() -> None:
    conversation, _ = long_stay(history.when(max_items=4, then=history.summarize(model=counting(2.0))))
    for number in (1, 2, 3):
        await conversation.run(f"Question {number}")
    conversation.update_chat_ctx(history.truncate(max_items=2))
    await asyncio.sleep(3)
    await conversation.run("Question 4")
    assert [m.text for m in conversation.chat_ctx] == ["Answer to Question 3", "Question 4", "Answer to Question 4"][
        -len(conversation.chat_ctx) :
    ]
    assert not any(m.text.startswith(SUMMARY) for m in conversation.chat_ctx), "it was made of another context"
    await conversation.aclose()


@pytest.mark.virtual_clock
async def test_an_operation_that_waits_when_a_context_is_cut_is_done_afterwards() -> None:
    conversation, model = long_stay(history.when(max_items=4, then=history.truncate(max_items=3)))
    for number in (1, 2):
        await conversation.run(f"Question {number}")
    conversation.update_chat_ctx(history.exclude_empty() | history.last_turns(1))
    turn = conversation.turn("dropped")
    turn.discard()
    conversation.call.compaction.begin()
    await asyncio.sleep(1)
    await conversation.run("Question 3")
    assert [m.text for m in model.prompts[-1].messages[1:]] == ["Question 3"]
    await conversation.aclose()


# ---- without a conversation (Studio, ainvoke)


@pytest.mark.parametrize("kind", ["truncate", "summarize"])
async def test_with_ainvoke_it_is_applied_when_a_turn_begins(kind: str) -> None:
    then = (
        history.truncate(max_items=2)
        if kind == "truncate"
        else history.summarize(model=ScriptedModel([("", "S.")]), keep_last_turns=1)
    )
    model = ScriptedModel(answers)
    desk = Agent("desk", instructions="Answer.", tools=[look_up], context=history.when(max_items=8, then=then))
    graph = create_voice_graph([desk], llm=model).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    for number in range(30):
        state = await graph.ainvoke({"messages": [f"Question {number}"]}, config)
        assert_strict(history.view(state))
    assert max(sizes(model)) <= 1 + 8 + 5
    assert len(state["messages"]) == 30 * 2 + 3 * 3
    assert all(isinstance(m, HumanMessage | AIMessage | ToolMessage) for m in state["messages"])


# ---- the operation


TALK: list[AnyMessage] = [HumanMessage(f"word {n}", id=str(n)) for n in range(6)]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (history.when(max_items=6, then=history.fresh()), 6),
        (history.when(max_items=5, then=history.truncate(max_items=2)), 2),
        (history.when(max_tokens=10_000, then=history.fresh()), 6),
        (history.when(max_tokens=5, then=history.fresh()), 0),
        (history.when(max_tokens=5, counter="builtins:len", then=history.fresh()), 0),
        (history.when(max_tokens=6, counter=len, then=history.fresh()), 6),
        (history.when(max_items=100, max_tokens=1, then=history.fresh()), 0),
        (history.truncate(max_items=4) | history.when(max_items=4, then=history.fresh()), 4),
        (history.when(max_items=1, then=history.when(max_items=1, then=history.last_turns(1))), 1),
    ],
    ids=str,
)
async def test_it_is_done_over_the_limit_only_also_in_a_reducer_and_after_a_checkpoint(
    policy: history.Operation, kept: int
) -> None:
    assert len(await history.apply(policy, TALK)) == kept
    assert policy.is_pure
    assert len(history.reducer()(TALK, policy)) == kept
    assert history.from_dict(policy.to_dict()) == policy


def test_a_mistake_says_what_to_write() -> None:
    with pytest.raises(HistoryError, match="needs a limit"):
        history.when(then=history.fresh())
    with pytest.raises(HistoryError, match="at least 1"):
        history.when(max_items=0, then=history.fresh())
    with pytest.raises(HistoryError, match="takes a history operation"):
        history.when(max_items=3, then="truncate")  # type: ignore[arg-type]
    with pytest.raises(BuildError, match=r"history\.when\(max_items=60"):
        Agent("a", instructions="A.", context=60)  # type: ignore[arg-type]
    with pytest.raises(HistoryError, match="summarize needs more than the messages"):
        history.reducer(history.when(max_items=3, then=history.summarize()))
