"""One call of one page: LiveKit's session between the page's microphone and its loudspeaker, or in text."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from livekit.agents import AgentSession
from livekit.agents import stt as lk_stt
from livekit.agents.voice import TranscriptSynchronizer
from livekit.agents.voice.events import CloseEvent

from graph_voice_livekit.inprocess import make_session
from graph_voice_livekit.offline import OfflineParts
from graph_voice_livekit.page.clock import PageClock
from graph_voice_livekit.page.limits import Allowance
from graph_voice_livekit.page.loudspeaker import PageLoudspeaker
from graph_voice_livekit.page.microphone import PageMicrophone
from graph_voice_livekit.page.parts import GraphParts
from graph_voice_livekit.page.protocol import PageError, Played, Pong, Say, ToPage
from graph_voice_livekit.page.room import PageRoom
from graph_voice_livekit.page.watch import CallWatch

__all__ = ["PageCall"]

STEPS = 20
"""Rounds of tools per turn in LiveKit, whose default is less than the graph's own limit."""
_PING = 2.0
"""Seconds between pings, by which the page's clock is known."""
_MUTE = "This page plays no sound. Click into it, or look at the browser's permission for sound, then restart the call."


class PageCall:
    """A call from its start until the page is gone or the session has closed.

    Args:
        parts: the graph.
        speech: its voices and ears. None: the call is in text.
        page_rate: hertz of the page's sound.
        send: takes JSON or a binary frame for the page.
        on_end: called once, with the reason, when the call is over.
        room: the LiveKit room that carries the sound. None: the page's WebSocket does.
    """

    def __init__(
        self,
        parts: GraphParts,
        speech: OfflineParts | None,
        page_rate: int,
        send: Callable[[ToPage | bytes], None],
        on_end: Callable[[str], None],
        room: PageRoom | None = None,
    ) -> None:
        self.parts = parts
        self._send, self._on_end, self._room = send, on_end, room
        self._clock = PageClock()
        self._typed = Allowance(rate=2.0, burst=6.0)
        self.watch = CallWatch(self._tell)
        self._agent = parts.agent(speech, self.watch.runs)
        self._microphone: PageMicrophone | None = None
        self._loudspeaker: PageLoudspeaker | None = None
        self._synchronizer: TranscriptSynchronizer | None = None
        self._session = self._made(speech, page_rate)
        self._tasks: list[asyncio.Task[None]] = []
        self._saying: set[asyncio.Task[None]] = set()
        self._ready = asyncio.Event()
        self._over = False
        self._gone = False

    def _made(self, speech: OfflineParts | None, page_rate: int) -> AgentSession[Any]:
        if speech is None:
            session: AgentSession[Any] = AgentSession(
                vad=None, turn_handling={"turn_detection": "manual"}, max_tool_steps=STEPS, user_away_timeout=None
            )
            session.output.transcription = self.watch.captions
            return session
        session = make_session(
            stt=lk_stt.StreamAdapter(stt=speech.stt, vad=speech.vad),
            vad=speech.vad,
            tts=speech.tts(0),
            max_tool_steps=STEPS,
        )
        if self._room is not None:
            return session
        self._microphone = PageMicrophone(page_rate)
        self._loudspeaker = PageLoudspeaker(self._send, page_rate, self._clock, self._mute)
        self._synchronizer = TranscriptSynchronizer(
            next_in_chain_audio=self._loudspeaker, next_in_chain_text=self.watch.captions
        )
        session.input.audio = self._microphone
        session.output.audio = self._synchronizer.audio_output
        session.output.transcription = self._synchronizer.text_output
        return session

    @property
    def started(self) -> bool:
        """Whether it has begun."""
        return bool(self._tasks)

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self._over

    async def start(self) -> None:
        """Begin. Raises what `session.start` raises."""
        self.watch.follow(self._agent.conversation, self._session)
        self._session.on("close", self._closed)
        if self._room is None:
            await self._session.start(self._agent)
        else:
            await self._room.start(self._session, self._agent, self.watch.captions)
        self._ready.set()
        self._tasks = [asyncio.create_task(self.watch.run(), name="page watch")]
        if self._loudspeaker is not None:
            self._tasks.append(asyncio.create_task(self._ping(), name="page ping"))

    def _tell(self, message: ToPage) -> None:
        self._send(message)
        if self._room is not None:
            self._room.tell(message)

    async def _ping(self) -> None:
        while True:
            self._send({"type": "ping", "id": self._clock.ping(time.time())})
            await asyncio.sleep(_PING)

    # ---- what the page does

    def say(self, said: Say) -> None:
        """The caller has typed something. Raises `PageError` when nobody can type that fast."""
        if not self._typed.take(1.0, time.monotonic()):
            raise PageError("more lines than anybody types")
        task = asyncio.create_task(self._answer(said.text), name="page says")
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def _answer(self, text: str) -> None:
        await self._ready.wait()  # a page may be faster than the session
        with contextlib.suppress(RuntimeError):  # the session closes
            await self._session.interrupt(force=True)
            self._session.generate_reply(user_input=text, input_modality="text")

    def interrupt(self) -> None:
        """The caller wants silence."""
        with contextlib.suppress(RuntimeError):  # the session closes
            self._session.interrupt()

    def hear(self, samples: bytes) -> None:
        """A frame of the microphone. Raises `PageError`."""
        if self._microphone is not None:
            self._microphone.feed(samples, time.monotonic())

    def played(self, report: Played) -> None:
        """The page's loudspeaker has come so far."""
        if self._loudspeaker is not None:
            self._loudspeaker.report(report)

    def pong(self, answer: Pong) -> None:
        """The page has answered a ping."""
        self._clock.pong(answer.id, answer.at, time.time())

    def _mute(self) -> None:
        self._send({"type": "notice", "kind": "error", "text": _MUTE})

    # ---- the end

    def _closed(self, event: CloseEvent) -> None:
        if self._gone:
            # LiveKit says "user_initiated" of every session that is closed from outside. This comes first, and counts.
            self._saying.add(asyncio.create_task(self._agent.conversation.aclose("participant_disconnected")))
        if not self._over:
            self._over = True
            self._on_end(event.reason.value)

    async def hang_up(self) -> None:
        """End the call, if it is not over: the page is gone. What it has not reported was not heard."""
        self._gone = not self._over
        self._over = True
        if self._microphone is not None:
            self._microphone.close()
        if self._loudspeaker is not None:
            await self._loudspeaker.aclose()
        await self._session.aclose()
        await self._agent.aclose()
        if self._room is not None:
            await self._room.aclose()
        tasks = (*self._tasks, *self._saying)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._synchronizer is not None:
            await self._synchronizer.aclose()
