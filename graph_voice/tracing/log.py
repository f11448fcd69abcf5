"""What a trace is built from: everything that the runs of one tree report, noted without delaying the turn.

LangChain's own tracer builds a run from each report at once, on the event loop, and passes it to LangSmith's client.
This one only notes the report and the time. The runs are built later, after the turn and in another thread: see
`graph_voice.tracing.runs`.
"""

import contextvars
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.tracers.langchain import LangChainTracer
from langchain_core.tracers.schemas import Run
from langsmith.utils import get_tracer_project

__all__ = ["Amendment", "NotingTracer", "Report", "TraceLog", "dotted"]


class Report(NamedTuple):
    """One call of a LangChain callback."""

    method: str
    run_id: UUID
    args: tuple[Any, ...]
    more: dict[str, Any]
    at: datetime
    tracer: "NotingTracer"


@dataclass
class Amendment:
    """What is known about a run only when it is over."""

    outputs: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    """A function is called when the run is built, where it delays nothing."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()


class _Begun(NamedTuple):
    name: str
    kind: str
    parent: UUID | None
    at: datetime
    metadata: Mapping[str, Any]
    tags: Sequence[str]


class TraceLog:
    """The reports of one tree of runs, in the order in which they came."""

    def __init__(self, tracer: LangChainTracer) -> None:
        self.reports: list[Report] = []
        self.amendments: dict[UUID, list[Amendment]] = {}
        self.client = tracer.client
        self.project = tracer.project_name
        """None: LangSmith's default."""
        self.handoffs: dict[str, UUID] = {}
        """Handoff key -> its run. The front end says whether the handoff happened."""
        self.when_over: Callable[[], None] | None = None
        """Called when the tree's first run has ended."""
        self.context = contextvars.copy_context()
        """The calling code's context: the current OpenTelemetry span, LangSmith's `tracing_context`."""
        self.outside = dict(tracer.order_map)
        """Runs around this tree (`@traceable`, LangSmith's pytest plugin) -> trace id, dotted order."""
        self._begun: dict[UUID, _Begun] = {}
        self._streams: set[UUID] = set()

    @classmethod
    def of(cls, callbacks: AsyncCallbackManager) -> "TraceLog | None":
        """Note what a LangChain tracer among these callbacks would be told. None: nothing to note.

        Other kinds of tracers are left alone. So are several `LangChainTracer`s, and one that sends to several places
        (`LANGSMITH_RUNS_ENDPOINTS`).
        """
        if any(os.environ.get(f"{prefix}_RUNS_ENDPOINTS") for prefix in ("LANGSMITH", "LANGCHAIN")):
            return None
        found = [handler for handler in callbacks.handlers if type(handler) is LangChainTracer]
        if len(found) != 1:
            return None
        log = cls(found[0])
        noting = NotingTracer(log, found[0])
        for handlers in (callbacks.handlers, callbacks.inheritable_handlers):
            # Both lists may contain copies of it, with the metadata of a `tracing_context`.
            handlers[:] = [noting if type(handler) is LangChainTracer else handler for handler in handlers]
        return log

    def note(self, tracer: "NotingTracer", method: str, run_id: UUID, args: tuple[Any, ...], more: Any) -> None:
        at = datetime.now(UTC)
        if method.endswith("_start"):
            name, kind, tags = more.get("name"), more.get("run_type") or method.split("_")[1], more.get("tags")
            metadata = more.get("metadata") or {}
            self._begun[run_id] = _Begun(name or kind, kind, more.get("parent_run_id"), at, metadata, tags or ())
            # The inputs may be changed in place before the run is built: lists grow, dicts are filled.
            args = tuple(_shallow(arg) for arg in args)
            if "inputs" in more:
                more["inputs"] = _shallow(more["inputs"])
        elif method == "on_llm_new_token":
            if run_id in self._streams:
                return
            self._streams.add(run_id)  # a trace only has the time of the first one
        self.reports.append(Report(method, run_id, args, more, at, tracer))
        if self.when_over is not None and method.endswith(("_end", "_error")) and run_id == self.reports[0].run_id:
            self.when_over()

    def amend(self, run_id: UUID, amendment: Amendment) -> None:
        self.amendments.setdefault(run_id, []).append(amendment)

    def has_begun(self, run_id: UUID) -> bool:
        return run_id in self._begun

    def order(self, run_id: UUID) -> tuple[UUID, str] | None:
        """Trace id and dotted order of a run: its place in LangSmith's tree. None: it never began."""
        if (outside := self.outside.get(run_id)) is not None:
            return outside
        begun = self._begun.get(run_id)
        if begun is None:
            return None
        own = dotted(begun.at, run_id)
        above = self.order(begun.parent) if begun.parent is not None else None
        return (run_id, own) if above is None else (above[0], f"{above[1]}.{own}")

    def run(self, run_id: UUID) -> Run | None:
        """A run with only what code below it (`@traceable` functions) needs: its place in the tree."""
        begun, order = self._begun.get(run_id), self.order(run_id)
        if begun is None or order is None:
            return None
        return Run.model_construct(
            id=run_id,
            name=begun.name,
            run_type=begun.kind,
            start_time=begun.at,
            parent_run_id=begun.parent,
            trace_id=order[0],
            dotted_order=order[1],
            tags=list(begun.tags),
            extra={"metadata": dict(begun.metadata)},
            session_name=self.project or get_tracer_project(),
            ls_client=self.client,
            inputs={},
            outputs=None,
            events=[],
            child_runs=[],
            attachments={},
            replicas=None,
        )


