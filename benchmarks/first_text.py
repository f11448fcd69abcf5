"""From the caller's text to the first text at the speech synthesiser: a plain LiveKit agent, `LLMAdapter`, ours.

The three take turns in one process, on the same streaming fake model without delays, so the ratio of their medians is
what the machine's noise leaves alone. Run it as `python benchmarks/first_text.py [--turns 60] [--quick]`.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, MessagesState, StateGraph
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, Agent, AgentSession, ModelSettings, llm
from livekit.plugins.langchain import LLMAdapter

from graph_voice import Agent as GraphDefinition
from graph_voice import create_voice_graph
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.converters import to_chat_context

WORDS = ["This ", "is ", "a ", "short ", "answer."]


class FakeModel(BaseChatModel):
    """Streams the same five words, at once."""

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(WORDS)))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for word in WORDS:
            yield ChatGenerationChunk(message=AIMessageChunk(word))


class FakeLLM(llm.LLM[Any]):
    """The same five words as a LiveKit LLM."""

    def chat(self, *, chat_ctx: llm.ChatContext, tools: list[llm.Tool] | None = None, **options: Any) -> "FakeStream":
        return FakeStream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS)


class FakeStream(llm.LLMStream):
    async def _run(self) -> None:
        for word in WORDS:
            self._event_ch.send_nowait(llm.ChatChunk(id="x", delta=llm.ChoiceDelta(role="assistant", content=word)))


class Clocked(Agent):
    """Notes when the first text of a reply reaches the synthesiser's side."""

    first: float | None = None

    async def transcription_node(self, text: AsyncIterable[Any], model_settings: ModelSettings) -> AsyncIterable[Any]:
        async for piece in text:
            if Clocked.first is None:
                Clocked.first = time.perf_counter()
            yield piece


def history(size: int) -> list[BaseMessage]:
    return [
        HumanMessage(f"question {i}", id=f"h{i}") if i % 2 == 0 else AIMessage(f"answer {i}", id=f"a{i}")
        for i in range(size)
    ]


def plain(size: int) -> Agent:
    return Clocked(instructions="Answer.", llm=FakeLLM(), chat_ctx=to_chat_context(history(size)))


def adapter(size: int) -> Agent:
    builder = StateGraph(MessagesState)
    model = FakeModel()

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return Clocked(instructions="Answer.", llm=LLMAdapter(builder.compile()), chat_ctx=to_chat_context(history(size)))


def ours(size: int) -> Agent:
    graph = create_voice_graph([GraphDefinition("answer", instructions="Answer.")], llm=FakeModel())
    return GraphAgent(graph, messages=history(size), bases={"answer": Clocked})


async def turn(session: AgentSession[Any]) -> float:
    Clocked.first = None
    began = time.perf_counter()
    await session.run(user_input="And now?")
    assert Clocked.first is not None
    return (Clocked.first - began) * 1000


async def compare(size: int, turns: int) -> dict[str, list[float]]:
    agents = {"plain LiveKit agent": plain(size), "LLMAdapter, no saver": adapter(size), "graph_voice": ours(size)}
    sessions = {}
    for name, agent in agents.items():
        session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
        await session.start(agent=agent)
        sessions[name] = session
    times: dict[str, list[float]] = {name: [] for name in agents}
    for index in range(turns + 5):
        for name, session in sessions.items():
            taken = await turn(session)
            if index >= 5:
                times[name].append(taken)
    for session in sessions.values():
        await session.aclose()
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--turns", type=int, default=60, help="turns of each, after 5 to warm up")
    options.add_argument("--quick", action="store_true", help="fewer turns, shorter histories")
    chosen = options.parse_args()
    sizes, turns = ((10, 100), 20) if chosen.quick else ((10, 100, 1000), chosen.turns)
    print("| history | | p50 ms | p95 ms | x plain | x LLMAdapter |\n|---:|---|---:|---:|---:|---:|")
    for size in sizes:
        times = asyncio.run(compare(size, turns))
        medians = {name: statistics.median(values) for name, values in times.items()}
        base, other = medians["plain LiveKit agent"], medians["LLMAdapter, no saver"]
        for name, values in times.items():
            p95 = statistics.quantiles(values, n=20)[-1]
            p50 = medians[name]
            print(f"| {size} | {name} | {p50:.1f} | {p95:.1f} | {p50 / base:.2f} | {p50 / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
