"""The processes that run a scripted call, one after the other: each has a front end of its own."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from graph_voice.call.conversation import Conversation
from graph_voice.errors import MissingDependencyError, TurnError
from graph_voice.storage.live_saver import LiveSaver
from graph_voice.testing.core_front_end import CoreFrontEnd
from graph_voice.testing.front_end import FRONT_ENDS, CallPlan, FrontEnd
from graph_voice.testing.severed import SeverableSaver

__all__ = ["Processes"]


class Processes:
    """The process that runs a call now, and what those before it left.

    Args:
        front_end: as for `Call`; each process gets its own.
        plan: the call's plan.
        saver: the checkpointer from which the next process resumes the call.
        watch: called with each process's conversation before anything happens in it.
    """

    def __init__(
        self,
        front_end: str | Callable[[CallPlan], FrontEnd],
        plan: CallPlan,
        saver: BaseCheckpointSaver[Any] | None,
        watch: Callable[[Conversation[Any]], None],
    ) -> None:
        if isinstance(saver, LiveSaver):
            raise TurnError(
                "Call(saver=LiveSaver(...)): pass the durable checkpointer itself; the call makes its own LiveSaver."
            )
        self.front_end: FrontEnd | None = None
        """None before the call begins, and after a crash until the next process has begun."""
        self.crashes = 0
        self._make = _maker_of(front_end)
        self._plan = plan
        self._saver = saver
        self._severable: SeverableSaver | None = None
        self._watch = watch
        self._earlier_heard: list[str] = []

    async def begin(self) -> FrontEnd:
        """Begin the call, or resume it in another process."""
        made = self._new_front_end()
        self.front_end = made  # its properties are read while it opens
        try:
            await made.open(self._watch)
        except BaseException:
            self.front_end = None
            with contextlib.suppress(Exception):  # it may not be open enough to be closed
                await made.close("error")
            raise
        return made

    def _new_front_end(self) -> FrontEnd:
        options = dict(self._plan.options)
        if self._saver is not None:
            self._severable = options["saver"] = SeverableSaver(self._saver)
        return self._make(replace(self._plan, options=options))

    async def crash(self) -> None:
        """The process is gone. Raises `TurnError` when nothing of the call is stored."""
        self.require_saver()
        assert self.front_end is not None
        assert self._severable is not None
        self._severable.sever()
        self._earlier_heard += self.front_end.heard
        await self.front_end.crash()
        self.front_end = None
        self.crashes += 1

    def require_saver(self) -> None:
        if self._saver is None:
            raise TurnError(
                "crash(): nothing of this call is stored, so it could not be resumed. Give it a durable checkpointer: "
                "Call(graph, saver=InMemorySaver())."
            )

    @property
    def heard(self) -> list[str]:
        """What the caller heard of the agents, in all processes."""
        return [*self._earlier_heard, *self.heard_since_crash]

    @property
    def heard_since_crash(self) -> list[str]:
        """As `heard`, in the process that runs the call now."""
        return list(self.front_end.heard) if self.front_end is not None else []


def _maker_of(which: str | Callable[[CallPlan], FrontEnd]) -> Callable[[CallPlan], FrontEnd]:
    """What makes the front end with this name: "core", or one that another package offers ("livekit").

    Raises `MissingDependencyError` for a name that no package offers, and `TypeError` for what can't make one.
    """
    if not isinstance(which, str):
        if not callable(which):
            raise TypeError(
                f"Call(front_end={which!r}): each process of a call has a front end of its own. Write its class, or a "
                "function that makes one: front_end=lambda plan: MyFrontEnd(plan)."
            )
        return which
    if which == "core":
        return CoreFrontEnd
    found = next(iter(entry_points(group=FRONT_ENDS, name=which)), None)
    try:
        if found is None:
            raise ImportError(f"no package offers {which!r}")
        made: type[FrontEnd] = found.load()
    except ImportError as error:
        raise MissingDependencyError(
            f'Call(front_end="{which}"): {error}. '
            'The front ends are "core" and, with pip install "graph-voice[livekit]", "livekit".'
        ) from error
    return made
