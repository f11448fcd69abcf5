"""What a turn did, and what is remembered of it: derived from what it produced and what the front end acknowledged.

Nothing is patched afterwards. At any moment `TurnRecord.groups` gives the messages so far. Each assistant message is
grouped with all its tool results, so no tool call can dangle. Its text is exactly what was heard.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.types import Interrupt

from graph_voice.messages.pairs import keep_calls, placeholder, running
from graph_voice.messages.provider_data import with_words
from graph_voice.messages.tool_names import is_legal_name
from graph_voice.turn.handoff import HandoffInProgress, Handoffs

__all__ = [
    "ChannelUpdate",
    "Group",
    "ModelStep",
    "Place",
    "Rewrite",
    "Spoken",
    "ToolCallRecord",
    "TurnRecord",
    "WithoutSecrets",
    "Write",
]

CallStatus = Literal["waiting", "running", "done", "refused"]
CONTROL = ("active_agent", "handoffs", "chat_ctx", "contexts", "stack")
"""The channels that a handoff writes. A handoff that did not happen leaves them unchanged."""

Place = tuple[float, int]
"""Where something stands among all that is remembered of a call: when it happened, and a number for equal times.

The time is the front end's, in seconds since the epoch. The number is the call's own: each turn takes one when it
begins, and so does what is added outside of turns. Of two things with the same time, the one that began, or was added,
earlier is in front. What one turn did at the same time stays in the order in which the turn did it.
"""


class WithoutSecrets(Protocol):
    """What is known to be secret (`graph_voice.secrets.known.Known`)."""

    def text(self, text: str) -> str:
        """A text without it; the same object if it has none."""


@dataclass
class Spoken:
    """Words of an agent: produced in pieces, reported as heard in one piece."""

    id: str
    produced: str = ""
    heard: str | None = None
    """None until the front end says what was played."""
    at: float = 0.0
    """When playback began; seconds since the epoch."""
    interrupted: bool | None = None
    """Whether the front end reports that it was cut off; None when it does not say."""
    known: Callable[[], WithoutSecrets] | None = None
    """Returns what is secret to who says it. None: nothing."""

    def hidden(self, text: str) -> str:
        """These words as they are remembered: without what is secret."""
        return self.known().text(text) if self.known is not None and text else text

    @property
    def remembered(self) -> str:
        """What was heard, as it is remembered."""
        return self.hidden(self.heard or "")

    @property
    def whole(self) -> bool:
        """Whether it was heard word for word."""
        return self.heard is not None and self.heard.strip() == self.produced.strip()

    @property
    def cut(self) -> bool:
        """Whether it was cut off. Other words than those produced may still be complete (an edited transcript)."""
        if self.heard is None or self.whole:
            return False
        return True if self.interrupted is None else self.interrupted


@dataclass
class ToolCallRecord:
    """One tool call of a step."""

    id: str
    name: str
    status: CallStatus = "waiting"
    result: ToolMessage | None = None
    host: Any = None
    """The front end's own context, passed to `allow`."""
    question: Interrupt | None = None
    """What it asked when it ran. It need not run again to ask it; only the answer makes it run."""
    progress: str = ""
    """What it has told of its progress last (`ctx.update`), as it is remembered."""

    @property
    def answer(self) -> ToolMessage | None:
        """Its result, or its placeholder, which says how far it is; None if it has neither."""
        if self.result is not None:
            told = self.progress and self.result.additional_kwargs.get("placeholder")
            return self.result.model_copy(update={"content": running(self.progress)}) if told else self.result
        return placeholder(self.id, self.name, running(self.progress)) if self.status == "running" else None

    @property
    def open(self) -> bool:
        """Whether it runs or waits in LangGraph's `interrupt()`. Its result is then missing or a placeholder."""
        undecided = self.result is None or bool(self.result.additional_kwargs.get("placeholder"))
        return self.status == "running" and undecided


