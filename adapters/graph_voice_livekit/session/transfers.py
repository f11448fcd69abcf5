"""Handoffs that no tool of LiveKit's carries out: LiveKit follows the graph by `session.update_agent`."""

from typing import TYPE_CHECKING

from livekit.agents.voice import SpeechHandle

from graph_voice import events
from graph_voice_livekit.session.turns import NO_HANDOFF, TurnDriver

if TYPE_CHECKING:
    from graph_voice_livekit.session.bridge import Bridge

__all__ = ["Transfers"]


class Transfers:
    """The handoffs of one call in which the floor changes behind the graph."""

    def __init__(self, bridge: "Bridge") -> None:
        self._bridge = bridge

    def by_edge(self, driver: TurnDriver, event: events.HandedOff, speech: SpeechHandle | None) -> None:
        """The graph changed agents without a tool: LiveKit follows when the old agent's words have been played."""

        driver.switch = event
        driver.entry_is_certain = event.on_interruption == "complete"

        async def follow() -> None:
            if speech is not None:
                await speech
            if speech is not None and speech.interrupted and event.on_interruption == "cancel":
                self._reject(driver, event)
            else:
                await self._update_agent(driver, event)

        self._bridge.background(follow())

    def _reject(self, driver: TurnDriver, event: events.HandedOff) -> None:
        driver.turn.reject_handoff(event.call_id, NO_HANDOFF)
        item, resumed = driver.earlier.get(event.call_id or ""), driver.turn.resumes
        if item is not None and resumed is not None and (told := resumed.calls[item.call_id].result) is not None:
            item.output, item.is_error = told.text, True
        driver.cancel_entry()
        driver.maybe_close()

    def complete(self, driver: TurnDriver, event: events.HandedOff) -> None:
        """The caller interrupted a handoff that is declared to complete: LiveKit cancels it, the graph does not."""
        driver.entry, driver.entry_is_certain = event.new_agent, True

        async def follow() -> None:
            for speech in driver.speeches:
                await speech
            await self._update_agent(driver, event)

        self._bridge.background(follow())

    async def _update_agent(self, driver: TurnDriver, event: events.HandedOff) -> None:
        self._bridge.session.update_agent(await self._bridge.handoffs.next_agent(driver, event))
