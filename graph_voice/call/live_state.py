"""The state of a call as remembered now. It is derived from the call's turns and never patched."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel, EphemeralValue, UntrackedValue
from langgraph.channels.base import BaseChannel

from graph_voice.call.past import Past
from graph_voice.storage.run_saver import stored
from graph_voice.turn.record import BEFORE_ALL, CONTROL, ChannelUpdate, Group, in_order
from graph_voice.turn.run import TurnRun

__all__ = ["LiveState"]

Channel = BaseChannel[Any, Any, Any]
_RECENT = 2
"""The last turns, which are not folded even when they are over, so that a late report of what was heard counts."""


class LiveState:
    """Everything remembered of a call: a past that no longer changes, and the turns since then.

    Args:
        channels: the graph's channels.
        messages: an earlier conversation to continue.
    """

    def __init__(self, channels: Mapping[str, Channel], messages: Sequence[AnyMessage]) -> None:
        self.turns: list[TurnRun] = []
        self.on_change: Callable[[], None] = lambda: None
        """Called when what is remembered has changed."""
        self._specs = {k: c for k, c in channels.items() if not isinstance(c, EphemeralValue | UntrackedValue)}
        self._base: dict[str, Channel] = {}
        self._past = Past(messages)
        self._asides: list[Group] = []
        self._outside: list[ChannelUpdate] = []
        self._channels: dict[str, Channel] = {}
        self._others: dict[str, Any] | None = None
        self._values: dict[str, Any] | None = None
        if (userdata := self._specs.get("userdata")) is not None and userdata.is_available():
            self._base["userdata"] = userdata.copy()

    def changed(self) -> None:
        self._others = self._values = None
        self.on_change()

    def restore(self, values: Mapping[str, Any], stored_values: Mapping[str, Any]) -> None:
        """Begin with what another process has stored, instead of what this one was given.

        What was said meanwhile comes after it.

        Args:
            values: channel -> value, for channels that are stored as differences.
            stored_values: channel -> checkpointed value, for the other channels.
        """
        self._past = Past(values.get("messages") or [])
        self._outside = []
        for name, spec in self._specs.items():
            if name == "messages":
                continue
            if name in stored_values:
                self._base[name] = spec.from_checkpoint(stored_values[name])
            elif isinstance(spec, DeltaChannel) and values.get(name) is not None:
                self._base[name] = spec.from_checkpoint(values[name])
        self._others = self._values = None

    def add(self, group: Group) -> None:
        """Add messages from outside the turns."""
        self._asides.append(group)
        self.changed()

    def write(self, entry: ChannelUpdate) -> None:
        """Add a channel update from outside the turns."""
        self._outside.append(entry)
        self.changed()

    @property
    def others(self) -> dict[str, Any]:
        """Channel -> value, without `messages`, which take long to derive in a long call."""
        if self._others is None:
            self._channels = self._apply(self._entries([t for t in self.turns if t.state.happened], self._outside))
            self._others = {name: c.get() for name, c in self._channels.items() if c.is_available()}
        return self._others

    @property
    def values(self) -> dict[str, Any]:
        """Channel -> value."""
        if self._values is None:
            messages = self._past.followed_by([t.record for t in self.turns if t.state.happened], self._asides)
            self._values = {**self.others, "messages": messages}
        return self._values

    def checkpoint_values(self, messages: Sequence[AnyMessage] | None = None) -> dict[str, Any]:
        """What a run's first checkpoint holds, with `messages`, if given, instead of the remembered ones."""
        values = self.values
        found = {name: stored(channel) for name, channel in self._channels.items() if name in values}
        own = values["messages"] if messages is None else list(messages)
        found["messages"] = stored(self._specs["messages"].from_checkpoint(own))
        return found

    # ---- deriving

    def _entries(self, turns: Sequence[TurnRun], outside: Sequence[ChannelUpdate]) -> list[ChannelUpdate]:
        return sorted([e for t in turns for e in t.record.entries()] + list(outside), key=lambda e: e.order)

    def _apply(self, entries: Sequence[ChannelUpdate]) -> dict[str, Channel]:
        channels = dict(self._base)
        copied: set[str] = set()
        for entry in entries:
            for name, value in self._allowed(entry, channels):
                spec = self._specs.get(name)
                if spec is None or name == "messages":
                    continue
                if name not in copied:
                    copied.add(name)
                    channels[name] = channels.get(name, spec).copy()
                channels[name].update([value])
        return channels

    def _allowed(self, entry: ChannelUpdate, channels: Mapping[str, Channel]) -> Iterator[tuple[str, Any]]:
        """The parts of an update that count. An agent that is no longer active can't write the `CONTROL` channels."""
        channel = channels.get("active_agent")
        active = channel.get() if channel is not None and channel.is_available() else None
        stale = entry.agent is not None and active is not None and active != entry.agent
        for name, value in entry.values.items():
            if name == "handoffs" and entry.changes_active_agent and active is not None:
                yield name, [{**record, "old_agent_id": active} for record in value]
            elif not (stale and name in CONTROL):
                yield name, value

    # ---- the past

    def fold(self) -> list[TurnRun]:
        """Move the turns that can no longer change into the past. Returns them.

        A turn is folded together with everything older, so that the past ends at one moment. What comes later goes
        after it, except for words that the front end backdates (`Past`).
        """
        turns = [t for t in self.turns if t.state.happened]
        for count in range(max(0, len(turns) - _RECENT), 0, -1):
            past, rest = turns[:count], turns[count:]
            if all(t.settled for t in past) and self._fold(past, rest):
                for turn in past:
                    turn.is_past = True
                self.turns = [t for t in self.turns if t not in past]
                return past
        return []

    def _fold(self, past: Sequence[TurnRun], rest: Sequence[TurnRun]) -> bool:
        records = [turn.record for turn in past]
        groups, later = in_order(records, ()), in_order([turn.record for turn in rest], ())
        entries, coming = self._entries(past, ()), self._entries(rest, ())
        until = groups[-1].place if groups else BEFORE_ALL
        upto = entries[-1].order if entries else 0
        if (later and later[0].place < until) or (coming and coming[0].order < upto):
            return False
        asides = [g for g in self._asides if g.place <= until]
        outside = [e for e in self._outside if e.order <= upto]
        self._past.add(records, asides)
        self._base = self._apply(self._entries(past, outside))
        self._asides = [g for g in self._asides if g.place > until]
        self._outside = [e for e in self._outside if e.order > upto]
        self.changed()
        return True
