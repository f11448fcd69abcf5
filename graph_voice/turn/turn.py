"""One user turn: one graph run, which the front end steps along.

The graph runs in the background and produces events. The front end drains them and reports what really happened.
Nothing that the caller did not cause is executed; nothing that the caller did not hear is remembered.
"""

import time
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.messages import AIMessage, ToolMessage

from graph_voice import events
from graph_voice.errors import TurnError
from graph_voice.messages.content import Content, with_words
from graph_voice.tracing.feedback import Score
from graph_voice.turn.event_stream import TurnListener
from graph_voice.turn.gate import Permission
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.record import TurnRecord
from graph_voice.turn.run import TurnRun
from graph_voice.turn.state import TurnState

__all__ = ["Turn"]


class Turn:
    """One turn of a conversation, as the front end sees it. Made by `Conversation.turn`; iterate it for its events.

    Iteration can be stopped and continued, by one consumer at a time. All other methods are synchronous, may be called
    at any time from the event loop's thread, and return at once. These are their legal orders; a wrong one raises
    `TurnError`, which says what was expected:

    ```
    SPECULATIVE  the model may stream; nothing acts
      | discard(), close() ------------------------------------------> DISCARDED
      | commit(), and at once for a turn that the agent begins
      v
    COMMITTED    for each tool call      allow() | resolve() | deny(), or begin() and later resolve()
      |          for each message        heard(), again and again
      |          for each HandedOff      confirm_handoff() | reject_handoff()
      |          when the caller cuts in interrupt()
      | close(): what is undecided by now did not happen
      v
    CLOSED       heard() still counts until a later turn is over
    ```

    `resolve`, `deny` and `heard` may come before `commit`: they count if it comes.
    """

    def __init__(self, run: TurnRun) -> None:
        self._run = run
        run.face = self

    @property
    def id(self) -> str:
        return self._run.id

    @property
    def state(self) -> TurnState:
        """How far the front end has come with it."""
        return self._run.state

    @property
    def interrupted(self) -> bool:
        """Whether the run was stopped: by `interrupt`, by a handoff that did not happen, or by `close`."""
        return self._run.interrupted

    @property
    def finished(self) -> bool:
        """Whether the graph run is over. A tool may still run when the turn is closed."""
        return self._run.finished

    @property
    def record(self) -> TurnRecord:
        """What it has produced, and what was acknowledged of that. To be read only."""
        return self._run.record

    @property
    def timings(self) -> dict[str, float]:
        """What was measured of it so far, in milliseconds: the times that its trace shows (docs/langsmith.md)."""
        return self._run.timings.metadata()

    # ---- the front end drains

    def __aiter__(self) -> AsyncIterator[events.Event]:
        return self

    async def __anext__(self) -> events.Event:
        return await self._run.stream.next()

    def listen(self, listener: TurnListener) -> None:
        """Give this listener each event at the moment in which it happens, instead of iterating the turn."""
        self._run.stream.listen(listener)

    # ---- the front end reports what happened

    def commit(self, text: Content | None = None, at: float | None = None, *, said: bool = True) -> None:
        """The user turn really happened. Later calls change nothing.

        Args:
            text: the final transcript, when it differs from what the turn was started with. Words alone replace the
                words; content blocks replace everything.
            at: when the caller said it, in seconds since the epoch. Default: now.
            said: False when nobody said the user message: it was only the front end's context for a reply, and is
                forgotten (LiveKit's `generate_reply(chat_ctx=...)` with a user message in it).

        Raises `TurnError` after `discard`.
        """
        run = self._run
        if self.state is TurnState.DISCARDED:
            raise TurnError("commit(): this turn was discarded. Expected: commit() before discard(). Start another.")
        if self.state.happened:
            return
        if not said:
            run.record.user = None
        user = run.record.user
        if user is not None and text is not None and (words := with_words(user, text)) != user.content:
            run.record.user = run.call.redact(user.model_copy(update={"content": words}))
        run.commit(at)

    def discard(self) -> None:
        """It did not happen: the run is cancelled and leaves nothing behind. Raises `TurnError` after `commit`."""
        if self.state.happened:
            raise TurnError("discard(): this turn was committed. Expected: interrupt() or close(), since it happened.")
        if self.state is TurnState.SPECULATIVE:
            self._run.discard()

    def allow(self, call_id: str, host: Any = None) -> None:
        """This tool call may run now. The tool gets `host` as `ctx.host`.

        A tool call that already has a result, or whose turn was interrupted, stays as it is. Raises `TurnError` before
        `commit`, after `discard`, and for a tool call that this turn never made.
        """
        if self.state is TurnState.DISCARDED:
            raise TurnError(f"allow({call_id!r}): this turn was discarded, and its tool calls with it. Start another.")
        if self.state is TurnState.SPECULATIVE:
            raise TurnError(f"allow({call_id!r}) before commit(). Expected: commit() first, since tools act.")
        self._permit("allow", call_id, Permission(run=True, host=host))

    def begin(self, call_id: str) -> None:
        """The front end runs this tool call itself (a tool of its own): `resolve` follows, also after an interruption.

        Raises `TurnError` before `commit`, after `discard`, and for a tool call that this turn never made.
        """
        if not self.state.happened:
            raise TurnError(f"begin({call_id!r}) before commit(). Expected: commit() first, since tools act.")
        self._run.require_tool_call("begin", call_id)
        if self._run.gate.begin(call_id) and (call := self._run.tool_call(call_id)) is not None:
            call.status = "running"
            self._run.changed()

    def resolve(self, call_id: str, output: str, is_error: bool = False, *, reply: bool = True) -> None:
        """The front end has the result itself (a mock, or a tool of its own): the graph runs no tool. An earlier
        decision stands. `reply`: whether the model speaks of the result."""
        self._permit("resolve", call_id, Permission(run=False, output=output, is_error=is_error, reply=reply))

    def deny(self, call_id: str, reason: str) -> None:
        """This tool call must not run; the model is told why. An earlier decision stands."""
        self._permit("deny", call_id, Permission(run=False, output=f"not done: {reason}", is_error=True))

    def _permit(self, method: str, call_id: str, permission: Permission) -> None:
        self._run.require_tool_call(method, call_id)
        self._run.gate.permit(call_id, permission)

    def withhold_tools(self, agent: str) -> None:
        """This agent may call no more tools in this turn: its next words are the answer. Tool calls that it makes
        nevertheless don't count. LiveKit's `max_tool_steps`, and the replies of an agent that drains."""
        self._run.without_tools.add(agent)

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
        run = self._run
        found = run.record.spoken(message_id)
        if found is None:
            raise TurnError(f"heard({message_id!r}): this turn produced no such message. Expected: an event's id.")
        step, words = found
        if run.is_past:
            if words not in step.lines or words.at:
                raise TurnError(f"heard({message_id!r}): this turn is long over. Expected: heard() before close().")
            # A tool that went on after an interruption said it, after the replies that the caller has heard since.
            words.at = time.time() if at is None else at
            if text:
                run.call.add(AIMessage(text, id=message_id, name=step.agent), words.at)
            return
        words.heard, words.interrupted = text, interrupted
        if not words.at:
            words.at = time.time() if at is None else at
        step.at = step.at or words.at
        run.heard.came(message_id)
        run.changed()

    async def wait_produced(self, message_id: str) -> None:
        """Wait until a line that is generated while a tool runs (`ctx.generate_reply`) is complete."""
        if not self._run.finished:
            await self._run.produced.wait(message_id)

    def confirm_handoff(self, call_id: str | None) -> None:
        """The active agent really changed. `call_id` is the event's; None for a switch by an edge.

        Raises `TurnError` for a tool call that this turn never made, and after `reject_handoff`.
        """
        for handoff in self._handoff("confirm_handoff", call_id):
            if handoff.happened is False:
                raise TurnError(
                    f"confirm_handoff({call_id!r}): this handoff was rejected, with the new agent's words. "
                    "Expected: one decision on each HandedOff. Use update_agent() to change the agent now."
                )
            self._run.confirm(handoff)
        self._run.changed()

    def reject_handoff(self, call_id: str | None, reason: str) -> ToolMessage | None:
        """The handoff did not happen: the old agent stays active, and the tool call is answered with `reason`.

        What the new agent has produced is not remembered, and the run stops. A tool that acted keeps its own words.

        Returns what the tool call is answered with now; None when no tool call asked for the handoff.

        Raises `TurnError` for a tool call that this turn never made, and after `confirm_handoff`.
        """
        for handoff in self._handoff("reject_handoff", call_id):
            if handoff.happened:
                raise TurnError(
                    f"reject_handoff({call_id!r}): this handoff was confirmed. Expected: one decision on each "
                    "HandedOff. Change back with update_agent()."
                )
            if handoff.happened is None:
                self._run.reject(handoff, reason)
                self._run.interrupt()
        self._run.changed()
        call = self._run.tool_call(call_id) if call_id is not None else None
        return call.result if call is not None else None

    def _handoff(self, method: str, call_id: str | None) -> list[HandoffInProgress]:
        """The handoff that a decision is about; none when there is nothing to decide."""
        handoff = self._run.record.handoffs.to_decide(call_id)
        if call_id is None:
            # A front end that follows one agent at a time means the oldest switch that it has not decided about.
            return [] if handoff is None or handoff.happened is not None else [handoff]
        if handoff is None:
            self._run.require_tool_call(method, call_id)
            raise TurnError(f"{method}({call_id!r}): this tool call hands off to nobody. Expected: a HandedOff of it.")
        return [handoff]

    def interrupt(self) -> None:
        """Interrupt: the model stops, running tools finish and are remembered, other tool calls don't start."""
        self._run.interrupt()

    def close(self) -> None:
        """The front end is done with this turn. A turn that was not committed is discarded.

        A run that is still going is stopped as by `interrupt()`. A handoff that was not confirmed did not happen.
        """
        if self.state is TurnState.SPECULATIVE:
            self._run.discard()
        elif self.state is TurnState.COMMITTED:
            self._run.close()

    async def wait_finished(self) -> None:
        """Wait until the graph run is over: a tool may still run after `close`."""
        await self._run.wait_finished()

    # ---- for the trace

    def measured(
        self,
        *,
        end_of_turn_delay: float | None = None,
        transcription_delay: float | None = None,
        time_to_first_audio: float | None = None,
        response_delay: float | None = None,
        message_id: str | None = None,
        started_speaking_at: float | None = None,
        stopped_speaking_at: float | None = None,
    ) -> None:
        """Report what the front end measured of this turn, for its trace. Earlier values stand.

        Args:
            end_of_turn_delay: seconds from the caller's last sound to the decision that they have finished.
            transcription_delay: seconds from the caller's last sound to the final transcript.
            time_to_first_audio: seconds from the turn's start to the agent's first sound.
            response_delay: seconds from the caller's last sound to the agent's first (LiveKit's `e2e_latency`).
            message_id: of a message whose sound began and ended as follows.
            started_speaking_at: in seconds since the epoch. The turn's first one gives `time_to_first_audio`.
            stopped_speaking_at: in seconds since the epoch; None: at once.
        """
        run = self._run
        if started_speaking_at is not None:
            if time_to_first_audio is None:
                time_to_first_audio = started_speaking_at - run.created_at
            if message_id is not None and (found := run.record.spoken(message_id)) is not None:
                ended = started_speaking_at if stopped_speaking_at is None else stopped_speaking_at
                run.timings.sound(found[0].agent, started_speaking_at, ended)
        run.timings.told(
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
        return self._run.call.score_turn(self._run, Score(key, score, value, comment))

    def __repr__(self) -> str:
        return repr(self._run)
