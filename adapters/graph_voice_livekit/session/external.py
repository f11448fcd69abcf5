"""External agents, which are LiveKit's own: those that the graph names, and what is said while one is active."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.messages import AIMessage, AnyMessage
from livekit.agents import Agent, llm

from graph_voice.errors import BuildError
from graph_voice.graph.roles import Roles
from graph_voice_livekit.convert.converters import from_chat_context, to_chat_context

__all__ = ["ExternalAgents", "ExternalTalk"]


class ExternalAgents:
    """The LiveKit agents that a graph names as external.

    Args:
        roles: of the graph, which declares the names.
        made_by: name -> a LiveKit `Agent` class, or a function without arguments that returns an agent.

    Raises `BuildError` when a name is missing on either side.
    """

    def __init__(self, roles: Roles, made_by: Mapping[str, Callable[[], Agent]]) -> None:
        self._made_by = dict(made_by)
        self._names: WeakKeyDictionary[Agent, str] = WeakKeyDictionary()
        for name in sorted(set(made_by) - roles.external):
            known = ", ".join(sorted(roles.external)) or "none"
            raise BuildError(
                f'agents={{"{name}": ...}}: the graph declares no external agent of that name (declared: {known}). '
                f'Write create_voice_graph(..., external=["{name}"]).'
            )
        for name in sorted(roles.external - set(made_by)):
            raise BuildError(
                f'the graph\'s external agent "{name}" has no LiveKit agent. Write GraphAgent(graph, '
                f'agents={{"{name}": MyAgent}}) with a LiveKit agent class, or a function that returns an agent.'
            )
        for name, make in made_by.items():
            if isinstance(make, Agent) or not callable(make):
                raise BuildError(
                    f'agents={{"{name}": {make!r}}}: write the class, or a function that returns an agent, '
                    f'agents={{"{name}": lambda: MyAgent(...)}}; it is called at each handoff to the agent.'
                )

    def type_of(self, name: str) -> type[Agent]:
        """The class of an external agent. Raises `BuildError` if a function makes the agent: its class is unknown."""
        made_by = self._made_by[name]
        if not isinstance(made_by, type):
            raise BuildError(
                f'agent_type("{name}"): a function makes this agent, so name its class itself, or write '
                f'agents={{"{name}": MyAgent}}.'
            )
        return made_by

    def make(self, name: str) -> Agent:
        """A new agent of this name. Raises `BuildError` if its function returns something else."""
        agent = self._made_by[name]()
        if not isinstance(agent, Agent):
            raise BuildError(f'agents={{"{name}": ...}} returned {agent!r}, which is no LiveKit agent.')
        self._names[agent] = name
        return agent

    async def show(self, agent: Agent, messages: Sequence[AnyMessage]) -> Agent:
        """Add what a handoff carries to the context of an agent that has not started yet."""
        context = llm.ChatContext([*agent.chat_ctx.items, *to_chat_context(messages).items])
        # Tool calls of other agents included: the handoff has decided what it carries.
        await agent.update_chat_ctx(context, exclude_invalid_function_calls=False)
        return agent

    def name_of(self, agent: Agent) -> str | None:
        """The name under which this agent was made here; None for any other agent."""
        return self._names.get(agent)

    def __contains__(self, name: str) -> bool:
        return name in self._made_by


class ExternalTalk:
    """What is said while an external agent is active, read from LiveKit's history as messages for the graph.

    It is read again whenever LiveKit has added to it: a tool call belongs to its message, a result to its tool call.
    """

    def __init__(self) -> None:
        self._before: set[str] | None = None
        self._given: dict[str, AnyMessage] = {}

    def begin(self, history: llm.ChatContext, *, all_of_it: bool = False) -> None:
        """An external agent is active from now on. `all_of_it`: one has been since the beginning of the call."""
        if self._before is None:
            self._before = set() if all_of_it else {item.id for item in history.items}

    def end(self) -> None:
        """An agent of the graph is active again."""
        self._before = None
        self._given.clear()

    @property
    def running(self) -> bool:
        return self._before is not None

    def news(self, history: llm.ChatContext) -> Iterator[tuple[AnyMessage, float]]:
        """Messages that are new or have changed, each with its time in seconds since the epoch."""
        if self._before is None:
            return
        speaker: str | None = None
        stretch: list[llm.ChatItem] = []
        speakers: dict[str, str | None] = {}
        for item in history.items:
            if item.type == "agent_handoff":
                speaker = item.new_agent_id
            elif item.id not in self._before and _is_talk(item):
                stretch.append(item)
                speakers[item.id] = speakers[item.id.split("/")[0]] = speaker
        times = {item.id: item.created_at for item in stretch}
        for message in from_chat_context(llm.ChatContext(stretch)):
            key = message.id or ""  # a chat item always has an id
            if isinstance(message, AIMessage):
                message = message.model_copy(update={"name": speakers.get(key)})
            if self._given.get(key) != message:
                self._given[key] = message
                yield message, times.get(key) or _time_of(message)


def _is_talk(item: llm.ChatItem) -> bool:
    if item.type == "message":
        return item.role in ("user", "assistant")
    return item.type in ("function_call", "function_call_output")


def _time_of(message: Any) -> float:
    return float((message.additional_kwargs.get("livekit") or {}).get("created_at") or 0.0)