@dataclass
class ModelStep:
    """One assistant message: its own words, its tool calls, and what was said while they ran."""

    agent: str
    words: Spoken
    at: float = 0.0
    """When playback or its first tool call began; seconds since the epoch."""
    message: AIMessage | None = None
    """The model's complete message; None while it streams, or when it was cut off."""
    calls: dict[str, ToolCallRecord] = field(default_factory=dict)
    lines: list[Spoken] = field(default_factory=list)
    """What the tools of this step said. It is part of the same assistant message, since a prompt may not end with one.
    A line that was heard behind something else (from the program or another turn) stands where it was heard."""

    def begins(self, line: Spoken) -> None:
        """The first words of this line, which a model has been asked for, come now: it is behind what tools have said
        meanwhile."""
        if any(line is other for other in self.lines):
            self.lines = [*(other for other in self.lines if other is not line), line]

    def find(self, message_id: str) -> Spoken | None:
        return next((s for s in (self.words, *self.lines) if s.id == message_id), None)

    @property
    def acknowledged(self) -> bool:
        return any(s.heard for s in (self.words, *self.lines)) or any(
            c.status in ("running", "done") for c in self.calls.values()
        )

    def alone(self, line: Spoken) -> AIMessage:
        """A line as a message of its own: something else came between the step and this line."""
        extra = {"interrupted": True} if line.cut else {}
        return AIMessage(line.remembered, id=line.id, name=self.agent, additional_kwargs=extra)

    def messages(self, lines: Sequence[Spoken]) -> list[AnyMessage]:
        """The assistant message as heard, with these of its lines, and its tool results directly after it."""
        started = [c for c in self.calls.values() if c.status in ("running", "done")]
        calls = list(self.calls.values()) if started else []
        heard = _join(s.remembered for s in (self.words, *lines))
        if not heard and not calls:
            return []
        base = self.message or AIMessage(self.words.hidden(self.words.produced), id=self.words.id, name=self.agent)
        base = keep_calls(base, [c.id for c in calls])
        said = base.text.strip() == self.words.produced.strip()  # a node may return other words than were said
        exact = said and self.words.whole and not any(s.heard for s in lines)
        update: dict[str, Any] = {"id": self.words.id}
        if not exact and (heard or self.words.produced):
            update |= with_words(base, heard)
        if base.name is None and self.words.produced and is_legal_name(self.agent):
            update["name"] = self.agent  # a custom node's
        if self.words.cut:
            extra = update.get("additional_kwargs", base.additional_kwargs)
            update["additional_kwargs"] = {**extra, "interrupted": True}
        result: list[AnyMessage] = [base.model_copy(update=update)]
        for call in calls:
            unstarted = "not done: the tool call was not executed."
            result.append(call.answer or placeholder(call.id, call.name, unstarted))
        return result


@dataclass
class Write:
    """What a finished node wrote to the channels other than `messages`."""

    node: str
    values: dict[str, Any]
    handoff: HandoffInProgress | None = None
    """The handoff that this write carries out."""
    agent: str | None = None
    """The agent whose node wrote it; None for any other node."""
    order: int = 0
    """Its sequence number in the call."""


@dataclass
class ChannelUpdate:
    """A remembered update of channels, and its sequence number in the call."""

    order: int
    values: dict[str, Any]
    agent: str | None = None
    """Counts only while this agent is active; None: always."""
    changes_active_agent: bool = False
    """Changes the active agent whoever that is by then: another turn or the program may have changed it meanwhile."""


