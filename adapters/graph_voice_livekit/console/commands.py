"""The commands that need audio: `graph-voice talk` and `graph-voice demo`."""

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from graph_voice.cli.options import SPEAK, USERDATA, check_file, check_folder, userdata_of
from graph_voice.drawing import agents_of, to_svg
from graph_voice.graph.speakers import speakers_of
from graph_voice.launch.loading import load_graph, name_of
from graph_voice_livekit.console.setup import CALLER_VOICE, CallParts, Choices, prepare
from graph_voice_livekit.console.state_file import write_state
from graph_voice_livekit.inprocess import CallerError, CallResult, LivePrinter, SimulatedCaller, make_session, run_call
from graph_voice_livekit.inprocess.audio_in import FileAudioInput
from graph_voice_livekit.inprocess.caller import Script, ScriptLines
from graph_voice_livekit.offline.examples import Examples, ExamplesError

__all__ = ["demo", "talk"]

DEFAULT_GRAPH = "graphs/customer_service.py:graph"
STEPS = 20
"""Rounds of tools per turn in LiveKit, whose default is less than the graph's own limit."""

Graph = Annotated[str, typer.Argument(metavar="GRAPH", help="path.py:attribute, as in langgraph.json.")]
Llm = Annotated[
    str | None,
    typer.Option(
        help='The model: "openai:gpt-4.1-mini", or "offline" for the intent router. Default: GRAPH_VOICE_LLM, the '
        "graph's own, OpenAI with OPENAI_API_KEY, else the intent router over the example sentences beside the graph."
    ),
]
BaseUrl = Annotated[str | None, typer.Option(help="An OpenAI-compatible server; --llm names its model.")]
SttModel = Annotated[
    Path | None, typer.Option(help="Folder of a Whisper model in CTranslate2 format. Default: tiny.en.")
]
VoiceFile = Annotated[Path | None, typer.Option("--voice", help="A piper voice, .onnx. Default: the packaged one.")]
Speak = Annotated[list[str] | None, typer.Option(metavar="NODE", help=SPEAK)]
Userdata = Annotated[str | None, typer.Option(metavar="JSON", help=USERDATA)]
Language = Annotated[str, typer.Option(help="What is spoken, as a language code.")]


def talk(
    graph: Graph,
    input: Annotated[Path | None, typer.Option("--input", "-i", help="An audio file that is the caller.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Record the call to this WAV file.")] = None,
    llm: Llm = None,
    base_url: BaseUrl = None,
    stt_model: SttModel = None,
    voice: VoiceFile = None,
    language: Language = "en",
    speak: Speak = None,
    userdata: Userdata = None,
    limit: Annotated[float, typer.Option(help="Seconds after which the call is ended.")] = 600.0,
) -> None:
    """Talk to a graph by voice: with your microphone, or with a recording as the caller.

    The call is a real LiveKit session in this process; no server and no key is needed. With --input, the file is played
    in real time, and what the agents say is recorded: caller left, agents right.
    """
    choices = Choices(graph, llm, base_url, stt_model, voice, language, speak=speak or (), userdata=userdata)
    if input is None:
        from graph_voice_livekit.console.microphone import talk_with_microphone

        if output is not None:
            raise typer.BadParameter("--output records calls with --input only.", param_hint="--output")
        userdata_of(load_graph(graph), userdata)  # before LiveKit's console begins
        talk_with_microphone(choices)
        return
    console = Console(highlight=False)
    recording = FileAudioInput(input, held=True)  # before anything is loaded, so that a bad file is reported at once
    if output is not None:
        check_file(output)
    userdata_of(load_graph(graph), userdata)
    _quiet_logs()
    parts = prepare(choices, console)
    written = output.stat().st_mtime_ns if output is not None and output.exists() else None
    try:
        asyncio.run(_talk(parts, recording, console, limit, output))
    finally:  # also after a failed call, and after Ctrl-C
        if output is not None and output.exists() and output.stat().st_mtime_ns != written:
            console.print(f"Recorded to {output}: caller left, agents right.")


