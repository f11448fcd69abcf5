"""Whose turn it is: which agent is active, whether it speaks, and whether it has finished."""

import asyncio
from collections.abc import Callable
from typing import Any

from livekit.agents import AgentSession
from livekit.agents.llm import AgentHandoff
from livekit.agents.voice import (
    AgentStateChangedEvent,
    CloseEvent,
    ConversationItemAddedEvent,
    SpeechCreatedEvent,
    ToolCallEnded,
    ToolCallStarted,
    ToolExecutionUpdatedEvent,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
)
from livekit.agents.voice.io import AudioOutput, PlaybackFinishedEvent, PlaybackStartedEvent

from graph_voice_livekit.inprocess.clock import CallClock

__all__ = ["TurnTaking"]

_LOOK_AGAIN = 0.1


class TurnTaking:
    """Watches a session and its audio output, so that you can wait for a state of the conversation.

    The active agent is that of LiveKit's last `AgentHandoff` item. `session.current_agent` is the *next* agent as
    soon as a tool has returned it, while the old one may still be speaking.
    """

    def __init__(self, session: AgentSession[Any], output: AudioOutput, clock: CallClock) -> None:
        self._session = session
        self._clock = clock
        self._changed = asyncio.Event()
        self._tools: set[str] = set()
        self._user_state = "listening"
        self._agent_state = "initializing"
        self.agent: str | None = None
        """The id of the active agent."""
        self.playing = False
        """Whether an agent's speech is being played, or is paused."""
        self.playbacks = 0
        """How often an agent's speech has begun to play."""
        self.replies = 0
        """How many speeches LiveKit has created, including discarded ones."""
        self.playback_started = 0.0
        """When the last playback began, in call seconds."""
        self.unrecognized = False
        """Whether the caller was heard to speak, but no words were recognized yet."""
        self.recognized: list[str] = []
        """The caller's recognized words, utterance by utterance."""
        self.playbacks_when_recognized = 0
        """`playbacks` when the last of them was recognized."""
        self.closed: CloseEvent | None = None
        """LiveKit's close event, once the session has closed."""
        session.on("agent_state_changed", self._on_agent_state)
        session.on("user_state_changed", self._on_user_state)
        session.on("user_input_transcribed", self._on_transcript)
        session.on("conversation_item_added", self._on_item)
        session.on("speech_created", self._on_speech)
        session.on("tool_execution_updated", self._on_tool)
        session.on("close", self._on_close)
        output.on("playback_started", self._on_playback_started)
        output.on("playback_finished", self._on_playback_finished)

    @property
    def idle(self) -> bool:
        """Whether nobody speaks and no agent thinks or waits for a tool."""
        return (
            not self.playing
            and not self._tools
            and self._agent_state not in ("thinking", "speaking", "initializing")
            and self._user_state != "speaking"
            and self._session.current_speech is None
        )

    async def until(
        self,
        wanted: Callable[[], bool],
        *,
        hold: float = 0.0,
        timeout: float | None = None,
        unless: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait until `wanted` has been true for `hold` seconds without a break.

        Returns False instead when `timeout` seconds pass, `unless` becomes true, or the session closes.
        """
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        since: float | None = None
        while True:
            if self.closed is not None or unless():
                return False
            now = loop.time()
            if not wanted():
                since = None
            elif since is None:
                since = now
            if since is not None and now >= since + hold:
                return True
            if deadline is not None and now >= deadline:
                return False
            # the session sends no event when `current_speech` ends, so look again now and then
            ends = [now + _LOOK_AGAIN, deadline or now + _LOOK_AGAIN, (since or now) + (hold or _LOOK_AGAIN)]
            self._changed.clear()
            try:
                async with asyncio.timeout_at(min(ends)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _on_agent_state(self, event: AgentStateChangedEvent) -> None:
        self._agent_state = event.new_state
        self._changed.set()

    def _on_user_state(self, event: UserStateChangedEvent) -> None:
        self._user_state = event.new_state
        if event.new_state == "speaking":
            self.unrecognized = True
        self._changed.set()

    def _on_transcript(self, event: UserInputTranscribedEvent) -> None:
        if event.is_final and event.transcript.strip():
            self.recognized.append(event.transcript.strip())
            self.playbacks_when_recognized = self.playbacks
            self.unrecognized = self._user_state == "speaking"
        self._changed.set()

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        if isinstance(event.item, AgentHandoff):
            self.agent = event.item.new_agent_id
        self._changed.set()

    def _on_speech(self, event: SpeechCreatedEvent) -> None:
        self.replies += 1
        self._changed.set()

    def _on_tool(self, event: ToolExecutionUpdatedEvent) -> None:
        if isinstance(event.update, ToolCallStarted):
            self._tools.add(event.update.function_call.call_id)
        elif isinstance(event.update, ToolCallEnded):
            self._tools.discard(event.update.call_id)
        self._changed.set()

    def _on_close(self, event: CloseEvent) -> None:
        self.closed = event
        self._changed.set()

    def _on_playback_started(self, event: PlaybackStartedEvent) -> None:
        self.playing = True
        self.playbacks += 1
        self.playback_started = self._clock.at(event.created_at)
        self._changed.set()

    def _on_playback_finished(self, event: PlaybackFinishedEvent) -> None:
        self.playing = False
        self._changed.set()