@dataclass(frozen=True)
class Rewrite:
    """What a step of the graph made of `messages`, where it did more than add to it.

    It names the messages that the run had, and does not hold them: of each, what is remembered is what was heard. What
    the run did not know of (another turn's words) stays where it is.
    """

    known: frozenset[str]
    """The ids of the messages that the run had before."""
    kept: Sequence[str | AnyMessage]
    """What it had afterwards: a message that it had before, by its id, or one that the step has made or changed."""

    def apply(self, messages: Sequence[AnyMessage]) -> list[AnyMessage]:
        """The remembered messages after it."""
        found = {message.id: message for message in messages}
        after = [message for kept in self.kept if (message := self._remembered(kept, found)) is not None]
        stays = {message.id for message in after}
        between: dict[str | None, list[AnyMessage]] = {}
        others: list[AnyMessage] = []
        for message in messages:
            if message.id in stays:
                between[message.id], others = others, []
            elif message.id not in self.known:
                others.append(message)
        return [*(m for message in after for m in (*between.get(message.id, ()), message)), *others]

    def _remembered(self, kept: str | AnyMessage, found: Mapping[str | None, AnyMessage]) -> AnyMessage | None:
        if isinstance(kept, str):
            return found.get(kept)
        never_heard = kept.id in self.known and kept.id not in found
        return None if never_heard else kept


@dataclass(eq=False)
class Group:
    """Messages that belong together, and when they happened."""

    at: float
    messages: list[AnyMessage]
    order: int
    """The number, in the call, of the turn that they are of; outside of turns, their own."""
    raw: Any = None
    """An update from a custom node: a `Rewrite`, or one that the reducer applies unchanged."""
    unpaired: bool = False
    """Whether the messages may separate a tool call from its result."""
    rank: int = 0
    """Its number in its turn: the order of what has the same place."""
    step: ModelStep | None = None
    """The step that the messages are of, if its tools have said lines."""
    lines: "Sequence[Line]" = ()
    """Those lines of the step that are part of its message."""

    @property
    def place(self) -> Place:
        return self.at, self.order

    @property
    def end(self) -> Place:
        """The place of the last thing in it."""
        return max([self.place, *(line.alone.place for line in self.lines)])

    def without(self, apart: "Collection[Group]") -> "Group":
        """This group when these lines, if they are of its step, stand alone."""
        kept = [line for line in self.lines if line.alone not in apart]
        if self.step is None or len(kept) == len(self.lines):
            return self
        return replace(self, messages=self.step.messages([line.words for line in kept]), lines=kept)


class Line(NamedTuple):
    """What a tool said: part of its step's message, or alone."""

    words: Spoken
    alone: Group
    """The line as a message of its own, at the place where it was heard."""


@dataclass
class _Raw:
    update: Any
    at: float


Item = ModelStep | _Raw
"""What a turn has done, in its order."""