async def _talk(
    parts: CallParts, recording: FileAudioInput, console: Console, limit: float, output: Path | None
) -> CallResult:
    agent = parts.agent()
    agents = agents_of(agent.conversation.graph)
    printer = LivePrinter(console, agents)
    try:
        return await run_call(
            agent, _session(parts), audio=recording, wav=output, on_entry=printer, limit=limit, agents=agents
        )
    finally:
        await agent.aclose()


def demo(
    graph: Graph = DEFAULT_GRAPH,
    seed: Annotated[int, typer.Option(help="Chooses what the caller says, and when it interrupts.")] = 0,
    say: Annotated[
        list[str] | None,
        typer.Option(metavar="LINE", help="What the caller says, instead of the lines beside the graph. Repeatable."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder for the recording, the transcript and the pictures."),
    ] = None,
    llm: Llm = None,
    base_url: BaseUrl = None,
    stt_model: SttModel = None,
    voice: VoiceFile = None,
    language: Language = "en",
    speak: Speak = None,
    userdata: Userdata = None,
    limit: Annotated[float, typer.Option(help="Seconds after which the call is ended.")] = 300.0,
) -> None:
    """Hear a whole call: a simulated caller speaks, interrupts, and is handed from agent to agent.

    It writes a folder with the recording, the transcript, the drawing of the graph, a timeline and the state.
    """
    console = Console(highlight=False)
    choices = Choices(graph, llm, base_url, stt_model, voice, language, seed, speak or (), userdata)
    # A missing graph is reported as such, not as missing example sentences.
    target = load_graph(graph)
    speakers_of(target, choices.speak)
    userdata_of(target, userdata)
    script = ScriptLines.of(say) if say else _script_beside(graph)
    name = name_of(graph)
    folder = output or Path("calls") / f"{name}-{seed}"
    check_folder(folder)
    _quiet_logs()
    parts = prepare(choices, console)
    who = f"Agents: {', '.join(parts.agents)}." if parts.agents else f"Speaks: {', '.join(parts.speak)}."
    console.print(f"Model: {parts.model_name}. {who}\n")
    asyncio.run(_demo(parts, script, folder, seed, name, console, limit))
    console.print(
        f"\nIn {folder}: call.wav (caller left, agents right), transcript.md, timeline.png, graph.svg, state.json"
    )


def _script_beside(graph: str) -> Script:
    try:
        examples = Examples.load(graph)
    except ExamplesError as error:
        raise ExamplesError(f"{error} Or say what the caller says: --say LINE.") from error
    if examples.caller is None:
        raise CallerError(
            f"{examples.source} has no `caller:` section, so nobody calls. Write the caller's lines there, or give "
            "them here: --say LINE."
        )
    return examples.caller


async def _demo(
    parts: CallParts, script: Script, folder: Path, seed: int, name: str, console: Console, limit: float
) -> CallResult:
    agent = parts.agent()
    caller = SimulatedCaller(script, voice=parts.speech.tts(CALLER_VOICE), seed=seed)
    title = f"{name.replace('_', ' ')}, seed {seed}"
    agents = agents_of(agent.conversation.graph)
    try:
        return await run_call(
            agent,
            _session(parts),
            caller=caller,
            folder=folder,
            title=title,
            on_entry=LivePrinter(console, agents),
            limit=limit,
            agents=agents,
            extra={"model": parts.model_name, "seed": seed},
        )
    finally:
        # Also after a failed call, which needs a closer look.
        _draw(agent.conversation, folder)
        try:
            await agent.aclose()
        finally:
            write_state(agent.conversation, folder / "state.json")


def _draw(conversation: Any, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = to_svg(conversation.graph, active=conversation.active_agent or None)
    (folder / "graph.svg").write_text(drawn, encoding="utf-8")


def _session(parts: CallParts) -> Any:
    return make_session(
        stt=parts.recognition,
        vad=parts.speech.vad,
        tts=parts.speech.tts(0),
        max_tool_steps=STEPS,
    )


def _quiet_logs() -> None:
    """Show errors only: warnings would break up the transcript."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in ("livekit", "livekit.agents", "faster_whisper", "graph_voice"):
        logging.getLogger(name).setLevel(logging.ERROR)
