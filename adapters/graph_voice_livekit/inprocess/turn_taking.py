"""Who has the floor: which agent, whether it speaks, whether it is still its turn."""

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
    """Watches a session and its audio output, and lets one wait for a state of the conversation.

    The agent on the floor is that of LiveKit's last `AgentHandoff` item. `session.current_agent` is the
    *next* agent as soon as a tool has returned it, while the old one may still be speaking.
    """

    def __init__(self, session: AgentSession[Any], output: AudioOutput, clock: CallClock) -> None:
        self._session = session
        self._clock = clock
        self._changed = asyncio.Event()
        self._tools: set[str] = set()
        self._user_state = "listening"
        self._agent_state = "initializing"
        self.agent: str | None = None
        """The id of the agent on the floor."""
        self.playing = False
        """Whether a stretch of the agents' speech is being played (a paused one included)."""
        self.playbacks = 0
        """How many stretches of the agents' speech have begun."""
        self.replies = 0
        """How many speeches LiveKit has created, those that were discarded included."""
        self.playback_started = 0.0
        """When the last of them began, in call seconds."""
        self.unrecognised = False
        """Whether the caller was heard to speak and no words have come of it yet."""
        self.recognised: list[str] = []
        """What was recognised of the caller, utterance by utterance."""
        self.playbacks_when_recognised = 0
        """`playbacks` at the time of the last of them."""
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
        """Nobody speaks, thinks or works: whoever likes may speak."""
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
        """Wait until `wanted` has been true for `hold` seconds on end.

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
            # that a speech has ended (`current_speech`) is no event of the session: look again now and then
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
            self.unrecognised = True
        self._changed.set()

    def _on_transcript(self, event: UserInputTranscribedEvent) -> None:
        if event.is_final and event.transcript.strip():
            self.recognised.append(event.transcript.strip())
            self.playbacks_when_recognised = self.playbacks
            self.unrecognised = self._user_state == "speaking"
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