class TurnRecord:
    """All that one turn produced, and what was acknowledged of it.

    Args:
        user: what the caller said.
        order: the turn's place among all that happened in the call, which is taken when it begins.
    """

    def __init__(self, user: HumanMessage | None, order: int) -> None:
        self.user = user
        self.order = order
        self.user_at: float | None = None
        self.items: list[ModelStep | _Raw] = []
        self.writes: list[Write] = []
        self.drafts: dict[str, list[ChannelUpdate]] = {}
        """Node -> what its finished tool calls will write once the node finishes. So each tool call is remembered with
        what it changed, however long the others of its batch take."""
        self.handoffs = Handoffs()

    # produced

    def step(self, agent: str, message_id: str) -> ModelStep:
        for item in self.items:
            if isinstance(item, ModelStep) and item.words.id == message_id:
                return item
        step = ModelStep(agent, Spoken(message_id))
        self.items.append(step)
        return step

    def raw(self, update: Any, at: float) -> "Item":
        """Record an update of `messages` that is not speech."""
        self.items.append(item := _Raw(update, at))
        return item

    def arrange(self, items: "Sequence[Item]") -> None:
        """Put these items of the record into this order, at the places that they have among the others."""
        wanted = {id(item) for item in items}
        places = [place for place, item in enumerate(self.items) if id(item) in wanted]
        if [id(self.items[place]) for place in places] == [id(item) for item in items]:
            return
        for place, item in zip(places, items, strict=True):
            self.items[place] = item
        for item, behind in reversed(list(itertools.pairwise(items))):
            if 0 < behind.at < item.at:
                item.at = behind.at  # it happened before what stands behind it

    def steps(self) -> Iterator[ModelStep]:
        return (item for item in self.items if isinstance(item, ModelStep))

    def spoken(self, message_id: str) -> tuple[ModelStep, Spoken] | None:
        for step in self.steps():
            if (found := step.find(message_id)) is not None:
                return step, found
        return None

    def call(self, call_id: str) -> tuple[ModelStep, ToolCallRecord] | None:
        for step in self.steps():
            if call_id in step.calls:
                return step, step.calls[call_id]
        return None

    def draft(self, node: str, userdata: Mapping[str, Any], updates: Sequence[Mapping[str, Any]], order: int) -> None:
        """A tool call of this node has ended.

        Args:
            node: the node.
            userdata: what the batch has changed of it so far.
            updates: what this tool call writes to other channels.
            order: its sequence number in the call.
        """
        kept = [entry for entry in self.drafts.get(node, ()) if "userdata" not in entry.values]
        for update in updates:
            if values := {k: v for k, v in update.items() if k not in (*CONTROL, "messages", "userdata")}:
                kept.append(ChannelUpdate(order, values))
        self.drafts[node] = [*kept, ChannelUpdate(order, {"userdata": userdata})] if userdata else kept

    def write(self, write: Write) -> None:
        """Record what a finished node wrote."""
        self.drafts.pop(write.node, None)
        self.writes.append(write)
        if write.handoff is not None:
            write.handoff.write()

    # remembered

    def groups(self) -> list[Group]:
        """What exists by now, in the order in which it happened within the turn."""
        groups: list[Group] = []
        if self.user is not None and self.user_at is not None:
            groups.append(Group(self.user_at, [self.user], self.order))
        rank = 0
        for at, item in self._placed():
            rank += 1
            if isinstance(item, _Raw):
                groups.append(Group(at, [], self.order, raw=item.update, unpaired=True, rank=rank))
                continue
            step, lines = rank, list[Line]()
            for line in item.lines:
                rank += 1
                if line.heard:
                    lines.append(Line(line, Group(line.at, [item.alone(line)], self.order, rank=rank)))
            if messages := item.messages([line.words for line in lines]):
                groups.append(Group(at, messages, self.order, rank=step, step=item if lines else None, lines=lines))
        return groups

    def _placed(self) -> "Iterator[tuple[float, ModelStep | _Raw]]":
        """Each item and its time in the call: never earlier than that of the item before it."""
        at = self.user_at or 0.0
        for item in self.items:
            at = max(at, item.at)
            yield at, item

    def entries(self) -> Iterator[ChannelUpdate]:
        """The channel updates that count, in order.

        A handoff's own update takes effect when the handoff is confirmed. What was written behind a handoff that is not
        confirmed does not count.
        """
        confirmed: int | None = 0
        for write in self.writes:
            if write.handoff is not None and confirmed is not None:
                confirmed = max(confirmed, write.handoff.order) if write.handoff.happened else None
            control = {k: v for k, v in write.values.items() if k in CONTROL}
            rest = {k: v for k, v in write.values.items() if k not in CONTROL}
            if rest and (confirmed is not None or write.handoff is not None):
                yield ChannelUpdate(max(write.order, confirmed or 0), rest)
            if control and confirmed is not None:
                if write.handoff is not None:
                    # Not when it was written: the old agent's `on_exit` may have taken a while, and the program may
                    # have changed the active agent meanwhile.
                    yield ChannelUpdate(confirmed, control, changes_active_agent=True)
                else:
                    yield ChannelUpdate(max(write.order, confirmed), control, write.agent)
        for drafts in self.drafts.values():
            yield from drafts


def _join(pieces: Iterator[str]) -> str:
    """Join pieces of speech, with a space where neither side has one."""
    text = ""
    for piece in pieces:
        if text and piece and not text[-1].isspace() and not piece[0].isspace():
            text += " "
        text += piece
    return text
