"""Handoffs in LiveKit: which agent is active, one of the graph's or an external one, and how it became so."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from langchain_core.messages import BaseMessage
from livekit.agents import Agent, AgentSession
from livekit.agents.voice import SpeechHandle

from graph_voice import history
from graph_voice_livekit.session.call import Call
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.external import ExternalTalk
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.session.live_tasks import LiveTasks
from graph_voice_livekit.session.recovery import Recovery
from graph_voice_livekit.session.resume import Resume

__all__ = ["EnteringAgent", "Handoffs", "MakeAgent"]

MakeAgent = Callable[[str, LiveHandoff | None], Agent]
"""Makes the LiveKit agent of a graph's agent: its name, and the handoff by which it becomes active."""


class EnteringAgent(Protocol):
    """What a handoff asks of the LiveKit agent of a graph's agent."""

    arriving: history.Operation | None
    """What the graph's agent is shown if the program makes it the active one; None: the call's default."""
    handoff: LiveHandoff | None
    """The handoff by which this agent becomes active, until it has entered."""

    @property
    def id(self) -> str: ...

    @property
    def session(self) -> AgentSession[Any]: ...

    @property
    def recognizer(self) -> object:
        """Its speech recognizer, if LiveKit may keep it across a handoff; else None."""

    entering: Driver | None
    """The turn in which the graph's agent enters by a method of its own, until that has ended."""

    @property
    def definition_enters(self) -> bool:
        """Whether the graph's agent has an `on_enter`."""

    @property
    def enters_by_method(self) -> bool:
        """Whether its `on_enter` is a method, which speaks by itself, or does not."""

    def first_instructions(self) -> str | None:
        """The instructions of the graph's `on_enter`, with the userdata as it is now."""

    async def show(self, messages: Sequence[BaseMessage]) -> None:
        """Make LiveKit's chat context what the graph shows the agent."""


