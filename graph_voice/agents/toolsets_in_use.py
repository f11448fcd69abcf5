"""Which toolsets are in use, and by how many calls: each is set up once, and closed when the last call has ended."""

import asyncio
import contextvars
import logging
from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from graph_voice.agents.toolset import Toolset

__all__ = ["CLOSE_WITHIN", "PATIENCE", "InUse", "Lease", "if_in_use", "in_use"]

logger = logging.getLogger("graph_voice")
PATIENCE = 5.0
"""Seconds that the first request to a model waits for a toolset's first tools."""
CLOSE_WITHIN = 10.0
"""Seconds that a toolset may take to close."""


class InUse:
    """A toolset that calls of one event loop use.

    Args:
        toolset: the toolset. It is set up at once, in the background.
    """

    def __init__(self, toolset: Toolset) -> None:
        self.toolset = toolset
        self.users = 0
        """The number of calls that use it."""
        self._waited = self._failed = False
        # Nothing of the turn that happens to begin it.
        self._setup = asyncio.create_task(
            self._begin(), name=f"graph_voice.toolset.{toolset.name}", context=contextvars.Context()
        )

    async def _begin(self) -> None:
        try:
            await self.toolset.setup()
        except Exception:
            logger.exception("toolset %s: setup() failed", self.toolset.name)

    @property
    def undecided(self) -> bool:
        """Whether its first tools may still come, and nobody has waited for them in vain."""
        return not (self._setup.done() or self._waited)

    async def decided(self) -> None:
        """Wait for the first tools, up to `PATIENCE` seconds. Cancelling it does not cancel the setup."""
        await asyncio.wait({self._setup}, timeout=PATIENCE)
        if not self._setup.done():
            self._waited = True
            logger.warning("toolset %s: no tools after %g seconds; the call goes on", self.toolset.name, PATIENCE)

    @property
    def tools(self) -> Sequence[Any]:
        """What it has now. A failure is logged once, and means none."""
        try:
            found = list(self.toolset.tools)
        except Exception:
            if not self._failed:
                logger.exception("toolset %s: its tools can't be read", self.toolset.name)
            self._failed = True
            return ()
        self._failed = False
        return found

    async def aclose(self) -> None:
        """End the setup, if it still runs, and close the toolset. A failure is logged."""
        self._setup.cancel()
        try:
            await asyncio.wait({self._setup}, timeout=CLOSE_WITHIN)
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.toolset.aclose()
        except Exception:
            logger.exception("toolset %s: aclose() failed", self.toolset.name)


_loops: "WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, InUse]]" = WeakKeyDictionary()


def in_use(toolset: Toolset) -> InUse:
    """This toolset as the running event loop uses it. The first time, it is set up.

    Outside of a call (`graph.ainvoke`, LangGraph Studio) nobody closes it: it stays in use until the loop ends.
    """
    here = _loops.setdefault(asyncio.get_running_loop(), {})
    if (found := here.get(id(toolset))) is None:
        found = here[id(toolset)] = InUse(toolset)
    return found


def if_in_use(toolset: Toolset) -> InUse | None:
    """This toolset as the running event loop uses it; None if it does not."""
    return _loops.get(asyncio.get_running_loop(), {}).get(id(toolset))


class Lease:
    """The toolsets that one call uses, from its begin to its end.

    Args:
        toolsets: all that its agents have.
    """

    def __init__(self, toolsets: Iterable[Toolset]) -> None:
        self._toolsets = list({id(toolset): toolset for toolset in toolsets}.values())
        self._held: list[InUse] | None = None

    def require(self) -> None:
        """Raise `GraphVoiceError` for a toolset that can't work."""
        for toolset in self._toolsets:
            toolset.require()

    def begin(self) -> None:
        """The call begins: set up what no other call uses yet. Further times it does nothing."""
        if self._held is None:
            self._held = [in_use(toolset) for toolset in self._toolsets]
            for held in self._held:
                held.users += 1

    async def end(self) -> None:
        """The call has ended: close what no other call uses."""
        held, self._held = self._held or [], []
        here = _loops.get(asyncio.get_running_loop(), {})
        for one in held:
            one.users -= 1
        unused = [one for one in held if one.users == 0]
        for one in unused:
            here.pop(id(one.toolset), None)
        await asyncio.gather(*(one.aclose() for one in unused))
