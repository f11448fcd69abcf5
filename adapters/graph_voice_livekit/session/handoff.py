"""One handoff of the graph, as LiveKit carries it out: whoever wants to know how far it is asks this object."""

from collections.abc import Callable
from enum import Enum

from langchain_core.messages import ToolMessage

from graph_voice import events
from graph_voice_livekit.session.driver import Driver

__all__ = ["NO_HANDOFF", "LiveHandoff", "LiveHandoffState"]

NO_HANDOFF = "the agent handoff was interrupted and did not happen"
"""LiveKit's words for the same case."""


class LiveHandoffState(Enum):
    """How far LiveKit is with a handoff.

    ```
    ANNOUNCED --> CERTAIN --> ENTERED
        |            ^
        +--> DROPPED-+  (declared to complete: carried out although LiveKit has canceled it)
    ```
    """

    ANNOUNCED = "announced"
    """The graph has handed off. An interruption now cancels it."""
    CERTAIN = "certain"
    """LiveKit carries it out, even if it is interrupted now."""
    ENTERED = "entered"
    """The new agent is LiveKit's active agent, and continues the turn."""
    DROPPED = "dropped"
    """It did not happen."""


class LiveHandoff:
    """A handoff that a tool of the graph, a declared transfer or an edge has asked for.

    Its mirror returns the next agent if a tool call asked for it; otherwise `session.update_agent` carries it out.

    Args:
        event: what the graph has announced.
        driver: of the turn that hands off.
    """

    def __init__(self, event: events.HandedOff, driver: Driver) -> None:
        self.event = event
        self.driver = driver
        self.state = LiveHandoffState.ANNOUNCED
        self.tell: Callable[[ToolMessage | None], None] | None = None
        """Puts the answer of its tool call into LiveKit's history, which has another one already."""
        self.told: ToolMessage | None = None
        """What its tool call was answered with when it had turned out not to happen."""

    @property
    def new_agent(self) -> str:
        return self.event.new_agent

    @property
    def completes(self) -> bool:
        """Whether it is declared to take place although the caller interrupts."""
        return self.event.on_interruption == "complete"

    @property
    def in_progress(self) -> bool:
        """Whether the new agent has still to enter."""
        return self.state in (LiveHandoffState.ANNOUNCED, LiveHandoffState.CERTAIN)

    def becomes_certain(self) -> None:
        """LiveKit carries it out whatever comes. One to a task may be over long before LiveKit says so."""
        if self.state is not LiveHandoffState.ENTERED:
            self.state = LiveHandoffState.CERTAIN

    def confirm(self) -> None:
        """LiveKit's active agent has changed: tell the graph."""
        self.driver.turn.confirm_handoff(self.event.call_id)

    def enter(self) -> None:
        """The new agent is active, and what the turn says from now on is its own."""
        self.confirm()
        self.state = LiveHandoffState.ENTERED

    def drop(self) -> None:
        """It does not happen. The graph is told when the turn is closed, or by `reject`."""
        if self.in_progress:
            self.state = LiveHandoffState.DROPPED

    def reject(self, reason: str = NO_HANDOFF) -> ToolMessage | None:
        """It does not happen: tell the graph, and end the turn if nothing else is to come.

        Returns what the tool call that asked for it is answered with: a tool that acted keeps its own words.
        """
        told = self.told = self.driver.turn.reject_handoff(self.event.call_id, reason)
        self.drop()
        self.driver.maybe_close()
        return told

    def end(self) -> None:
        """The session is over: what has not happened by now does not."""
        if self.in_progress and self.driver.turn.record.handoffs.of(self.event).happened is None:
            self.told = self.driver.turn.reject_handoff(self.event.call_id, NO_HANDOFF)
            if self.tell is not None:
                self.tell(self.told)
        self.drop()

    def __repr__(self) -> str:
        return f"<{self.event.old_agent} -> {self.event.new_agent}: {self.state.value}>"
