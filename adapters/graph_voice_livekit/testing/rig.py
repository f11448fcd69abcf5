"""A whole call without a room: a real `AgentSession` between a fake caller and a fake loudspeaker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from livekit.agents import Agent, AgentSession, TurnHandlingOptions, utils
from livekit.agents.llm import ChatMessage
from livekit.agents.voice import TranscriptSynchronizer
from livekit.agents.voice.events import CloseEvent, ErrorEvent

from graph_voice.errors import GraphVoiceError
from graph_voice_livekit.testing.caller import FakeAudioInput, FakeSTT, FakeVAD
from graph_voice_livekit.testing.voice import FakeAudioOutput, FakeCaptions, FakeTTS, Spoken

__all__ = ["CallStuck", "VoiceRig", "voice_rig"]


class CallStuck(GraphVoiceError, AssertionError):
    """A call did not come to rest in time."""


class VoiceRig:
    """A running call. Made by `voice_rig`; all times are seconds since the call began."""

    def __init__(
        self,
        session: AgentSession[Any],
        caller: FakeAudioInput,
        stt: FakeSTT,
        loudspeaker: FakeAudioOutput,
        captions: FakeCaptions,
    ) -> None:
        self.session = session
        self.caller = caller
        self.stt = stt
        self.loudspeaker = loudspeaker
        self.captions = captions
        self.errors: list[Any] = []
        """The `error` events of the session, and the error with which it closed, if it did."""
        loudspeaker.origin = asyncio.get_running_loop().time()
        session.on("error", self._on_error)
        session.on("close", self._on_close)

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        return asyncio.get_running_loop().time() - self.loudspeaker.origin

    @property
    def spoken(self) -> list[Spoken]:
        """What the caller heard, in order, as far as it is over."""
        return self.loudspeaker.spoken

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and text of each message in the session's history, in order."""
        return [
            (item.role, item.text_content or "") for item in self.session.history.items if isinstance(item, ChatMessage)
        ]

    async def wait_until(self, at: float) -> None:
        """Let the call go on until this second.

        Raises:
            ValueError: that second has passed.
        """
        if at < self.now - 1e-6:
            raise ValueError(f"The call is at {self.now:.3f} s already, {at} s has passed.")
        await asyncio.sleep(max(0.0, at - self.now))

    async def user_says(
        self,
        text: str,
        *,
        at: float | None = None,
        seconds: float | None = None,
        preflight: str | None = None,
        final: str | None = None,
    ) -> None:
        """Let the caller speak, and return when the last word is out (not when it was understood).

        Args:
            text: what is said. Someone may be speaking at the same time: this is how to barge in.
            at: the second at which to begin; by default at once.
            seconds: how long it takes; by default 0.3 for each word.
            preflight: what the recognizer guesses before it is sure (LiveKit may reply to it preemptively).
            final: what the recognizer makes of it in the end; by default what was said.
        """
        if at is not None:
            await self.wait_until(at)
        if preflight is not None or final is not None:
            self.stt.mishears(text.strip(), preflight=preflight, final=final)
        await self.caller.speak(text, seconds=seconds)

    async def until_speaking(self, *, timeout: float = 60.0) -> None:
        """Wait until the agent's voice is heard.

        Raises:
            CallStuck: it is silent for `timeout` seconds.
        """
        started = asyncio.Event()
        if self.loudspeaker.audible:
            return
        self.loudspeaker.once("playback_started", lambda event: started.set())
        try:
            await asyncio.wait_for(started.wait(), timeout)
        except TimeoutError:
            raise CallStuck(f"The agent is silent for {timeout} s: {self._state()}") from None

    async def until_idle(
        self, *, quiet: float = 1.5, timeout: float = 60.0, busy: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until nobody speaks or thinks and that has lasted for a while.

        Args:
            quiet: seconds that it must last. Longer than the silences after which a turn ends (endpointing),
                or the reply to the caller's last words may not have begun yet.
            timeout: seconds after which to give up.
            busy: whether something else goes on.

        Raises:
            CallStuck: the call is still busy after `timeout` seconds.
        """
        since, deadline = self.now, self.now + timeout
        while self.now - since < quiet - 1e-6:
            if self.now > deadline:
                raise CallStuck(f"The call is still busy after {timeout} s: {self._state()}")
            await asyncio.sleep(0.05)
            if self._busy() or busy():
                since = self.now

    def _busy(self) -> bool:
        return (
            self.session.agent_state not in ("listening", "idle")
            or self.session.user_state == "speaking"
            or self.session.current_speech is not None
            or self.caller.speaking
            or self.loudspeaker.playing
        )

    def _state(self) -> str:
        return (
            f"agent {self.session.agent_state}, user {self.session.user_state}, "
            f"speech {self.session.current_speech}, caller speaking {self.caller.speaking}, "
            f"loudspeaker playing {self.loudspeaker.playing}, heard {[spoken.text for spoken in self.spoken]}"
        )

    def _on_error(self, event: ErrorEvent) -> None:
        self.errors.append(event.error)

    def _on_close(self, event: CloseEvent) -> None:
        if event.error is not None:
            self.errors.append(event.error)


@contextlib.asynccontextmanager
async def voice_rig(
    agent: Agent,
    *,
    tts: Any = None,
    stt: FakeSTT | None = None,
    vad: Any = None,
    loudspeaker: FakeAudioOutput | None = None,
    synchronizer: bool = False,
    turn_handling: TurnHandlingOptions | None = None,
    **session_options: Any,
) -> AsyncIterator[VoiceRig]:
    """Start a call with an agent and close it at the end.

    ```python
    @pytest.mark.virtual_clock
    async def test_barge_in() -> None:
        async with voice_rig(agent, llm=model) as rig:
            await rig.user_says("Tell me a story.", at=0.5)
            await rig.user_says("Stop!", at=4.0, seconds=1.0)
            await rig.until_idle()
            assert rig.spoken[0].interrupted
    ```

    On the virtual clock a call costs no time; on a usual loop it runs in real time. LiveKit's defaults hold
    except for these, which `session_options` can change: turns end by voice activity
    (`turn_detection="vad"`, the bundled turn detector is a model), interruptions are of mode "vad", and the
    echo canceler's warm-up is off (`aec_warmup_duration=None`).

    Args:
        agent: the first agent.
        tts: the session's voice, by default `FakeTTS()`. Agents may bring their own.
        stt: the recognizer, by default `FakeSTT()`.
        vad: the voice activity detector, by default `FakeVAD()`.
        loudspeaker: by default `FakeAudioOutput()`.
        synchronizer: let LiveKit's `TranscriptSynchronizer` estimate what was heard, as it does in a room. By
            default the loudspeaker tells it exactly.
        session_options: arguments of `AgentSession` (`llm=`, `userdata=`, `turn_handling=`, ...).
    """
    options: TurnHandlingOptions = {"turn_detection": "vad"}
    options.update(turn_handling or {})
    options["interruption"] = {"mode": "vad", **options.get("interruption", {})}
    recognizer = stt or FakeSTT()
    session: AgentSession[Any] = AgentSession(
        stt=recognizer,
        vad=vad or FakeVAD(),
        tts=tts or FakeTTS(),
        turn_handling=options,
        **{"aec_warmup_duration": None, **session_options},
    )
    rig = VoiceRig(session, FakeAudioInput(), recognizer, loudspeaker or FakeAudioOutput(), FakeCaptions())
    async with contextlib.AsyncExitStack() as stack:
        session.input.audio = rig.caller
        if synchronizer:
            link = TranscriptSynchronizer(next_in_chain_audio=rig.loudspeaker, next_in_chain_text=rig.captions)
            stack.push_async_callback(link.aclose)
            session.output.audio, session.output.transcription = link.audio_output, link.text_output
        else:
            session.output.audio, session.output.transcription = rig.loudspeaker, rig.captions
        microphone = asyncio.create_task(rig.caller.run(), name="the caller's microphone")
        stack.push_async_callback(utils.aio.gracefully_cancel, microphone)
        stack.push_async_callback(session.aclose)
        await session.start(agent)
        yield rig
