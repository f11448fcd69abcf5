"""A caller in a real room: speaks from a file, hears, reads the captions, writes."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from livekit import api, rtc
from livekit.agents import utils
from livekit.api import AccessToken, VideoGrants

from tests.rooms.livekit_server import LiveKitServer

__all__ = ["Caller", "Line", "joined"]

RATE = 24_000
FRAME = RATE // 50
PATIENCE = 40.0
"""Seconds in which anything awaited comes, on a busy machine."""


@dataclass
class Line:
    """One caption: a segment of LiveKit's transcription."""

    speaker: str
    segment: str
    text: str = ""
    final: bool = False


@dataclass
class Caller:
    """One participant. Made by `joined`."""

    identity: str
    room: rtc.Room
    lines: list[Line] = field(default_factory=list)
    chat: list[str] = field(default_factory=list)
    attributes: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """(identity, what changed), as they came; at first what a participant came with."""
    heard: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """What came out of the loudspeaker, all tracks one after the other in the order of their frames."""
    _to_say: asyncio.Queue[tuple[np.ndarray[Any, Any], asyncio.Future[None]]] = field(default_factory=asyncio.Queue)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    # ---- what the caller does

    async def say(self, file: Path) -> None:
        """Speak what is in an audio file; returns when it is spoken."""
        samples, rate = soundfile.read(file, dtype="int16")
        assert rate == RATE, f"{file} has {rate} Hz, the microphone {RATE}"
        spoken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._to_say.put((samples, spoken))
        await spoken

    async def write(self, text: str) -> None:
        """Type into the chat, as LiveKit's front ends do."""
        await self.room.local_participant.send_text(text, topic="lk.chat")

    # ---- what the caller sees and hears

    @property
    def agent(self) -> rtc.RemoteParticipant | None:
        """The agent in the room, if there is one."""
        kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
        return next((p for p in self.room.remote_participants.values() if p.kind == kind), None)

    @property
    def state(self) -> str | None:
        """LiveKit's state of the agent: listening, thinking, speaking, ..."""
        return self.agent.attributes.get("lk.agent.state") if self.agent is not None else None

    def captions(self, own: bool = False) -> list[Line]:
        """What the agent said, or the caller's own words as they were recognised."""
        return [line for line in self.lines if (line.speaker == self.identity) == own]

    @property
    def now(self) -> int:
        """A mark for `sound`: the number of samples heard."""
        return sum(len(part) for part in self.heard)

    def sound(self, since: int = 0) -> np.ndarray[Any, Any]:
        return np.concatenate(self.heard)[since:] if self.heard else np.zeros(0, np.int16)

    async def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
        """Wait until something is so; returns what the condition returned."""
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait_for(condition)
            except TimeoutError:
                raise AssertionError(
                    f"{self.identity} waited {seconds} s for {what}. Agent: {self.state}; captions: {self.lines}; "
                    f"chat: {self.chat}; attributes: {self.attributes}"
                ) from None
            return condition()

    async def answered(self, after: int = 0) -> Line:
        """The agent's next whole caption behind the first `after` of them, when the agent has ended to speak."""
        line = await self.until(
            lambda: next((x for x in self.captions()[after:] if x.final and x.text), None),
            f"the agent's caption {after}",
        )
        await self.until(lambda: self.state == "listening", "the end of the agent's speech")
        assert isinstance(line, Line)
        return line

    # ---- wiring

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)

        def done(ended: asyncio.Task[Any]) -> None:
            self._tasks.discard(ended)
            if not ended.cancelled() and ended.exception() is not None:
                raise ended.exception()  # type: ignore[misc]  # reported by the loop, which fails the test

        task.add_done_callback(done)

    def _listen(self) -> None:
        self.room.on("participant_connected", lambda p: self._on_attributes(p.attributes, p))
        self.room.on("participant_disconnected", lambda *_: self._start(self._notify()))
        self.room.on("track_subscribed", self._on_track)
        self.room.on("participant_attributes_changed", self._on_attributes)
        self.room.register_text_stream_handler("lk.transcription", self._on_caption)
        self.room.register_text_stream_handler("lk.chat", self._on_chat)

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        self.attributes.append((participant.identity, dict(changed)))
        self._start(self._notify())

    def _on_track(self, track: rtc.Track, *_: Any) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._start(self._record(track))

    async def _record(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        try:
            async for event in stream:
                self.heard.append(np.frombuffer(event.frame.data, np.int16).copy())
        finally:
            await stream.aclose()

    def _on_caption(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._start(self._read_caption(reader, identity))

    async def _read_caption(self, reader: rtc.TextStreamReader, identity: str) -> None:
        attributes = reader.info.attributes or {}
        segment = attributes.get("lk.segment_id", reader.info.stream_id)
        final = attributes.get("lk.transcription_final") == "true"
        line = next((x for x in self.lines if x.segment == segment and x.speaker == identity), None)
        if line is None:
            line = Line(identity, segment)
            self.lines.append(line)
        if final or identity == self.identity:
            line.text = ""  # this stream has the whole text once more
        async for part in reader:
            line.text += part
            await self._notify()
        # A stream of the agent's is one segment, written as it is spoken; of one's own words there are several.
        line.final = line.final or final or identity != self.identity
        await self._notify()

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            self.chat.append(await reader.read_all())
            await self._notify()

        self._start(read())

    async def _speak(self, source: rtc.AudioSource) -> None:
        """A microphone: a frame every 20 ms by the clock, silence where nothing is said."""
        quiet = np.zeros(FRAME, np.int16)
        started, sent = time.monotonic(), 0
        samples: np.ndarray[Any, Any] = quiet[:0]
        spoken: asyncio.Future[None] | None = None
        while True:
            if not len(samples):
                if spoken is not None:
                    spoken.set_result(None)
                    spoken = None
                with contextlib.suppress(asyncio.QueueEmpty):
                    samples, spoken = self._to_say.get_nowait()
            part, samples = samples[:FRAME], samples[FRAME:]
            frame = np.concatenate([part, quiet[: FRAME - len(part)]])
            await source.capture_frame(rtc.AudioFrame(frame.tobytes(), RATE, 1, FRAME))
            sent += 1
            await asyncio.sleep(max(0.0, started + sent * FRAME / RATE - time.monotonic()))


@contextlib.asynccontextmanager
async def joined(
    server: LiveKitServer, room: str, identity: str = "caller", *, agent: str | None = "desk", **facts: Any
) -> AsyncIterator[Caller]:
    """Join a room with a microphone, and leave it at the end.

    Args:
        agent: the agent that the token asks for (LiveKit's explicit dispatch); None asks for none.
        facts: the dispatch's metadata.
    """
    token = (
        AccessToken(server.key, server.secret)
        .with_identity(identity)
        .with_grants(VideoGrants(room_join=True, room=room))
    )
    if agent is not None:
        dispatch = api.RoomAgentDispatch(agent_name=agent, metadata=json.dumps(facts))
        token = token.with_room_config(api.RoomConfiguration(agents=[dispatch]))
    caller = Caller(identity, rtc.Room())
    caller._listen()
    source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
    await caller.room.connect(server.url, token.to_jwt())
    track = rtc.LocalAudioTrack.create_audio_track("microphone", source)
    await caller.room.local_participant.publish_track(
        track, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    )
    microphone = asyncio.create_task(caller._speak(source), name=f"the microphone of {identity}")
    try:
        yield caller
    finally:
        await utils.aio.cancel_and_wait(microphone)
        await caller.room.disconnect()
        await utils.aio.cancel_and_wait(*caller._tasks)
        await source.aclose()
