"""What the models of custom nodes may write: thoughts in their text, and words in which they decline."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import Field

from graph_voice.testing import Call

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])
THOUGHT = "<think>They want X.</think>"


class Writes(BaseChatModel):
    """A model that writes these pieces: as chunks, or with `disable_streaming` as one message."""

    parts: Callable[[list[Any]], list[AIMessageChunk]]
    prompts: list[list[Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "writes"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self.bind()

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        self.prompts.append(messages)
        first, *rest = self.parts(messages)
        made = first + rest if rest else first
        message = AIMessage(made.content, additional_kwargs=made.additional_kwargs, tool_calls=made.tool_calls)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: Any, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.prompts.append(messages)
        for part in self.parts(messages):
            yield ChatGenerationChunk(message=part)


def chunks(*parts: str) -> list[AIMessageChunk]:
    return [AIMessageChunk(content=part) for part in parts]


def one_node(model: BaseChatModel) -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", answer)
    builder.add_edge(START, "model")
    return builder.compile()


def written(model: BaseChatModel) -> Any:
    """A node that returns its model's message as one of its own, so that nothing of it is streamed by its id."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        made = await model.ainvoke(state["messages"], {"callbacks": []})
        return {"messages": [AIMessage(made.content, additional_kwargs=made.additional_kwargs)]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", answer)
    builder.add_edge(START, "model")
    return builder.compile()


def nested(model: BaseChatModel) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("model", create_agent(model, []))
    builder.add_edge(START, "model")
    return builder.compile()


def agent(model: BaseChatModel) -> Any:
    return create_agent(model, [])


graphs = pytest.mark.parametrize("graph", [one_node, written, nested, agent])


@both
@graphs
@pytest.mark.parametrize("whole", [False, True])
async def test_thoughts_of_a_custom_nodes_model_are_neither_spoken_nor_remembered(
    front_end: str, graph: Callable[[BaseChatModel], Any], whole: bool
) -> None:
    model = Writes(
        parts=lambda _: chunks("<thi", "nk>They want", " X.</th", "ink>Hello", " there."), disable_streaming=whole
    )
    async with Call(graph(model), speak=["model"], front_end=front_end) as phone:
        assert (await phone.says("hi")).heard == "Hello there."
        assert (await phone.says("and?")).heard == "Hello there."
        assert "want" not in str(phone.messages)
    assert "want" not in str(model.prompts)


@both
@graphs
@pytest.mark.parametrize("beside", [True, False])
async def test_a_custom_nodes_model_that_declines_is_heard(
    front_end: str, graph: Callable[[BaseChatModel], Any], beside: bool
) -> None:
    refusal = {"refusal": "I can't help with that."}
    if beside:
        said = AIMessageChunk(content="", additional_kwargs=refusal)
    else:
        said = AIMessageChunk(content=[{"type": "refusal", **refusal}])
    model = Writes(parts=lambda _: [said])
    async with Call(graph(model), speak=["model"], front_end=front_end) as phone:
        assert (await phone.says("hi")).heard == "I can't help with that."
        assert phone.messages[-1].text == "I can't help with that."


@both
@pytest.mark.parametrize("graph", [one_node, nested, agent])
async def test_a_model_that_only_closes_its_thoughts_is_known_in_a_custom_node_too(
    front_end: str, graph: Callable[[BaseChatModel], Any]
) -> None:
    model = Writes(parts=lambda _: chunks("They want X.", "</think>", "Hello."))
    async with Call(graph(model), speak=["model"], front_end=front_end) as phone:
        await phone.says("hi")
        assert (await phone.says("and?")).heard == "Hello."


@both
async def test_a_tool_call_behind_thoughts_is_remembered_without_them(front_end: str) -> None:
    def look() -> str:
        """Look."""
        return "blue"

    def answer(messages: list[Any]) -> list[AIMessageChunk]:
        if isinstance(messages[-1], ToolMessage):
            return chunks(THOUGHT, "It is blue.")
        call = {"name": "look", "args": "{}", "id": f"call-{len(messages)}", "index": 0, "type": "tool_call_chunk"}
        return [AIMessageChunk(content=THOUGHT, tool_call_chunks=[call])]

    model = Writes(parts=answer)
    async with Call(create_agent(model, [look]), speak=["model"], front_end=front_end) as phone:
        assert (await phone.says("hi")).heard == "It is blue."
        assert [m.text for m in phone.messages] == ["hi", "", "blue", "It is blue."]
        assert "want" not in str(phone.messages)
