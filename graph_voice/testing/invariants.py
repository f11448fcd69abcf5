"""What holds after any turn, however it ended, as one function."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice.conversation import Conversation
from graph_voice.secrets import MASK

__all__ = ["check_invariants"]


def check_invariants(
    conversation: Conversation[Any],
    *,
    effects: Iterable[str] | None = None,
    heard: Mapping[str, str] | Iterable[str] | None = None,
    said: Sequence[str] | None = None,
    floor: str | None = None,
) -> None:
    """Check that the conversation remembers what happened, and nothing else.

    Always checked: each call in `messages` and `chat_ctx` is answered exactly once, directly behind its message; no
    answer without its call; each id appears once.

    Args:
        conversation: at any instant.
        effects: the `tool_call_id` of each tool that began to run, in order: none twice, and each one remembered (so
            it ran in a turn that was committed).
        heard: what the caller heard of the agents, by message id or in any order: the same words, no more, no fewer.
            Only when nothing is being played.
        said: what the caller said in turns that count, in order. A mask stands for any secret.
        floor: the agent that has the floor in the front end.

    Raises `AssertionError` with a list of what is wrong, and the conversation.
    """
    messages = conversation.messages
    wrong = [
        *(f"messages: {problem}" for problem in _pairing(messages)),
        *(f"chat_ctx: {problem}" for problem in _pairing(conversation.chat_ctx)),
        *_once(messages),
    ]
    if effects is not None:
        wrong += _effects(messages, list(effects))
    if heard is not None:
        wrong += _heard(messages, heard.values() if isinstance(heard, Mapping) else heard)
    if said is not None:
        found = [m.text for m in messages if isinstance(m, HumanMessage)]
        if len(found) != len(said) or not all(map(_are_words, found, said)):
            wrong.append(f"the caller said {list(said)}; remembered is {found}")
    if floor is not None and conversation.active_agent != floor:
        wrong.append(f"{floor!r} has the floor; in the state it is {conversation.active_agent!r}")
    if wrong:
        listed = "\n".join(f"- {problem}" for problem in wrong)
        shown = "\n".join(_line(m) for m in messages)
        raise AssertionError(f"What is remembered is not what happened:\n{listed}\nThe conversation:\n{shown}")


def _pairing(messages: Sequence[BaseMessage]) -> Iterable[str]:
    waiting: list[str] = []
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id in waiting:
                waiting.remove(message.tool_call_id)
            else:
                yield f"message {position} answers {message.tool_call_id!r}, which waits for no answer there"
            continue
        if waiting:
            yield f"the calls {waiting} are not answered before message {position}"
        calls = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
        waiting = [c["id"] or "" for c in calls]
        if isinstance(message, AIMessage) and not calls and not message.content:
            yield f"message {position} says nothing and calls nothing"
    if waiting:
        yield f"the calls {waiting} are never answered"


def _once(messages: Sequence[BaseMessage]) -> Iterable[str]:
    calls = [c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls]
    for what, ids in (("message", [m.id for m in messages]), ("call", calls)):
        yield from (f"the {what} id {name!r} appears {n} times" for name, n in Counter(ids).items() if n > 1)


def _effects(messages: Sequence[BaseMessage], effects: list[str]) -> Iterable[str]:
    yield from (f"the call {name!r} ran {n} times" for name, n in Counter(effects).items() if n > 1)
    known = {c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls}
    yield from (f"the call {name!r} ran, and is not remembered" for name in effects if name not in known)


def _heard(messages: Sequence[BaseMessage], heard: Iterable[str]) -> Iterable[str]:
    was = Counter(word for text in heard for word in text.split())
    now = Counter(word for m in messages if isinstance(m, AIMessage) for word in m.text.split())
    if forgotten := was - now:
        yield f"heard, and not remembered: {' '.join(forgotten.elements())!r}"
    if made_up := now - was:
        yield f"remembered, and never heard: {' '.join(made_up.elements())!r}"


def _are_words(remembered: str, said: str) -> bool:
    """Whether this is what was said, a mask standing for what was held back."""
    return re.fullmatch(".+".join(map(re.escape, remembered.split(MASK))), said, re.DOTALL) is not None


def _line(message: BaseMessage) -> str:
    calls = [f"{c['name']} id={c['id']}" for c in message.tool_calls] if isinstance(message, AIMessage) else []
    answers = f"answers {message.tool_call_id}" if isinstance(message, ToolMessage) else ""
    return f"  {message.id} {message.type} {message.text!r} {' '.join(calls)}{answers}".rstrip()
