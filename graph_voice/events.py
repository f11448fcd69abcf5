"""Public. What a `Turn` yields while it runs: small frozen dataclasses, in the order in which things happen.

A front end turns `Text` and `Say` into speech, answers `ToolCalls` with `Turn.allow` (or `deny`), `HandedOff` with
`Turn.confirm_handoff` (or `reject_handoff`), and reports what was played with `Turn.heard`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from langchain_core.messages import AnyMessage

__all__ = [
    "Custom",
    "Ended",
    "Event",
    "Failed",
    "HandedOff",
    "Interrupt",
    "Modality",
    "NoReply",
    "OnInterruption",
    "Say",
    "Text",
    "ToolCall",
    "ToolCalls",
    "ToolResult",
    "ToolUpdate",
    "Usage",
    "ends_turn",
]

Modality = Literal["audio", "text"]
"""How the caller's words come: spoken, or typed."""

OnInterruption = Literal["cancel", "complete"]
"""What happens to a handoff when the caller interrupts before the new agent is active."""


@dataclass(frozen=True, slots=True)
class Event:
    """The base of all events of a turn."""


@dataclass(frozen=True, slots=True)
class Text(Event):
    """A piece of an agent's reply, to be spoken as it comes."""

    agent: str
    message_id: str
    text: str
    """A delta: concatenated, the deltas of one `message_id` are the whole reply."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool call that a model made."""

    id: str
    name: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCalls(Event):
    """A model step ended with these tool calls. None of them runs before `Turn.allow(call.id)`, except in a custom
    node."""

    agent: str
    message_id: str
    calls: tuple[ToolCall, ...]
    custom: bool = False
    """Whether a custom node made them. Its graph runs them by itself: there is nothing to allow, deny or resolve."""


NoReply = Literal["none", "stopped", "direct"]
"""Why a tool wants no reply: it returned None, it raised `StopResponse`, or its output is the answer (LangChain's
`return_direct`)."""


def ends_turn(reasons: Collection[NoReply | None], *, said: bool) -> bool:
    """Whether these results need no reply: each tool call wants none, and the caller is not left without an answer.

    As in LiveKit, tools that return None want no reply. In LiveKit the caller then hears nothing if the model said
    nothing beside the tool calls. Here the model is asked in that case.

    Args:
        reasons: those of the tool calls of the batch (`ToolResult.no_reply`).
        said: whether the model said something beside the tool calls.
    """
    return None not in reasons and (set(reasons) != {"none"} or said)


@dataclass(frozen=True, slots=True)
class ToolResult(Event):
    """A tool call is answered: by the tool, by the front end (`Turn.resolve`), or because it did not run."""

    agent: str
    call_id: str
    name: str
    output: str
    is_error: bool = False
    no_reply: NoReply | None = None
    """Why the tool wants no reply of the model, if it does; see `ends_turn`. None: the model speaks next."""
    hands_off: bool = False
    """Whether a `HandedOff` of this tool call follows."""
    waits: bool = False
    """Whether the tool call waits for a task: this is a placeholder, and the result comes in another `ToolResult`,
    maybe in a later turn."""
    custom: bool = False
    """Whether a custom node made the tool call."""


@dataclass(frozen=True, slots=True)
class ToolUpdate(Event):
    """A running tool call tells how far it is (`ctx.update`). It is no speech: what the model says about it comes as
    `Text`."""

    agent: str
    call_id: str
    name: str
    message: str
    """What it tells, with its secrets redacted."""
    silent: bool = False
    """Whether only models are told: nobody speaks about it."""


@dataclass(frozen=True, slots=True)
class HandedOff(Event):
    """The graph moved on to another agent. It counts only once the front end has confirmed it."""

    call_id: str | None
    """The tool call that asked for it; None for a handoff by an edge of the graph."""
    old_agent: str
    new_agent: str
    shown: "tuple[AnyMessage, ...]" = ()
    """What the handoff's policy shows an external agent. The graph's own agents find it in the state."""
    task: Literal["begin", "end"] | None = None
    """Whether a task takes over the conversation, or gives it back; None for any other handoff."""
    on_interruption: OnInterruption = "cancel"
    """What to do when the caller interrupts before the new agent is active. "cancel": `reject_handoff`. "complete":
    `confirm_handoff`, and the new agent answers the caller's words."""
    arguments: Mapping[str, Any] | None = None
    """What the handoff takes along (`Handoff(arguments=...)`), as JSON data with its secrets redacted."""


@dataclass(frozen=True, slots=True)
class Say(Event):
    """A fixed line: a transfer line, an apology, `ctx.say`."""

    agent: str
    message_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Usage(Event):
    """Tokens of one model call, as the provider counted them."""

    agent: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """The input tokens that were read from the provider's cache."""
    cache_creation_tokens: int = 0
    """The input tokens that were written to it."""
    reasoning_tokens: int = 0
    """The output tokens that were reasoning, not speech."""
    ttft: float = 0.0
    """Seconds from the request to the first piece of the answer."""
    duration: float = 0.0
    """Seconds from the request to the end of the answer."""


@dataclass(frozen=True, slots=True)
class Interrupt(Event):
    """LangGraph's `interrupt()`: the graph waits for an answer, which the next turn brings."""

    id: str
    """LangGraph's id of the interrupt."""
    agent: str
    question: Any
    """What was given to `interrupt()`."""
    message_id: str = ""
    """The question is speech: acknowledge it with `Turn.heard(message_id, text)`."""
    words: str | None = None
    """What is said for it; None: the question itself."""

    @property
    def text(self) -> str:
        """The question in words: as the conversation says it, else as text, or as JSON if it is no text."""
        if self.words is not None:
            return self.words
        if isinstance(self.question, str):
            return self.question
        return json.dumps(self.question, default=str, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Custom(Event):
    """Data that a tool or a node has written with LangGraph's `get_stream_writer()`: for a page or a log, not speech.

    It comes when it is certain that what wrote it has happened: once the turn is committed, and a handoff before it has
    taken place. Nothing comes of a discarded turn. It is not remembered.
    """

    agent: str
    """The agent whose tool wrote it; for a node, the active agent."""
    data: Any
    """What was written."""
    node: str = ""
    """The node that wrote it; "" if several nodes were running."""
    tool: str | None = None
    """The tool that wrote it; None if a node did."""

    @property
    def key(self) -> str | None:
        """What this is the state of: `data["key"]`, if there is one. While several wait to be delivered, only the
        latest of each key is. Without a key all are, in order."""
        found = self.data.get("key") if isinstance(self.data, Mapping) else None
        return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """A model or a node raised. The turn goes on to its end; an apology is said."""

    agent: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """The last event of every turn, however it ended."""

    ends_call: bool = False
    """Whether a tool asked to end the call (`ctx.end_call`) once what it said was heard."""
