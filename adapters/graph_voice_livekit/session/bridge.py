"""Connects one LiveKit session with one conversation: which speech drains which turn, and what became of it.

No private API is needed to tell which speech belongs to which turn. LiveKit emits `speech_created` synchronously,
before it makes the speech's task, so whatever that speech does sees a ContextVar that the handler has set. What was
played is matched by the `extra` that each chunk carries into the committed message, never by ids or text.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from livekit.agents import NOT_GIVEN, AgentSession, llm, utils
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.events import (
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    EventTypes,
    SpeechCreatedEvent,
    UserStateChangedEvent,
)

from graph_voice import Conversation, Turn, history
from graph_voice.call.durable import ResumeHook
from graph_voice.errors import SaverError
from graph_voice.graph.build import definition_of, runtime_of
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.state import TurnState
from graph_voice_livekit.convert.converters import said_by
from graph_voice_livekit.session.away import AwayHold
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.ending import CallEnd
from graph_voice_livekit.session.external import ExternalAgents
from graph_voice_livekit.session.external_tasks import ExternalTasks
from graph_voice_livekit.session.failures import Failures
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.session.handoffs import EnteringAgent, Handoffs, MakeAgent
from graph_voice_livekit.session.heard import split_heard
from graph_voice_livekit.session.host_tools import HostTools
from graph_voice_livekit.session.idle import Nudger
from graph_voice_livekit.session.live_tasks import LiveTasks, MakeTask
from graph_voice_livekit.session.mirrors import Mirrors
from graph_voice_livekit.session.open_question import OpenQuestion
from graph_voice_livekit.session.quiet import Announcer
from graph_voice_livekit.session.recovery import Recovery
from graph_voice_livekit.session.reply import EXTRA
from graph_voice_livekit.session.request import request_of
from graph_voice_livekit.session.resume import Resume
from graph_voice_livekit.session.shared_userdata import SharedUserdata
from graph_voice_livekit.session.tables import Tables
from graph_voice_livekit.session.tool_calls import ToolCalls
from graph_voice_livekit.session.turns import TurnDriver

__all__ = ["Bridge"]

logger = logging.getLogger("graph_voice.livekit")
PAUSE = 0.02
"""Seconds after a turn until the next one is prepared: what LiveKit still reports of the turn would change its past."""
FLUSH_TIMEOUT = 5.0
"""Seconds to wait until the end of a call is durable. LiveKit kills a job's process 10 seconds after it has begun to
shut down (`shutdown_process_timeout`)."""
_speech: ContextVar[SpeechHandle | None] = ContextVar("graph_voice_speech", default=None)


class Bridge:
    """One call. `GraphAgent` makes it, and its first agent binds it to the session on entering."""

    def __init__(
        self,
        conversation: Conversation[Any],
        make_agent: MakeAgent,
        make_task: MakeTask,
        external_agents: ExternalAgents,
        external_tasks: ExternalTasks,
        arriving: history.Operation | None,
        on_resume: ResumeHook = None,
    ) -> None:
        self.conversation = conversation
        self.userdata = SharedUserdata(conversation)
        self.external_agents = external_agents
        self.external_tasks = external_tasks
        conversation.call.front_end_tasks = external_tasks.names
        self.agents = conversation.call.roles.agents
        self.tables = Tables()
        self.failures = Failures()
        self._away = AwayHold(self)
        self.host_tools = HostTools(self._toolset_of)
        conversation.call.offers = self.host_tools.offered
        self._session: AgentSession[Any] | None = None
        self._expecting: asyncio.TimerHandle | None = None
        self._told: frozenset[str | None] = frozenset()
        """Ids of the messages from before this call."""
        self._drivers: set[Driver] = set()
        self._by_speech: dict[SpeechHandle, Driver] = {}
        self._users: dict[str, Driver] = {}
        self.recovery = Recovery(self)
        self._next: Driver | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = CallEnd(self._over)
        self._announcer = Announcer(self)
        self._nudger = Nudger(self)
        self._open_question = OpenQuestion(conversation, self._say)
        self.resume = Resume(self, on_resume, self._open_question)
        tasks = LiveTasks(self, make_task)
        self.handoffs = Handoffs(self, make_agent, arriving, self.resume, self.recovery, tasks)
        self._tool_calls = ToolCalls(self.tables, self.handoffs, tasks, self.host_tools.runs)
        self.mirrors = Mirrors(self._tool_calls.execute)

    @property
    def session(self) -> AgentSession[Any]:
        assert self._session is not None, "the graph's first agent has not entered the session yet"
        return self._session

    @property
    def bound(self) -> bool:
        """Whether the graph's first agent has entered the session."""
        return self._session is not None

    @property
    def active_agent(self) -> str | None:
        """The agent of the graph that is LiveKit's active agent; None while an external agent is."""
        return self.handoffs.active_agent

    @property
    def is_external(self) -> bool:
        """Whether an external agent is LiveKit's active agent."""
        return self.handoffs.is_external

    def complete_handoff(self, handoff: LiveHandoff) -> None:
        """Carry out a handoff that LiveKit has canceled, or was too late for."""
        self.handoffs.complete(handoff)

    async def run_task(self, agent: EnteringAgent) -> None:
        """Let LiveKit run the external task that this agent stands for, then go on behind it."""
        if not await self.handoffs.waits(agent):
            return
        if (ended := await self.external_tasks.run(agent.id, self.conversation)) is None:
            return
        result, error = ended
        self.userdata.take()
        if (turn := self.conversation.end_task(agent.id, result, error=error)) is not None:
            self.speak(self.drive(turn))

    # ---- turns

    @property
    def busy(self) -> Driver | None:
        """A committed turn that LiveKit has not finished speaking; None if there is none."""
        # A turn that is not committed does not count: LiveKit may keep a reply to a wrong guess until the next turn.
        return next((driver for driver in self._drivers if driver.turn.state.happened), None)

    def speak(self, driver: Driver, instructions: str | None = None) -> None:
        """Ask LiveKit for a reply that continues this turn. `instructions`: the graph's, for LiveKit's traces."""
        self._next = driver
        try:
            self.session.generate_reply(instructions=instructions or NOT_GIVEN)
        except RuntimeError as error:  # the session closes
            logger.debug("an agent's first words were dropped: %s", error)
            driver.maybe_close()
        finally:
            self._next = None

    async def switch_by_edge(self, handoff: LiveHandoff, *, said: bool) -> None:
        """The graph changed agents without a tool. `said`: whether this reply has words."""
        await self.handoffs.by_edge(handoff, _speech.get(), said=said)

    # ---- replies

    def driver_for_reply(
        self, chat_ctx: llm.ChatContext, own: llm.ChatContext, *, tools: frozenset[str] | None, tool_choice: str | None
    ) -> Driver | None:
        """The turn that this reply drains: the one that its speech drains already, or a new one; None: it says nothing.

        Args:
            chat_ctx: what LiveKit would show a model.
            own: the agent's own chat context.
            tools: the tools that this reply may use; None: all.
            tool_choice: "none", "required", or the name of a tool; None: the model decides.
        """
        speech = _speech.get()
        if speech is None or self.conversation.closed:
            return None  # nobody asks, or the graph's side of the call is over: nobody answers any more
        if (known := self._by_speech.get(speech)) is not None:
            return known
        if self.resume.moving or any(driver.completes for driver in self._drivers):
            return None  # the next agent answers when it is active
        asked = request_of(chat_ctx, own, self._is_known)
        user = asked.user
        self.userdata.take()
        driver = self.drive(
            self.conversation.turn(
                None if user is None else said_by(user),
                message_id=None if user is None else user.id,
                instructions=asked.instructions,
                options=ReplyOptions(None if asked.shown is None else tuple(asked.shown), tools, tool_choice),
                modality=speech.input_details.modality,
            )
        )
        if user is not None:
            self._users[user.id] = driver
        self.attach(driver, speech)
        return driver

    def drive(self, turn: Turn) -> Driver:
        driver = TurnDriver(self, turn)
        self._drivers.add(driver)
        return driver

    def attach(self, driver: Driver, speech: SpeechHandle) -> None:
        """A LiveKit speech drains this turn from now on."""
        self._by_speech[speech] = driver
        speech.add_done_callback(self._speech_ended)
        driver.attach(speech)

    def _speech_ended(self, speech: SpeechHandle) -> None:
        self._by_speech.pop(speech, None)

    def _is_known(self, message: llm.ChatMessage) -> bool:
        """Whether this message was committed already, or is from before this call."""
        if message.id in self._told:
            return True
        # LiveKit keeps its items in the order of time, so a look at the last ones is enough.
        later = itertools.takewhile(lambda i: i.created_at >= message.created_at, reversed(self.session.history.items))
        return any(item.id == message.id for item in later)

    def forget(self, driver: Driver) -> None:
        """This turn is over."""
        self._drivers.discard(driver)
        for key in [k for k, v in self._users.items() if v is driver]:
            del self._users[key]
        self.tables.forget(driver)
        self.failures.over(driver)
        self.userdata.give()
        if not self._drivers:
            self._expecting = asyncio.get_running_loop().call_later(PAUSE, self._prepare)

    def hang_up(self) -> None:
        """A tool has ended the call (`ctx.end_call`), and what was to be said was said."""
        if self._session is not None:
            self._session.shutdown(drain=True)

    def _toolset_of(self, agent: str, tool: str) -> str | None:
        runtime = runtime_of(self.conversation.graph, agent)
        return None if runtime is None else runtime.tools.toolset_of.get(tool)

    def _prepare(self) -> None:
        """Make now, while nobody waits, what a handoff in the next turn needs."""
        for name in self.agents:
            if (definition := definition_of(self.conversation.graph, name)) is not None:
                self.mirrors.of(definition.all_tools)

    # ---- the session's events

    def bind(self, session: AgentSession[Any]) -> None:
        """The call is this session's from now on."""
        self._session = session
        self.host_tools.bind(session.tools)
        self.conversation.call.modality = "text" if session.input.audio is None else "audio"
        self._told = frozenset(m.id for m in self.conversation.messages)
        self.conversation.call.on_late_result = self._announcer.wanted
        self.conversation.call.state.on_answered = self._tool_calls.answered_outside
        for event, handler in self._handlers().items():
            session.on(event, handler)
        self._end.bind(session)
        self.userdata.bind(session)
        self._nudger.begin()

    def _handlers(self) -> "dict[EventTypes, Callable[[Any], None]]":
        return {
            "speech_created": self._on_speech_created,
            "conversation_item_added": self._on_item_added,
            "function_tools_executed": self._tool_calls.executed,
            "tool_execution_updated": self._tool_calls.updated,
            "user_input_transcribed": self.recovery.transcribed,
            "agent_state_changed": self._on_agent_state_changed,
            "user_state_changed": self._on_user_state_changed,
        }

    def _on_agent_state_changed(self, event: AgentStateChangedEvent) -> None:
        self.recovery.agent_state_changed(event)
        self._away.state_changed(event)
        self._nudger.state_changed()

    def _on_user_state_changed(self, event: UserStateChangedEvent) -> None:
        self._away.state_changed(event)
        self.recovery.user_state_changed(event)
        self._open_question.user_state_changed(event)
        self._nudger.state_changed()

    def _say(self, text: str) -> None:
        with contextlib.suppress(RuntimeError):  # the session closes
            self.session.say(text)

    def _on_speech_created(self, event: SpeechCreatedEvent) -> None:
        _speech.set(event.speech_handle)
        if self._next is not None and event.source == "generate_reply":
            driver, self._next = self._next, None
            self.attach(driver, event.speech_handle)

    def _on_item_added(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type == "agent_handoff":
            self.handoffs.changed(self.session.current_agent, item.new_agent_id)
        elif item.type == "message" and item.role == "user":
            self.recovery.claimed(item)
            said = said_by(item)
            if (driver := self._users.pop(item.id, None)) is not None and driver.turn.state is not TurnState.DISCARDED:
                driver.commit(said, at=item.created_at)
                _user_spoke(driver.turn, item)
                self._redact(item)
            elif self.is_external:
                self.handoffs.listen()
            elif said:
                self.conversation.add(HumanMessage(said, id=item.id), at=item.created_at)
        elif item.type == "message" and item.role == "assistant":
            self._on_played(item)
            self._hide(item)

    def _redact(self, item: llm.ChatMessage) -> None:
        """Redact in LiveKit's history the same words of the caller that the graph redacts."""
        if self.conversation.call.roles.takers:
            parts = ((c, HumanMessage(c)) if isinstance(c, str) else (c, None) for c in item.content)
            item.content = [c if said is None else self.conversation.call.redact(said).text for c, said in parts]

    def _hide(self, item: llm.ChatMessage) -> None:
        """Leave out of LiveKit's history what the graph leaves out of an agent's words."""
        if not self.conversation.call.roles.takers:
            return
        hide = self.conversation.call.without_secrets
        shown = [hide(part) if isinstance(part, str) else part for part in item.content]
        if shown != item.content:
            item.content = shown

    def _on_played(self, item: llm.ChatMessage) -> None:
        mark = item.extra.get(EXTRA)
        text = item.text_content or ""
        if isinstance(mark, dict):
            found = self.tables.replies.pop(mark["reply"], None)
            if found is not None:
                turn = found.driver.turn
                self.failures.spoke(found.driver)
                turn.commit(said=False)
                _agent_spoke(turn, item, found.spoken)
                parts = split_heard(found.spoken, text, interrupted=item.interrupted)
                last = next((key for key in reversed(parts) if parts[key]), None)
                for message_id, heard in parts.items():
                    cut = item.interrupted and (message_id == last or not heard)
                    turn.heard(message_id, heard, at=item.created_at, interrupted=cut)
        elif self.is_external:
            self.handoffs.listen()
        elif _speech.get() not in self.tables.own_lines and text:
            # The program said it by `session.say`.
            self.conversation.add(AIMessage(text, id=item.id, name=self.active_agent), at=item.created_at)

    async def aclose(self) -> None:
        """End the call: close the session, let running tools finish, let the active agent leave."""
        await self._end.aclose()

    async def _over(self, reason: str) -> None:
        """End the graph's side: the session has closed, and nothing more is played."""
        session = self._session
        if session is not None:
            self.handoffs.listen()
        for driver in list(self._drivers):
            await driver.aclose()
        try:
            await self.conversation.aclose(reason, flush_timeout=FLUSH_TIMEOUT)
        except SaverError as error:
            logger.error("call %s: the durable copy lacks its end: %s", self.conversation.thread_id, error)
        await utils.aio.cancel_and_wait(*self._tasks)
        if self._expecting is not None:
            self._expecting.cancel()
        for driver in list(self._drivers):
            await driver.aclose()
        if session is not None:
            for event, handler in self._handlers().items():
                session.off(event, handler)

    def background(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run this as a task of the call; it is canceled when the call ends."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _user_spoke(turn: Turn, item: llm.ChatMessage) -> None:
    """Tell the turn, for its trace, what LiveKit has measured of the caller's message."""
    turn.measured(
        end_of_turn_delay=item.metrics.get("end_of_turn_delay"),
        transcription_delay=item.metrics.get("transcription_delay"),
    )


def _agent_spoke(turn: Turn, item: llm.ChatMessage, spoken: list[tuple[str, str]]) -> None:
    """Tell the turn, for its trace, what LiveKit has measured of a reply that spoke these messages."""
    began = item.metrics.get("started_speaking_at")
    if began is None or "tts_node_ttfb" not in item.metrics:
        return  # in a text call LiveKit takes a reply as spoken as soon as it is shown
    turn.measured(
        message_id=next((message_id for message_id, _ in spoken if turn.record.spoken(message_id) is not None), None),
        started_speaking_at=began,
        stopped_speaking_at=item.metrics.get("stopped_speaking_at"),
        response_delay=item.metrics.get("e2e_latency"),
    )
