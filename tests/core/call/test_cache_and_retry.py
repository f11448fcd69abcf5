"""`CachePolicy` and `RetryPolicy` of custom nodes: a hit speaks as the node would, a retry repeats nothing."""

import operator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import CachePolicy, RetryPolicy, interrupt

from graph_voice import Agent, create_voice_graph
from graph_voice.graph.say import say as say_line
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
FRONT_ENDS = ["core", "livekit"]
QUESTIONS = ("bill", "order", "bill", "order")


class Seen(MessagesState):
    topic: str
    seen: Annotated[list[str], operator.add]


def last_words(state: Any) -> str:
    return str(next(m.text for m in reversed(state["messages"]) if m.type == "human"))


CACHED = CachePolicy(key_func=last_words)


def classified(**options: Any) -> Any:
    async def classify(state: Seen) -> dict[str, Any]:
        return {"topic": last_words(state), "seen": [last_words(state)]}

    async def talk(state: Seen) -> dict[str, Any]:
        return {"messages": [AIMessage(f"About the {state['topic']}.")]}

    builder = StateGraph(Seen)
    builder.add_node("classify", classify, cache_policy=CACHED)
    builder.add_node("talk", talk)
    builder.add_edge(START, "classify")
    builder.add_edge("classify", "talk")
    return builder.compile(cache=InMemoryCache(), **options)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_hit_writes_what_the_node_would(front_end: str) -> None:
    async with Call(classified(), front_end=front_end, speak=["talk"]) as phone:
        heard = [(await phone.says(text)).heard for text in QUESTIONS]
        spoken = (heard, phone.state["topic"], phone.state["seen"])
    alone = classified(checkpointer=InMemorySaver())
    answers = []
    for text in QUESTIONS:
        state = await alone.ainvoke({"messages": [("user", text)]}, {"configurable": {"thread_id": "1"}})
        answers.append(state["messages"][-1].text)
    assert spoken == (answers, state["topic"], state["seen"])


async def test_a_silent_node_of_a_voice_graph_is_cached_too() -> None:
    class State(Seen, create_voice_graph([Agent("a", instructions="A")]).state_schema):  # type: ignore[misc]
        pass

    agent = Agent("a", instructions="A", llm=ScriptedModel(lambda _: "Yes."))
    builder = create_voice_graph([agent], state_schema=State)

    async def classify(state: Any) -> dict[str, Any]:
        return {"seen": [last_words(state)]}

    builder.add_node("classify", classify, cache_policy=CACHED)
    builder.add_edge("a", "classify")
    async with Call(builder.compile(cache=InMemoryCache())) as phone:
        for text in QUESTIONS:
            await phone.says(text)
        assert phone.state["seen"] == list(QUESTIONS)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_hit_of_a_node_that_speaks_is_spoken_and_remembered_each_time(front_end: str) -> None:
    model = ScriptedModel(lambda ms: f"About the {ms[-1].text}.")

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"][-1:])]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk, cache_policy=CACHED)
    builder.add_edge(START, "talk")
    async with Call(builder.compile(cache=InMemoryCache()), front_end=front_end, speak=["talk"]) as phone:
        heard = [(await phone.says(text)).heard for text in QUESTIONS]
        assert heard == [f"About the {text}." for text in QUESTIONS]
        assert [m.text for m in phone.messages if m.type == "ai"] == heard
    assert len(model.prompts) == 2


def expert(model: ScriptedModel) -> Any:
    @tool
    async def look(what: str) -> str:
        """Look."""
        return f"{what} it is"

    return create_agent(model, [look])


def brain(messages: Any) -> Any:
    return "There." if messages[-1].type == "tool" else say("Let me look.", call("look", {"what": messages[-1].text}))


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_hit_with_tool_calls_is_a_new_pair_each_time(front_end: str) -> None:
    model = ScriptedModel(brain)
    inner = expert(model)

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": (await inner.ainvoke({"messages": state["messages"][-1:]}))["messages"][1:]}

    builder = StateGraph(MessagesState)
    builder.add_node("ask", ask, cache_policy=CACHED)
    builder.add_edge(START, "ask")
    async with Call(builder.compile(cache=InMemoryCache()), front_end=front_end, speak=["ask"]) as phone:
        heard = [(await phone.says(text)).heard for text in QUESTIONS]
        assert heard == ["Let me look. There."] * 4
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)] == [f"{q} it is" for q in QUESTIONS]


