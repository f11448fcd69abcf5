"""A front end in a few words, for tests that step along a turn by hand."""

from collections.abc import Sequence
from typing import Any, TypeVar

from langchain_core.messages import AIMessage

from graph_voice import Agent, Conversation, Turn, create_voice_graph, events
from graph_voice.testing import ScriptedModel

E = TypeVar("E", bound=events.Event)


def one_agent(script: Any, *tools: Any, **options: Any) -> Conversation[Any]:
    agent = Agent("a", instructions="Help.", tools=list(tools))
    model = script if isinstance(script, ScriptedModel) else ScriptedModel(script)
    return Conversation(create_voice_graph([agent], llm=model), **options)


async def until(turn: Turn, kind: type[E]) -> E:
    """The next event of this kind; those before it are dropped."""
    async for event in turn:
        if isinstance(event, kind):
            return event
    raise AssertionError(f"the turn ended without a {kind.__name__}")


async def rest(turn: Turn) -> list[events.Event]:
    return [event async for event in turn]


def hear(turn: Turn, seen: Sequence[events.Event], at: float | None = None) -> None:
    """Everything in `seen` was played to its end."""
    words: dict[str, str] = {}
    for event in seen:
        if isinstance(event, events.Text | events.Say):
            words[event.message_id] = words.get(event.message_id, "") + event.text
    for message_id, text in words.items():
        turn.heard(message_id, text, at=at)


async def play(turn: Turn, *, at: float | None = None) -> list[events.Event]:
    """Commit, let everything happen, hear everything, close."""
    turn.commit(at=at)
    seen = []
    async for event in turn:
        seen.append(event)
        match event:
            case events.ToolCalls(calls=calls):
                for asked in calls:
                    turn.allow(asked.id)
            case events.HandedOff(call_id=call_id):
                turn.confirm_handoff(call_id)
            case events.Say(message_id=message_id, text=text):
                turn.heard(message_id, text, at=at)
    hear(turn, seen, at=at)
    turn.close()
    return seen


def told(conversation: Conversation[Any]) -> list[str]:
    """The conversation in short: `human: hi`, `ai: hello +call_1`, `tool: done`."""
    lines = []
    for message in conversation.messages:
        calls = [c["id"] for c in message.tool_calls] if isinstance(message, AIMessage) else []
        lines.append(f"{message.type}: {message.text}" + "".join(f" +{c}" for c in calls))
    return lines
