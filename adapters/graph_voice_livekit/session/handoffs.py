"""Who has the floor in LiveKit: the graph's agents as they come and go, and agents that are not the graph's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from livekit.agents import Agent

from graph_voice import events, history
from graph_voice_livekit.session.external import Outsiders, OutsideTalk
from graph_voice_livekit.session.resume import Comeback
from graph_voice_livekit.session.turns import TurnDriver

if TYPE_CHECKING:
    from graph_voice_livekit.agent import NodeAgent
    from graph_voice_livekit.session.bridge import Bridge

__all__ = ["Floor"]


class Floor:
    """The floor of one call.

    Args:
        bridge: of the call.
        make_agent: makes the LiveKit agent of a graph's agent.
        outsiders: the agents that are not the graph's.
        arriving: what an agent of the graph is shown when it takes the floor from such an agent.
        comeback: takes up a call that another process had begun.
    """

    def __init__(
        self,
        bridge: "Bridge",
        make_agent: Callable[[str], "NodeAgent"],
        outsiders: Outsiders,
        arriving: history.Operation | None,
        comeback: Comeback,
    ) -> None:
        self._bridge = bridge
        self._conversation = bridge.conversation
        self._make_agent = make_agent
        self._outsiders = outsiders
        self._arriving = arriving
        self._comeback = comeback
        self._outside = OutsideTalk()
        self._came_from: str | None = None
        """Who had the floor before the graph's agent that has it now, when that was no agent of the graph."""
        self._entering_outside: TurnDriver | None = None
        """The turn that is handing the floor to an agent that is not the graph's."""
        self.agent: str | None = None
        """The graph's agent that has the floor in LiveKit."""

    # ---- an agent of the graph

    async def entered(self, agent: "NodeAgent") -> bool:
        """A LiveKit agent of this graph has taken the floor: let it speak its first words.

        Returns False when it has not, in the eyes of the caller: the call is taken up where another agent had it.
        """
        bridge, name = self._bridge, agent.id
        first = not bridge.bound
        if first:
            bridge.bind(agent.session)
            bridge.recovery.begin(agent)
            self._came_from = self._take_over()
        await self._comeback.ready()
        if first and (active := self._comeback.moves_to(name)) is not None:
            self.agent = name
            bridge.background(self._comeback.move(self.make(active)))
            return False
        came_from, self._came_from = self._came_from, None
        self.agent = name
        driver, agent.turn = agent.turn, None
        first_words = agent.first_instructions
        if driver is not None and driver.entry == name:
            self.confirm(driver, name)
            driver.cancel_entry()
            if driver.turn.interrupted:
                await self._entered_after_words(driver)
                return True
        else:
            if name in bridge.agents and (came_from is not None or self._conversation.active_agent != name):
                policy = agent.arriving or (self._arriving if came_from is not None else None)
                await self._conversation.update_agent(name, policy, old=came_from)
                await agent.show(self._conversation.chat_ctx)
            if self._comeback.found:
                await agent.show(self._conversation.chat_ctx)
                if (turn := self._comeback.begin()) is None:
                    return True
                driver = bridge.drive(turn)
                bridge.background(self._comeback.ask_behind(driver))
                first_words = lambda: turn.instructions  # noqa: E731
            else:
                if first and came_from is None:
                    if not agent.definition_enters:
                        return True  # as in LiveKit: without an on_enter the first agent waits for the caller
                    if self._conversation.messages:
                        return True  # a call that has begun has been greeted
                driver = bridge.drive(self._conversation.enter())
        driver.arrived.clear()
        bridge.speak(driver, first_words())
        self._conversation.tell_late()
        bridge.background(self._show(agent, driver))
        bridge.recovery.answer_behind(driver)
        return True

    async def _entered_after_words(self, driver: TurnDriver) -> None:
        """The caller has interrupted the turn that led here: it goes no further. What they say is answered now."""
        bridge = self._bridge
        await driver.turn.wait_finished()  # only then the graph has written who has the floor
        driver.maybe_close()
        if (lost := bridge.recovery.take()) is None:
            bridge.speak(bridge.drive(self._conversation.enter()))
        else:
            bridge.recovery.answer(lost)

    async def _show(self, agent: "NodeAgent", driver: TurnDriver) -> None:
        # What the handoff carries is in the state once the graph has come to the new agent.
        await driver.arrived.wait()
        if self.agent == agent.id:
            await agent.show(self._conversation.chat_ctx)

    async def leaving(self) -> None:
        """The LiveKit agent that has the floor begins to hand over."""
        self._bridge.recovery.leaving()
        driver = self._entering_outside
        if driver is not None and driver.entry is not None and driver.entry in self._outsiders:
            # The floor certainly changes. As in LiveKit the old agent's `on_exit` is over before the new one enters,
            # and what it wrote is in the session's userdata.
            self.confirm(driver, driver.entry)
            await driver.turn.wait_finished()
            self._bridge.userdata.give()

    # ---- it changes

    def changed(self, agent: Agent, name: str) -> None:
        """LiveKit has given the floor to `name`. `agent`: LiveKit's current one."""
        # Another switch may be queued behind this one already; then the name is all there is to go by.
        certain = agent.id == name
        ours = getattr(agent, "bridge", None) is self._bridge if certain else name in self._bridge.agents
        if ours:
            self._came_from = self._take_over()
        self.agent = name if ours else None
        self._comeback.moving = False
        if not ours:
            self._leave(agent if certain else None)
        self._bridge.recovery.floor_changed(agent, ours=ours)
        turn = getattr(agent, "turn", None)
        if isinstance(turn, TurnDriver) and turn.entry == name:
            self.confirm(turn, name)

    def confirm(self, driver: TurnDriver, name: str) -> None:
        """The handoff of this turn to this agent has happened."""
        for batch in reversed(driver.batches):
            if batch.handoff is not None and batch.handoff.new_agent == name:
                driver.turn.confirm_handoff(batch.handoff.call_id)
                return
        driver.turn.confirm_handoff(driver.switch.call_id if driver.switch is not None else None)

    def make(self, name: str) -> Agent:
        """The LiveKit agent of this name."""
        return self._outsiders.make(name) if name in self._outsiders else self._make_agent(name)

    async def next_agent(self, driver: TurnDriver, event: events.HandedOff) -> Agent:
        """The LiveKit agent that takes the floor; if it is the graph's it goes on with this turn."""
        if event.new_agent in self._outsiders:
            self._entering_outside = driver
            return await self._outsiders.show(self._outsiders.make(event.new_agent), event.shown)
        agent = self._make_agent(event.new_agent)
        agent.turn = driver
        return agent

    # ---- an agent that is not the graph's

    def _take_over(self) -> str | None:
        """An agent of the graph takes the floor. Returns who had it, when that is no agent of the graph."""
        spoken = self._bridge.session.history
        taken = [i for i in spoken.items if i.type == "agent_handoff"]
        old = taken[-1].old_agent_id if taken else None
        if old is not None and not self._outside.running and self.agent is None:
            self._outside.begin(spoken, all_of_it=True)  # it had it before the graph came into the call
        if not self._outside.running:
            return None
        self.listen()
        self._outside.end()
        active = self._conversation.active_agent
        return active if active in self._outsiders else old

    @property
    def is_outside(self) -> bool:
        """An agent that is not the graph's has the floor."""
        return self._outside.running

    def listen(self) -> None:
        """Remember what was said while an agent that is not the graph's has the floor."""
        for message, at in self._outside.news(self._bridge.session.history):
            self._conversation.add(message, at=at)

    def _leave(self, agent: Agent | None) -> None:
        """An agent that is not the graph's has the floor."""
        self._outside.begin(self._bridge.session.history)
        name = self._outsiders.name_of(agent) if agent is not None else None
        driver, self._entering_outside = self._entering_outside, None
        if driver is not None and driver.entry is not None and driver.entry == name:
            self.confirm(driver, name)
            driver.cancel_entry()
            driver.maybe_close()
        elif name is not None and self._conversation.active_agent != name:
            self._bridge.background(self._conversation.update_agent(name))
