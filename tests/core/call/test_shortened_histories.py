"""What custom nodes do to `messages` is what LangGraph keeps: nodes that trim, summarize, replace and reorder."""

import operator
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    trim_messages,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Overwrite
from pydantic import BaseModel
from typing_extensions import TypedDict

from graph_voice import Agent, create_voice_graph
from graph_voice.testing import Call, ScriptedModel

pytestmark = pytest.mark.virtual_clock
Messages = list[AnyMessage]
ALL = RemoveMessage(REMOVE_ALL_MESSAGES)


def no_ids(messages: Messages) -> list[Any]:
    return [ALL, *(m.model_copy(update={"id": None}) for m in messages[-3:])]


SHORTER: dict[str, Callable[[Messages], Any]] = {
    "a summary and the last two": lambda ms: [ALL, SystemMessage("SUMMARY", id="sum"), *ms[-2:]],
    "a summary without an id": lambda ms: [ALL, SystemMessage("SUMMARY"), *ms[-2:]],
    "a summary as a dict": lambda ms: [ALL, {"role": "user", "content": "SUMMARY"}, *ms[-2:]],
    "a summary behind": lambda ms: [ALL, *ms[-2:], HumanMessage("SUMMARY")],
    "the last three": lambda ms: [ALL, *ms[-3:]],
    "copies of the last three": lambda ms: [ALL, *(m.model_copy() for m in ms[-3:])],
    "the last three as new messages": no_ids,
    "the last three in other words": lambda ms: [ALL, *(m.model_copy(update={"content": "x"}) for m in ms[-3:])],
    "the caller's last words alone": lambda ms: [ALL, ms[-1]],
    "all but three removed": lambda ms: [RemoveMessage(str(m.id)) for m in ms[:-3]],
    "the first one removed": lambda ms: RemoveMessage(str(ms[0].id)),
    "one removed and said again": lambda ms: [RemoveMessage(str(ms[0].id)), ms[0]],
    "overwritten": lambda ms: Overwrite(ms[-3:]),
    "the order turned": lambda ms: [ALL, *ms[:-1][::-1], ms[-1]],
    "trimmed by LangChain": lambda ms: [
        ALL, *trim_messages(ms, strategy="last", token_counter=len, max_tokens=3, start_on="human")
    ],
    "an old one in other words": lambda ms: [ms[0].model_copy(update={"content": "in other words"})],
    "the caller's words in other words": lambda ms: HumanMessage("in other words", id=ms[-1].id),
    "overwritten, by LangGraph's key": lambda ms: {"__overwrite__": ms[-3:]},
    "overwritten, from JSON": lambda ms: {"type": "__overwrite__", "value": ms[-3:]},
    "something added": lambda ms: [HumanMessage("by the way")],
    "nothing": lambda ms: [],
}  # fmt: skip


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]


class Kept(TypedDict):
    messages: Annotated[list[AnyMessage], lambda now, new: add_messages(now, new)[-4:]]


class Listed(TypedDict):
    messages: Annotated[list[Any], operator.add]


def build(model: ScriptedModel, keep: Callable[[Messages], Any], *, schema: Any = MessagesState, **options: Any) -> Any:
    def of(state: Any) -> Messages:
        return list(state["messages"] if isinstance(state, dict) else state.messages)

    async def trim(state: Any) -> dict[str, Any]:
        return {"messages": keep(of(state))} if len(of(state)) > 5 else {}

    async def model_node(state: Any) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(of(state))]}

    builder = StateGraph(schema)
    builder.add_node("trim", trim)
    builder.add_node("model", model_node)
    builder.add_edge(START, "trim")
    builder.add_edge("trim", "model")
    return builder.compile(**options)


def counting() -> ScriptedModel:
    return ScriptedModel(lambda ms: f"I was shown {len(ms)}: {ms[0].text!r}.")


def plain(messages: list[BaseMessage]) -> list[tuple[str, str]]:
    return [(m.type, m.text) for m in messages]


async def langgraph_alone(graph: Any, turns: int = 6) -> list[tuple[str, str]]:
    for number in range(turns):
        state = await graph.ainvoke({"messages": [("user", f"q{number}")]}, {"configurable": {"thread_id": "1"}})
    return plain(state["messages"])


