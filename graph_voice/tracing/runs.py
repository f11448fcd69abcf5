"""Building LangSmith's runs from what a trace has noted, in a background thread after the turn.

LangChain's own tracer builds them, so a run looks as usual. What the tracer would send is kept here, gets the times at
which things really happened, and is completed with what was known only at the end.
"""

import asyncio
import time
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from langchain_core.tracers.langchain import LangChainTracer

from graph_voice.tracing.log import Amendment, NotingTracer, Report, TraceLog
from graph_voice.tracing.redaction import Redaction

__all__ = ["runs_of"]

HIDDEN = "langsmith:hidden"
"""LangGraph's tag of runs that LangSmith does not show."""
ROUTERS = ("first", "go_on", "leave")
"""The conditional edges of `create_voice_graph`."""
CUT_OFF = (asyncio.CancelledError, GeneratorExit)


def runs_of(log: TraceLog, cover: Redaction, cut: str | None = None) -> list[dict[str, Any]]:
    """The runs of a trace, each complete, in the form that LangSmith's client takes.

    Args:
        log: what was noted.
        cover: redacts the secrets in them.
        cut: the tag of runs that were cut off (`interrupted`, `discarded`): that is not an error.
    """
    desk = _Desk(log)
    tracers: dict[int, LangChainTracer] = {}
    shared: tuple[dict[str, Any], dict[Any, Any]] = ({}, dict(log.outside))
    for report in log.reports:
        desk.at, desk.cut = report.at, None
        if report.method.endswith("_error") and isinstance(report.args[0], CUT_OFF):
            desk.cut = cut or "cancelled"
        _tell(_plain(report.tracer, desk, tracers, shared), cover.report(report))
        time.sleep(0)  # the event loop goes first
    for run_id, amendments in log.amendments.items():
        if (run := desk.runs.get(run_id)) is not None:
            for amendment in amendments:
                _amend(run, amendment)
    shown: list[dict[str, Any]] = []
    parents: set[Any] = set()
    for run_id, run in reversed(desk.runs.items()):
        if run_id in parents or not _is_plumbing(run):
            parents.add(run.get("parent_run_id"))
            shown.append(run)
    for run in shown:
        run.setdefault("end_time", desk.at)  # it was stopped before it could report its end
    return [cover.run(run) for run in reversed(shown)]


def _is_plumbing(run: dict[str, Any]) -> bool:
    """Whether this is only a step of the graph between two agents' steps."""
    tags = run.get("tags") or ()
    return HIDDEN in tags or (run["name"] in ROUTERS and any(tag.startswith("seq:step:") for tag in tags))


def _tell(tracer: LangChainTracer, report: Report) -> None:
    if report.method == "on_llm_new_token":
        return  # only its time counts
    getattr(tracer, report.method)(*report.args, run_id=report.run_id, **report.more)


def _plain(noting: NotingTracer, desk: "_Desk", known: dict[int, LangChainTracer], shared: Any) -> LangChainTracer:
    """LangChain's own tracer with the same settings, which sends its runs to `desk`."""
    if id(noting) not in known:
        known[id(noting)] = LangChainTracer(
            example_id=noting.example_id,
            project_name=noting.project_name,
            client=cast(Any, desk),
            tags=noting.tags,
            metadata=noting.tracing_metadata,
            address=noting.address,
            run_map=shared[0],
            order_map=shared[1],
        )
    return known[id(noting)]


def _amend(run: dict[str, Any], amendment: Amendment) -> None:
    outputs = amendment.outputs() if callable(amendment.outputs) else amendment.outputs
    run["outputs"] = {**(run.get("outputs") or {}), **outputs}
    run["tags"] = [*(run.get("tags") or ()), *(t for t in amendment.tags if t not in (run.get("tags") or ()))]
    extra = run.get("extra") or {}
    run["extra"] = {**extra, "metadata": {**(extra.get("metadata") or {}), **amendment.metadata}}


class _Desk:
    """Stands in for LangSmith's client: keeps what the client would get, with the time when it really happened."""

    def __init__(self, log: TraceLog) -> None:
        self.runs: dict[UUID, dict[str, Any]] = {}
        self.at: datetime
        self.cut: str | None = None
        self._log = log
        self._tokens = {r.run_id: r.at for r in log.reports if r.method == "on_llm_new_token"}

    def create_run(self, **run: Any) -> None:
        order = self._log.order(run["id"])
        if order is not None:
            run["trace_id"], run["dotted_order"] = order
        run["start_time"] = self.at
        run["events"] = [{"name": "start", "time": self.at}]
        run.pop("end_time", None)
        self.runs[run["id"]] = run

    def update_run(self, run_id: Any, **changes: Any) -> None:
        run = self.runs[UUID(str(run_id))]
        for key in ("outputs", "error", "tags", "extra", "inputs"):
            if changes.get(key) is not None:
                run[key] = changes[key]
        if self.cut is not None:
            run.pop("error", None)
            run["tags"] = [*(run.get("tags") or ()), self.cut]
        run["end_time"] = self.at
        if (first := self._tokens.get(run["id"])) is not None:
            run["events"].append({"name": "new_token", "time": first})
        run["events"].append({"name": "end" if self.cut or not run.get("error") else "error", "time": self.at})
