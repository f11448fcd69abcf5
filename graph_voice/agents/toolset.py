"""Toolsets: sources of tools that are asked while a call runs. LiveKit's `Toolset`."""

from collections.abc import Sequence
from typing import Any

from graph_voice.errors import BuildError

__all__ = ["Toolset"]


class Toolset:
    """Tools that come and go while a call runs: `Agent(tools=[opening_hours, toolset])`.

    Write a subclass whose `tools` says what there is now. `McpServer` is one. A graph serves many calls, so a toolset
    does too.

    Args:
        name: how drawings, checks and logs call it.

    Raises `BuildError` for a name that is empty.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise BuildError(f"{type(self).__name__}({name!r:.60}): write a name, which drawings and logs call it.")
        self.name = name

    @property
    def tools(self) -> Sequence[Any]:
        """The tools that it has now: `@function_tool` functions, plain functions, LangChain tools.

        It is read before each request to a model, on the way from the caller's words to the first token, and when a
        tool is called. So it only says what is known already. A tool of the agent's own, or of a toolset before this
        one, comes before one of the same name; a tool that takes a secret (`SecretStr`) is left out.
        """
        return ()

    def require(self) -> None:
        """Raise `GraphVoiceError` for what the program's author should see at once, such as a missing package.

        Called before each turn.
        """

    async def setup(self) -> None:
        """Make the tools known, if that takes time. LiveKit's method of the same name.

        Called in the background when the first call of an event loop begins that may use it. The first request to a
        model waits for it, up to 5 seconds. If it raises, the error is logged, and the call goes on.
        """

    async def aclose(self) -> None:
        """Let go what it holds: no call uses it any more. `setup` may follow. LiveKit's method of the same name."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
