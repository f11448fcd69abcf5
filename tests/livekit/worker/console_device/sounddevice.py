"""A sound device for LiveKit's console: a silent microphone, and a loudspeaker that says in a file what it played.

Put on PYTHONPATH in place of the package, since a test machine has neither a device nor PortAudio.
"""

import os
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

default = SimpleNamespace(device=(0, 1))


def query_devices(device: Any = None, kind: str | None = None) -> dict[str, Any]:
    return {"name": f"fake {kind}", "max_input_channels": 1, "max_output_channels": 1}


class _Stream:
    """Calls back for a block of samples at a time, in a thread of its own, as PortAudio does."""

    def __init__(self, *, callback: Callable[..., None], samplerate: int, blocksize: int, **_: Any) -> None:
        self._callback, self._block, self._pause = callback, blocksize, blocksize / samplerate
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._pause):
            now = time.monotonic()
            data = np.zeros((self._block, 1), np.int16)
            self._callback(
                data,
                self._block,
                SimpleNamespace(currentTime=now, inputBufferAdcTime=now, outputBufferDacTime=now),
                None,
            )
            self._played(data)

    def _played(self, data: np.ndarray[Any, Any]) -> None:
        pass


class InputStream(_Stream):
    pass


class OutputStream(_Stream):
    def _played(self, data: np.ndarray[Any, Any]) -> None:
        if data.any():
            with open(os.environ["CONSOLE_PLAYED"], "ab") as file:
                file.write(data.tobytes())
