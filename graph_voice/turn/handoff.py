"""A handoff in progress: from the graph's announcement until the new agent is asked, or until it did not happen."""

import asyncio
from collections.abc import Iterator
from enum import Enum

from graph_voice.events import HandedOff

__all__ = ["HandoffInProgress", "HandoffState", "Handoffs"]


class HandoffState(Enum):
    """How far a handoff is.

    ```
    ANNOUNCED --confirm--> CERTAIN --the graph has written it--> ENTERED
        |
        +------reject----> REJECTED
    ```
    """

    ANNOUNCED = "announced"
    """The graph hands off. The front end has not decided yet; the new agent's model may run ahead."""
    CERTAIN = "certain"
    """The active agent has really changed. The old agent's `on_exit` may still run."""
    ENTERED = "entered"
    """The graph has written it as well: from now on the new agent is asked."""
    REJECTED = "rejected"
    """It did not happen: the old agent stays active."""


class HandoffInProgress:
    """One handoff of one turn: who asked for it, how far it is, and why it did not happen.

    Args:
        event: what the front end is told of it.
    """

    def __init__(self, event: HandedOff) -> None:
        self.event = event
        self.happened: bool | None = None
        """What the front end has decided; None while it has not."""
        self.order = 0
        """The sequence number of the decision in the call."""
        self.reason = ""
        """Why it did not happen."""
        self.written = False
        """Whether the graph has written it. A graph that runs ahead may have written it before the decision."""
        self.run_is_over = False
        """Whether the graph run is over, which will write nothing any more."""
        self._moved = asyncio.Event()

    @property
    def state(self) -> HandoffState:
        if self.happened is None:
            return HandoffState.ANNOUNCED
        if not self.happened:
            return HandoffState.REJECTED
        return HandoffState.ENTERED if self.written else HandoffState.CERTAIN

    def decide(self, order: int, *, happened: bool, reason: str = "") -> None:
        """The front end has decided.

        Args:
            order: the sequence number of the decision in the call.
            happened: whether the active agent has changed.
            reason: why not.
        """
        self.happened, self.order, self.reason = happened, order, reason
        self._moved.set()

    def write(self) -> None:
        """The graph has written it."""
        self.written = True
        self._moved.set()

    async def decided(self) -> bool:
        """Wait until the front end has decided; it does so at the latest when it closes the turn. Did it happen?

        An interruption decides nothing: the active agent may already be changing when it comes.
        """
        while self.happened is None:
            self._moved.clear()
            await self._moved.wait()
        return self.happened

    def end(self) -> None:
        """The graph run is over."""
        self.run_is_over = True
        self._moved.set()

    async def entered(self) -> None:
        """Wait until the graph has written it, or will not write it any more."""
        while not (self.written or self.run_is_over):
            self._moved.clear()
            await self._moved.wait()

    def __repr__(self) -> str:
        asked = f" by {self.event.call_id}" if self.event.call_id is not None else ""
        return f"<{self.event.old_agent} -> {self.event.new_agent}{asked}: {self.state.value}>"


class Handoffs:
    """The handoffs of one turn, in the order in which the graph announced them."""

    def __init__(self) -> None:
        self._all: list[HandoffInProgress] = []

    def announce(self, event: HandedOff) -> HandoffInProgress:
        handoff = HandoffInProgress(event)
        self._all.append(handoff)
        return handoff

    def __iter__(self) -> Iterator[HandoffInProgress]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def of(self, event: HandedOff) -> HandoffInProgress:
        """The handoff that this event announced."""
        return next(handoff for handoff in self._all if handoff.event is event)

    def asked_by(self, call_id: str | None) -> list[HandoffInProgress]:
        """The handoffs that this tool call asked for; with None, those by an edge of the graph."""
        return [handoff for handoff in self._all if handoff.event.call_id == call_id]

    def to_decide(self, call_id: str | None) -> HandoffInProgress | None:
        """The one that a decision on this tool call is about: the oldest one that is undecided, else the last one."""
        found = self.asked_by(call_id)
        return next((handoff for handoff in found if handoff.happened is None), found[-1] if found else None)

    def to_write(self, call_id: str | None, new_agent: str) -> HandoffInProgress | None:
        """The one that an update of the state carries out: the oldest one to this agent that is not written yet."""
        return next((h for h in self.asked_by(call_id) if h.event.new_agent == new_agent and not h.written), None)

    def was_rejected(self, call_id: str) -> bool:
        """Whether this tool call's handoff did not happen."""
        return any(handoff.happened is False for handoff in self.asked_by(call_id))

    @property
    def undecided(self) -> list[HandoffInProgress]:
        return [handoff for handoff in self._all if handoff.happened is None]

    @property
    def leaving(self) -> HandoffInProgress | None:
        """One that has happened but is not written yet: the old agent's `on_exit` still runs, or the new agent's
        context is still being made."""
        found = (handoff for handoff in self._all if handoff.state is HandoffState.CERTAIN)
        return next((handoff for handoff in found if not handoff.run_is_over), None)

    @property
    def all_happened(self) -> bool:
        return all(handoff.happened for handoff in self._all)

    @property
    def new_agent(self) -> str | None:
        """The agent that the graph has come to by them, confirmed or not; None if there were none."""
        return self._all[-1].event.new_agent if self._all else None

    async def decided(self) -> bool:
        """Wait until the front end has decided on each one so far. Did all of them happen?

        For what acts: the words of a model may run ahead of a handoff, an effect may not.
        """
        return all([await handoff.decided() for handoff in list(self._all)])
