"""Stores that fail, and what a crash leaves of a call."""

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator
from typing import Any

from graph_agent_support import a_call
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice.testing import ScriptedModel
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import VoiceRig, voice_rig


def left_behind(saver: InMemorySaver) -> InMemorySaver:
    """What is durable at this moment: all that a crash leaves."""
    left = InMemorySaver()
    for thread, lines in saver.storage.items():
        for line, found in lines.items():
            left.storage[thread][line].update(found)
    left.writes.update(copy.deepcopy(saver.writes))
    left.blobs.update(saver.blobs)
    return left


@contextlib.asynccontextmanager
async def a_crash(ga: GraphAgent, **options: Any) -> AsyncIterator[VoiceRig]:
    """A call whose process is gone when the block is left: what it does afterwards is nobody's."""
    async with voice_rig(ga, **options) as rig:
        yield rig
        rig.session.shutdown(drain=False)
    await ga.aclose()


@contextlib.asynccontextmanager
async def a_call_again(ga: GraphAgent, model: ScriptedModel | None = None, **options: Any) -> AsyncIterator[VoiceRig]:
    """The call taken up by another process. In the end graph and LiveKit agree, and the invariants hold."""
    async with a_call(ga, model, **options) as rig:
        yield rig
        await rig.until_idle()
        check_invariants(ga.conversation, current_agent=rig.session.current_agent.id)


class Down(InMemorySaver):
    """A store in which nothing can be written, until it is `up`."""

    def __init__(self) -> None:
        super().__init__()
        self.up = False

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        if not self.up:
            raise OSError("disk full")
        return await super().aput(*args, **kwargs)


class Slow(InMemorySaver):
    """A store that takes its time, in seconds, to read and to write."""

    def __init__(self, *, read: float = 0.0, write: float = 0.0) -> None:
        super().__init__()
        self._read, self._write = read, write

    async def aget_tuple(self, config: Any) -> Any:
        await asyncio.sleep(self._read)
        return await super().aget_tuple(config)

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(self._write)
        return await super().aput(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(self._write)
        await super().aput_writes(*args, **kwargs)
