"""Public. The one tree of exceptions, in which each class is also the nearest builtin.

GraphVoiceError
+-- BuildError              ValueError      an agent, a tool or a graph is declared in a way that can't work
+-- HandoffError            RuntimeError    a tool handed off to a target that is not declared
+-- HistoryError            ValueError      a history operation, its arguments or its place
+-- LoadError               ImportError     a path leads to no graph
+-- MissingDependencyError  ImportError     a package is not installed
+-- ModelError              RuntimeError    no chat model could be made
|   +-- NoModelError                        an agent has no model at all
+-- SaverError              RuntimeError    the durable copy can't be written or read
|   +-- ThreadTakenError                    another call has taken the thread up
+-- StateError              ValueError      the state was given a value that it can't hold
+-- TurnError               RuntimeError    a turn was told what its contract forbids
+-- UserdataError           ValueError      the userdata does not fit its class
+-- testing.PlanError       AssertionError  in a test: the moment of a plan never came
+-- testing.recorded.RecordError  ValueError  a recorded call can't be read, or does not go as it was recorded
+-- testing.simulation.ScenarioError  ValueError  scenarios of simulated callers, or their judges, can't be used
"""

__all__ = [
    "BuildError",
    "GraphVoiceError",
    "HandoffError",
    "HistoryError",
    "LoadError",
    "MissingDependencyError",
    "ModelError",
    "NoModelError",
    "SaverError",
    "StateError",
    "ThreadTakenError",
    "TurnError",
    "UserdataError",
]


class GraphVoiceError(Exception):
    """The root of every exception that graph_voice raises on purpose."""


class BuildError(GraphVoiceError, ValueError):
    """An agent, a tool or a graph is declared in a way that can't work. Raised while the graph is built."""


class HandoffError(GraphVoiceError, RuntimeError):
    """A tool handed off to a target that its agent has not declared. Raised while a turn runs."""


class HistoryError(GraphVoiceError, ValueError):
    """A history operation was given arguments, or used in a place, that it can't work with."""


class LoadError(GraphVoiceError, ImportError):
    """`path.py:attribute` does not lead to a graph."""


class MissingDependencyError(GraphVoiceError, ImportError):
    """A required package is not installed. The message says which extra installs it."""


class ModelError(GraphVoiceError, RuntimeError):
    """No chat model could be made from what the graph or its run was given."""


class NoModelError(ModelError):
    """An agent of the graph has no model, and the run names none."""


class SaverError(GraphVoiceError, RuntimeError):
    """The durable copy of a call can't be written or read as asked. The message says how far behind it is."""


class StateError(GraphVoiceError, ValueError):
    """A channel of the state was given a value that it can't hold, by a node, a run's input or an edit in Studio."""


class ThreadTakenError(SaverError):
    """Another call has taken the thread up, so what this call remembers from then on is not stored."""


class TurnError(GraphVoiceError, RuntimeError):
    """A turn was told something that its contract forbids, such as allowing a tool call before the commit."""


class UserdataError(GraphVoiceError, ValueError):
    """The userdata was given a value that its class does not allow, or a required field was never set."""
