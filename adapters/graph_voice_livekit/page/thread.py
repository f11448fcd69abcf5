"""A thread of a store, told to the page: what each of its checkpoints has that the one before had not."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.types import StateSnapshot

from graph_voice import Conversation, Task
from graph_voice.errors import GraphVoiceError
from graph_voice.graph.build import runtime_of
from graph_voice.messages.content import plain_text
from graph_voice.secrets.spoken import redact
from graph_voice.storage.ownership import OWNER, owner_of
from graph_voice.testing.recorded.thread import is_url, reader_of, store_at
from graph_voice.userdata.channel import public_fields
from graph_voice_livekit.page.parts import GraphParts
from graph_voice_livekit.page.protocol import ToPage
from graph_voice_livekit.page.replay import Replay, ReplayError
from graph_voice_livekit.page.turn_view import Hide

__all__ = ["load_thread", "replay_of"]

_LONGEST_PAUSE = 10.0
"""Seconds. A longer time in which nothing was stored is played as this one, and said."""
_NAMED = 8
"""Threads that an error names."""
_SEARCHED = 500
"""Checkpoints in which they are looked for, the newest ones."""
_LAST = 1.0
"""Seconds from the last checkpoint to the end."""
_ABOUT = (
    "This call comes from a store: the words as they were heard, without sound, at the times at which it was stored."
)
Messages = dict[str, BaseMessage]
"""By their ids, in order."""


async def load_thread(place: str, thread_id: str | None, parts: GraphParts) -> Replay:
    """The call that a store holds under this thread. It is only read: a call that goes on is not disturbed.

    Args:
        place: a SQLite file or a URL of Postgres.
        thread_id: the call's name.
        parts: its graph.

    Raises `ReplayError` when there is no such call, and what `store_at` raises.
    """
    try:
        async with store_at(place, "--replay") as saver:
            return await replay_of(saver, thread_id, parts)
    except GraphVoiceError:
        raise
    except Exception as error:
        # The URL is not said, since it may hold a password.
        shown = "this Postgres store" if is_url(place) else place
        raise ReplayError(f"--replay: {shown} can't be read: {type(error).__name__}: {error}") from error


async def replay_of(saver: BaseCheckpointSaver[Any], thread_id: str | None, parts: GraphParts) -> Replay:
    """The same from a checkpointer. Raises `ReplayError` when it has no such thread."""
    where: RunnableConfig = {"configurable": {"thread_id": thread_id or ""}}
    reader = reader_of(parts.graph, saver)
    found = [snapshot async for snapshot in reader.aget_state_history(where)] if thread_id else []
    if not any(snapshot.values.get("messages") for snapshot in found):
        wanted = f"there is no call under the thread {thread_id!r}" if thread_id else "--thread is missing"
        raise ReplayError(f"--replay: {wanted}. {await _threads(saver)}")
    past = _past(found, await owner_of(saver, str(thread_id)))
    moments = list(_moments(past, _Teller.of(parts, past)))
    return Replay(str(thread_id), moments[-1][0], (), moments)


async def _threads(saver: BaseCheckpointSaver[Any]) -> str:
    newest = [found.config["configurable"]["thread_id"] async for found in saver.alist(None, limit=_SEARCHED)]
    names = list(dict.fromkeys(newest))
    if not names:
        return "The store is empty."
    more = ", ..." if len(names) > _NAMED or len(newest) == _SEARCHED else ""
    return f"Name one of the store's with --thread: {', '.join(names[:_NAMED])}{more}."


def _past(found: Sequence[StateSnapshot], owner: str | None) -> list[StateSnapshot]:
    """The checkpoints that the thread came through, oldest first.

    Args:
        found: all of them, the newest first. Another process, from which the call was taken over, may have gone on.
        owner: which process has the call now.
    """
    by_id = {_id(snapshot.config): snapshot for snapshot in found}
    now = next((each for each in found if (each.metadata or {}).get(OWNER) == owner), found[0])
    past = [now]
    del by_id[_id(now.config)]
    while by_id:
        if (parent := by_id.get(_id(now.parent_config))) is None:
            # The chain is broken where a run that began earlier was stored: what was stored before goes on.
            earlier = [each for each in by_id.values() if (each.created_at or "") <= (now.created_at or "")]
            if now.parent_config is not None or not earlier:
                break
            parent = max(earlier, key=lambda each: each.created_at or "")
        past.append(parent)
        now = by_id.pop(_id(parent.config))
    return past[::-1]


def _id(config: Any) -> str:
    return str((config or {}).get("configurable", {}).get("checkpoint_id"))


def _moments(past: Sequence[StateSnapshot], teller: "_Teller") -> Iterator[tuple[float, ToPage]]:
    at, before = 0.0, _time(past[0], 0.0)
    yield at, {"type": "notice", "kind": "info", "text": _ABOUT}
    for snapshot in past:
        now = _time(snapshot, before)
        pause, before = max(0.0, now - before), now
        if pause > _LONGEST_PAUSE:
            yield at + _LONGEST_PAUSE / 2, {"type": "notice", "kind": "info", "text": f"{_length(pause)} pass."}
        at += min(pause, _LONGEST_PAUSE)
        for message in teller.tell(snapshot.values, at):
            yield at, message
    yield at + _LAST, {"type": "ended", "reason": "end of what is stored"}


def _time(snapshot: StateSnapshot, otherwise: float) -> float:
    return datetime.fromisoformat(snapshot.created_at).timestamp() if snapshot.created_at else otherwise


def _length(seconds: float) -> str:
    for size, name in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"


@dataclass
class _Teller:
    """Tells the page what is new in each checkpoint.

    What the graph has taken out of its messages since, to keep them short, stays told: it was said.
    """

    hide: Hide
    takers: frozenset[str]
    first_agent: str
    last: Messages
    """Each message as it is at the end. What was being said when a checkpoint was stored is longer there."""
    tasks: frozenset[str] = frozenset()
    """The agents that are tasks."""
    _known: Messages = field(default_factory=dict)
    _turns: dict[str, str] = field(default_factory=dict)
    """Message id -> the turn that it was told in."""
    _agents: dict[str, str] = field(default_factory=dict)
    """Message id -> who said it, if the message does not tell."""
    _edges: dict[str, str] = field(default_factory=dict)
    """Handoffs without a tool call -> the turn in which they happened."""
    _told: dict[str, str] = field(default_factory=dict)
    _active: str = ""

    @classmethod
    def of(cls, parts: GraphParts, past: Sequence[StateSnapshot]) -> "_Teller":
        last: Messages = {}
        for snapshot in past:
            last |= _messages(snapshot.values)
        conversation: Conversation[Any] = Conversation(parts.graph, speak=parts.speak, messages=list(last.values()))
        traces = conversation.call.traces
        for snapshot in past:
            traces.learn(snapshot.values.get("userdata"))
        runtimes = {name: runtime_of(conversation.call.graph, name) for name in parts.agents}
        tasks = frozenset(name for name, found in runtimes.items() if found and isinstance(found.agent, Task))
        return cls(traces.cover().text, conversation.call.roles.takers, conversation.active_agent, last, tasks)

    def tell(self, values: Mapping[str, Any], at: float) -> Iterator[ToPage]:
        """What the page does not know yet of this state.

        Args:
            values: the state.
            at: second of the call.
        """
        before, self._active = self._active, values.get("active_agent") or self.first_agent
        yield from self._differs("agent", {"name": self._active, "before": before}, compared=self._active)
        fields = {name: self.hide(_text(v)) for name, v in public_fields(values.get("userdata")).items()}
        yield from self._differs("userdata", {"fields": fields})
        self._known = _merged(self._known, _messages(values))
        turns = list(_turns(self._known))
        handoffs = self._handoffs(values.get("handoffs") or (), turns)
        for number, turn in enumerate(turns, 1):
            name = self._name(turn)
            yield from self._differs(
                "turn", self._view(name, number, at, turn, handoffs.get(name, [])), key=name, ignored="began"
            )

    def _differs(
        self, kind: str, content: Mapping[str, Any], *, key: str = "", compared: Any = None, ignored: str = ""
    ) -> Iterator[ToPage]:
        now = json.dumps(compared or {k: v for k, v in content.items() if k != ignored}, ensure_ascii=False)
        if self._told.get(kind + key) != now:
            self._told[kind + key] = now
            yield {"type": kind, **content}

    def _name(self, turn: Messages) -> str:
        """The turn as it was told before, though its first message may be gone or another one."""
        name = next((self._turns[key] for key in turn if key in self._turns), next(iter(turn)))
        self._turns |= dict.fromkeys(turn, name)
        return name

    def _handoffs(self, handoffs: Sequence[Mapping[str, Any]], turns: Sequence[Messages]) -> dict[str, list[Any]]:
        """By their turns."""
        made: dict[str, list[Any]] = {}
        calls = {call["id"]: self._name(turn) for turn in turns for _, m in _answers(turn) for call in m.tool_calls}
        for handoff, task in zip(handoffs, _task_marks(handoffs, self.tasks), strict=True):
            name, called = json.dumps(handoff, default=str), handoff.get("tool_call_id")
            last = self._name(turns[-1]) if turns else ""
            home = calls.get(called) or self._edges.setdefault(name, last)
            arguments = handoff.get("arguments")
            made.setdefault(home, []).append(
                {
                    "old": handoff.get("old_agent_id") or "",
                    "new": handoff["new_agent_id"],
                    "call": called if called in calls else None,
                    "task": task,
                    "state": "entered",
                    "reason": "",
                    "args": self.hide(_text(arguments)) if arguments else "",
                }
            )
        return made

    def _view(self, name: str, number: int, at: float, turn: Messages, handoffs: list[Any]) -> dict[str, Any]:
        """As `TurnSeen.view` has it."""
        said = next(iter(turn.values()))
        results: dict[str, ToolMessage] = {}
        for m in turn.values():
            if isinstance(m, ToolMessage) and not m.additional_kwargs.get("placeholder"):
                results[m.tool_call_id] = m
        steps = [self._step(key, m, results) for key, m in _answers(turn)]
        return {
            "id": f"thread-{name}",
            "number": number,
            "state": "closed",
            "began": at,
            "user": self.hide(plain_text(redact(said, self.takers))) if isinstance(said, HumanMessage) else None,
            "interrupted": any(words["state"] == "cut" for step in steps for words in step["words"]),
            "failed": [],
            "steps": steps,
            "handoffs": handoffs,
            "prompts": [],
            "written": [],
            "spans": [],
        }

    def _step(self, key: str, message: AIMessage, results: Mapping[str, ToolMessage]) -> dict[str, Any]:
        agent = message.name or self._agents.setdefault(key, self._active)
        words = [self._words(key, message)] if message.text.strip() else []
        return {
            "agent": agent,
            "words": words,
            "calls": [self._call(c, results.get(str(c["id"]))) for c in message.tool_calls],
        }

    def _words(self, key: str, message: AIMessage) -> dict[str, Any]:
        heard, whole = self.hide(message.text), self.hide(self.last[key].text)
        cut = bool(message.additional_kwargs.get("interrupted"))
        goes_on = cut and len(whole) > len(heard) and whole.startswith(heard)
        state = "playing" if goes_on else "cut" if cut else "heard"
        return {"id": key, "heard": heard, "unheard": whole[len(heard) :] if goes_on else "", "state": state}

    def _call(self, call: Mapping[str, Any], result: ToolMessage | None) -> dict[str, Any]:
        return {
            "id": call["id"],
            "name": call["name"],
            "args": self.hide(_text(call["args"])) if call["args"] else "",
            "status": "running" if result is None else "done",
            "result": self.hide(plain_text(result)) if result is not None else None,
            "error": result is not None and result.status == "error",
            "seconds": None,
        }


def _messages(values: Mapping[str, Any]) -> Messages:
    found = convert_to_messages(values.get("messages") or ())
    said = (HumanMessage, AIMessage, ToolMessage)
    return {m.id or f"#{place}": m for place, m in enumerate(found) if isinstance(m, said)}


def _merged(before: Messages, now: Messages) -> Messages:
    """What is there now, and each message that is not there any more behind the one that it followed."""
    gone: dict[str, list[str]] = {}
    last = ""
    for key in before:
        if key in now:
            last = key
        else:
            gone.setdefault(last, []).append(key)
    order = [*gone.get("", ()), *(each for key in now for each in (key, *gone.get(key, ())))]
    return {key: now[key] if key in now else before[key] for key in order}


def _turns(messages: Messages) -> Iterator[Messages]:
    """Each turn begins with the caller's words, but for the first, if the agents spoke first."""
    turn: Messages = {}
    for key, message in messages.items():
        if isinstance(message, HumanMessage) and turn:
            yield turn
            turn = {}
        turn[key] = message
    if turn:
        yield turn


def _task_marks(handoffs: Sequence[Mapping[str, Any]], tasks: frozenset[str]) -> Iterator[str | None]:
    """Of each handoff whether a task begins with it, or gives the conversation back."""
    running: list[tuple[str, str]] = []
    for handoff in handoffs:
        old, new = str(handoff.get("old_agent_id")), str(handoff["new_agent_id"])
        if running and running[-1] == (new, old):
            running.pop()
            yield "end"
        elif new in tasks:
            running.append((old, new))
            yield "begin"
        else:
            running.clear()  # the task was left for another agent
            yield None


def _answers(turn: Messages) -> Iterator[tuple[str, AIMessage]]:
    return ((key, message) for key, message in turn.items() if isinstance(message, AIMessage))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
