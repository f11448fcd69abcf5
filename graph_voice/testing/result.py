"""The result of something that a scripted caller did, and how a test checks it."""

import contextlib
import sys
from collections.abc import Sequence
from typing import Any, Protocol

from langchain_core.messages import AnyMessage

from graph_voice import events
from graph_voice.call.conversation import Conversation
from graph_voice.secrets.known import known_of
from graph_voice.testing.expect import Expect
from graph_voice.testing.happened import (
    AgentHandoff,
    CallerSaid,
    Effects,
    FunctionCall,
    FunctionCallOutput,
    Happening,
    Item,
    Message,
    items_of,
    transcript,
)
from graph_voice.userdata.channel import public_fields

__all__ = ["PlayedCall", "Result", "log_to_langsmith"]


class Result:
    """What happened between two moments of a call. LiveKit's `RunResult`, with what was heard.

    Args:
        entries: what happened.
        seconds: how long it took, by the event loop's clock.
    """

    def __init__(self, entries: Sequence[Happening], seconds: float = 0.0) -> None:
        self._entries = list(entries)
        self.seconds = seconds

    @property
    def events(self) -> list[events.Event]:
        """The graph's events, without those of discarded turns."""
        return [
            entry.what
            for entry in self._entries
            if isinstance(entry.what, events.Event) and entry.turn is not None and entry.turn.state.happened
        ]

    @property
    def items(self) -> list[Item]:
        """Speech as it was heard, tool calls, their results, and handoffs, in order."""
        return items_of(self._entries)

    @property
    def heard(self) -> str:
        """What the caller heard of the agents, as one text."""
        return " ".join(item.text for item in self.items if isinstance(item, Message))

    @property
    def heard_between(self) -> list[list[str]]:
        """What the caller heard before, between and after their own words."""
        parts: list[list[str]] = [[]]
        for position, entry in enumerate(self._entries):
            if isinstance(entry.what, CallerSaid):
                parts.append([])
            else:
                found = items_of(self._entries[: position + 1])
                known = sum(len(part) for part in parts)
                parts[-1] += [item.text for item in found if isinstance(item, Message)][known:]
        return parts

    @property
    def lines(self) -> list[str]:
        """What happened, one line for each item, without times and ids: to compare with what happened before."""
        return [_line(item) for item in self.items]

    @property
    def transcript(self) -> str:
        """What happened, as text for people."""
        return transcript(self._entries)

    @property
    def expect(self) -> Expect:
        """Check the items in order: `result.expect.next_event().is_function_call(name="book")`."""
        return Expect(self.items, self.transcript)

    def __repr__(self) -> str:
        return self.transcript

    @property
    def final(self) -> Any:
        """The last item; None when nothing happened."""
        return self.items[-1] if self.items else None


def _line(item: Item) -> str:
    match item:
        case Message(agent=agent, text=text, interrupted=cut):
            return f"{agent}: {text}{' [cut off]' if cut else ''}"
        case FunctionCall(agent=agent, name=name, arguments=given):
            return f"{agent} calls {name}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
        case FunctionCallOutput(name=name, output=output, is_error=is_error):
            return f"{name} {'fails' if is_error else 'answers'}: {output}"
        case AgentHandoff(old_agent=old, new_agent=new):
            return f"{old} -> {new}"
    return str(item)


class PlayedCall(Protocol):
    """A scripted call, for code that checks what happened in it."""

    said: list[str]
    effects: Effects

    @property
    def crashes(self) -> int: ...

    @property
    def conversation(self) -> Conversation[Any]: ...

    @property
    def messages(self) -> list[AnyMessage]: ...

    @property
    def active_agent(self) -> str: ...

    @property
    def current_agent(self) -> str: ...

    @property
    def heard(self) -> list[str]: ...

    @property
    def heard_since_crash(self) -> list[str]: ...

    @property
    def over(self) -> bool: ...

    @property
    def transcript(self) -> str: ...

    def trajectory(self) -> list[dict[str, Any]]: ...


def log_to_langsmith(call: PlayedCall) -> None:
    """Report a call to LangSmith's pytest plugin, in a test that it tracks (`@pytest.mark.langsmith`).

    Logs what the caller said as inputs, and what happened as outputs; does nothing in a test that is not tracked. The
    userdata's secrets are left out, even where somebody said them or a model wrote them into a tool's arguments.
    """
    tracked = sys.modules.get("langsmith.testing")
    if tracked is None:
        return
    userdata = call.conversation.state.get("userdata")
    known = known_of(call.conversation.messages, userdata)
    outputs = {
        "transcript": call.transcript,
        "heard": call.heard,
        "active_agent": call.active_agent,
        "userdata": public_fields(userdata),
        "trajectory": call.trajectory(),
    }
    with contextlib.suppress(ValueError):  # raised by LangSmith when it does not track this test
        tracked.log_inputs(known.value({"said": list(call.said)}))
        tracked.log_outputs(known.value(outputs))
