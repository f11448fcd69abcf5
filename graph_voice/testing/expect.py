"""LiveKit's expectations, for what happened on any front end.

Follows `livekit.agents.voice.run_result`: `next_event`, `skip_next`, `contains_*`, `is_*`, `judge`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NoReturn, TypeVar, overload

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

from graph_voice.models import model_from
from graph_voice.testing.happened import AgentHandoff, FunctionCall, FunctionCallOutput, Item, Message

__all__ = ["Expect", "ExpectedEvent", "ExpectedEvents", "ExpectedItem", "ExpectedMessage"]

I = TypeVar("I", bound=Item)  # noqa: E741 - an item
_KINDS: Mapping[str, type[Item]] = {
    "message": Message,
    "function_call": FunctionCall,
    "function_call_output": FunctionCallOutput,
    "agent_handoff": AgentHandoff,
}

_TASK = (
    "You judge what a voice agent has said. Call check_intent: `success` says whether the message fulfills the intent "
    "that was asked for, `reason` says why in one sentence. Judge the meaning, not the wording."
)


class ExpectedItem(Generic[I]):
    """An item that is of the expected kind."""

    def __init__(self, item: I, transcript: str) -> None:
        self._item = item
        self._transcript = transcript

    def event(self) -> I:
        """The item itself."""
        return self._item


class ExpectedMessage(ExpectedItem[Message]):
    """An agent's words."""

    async def judge(self, llm: Any, *, intent: str) -> "ExpectedMessage":
        """Ask a chat model whether the words fulfill an intent. Raises `AssertionError` with its reason if not."""
        fulfilled, reason = await _judged(llm, self._item.text, intent)
        if not fulfilled:
            _fail(f"{self._item.text!r} does not fulfill {intent!r}: {reason}", self._transcript)
        return self


class ExpectedEvent:
    """One item whose kind is not known yet."""

    def __init__(self, item: Item, transcript: str, index: int) -> None:
        self._item = item
        self._transcript = transcript
        self._index = index

    def event(self) -> Item:
        """The item itself."""
        return self._item

    def is_message(self, *, role: str | None = None, agent: str | None = None) -> ExpectedMessage:
        """It is words of an agent."""
        return ExpectedMessage(self._is(Message, role=role, agent=agent), self._transcript)

    def is_function_call(
        self, *, name: str | None = None, arguments: Mapping[str, Any] | None = None, agent: str | None = None
    ) -> ExpectedItem[FunctionCall]:
        """It is a tool call. `arguments`: those that it must have; it may have others."""
        return ExpectedItem(self._is(FunctionCall, name=name, arguments=arguments, agent=agent), self._transcript)

    def is_function_call_output(
        self, *, output: str | None = None, is_error: bool | None = None, name: str | None = None
    ) -> ExpectedItem[FunctionCallOutput]:
        """It is the result of a tool call."""
        return ExpectedItem(self._is(FunctionCallOutput, output=output, is_error=is_error, name=name), self._transcript)

    def is_agent_handoff(
        self, *, new_agent: str | None = None, old_agent: str | None = None
    ) -> ExpectedItem[AgentHandoff]:
        """It is a handoff: another agent became active."""
        return ExpectedItem(self._is(AgentHandoff, new_agent=new_agent, old_agent=old_agent), self._transcript)

    def _is(self, kind: type[I], **wanted: Any) -> I:
        if (wrong := mismatch(self._item, kind, wanted)) is not None:
            _fail(f"event {self._index}: {wrong}", self._transcript)
        assert isinstance(self._item, kind)
        return self._item


class ExpectedEvents:
    """Some items, to look for something among them."""

    def __init__(self, items: Sequence[Item], transcript: str) -> None:
        self._items = items
        self._transcript = transcript

    def contains_message(self, *, role: str | None = None, agent: str | None = None) -> ExpectedMessage:
        """Words of an agent are among them."""
        return ExpectedMessage(self._contains(Message, role=role, agent=agent), self._transcript)

    def contains_function_call(
        self, *, name: str | None = None, arguments: Mapping[str, Any] | None = None, agent: str | None = None
    ) -> ExpectedItem[FunctionCall]:
        """A tool call is among them."""
        return ExpectedItem(self._contains(FunctionCall, name=name, arguments=arguments, agent=agent), self._transcript)

    def contains_function_call_output(
        self, *, output: str | None = None, is_error: bool | None = None, name: str | None = None
    ) -> ExpectedItem[FunctionCallOutput]:
        """The result of a tool call is among them."""
        return ExpectedItem(
            self._contains(FunctionCallOutput, output=output, is_error=is_error, name=name), self._transcript
        )

    def contains_agent_handoff(
        self, *, new_agent: str | None = None, old_agent: str | None = None
    ) -> ExpectedItem[AgentHandoff]:
        """A handoff is among them."""
        return ExpectedItem(self._contains(AgentHandoff, new_agent=new_agent, old_agent=old_agent), self._transcript)

    def _contains(self, kind: type[I], **wanted: Any) -> I:
        found = next((item for item in self._items if mismatch(item, kind, wanted) is None), None)
        if found is None:
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value is not None)
            _fail(f"no {_named(kind)}({asked}) among the {len(self._items)} events", self._transcript)
        assert isinstance(found, kind)
        return found


