"""LangGraph's `interrupt()` on the phone: what is said for its value, and what the caller's words answer."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from langgraph.types import Interrupt
from pydantic import TypeAdapter, ValidationError

from graph_voice.agents.yes_no import agrees

__all__ = ["Answer", "Ask", "answer_to", "words_of_question"]

Ask = Callable[[Any], str]
"""What is said for a value that `interrupt()` was given."""
Answer = Callable[[Any, str], Any | Awaitable[Any]]
"""What `interrupt()` returns, for its value and the caller's words."""


def words_of_question(value: Any) -> str:
    """A text as it is, a request of LangChain's `HumanInTheLoopMiddleware` in its words, anything else as JSON."""
    if isinstance(value, str):
        return value
    if (actions := _actions(value)) is None:
        return json.dumps(value, default=str, ensure_ascii=False)
    declared = [action.get("description") or "" for action in actions]
    plain = [_plain(action) for action, words in zip(actions, declared, strict=True) if _is_default(action, words)]
    said = [words for action, words in zip(actions, declared, strict=True) if not _is_default(action, words)]
    if plain:
        said.append(f"May I {', and '.join(plain)}?")
    return " ".join(said)


def answer_to(interrupt: Interrupt, text: str) -> Any:
    """The caller's words; for a request of LangChain's `HumanInTheLoopMiddleware`, the decision that they stand for.

    "Yes" approves all that was asked for. Anything else approves nothing: the model is told the caller's words as the
    reason, and may ask again with what they have changed.
    """
    value = interrupt.value
    if (actions := _actions(value)) is None:
        return text
    if value.get("type") == "tool_approval":
        return _decision(text, lambda made: _fits(made, interrupt.response_schema))
    allowed = {c.get("action_name"): c.get("allowed_decisions") for c in value.get("review_configs") or ()}

    def decide(action: Mapping[str, Any]) -> dict[str, Any]:
        may = allowed.get(action.get("name"))
        return _decision(text, lambda made: may is None or made["type"] in may)

    return {"decisions": [decide(action) for action in actions]}


def _actions(value: Any) -> Sequence[Mapping[str, Any]] | None:
    """The tool calls that `HumanInTheLoopMiddleware` asks about; None for the value of any other question."""
    if not isinstance(value, Mapping):
        return None
    if value.get("type") == "tool_approval" and "name" in value:
        return [value]
    found = value.get("action_requests")
    whole = isinstance(found, list) and found and all(isinstance(action, Mapping) for action in found)
    return found if whole else None


def _is_default(action: Mapping[str, Any], description: str) -> bool:
    """Whether nobody has declared these words: the middleware's own are for a screen."""
    shown = f"Tool: {action.get('name')}\nArgs: {action.get('args')}"
    return not description.strip() or description.endswith(shown)


def _plain(action: Mapping[str, Any]) -> str:
    args = [f"{str(name).replace('_', ' ')} {value}" for name, value in (action.get("args") or {}).items()]
    name = str(action.get("name", "")).replace("_", " ")
    return f"{name}, with {', '.join(args)}" if args else name


def _decision(text: str, may: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    approved: dict[str, Any] = {"type": "approve"}
    rejected = {"type": "reject", "message": text}
    answered = {"type": "respond", "message": text}
    wanted = [approved] if agrees(text) else []
    return next((made for made in [*wanted, rejected, answered] if may(made)), rejected)


def _fits(answer: Any, schema: Any) -> bool:
    if not isinstance(schema, type) and not hasattr(schema, "__origin__"):
        return True  # a stored question has no schema any more
    try:
        TypeAdapter(schema).validate_python(answer)
    except ValidationError:
        return False
    return True
