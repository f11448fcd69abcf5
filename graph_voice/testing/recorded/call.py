"""A call as it was recorded: what the caller said, what the models answered, what was heard."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice.errors import GraphVoiceError
from graph_voice.messages.content import plain_text

__all__ = ["Output", "RecordError", "RecordedCall", "RecordedTurn", "Reply", "from_messages"]

Output: TypeAlias = str | dict[str, str]
"""What a tool answered: a text, or `{"error": text}`."""
UNHEARD = " (the rest was not heard)"
"""Stands for the words of an answer that were cut off, where a recording does not have them."""


class RecordError(GraphVoiceError, ValueError):
    """A recording can't be read, or the call does not go as it was recorded."""


@dataclass(frozen=True)
class Reply:
    """One answer of a model."""

    agent: str
    """Empty: not known."""
    text: str
    calls: tuple[dict[str, Any], ...] = ()
    """Each with `name`, `args` and `id`."""
    cut: bool = False
    """Whether the recording lacks the words that were cut off."""


@dataclass(frozen=True)
class RecordedTurn:
    """What the caller said, and what the models answered until they spoke again."""

    said: str | None
    """None: the agents spoke first."""
    replies: tuple[Reply, ...] = ()
    heard: str = ""
    """What was heard of the agents, fixed lines too."""
    cut: bool = False
    """Whether the caller cut in with their next words."""

    @property
    def words(self) -> int:
        """How many words of the agents were heard."""
        return len(self.heard.split())


@dataclass(frozen=True)
class RecordedCall:
    """A recorded call.

    Args:
        name: of the thread, the folder, or the trace.
        turns: in order. The first one has `said=None` if the agents spoke first.
        exact: whether the replies are the models' own. Else they are what was heard, and a replay finds out which
            of it were fixed lines of the graph.
        userdata: the userdata at the beginning, as JSON. None: the graph's own default.
        outputs: tool -> its results, in order: texts, and `{"error": text}` for an error.
    """

    name: str
    turns: tuple[RecordedTurn, ...]
    exact: bool = False
    userdata: dict[str, Any] | None = None
    outputs: dict[str, list[Output]] = field(default_factory=dict)

    @property
    def heard(self) -> list[str]:
        """What was heard of the agents, in each turn."""
        return [turn.heard for turn in self.turns]

    def with_userdata(self, userdata: dict[str, Any] | None) -> "RecordedCall":
        """The same call, which began with this userdata."""
        return self if userdata is None else replace(self, userdata=userdata)


def from_messages(messages: Sequence[BaseMessage], *, name: str = "call") -> RecordedCall:
    """A call from the messages that are remembered of it: `conversation.messages`, or a stored thread's.

    Raises `RecordError` when nothing was said.
    """
    turns: list[RecordedTurn] = []
    outputs: dict[str, list[Output]] = {}
    said: str | None = None
    answers: list[AIMessage] = []
    for message in messages:
        if isinstance(message, HumanMessage):
            if answers:
                turns.append(_turn(said, answers))
                said, answers = None, []
            # Words that were not answered before others followed are one turn with these.
            said = " ".join(part for part in (said, plain_text(message)) if part)
        elif isinstance(message, AIMessage):
            answers.append(message)
        elif isinstance(message, ToolMessage):
            text = str(message.text)
            output: Output = text if message.status != "error" else {"error": text}
            outputs.setdefault(message.name or "", []).append(output)
    if said is not None or answers:
        turns.append(_turn(said, answers))
    return checked(RecordedCall(name, tuple(_greeting_as_heard(turns)), outputs=outputs))


def checked(call: RecordedCall) -> RecordedCall:
    """The call. Raises `RecordError` when the caller said nothing in it."""
    if not any(turn.said for turn in call.turns):
        raise RecordError(f"{call.name}: the caller said nothing in this call, so there is nothing to play again.")
    return call


def _turn(said: str | None, answers: Iterable[AIMessage]) -> RecordedTurn:
    listed = list(answers)
    replies = tuple(
        Reply(
            message.name or "",
            message.text,
            tuple({k: call[k] for k in ("name", "args", "id")} for call in message.tool_calls),
            bool(message.additional_kwargs.get("interrupted")),
        )
        for message in listed
    )
    heard = " ".join(" ".join(reply.text.split()) for reply in replies if reply.text.strip())
    return RecordedTurn(said, replies, heard, cut=any(reply.cut for reply in replies))


def _greeting_as_heard(turns: Sequence[RecordedTurn]) -> Iterable[RecordedTurn]:
    """A scripted caller can't cut into the greeting: it is what was heard of it."""
    for turn in turns:
        if turn.said is None:
            turn = replace(turn, cut=False, replies=tuple(replace(reply, cut=False) for reply in turn.replies))
        elif turn.cut and not turn.words:
            turn = replace(turn, cut=False)
        yield turn
