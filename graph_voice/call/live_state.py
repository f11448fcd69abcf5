"""The state of a call as remembered now. It is derived from the call's turns and never patched."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AnyMessage
from langgraph.channels import DeltaChannel, EphemeralValue, UntrackedValue
from langgraph.channels.base import BaseChannel

from graph_voice.call.past import END, Past
from graph_voice.storage.run_saver import stored
from graph_voice.turn.record import CONTROL, ChannelUpdate, Group
from graph_voice.turn.run import TurnRun

__all__ = ["LiveState"]

Channel = BaseChannel[Any, Any, Any]
_RECENT = 2
"""The last turns, which are not frozen even when they are over, so that a late report of what was heard counts."""


class LiveState:
    """Everything remembered of a call: what no longer changes, and the turns that still may.

    Args:
        channels: the graph's channels.
        messages: an earlier conversation to continue.
    """

    def __init__(self, channels: Mapping[str, Channel], messages: Sequence[AnyMessage]) -> None:
        self.turns: list[TurnRun] = []
        self.on_change: Callable[[], None] = lambda: None
        """Called when what is remembered has changed."""
        self._specs = {k: c for k, c in channels.items() if not isinstance(c, EphemeralValue | UntrackedValue)}
        self._past = Past(messages)
        self._base: dict[str, Channel] = {}
        """The channels, without `messages`, up to the first update that may still change or get others before it."""
        self._updates: list[ChannelUpdate] = []
        """The updates since then that no longer change: those of frozen turns, and those from outside turns."""
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
        self._past.begin_with(values.get("messages") or [])
        self._updates = []
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
        self._past.add([group])
        self.changed()

    def write(self, entry: ChannelUpdate) -> None:
        """Add a channel update from outside the turns."""
        self._updates.append(entry)
        self.changed()

    @property
    def others(self) -> dict[str, Any]:
        """Channel -> value, without `messages`, which take long to derive in a long call."""
        if self._others is None:
            entries = [entry for turn in self._happened for entry in turn.record.entries()]
            self._channels = self._apply([*self._updates, *entries])
            self._others = {name: c.get() for name, c in self._channels.items() if c.is_available()}
        return self._others

    @property
    def values(self) -> dict[str, Any]:
        """Channel -> value."""
        if self._values is None:
            messages = self._past.followed_by(_groups(self._happened))
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

    @property
    def _happened(self) -> list[TurnRun]:
        return [turn for turn in self.turns if turn.state.happened]

    def _apply(self, entries: Sequence[ChannelUpdate]) -> dict[str, Channel]:
        channels = dict(self._base)
        copied: set[str] = set()
        for entry in sorted(entries, key=lambda entry: entry.order):
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
            elif name == "stack" or not (stale and name in CONTROL):
                yield name, value

    # ---- the past

    def freeze(self) -> list[TurnRun]:
        """Let go of the turns that are over, in the order in which they began. Returns them.

        Nothing changes by this: what is remembered of them stays at its place, but is no longer derived.
        """
        happened = self._happened
        over = list(itertools.takewhile(lambda turn: turn.settled, happened[: max(0, len(happened) - _RECENT)]))
        if not over:
            return []
        self._past.add(_groups(over))
        for turn in over:
            turn.is_past = True
            self._updates += turn.record.entries()
        self.turns = [turn for turn in self.turns if turn not in over]
        self._past.let_go(min((group.place for group in _groups(self._happened)), default=END))
        # A turn's updates have larger numbers than the turn. So nothing comes before a number smaller than all those.
        begun = min((turn.record.order for turn in self.turns), default=0)
        self._base = self._apply([entry for entry in self._updates if entry.order < begun])
        self._updates = [entry for entry in self._updates if entry.order >= begun]
        return over


def _groups(turns: Sequence[TurnRun]) -> list[Group]:
    return [group for turn in turns for group in turn.record.groups()]
