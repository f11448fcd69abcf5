"""The strict rule of the chat APIs: each tool call is answered by exactly one tool message, directly after it.

Everything that a model is shown, and everything that is remembered, goes through `pair_safe`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage

from graph_voice.messages.provider_data import with_calls

__all__ = [
    "ACTED",
    "ENDS",
    "GOTO",
    "NO_REPLY",
    "PROGRESS",
    "RUNNING",
    "WAITS",
    "approved_call",
    "calls_of",
    "ends_task",
    "is_approved",
    "keep_calls",
    "pair_safe",
    "paired",
    "placeholder",
    "running",
    "stands_alone",
    "transfer_answer",
    "waits_for_task",
    "without_transfer",
]

RUNNING = "The tool call is still in progress."
"""The result that a model sees for a tool call that has not ended yet. LiveKit's words for the same case."""

GOTO = "goto"
"""Marks the result of the tool call whose handoff counts: the node to go to."""

NO_REPLY = "no_reply"
"""Marks the result of a tool that wants no reply from the model: "stopped" (StopResponse), "direct" (return_direct), or
"none" (it returned None, and wants no reply if the model has said something)."""

PROGRESS = "progress"
"""Marks what a model is shown as the result so far of a running tool call, to speak about it (`ctx.update`). Its value
is what the tool tells."""

WAITS = "waits"
"""Marks the placeholder of an undecided tool call. Its value is what is known of the tool call, as plain data."""

ACTED = "acted"
"""Marks the result of a tool that ran before it asked for a handoff: its own words, which may be empty."""

ENDS = "ends"
"""Marks the result of a tool call that ends a task: whose turn it is then (`agent`), and how it ended, as plain data
(`end`; None if that is secret). Until that agent is active, the task has not ended."""


class _Call(NamedTuple):
    id: str
    name: str
    valid: bool
    """Whether its arguments were JSON, so that it may run."""


def calls_of(message: AIMessage) -> list[_Call]:
    """All tool calls of this message that a provider is sent. Those whose arguments were not JSON need answers too."""
    calls = [_Call(c["id"], c["name"], True) for c in message.tool_calls if c["id"]]
    return calls + [_Call(c["id"], c["name"] or "unknown", False) for c in message.invalid_tool_calls if c["id"]]


def transfer_answer(to: str) -> str:
    """The answer of a tool call that hands off, unless the handoff says otherwise."""
    return f"Transferring to {to.replace('_', ' ')}."


def without_transfer(message: ToolMessage, reason: str, *, why: str = "") -> ToolMessage:
    """The answer of a tool call whose handoff does not take place.

    A transfer did nothing else, so its answer is the reason. A tool that acted keeps its own words: if the model were
    told that nothing happened, it would call the tool again.

    Args:
        message: the answer that announced the handoff.
        reason: the new answer of a transfer.
        why: the end of the sentence that is added to a tool's own words, such as "the caller interrupted".
    """
    extra = {k: v for k, v in message.additional_kwargs.items() if k not in (GOTO, ENDS, "placeholder")}
    own = extra.get(ACTED)
    update: dict[str, Any] = {"additional_kwargs": extra, "artifact": None}
    if own is None:
        update |= {"content": reason, "status": "error"}
    else:
        update["content"] = f"{own} The transfer did not take place{why and f': {why}'}.".strip()
    return message.model_copy(update=update)


def running(progress: str) -> str:
    """`RUNNING`, with what the tool has told of its progress last, if it has (`ctx.update`)."""
    return f"{RUNNING} Its last update: {progress}" if progress else RUNNING


def placeholder(call_id: str, name: str, text: str = RUNNING) -> ToolMessage:
    """An answer for a tool call that has no result (yet). A real result with the same tool call id replaces it."""
    return ToolMessage(
        text,
        name=name,
        tool_call_id=call_id,
        id=f"result-{call_id}",
        additional_kwargs={"placeholder": True},
    )


def approved_call(call_id: str, name: str, known: Mapping[str, Any]) -> ToolMessage:
    """The placeholder of a tool call that the caller has approved, and that runs now. `known`: what it knew before."""
    made = placeholder(call_id, name)
    extra = {**made.additional_kwargs, WAITS: {**known, "approved": True}}
    return made.model_copy(update={"additional_kwargs": extra})


def is_approved(message: BaseMessage | None) -> bool:
    """Whether this is the placeholder of a tool call that the caller has approved."""
    return message is not None and bool(message.additional_kwargs.get(WAITS, {}).get("approved"))


def waits_for_task(message: BaseMessage | None) -> TypeGuard[ToolMessage]:
    """Whether this is the placeholder of a tool call that waits for a task. Its tool has not acted yet."""
    return isinstance(message, ToolMessage) and bool(message.additional_kwargs.get(WAITS, {}).get("task"))


