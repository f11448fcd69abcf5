"""The application of a scenario, in terms that the three ways share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from graph_voice.testing import ScriptedModel

__all__ = ["App", "Carry", "Member", "Script", "Way", "asked", "is_shown_to"]

Script = Callable[[list[BaseMessage]], Any]
"""What a model says to a prompt."""


class Way(StrEnum):
    """How the application is written; the value is what the page calls it."""

    LIVEKIT = "LiveKit agents"
    ADAPTER = "LLMAdapter"
    SAVER = "LLMAdapter with a checkpointer"
    CUSTOM = "LLMAdapter with stream_mode='custom'"
    OURS = "graph_voice"


class Carry(StrEnum):
    """What a handoff carries."""

    FULL = "full"
    LAST_TWO = "the last two items, without instructions"
    SUMMARY = "a summary"


@dataclass(frozen=True)
class Member:
    """One agent. Tools are plain async functions: each way marks them as its own framework wants it."""

    name: str
    tools: Sequence[Callable[..., Any]] = ()
    handoffs: Sequence[str] = ()

    @property
    def instructions(self) -> str:
        return f"You are {self.name}."


@dataclass(frozen=True)
class App:
    """Agents and the script of their models.

    Args:
        members: the agents; the first has the floor first.
        script: what each agent's model says to a prompt; `others` answers prompts that are no agent's.
        carry: what handoffs carry.
        first_token: seconds to each reply's first token.
        per_token: seconds between two tokens.
    """

    members: Sequence[Member]
    script: Mapping[str, Script]
    others: Script | None = None
    carry: Carry = Carry.FULL
    first_token: float = 0.0
    per_token: float = 0.0
    model: ScriptedModel = field(init=False)

    def __post_init__(self) -> None:
        # A provider with OpenAI's rules, which are those that all three ways can satisfy without special care.
        lax = ("later_system", "opens_with_assistant", "ends_with_assistant")
        made = ScriptedModel(self._answer, first_token=self.first_token, per_token=self.per_token, allow=lax)
        object.__setattr__(self, "model", made)

    def _answer(self, messages: list[BaseMessage]) -> Any:
        for name, script in self.script.items():
            if is_shown_to(name, messages):
                return script(messages)
        assert self.others is not None, f"a prompt of nobody's: {messages}"
        return self.others(messages)

    def prompts(self, agent: str) -> list[list[BaseMessage]]:
        """What this agent's model was shown, prompt by prompt."""
        return [p.messages for p in self.model.prompts if is_shown_to(agent, p.messages)]

    def member(self, name: str) -> Member:
        return next(m for m in self.members if m.name == name)

    @property
    def start(self) -> str:
        return self.members[0].name


def is_shown_to(agent: str, messages: Sequence[BaseMessage]) -> bool:
    """Whether a prompt is this agent's: it holds its instructions, wherever a way puts them."""
    return any(m.type == "system" and f"You are {agent}." in m.text for m in messages[:1])


def asked(messages: Sequence[BaseMessage]) -> str:
    """The caller's last words in a prompt."""
    return next((m.text for m in reversed(messages) if isinstance(m, HumanMessage)), "")
