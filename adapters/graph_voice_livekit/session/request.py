"""What LiveKit asks of a reply, told by the difference between `llm_node`'s chat context and the agent's own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AnyMessage
from livekit.agents import llm

from graph_voice_livekit.convert.converters import from_chat_context

__all__ = ["Request", "request_of"]


@dataclass(frozen=True)
class Request:
    """What LiveKit asks of one reply."""

    user: llm.ChatMessage | None
    """What the caller said, if nobody has answered it yet."""
    instructions: str | None
    """The instructions of `generate_reply`, and system messages that `on_user_turn_completed` has added."""
    shown: list[AnyMessage] | None
    """What the model is shown for this reply instead of the agent's context, without the user's message; None: nothing
    else. An `on_user_turn_completed` that edits its context changes it, and so does `generate_reply(chat_ctx=...)`."""


def request_of(given: llm.ChatContext, own: llm.ChatContext, known: Callable[[llm.ChatMessage], bool]) -> Request:
    """Tell what LiveKit asks of a reply.

    Args:
        given: the context for the reply: a copy of the agent's, and what is new.
        own: the agent's context.
        known: whether a message was answered already.
    """
    given_apart, own_apart = _apart(given.items, own.items)
    had = {item.id for item in own_apart}
    new = [m for m in _messages(given_apart) if m.id not in had and not m.id.startswith("lk.")]
    instructions = [m.text_content or "" for m in new if m.role in ("system", "developer")]
    user = next((m for m in reversed(new) if m.role == "user" and not known(m)), None)
    added = [m for m in new if m.role in ("user", "assistant") and m is not user]
    left = {m.id for m in _messages(given_apart)}
    removed = [m for m in _messages(own_apart) if m.role in ("user", "assistant") and m.id not in left]
    shown: list[AnyMessage] | None = None
    if added or removed:
        apart = {m.id for m in new if m.role in ("system", "developer")} | ({user.id} if user is not None else set())
        kept = [i for i in given.items if i.id not in apart and not i.id.startswith("lk.")]
        shown = from_chat_context(llm.ChatContext(kept))
    return Request(user, "\n\n".join(text for text in instructions if text) or None, shown)


def _apart(given: Sequence[llm.ChatItem], own: Sequence[llm.ChatItem]) -> tuple[list[Any], list[Any]]:
    """The items that only one of them has, or has at another place.

    A context for a reply is a copy with the same items, except the instructions at its beginning and what is new at its
    end. So most items of a long call are compared by identity and place, without a look at what they hold.
    """
    first = int(bool(given) and bool(own) and given[0] is not own[0])
    both = min(len(given), len(own))
    end = both
    if given[first:both] != own[first:both]:
        rest = zip(given[first:], own[first:], strict=False)
        end = next((i for i, (a, b) in enumerate(rest, first) if a is not b), both)
    return [*given[:first], *given[end:]], [*own[:first], *own[end:]]


def _messages(items: Sequence[llm.ChatItem]) -> list[llm.ChatMessage]:
    return [item for item in items if item.type == "message"]
