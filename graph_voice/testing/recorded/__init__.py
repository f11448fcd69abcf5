"""Public. From a call to a test: what was said and answered in a recorded call, as a scripted call of the test kit."""

from graph_voice.testing.recorded.call import RecordedCall, RecordedTurn, RecordError, Reply, from_messages
from graph_voice.testing.recorded.folder import from_folder
from graph_voice.testing.recorded.replay import answers, userdata_of
from graph_voice.testing.recorded.source import recorded_test
from graph_voice.testing.recorded.thread import from_thread
from graph_voice.testing.recorded.trace import from_runs

__all__ = [
    "RecordError",
    "RecordedCall",
    "RecordedTurn",
    "Reply",
    "answers",
    "from_folder",
    "from_messages",
    "from_runs",
    "from_thread",
    "recorded_test",
    "userdata_of",
]
