"""`McpServer`: the tools of an MCP server, as they come and go while a call runs."""

import asyncio
import functools
import importlib
import importlib.util
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from langchain_core.tools import BaseTool, StructuredTool

from graph_voice.agents.mcp_connection import Connection, Session
from graph_voice.agents.slow_tool import SlowTool
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.toolset import Toolset
from graph_voice.errors import BuildError, MissingDependencyError

__all__ = ["McpServer"]

logger = logging.getLogger("graph_voice")

_TRANSPORTS = {
    "stdio": "command",
    "http": "url",
    "streamable_http": "url",
    "streamable-http": "url",
    "sse": "url",
    "websocket": "url",
}
_INSTALL = "MCP servers need langchain-mcp-adapters, and `mcp` below 2: pip install 'graph-voice[mcp]'"


class McpServer(Toolset):
    """The tools of an MCP server: `Agent(tools=[McpServer({"command": "python", "args": ["orders.py"]})])`.

    One connection serves all calls of a process (of an event loop, if there are several). It is opened when the first
    call begins and closed when the last one has ended. The list of tools is read once, and again when the server says
    that it has changed, or when it was connected again.

    Args:
        connection: as langchain-mcp-adapters takes it: `{"transport": "stdio", "command": ..., "args": [...]}`,
            `{"transport": "http", "url": ..., "headers": {...}}`. The transport may be left out.
        name: for drawings, logs, and what a model is told. Default: the prefix, or a part of the connection.
        allowed_tools: the names of the tools that agents get, as the server calls them. None: all. LiveKit's.
        prefix: put before each tool's name: with "crm", `search` becomes `crm_search`.
        timeout: seconds for each attempt to connect and each list of tools.
        tool_timeout: seconds after which the model is told that a tool did not answer. None: no limit.
        approve: the name of a tool, as the server calls it -> the question that the caller has to say yes to before it
            runs: `{"send_mail": "Shall I send it to {to}?"}`. See `function_tool(approve=)`.
        filler: said when one of its tools keeps the caller waiting. See `function_tool(filler=)`.

    A server that can't be reached, or dies, has no tools until it can be reached again: it is tried at once, then after
    0.5 seconds, and each time after twice as long, up to 30 seconds. A tool call during which it is lost is told so.

    Raises `BuildError` for a connection that can't work. The package is needed when a call begins, not before.
    """

    def __init__(
        self,
        connection: Mapping[str, Any],
        *,
        name: str | None = None,
        allowed_tools: Sequence[str] | None = None,
        prefix: str | None = None,
        timeout: float = 30.0,
        tool_timeout: float | None = None,
        approve: Mapping[str, Any] | None = None,
        filler: Any = None,
    ) -> None:
        self._connection = _checked(connection)
        super().__init__(name or prefix or _name_of(self._connection))
        if isinstance(allowed_tools, str):
            raise BuildError(f"McpServer(allowed_tools={allowed_tools!r}): write a list, [{allowed_tools!r}].")
        for option, seconds in (("timeout", timeout), ("tool_timeout", tool_timeout)):
            if not (isinstance(seconds, int | float) and seconds > 0) and (seconds, option) != (None, "tool_timeout"):
                raise BuildError(f"McpServer({option}={seconds!r}): write seconds above 0.")
        asked = approve.values() if isinstance(approve, Mapping) else () if approve is None else (None,)
        if not all(isinstance(question, str) or callable(question) for question in asked):
            raise BuildError(f'McpServer(approve={approve!r:.60}): write {{"send_mail": "Shall I send it?"}}.')
        SlowTool(filler).check(self.name)
        self._allowed = None if allowed_tools is None else frozenset(allowed_tools)
        self._prefix = prefix
        self._timeout, self._tool_timeout = timeout, tool_timeout
        self._approve = dict(approve or {})
        self._declared = {} if filler is None else {"filler": filler}
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Connection] = WeakKeyDictionary()
        self._told: set[str] = set()
        self._made: dict[str, tuple[Any, BaseTool]] = {}
        """Tool -> what the server has said of it, and the tool made of it: it stays the same as long as that does."""

    # ---- a toolset

    @property
    def tools(self) -> Sequence[BaseTool]:
        """What the server has now, as far as it is allowed."""
        found = self._connections.get(asyncio.get_running_loop())
        if found is None:
            return ()
        return [self._offered(tool) for tool in found.tools if self._allowed is None or tool.name in self._allowed]

    def require(self) -> None:
        """Raise `MissingDependencyError` if langchain-mcp-adapters is missing."""
        if not _is_installed():
            raise MissingDependencyError(f"McpServer {self.name}: {_INSTALL}")

    async def setup(self) -> None:
        """Connect, until the tools are known, or the server can't be reached: it is tried again in the background."""
        await asyncio.to_thread(_imported)
        loop = asyncio.get_running_loop()
        if (found := self._connections.get(loop)) is None:
            found = self._connections[loop] = Connection(self.name, self._open, self._load, self._timeout)
        await found.decided()

    async def aclose(self) -> None:
        """Disconnect. The process of a server that was started by its command ends."""
        if (found := self._connections.pop(asyncio.get_running_loop(), None)) is not None:
            await found.aclose()

    # ---- the server

    @asynccontextmanager
    async def _open(self, changed: Callable[[], None]) -> AsyncIterator[Session]:
        from langchain_mcp_adapters.sessions import create_session
        from mcp.types import ServerNotification, ToolListChangedNotification

        options = dict(self._connection.get("session_kwargs") or {})
        theirs = options.get("message_handler")

        async def handle(message: Any) -> None:
            if isinstance(message, ServerNotification) and isinstance(message.root, ToolListChangedNotification):
                changed()
            if theirs is not None:
                await theirs(message)

        connection: Any = {**self._connection, "session_kwargs": {**options, "message_handler": handle}}
        async with create_session(connection) as session:
            yield session

    async def _load(self, session: Any) -> list[BaseTool]:
        from langchain_mcp_adapters.tools import load_mcp_tools

        found = await load_mcp_tools(session)
        named = dict.fromkeys(self._approve, "approve") | dict.fromkeys(self._allowed or (), "allowed_tools")
        for name in sorted(named.keys() - {tool.name for tool in found} - self._told):
            self._told.add(name)
            logger.warning("MCP server %s has no tool %s, which %s names", self.name, name, named[name])
        return found

    def _offered(self, tool: BaseTool) -> BaseTool:
        """The server's tool as agents have it. It runs in whichever session is open when it is called."""
        said = (tool.description, tool.args_schema, tool.metadata)
        if (known := self._made.get(tool.name)) is not None and known[0] == said:
            return known[1]
        assert isinstance(tool, StructuredTool)
        assert tool.coroutine is not None
        called = tool.name

        @functools.wraps(tool.coroutine)
        async def call(**arguments: Any) -> Any:
            def run(now: BaseTool) -> Any:
                assert isinstance(now, StructuredTool)
                assert now.coroutine is not None
                return now.coroutine(**arguments)

            connection = self._connections.get(asyncio.get_running_loop())
            if connection is None:
                raise ToolError(f"Not done: {self.name} is closed.")
            limit = asyncio.timeout(self._tool_timeout)
            try:
                async with limit:
                    return await connection.call(called, run)
            except TimeoutError:
                if not limit.expired():
                    raise
                raise ToolError(f"The tool did not answer within {self._tool_timeout:g} seconds.") from None

        metadata = {**(tool.metadata or {}), **self._declared}
        if (question := self._approve.get(tool.name)) is not None:
            metadata["approve"] = question
        name = _legal(f"{self._prefix}_{called}" if self._prefix else called)
        made = tool.model_copy(update={"name": name, "coroutine": call, "metadata": metadata or None})
        self._made[called] = (said, made)
        return made