class Handoffs:
    """The handoffs of one call: LiveKit's active agent and the graph's are kept the same.

    Args:
        call: the call.
        make_agent: makes the LiveKit agent of a graph's agent.
        arriving: what an agent of the graph is shown when an external agent hands off to it.
        resume: continues a call that another process has begun.
        recovery: answers what LiveKit dropped during a handoff.
        tasks: those that LiveKit's own tasks carry out.
    """

    def __init__(
        self,
        call: Call,
        make_agent: MakeAgent,
        arriving: history.Operation | None,
        resume: Resume,
        recovery: Recovery,
        tasks: LiveTasks,
    ) -> None:
        self._tasks = tasks
        self._call = call
        self._conversation = call.conversation
        self._make_agent = make_agent
        self._external_agents = call.external_agents
        self._arriving = arriving
        self._resume = resume
        self._recovery = recovery
        self._external_talk = ExternalTalk()
        self._came_from: str | None = None
        """The external agent that was active before the graph's agent that is active now; None if there was none."""
        self._to_external: LiveHandoff | None = None
        """The last handoff to an external agent: its LiveKit agent is not ours, and can't hold it."""
        self.active_agent: str | None = None
        """The graph's agent that is LiveKit's active agent; None while an external one is."""

    # ---- an agent of the graph

    async def entered(self, agent: EnteringAgent) -> bool:
        """A LiveKit agent of this graph has become the active one: let it speak its first words.

        Returns False if it does not speak, because another agent was active when this call was cut off.
        """
        call, name = self._call, agent.id
        first = not call.bound
        if first:
            call.bind(agent.session)
            self._recovery.begin(agent.recognizer)
            self._came_from = self._take_over()
        await self._resume.ready()
        if first and (active := self._resume.moves_to(name)) is not None:
            self.active_agent = name
            call.background(self._resume.move(self.make(active)))
            return False
        came_from, self._came_from = self._came_from, None
        self.active_agent = name
        handoff, agent.handoff = agent.handoff, None
        first_words, resumed = agent.first_instructions, False
        driver: Driver
        if handoff is not None and handoff.in_progress:
            handoff.enter()
            driver = handoff.driver
            if driver.turn.interrupted:
                await self._entered_after_words(driver)
                return True
        else:
            state = self._conversation.call.state
            if name in call.agents and (came_from is not None or state.next_active_agent != name):
                policy = agent.arriving or (self._arriving if came_from is not None else None)
                await state.update_agent(name, policy, old=came_from)
                await agent.show(self._conversation.chat_ctx)
            if self._resume.found:
                await agent.show(self._conversation.chat_ctx)
            if self._conversation.closed:
                return False  # the session has closed meanwhile
            if self._resume.found:
                if (turn := self._resume.begin()) is None:
                    return True
                driver = call.drive(turn)
                call.background(self._resume.ask_behind(driver))
                first_words, resumed = (lambda: self._resume.instructions), True
            else:
                if first and came_from is None:
                    if not agent.definition_enters:
                        return True  # as in LiveKit, the first agent waits for the caller if it has no on_enter
                    if self._conversation.messages:
                        return True  # a call that goes on from earlier messages needs no greeting
                driver = call.drive(self._conversation.enter())
        driver.arrived.clear()
        # An agent that gets the call back from a task does not enter: its tool call goes on, and can be interrupted.
        goes_on = handoff is not None and handoff.event.task == "end"
        if agent.enters_by_method and not resumed and not goes_on:
            agent.entering = driver
            driver.speak_when_there_are_words()
        else:
            call.speak(driver, first_words())
        self._conversation.call.tell_late()
        call.background(self._show(agent, driver))
        self._recovery.answer_behind(driver)
        return True

    async def waits(self, agent: EnteringAgent) -> bool:
        """LiveKit runs the external task that this agent of the graph stands for. Returns whether it may begin."""
        self.active_agent = agent.id
        self._came_from, self._resume.found = None, False
        handoff, agent.handoff = agent.handoff, None
        if handoff is not None and handoff.in_progress:
            handoff.enter()
            await handoff.driver.turn.wait_finished()  # only then the graph has written that it waits
            handoff.driver.maybe_close()
        return not self._conversation.closed

    async def _entered_after_words(self, driver: Driver) -> None:
        """The caller has interrupted the turn that handed off: end it, and answer what they say now."""
        call = self._call
        await driver.turn.wait_finished()  # only then the graph has written which agent is active
        driver.maybe_close()
        if self._conversation.closed:
            return  # the session has closed meanwhile
        if (lost := self._recovery.take()) is None:
            call.speak(call.drive(self._conversation.enter()))
        else:
            self._recovery.answer(lost)

    async def _show(self, agent: EnteringAgent, driver: Driver) -> None:
        # What the handoff carries is in the state once the graph has reached the new agent.
        await driver.arrived.wait()
        if self.active_agent == agent.id:
            await agent.show(self._conversation.chat_ctx)

    def returned(self, end: LiveHandoff) -> None:
        """A task has given the floor back: LiveKit's agent that has waited is active again, and does not enter anew."""
        agent: Any = self._call.session.current_agent
        if getattr(agent, "handoff", None) is end:
            agent.handoff = None
        end.driver.arrived.clear()
        end.enter()
        self._call.background(self._show(agent, end.driver))
        self._recovery.answer_behind(end.driver)

    async def leaving(self) -> None:
        """LiveKit's active agent begins to hand off."""
        self._recovery.leaving()
        handoff = self._to_external
        if handoff is not None and handoff.in_progress:
            # Nothing can stop this handoff any more. As in LiveKit, the old agent's `on_exit` is over before the new
            # agent enters, and what it wrote is in the session's userdata.
            handoff.confirm()
            await handoff.driver.turn.wait_finished()
            self._call.userdata.give()

    # ---- the active agent changes

    def changed(self, agent: Agent, name: str) -> None:
        """LiveKit has handed off to the agent `name`. `agent`: LiveKit's current agent.

        They differ if another handoff follows already; then only the name is known.
        """
        certain = agent.id == name
        internal = getattr(agent, "bridge", None) is self._call if certain else name in self._call.agents
        if internal:
            self._came_from = self._take_over()
        self.active_agent = name if internal else None
        self._tasks.changed(agent)
        self._resume.moving = False
        if not internal:
            self._leave(agent if certain else None)
        self._recovery.active_agent_changed(agent, external=not internal)
        handoff = getattr(agent, "handoff", None)
        if isinstance(handoff, LiveHandoff) and handoff.in_progress and handoff.new_agent == name:
            handoff.confirm()

    def make(self, name: str) -> Agent:
        """Make the LiveKit agent of this name."""
        return self._external_agents.make(name) if name in self._external_agents else self._make_agent(name, None)

    async def next_agent(self, handoff: LiveHandoff) -> Agent:
        """Make the LiveKit agent that becomes active. If it is the graph's, its first words continue the turn."""
        if handoff.new_agent in self._external_agents:
            self._to_external = handoff
            return await self._external_agents.show(self._external_agents.make(handoff.new_agent), handoff.event.shown)
        return self._make_agent(handoff.new_agent, handoff)

    # ---- handoffs that no mirror carries out: LiveKit follows by `session.update_agent`

    async def by_edge(self, handoff: LiveHandoff, speech: SpeechHandle | None, *, said: bool) -> None:
        """The graph changed agents without a tool. LiveKit follows when the old agent's words have been played.

        Args:
            handoff: the handoff.
            speech: the old agent's.
            said: whether it has words.
        """
        if handoff.driver.turn.state.happened and not (said and self._call.session.output.audio):
            # Nothing can be interrupted. LiveKit's `session.run()` waits for a handoff that begins within its speech.
            handoff.becomes_certain()
            await self._update_agent(handoff)
            return
        if handoff.completes:
            handoff.becomes_certain()

        async def follow() -> None:
            if speech is not None:
                await speech
            if speech is not None and speech.interrupted and not handoff.completes:
                self._reject(handoff)
            else:
                await self._update_agent(handoff)

        self._call.background(follow())

    def _reject(self, handoff: LiveHandoff) -> None:
        told = handoff.reject()
        if (resumed := self._call.tables.tool_calls.get(handoff.event.call_id or "")) is not None:
            resumed.tell_rejected(told)

    def complete(self, handoff: LiveHandoff) -> None:
        """The caller interrupted a handoff that is declared to complete: LiveKit canceled it, so carry it out."""
        handoff.becomes_certain()

        async def follow() -> None:
            for speech in handoff.driver.speeches:
                await speech
            await self._update_agent(handoff)

        self._call.background(follow())

    async def _update_agent(self, handoff: LiveHandoff) -> None:
        if self._tasks.give_back(handoff):
            return
        self._call.session.update_agent(await self.next_agent(handoff))

    # ---- external agents

    def _take_over(self) -> str | None:
        """An agent of the graph becomes active. Returns the external agent that was active before, if it was one."""
        spoken = self._call.session.history
        taken = [i for i in spoken.items if i.type == "agent_handoff"]
        old = taken[-1].old_agent_id if taken else None
        if old is not None and not self._external_talk.running and self.active_agent is None:
            self._external_talk.begin(spoken, all_of_it=True)  # it was active before the graph came into the call
        if not self._external_talk.running:
            return None
        self.listen()
        self._external_talk.end()
        active = self._conversation.active_agent
        return active if active in self._external_agents else old

    @property
    def is_external(self) -> bool:
        """Whether an external agent is LiveKit's active agent."""
        return self._external_talk.running

    def listen(self) -> None:
        """Remember what was said since an external agent became active."""
        for message, at in self._external_talk.news(self._call.session.history):
            self._conversation.add(message, at=at)

    def _leave(self, agent: Agent | None) -> None:
        """An external agent has become active."""
        self._external_talk.begin(self._call.session.history)
        name = self._external_agents.name_of(agent) if agent is not None else None
        handoff, self._to_external = self._to_external, None
        if handoff is not None and handoff.in_progress and handoff.new_agent == name:
            handoff.enter()
            handoff.driver.maybe_close()
        elif name is not None and self._conversation.active_agent != name:
            self._call.background(self._conversation.update_agent(name))
