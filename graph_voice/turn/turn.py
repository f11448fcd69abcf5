"""One user turn: one graph run, which the front end steps along.

The graph runs in the background and produces events. The front end drains them and reports what really happened.
Nothing that the caller did not cause is executed; nothing that the caller did not hear is remembered.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage

from graph_voice import events
from graph_voice.errors import TurnError
from graph_voice.messages.content import Content, with_words
from graph_voice.tracing.feedback import Score
from graph_voice.turn.gate import ANSWERED, NOT_STARTED, Permission
from graph_voice.turn.nodes_side import NO_HANDOFF, NodesSide, answer
from graph_voice.turn.owner import TurnOwner
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import switch_key
from graph_voice.turn.reply_options import ReplyOptions

__all__ = ["Permission", "Turn", "answer", "current_turn"]

logger = logging.getLogger("graph_voice")

current_turn: ContextVar["Turn | None"] = ContextVar("graph_voice_turn", default=None)
"""The turn whose graph run this is. None in LangGraph Studio, `ainvoke` and notebooks, where nothing is gated."""


class Turn(NodesSide):
    """One turn of a conversation. Made by `Conversation.turn`; iterate it for its events.

    Iteration can be stopped and continued, by one consumer at a time. All other methods of the front end are
    synchronous, may be called at any time from the event loop's thread, and return at once. `NodesSide` is the nodes'
    side.
    """

    def __init__(
        self,
        conversation: TurnOwner["Turn"],
        *,
        user: HumanMessage | None = None,
        instructions: str | None = None,
        entering: bool = False,
        options: ReplyOptions | None = None,
    ) -> None:
        super().__init__(conversation, None)
        self.id = f"turn-{uuid.uuid4().hex[:12]}"
        self.record.user = user
        self.instructions = instructions
        """Instructions for the first reply of this turn only; never stored."""
        self.options = options or ReplyOptions()
        self.before: frozenset[str | None] = frozenset()
        """Ids of the messages before this turn, when its model is shown others instead."""
        if self.options.messages is not None:
            self.before = frozenset(m.id for m in self.conversation.messages if user is None or m.id != user.id)
        self.created_at = time.time()
        self.entering = entering
        self._folded = False
        self._commit = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # ---- the front end drains

    def __aiter__(self) -> AsyncIterator[events.Event]:
        return self

    async def __anext__(self) -> events.Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._events.popleft()

    def peek(self) -> events.Event | None:
        """The next event if it is there already, without taking it."""
        return self._events[0] if self._events else None

    # ---- the front end reports what happened

    def commit(self, text: Content | None = None, at: float | None = None) -> None:
        """The user turn really happened.

        Args:
            text: the final transcript, when it differs from what the turn was started with. Words alone replace the
                words; content blocks replace everything.
            at: when the caller said it, in seconds since the epoch. Default: now.

        Raises `TurnError` after `discard`.
        """
        if self.discarded:
            raise TurnError("This turn was discarded; a discarded turn can't be committed. Start another.")
        if self.committed:
            return
        late = self.resumes is not None and self.record.user is not None and not self.conversation.asks(self.resumes)
        self.committed = True
        if self.record.user is not None:
            if text is not None and (said := with_words(self.record.user, text)) != self.record.user.content:
                self.record.user = self.conversation.redact(self.record.user.model_copy(update={"content": said}))
            self.record.user_at = time.time() if at is None else at
        self._commit.set()
        if self.resumes is not None:
            self._answer_earlier(self.resumes, late=late)
        self._changed()

    def commit_reply(self) -> None:
        """Commit a reply whose user message nobody said: that was only the front end's context, and is forgotten.

        This is LiveKit's `generate_reply(chat_ctx=...)` with a user message in it.
        """
        if not self.committed:
            self.record.user = None
            self.commit()

    def take_options(self) -> ReplyOptions:
        """The options of the next reply. Later replies keep only `messages`; after a handoff there are none."""
        options = self.options if self.new_agent is None else ReplyOptions()
        self.options = ReplyOptions(messages=options.messages)
        return options

    def _answer_earlier(self, pending: Pending, *, late: bool = False) -> None:
        """Give the resumed batch the permissions that it already has, now that the answer is certain.

        `late`: another turn has answered meanwhile, and a tool call acts only once.
        """
        for call in pending.calls.values():
            if late:
                self._gate.permit(call.id, ANSWERED)
            elif call.open:
                self._gate.permit(call.id, Permission(run=True, host=call.host))
            else:
                self._gate.permit(call.id, NOT_STARTED)

    def discard(self) -> None:
        """It did not happen: the run is cancelled and leaves nothing behind. Raises `TurnError` after `commit`."""
        if self.committed:
            raise TurnError("This turn was committed; interrupt() it instead of discarding it.")
        if self.discarded:
            return
        self.discarded = self.closed = True
        if self._task is not None:
            self._task.cancel()
        # A task cancelled before its first step runs no `finally`, so the end is reported here. A run that is over
        # has reported it already, but the turn changes in any case.
        self._end()
        self._changed()

    def allow(self, call_id: str, host: Any = None) -> None:
        """This tool call may run now. The tool gets `host` as `ctx.host`.

        A tool call that already has a result, or whose turn was interrupted, stays as it is. Raises `TurnError` before
        `commit`, after `discard`, and for a tool call that this turn never made.
        """
        if self.discarded:
            raise TurnError(f"allow({call_id!r}): this turn was discarded, and its tool calls with it.")
        if not self.committed:
            raise TurnError(f"allow({call_id!r}) before commit(): no tool runs for a turn that may not have happened.")
        self._permit("allow", call_id, Permission(run=True, host=host))

    def resolve(self, call_id: str, output: str, is_error: bool = False) -> None:
        """The front end has the result itself (a mock): the tool does not run. An earlier decision stands."""
        self._permit("resolve", call_id, Permission(run=False, output=output, is_error=is_error))

    def deny(self, call_id: str, reason: str) -> None:
        """This tool call must not run; the model is told why. An earlier decision stands."""
        self._permit("deny", call_id, Permission(run=False, output=f"not done: {reason}", is_error=True))

    def withhold_tools(self, agent: str) -> None:
        """This agent may call no more tools in this turn: its next words are the answer. Tool calls that it makes
        nevertheless don't count. LiveKit's `max_tool_steps`, and the replies of an agent that drains."""
        self.without_tools.add(agent)

    def _permit(self, method: str, call_id: str, permission: Permission) -> None:
        if self._call(call_id) is None:
            raise TurnError(f"{method}({call_id!r}): this turn made no such tool call.")
        self._gate.permit(call_id, permission)

    def heard(self, message_id: str, text: str, at: float | None = None, *, interrupted: bool | None = None) -> None:
        """Report all that was played of this message so far. What is not reported is not remembered.

        Args:
            message_id: of a `Text`, a `Say` or an `Interrupt`.
            text: the words that reached the caller, from the message's beginning.
            at: when playback began, in seconds since the epoch. Default: now.
            interrupted: whether the rest was cut off. False, with words that differ from those produced, means that
                they stand for the whole message (an edited transcript). Default: True unless the text is complete.

        A report after `close` still counts until a later turn is over: a line that was cut off may end after its
        reply. The first report of a tool's line always counts: a tool goes on after an interruption, and what it says
        is played later.

        Raises `TurnError` for an id that this turn never produced, and when the report comes too late.
        """
        found = self.record.spoken(message_id)
        if found is None:
            raise TurnError(f"heard({message_id!r}): this turn produced no such message.")
        step, words = found
        if self.folded:
            if words not in step.lines or words.at:
                raise TurnError(
                    f"heard({message_id!r}): this turn is long over; report what was played before close()."
                )
            # A tool that went on after an interruption said it, after the replies that the caller has heard since.
            words.at = time.time() if at is None else at
            if text:
                self.conversation.add(AIMessage(text, id=message_id, name=step.agent), words.at)
            return
        words.heard, words.interrupted = text, interrupted
        if not words.at:
            words.at = time.time() if at is None else at
        step.at = step.at or words.at
        self._heard.setdefault(message_id, asyncio.Event()).set()
        self._changed()

    def measured(
        self,
        *,
        end_of_turn_delay: float | None = None,
        transcription_delay: float | None = None,
        time_to_first_audio: float | None = None,
        response_delay: float | None = None,
    ) -> None:
        """Report what the front end measured of this turn, for its trace. Earlier values stand.

        Args:
            end_of_turn_delay: seconds from the caller's last sound to the decision that they have finished.
            transcription_delay: seconds from the caller's last sound to the final transcript.
            time_to_first_audio: seconds from the turn's start to the agent's first sound.
            response_delay: seconds from the caller's last sound to the agent's first (LiveKit's `e2e_latency`).
        """
        self.timings.told(
            {
                "end_of_turn_delay": end_of_turn_delay,
                "transcription_delay": transcription_delay,
                "time_to_first_audio": time_to_first_audio,
                "response_delay": response_delay,
            }
        )

    def score(
        self,
        key: str,
        score: float | bool | None = None,
        *,
        value: str | dict[str, Any] | None = None,
        comment: str | None = None,
    ) -> bool:
        """Give feedback on this turn in LangSmith; see `Conversation.score`. False: it is not traced."""
        return self.conversation.score_turn(self, Score(key, score, value, comment))

    def confirm_handoff(self, call_id: str | None) -> None:
        """The active agent really changed. `call_id` is the event's; None for a switch by an edge.

        Raises `TurnError` for a tool call that this turn never made, and after `reject_handoff`.
        """
        for key in self._keys("confirm_handoff", call_id):
            decision = self.record.handoffs.get(key)
            if decision is not None and not decision.happened:
                raise TurnError(f"confirm_handoff({call_id!r}): it was rejected; a rejected handoff can't happen.")
            if decision is None:
                self._decide(key, True)
        self._changed()

    def reject_handoff(self, call_id: str | None, reason: str) -> None:
        """The handoff did not happen: the old agent stays active, and the tool call is answered with `reason`.

        What the new agent has produced is not remembered, and the run stops.

        Raises `TurnError` for a tool call that this turn never made, and after `confirm_handoff`.
        """
        for key in self._keys("reject_handoff", call_id):
            decision = self.record.handoffs.get(key)
            if decision is not None and decision.happened:
                raise TurnError(f"reject_handoff({call_id!r}): it was confirmed; change back with update_agent().")
            if decision is None:
                self._reject(key, reason)
                self._stop()
        self._changed()

    def _keys(self, method: str, call_id: str | None) -> list[str]:
        if call_id is None:
            # A front end that follows one agent at a time means the oldest switch that it has not decided about.
            undecided = [k for k, decision in self.record.handoffs.items() if decision is None]
            return [k for k in undecided if k.startswith(switch_key(""))][:1]
        if self.record.call(call_id) is None and call_id not in self.record.handoffs:
            raise TurnError(f"{method}({call_id!r}): this turn made no such tool call.")
        return [call_id]

    def interrupt(self) -> None:
        """Interrupt: the model stops, running tools finish and are remembered, other tool calls don't start."""
        if not self.interrupted:
            self._stop()

    def _stop(self) -> None:
        self._release()
        if self.interrupted:
            return
        self.interrupted = True
        for task, may_be_cut in self._cuttable:
            if may_be_cut():
                task.cancel()
        if self.on_stop is not None:
            self.on_stop()

    def _release(self) -> None:
        """Stop everything that waits for the front end."""
        self._gate.shut()
        self._decided.set()
        for waiter in self._heard.values():
            waiter.set()

    def close(self) -> None:
        """The front end is done with this turn. A turn that was not committed is discarded.

        A run that is still going is stopped as by `interrupt()`. A handoff that was not confirmed did not happen.
        """
        if self.closed:
            return
        if not self.committed:
            self.discard()
            return
        self.closed = True
        for key in [k for k, decision in self.record.handoffs.items() if decision is None]:
            self._reject(key, NO_HANDOFF)
        if self.finished:
            self._release()
        elif not self.interrupted:
            self._stop()
        self._changed()

    def discard_if_possible(self) -> None:
        """Discard the turn unless it was committed. LiveKit drops a speculative turn without saying so."""
        if not self.committed:
            self.discard()

    @property
    def settled(self) -> bool:
        """Whether the turn is closed and its run is over. Only a late report of what was heard can still change it."""
        return self.closed and self.finished

    @property
    def folded(self) -> bool:
        """Whether it is part of the conversation's past, which no longer changes."""
        return self._folded

    def fold(self) -> None:
        self._folded = True

    @property
    def task_done(self) -> bool:
        """Whether no code of this turn runs any more. A discarded turn may be finished before that."""
        return self._task is None or self._task.done()

    async def wait_finished(self) -> None:
        """Wait until the graph run is over: a tool may still run after `close`."""
        if self._task is not None:
            await asyncio.wait([self._task])

    # ---- the conversation runs it

    def resume(self, pending: Pending) -> None:
        """Let this turn's words answer the earlier run that waits for them."""
        self.resumes = pending
        if self.committed:
            self._answer_earlier(pending)

    def answers_nothing(self) -> None:
        """Another turn has answered the question: make this an ordinary turn."""
        self.resumes = None

    def start(self, run: Any) -> "asyncio.Task[None]":
        """Run the graph, unless it has begun already."""
        if self._task is None:
            self._task = asyncio.create_task(run(self), name=f"graph_voice.{self.id}")
            self._task.add_done_callback(self._done)
        return self._task

    def cancel(self) -> None:
        """Cancel the run at once, running tools included; for a process that ends."""
        self.interrupted = True
        if self._task is not None:
            self._task.cancel()

    async def end_call(self, words: str) -> None:
        """Say this instead of an answer, then end the call."""
        await self.wait_committed()
        self.line(self.speaker, f"say-{uuid.uuid4().hex[:12]}", words)
        self.call_ends = True

    async def wait_committed(self) -> None:
        await self._commit.wait()

    def _done(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a turn ended with an error", exc_info=error)
        self._end()
        self._changed()  # a discarded turn has ended before its task

    def _end(self) -> None:
        if not self.finished:
            self.finished = True
            self._written.set()
            for done in self._produced.values():
                done.set()
            self.emit(events.Ended())
            self._changed()

    def _emitted(self, event: events.Event) -> None:
        if (watch := self.conversation.on_event) is not None:
            watch(self, event)

    def _changed(self, *, userdata: bool = False) -> None:
        self.conversation.turn_changed(self, userdata=userdata)

    def __repr__(self) -> str:
        flags = ("committed", "discarded", "interrupted", "closed", "finished")
        return f"<Turn {self.id} {' '.join(f for f in flags if getattr(self, f))}>"
