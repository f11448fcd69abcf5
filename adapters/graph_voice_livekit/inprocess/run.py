"""One call in one process: a LiveKit session without a server, from first frame to last file."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from livekit.agents import Agent, AgentSession, llm, stt, tts, vad
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.utils import is_given
from livekit.agents.voice import TranscriptSynchronizer

from graph_voice_livekit.inprocess.audio_in import FileAudioInput, LineAudioInput
from graph_voice_livekit.inprocess.audio_out import RecordingAudioOutput
from graph_voice_livekit.inprocess.caller import SimulatedCaller
from graph_voice_livekit.inprocess.captions import Captions
from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.entries import CallLog, LogEntry, Note
from graph_voice_livekit.inprocess.log import CallLogger
from graph_voice_livekit.inprocess.recorder import CallRecorder
from graph_voice_livekit.inprocess.result import CallError, CallResult
from graph_voice_livekit.inprocess.timeline import draw_timeline
from graph_voice_livekit.inprocess.transcript import NO_SPEECH, write_transcript
from graph_voice_livekit.inprocess.turn_taking import TurnTaking

__all__ = ["make_session", "run_call"]

_TAIL = 0.5
"""Seconds of silence after the last word, so that the recording does not end on it."""

_QUIET = 1.0
"""Seconds without anybody speaking, thinking or working, after which nothing more is to come."""

_RECOGNITION = 6.0
"""Seconds to wait for the words of something that sounded like speech; noise never gets any."""


def make_session(
    *,
    llm: NotGivenOr[llm.LLM[Any]] = NOT_GIVEN,
    stt: NotGivenOr[stt.STT[Any]] = NOT_GIVEN,
    tts: NotGivenOr[tts.TTS[Any]] = NOT_GIVEN,
    vad: NotGivenOr[vad.VAD] = NOT_GIVEN,
    userdata: Any = NOT_GIVEN,
    **options: Any,
) -> AgentSession[Any]:
    """An `AgentSession` with settings that suit a call in one process; `options` are LiveKit's own and win.

    Turns end by voice activity, half a second after the last word (LiveKit's own detector is trained on
    people and waits longer for synthetic speech); interruptions go by voice activity and count from the first
    second (nothing echoes, so there is no echo cancellation to warm up); replies are generated ahead, as
    LiveKit does by default; what an interrupted caller heard is
    told by the voice's word timings, if it has any.
    """
    settings: dict[str, Any] = {
        "turn_handling": {
            "turn_detection": "vad",
            "endpointing": {"min_delay": 0.5, "max_delay": 3.0},
            "interruption": {"mode": "vad"},
        },
        "aec_warmup_duration": None,
        "user_away_timeout": None,
        "use_tts_aligned_transcript": True,
        # what the caller said last has been answered by the time the session is closed
        "session_close_transcript_timeout": 0.2,
    }
    return AgentSession(llm=llm, stt=stt, tts=tts, vad=vad, userdata=userdata, **{**settings, **options})


async def run_call(
    agent: Agent,
    session: AgentSession[Any],
    *,
    audio: str | Path | FileAudioInput | None = None,
    caller: SimulatedCaller | None = None,
    folder: str | Path | None = None,
    title: str = "Call",
    on_entry: Callable[[LogEntry], None] | None = None,
    limit: float = 300.0,
    patience: float = 15.0,
    greeting: float = 1.5,
    extra: Mapping[str, Any] | None = None,
) -> CallResult:
    """Hold one call between an agent and either an audio file or a simulated caller.

    The file begins once the agent, if it speaks first, has finished its greeting. The call ends when the file
    is over, what was said has been answered and all is silent; or when the caller's script has ended.

    Args:
        agent: the first agent; any `livekit.agents.Agent`.
        session: not started yet, for example from `make_session`. It is closed when the call ends.
        audio: a file, or an input made of one (which waits for the greeting only if it was made with
            `held=True`). Either this or `caller`.
        caller: a simulated caller.
        folder: where `call.wav`, `transcript.md`, `timeline.png` and `call.json` go; made if need be.
        title: heads the transcript and the timeline.
        on_entry: gets each entry of the log as soon as it is complete, for example a `LivePrinter`.
        limit: seconds after which the call is ended, whatever goes on.
        patience: seconds to wait for an answer to a recognised utterance of the file.
        greeting: seconds within which an agent that speaks first is expected to begin.
        extra: kept with the log and shown in the head of the transcript.

    Raises:
        AudioFileError: the file can't be played. Before the call starts.
        CallError: nothing can be heard or said (no caller, no LLM), the session broke, an answer did not
            come, or the limit was reached. Once the call has begun, its files are written first, and `result`
            has them.
    """
    clock, recorder = CallClock(), CallRecorder()
    source = _source(audio, caller)
    _check(agent, session)
    source.clock, source.on_heard = clock, recorder.caller
    output = RecordingAudioOutput(clock=clock, on_played=recorder.agents)
    # as RoomIO does: an interrupted reply is remembered as far as it was heard. Public, and needs no room.
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=output, next_in_chain_text=None)
    captions = Captions(next_in_chain=synchronizer.text_output)
    logger = CallLogger(session, output, clock, captions=captions, on_entry=on_entry)
    source.on_line = logger.line
    floor = TurnTaking(session, output, clock)
    session.input.audio = source
    session.output.audio = synchronizer.audio_output
    session.output.transcription = captions

    failure: BaseException | None = None
    try:
        await session.start(agent)
        clock.start()
        if caller is not None and isinstance(source, LineAudioInput):
            conversation = caller.talk(source, floor, clock, note=logger.note)
        else:
            assert isinstance(source, FileAudioInput)
            conversation = _play(source, floor, clock, logger, patience=patience, greeting=greeting)
        async with asyncio.timeout(limit):
            await conversation
        if floor.closed is not None:
            raise CallError(f"LiveKit closed the session during the call (reason: {floor.closed.reason.value}).")
        await clock.sleep_until(clock.now() + _TAIL)
    except TimeoutError:
        failure = CallError(f"The call was ended at its limit of {limit:g} s. Give it a higher limit if it needs it.")
    except (Exception, asyncio.CancelledError) as error:
        failure = error  # the call is closed and written down first; a cancelled one is a caller who hung up
    finally:
        clock.stop()
        source.close()
        await session.aclose()
        await synchronizer.aclose()
        await output.aclose()

    if failure is not None:
        why = str(failure) or type(failure).__name__
        if isinstance(failure, CallError) and logger.last_error is not None:
            failure.args = (f"{why} Last error in the call: {logger.last_error}",)
        logger.note(Note("end", why, clock.stop()))
    result = _write(logger.finish(clock.stop(), extra=extra), recorder, folder, title)
    if isinstance(failure, CallError):
        failure.result = result
    if failure is not None:
        raise failure
    return result


def _source(
    audio: str | Path | FileAudioInput | None, caller: SimulatedCaller | None
) -> FileAudioInput | LineAudioInput:
    if (audio is None) == (caller is None):
        raise CallError("A call needs one who calls: give either `audio` (a file) or `caller`, not both.")
    if isinstance(audio, FileAudioInput):
        return audio
    return LineAudioInput() if audio is None else FileAudioInput(audio, held=True)


def _check(agent: Agent, session: AgentSession[Any]) -> None:
    if session.llm is None and not (is_given(agent.llm) and agent.llm):
        raise CallError(
            f"Neither the session nor the agent {agent.id!r} has an `llm`: LiveKit then never replies, even"
            " if the agent overrides `llm_node`. Set one on either."
        )
    if session.stt is None and not (is_given(agent.stt) and agent.stt):
        raise CallError(f"Neither the session nor the agent {agent.id!r} has an `stt`: nothing would be understood.")
    if session.tts is None and not (is_given(agent.tts) and agent.tts):
        raise CallError(f"Neither the session nor the agent {agent.id!r} has a `tts`: nothing would be heard.")


async def _play(
    source: FileAudioInput,
    floor: TurnTaking,
    clock: CallClock,
    logger: CallLogger,
    *,
    patience: float,
    greeting: float,
) -> None:
    """Play the file, once the greeting is over, and wait until what was said has been answered."""

    def answered() -> bool:
        return floor.playbacks > floor.playbacks_when_recognised

    await floor.until(lambda: floor.replies + floor.playbacks > 0, timeout=greeting)
    await floor.until(lambda: floor.idle, hold=_QUIET / 2)
    source.release()
    await floor.until(lambda: source.finished)
    # that speech has ended is noticed a little later, and recognised later still
    await floor.until(lambda: floor.idle, hold=_QUIET)
    await floor.until(lambda: not floor.unrecognised, timeout=_RECOGNITION)
    while floor.closed is None and floor.recognised and not answered():
        if await floor.until(lambda: not floor.playing, hold=patience, unless=answered):
            raise CallError(
                f"No agent has answered {floor.recognised[-1]!r} within {patience:g} s; {floor.agent!r} has the floor."
            )
        await floor.until(lambda: floor.idle, hold=_QUIET)
    if floor.closed is None and not floor.recognised:
        logger.note(Note("end", NO_SPEECH, clock.now()))


def _write(log: CallLog, recorder: CallRecorder, folder: str | Path | None, title: str) -> CallResult:
    if folder is None:
        return CallResult(log, recorder)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "call.json"
    data.write_text(log.to_json() + "\n", encoding="utf-8")
    return CallResult(
        log,
        recorder,
        wav=recorder.save(folder / "call.wav", duration=log.duration),
        transcript=write_transcript(log, folder / "transcript.md", title=title),
        timeline=draw_timeline(log, recorder.samples(log.duration), folder / "timeline.png", title=title),
        json=data,
    )
