"""One fake model in two forms: for LangChain (`LLMAdapter`, graph_voice) and for LiveKit (a plain agent).

Without a period it streams at once, so that everything except the model is measured.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, llm

__all__ = ["TRANSFER", "Brain", "FakeLLM", "FakeModel"]

WORDS = ("Your ", "order ", "arrives ", "on ", "Monday. ", "Is ", "there ", "anything ", "else?")
TRANSFER = "Please put me through."
"""What the caller says to be transferred."""


@dataclass
class Brain:
    """What a fake model says, and what it was shown. Each conversation has one.

    Args:
        words: the words of each reply.
        period: seconds between two words, by a schedule that starts with the model call; 0: at once.
        tool: the tool that is called before each reply. A transfer tool is called when the caller says `TRANSFER`.
    """

    words: Sequence[str] = WORDS
    period: float = 0.0
    tool: str | None = None
    calls: int = 0
    on_call: Callable[[], None] = lambda: None
    """Called when the model has called a tool."""
    shown: int = 0
    """Messages in the last prompt, without the system message."""
    due: float = 0.0
    """When the first word of the latest reply was due, by the clock of `time.perf_counter`."""

    def tool_call(self, last: str, is_user: bool, tools: Sequence[str]) -> str | None:
        """The tool that a prompt with this last message leads to."""
        if not is_user:
            return None
        if last == TRANSFER:
            return next((name for name in tools if name.startswith("transfer_to_")), None)
        return self.tool if self.tool in tools else None

    def call_id(self) -> str:
        self.calls += 1
        return f"call_{self.calls}"

    async def stream(self) -> AsyncIterator[str]:
        self.due = time.perf_counter()
        for number, word in enumerate(self.words):
            if self.period:
                await asyncio.sleep(max(0.0, self.due + number * self.period - time.perf_counter()))
            yield word


class FakeModel(BaseChatModel):
    """The model as LangChain sees it."""

    brain: Any = field(default=None)

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Runnable[Any, AIMessage]:
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(self.brain.words)))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        brain: Brain = self.brain
        brain.shown = sum(message.type != "system" for message in messages)
        tools = [] if kwargs.get("tool_choice") == "none" else [t["function"]["name"] for t in kwargs.get("tools", ())]
        last = messages[-1]
        if (name := brain.tool_call(last.text, last.type == "human", tools)) is not None:
            chunk = tool_call_chunk(name=name, args="{}", id=brain.call_id(), index=0)
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[chunk]))
            brain.on_call()
            return
        async for word in brain.stream():
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))


class FakeLLM(llm.LLM[Any]):
    """The model as LiveKit sees it."""

    def __init__(self, brain: Brain) -> None:
        super().__init__()
        self.brain = brain

    def chat(self, *, chat_ctx: llm.ChatContext, tools: list[llm.Tool] | None = None, **options: Any) -> "_Stream":
        return _Stream(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=DEFAULT_API_CONNECT_OPTIONS)


class _Stream(llm.LLMStream):
    async def _run(self) -> None:
        assert isinstance(self._llm, FakeLLM)
        brain = self._llm.brain
        items = self._chat_ctx.items
        brain.shown = sum(item.type == "message" and item.role != "system" for item in items)
        last = items[-1] if items else None
        said = (last.text_content or "", last.role == "user") if last is not None and last.type == "message" else None
        if said is not None and (name := brain.tool_call(*said, [tool.id for tool in self._tools])) is not None:
            call = llm.FunctionToolCall(name=name, arguments="{}", call_id=brain.call_id())
            self._send(llm.ChoiceDelta(role="assistant", tool_calls=[call]))
            brain.on_call()
            return
        async for word in brain.stream():
            self._send(llm.ChoiceDelta(role="assistant", content=word))

    def _send(self, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id="x", delta=delta))
