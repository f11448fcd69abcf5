"""What a graph run does, from LangChain's callbacks: which nodes run, what models are asked, how fast they answer."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langgraph.errors import GraphBubbleUp

from graph_voice.turn.nodes_side import current_turn

__all__ = ["Asked", "RunWatch"]

_KEPT = 60
"""Prompts that can be looked at, and errors of tools."""


@dataclass(eq=False)
class Asked:
    """One request to a model."""

    id: str
    agent: str
    turn: str | None
    messages: Sequence[BaseMessage]
    tools: Sequence[str] = ()
    began: float = field(default_factory=time.time)
    first_token: float | None = None
    ended: float | None = None


class RunWatch(BaseCallbackHandler):
    """Listens to the runs of one call.

    Args:
        on_change: called after each change.
    """

    run_inline = True
    """In the event loop, in the context of the run that it hears of."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._nodes: dict[UUID, str] = {}
        self._ran: set[str] = set()
        self.asked: OrderedDict[str, Asked] = OrderedDict()
        """The last requests, by their ids."""
        self.raised: OrderedDict[str, str] = OrderedDict()
        """Tool call id -> what the tool's code has raised. The model may have been told less."""

    def take_running(self) -> list[str]:
        """The names of the nodes that run now, or have run since this was asked last."""
        found = sorted({*self._nodes.values(), *self._ran})
        self._ran.clear()
        return found

    def on_chain_start(
        self, serialized: Any, inputs: Any, *, run_id: UUID, metadata: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        node = (metadata or {}).get("langgraph_node")
        if node is not None and more.get("name") == node:
            self._nodes[run_id] = str(node)
            self._ran.add(str(node))
            self._on_change()

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:
        if self._nodes.pop(run_id, None) is not None:
            self._on_change()

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self.on_chain_end(None, run_id=run_id)

    def on_chat_model_start(
        self,
        serialized: Any,
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        turn = current_turn.get()
        tools = (more.get("invocation_params") or {}).get("tools") or ()
        self.asked[str(run_id)] = Asked(
            str(run_id),
            str((metadata or {}).get("langgraph_node") or ""),
            turn.run.id if turn is not None else None,
            list(messages[0]) if messages else [],
            [name for tool in tools if (name := _tool_name(tool))],
        )
        while len(self.asked) > _KEPT:
            self.asked.popitem(last=False)
        self._on_change()

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **more: Any) -> None:
        asked = self.asked.get(str(run_id))
        if asked is not None and asked.first_token is None:
            asked.first_token = time.time()
            self._on_change()

    def on_llm_end(self, response: Any, *, run_id: UUID, **more: Any) -> None:
        if (asked := self.asked.get(str(run_id))) is not None:
            asked.ended = time.time()
            self._on_change()

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self.on_llm_end(None, run_id=run_id)

    def on_tool_error(
        self, error: BaseException, *, run_id: UUID, tool_call_id: str | None = None, **more: Any
    ) -> None:
        if tool_call_id is None or isinstance(error, GraphBubbleUp):
            return
        self.raised[tool_call_id] = f"{type(error).__name__}: {error}".removesuffix(": ")
        while len(self.raised) > _KEPT:
            self.raised.popitem(last=False)
        self._on_change()


def _tool_name(tool: Any) -> str:
    if isinstance(tool, Mapping):
        tool = tool.get("function") if isinstance(tool.get("function"), Mapping) else tool
        return str(tool.get("name") or "")
    return ""
