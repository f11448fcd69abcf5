"""When things happen in a session, as the pipeline hooks of LiveKit's `Agent` see it, by the process's clock."""

import time
from collections.abc import AsyncIterable, Callable
from typing import Any

from livekit.agents import Agent, ModelSettings, llm

__all__ = ["Watch"]


class Watch:
    """Watches one session. All times are those of `time.perf_counter`, in seconds."""

    def __init__(self) -> None:
        self.first_chunk: float | None = None
        """When the first words left `llm_node`."""
        self.first_chunk_used: float | None = None
        """The processor time of the loop's thread by then, in seconds (`time.thread_time`)."""
        self.first_text: float | None = None
        """When the first words reached the voice (`transcription_node`, since a session without sound has no TTS)."""
        self.on_text: Callable[[], None] = lambda: None
        """Called for each piece of text that reaches the voice."""

    def reset(self) -> None:
        self.first_chunk = self.first_chunk_used = self.first_text = None

    def listen(self, kind: type[Agent]) -> None:
        """Listen to all agents of a class. The class must be this session's own."""
        llm_node: Any = kind.llm_node
        transcription_node: Any = kind.transcription_node

        async def watched_llm_node(
            agent: Agent, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
        ) -> AsyncIterable[Any]:
            async for chunk in llm_node(agent, chat_ctx, tools, model_settings):
                if (
                    self.first_chunk is None
                    and isinstance(chunk, llm.ChatChunk)
                    and chunk.delta
                    and chunk.delta.content
                ):
                    self.first_chunk, self.first_chunk_used = time.perf_counter(), time.thread_time()
                yield chunk

        async def watched_transcription_node(
            agent: Agent, text: AsyncIterable[Any], model_settings: ModelSettings
        ) -> AsyncIterable[Any]:
            async for piece in transcription_node(agent, text, model_settings):
                if self.first_text is None:
                    self.first_text = time.perf_counter()
                self.on_text()
                yield piece

        kind.llm_node = watched_llm_node  # type: ignore[method-assign,assignment]
        kind.transcription_node = watched_transcription_node  # type: ignore[method-assign,assignment]
