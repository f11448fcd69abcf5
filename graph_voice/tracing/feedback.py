"""Feedback: a judgment of a turn, which LangSmith shows beside its trace."""

import threading
import warnings
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langsmith import Client
from langsmith.utils import LangSmithWarning, get_tracer_project

__all__ = ["Score", "Subject", "give"]


@dataclass(frozen=True)
class Score:
    """One piece of feedback."""

    key: str
    """What is judged, such as "resolved" or "csat"."""
    score: float | bool | None = None
    """A number that LangSmith averages."""
    value: str | dict[str, Any] | None = None
    """Anything that is not a number: a category, a text."""
    comment: str | None = None


@dataclass(frozen=True)
class Subject:
    """The run that is judged."""

    run_id: UUID
    project: str | None
    thread_id: str


_projects: dict[tuple[int, str], UUID] = {}
_lock = threading.Lock()


def give(client: Client, subject: Subject, score: Score) -> None:
    """Create the feedback in the calling thread. Raises what LangSmith's client raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangSmithWarning)  # an old server does not say which project a run is in
        client.create_feedback(
            # Without `trace_id` it is sent now, and not by a thread that may end too early.
            run_id=subject.run_id,
            key=score.key,
            score=score.score,
            value=score.value,
            comment=score.comment,
            session_id=_project_id(client, subject.project or get_tracer_project() or "default"),
            source_info={"thread_id": subject.thread_id},
            stop_after_attempt=1,
        )


def _project_id(client: Client, name: str) -> UUID | None:
    """The project's id, which is looked up once. Newer servers need it to find a run."""
    key = (id(client), name)
    with _lock:
        if key in _projects:
            return _projects[key]
    try:
        found = UUID(str(client.read_project(project_name=name).id))
    except Exception:  # an older server, or one that refuses: then feedback goes without the id
        return None
    with _lock:
        _projects[key] = found
    return found
