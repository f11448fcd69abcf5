"""What a node says again when LangGraph's `RetryPolicy` runs it again: the caller has heard it already."""

from itertools import takewhile
from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult
from langgraph.errors import GraphBubbleUp

__all__ = ["Attempts", "Retelling"]


class Attempts(AsyncCallbackHandler):
    """Follows which model calls are of a node that has failed before and runs again."""

    run_inline = True

    def __init__(self) -> None:
        self._nodes: dict[UUID, str] = {}
        self._failures: dict[str, int] = {}
        self._models: dict[UUID, tuple[str, int] | None] = {}
        self._again: dict[str, tuple[str, int]] = {}

    def again(self, message_id: str) -> tuple[str, int] | None:
        """The task whose repetition this message is of, and how often that has failed; None for the first time."""
        return self._again.get(message_id)

    async def on_chain_start(
        self,
        serialized: Any,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if any(tag.startswith("graph:step:") for tag in tags or ()):
            self._nodes[run_id] = (metadata or {}).get("langgraph_checkpoint_ns", "")

    async def on_chain_end(
        self, outputs: Any, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        self._nodes.pop(run_id, None)

    async def on_chain_error(
        self, error: BaseException, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        node = self._nodes.pop(run_id, None)
        if node is not None and not isinstance(error, GraphBubbleUp):
            self._failures[node] = self._failures.get(node, 0) + 1

    async def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        parts = str((metadata or {}).get("langgraph_checkpoint_ns", "")).split("|")
        around = ("|".join(parts[: end + 1]) for end in range(len(parts)))
        task = next((task for task in around if task in self._failures), None)
        self._models[run_id] = (task, self._failures[task]) if task is not None else None

    async def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: Any = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(chunk, ChatGenerationChunk):
            self._note(chunk.message.id, run_id)

    async def on_llm_end(
        self, response: LLMResult, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        for made in (one for batch in response.generations for one in batch):
            self._note(getattr(getattr(made, "message", None), "id", None), run_id)
        self._models.pop(run_id, None)

    def _note(self, message_id: str | None, run_id: UUID) -> None:
        if message_id is not None and (found := self._models.get(run_id)) is not None:
            self._again[message_id] = found


class Retelling:
    """One message of a repeated node, beside the message that an earlier attempt said in its place.

    Args:
        told: what was said.
    """

    def __init__(self, told: str) -> None:
        self._told = told
        self._text = ""
        self.differs = False
        """Whether it is not the same words again: then what differs is a message of its own."""

    def more(self, delta: str) -> str:
        """The words of this piece that were not said before."""
        before, self._text = self._text, self._text + delta
        if self.differs:
            return delta
        if self._told.startswith(self._text):
            return ""
        if self._text.startswith(self._told):
            return self._text[max(len(before), len(self._told)) :]
        self.differs = True
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self._told, self._text, strict=False)))
        in_a_word = any(text[same : same + 1].isalnum() for text in (self._told, self._text))
        return self._text[self._text.rfind(" ", 0, same) + 1 if in_a_word else same :]
