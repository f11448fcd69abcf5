"""Answers what the caller said and LiveKit dropped: once, and as soon as nobody else can answer it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

from livekit.agents import Agent, AgentSession, llm
from livekit.agents.utils import is_given
from livekit.agents.voice.events import AgentStateChangedEvent, UserInputTranscribedEvent, UserStateChangedEvent

from graph_voice_livekit.session.call import Call
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.lost_turns import LostTurns
from graph_voice_livekit.session.quiet import wait_quiet

__all__ = ["Recovery", "recognizer_of"]

logger = logging.getLogger("graph_voice.livekit")


class Recovery:
    """Finds the lost turns of one call, and has them answered.

    A turn that was dropped during a handoff is found when the new agent is active, and answered after its first words.
    A turn that was dropped because the agent could not be interrupted is found when nobody speaks.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._lost = LostTurns()
        self._found: llm.ChatMessage | None = None
        """What was dropped during a handoff."""
        self._recognizer: object = None
        """The active agent's speech recognizer, if LiveKit may keep it across a handoff; else None."""
        self._looking: asyncio.Task[None] | None = None

    # ---- the session's events

    def transcribed(self, event: UserInputTranscribedEvent) -> None:
        self._lost.transcribed(event, protected=self._protected())
        self._look()

    def agent_state_changed(self, event: AgentStateChangedEvent) -> None:
        del event
        if self._protected():
            self._lost.protect()
            self._look()

    def claimed(self, message: llm.ChatMessage) -> None:
        """A user message is in LiveKit's history."""
        # An external agent's `on_user_turn_completed` may edit the words unseen.
        self._lost.claimed(message, edited=self._call.is_external)

    def user_state_changed(self, event: UserStateChangedEvent) -> None:
        max_delay = self._call.session.options.endpointing["max_delay"]
        self._lost.user_state(speaks=event.new_state == "speaking", now=event.created_at, max_delay=max_delay)

    @contextlib.contextmanager
    def passing(self, message: llm.ChatMessage) -> Iterator[None]:
        """The context in which the agent's `on_user_turn_completed` decides on a complete user turn."""
        self._lost.passed(message)
        try:
            yield
        except Exception:  # StopResponse, or a failure
            self._lost.stopped(message)  # LiveKit ignores the turn, and says why
            raise

    # ---- handoffs

    def begin(self, recognizer: object) -> None:
        """The graph comes into the call, with an agent that has this recognizer."""
        self._recognizer = recognizer

    def leaving(self) -> None:
        """The active agent begins to hand off."""
        self._lost.leaving(time.time())

    def active_agent_changed(self, agent: Agent, *, external: bool) -> None:
        """Another agent is active. What was dropped before an `external` one is not answered here."""
        before, self._recognizer = self._recognizer, recognizer_of(agent, self._call.session)
        lost = self._lost.take(
            self._call.session.options.endpointing["max_delay"],
            recognizer_ended=before is None or before is not self._recognizer,
        )
        self._found = None if external else _together(self._found, lost)

    def take(self) -> llm.ChatMessage | None:
        """What was dropped during a handoff. It is given once."""
        found, self._found = self._found, None
        return found

    def answer_behind(self, entering: Driver) -> None:
        """Answer it after the first words of the agent that is active now."""
        if (lost := self.take()) is not None:
            self._call.background(self._answer_behind(entering, lost))

    async def _answer_behind(self, entering: Driver, lost: llm.ChatMessage) -> None:
        # Not before the graph has reached the new agent: until then the old one would answer.
        await entering.arrived.wait()
        self.answer(lost)

    def answer(self, lost: llm.ChatMessage) -> None:
        try:
            self._call.session.generate_reply(user_input=lost)
        except RuntimeError:
            # The session closes, or the agent hands off at this moment: then the next agent finds the words.
            self._found = _together(lost, self._found)
        else:
            logger.info("LiveKit dropped what the caller said while it could not be answered; it is answered now")

    # ---- the agent can't be interrupted

    def _protected(self) -> bool:
        speech = self._call.session.current_speech
        return speech is not None and not speech.allow_interruptions and not speech.interrupted

    def _look(self) -> None:
        if self._lost.suspected and (self._looking is None or self._looking.done()):
            self._looking = self._call.background(self._answer_dropped())

    async def _answer_dropped(self) -> None:
        # LiveKit answers a turn that ends after the protected speech. Only when all is quiet, a dropped one is known.
        if not await wait_quiet(self._call) or self._call.active_agent is None:
            return
        session = self._call.session
        agent = session.current_agent
        mode = agent.turn_detection if is_given(agent.turn_detection) else session.turn_detection
        if mode in ("manual", "realtime_llm"):
            return  # the words wait until the program ends the turn
        if (lost := self._lost.take_dropped(session.options.interruption["min_words"])) is not None:
            self.answer(lost)


def _together(first: llm.ChatMessage | None, second: llm.ChatMessage | None) -> llm.ChatMessage | None:
    """Join what was dropped at two moments into one message, at the time of its first words."""
    if first is None or second is None:
        return first or second
    words = f"{first.text_content} {second.text_content}"
    return llm.ChatMessage(role="user", content=[words], created_at=first.created_at)


def recognizer_of(agent: Agent, session: AgentSession[Any]) -> object:
    """The agent's speech recognizer, which LiveKit keeps if the next agent has the same one; None if it keeps none."""
    if type(agent).stt_node is not Agent.stt_node:
        return None
    return agent.stt if is_given(agent.stt) else session.stt
