"""One call in one process: a LiveKit session without a server, from first frame to last file."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
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
"""Seconds of silence after the last word, so that the recording does not end with it."""

_QUIET = 1.0
"""Seconds in which nobody speaks and no agent works, after which nothing more is expected."""

_RECOGNITION = 6.0
"""Seconds to wait for the words of what sounded like speech. Noise never becomes words."""


def make_session(
    *,
    llm: NotGivenOr[llm.LLM[Any]] = NOT_GIVEN,
    stt: NotGivenOr[stt.STT[Any]] = NOT_GIVEN,
    tts: NotGivenOr[tts.TTS[Any]] = NOT_GIVEN,
    vad: NotGivenOr[vad.VAD] = NOT_GIVEN,
    userdata: Any = NOT_GIVEN,
    **options: Any,
) -> AgentSession[Any]:
    """An `AgentSession` with settings that suit a call in one process; `options` are LiveKit's own and override them.

    - A turn ends by voice activity, half a second after the last word. LiveKit's own detector is trained on people and
      waits longer for synthetic speech.
    - Interruptions go by voice activity and count from the first second: nothing echoes, so no echo cancellation has
      to warm up.
    - Replies are generated preemptively, as by LiveKit's default.
    - The voice's word timings, if it has any, tell how much of an interrupted reply was heard.
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
        # when the session is closed, the caller's last words have been answered already
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
    wav: str | Path | None = None,
    title: str = "Call",
    on_entry: Callable[[LogEntry], None] | None = None,
    limit: float = 300.0,
    patience: float = 15.0,
    greeting: float = 1.5,
    extra: Mapping[str, Any] | None = None,
    agents: Sequence[str] = (),
) -> CallResult:
    """Hold one call between an agent and either an audio file or a simulated caller.

    The file begins when the agent's greeting is over, if there is one. The call ends when the file is over and
    everything said has been answered, or when the caller's script has ended.

    Args:
        agent: the first agent; any `livekit.agents.Agent`.
        session: not started yet, for example from `make_session`. It is closed when the call ends.
        audio: a file, or a `FileAudioInput`, which waits for the greeting only if it was made with `held=True`. Give
            either this or `caller`.
        caller: a simulated caller.
        folder: where `call.wav`, `transcript.md`, `timeline.png` and `call.json` are written; created if it is missing.
        wav: where the recording is written, instead of `call.wav` in the folder.
        title: of the transcript and the timeline.
        on_entry: called with each entry of the log as soon as it is complete, for example a `LivePrinter`.
        limit: seconds after which the call is ended in any case.
        patience: seconds to wait for the answer to an utterance of the file.
        greeting: seconds within which an agent that speaks first is expected to begin.
        extra: kept with the log and shown in the head of the transcript.
        agents: the names of the graph's agents in its order, so that each has the color of the graph's drawing.

    Raises:
        AudioFileError: the file can't be played. Before the call starts.
        CallError: something is missing (a caller, an LLM, a voice), the session broke, an answer did not come, or
            the limit was reached. If the call has begun, `result` has its files.

    However a call ends that has begun (an error, Ctrl-C, a session that does not close), its files are written first,
    the recording before all others.
    """
    clock, recorder = CallClock(), CallRecorder()
    source = _source(audio, caller)
    _check(agent, session)
    source.clock, source.on_heard = clock, recorder.caller
    output = RecordingAudioOutput(clock=clock, on_played=recorder.agents)
    # as RoomIO does, so that an interrupted reply is remembered as far as it was heard; it needs no room
    synchronizer = TranscriptSynchronizer(next_in_chain_audio=output, next_in_chain_text=None)
    captions = Captions(next_in_chain=synchronizer.text_output)
    logger = CallLogger(session, output, clock, captions=captions, on_entry=on_entry)
    source.on_line = logger.line
    turns = TurnTaking(session, output, clock)
    session.input.audio = source
    session.output.audio = synchronizer.audio_output
    session.output.transcription = captions

    failure: BaseException | None = None
    try:
        await session.start(agent)
        clock.start()
        if caller is not None and isinstance(source, LineAudioInput):
            conversation = caller.talk(source, turns, clock, note=logger.note)
        else:
            assert isinstance(source, FileAudioInput)
            conversation = _play(source, turns, clock, logger, patience=patience, greeting=greeting)
        async with asyncio.timeout(limit):
            await conversation
        if turns.closed is not None:
            raise CallError(f"LiveKit closed the session during the call (reason: {turns.closed.reason.value}).")
        await clock.sleep_until(clock.now() + _TAIL)
    except TimeoutError:
        failure = CallError(f"The call was ended at its limit of {limit:g} s. Give it a higher limit if it needs it.")
    except (Exception, asyncio.CancelledError) as error:
        failure = error  # the call is closed and written first; a canceled call is one whose caller hung up
    finally:
        clock.stop()
        logger.over()
        source.close()
        for close in (session.aclose, synchronizer.aclose, output.aclose):
            try:
                await close()
            except (Exception, asyncio.CancelledError) as error:  # a second Ctrl-C, say: the recording is not lost
                failure = failure or error

    if failure is not None:
        why = str(failure) or type(failure).__name__
        if isinstance(failure, asyncio.CancelledError):
            why = "the call was ended from outside (Ctrl-C, say)"
        if isinstance(failure, CallError) and logger.last_error is not None:
            failure.args = (f"{why} Last error in the call: {logger.last_error}",)
        logger.note(Note("end", why, clock.stop()))
    result = _write(logger.finish(clock.stop(), extra=extra, graph=agents), recorder, folder, wav, title)
    if isinstance(failure, CallError):
        failure.result = result
    if failure is not None:
        raise failure
    return result


