"""A spoken call in a notebook: `await hear(graph, ["Hello."])` at the end of a cell shows a recording and its words."""

import asyncio
import base64
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import soundfile
from langchain_core.language_models import BaseChatModel
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from graph_voice import Conversation
from graph_voice.launch.model_choice import ModelChoice
from graph_voice.notebook_html import conversation_html
from graph_voice_livekit.console.live_page import ServeCommand, serve_command
from graph_voice_livekit.console.setup import CALLER_VOICE, CallParts
from graph_voice_livekit.inprocess import CallResult, SimulatedCaller, make_session, run_call
from graph_voice_livekit.inprocess.caller import ScriptLines
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE
from graph_voice_livekit.offline import load_all
from graph_voice_livekit.offline.packages import is_installed

__all__ = ["HeardCall", "hear"]

_TOOL_STEPS = 20
"""Rounds of tools per turn in LiveKit. The graph has a limit of its own."""


@dataclass(frozen=True)
class HeardCall:
    """A call that is over, to listen to and to look at."""

    conversation: Conversation[Any]
    """What the graph remembers of the call."""
    result: CallResult
    live_page: ServeCommand
    """The command that opens the graph in the browser, to talk to it."""

    def mp3(self) -> bytes:
        """The recording, with caller and agents in one channel; about 4 kB a second."""
        both = self.result.recorder.samples(self.result.duration).astype(np.int32).sum(axis=1)
        file = io.BytesIO()
        soundfile.write(
            file,
            np.clip(both, -32768, 32767).astype(np.int16),
            SAMPLE_RATE,
            format="MP3",
            subtype="MPEG_LAYER_III",
            bitrate_mode="CONSTANT",
            compression_level=0.9,
        )
        return file.getvalue()

    def __repr__(self) -> str:
        return f"<HeardCall of {self.result.duration:.1f} s: {self.conversation!r}>"

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.mp3()).decode()
        player = f'<audio controls preload="metadata" src="data:audio/mpeg;base64,{data}"></audio>'
        head = f'<div title="{escape(repr(self))}">{player}{self.live_page.html()}</div>'
        return f"{head}{conversation_html(self.conversation)}"


async def hear(
    graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any],
    lines: Sequence[str],
    *,
    llm: BaseChatModel | None = None,
    seed: int = 0,
    limit: float = 120.0,
) -> HeardCall:
    """Hold a call with the offline speech parts: a caller says these lines, and each agent answers in its own voice.

    It takes as long as the call. The session is LiveKit's own and runs in this process in real time, without a server.
    Under the recording is the command that opens the graph in the live page, where you talk to it yourself.

    Args:
        graph: a voice graph.
        lines: what the caller says, one turn each. A line begins when the answer to the last one is over.
        llm: the model. Default: the graph's own.
        seed: chooses how the voices sound.
        limit: seconds after which the call is ended.

    Raises `MissingDependencyError` without `graph-voice[offline]`, and `CallError` when nobody answers.
    """
    with warnings.catch_warnings():
        # Whisper's package wants a progress bar from a package that a notebook may lack.
        warnings.filterwarnings("ignore", message="IProgress not found")
        # In the main thread, where LiveKit registers its plugins.
        speech = load_all(seed=seed if is_installed("onnx") else None)
    probe: Conversation[Any] = Conversation(graph)
    agents = sorted(
        (name for name in probe.call.roles.nodes if name in probe.call.roles.agents),
        key=lambda n: n != probe.active_agent,
    )
    parts = CallParts(graph, agents, ModelChoice(llm, "the given one" if llm else "the graph's own"), speech)
    agent = parts.agent()
    caller = SimulatedCaller(ScriptLines.of(lines), voice=speech.tts(CALLER_VOICE), seed=seed)
    session = make_session(stt=parts.recognition, vad=speech.vad, tts=speech.tts(0), max_tool_steps=_TOOL_STEPS)
    try:
        result = await run_call(agent, session, caller=caller, limit=limit)
    finally:
        await asyncio.shield(agent.aclose())
    return HeardCall(agent.conversation, result, serve_command(graph))
