"""Checkpoints in memory, as LangGraph passes them: nothing is serialized, and unchanged values are shared."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    copy_checkpoint,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

__all__ = ["Checkpoints", "Kept", "Lineage", "either", "lineage_of", "place", "walk"]


async def either(awaited: Callable[..., Any], blocking: Callable[..., Any], *args: Any) -> Any:
    """Call a checkpointer's asynchronous method; if it has none, the synchronous one in a thread."""
    try:
        return await awaited(*args)
    except NotImplementedError:
        return await asyncio.to_thread(blocking, *args)


class Lineage(NamedTuple):
    """One line of checkpoints: a thread of LangGraph, or one of its subgraphs."""

    thread_id: str
    namespace: str


def lineage_of(config: RunnableConfig) -> Lineage:
    """The line that a config refers to."""
    where = config["configurable"]
    return Lineage(str(where["thread_id"]), where.get("checkpoint_ns", ""))


def place(line: Lineage, checkpoint_id: str) -> RunnableConfig:
    """The config that leads to one checkpoint."""
    return {
        "configurable": {
            "thread_id": line.thread_id,
            "checkpoint_ns": line.namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


class Kept:
    """One checkpoint and what was written on top of it."""

    def __init__(self, found: CheckpointTuple) -> None:
        self._tuple = found
        self._writes: dict[tuple[str, int], tuple[str, str, Any, str]] = {}
        self.on_its_way = 0
        """How many of its writes are not durable yet."""
        for index, (task_id, channel, value) in enumerate(found.pending_writes or ()):
            self._writes[task_id, WRITES_IDX_MAP.get(channel, index)] = (task_id, channel, value, "")
        self._loaded = bool(self._writes)
        """Whether some came from the durable saver, which has sorted them and does not return task paths."""

    def copy(self) -> "Kept":
        """A copy to write on top of."""
        other = Kept(self._tuple)
        other._writes, other._loaded = dict(self._writes), self._loaded
        return other

    def replace(self, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. What was written on top of it stays."""
        self._tuple = self._tuple._replace(checkpoint=checkpoint)

    @property
    def id(self) -> str:
        return self._tuple.checkpoint["id"]

    @property
    def parent_id(self) -> str | None:
        parent = self._tuple.parent_config
        return get_checkpoint_id(parent) if parent is not None else None

    @property
    def values(self) -> Mapping[str, Any]:
        return self._tuple.checkpoint["channel_values"]

    def add(self, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str) -> None:
        """As LangGraph's own savers: a special write (an interrupt, an answer to one) replaces the task's earlier one;
        a plain write counts once."""
        replaces = all(channel in WRITES_IDX_MAP for channel, _ in writes)
        for index, (channel, value) in enumerate(writes):
            key = (task_id, WRITES_IDX_MAP.get(channel, index))
            if replaces or key not in self._writes:
                self._writes[key] = (task_id, channel, value, task_path)

    def writes(self) -> list[PendingWrite]:
        keys = list(self._writes)
        if not self._loaded:
            keys.sort(key=lambda key: writes_sort_key(self._writes[key][3], *key))
        return [self._writes[key][:3] for key in keys]

    def tuple(self) -> CheckpointTuple:
        # LangGraph's run changes the dicts of its checkpoint (`versions_seen`). The channels' values are shared.
        return self._tuple._replace(checkpoint=copy_checkpoint(self._tuple.checkpoint), pending_writes=self.writes())


class Checkpoints:
    """The head of each line, and all that is not durable yet. By LangGraph's rule the head has the greatest id."""

    def __init__(self) -> None:
        self._lines: dict[Lineage, dict[str, Kept]] = {}
        self._history: dict[Lineage, tuple[str, dict[str, DeltaChannelHistory]]] = {}
        """How to rebuild the delta channels of a head: the head's id, and channel -> seed and writes."""

    def head(self, line: Lineage) -> Kept | None:
        kept = self._lines.get(line)
        return kept[max(kept)] if kept else None

    def get(self, line: Lineage, checkpoint_id: str | None) -> Kept | None:
        if checkpoint_id is None:
            return self.head(line)
        return self._lines.get(line, {}).get(checkpoint_id)

    def lines(self, thread_id: str) -> list[Lineage]:
        return [line for line in self._lines if line.thread_id == thread_id]

    def load(self, line: Lineage, found: CheckpointTuple) -> Kept:
        """Keep a head that was read from the durable saver."""
        return self._lines.setdefault(line, {}).setdefault(found.checkpoint["id"], Kept(found))

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> tuple[Kept, RunnableConfig]:
        """Keep a new checkpoint, which must not be changed any more. Returns it, and the config that leads to it."""
        line, parent_id = lineage_of(config), get_checkpoint_id(config)
        where = place(line, checkpoint["id"])
        found = CheckpointTuple(
            where,
            checkpoint,
            get_checkpoint_metadata(config, metadata),
            place(line, parent_id) if parent_id is not None else None,
        )
        before = self.head(line)
        kept = Kept(found)
        self._lines.setdefault(line, {})[kept.id] = kept
        if before is not None and self.head(line) is kept:
            self._advance(line, before, kept)
            self._drop(line, before)
        return kept, where

    def write(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Kept | None:
        """Keep what was written on top of a checkpoint. Returns the checkpoint; None when it is not kept here."""
        line = lineage_of(config)
        kept = self.get(line, get_checkpoint_id(config))
        if kept is not None:
            kept.add(writes, task_id, task_path)
        if kept is not self.head(line):
            # LangGraph stores a step's writes concurrently with the next checkpoint: they may come after it.
            self._history.pop(line, None)
        return kept

    def settle(self, line: Lineage, kept: Kept) -> None:
        """One of this checkpoint's writes is durable now. Drop the checkpoint if it is no longer needed."""
        kept.on_its_way -= 1
        self._drop(line, kept)

    def _drop(self, line: Lineage, kept: Kept) -> None:
        if kept.on_its_way <= 0 and kept is not self.head(line):
            self._lines.get(line, {}).pop(kept.id, None)

    def forget(self, lines: Sequence[Lineage]) -> None:
        for line in lines:
            self._lines.pop(line, None)
            self._history.pop(line, None)

    def forget_all(self) -> None:
        self._lines.clear()
        self._history.clear()

    def __iter__(self) -> Iterator[tuple[Lineage, Kept]]:
        for line, kept in self._lines.items():
            for found in kept.values():
                yield line, found

    # ---- delta channels

    def history(
        self, line: Lineage, checkpoint_id: str, channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory] | None:
        """How to rebuild these channels of a head; None when it is not known here."""
        known_id, known = self._history.get(line, ("", {}))
        if known_id != checkpoint_id or any(name not in known for name in channels):
            return None
        return {name: _copy(known[name]) for name in channels}

    def learn(self, line: Lineage, checkpoint_id: str, history: Mapping[str, DeltaChannelHistory]) -> None:
        """Remember it for the head, and from then on for each later head."""
        head = self.head(line)
        if head is None or head.id != checkpoint_id:
            return
        known_id, known = self._history.get(line, ("", {}))
        mine = {name: _copy(found) for name, found in history.items()}
        self._history[line] = (checkpoint_id, {**(known if known_id == checkpoint_id else {}), **mine})

    def _advance(self, line: Lineage, before: Kept, head: Kept) -> None:
        known_id, known = self._history.pop(line, ("", {}))
        if known_id != before.id or head.parent_id != before.id:
            return
        writes = before.writes()
        for name, history in known.items():
            if name in before.values:
                history["seed"] = before.values[name]
                history["writes"] = []
            history["writes"] += [write for write in writes if write[1] == name]
        self._history[line] = (head.id, known)


def walk(
    channels: Sequence[str], start: Kept, find: Callable[[str], Kept | None]
) -> dict[str, DeltaChannelHistory] | None:
    """How to rebuild the delta channels of `start` from its ancestors; None if one of them can't be found."""
    found: dict[str, DeltaChannelHistory] = {name: {"writes": []} for name in channels}
    remaining, parent_id = set(channels), start.parent_id
    while remaining and parent_id is not None:
        ancestor = find(parent_id)
        if ancestor is None:
            return None
        for write in reversed(ancestor.writes()):
            if write[1] in remaining:
                found[write[1]]["writes"].append(write)
        for name in remaining & set(ancestor.values):
            found[name]["seed"] = ancestor.values[name]
            remaining.discard(name)
        parent_id = ancestor.parent_id
    for history in found.values():
        history["writes"].reverse()
    return found


def _copy(history: DeltaChannelHistory) -> DeltaChannelHistory:
    copied: DeltaChannelHistory = {"writes": list(history["writes"])}
    if "seed" in history:
        copied["seed"] = history["seed"]
    return copied
