"""Keeps secrets out of traces: by their value, and in what a model was shown or has generated."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, message_chunk_to_message
from langchain_core.outputs import ChatGeneration, LLMResult
from pydantic import BaseModel

from graph_voice.secrets.arguments import redact_arguments
from graph_voice.secrets.known import NOTHING, Known
from graph_voice.secrets.spoken import redact
from graph_voice.secrets.values import MASK, Redacted, is_secret
from graph_voice.tracing.log import Report

__all__ = ["Redaction"]

_OWN = ("id", "trace_id", "parent_run_id", "dotted_order", "start_time", "end_time", "session_name", "run_type")
"""Fields of a run that LangSmith reads, and that contain no text of a call."""


class Redaction:
    """Redacts the secrets of a call in the runs of its trace.

    Args:
        schemas: tool name -> schema, for the tools that take a secret. In a model's own run, these arguments are
            redacted whatever their length.
        takers: agents with such a tool. Numbers that the caller says are redacted in every prompt.
        known: what is known to be secret. It is redacted wherever it is found.
        tools: the names of all tools. The arguments of any other are redacted. None: any name may be a tool's.
    """

    def __init__(
        self,
        schemas: Mapping[str, Any] | None = None,
        takers: frozenset[str] = frozenset(),
        known: Known = NOTHING,
        tools: frozenset[str] | None = None,
    ) -> None:
        self._schemas = schemas or {}
        self._takers = takers
        self._known = known
        self._tools = tools

    def report(self, report: Report) -> Report:
        """A report, without what its position makes secret."""
        if report.method == "on_chat_model_start" and self._takers:
            serialized, batches = report.args
            return report._replace(args=(serialized, [[self._shown(m) for m in batch] for batch in batches]))
        if report.method == "on_llm_end" and self._schemas:
            return report._replace(args=(self._made(report.args[0]),))
        if report.method == "on_llm_error" and self._schemas and report.more.get("response") is not None:
            return report._replace(more={**report.more, "response": self._made(report.more["response"])})
        return report

    def run(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run, without the known secrets."""
        if not self._known:
            return run
        return {key: value if key in _OWN else self._masked(value) for key, value in run.items()}

    def text(self, text: str) -> str:
        """A text without the known secrets."""
        return self._known.text(text)

    # ---- a model's own run

    def _shown(self, message: BaseMessage) -> BaseMessage:
        return redact(message, self._takers) if isinstance(message, HumanMessage) else message

    def _made(self, response: Any) -> Any:
        if not isinstance(response, LLMResult):
            return response
        batches: list[Any] = [[self._generation(g) for g in batch] for batch in response.generations]
        return LLMResult(generations=batches, llm_output=response.llm_output)

    def _generation(self, generation: Any) -> Any:
        message = getattr(generation, "message", None)
        if not isinstance(message, AIMessage):
            return generation
        if isinstance(message, AIMessageChunk):
            message = message_chunk_to_message(message)
            assert isinstance(message, AIMessage)
        broken = [c for c in message.invalid_tool_calls if self._is_secret(c["name"])]
        if not broken and not any(self._is_secret(c["name"]) for c in message.tool_calls):
            return generation
        redacted = redact_arguments(message, self._schemas, self._tools, self._known)
        if broken:
            hidden = [{**c, "args": MASK} if c in broken else c for c in message.invalid_tool_calls]
            extra = {k: v for k, v in redacted.additional_kwargs.items() if k not in ("tool_calls", "function_call")}
            redacted = redacted.model_copy(update={"invalid_tool_calls": hidden, "additional_kwargs": extra})
        return ChatGeneration(message=redacted, generation_info=generation.generation_info)

    def _is_secret(self, name: str | None) -> bool:
        """Whether a tool call of this name may have a secret argument: one of no tool may be misspelled."""
        return name in self._schemas or (bool(self._schemas) and self._tools is not None and name not in self._tools)

    # ---- by value

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            return value if isinstance(value, Redacted) else self.text(value)
        if value is None or isinstance(value, bool) or is_secret(value):
            return value
        if isinstance(value, int | float):
            return self._known.value(value)
        if isinstance(value, Mapping):
            return {
                self.text(k) if isinstance(k, str) else k: self._masked(v) for k, v in self._known.torn(value).items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item) for item in self._known.torn(dict(enumerate(value))).values()]
        if isinstance(value, BaseModel):
            return self._masked(value.model_dump())
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {f.name: self._masked(getattr(value, f.name, None)) for f in dataclasses.fields(value)}
        if isinstance(value, bytes):
            return self.text(value.decode(errors="replace"))
        printed = repr(value)
        return value if (redacted := self.text(printed)) == printed else redacted
