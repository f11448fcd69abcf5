"""What can go wrong when speech parts are set up, beside a missing package."""

from graph_voice.errors import GraphVoiceError

__all__ = ["ModelFileError", "SpeechOptionError"]


class ModelFileError(GraphVoiceError, FileNotFoundError):
    """A path was given for a speech model, and the files of a model are not there. Nothing is downloaded."""


class SpeechOptionError(GraphVoiceError, ValueError):
    """A speech part was asked for that can't be made: a name is unknown, or a number is out of range."""
