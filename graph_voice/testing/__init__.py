"""Public. The test kit: a whole call in milliseconds, without audio, network or keys.

`Call` scripts it: what the caller says, when they cut in, what the front end guesses, when the process dies.
`invariants` checks what always holds. `ScriptedModel`, with its functions `say`, `call`, `fail` and `hang`, stands in
for a chat model (`graph_voice.testing.models`). `run` and the pytest marker `virtual_clock` make waiting free
(`graph_voice.testing.clock`). `check_prompt` refuses what a strict provider would refuse. The kit for audio is in
`graph_voice_livekit.testing`.
"""

from graph_voice.launch.loading import load_graph
from graph_voice.testing.clock import ClockStalled, VirtualClockLoop, run, virtual_time
from graph_voice.testing.front_end import FrontEnd, PlanError
from graph_voice.testing.invariants import check_invariants, invariants
from graph_voice.testing.models import Prompt, ScriptedModel
from graph_voice.testing.prompts import PromptError, check_prompt
from graph_voice.testing.record import Recorded, record
from graph_voice.testing.recorded import recorded_test
from graph_voice.testing.result import Result
from graph_voice.testing.script import ScriptError, call, fail, hang, say
from graph_voice.testing.scripted_call import Call
from graph_voice.testing.simulation import simulate

__all__ = [
    "Call",
    "ClockStalled",
    "FrontEnd",
    "PlanError",
    "Prompt",
    "PromptError",
    "Recorded",
    "Result",
    "ScriptError",
    "ScriptedModel",
    "VirtualClockLoop",
    "call",
    "check_invariants",
    "check_prompt",
    "fail",
    "hang",
    "invariants",
    "load_graph",
    "record",
    "recorded_test",
    "run",
    "say",
    "simulate",
    "virtual_time",
]
