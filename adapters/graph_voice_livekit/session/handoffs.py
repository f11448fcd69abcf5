"""Who has the floor in LiveKit: the graph's agents as they come and go, and agents that are not the graph's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from livekit.agents import Agent

from graph_voice import events, history
from graph_voice_livekit.session.external import ExternalAgents, ExternalTalk
from graph_voice_livekit.session.resume import Resume
from graph_voice_livekit.session.turns import TurnDriver

if TYPE_CHECKING:
    from graph_voice_livekit.agent import NodeAgent
    from graph_voice_livekit.session.bridge import Bridge

__all__ = ["Handoffs"]


class Handoffs:
    """The floor of one call.

    Args:
        bridge: of the call.
        make_agent: makes the LiveKit agent of a graph's agent.
        external_agents: the agents that are not the graph's.
        arriving: what an agent of the graph is shown when it takes the floor from such an agent.
        resume: takes up a call that another process had begun.
    """

    def __init__(
        self,
        bridge: "Bridge",
        make_agent: Callable[[str], "NodeAgent"],
        external_agents: ExternalAgents,
        arriving: history.Operation | None,
        resume: Resume,
    ) -> None:
        self._bridge = bridge
        self._conversation = bridge.conversation
        self._make_agent = make_agent
        self._external_agents = external_agents
        self._arriving = arriving
        self._resume = resume
        self._external_talk = ExternalTalk()
        self._came_from: str | None = None
        """Who had the floor before the graph's agent that has it now, when that was no agent of the graph."""
        self._entering_external: TurnDriver | None = None
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
        await self._resume.ready()
        if first and (active := self._resume.moves_to(name)) is not None:
            self.agent = name
            bridge.background(self._resume.move(self.make(active)))
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
            if self._resume.found:
                await agent.show(self._conversation.chat_ctx)
                if (turn := self._resume.begin()) is None:
                    return True
                driver = bridge.drive(turn)
                bridge.background(self._resume.ask_behind(driver))
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
        driver = self._entering_external
        if driver is not None and driver.entry is not None and driver.entry in self._external_agents:
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
        self._resume.moving = False
        if not ours:
            self._leave(agent if certain else None)
        self._bridge.recovery.active_agent_changed(agent, ours=ours)
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
        return self._external_agents.make(name) if name in self._external_agents else self._make_agent(name)

    async def next_agent(self, driver: TurnDriver, event: events.HandedOff) -> Agent:
        """The LiveKit agent that takes the floor; if it is the graph's it goes on with this turn."""
        if event.new_agent in self._external_agents:
            self._entering_external = driver
            return await self._external_agents.show(self._external_agents.make(event.new_agent), event.shown)
        agent = self._make_agent(event.new_agent)
        agent.turn = driver
        return agent

    # ---- an agent that is not the graph's

    def _take_over(self) -> str | None:
        """An agent of the graph takes the floor. Returns who had it, when that is no agent of the graph."""
        spoken = self._bridge.session.history
        taken = [i for i in spoken.items if i.type == "agent_handoff"]
        old = taken[-1].old_agent_id if taken else None
        if old is not None and not self._external_talk.running and self.agent is None:
            self._external_talk.begin(spoken, all_of_it=True)  # it had it before the graph came into the call
        if not self._external_talk.running:
            return None
        self.listen()
        self._external_talk.end()
        active = self._conversation.active_agent
        return active if active in self._external_agents else old

    @property
    def is_external(self) -> bool:
        """An agent that is not the graph's has the floor."""
        return self._external_talk.running

    def listen(self) -> None:
        """Remember what was said while an agent that is not the graph's has the floor."""
        for message, at in self._external_talk.news(self._bridge.session.history):
            self._conversation.add(message, at=at)

    def _leave(self, agent: Agent | None) -> None:
        """An agent that is not the graph's has the floor."""
        self._external_talk.begin(self._bridge.session.history)
        name = self._external_agents.name_of(agent) if agent is not None else None
        driver, self._entering_external = self._entering_external, None
        if driver is not None and driver.entry is not None and driver.entry == name:
            self.confirm(driver, name)
            driver.cancel_entry()
            driver.maybe_close()
        elif name is not None and self._conversation.active_agent != name:
            self._bridge.background(self._conversation.update_agent(name))