async def spoken(graph: Any, front_end: str = "core", turns: int = 6, **options: Any) -> list[tuple[str, str]]:
    async with Call(graph, front_end=front_end, check=False, **options) as phone:
        for number in range(turns):
            await phone.says(f"q{number}")
        return plain(phone.messages)


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("keep", SHORTER.values(), ids=SHORTER)
async def test_a_node_that_shortens_the_history_keeps_what_langgraph_keeps(
    keep: Callable[[Messages], Any], front_end: str
) -> None:
    mine, theirs = counting(), counting()
    found = await spoken(build(mine, keep), front_end, speak=["model"])
    assert found == await langgraph_alone(build(theirs, keep, checkpointer=InMemorySaver()))
    assert [plain(p.messages) for p in mine.prompts] == [plain(p.messages) for p in theirs.prompts]


@pytest.mark.parametrize("schema", [Model, Kept, Listed])
async def test_so_it_is_whatever_the_state_and_its_reducer(schema: Any) -> None:
    def keep(messages: Messages) -> Any:
        return [HumanMessage("by the way")] if schema is Listed else SHORTER["a summary and the last two"](messages)

    mine, theirs = counting(), counting()
    found = await spoken(build(mine, keep, schema=schema), speak=["model"])
    alone = build(theirs, keep, schema=schema, checkpointer=InMemorySaver())
    for number in range(6):
        asked = HumanMessage(f"q{number}")
        state = await alone.ainvoke({"messages": [asked]}, {"configurable": {"thread_id": "1"}})
    assert found == plain(state["messages"])


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_langchains_summarization_middleware(front_end: str) -> None:
    def agent(**options: Any) -> Any:
        summary = SummarizationMiddleware(
            ScriptedModel(lambda _: "They talked."), trigger=("messages", 5), keep=("messages", 2)
        )
        return create_agent(counting(), [], middleware=[summary], **options)

    found = await spoken(agent(), front_end, speak=["model"])
    assert found == await langgraph_alone(agent(checkpointer=InMemorySaver()))
    assert any("They talked." in text for _, text in found)


async def test_the_summary_of_a_member_is_not_spoken() -> None:
    summary = SummarizationMiddleware(
        ScriptedModel(lambda _: "They talked."), trigger=("messages", 3), keep=("messages", 1)
    )
    member = create_agent(ScriptedModel(lambda _: "Yes."), [], middleware=[summary], name="desk")
    async with Call(create_voice_graph([member]), check=False) as phone:
        assert [(await phone.says("q")).heard for _ in range(3)] == ["Yes."] * 3


async def test_a_node_of_a_voice_graph_may_shorten_it_too() -> None:
    builder = create_voice_graph([Agent("b", instructions="B", llm=ScriptedModel(lambda _: "Hello."))])

    async def trim(state: Any) -> dict[str, Any]:
        return {"messages": [ALL, *state["messages"][-2:]]}

    builder.add_node("trim", trim)
    builder.add_edge("b", "trim")
    async with Call(builder, check=False) as phone:
        for _ in range(3):
            await phone.says("q")
        assert plain(phone.messages) == [("human", "q"), ("ai", "Hello.")]


async def test_words_that_nobody_heard_are_not_kept_by_a_node_that_lists_them() -> None:
    from turn_support import rest, told, until

    from graph_voice import Conversation, events

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage("One two three.")]}

    async def trim(state: MessagesState) -> dict[str, Any]:
        return {"messages": [ALL, *state["messages"][-2:]]}

    builder = StateGraph(MessagesState)
    builder.add_node("talk", talk)
    builder.add_node("trim", trim, metadata={"silent": True})
    builder.add_edge(START, "talk")
    builder.add_edge("talk", "trim")
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["talk"])
    turn = conversation.turn("hi")
    turn.commit()
    event = await until(turn, events.Text)
    await rest(turn)
    assert told(conversation) == ["human: hi"]
    turn.heard(event.message_id, "One two")
    turn.close()
    assert told(conversation) == ["human: hi", "ai: One two"]
