"""What LiveKit asks of one reply: the chat context that `llm_node` is given, held against the agent's own."""

from collections.abc import Callable
from dataclasses import dataclass

from langchain_core.messages import AnyMessage
from livekit.agents import llm

from graph_voice_livekit.converters import from_chat_context

__all__ = ["Request", "request_of"]


@dataclass(frozen=True)
class Request:
    """One reply, as LiveKit asks for it."""

    user: llm.ChatMessage | None
    """What the caller said that nobody has answered yet."""
    instructions: str | None
    """Those of `generate_reply`, and system messages that `on_user_turn_completed` has added."""
    shown: list[AnyMessage] | None
    """What the model is to be shown for this reply instead of the agent's context, when somebody has changed that: an
    `on_user_turn_completed` that edits its context, `generate_reply(chat_ctx=...)`. Without the user's message."""


def request_of(given: llm.ChatContext, own: llm.ChatContext, known: Callable[[str], bool]) -> Request:
    """Read it.

    Args:
        given: the context for the reply: a copy of the agent's, with what is new.
        own: the agent's context.
        known: whether a message with this id was answered already.
    """
    had = {item.id for item in own.items}
    new = [m for m in _messages(given) if m.id not in had and not m.id.startswith("lk.")]
    instructions = [m.text_content or "" for m in new if m.role in ("system", "developer")]
    user = next((m for m in reversed(new) if m.role == "user" and not known(m.id)), None)
    added = [m for m in new if m.role in ("user", "assistant") and m is not user]
    left = {m.id for m in _messages(given)}
    removed = [m for m in _messages(own) if m.role in ("user", "assistant") and m.id not in left]
    shown: list[AnyMessage] | None = None
    if added or removed:
        apart = {m.id for m in new if m.role in ("system", "developer")} | ({user.id} if user is not None else set())
        kept = [i for i in given.items if i.id not in apart and not i.id.startswith("lk.")]
        shown = from_chat_context(llm.ChatContext(kept))
    return Request(user, "\n\n".join(text for text in instructions if text) or None, shown)


def _messages(context: llm.ChatContext) -> list[llm.ChatMessage]:
    return [item for item in context.items if item.type == "message"]
