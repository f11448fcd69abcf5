"""Functions that answer in the place of tools."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from graph_voice.call.conversation import Conversation
from graph_voice.errors import TurnError
from graph_voice.graph.build import definition_of

__all__ = ["require_known", "watched"]


def watched(fake: Callable[..., Any], runs: Callable[[], None]) -> Callable[..., Any]:
    """The mock, as an async function that tells when it runs."""

    @functools.wraps(fake)
    async def mock(*args: Any, **kwargs: Any) -> Any:
        runs()
        made = fake(*args, **kwargs)
        return await made if inspect.isawaitable(made) else made

    return mock


def require_known(mocks: Mapping[str, Mapping[str, Any]], conversation: Conversation[Any]) -> None:
    """Raise `TurnError` for a mock of an agent or a tool that is not there: the real tool would run in its place."""
    for agent, tools in mocks.items():
        if agent not in conversation.roles.agents:
            agents = ", ".join(sorted(conversation.roles.agents))
            raise TurnError(f'Call(mocks={{"{agent}": ...}}): the graph\'s agents are {agents}.')
        definition = definition_of(conversation.graph, agent)
        if definition is None:
            continue  # a graph of its own, whose tools nobody can list
        known = [tool.name for tool in definition.all_tools]
        if unknown := [tool for tool in tools if tool not in known]:
            raise TurnError(
                f'Call(mocks={{"{agent}": {{"{unknown[0]}": ...}}}}): '
                f"the tools of {agent} are {', '.join(known) or 'none'}."
            )