@functools.cache
def _is_installed() -> bool:
    return importlib.util.find_spec("langchain_mcp_adapters") is not None


def _imported() -> None:
    """Import what a connection needs: that takes a while."""
    try:
        importlib.import_module("langchain_mcp_adapters.tools")
    except ImportError as error:
        raise MissingDependencyError(f"{_INSTALL} ({error})") from error


def _checked(connection: Any) -> dict[str, Any]:
    example = (
        'McpServer({"command": "python", "args": ["server.py"]}) or McpServer({"url": "http://localhost:8000/mcp"})'
    )
    if not isinstance(connection, Mapping):
        raise BuildError(f"McpServer({type(connection).__name__}): write its connection, {example}.")
    made = dict(connection)
    made.setdefault("transport", "stdio" if "command" in made else "http")
    needs = _TRANSPORTS.get(made["transport"])
    if needs is None:
        raise BuildError(f"McpServer: transport {made['transport']!r:.60} is unknown: write {', '.join(_TRANSPORTS)}.")
    if not isinstance(made.get(needs), str) or not made[needs]:
        raise BuildError(f'McpServer: transport "{made["transport"]}" needs a {needs}: {example}.')
    if needs == "command":
        made.setdefault("args", [])
        if isinstance(made["args"], str):
            raise BuildError(f"McpServer: args={made['args']!r:.60} is a text: write a list of texts.")
    return made


def _name_of(connection: Mapping[str, Any]) -> str:
    """What tells it from others, and holds no credentials: the host, or the file or the module of a command."""
    if "url" in connection:
        return urlsplit(connection["url"]).hostname or "mcp"
    words = [word for word in connection["args"] if not word.startswith("-")]
    return PurePath(words[0] if words else connection["command"]).stem or "mcp"


def _legal(name: str) -> str:
    """The name as model providers take it: MCP's may have dots and slashes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]