def dotted(at: datetime, run_id: UUID) -> str:
    """A run's own part of LangSmith's dotted order."""
    return at.strftime("%Y%m%dT%H%M%S%fZ") + str(run_id)


def _shallow(value: Any) -> Any:
    if type(value) is dict:
        return {k: v.copy() if type(v) in (list, dict) else v for k, v in value.items()}
    return value.copy() if type(value) is list else value


class _Runs(dict[str, Run]):
    """LangChain and LangGraph look up the run of a callback here, to make it the parent of `@traceable` code."""

    def __init__(self, log: TraceLog, runs: Mapping[str, Run]) -> None:
        super().__init__(runs)
        self._log = log

    def get(self, key: str, default: Any = None) -> Any:
        found = super().get(key)
        return found if found is not None else self._log.run(UUID(key)) or default

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or self._log.has_begun(UUID(str(key)))


class NotingTracer(LangChainTracer):
    """A LangChain tracer that only notes what it is told.

    It is a subclass, so that code that looks for a tracer among the callbacks finds it, and adds no other.
    """

    def __init__(self, log: TraceLog, tracer: LangChainTracer) -> None:
        super().__init__(
            example_id=tracer.example_id,
            project_name=tracer.project_name,
            client=tracer.client,
            tags=tracer.tags,
            metadata=tracer.tracing_metadata,
            address=tracer.address,
            run_map=_Runs(log, tracer.run_map),
            order_map=tracer.order_map.copy(),
        )
        self.log = log

    def copy_with_metadata_defaults(
        self, *, metadata: Mapping[str, str] | None = None, tags: list[str] | None = None
    ) -> "NotingTracer":
        plain = LangChainTracer(client=self.client, tags=self.tags, metadata=self.tracing_metadata)
        merged = plain.copy_with_metadata_defaults(metadata=metadata, tags=tags)
        merged.project_name, merged.example_id, merged.address = self.project_name, self.example_id, self.address
        merged.run_map, merged.order_map = self.run_map, self.order_map
        return NotingTracer(self.log, merged)

    def _note(self, method: str, run_id: UUID, args: tuple[Any, ...], more: dict[str, Any]) -> Any:
        self.log.note(self, method, run_id, args, more)

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_chain_start", run_id, (serialized, inputs), more)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_chain_end", run_id, (outputs,), more)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_chain_error", run_id, (error,), more)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_chat_model_start", run_id, (serialized, messages), more)

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_llm_start", run_id, (serialized, prompts), more)

    def on_llm_new_token(self, token: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_llm_new_token", run_id, (token,), {})

    def on_llm_end(self, response: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_llm_end", run_id, (response,), more)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_llm_error", run_id, (error,), more)

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_tool_start", run_id, (serialized, input_str), more)

    def on_tool_end(self, output: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_tool_end", run_id, (output,), more)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_tool_error", run_id, (error,), more)

    def on_retriever_start(self, serialized: Any, query: str, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_retriever_start", run_id, (serialized, query), more)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_retriever_end", run_id, (documents,), more)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> Any:
        return self._note("on_retriever_error", run_id, (error,), more)

    def on_retry(self, retry_state: Any, *, run_id: UUID, **more: Any) -> Any:
        return cast(Any, None)