def _source(
    audio: str | Path | FileAudioInput | None, caller: SimulatedCaller | None
) -> FileAudioInput | LineAudioInput:
    if (audio is None) == (caller is None):
        raise CallError("A call needs a caller: give either `audio` (a file) or `caller`, not both.")
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
    turns: TurnTaking,
    clock: CallClock,
    logger: CallLogger,
    *,
    patience: float,
    greeting: float,
) -> None:
    """Play the file when the greeting is over, and wait until everything said has been answered."""

    def answered() -> bool:
        return turns.playbacks > turns.playbacks_when_recognized

    await turns.until(lambda: turns.replies + turns.playbacks > 0, timeout=greeting)
    await turns.until(lambda: turns.idle, hold=_QUIET / 2)
    source.release()
    await turns.until(lambda: source.finished)
    # the end of speech is noticed a little later, and its words are recognized later still
    await turns.until(lambda: turns.idle, hold=_QUIET)
    await turns.until(lambda: not turns.unrecognized, timeout=_RECOGNITION)
    while turns.closed is None and turns.recognized and not answered():
        if await turns.until(lambda: not turns.playing, hold=patience, unless=answered):
            raise CallError(
                f"No agent has answered {turns.recognized[-1]!r} within {patience:g} s; {turns.agent!r} is active."
            )
        await turns.until(lambda: turns.idle, hold=_QUIET)
    if turns.closed is None and not turns.recognized:
        logger.note(Note("end", NO_SPEECH, clock.now()))


def _write(
    log: CallLog, recorder: CallRecorder, folder: str | Path | None, wav: str | Path | None, title: str
) -> CallResult:
    """Write the recording, then what is made from the log, the picture last: it is the most likely to fail."""
    saved = recorder.save(Path(wav), duration=log.duration) if wav is not None else None
    if folder is None:
        return CallResult(log, recorder, wav=saved)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    saved = saved or recorder.save(folder / "call.wav", duration=log.duration)
    data = folder / "call.json"
    data.write_text(log.to_json() + "\n", encoding="utf-8")
    return CallResult(
        log,
        recorder,
        wav=saved,
        json=data,
        transcript=write_transcript(log, folder / "transcript.md", title=title),
        timeline=draw_timeline(log, recorder.samples(log.duration), folder / "timeline.png", title=title),
    )