class Expect(ExpectedEvents):
    """A walk over all items of a result."""

    def __init__(self, items: Sequence[Item], transcript: str) -> None:
        super().__init__(items, transcript)
        self._at = 0

    def next_event(self, *, type: str | None = None) -> ExpectedEvent:
        """The next item; with a `type` ("message", "function_call", ...), the next one of that kind."""
        while True:
            self._require_more(f"an event of type {type!r}" if type else "one more event")
            item, index = self._items[self._at], self._at
            self._at += 1
            if type is None or isinstance(item, _kind(type)):
                return ExpectedEvent(item, self._transcript, index)

    def skip_next(self, count: int = 1) -> "Expect":
        """Pass over the next `count` items."""
        for _ in range(count):
            self._require_more(f"{count} more events")
            self._at += 1
        return self

    def skip_next_event_if(self, *, type: str, **wanted: Any) -> ExpectedEvent | None:
        """Pass over the next one if it is of this kind, with these values. Returns it, or None."""
        if self._at >= len(self._items) or mismatch(self._items[self._at], _kind(type), wanted) is not None:
            return None
        return self.next_event()

    def no_more_events(self) -> None:
        """That was all."""
        if self._at < len(self._items):
            rest = "\n".join(f"  {item}" for item in self._items[self._at :])
            _fail(f"there are {len(self._items) - self._at} more events:\n{rest}", self._transcript)

    @overload
    def __getitem__(self, index: int) -> ExpectedEvent: ...

    @overload
    def __getitem__(self, index: slice) -> ExpectedEvents: ...

    def __getitem__(self, index: int | slice) -> ExpectedEvent | ExpectedEvents:
        if isinstance(index, slice):
            return ExpectedEvents(self._items[index], self._transcript)
        try:
            return ExpectedEvent(self._items[index], self._transcript, index)
        except IndexError:
            _fail(f"there is no event {index}; there are {len(self._items)}", self._transcript)

    def _require_more(self, what: str) -> None:
        if self._at >= len(self._items):
            _fail(f"expected {what}; the {len(self._items)} events are over", self._transcript)


def mismatch(item: Item, kind: type[Item], wanted: Mapping[str, Any]) -> str | None:
    """Why this is not such an item; None when it is."""
    if not isinstance(item, kind):
        return f"expected {_named(kind)}, it is {item}"
    for name, value in wanted.items():
        if value is None:
            continue
        found = getattr(item, name)
        if name == "arguments":
            wrong = {k: found.get(k) for k, v in value.items() if k not in found or found[k] != v}
            if wrong:
                return f"expected the arguments {dict(value)}, they are {found}"
        elif found != value:
            return f"expected {name}={value!r}, it is {found!r}"
    return None


def _kind(name: str) -> type[Item]:
    if name not in _KINDS:
        raise ValueError(f"type={name!r}: write one of {', '.join(_KINDS)}.")
    return _KINDS[name]


def _named(kind: type[Item]) -> str:
    return next(name for name, known in _KINDS.items() if known is kind)


def _fail(what: str, transcript: str) -> NoReturn:
    __tracebackhide__ = True
    raise AssertionError(f"{what}\nThe call:\n{transcript or '  (nothing happened)'}")


@tool
def check_intent(success: bool, reason: str) -> str:
    """Say whether the message fulfills the intent."""
    return reason


async def _judged(llm: Any, words: str, intent: str) -> tuple[bool, str]:
    """Whether the words fulfill the intent, and why.

    Args:
        llm: a LangChain chat model, or a string such as "openai:gpt-4.1-mini".
        words: what the agent said.
        intent: what it should have been, in words.

    Raises `AssertionError` when the model does not judge.
    """
    model = model_from(llm)
    if model is None:
        raise AssertionError("judge(llm=None): give it a chat model.")
    asked = [SystemMessage(_TASK), HumanMessage(f"The intent: {intent}\n\nThe message: {words}")]
    answer = await model.bind_tools([check_intent], tool_choice="any").ainvoke(asked)
    if not answer.tool_calls:
        raise AssertionError(f"the judge gave no judgment: {answer.text[:200]!r}")
    verdict = answer.tool_calls[0]["args"]
    return bool(verdict.get("success")), str(verdict.get("reason", ""))