async def test_a_hit_inside_a_subgraph_is_spoken() -> None:
    model = ScriptedModel(lambda ms: f"About the {ms[-1].text}.")

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"][-1:])]}

    inner = StateGraph(MessagesState)
    inner.add_node("talk", talk, cache_policy=CACHED)
    inner.add_edge(START, "talk")
    builder = StateGraph(MessagesState)
    builder.add_node("expert", inner.compile())
    builder.add_edge(START, "expert")
    async with Call(builder.compile(cache=InMemoryCache()), speak=["expert"]) as phone:
        heard = [(await phone.says(text)).heard for text in QUESTIONS]
    assert heard == [f"About the {text}." for text in QUESTIONS]


async def test_what_a_run_had_finished_before_it_asked_is_not_a_hit() -> None:
    async def note(state: Seen) -> dict[str, Any]:
        return {"seen": [last_words(state)]}

    async def ask(state: Seen) -> dict[str, Any]:
        return {"topic": interrupt("Which one?")}

    async def talk(state: Seen) -> dict[str, Any]:
        return {"messages": [AIMessage(f"The {state['topic']}.")]}

    builder = StateGraph(Seen)
    builder.add_node("note", note, cache_policy=CACHED)
    builder.add_node("ask", ask)
    builder.add_node("talk", talk)
    builder.add_edge(START, "note")
    builder.add_edge(START, "ask")
    builder.add_edge(["note", "ask"], "talk")
    async with Call(builder.compile(cache=InMemoryCache()), speak=["ask", "talk"]) as phone:
        heard = [(await phone.says(text)).heard for text in ("order", "blue", "order", "red")]
        assert heard == ["Which one?", "The blue.", "Which one?", "The red."]
        assert phone.state["seen"] == ["order", "order"]


# ---- RetryPolicy

TWICE = RetryPolicy(max_attempts=3, initial_interval=0.1, retry_on=ValueError)


def retried(*replies: str, fails: int = 1, after: bool = True) -> Any:
    """A node that speaks and then fails, so often, before it succeeds."""
    model = ScriptedModel(list(replies))
    left = [fails]

    async def talk(state: MessagesState) -> dict[str, Any]:
        made = await model.ainvoke(state["messages"])
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")
        return {"messages": [made]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk, retry_policy=TWICE)
    builder.add_edge(START, "talk")
    return builder.compile()


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize(
    ("replies", "heard"),
    [
        (("Your bill is paid.", "Your bill is paid."), "Your bill is paid."),
        (("Your bill is", "Your bill is paid."), "Your bill is paid."),
        (("Your bill is paid.", "Your bill"), "Your bill is paid."),
        (("Let me look.", "It is paid."), "Let me look. It is paid."),
        (("Well, let me look.", "Well, it is paid."), "Well, let me look. it is paid."),
        (("A b.", "A b.", "A b c."), "A b. c."),
    ],
)
async def test_a_retry_does_not_repeat_words_that_were_said(
    replies: tuple[str, ...], heard: str, front_end: str
) -> None:
    graph = retried(*replies, fails=len(replies) - 1)
    async with Call(graph, front_end=front_end, speak=["talk"]) as phone:
        assert " ".join((await phone.says("hi")).heard.split()) == heard
        assert " ".join(" ".join(m.text for m in phone.messages if m.type == "ai").split()) == heard


async def test_a_subgraph_that_runs_again_repeats_nothing() -> None:
    model = ScriptedModel(["One.", "Two.", "One.", "Two.", "Three."])
    left = [1]

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([HumanMessage("go on")])]}

    async def fail(state: MessagesState) -> dict[str, Any]:
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")
        return {"messages": [await model.ainvoke([HumanMessage("go on")])]}

    inner = StateGraph(MessagesState)
    for name, node in (("one", ask), ("two", ask), ("three", fail)):
        inner.add_node(name, node)
    inner.add_edge(START, "one")
    inner.add_edge("one", "two")
    inner.add_edge("two", "three")
    graph = inner.compile()

    async def expert(state: MessagesState) -> dict[str, Any]:
        return {"messages": (await graph.ainvoke({"messages": state["messages"][-1:]}))["messages"][1:]}

    builder = StateGraph(MessagesState)
    builder.add_node("expert", expert, retry_policy=TWICE)
    builder.add_edge(START, "expert")
    async with Call(builder.compile(), speak=["expert"]) as phone:
        assert (await phone.says("hi")).heard == "One. Two. Three."
        assert [m.text for m in phone.messages] == ["hi", "One.", "Two.", "Three."]


async def test_a_line_of_a_node_that_runs_again_is_said_once() -> None:
    left = [1]

    async def talk(state: MessagesState) -> dict[str, Any]:
        line = await say_line("One moment.")
        if left[0]:
            left[0] -= 1
            raise ValueError("not yet")
        return {"messages": [line, AIMessage("Done.")]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk, retry_policy=TWICE)
    builder.add_edge(START, "talk")
    async with Call(builder.compile(), speak=["talk"]) as phone:
        assert (await phone.says("hi")).heard == "One moment. Done."