def ends_task(message: BaseMessage | None) -> TypeGuard[ToolMessage]:
    """Whether this is the placeholder of a tool call that has ended its task, in a process that ended before the active
    agent had changed."""
    return isinstance(message, ToolMessage) and ENDS in message.additional_kwargs.get(WAITS, {})


def keep_calls(message: AIMessage, ids: Iterable[str]) -> AIMessage:
    """A copy of `message` with only these of its tool calls; its text stays.

    The provider's own data (thought signatures, `tool_use` blocks) stays for the tool calls that stay. If none stays,
    all of it is removed.
    """
    wanted = set(ids)
    calls = [call for call in message.tool_calls if call["id"] in wanted]
    invalid = [call for call in message.invalid_tool_calls if call["id"] in wanted]
    if len(calls) == len(message.tool_calls) and len(invalid) == len(message.invalid_tool_calls):
        return message
    update = {"tool_calls": calls, "invalid_tool_calls": invalid, **with_calls(message, wanted)}
    return message.model_copy(update=update)


def stands_alone(message: BaseMessage) -> bool:
    """Whether a list that is pair-safe stays so when this message is put between two pairs: it is part of none."""
    if isinstance(message, AIMessage):
        return bool(message.content) and not message.tool_calls and not message.invalid_tool_calls
    return not isinstance(message, ToolMessage)


def pair_safe(messages: Sequence[BaseMessage]) -> list[AnyMessage]:
    """Repair a list so that every provider accepts it, without changing its messages.

    A tool message without its tool call is dropped. An answer that stands elsewhere moves directly after its tool call,
    in the order of the calls. A tool call without an answer is dropped, unless it is in the last message (nothing came
    after it, so it is still running): then a placeholder answers it. An assistant message that is left with neither
    text nor tool calls is dropped. A message id that comes twice counts once: at the first one's place, with the last
    one's content, as in `add_messages`. The same holds for several answers of one tool call. A tool call id that two
    messages use belongs to the later one.
    """
    unique = _unique(messages)
    answers: dict[str, ToolMessage] = {}
    owner: dict[str, int] = {}
    plain = True
    final = -1
    for index, message in enumerate(unique):
        if isinstance(message, ToolMessage):
            plain = False
            _take(answers, message)
            continue
        final = index
        if isinstance(message, AIMessage):
            if message.tool_calls or message.invalid_tool_calls:
                for call in calls_of(message):
                    owner[call.id] = index
                plain = False
            elif not message.content:
                plain = False
    if plain:
        return cast(list[AnyMessage], unique)

    result: list[Any] = []
    for index, message in enumerate(unique):
        if isinstance(message, ToolMessage):
            continue
        if not isinstance(message, AIMessage):
            result.append(message)
            continue
        calls = {c.id: c for c in calls_of(message) if owner[c.id] == index}
        kept = [c for c in calls.values() if c.id in answers or (index == final and c.valid)]
        if kept or message.content:
            result.append(keep_calls(message, [c.id for c in kept]))
            result.extend(answers.get(c.id) or placeholder(c.id, c.name) for c in kept)
    return result


def paired(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """Put each result directly after its tool call, and drop results without one. Tool calls without a result stay.

    For a state, which a model is not shown directly: a tool call that waits for its result must stay there, because the
    node that will run it reads it there.
    """
    if not any(isinstance(m, ToolMessage) for m in messages):
        return list(messages)
    groups: list[tuple[AnyMessage, dict[str, ToolMessage]]] = []
    owner: dict[str, dict[str, ToolMessage]] = {}
    for message in messages:
        if isinstance(message, ToolMessage):
            if (answers := owner.get(message.tool_call_id)) is not None:
                _take(answers, message)
            continue
        group: tuple[AnyMessage, dict[str, ToolMessage]] = (message, {})
        if isinstance(message, AIMessage):
            owner.update((call.id, group[1]) for call in calls_of(message))
        groups.append(group)
    result: list[AnyMessage] = []
    for message, answers in groups:
        result.append(message)
        if answers and isinstance(message, AIMessage):
            result.extend(answers[call.id] for call in calls_of(message) if call.id in answers)
    return result


def _unique(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    unique: dict[Any, BaseMessage] = {}
    for index, message in enumerate(messages):
        unique[index if message.id is None else message.id] = message
    return list(unique.values())


def _take(answers: dict[str, ToolMessage], message: ToolMessage) -> None:
    """The last answer of a tool call counts, but a placeholder never replaces a result."""
    if message.tool_call_id not in answers or not message.additional_kwargs.get("placeholder"):
        answers[message.tool_call_id] = message
