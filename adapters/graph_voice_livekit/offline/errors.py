"""The errors of setting up offline parts, except for a missing package."""

from graph_voice.errors import GraphVoiceError

__all__ = ["ModelFileError", "SpeechOptionError"]


class ModelFileError(GraphVoiceError, FileNotFoundError):
    """A path was given for a speech model, but the model's files are not there. Nothing is downloaded."""


class SpeechOptionError(GraphVoiceError, ValueError):
    """A speech part can't be made as asked: a name is unknown, or a number is out of range."""
