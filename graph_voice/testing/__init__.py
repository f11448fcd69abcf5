"""The test kit: scripted models, a virtual clock, and checks of what models are given.

`ScriptedModel` and its words `say`, `call`, `fail`, `hang` stand for a chat model
(`graph_voice.testing.models`); `run` and the pytest marker `virtual_clock` make waiting free
(`graph_voice.testing.clock`); `check_prompt` refuses what a strict provider would refuse. The kit for audio
is in `graph_voice_livekit.testing`.
"""

from graph_voice.testing.clock import ClockStalled, VirtualClockLoop, run, virtual_time
from graph_voice.testing.models import Prompt, ScriptedModel
from graph_voice.testing.prompts import PromptError, check_prompt
from graph_voice.testing.script import ScriptError, call, fail, hang, say

__all__ = [
    "ClockStalled",
    "Prompt",
    "PromptError",
    "ScriptError",
    "ScriptedModel",
    "VirtualClockLoop",
    "call",
    "check_prompt",
    "fail",
    "hang",
    "run",
    "say",
    "virtual_time",
]
