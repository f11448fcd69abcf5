"""One connection to an MCP server: opened, kept open, opened again when it is lost, and its list of tools."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeVar

from langchain_core.tools import BaseTool, ToolException

from graph_voice.agents.tool_errors import ToolError

__all__ = ["FIRST_PAUSE", "LONGEST_PAUSE", "PING_AFTER", "PING_DURING_CALLS", "Connection", "Session"]

logger = logging.getLogger("graph_voice")
T = TypeVar("T")
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between attempts to connect: each pause is twice the one before. The first new attempt comes at once, if the
connection that was lost had lasted for the longest pause, or was the first."""
PING_AFTER = 15.0
"""Seconds of rest after which the server is asked whether it is still there."""
PING_DURING_CALLS = 2.0
"""The same while it works on a tool call. Of a server on HTTP that dies, the tool call itself may never hear."""
CLOSE_WITHIN = 4.0
"""Seconds that a server may take to end by itself, and then its transport."""


class Session(Protocol):
    """What is asked of a session of the package `mcp`."""

    async def initialize(self) -> Any: ...

    async def send_ping(self) -> Any: ...


class Connection:
    """The connection of one event loop to one server. It begins when it is made.

    Args:
        name: the server's, for logs and for what a model is told.
        open_session: opens a session; its argument is called when the server says that its tools have changed.
        load: the tools of a session.
        timeout: seconds for each attempt to connect, each list of tools, and each question whether it is there.

    While a lost connection is opened again, the last tools are still offered, and a tool call waits. When the first
    attempt fails, there are none until one succeeds.
    """

    def __init__(
        self,
        name: str,
        open_session: Callable[[Callable[[], None]], AbstractAsyncContextManager[Session]],
        load: Callable[[Session], Awaitable[Sequence[BaseTool]]],
        timeout: float,
    ) -> None:
        self._name = name
        self._open = open_session
        self._load = load
        self._timeout = timeout
        self.tools: Sequence[BaseTool] = ()
        """What the server has said last."""
        self._lost: asyncio.Event | None = None
        """Of the session that is open; None if there is none."""
        self._decided = asyncio.Event()
        """Set while it is open, and while it can't be reached."""
        self._wake = asyncio.Event()
        self._changed = self._doubtful = self._closing = False
        self._calls = 0
        """How many tool calls the server works on."""
        self._checked = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"graph_voice.mcp.{name}", context=contextvars.Context())

    async def decided(self) -> None:
        """Wait until it is known whether the server can be reached."""
        await self._decided.wait()

    async def aclose(self) -> None:
        """Close the connection. The server of a command ends."""
        self._closing = True
        self._wake.set()
        if self._lost is not None:
            await asyncio.wait({self._task}, timeout=CLOSE_WITHIN)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_WITHIN)

    # ---- a tool call

    async def call(self, tool: str, run: Callable[[BaseTool], Awaitable[T]]) -> T:
        """Call a tool, once.

        Args:
            tool: its name.
            run: runs the tool of the session that is open.

        Raises `ToolError`, which the model is told, when the server can't be reached, has no such tool any more, or is
        lost meanwhile; else what the tool raises.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._decided.wait()
        except TimeoutError:
            raise ToolError(f"Not done: {self._name} can't be reached now.") from None
        found, lost = next((one for one in self.tools if one.name == tool), None), self._lost
        if lost is None:
            raise ToolError(f"Not done: {self._name} can't be reached now.")
        if found is None:
            raise ToolError(f"Not done: {self._name} has no tool {tool} any more.")
        return await self._while_there(tool, run(found), lost)

    async def _while_there(self, tool: str, running: Awaitable[T], lost: asyncio.Event) -> T:
        called = asyncio.ensure_future(running)
        gone = asyncio.ensure_future(lost.wait())
        self._calls += 1
        self._wake.set()
        called.add_done_callback(self._ended)
        try:
            await asyncio.wait({called, gone}, return_when=asyncio.FIRST_COMPLETED)
            if called.done():
                failed = asyncio.CancelledError() if called.cancelled() else called.exception()
                if failed is None or isinstance(failed, ToolException):
                    return called.result()
                await self._check(lost)
                if not lost.is_set():
                    return called.result()
        finally:
            gone.cancel()
            called.cancel()
        raise ToolError(
            f"{tool} failed: {self._name} was lost while it ran. It is not known whether it has done anything."
        )

    async def _check(self, lost: asyncio.Event) -> None:
        """A tool call has failed, and not by the tool's own word: ask the server whether it is there."""
        if lost.is_set() or lost is not self._lost:
            return
        self._checked.clear()
        self._doubtful = True
        self._wake.set()
        checked = asyncio.ensure_future(self._checked.wait())
        gone = asyncio.ensure_future(lost.wait())
        try:
            await asyncio.wait({checked, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            checked.cancel()
            gone.cancel()

    def _ended(self, called: "asyncio.Future[Any]") -> None:
        self._calls -= 1
        if not called.cancelled():
            called.exception()  # nobody may wait for it any more

    # ---- its task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        pause: float | None = None
        told = False
        while not self._closing:
            opened: float | None = None
            try:
                async with self._open(self._tools_changed) as session:
                    async with asyncio.timeout(self._timeout):
                        await session.initialize()
                        self._changed = False
                        tools = await self._load(session)
                    opened = loop.time()
                    if told:
                        logger.warning("MCP server %s: it is there again", self._name)
                    told = False
                    self._begin(tools)
                    await self._serve(session)
            except BaseException as error:
                if _is_canceled(error):
                    self._end(reached=False)
                    raise
                why: BaseException | None = error
            else:
                why = None
            if self._closing:
                break
            if opened is not None and loop.time() - opened >= LONGEST_PAUSE:
                pause = None
            pause = 0.0 if opened is not None and pause is None else _longer(pause)
            self._end(reached=not pause)
            if not told and why is not None:
                told = True
                what = "it can't be reached" if opened is None else "it was lost, and is connected again"
                logger.warning("MCP server %s: %s: %s", self._name, what, _words(why))
            await self._pause(pause)
        self._end(reached=False)

    def _begin(self, tools: Sequence[BaseTool]) -> None:
        self.tools = tuple(tools)
        self._lost = asyncio.Event()
        self._doubtful = False
        self._decided.set()

    def _end(self, *, reached: bool) -> None:
        """The session is over. `reached`: it was open, so the next attempt may well succeed."""
        if self._lost is not None:
            self._lost.set()
        self._lost = None
        if reached:
            self._decided.clear()
            return
        self.tools = ()
        self._decided.set()

    async def _serve(self, session: Session) -> None:
        """Keep the list of tools up to date, until the end or until the server does not answer any more."""
        while not self._closing:
            if not (self._changed or self._doubtful):
                woken = await self._rest(PING_DURING_CALLS if self._calls else PING_AFTER)
                if woken and not (self._changed or self._doubtful):
                    continue
            if self._closing:
                return
            changed, self._changed, works = self._changed, False, self._calls > 0
            try:
                async with asyncio.timeout(self._timeout):
                    if changed:
                        self.tools = tuple(await self._load(session))
                    else:
                        await session.send_ping()
            except TimeoutError:
                if not (works or self._calls):
                    raise
                # It works on a tool call, or did so until now, and may be one that does nothing else meanwhile.
                self._changed = self._changed or changed
            self._doubtful = False
            self._checked.set()

    async def _rest(self, seconds: float) -> bool:
        """Do nothing for so long. Returns whether it was woken before, since something has changed."""
        self._wake.clear()
        if self._closing:
            return True
        try:
            async with asyncio.timeout(seconds):
                return await self._wake.wait()
        except TimeoutError:
            return False

    async def _pause(self, seconds: float) -> None:
        """Wait before the next attempt. Only the end cuts it short."""
        until = asyncio.get_running_loop().time() + seconds
        while not self._closing and (left := until - asyncio.get_running_loop().time()) > 0:
            await self._rest(left)

    def _tools_changed(self) -> None:
        self._changed = True
        self._wake.set()


def _longer(pause: float | None) -> float:
    """The pause behind this one."""
    return min(max(2 * (pause or 0.0), FIRST_PAUSE), LONGEST_PAUSE)


def _is_canceled(error: BaseException) -> bool:
    """Whether the connection's task was canceled. `mcp` may raise `CancelledError` itself when a server goes away."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    return not isinstance(error, Exception | BaseExceptionGroup)


def _words(error: BaseException) -> str:
    """What went wrong, of a group of errors the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".rstrip(": ")
