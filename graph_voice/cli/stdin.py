"""Lines from standard input, while an event loop runs."""

import asyncio
import codecs
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator

__all__ = ["stdin_lines"]


async def stdin_lines() -> AsyncIterator[str]:
    """Each line without its newline, as it comes; over when the input is (Ctrl-D on a terminal).

    The thread that reads can't be stopped while it waits, so it is a daemon, and holds nothing that the interpreter
    needs at its end: it reads the file descriptor, not `sys.stdin`, which has a lock.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    source, encoding = sys.stdin.fileno(), sys.stdin.encoding or "utf-8"

    def read() -> None:
        try:
            for line in _lines(source, encoding):
                loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except RuntimeError:
            return  # the loop is closed: nobody listens any more

    threading.Thread(target=read, name="graph_voice.stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


def _lines(source: int, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    rest = ""
    while True:
        try:
            piece = os.read(source, 65536)
        except OSError:
            piece = b""  # the terminal is gone
        *whole, rest = (rest + decoder.decode(piece, final=not piece)).split("\n")
        yield from whole
        if not piece:
            break
    if rest:
        yield rest
