"""LiveKit agents beside the graph's: those it hands off to by name, and what was said while such an agent was there."""

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
    """The LiveKit agents behind a graph's external names.

    Args:
        roles: of the graph, which declares the names.
        made_by: name -> a LiveKit `Agent` class, or a function without arguments that returns an agent.

    Raises `BuildError` when the two do not fit.
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
                f'the graph\'s external agent "{name}" is nobody: GraphAgent(graph, agents={{"{name}": MyAgent}}) '
                "names a LiveKit agent class, or a function that returns an agent."
            )
        for name, make in made_by.items():
            if isinstance(make, Agent) or not callable(make):
                raise BuildError(
                    f'agents={{"{name}": {make!r}}}: write the class, or a function that returns an agent, '
                    f'agents={{"{name}": lambda: MyAgent(...)}}; it is called each time the agent takes the floor.'
                )

    def type_of(self, name: str) -> type[Agent]:
        """The class behind a name. Raises `BuildError` when a function makes the agent, whose class nobody knows."""
        made_by = self._made_by[name]
        if not isinstance(made_by, type):
            raise BuildError(
                f'agent_type("{name}"): a function makes this agent, so name its class itself, or write '
                f'agents={{"{name}": MyAgent}}.'
            )
        return made_by

    def make(self, name: str) -> Agent:
        """A new one. Raises `BuildError` when the function returns something else."""
        agent = self._made_by[name]()
        if not isinstance(agent, Agent):
            raise BuildError(f'agents={{"{name}": ...}} returned {agent!r}, which is no LiveKit agent.')
        self._names[agent] = name
        return agent

    async def show(self, agent: Agent, messages: Sequence[AnyMessage]) -> Agent:
        """Give an agent that is not running yet what a handoff's policy carries, behind what it brings itself."""
        context = llm.ChatContext([*agent.chat_ctx.items, *to_chat_context(messages).items])
        # Also calls of tools that are not its own: what is carried, the policy has decided.
        await agent.update_chat_ctx(context, exclude_invalid_function_calls=False)
        return agent

    def name_of(self, agent: Agent) -> str | None:
        """Under which name this agent was made here."""
        return self._names.get(agent)

    def __contains__(self, name: str) -> bool:
        return name in self._made_by


class ExternalTalk:
    """What LiveKit's history has of the time in which no agent of the graph had the floor, as the graph's messages.

    A stretch is read again whenever something has come to it: LiveKit adds a call to the message that made it, and the
    result to the call, when there is one.
    """

    def __init__(self) -> None:
        self._before: set[str] | None = None
        self._given: dict[str, AnyMessage] = {}

    def begin(self, history: llm.ChatContext, *, all_of_it: bool = False) -> None:
        """Somebody else has the floor from here on. `all_of_it`: and had it from the beginning of the call."""
        if self._before is None:
            self._before = set() if all_of_it else {item.id for item in history.items}

    def end(self) -> None:
        """An agent of the graph has the floor again."""
        self._before = None
        self._given.clear()

    @property
    def running(self) -> bool:
        return self._before is not None

    def news(self, history: llm.ChatContext) -> Iterator[tuple[AnyMessage, float]]:
        """Messages that are new, or have changed, each with its time in seconds since the epoch."""
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
