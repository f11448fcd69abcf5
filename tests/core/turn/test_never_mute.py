"""Whatever a graph does, a turn ends with words, unless silence is declared: in text."""

from typing import Annotated, Any

import pytest
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage, AnyMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from turn_support import one_agent, told
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, Handoff, StopResponse, create_voice_graph, events, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock

USUAL = "I'm sorry, something went wrong on my side. Could you say that again?"


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def foreign(node: Any, **options: Any) -> Conversation[Any]:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END)
    return Conversation(builder.compile(), speak=["node"], **options)


def in_place_of_the_agent(node: Any, metadata: Any = None, **options: Any) -> Conversation[Any]:
    builder = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel([]))
    builder.branches.pop("__start__")
    builder.add_node("node", node, metadata=metadata).add_edge(START, "node").add_edge("node", END)
    return Conversation(builder, **options)


def silent(state: Any) -> Any:
    return {}


def broken(state: Any) -> Any:
    raise RuntimeError("down")


def thinking(*args: Any) -> AIMessage:
    return AIMessage([{"type": "thinking", "thinking": "Hm.", "signature": "s"}], id="thought")


def words(seen: list[events.Event]) -> str:
    said = [e.text for e in seen if isinstance(e, events.Text | events.Say | events.Interrupt)]
    return "".join(said)


@pytest.mark.parametrize(
    "made",
    [
        lambda: one_agent(["", ""]),
        lambda: Conversation(
            create_voice_graph(
                [Agent("a", instructions="A.")], llm=FakeMessagesListChatModel(responses=[thinking(), thinking()])
            )
        ),
        lambda: foreign(lambda state: {"messages": [thinking()]}),
        lambda: foreign(lambda state: {"messages": [AIMessage("", id="empty")]}),
        lambda: foreign(broken),
        lambda: in_place_of_the_agent(broken),
        lambda: foreign(silent),
        lambda: in_place_of_the_agent(silent),
    ],
    ids=[
        "empty answer",
        "reasoning only",
        "reasoning only, foreign",
        "empty answer, foreign",
        "exception, foreign",
        "exception",
        "silent, foreign",
        "silent",
    ],
)
async def test_where_nothing_was_said_an_apology_is(made: Any) -> None:
    conversation = made()
    assert words(await conversation.run("hi")) == USUAL
    assert told(conversation)[-1] == f"ai: {USUAL}"
    check_invariants(conversation, heard=[USUAL], said=["hi"])


async def test_of_two_handoffs_in_a_batch_one_happens_and_the_new_agent_speaks() -> None:
    both = say(call("transfer_to_b"), call("transfer_to_c"))
    agents = [
        Agent("a", instructions="A.", handoffs=[Handoff("b"), Handoff("c")]),
        Agent("b", instructions="B."),
        Agent("c", instructions="C."),
    ]
    conversation: Conversation[Any] = Conversation(
        create_voice_graph(agents, llm=ScriptedModel({"a": [both], "b": ["B here."]}))
    )
    assert words(await conversation.run("hi")) == "B here."
    assert conversation.active_agent == "b"


@pytest.mark.parametrize("limit", [4, 9])
async def test_a_graph_in_circles_ends_with_an_apology(limit: int) -> None:
    builder: Any = StateGraph(State).add_node("node", silent).add_edge(START, "node").add_edge("node", "node")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["node"], config={"recursion_limit": limit})
    assert words(await conversation.run("hi")) == USUAL


@pytest.mark.parametrize("kind", ["foreign", "voice graph"])
async def test_a_question_is_asked_and_the_next_turn_answers_it(kind: str) -> None:
    def asks(state: Any) -> Any:
        return {"messages": [AIMessage(f"You said {interrupt('Which city?')}.", id="asked")]}

    conversation = foreign(asks) if kind == "foreign" else in_place_of_the_agent(asks, {"speak": True})
    assert words(await conversation.run("book")) == "Which city?"
    assert [i.value for i in conversation.interrupts] == ["Which city?"]
    assert words(await conversation.run("Oslo")) == "You said Oslo."
    assert conversation.interrupts == ()


# ---- declared silence


@pytest.mark.parametrize(
    "made",
    [
        lambda: foreign(silent, silent=["node"]),
        lambda: in_place_of_the_agent(silent, silent=["node"]),
        lambda: in_place_of_the_agent(silent, {"silent": True}),
    ],
    ids=["foreign", "by name", "by metadata"],
)
async def test_silence_is_allowed_where_it_is_declared(made: Any) -> None:
    conversation = made()
    seen = await conversation.run("hi")
    assert words(seen) == ""
    assert not [e for e in seen if isinstance(e, events.Failed)]


async def test_silence_is_declared_for_the_node_that_ends_the_turn_and_no_other() -> None:
    builder = StateGraph(State).add_node("first", silent).add_node("last", silent)
    builder.add_edge(START, "first").add_edge("first", "last")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["last"], silent=["first"])
    assert words(await conversation.run("hi")) == USUAL


def test_a_silent_node_that_is_none_is_refused() -> None:
    with pytest.raises(BuildError, match=r"silent=\['nobody'\]: the graph's nodes are node"):
        foreign(silent, silent=["nobody"])


# ---- the line


def sorry(userdata: Any) -> str:
    return f"Sorry, {userdata['name']}."


async def test_the_apology_is_a_function_of_the_userdata_for_a_failing_model_and_a_failing_node() -> None:
    builder = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["", ""]), apology=sorry)
    builder.add_node("after", broken)
    builder.edges.remove(("a", "__end__"))
    builder.add_edge("a", "after")
    conversation: Conversation[Any] = Conversation(builder, userdata={"name": "Ann"})
    # Both fail, and the caller hears of each where it happens.
    assert words(await conversation.run("hi")) == "Sorry, Ann.Sorry, Ann."


async def test_a_conversation_may_have_an_apology_of_its_own() -> None:
    graph = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["", ""]), apology="Pardon.")
    assert words(await Conversation(graph, apology="Oh.").run("hi")) == "Oh."


async def test_an_apology_that_fails_is_the_usual_one() -> None:
    graph = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["", ""]), apology=sorry)
    assert words(await Conversation(graph).run("hi")) == USUAL


async def test_an_empty_apology_is_silence() -> None:
    graph = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["", ""]), apology="")
    conversation: Conversation[Any] = Conversation(graph)
    assert words(await conversation.run("hi")) == ""
    assert told(conversation) == ["human: hi"]


# ---- tools that return nothing


@function_tool
async def note() -> None:
    """Note it."""


@function_tool
async def stop() -> None:
    """Stop."""
    raise StopResponse


@function_tool
async def look_up() -> str:
    """Look it up."""
    return "42"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (say("Thank you.", call("note")), "Thank you."),
        (say("Thank you.", call("note"), call("note")), "Thank you."),
        (call("note"), "And then?"),
        (say("  ", call("note")), "And then?"),
        (say("Thank you.", call("note"), call("look_up")), "Thank you.And then?"),
        (say(call("note"), call("stop")), ""),
    ],
    ids=["words", "words, two calls", "no words", "white space", "a result beside it", "a stop beside it"],
)
async def test_tools_that_return_none_end_the_turn_when_something_was_said(asked: Any, said: str) -> None:
    conversation = one_agent([asked, "And then?"], note, stop, look_up)
    assert words(await conversation.run("hi")).strip() == said
    check_invariants(conversation)
