"""What a scripted call is played on: a front end, real or modeled."""

import asyncio
import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from graph_voice.call.conversation import Conversation
from graph_voice.call.durable import ResumeHook
from graph_voice.errors import GraphVoiceError, TurnError
from graph_voice.graph.build import definition_of

__all__ = ["FRONT_ENDS", "CallPlan", "FrontEnd", "Moment", "Plan", "PlanError", "counting", "require_known", "watched"]

FRONT_ENDS = "graph_voice.front_ends"
"""The entry point group in which packages offer their front ends, each a `FrontEnd` class."""


class PlanError(GraphVoiceError, AssertionError):
    """The moment for which something was planned never came."""


@dataclass
class Moment:
    """A moment of a call."""

    name: str
    words: int | None = None
    """After how many more words of the agents it comes. None: the kit says when."""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, count: int = 1) -> None:
        """`count` more words were heard."""
        if self.words is not None and not self.came.is_set():
            self.words -= count
            if self.words <= 0:
                self.came.set()


@dataclass
class Plan:
    """What happens at a moment."""

    moment: Moment
    says: str | None = None
    """What the caller says. None: a noise that turns out to be nothing, unless `crashes` is set."""
    crashes: bool = False
    done: bool = False

    def __str__(self) -> str:
        act = "crash" if self.crashes else f"cut in with {self.says!r}" if self.says is not None else "make a noise"
        return f"{act} {self.moment.name}"


@dataclass
class CallPlan:
    """Everything that a front end needs to know about the call that it plays."""

    graph: Any
    options: dict[str, Any]
    """Arguments of `Conversation`."""
    mocks: Mapping[str, Mapping[str, Callable[..., Any]]]
    """Agent -> tool -> the function that replaces it."""
    said: Callable[[str, str], None]
    """Called with the caller's words, and how they were said: "says", "types", "cuts in", "guess"."""
    lost: Callable[[str], None] = lambda text: None
    """Called with words of the caller that the front end, as declared, has heard nothing of."""
    on_resume: ResumeHook = None
    """What is said when another process resumes the call; as for `GraphAgent`."""


class FrontEnd(ABC):
    """One way to play a call. All times are seconds of the event loop; on the virtual clock they pass at once.

    Each process of the call has its own: after `crash` the next one is made with the same `CallPlan`.

    Args:
        plan: the call's plan.
    """

    def __init__(self, plan: CallPlan) -> None:
        self.plan = plan

    @property
    @abstractmethod
    def conversation(self) -> Conversation[Any]:
        """The call."""

    @property
    @abstractmethod
    def current_agent(self) -> str:
        """The front end's current agent."""

    @property
    @abstractmethod
    def heard(self) -> list[str]:
        """What the caller heard of the agents, in order. A line is added when it has ended."""

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self.conversation.closed

    @abstractmethod
    async def open(self, watch: Callable[[Conversation[Any]], None]) -> None:
        """Begin the call, or resume it where another process left it; play the first words. Returns at rest.

        Args:
            watch: must be called with the conversation before anything happens in it.
        """

    @abstractmethod
    async def says(self, text: str, plans: list[Plan]) -> None:
        """The caller says this; plans are carried out at their moments. Returns at rest: nobody speaks or thinks."""

    async def types(self, text: str) -> None:
        """The caller types this (LiveKit's `lk.chat`). Returns at rest."""
        raise TurnError(f"{type(self).__name__}.types(): this front end has no typed input; let the caller say it.")

    @abstractmethod
    async def speculates(self, guess: str, text: str, plans: list[Plan]) -> None:
        """The front end takes `guess` for the whole turn and starts the graph; then the caller really says `text`."""

    @abstractmethod
    async def silence(self, seconds: float) -> None:
        """Nobody says anything for this long. Returns at rest."""

    @abstractmethod
    async def program_says(self, text: str) -> None:
        """The program speaks (LiveKit's `session.say`)."""

    @abstractmethod
    async def update_agent(self, name: str) -> None:
        """The program makes an agent the active one (LiveKit's `session.update_agent`)."""

    @abstractmethod
    async def generate_reply(self, instructions: str) -> None:
        """The program asks for a reply (LiveKit's `session.generate_reply`)."""

    @abstractmethod
    async def crash(self) -> None:
        """The process ends here, without any cleanup."""

    @abstractmethod
    async def close(self, reason: str) -> None:
        """The call ends as usual."""


def counting(plans: list[Plan]) -> Moment | None:
    """The moment for which words are counted now: the first one still to come."""
    moments = (plan.moment for plan in plans if not plan.moment.came.is_set())
    return next((moment for moment in moments if moment.words is not None), None)


def watched(fake: Callable[..., Any], runs: Callable[[], None]) -> Callable[..., Any]:
    """The mock, as an async function that calls `runs` when it runs."""

    @functools.wraps(fake)
    async def mock(*args: Any, **kwargs: Any) -> Any:
        runs()
        made = fake(*args, **kwargs)
        return await made if inspect.isawaitable(made) else made

    return mock


def require_known(mocks: Mapping[str, Mapping[str, Any]], conversation: Conversation[Any]) -> None:
    """Raise `TurnError` for a mock of an agent or a tool that does not exist: the real tool would run."""
    for agent, tools in mocks.items():
        if agent not in conversation.call.roles.agents:
            agents = ", ".join(sorted(conversation.call.roles.agents))
            raise TurnError(f'Call(mocks={{"{agent}": ...}}): the graph\'s agents are {agents}.')
        definition = definition_of(conversation.graph, agent)
        if definition is None or definition.toolsets:
            continue  # a graph of its own, or a toolset's tools: they can't be listed
        known = [tool.name for tool in definition.all_tools]
        if unknown := [tool for tool in tools if tool not in known]:
            raise TurnError(
                f'Call(mocks={{"{agent}": {{"{unknown[0]}": ...}}}}): '
                f"the tools of {agent} are {', '.join(known) or 'none'}."
            )
