"""Public. Simulated callers: models or scripts that call a graph, and what judges and checks say of the calls."""

from graph_voice.testing.simulation.judges import JUDGES, Evidence, Judge, Verdict
from graph_voice.testing.simulation.lines import Line
from graph_voice.testing.simulation.persona import Caller, HangUp, Move, Say, Silence
from graph_voice.testing.simulation.report import Report
from graph_voice.testing.simulation.results import Rate, Run
from graph_voice.testing.simulation.run import simulate
from graph_voice.testing.simulation.scenario import Scenario, ScenarioError, Setup, load_scenarios

__all__ = [
    "JUDGES",
    "Caller",
    "Evidence",
    "HangUp",
    "Judge",
    "Line",
    "Move",
    "Rate",
    "Report",
    "Run",
    "Say",
    "Scenario",
    "ScenarioError",
    "Setup",
    "Silence",
    "Verdict",
    "load_scenarios",
    "simulate",
]
