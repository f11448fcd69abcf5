"""Between one LiveKit session and one conversation: which speech drains which turn, and what became of it.

Correlation needs no private API. `speech_created` is emitted synchronously, before the speech's task is made, so a
ContextVar set in its handler is seen by everything that speech does. What was played is matched by the `extra` that
travels with each chunk into the committed message, never by ids or text.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from livekit.agents import AgentSession, RunContext, ToolError, llm
from livekit.agents.llm import ToolResult
from livekit.agents.voice import SpeechHandle
from livekit.agents.voice.events import (
    CloseEvent,
    ConversationItemAddedEvent,
    FunctionToolsExecutedEvent,
    SpeechCreatedEvent,
)

from graph_voice import Conversation, Turn, events
from graph_voice.pairs import RUNNING
from graph_voice_livekit.driver import NO_HANDOFF, TurnDriver
from graph_voice_livekit.heard import split_heard
from graph_voice_livekit.lost_turns import LostTurns
from graph_voice_livekit.reply import EXTRA

if TYPE_CHECKING:
    from graph_voice_livekit.agent import NodeAgent

__all__ = ["Bridge"]

logger = logging.getLogger("graph_voice.livekit")
_speech: ContextVar[SpeechHandle | None] = ContextVar("graph_voice_speech", default=None)


class Bridge:
    """One call. Made by `GraphAgent`, bound to the session when its first agent enters."""

    def __init__(self, conversation: Conversation[Any], make_agent: Callable[[str], "NodeAgent"]) -> None:
        self.conversation = conversation
        self.agents = conversation.roles.agents
        self.floor: str | None = None
        """The graph's agent that has the floor in LiveKit."""
        self.calls: dict[str, TurnDriver] = {}
        self.replies: dict[str, tuple[TurnDriver, list[tuple[str, str]]]] = {}
        self.asking: dict[str, llm.FunctionCallOutput] = {}
        """LiveKit's items of the calls that wait for an answer of the caller (LangGraph's `interrupt()`)."""
        self.streams: dict[str, Any] = {}
        self.own_lines: set[SpeechHandle] = set()
        self._make_agent = make_agent
        self._session: AgentSession[Any] | None = None
        self._drivers: set[TurnDriver] = set()
        self._by_speech: dict[SpeechHandle, TurnDriver] = {}
        self._users: dict[str, TurnDriver] = {}
        self._lost = LostTurns()
        self._recovered: llm.ChatMessage | None = None
        """A user turn that LiveKit dropped while the floor changed; answered after the new agent's first words."""
        self._next: TurnDriver | None = None
        self._shared_userdata: Any = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def session(self) -> AgentSession[Any]:
        assert self._session is not None, "the graph's first agent has not entered the session yet"
        return self._session

    # ---- agents

    async def entered(self, agent: "NodeAgent") -> None:
        """A LiveKit agent of this graph has taken the floor: let it speak its first words."""
        name = agent.id
        first = self._session is None
        if first:
            self._bind(agent.session)
        self.floor = name
        driver, agent.turn = agent.turn, None
        if driver is not None and driver.entry == name:
            self._confirm(driver, name)
            driver.cancel_entry()
        else:
            if name in self.agents and self.conversation.active_agent != name:
                await self.conversation.update_agent(name)
            if first and not agent.definition_enters:
                return  # as in LiveKit: without an on_enter the first agent waits for the caller
            if first and self.conversation.messages:
                return  # a call that is resumed has been greeted
            driver = self._drive(self.conversation.enter())
        driver.arrived.clear()
        self.speak(driver)
        if self._recovered is not None:
            self._background(self._answer(self._recovered, driver))
            self._recovered = None

    def leaving(self) -> None:
        """The LiveKit agent that has the floor begins to hand over."""
        self._lost.leaving(time.time())

    async def _answer(self, lost: llm.ChatMessage, entering: TurnDriver) -> None:
        # Not before the graph has come to the new agent: until then it would answer in the old one's name.
        await entering.arrived.wait()
        logger.info("LiveKit dropped what the caller said while the floor changed; it is answered now")
        with contextlib.suppress(RuntimeError):  # the session closes
            self.session.generate_reply(user_input=lost)

    def speak(self, driver: TurnDriver) -> None:
        """Ask LiveKit for a reply that goes on with this turn."""
        self._next = driver
        try:
            self.session.generate_reply()
        except RuntimeError as error:  # the session closes
            logger.debug("an agent's first words were dropped: %s", error)
            driver.maybe_close()
        finally:
            self._next = None

    def _confirm(self, driver: TurnDriver, name: str) -> None:
        for batch in reversed(driver.batches):
            if batch.handoff is not None and batch.handoff.new_agent == name:
                driver.turn.confirm_handoff(batch.handoff.call_id)
                return
        driver.turn.confirm_handoff(None)

    def _next_agent(self, driver: TurnDriver, name: str) -> "NodeAgent":
        """The LiveKit agent that takes the floor and goes on with this turn."""
        agent = self._make_agent(name)
        agent.turn = driver
        return agent

    def switch_by_edge(self, driver: TurnDriver, event: events.HandedOff) -> None:
        """The graph changed agents without a tool: LiveKit follows when the old agent's words have been played."""
        speech = _speech.get()

        async def follow() -> None:
            if speech is not None:
                await speech
            if speech is not None and speech.interrupted:
                driver.turn.reject_handoff(event.call_id, NO_HANDOFF)
                driver.cancel_entry()
                driver.maybe_close()
            else:
                driver.entry_is_certain = True
                self.session.update_agent(self._next_agent(driver, event.new_agent))

        self._background(follow())

    # ---- replies

    def driver_for_reply(self, agent: str, chat_ctx: llm.ChatContext) -> TurnDriver | None:
        """The turn that this reply drains: the one its speech drains already, else a new one."""
        speech = _speech.get()
        if speech is None:
            return None
        if (known := self._by_speech.get(speech)) is not None:
            return known
        user, instructions = self._asked(chat_ctx)
        self._take_userdata()
        text = None if user is None else (user.text_content or "")
        driver = self._drive(
            self.conversation.turn(text, message_id=None if user is None else user.id, instructions=instructions)
        )
        if user is not None:
            self._users[user.id] = driver
        self._attach(driver, speech)
        return driver

    def _drive(self, turn: Turn) -> TurnDriver:
        driver = TurnDriver(self, turn)
        self._drivers.add(driver)
        return driver

    def _attach(self, driver: TurnDriver, speech: SpeechHandle) -> None:
        self._by_speech[speech] = driver
        speech.add_done_callback(self._speech_ended)
        driver.attach(speech)

    def _speech_ended(self, speech: SpeechHandle) -> None:
        self._by_speech.pop(speech, None)

    def _asked(self, chat_ctx: llm.ChatContext) -> tuple[llm.ChatMessage | None, str | None]:
        """What the caller said that nobody has answered yet, and the instructions of `generate_reply`."""
        instructions = None
        for item in reversed(chat_ctx.items):
            if item.type != "message":
                continue
            if item.role == "user":
                return (None if self._is_known(item.id) else item), instructions
            if item.role == "assistant":
                break
            if instructions is None and not item.id.startswith("lk."):
                instructions = item.text_content
        return None, instructions

    def _is_known(self, message_id: str) -> bool:
        """Whether this message was committed already, or was there before this call."""
        if self.session.history.get_by_id(message_id) is not None:
            return True
        return any(m.id == message_id for m in self.conversation.messages)

    def forget(self, driver: TurnDriver) -> None:
        """This turn is over."""
        self._drivers.discard(driver)
        for table in (self.calls, self._users):
            for key in [k for k, v in table.items() if v is driver]:
                del table[key]
        for reply in [k for k, (owner, _) in self.replies.items() if owner is driver]:
            del self.replies[reply]
        self._give_userdata()
        if driver.turn.call_ends and self._session is not None:
            self._session.shutdown(drain=True)

    # ---- tools

    async def execute(self, context: RunContext[Any]) -> Any:
        """The body of every mirror: permit the call, wait for the graph's result, hand over what LiveKit expects."""
        call_id = context.function_call.call_id
        driver = self.calls.get(call_id)
        batch = driver.batch_of(call_id) if driver is not None else None
        if driver is None or batch is None:
            raise ToolError("not done: this call belongs to a turn that is over.")
        batch.started.add(call_id)
        driver.mirror_started(context)
        try:
            driver.turn.allow(call_id, host=context)
            await self._wait(context.speech_handle, batch.done.wait())
            if not batch.done.is_set():
                # Barge-in: LiveKit answers the caller at once; the graph keeps the tool's real result.
                batch.unanswered[call_id] = None
                return ToolResult(RUNNING, reply_required=False)
            for line in batch.lines:
                await self._wait(context.speech_handle, line.wait_for_playout())
        finally:
            driver.mirror_ended(context)
        if (result := batch.results.get(call_id)) is None:
            batch.unanswered[call_id] = None
            return ToolResult(RUNNING, reply_required=batch.asks)
        if batch.handoff is not None and context.speech_handle.interrupted:
            if batch.handoff.call_id == call_id:
                raise ToolError(NO_HANDOFF)
            return ToolResult(result.output, reply_required=False)
        if batch.handoff is None:
            if result.is_error:
                raise ToolError(result.output)
            return ToolResult(result.output)
        # The next agent speaks, so nobody else replies to this batch.
        answer = ToolResult(result.output, reply_required=False)
        return (
            (self._next_agent(driver, batch.handoff.new_agent), answer) if batch.handoff.call_id == call_id else answer
        )

    async def _wait(self, speech: SpeechHandle, what: Any) -> None:
        waiting = asyncio.ensure_future(what)
        try:
            await speech.wait_if_not_interrupted([waiting])
        finally:
            if not waiting.done():
                waiting.cancel()

    # ---- the session's events

    def _bind(self, session: AgentSession[Any]) -> None:
        self._session = session
        self.conversation.on_userdata = self._give_userdata
        session.on("speech_created", self._on_speech_created)
        session.on("conversation_item_added", self._on_item_added)
        session.on("function_tools_executed", self._on_tools_executed)
        session.on("user_input_transcribed", self._lost.transcribed)
        session.on("close", self._on_close)
        self._give_userdata()

    def _on_speech_created(self, event: SpeechCreatedEvent) -> None:
        _speech.set(event.speech_handle)
        if self._next is not None and event.source == "generate_reply":
            driver, self._next = self._next, None
            self._attach(driver, event.speech_handle)

    def _on_item_added(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if item.type == "agent_handoff":
            self.floor = item.new_agent_id if item.new_agent_id in self.agents else None
            lost = self._lost.take(self.session.options.endpointing["max_delay"])
            self._recovered = lost if self.floor is not None else None  # an agent of the program's own sees to itself
            turn = getattr(self.session.current_agent, "turn", None)
            if isinstance(turn, TurnDriver) and turn.entry == item.new_agent_id:
                self._confirm(turn, item.new_agent_id)
        elif item.type == "message" and item.role == "user":
            self._lost.claimed(item)
            text = item.text_content or ""
            if (driver := self._users.pop(item.id, None)) is not None and not driver.turn.discarded:
                driver.turn.commit(text, at=item.created_at)
            elif text:
                self.conversation.add(HumanMessage(text, id=item.id), at=item.created_at)
        elif item.type == "message" and item.role == "assistant":
            self._on_played(item)

    def _on_played(self, item: llm.ChatMessage) -> None:
        mark = item.extra.get(EXTRA)
        text = item.text_content or ""
        if isinstance(mark, dict):
            found = self.replies.pop(mark["reply"], None)
            if found is not None:
                driver, spoken = found
                for message_id, heard in split_heard(spoken, text).items():
                    driver.turn.heard(message_id, heard, at=item.created_at)
        elif _speech.get() not in self.own_lines and text:
            # Said by the session itself: `session.say`.
            self.conversation.add(AIMessage(text, id=item.id, name=self.floor), at=item.created_at)

    def _on_tools_executed(self, event: FunctionToolsExecutedEvent) -> None:
        for call, output in zip(event.function_calls, event.function_call_outputs, strict=True):
            driver = self.calls.pop(call.call_id, None)
            batch = driver.batch_of(call.call_id) if driver is not None else None
            if driver is None or batch is None:
                continue
            if call.call_id not in batch.started:
                # A mock ran in the mirror's place, or LiveKit answered the call itself.
                text = output.output if output is not None else ""
                driver.turn.resolve(call.call_id, text, is_error=output is not None and output.is_error)
            elif call.call_id in batch.unanswered:
                batch.unanswered[call.call_id] = output
                batch.late_result(call.call_id)
                if batch.asks and output is not None:
                    self.asking[call.call_id] = output
            elif batch.handoff is not None and batch.handoff.call_id == call.call_id and output is not None:
                if output.is_error:
                    driver.turn.reject_handoff(call.call_id, output.output)
                    driver.cancel_entry()
                    driver.maybe_close()
                else:
                    driver.entry_is_certain = True

    def _on_close(self, event: CloseEvent) -> None:
        self._background(self.aclose())

    async def aclose(self) -> None:
        """End the call: close every turn, let running tools finish."""
        for driver in list(self._drivers):
            await driver.aclose()
        await self.conversation.aclose()

    # ---- userdata

    def _take_userdata(self) -> None:
        """Adopt what the program put into `session.userdata`."""
        if self._session is None:
            return
        try:
            theirs = self.session.userdata
        except ValueError:  # LiveKit's way to say that there is none
            return
        if theirs is not None and theirs is not self._shared_userdata:
            self._shared_userdata = theirs
            self.conversation.update_userdata(theirs)

    def _give_userdata(self) -> None:
        """`session.userdata` is the graph's, if it has any, but for what the program has just put there."""
        self._take_userdata()
        if self._session is not None and "userdata" in self.conversation.state:
            self._shared_userdata = self._session.userdata = self.conversation.userdata

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
