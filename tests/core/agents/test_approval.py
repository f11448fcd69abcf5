"""Approval: which words are a plain yes or no, which questions are refused, and a graph without a call."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.agents.yes_no import plain_answer, read_answer
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call

YES = ["yes", "Yes, please.", "yeah sure", "OK", "Okay, go ahead!", "that's right", "of course", "do it, thanks"]
NO = ["no", "No thanks.", "nope", "no, please don't", "Never!", "No, stop that.", "no no no"]
NEITHER = [
    "",
    "yes, but tomorrow",
    "no, make it two",
    "no problem",
    "why not",
    "yes no",
    "no, do it",
    "no, that's right",
    "is it expensive?",
    "I guess so",
    "not bad",
    "no doubt, go ahead",
    "hm",
]
PLAIN = {"yes": YES, "no": NO, None: NEITHER}


@pytest.mark.parametrize(("words", "answer"), [(w, a) for a, found in PLAIN.items() for w in found])
def test_plain_words(words: str, answer: str | None) -> None:
    assert plain_answer(words) == answer


@given(
    st.sampled_from([*YES, *NO]),
    st.sampled_from(["tomorrow", "two", "but", "unless", "Bob", "nine", "first"]),
    st.randoms(),
)
def test_a_word_that_says_something_else_makes_no_plain_answer(words: str, other: str, rng: random.Random) -> None:
    said = words.split()
    said.insert(rng.randint(0, len(said)), other)
    assert plain_answer(" ".join(said)) is None


@given(st.sampled_from(YES), st.sampled_from(NO))
def test_both_at_once_are_no_yes(yes: str, no: str) -> None:
    assert plain_answer(f"{yes} {no}") != "yes"
    assert plain_answer(f"{no} {yes}") != "yes"


@given(st.text(max_size=12))
def test_only_one_word_of_the_model_counts(written: str) -> None:
    told = read_answer(written)
    assert (told == "yes") == (written.casefold().strip(" \n\t.!\"'*") == "yes") or not written.isascii()
    assert read_answer(f"{written} yes and no") == "other"


def tool(approve: Any) -> Any:
    @function_tool(approve=approve)
    async def pay(ctx: RunContext[Any], euros: int, to: str = "Bob") -> str:
        """Pay."""
        return f"paid {euros} to {to}"

    return pay


@pytest.mark.parametrize(
    ("approve", "words"),
    [
        ("Pay {amount}?", 'approve asks about "amount", which is no parameter of it (ctx, euros, to)'),
        ("Pay {}?", 'approve asks about ""'),
        ("Pay {euros?", "expected '}'"),
        (" ", 'write the question, approve="Shall I?"'),
        (3, "write the question, or a function"),
        (lambda amount: "Pay?", 'approve asks about "amount"'),
    ],
)
def test_a_question_that_can_not_be_asked_is_refused(approve: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        Agent("a", instructions="You are a.", tools=[tool(approve)])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "result"), [("yes", "paid 3 to Bob"), (True, "paid 3 to Bob"), (False, "Not done.")]
)
async def test_a_graph_alone_asks_as_well(answer: Any, result: str) -> None:
    model = ScriptedModel([call("pay", {"euros": 3}), "Done."])
    approve = tool(lambda ctx, euros, to: f"{ctx.agent}: pay {euros} to {to}?")
    agent = Agent("a", instructions="You are a.", tools=[approve])
    graph = create_voice_graph([agent], llm=model).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    asked = await graph.ainvoke({"messages": ["Pay."]}, config)
    assert [i.value for i in asked["__interrupt__"]] == ["a: pay 3 to Bob?"]
    state = await graph.ainvoke(Command(resume=answer), config)
    assert state["messages"][-2].text.startswith(result)
