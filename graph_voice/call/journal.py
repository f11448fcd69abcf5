"""The durable copy of a call: its remembered state, written in the background as checkpoints of its thread."""

import asyncio
import contextvars
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, empty_checkpoint

from graph_voice.storage.live_saver import LiveSaver
from graph_voice.turn.pending import Pending

__all__ = ["ASKING", "Journal"]

logger = logging.getLogger("graph_voice")

ASKING = "graph_voice_asking"
"""In the metadata of a run that waits in `interrupt()`: the id of the message whose tool calls wait."""
Values = Mapping[str, Any]
_SNAPSHOT_EVERY = 256
"""How many items are written as differences before a list is written whole again. A longer list waits for as many
items as it had when it was last written whole."""


class Journal:
    """Writes what is remembered of a call, whenever it changes, one checkpoint at a time.

    Changes that come meanwhile go into the next checkpoint. So a slow store makes checkpoints larger, not the queue
    longer. The call's lists (`DeltaChannel`s: `messages`, `handoffs`) are written as differences, so a turn costs the
    same bytes in a long call as in a short one. LangGraph reads these checkpoints as its own.

    It says what is written, and when. The queue, and the one task that writes, are the saver's.

    Args:
        saver: where the checkpoints go.
        thread_id: the call's thread.
        channels: the graph's channels.
        values: returns what is remembered now, in a checkpoint's form.
        waiting: returns the run that waits in `interrupt()` now, or None.
        interval: seconds that a change may wait for others, unless something waits in `barrier`.
    """

    def __init__(
        self,
        saver: LiveSaver,
        thread_id: str,
        channels: Mapping[str, Any],
        values: Callable[[], Values],
        waiting: Callable[[], Pending | None],
        *,
        interval: float,
    ) -> None:
        self.saver = saver
        self._thread_id = thread_id
        self._lists = [name for name, channel in channels.items() if isinstance(channel, DeltaChannel)]
        self._values = values
        self._waiting = waiting
        self._interval = interval
        self._line = _ThreadWriter(saver)
        self._changes = 0
        self._tried = 0
        self._durable = 0
        self._failing_since: float | None = None
        self._lost: list[str] = []
        self._next: asyncio.TimerHandle | None = None
        """When the next checkpoint is made; None while one is on its way, and when there is nothing new."""
        self._on_its_way = False
        self._hurried = False
        """Whether something waits for what the next checkpoint holds."""
        self._moved = asyncio.Event()
        """Set, and replaced by a new one, whenever a checkpoint is durable or refused."""

    @property
    def seconds_behind(self) -> float:
        """How long it has been that what is remembered could not be stored; 0 while it can be."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    def take_lost(self) -> list[str]:
        """The values that are not stored as they were, since this was last asked."""
        lost, self._lost = self._lost, []
        return lost

    def begin(self, head: CheckpointTuple | None, values: Values) -> None:
        """Continue after this checkpoint, which holds these values."""
        self._line.begin(head, values)

    def changed(self) -> None:
        """What is remembered has changed: write it soon."""
        self._changes += 1
        self._plan()

    def hurry(self) -> int:
        """Write what is remembered now, without waiting for more. Returns the position for `barrier(upto=...)`."""
        if self._durable < self._changes:
            self._hurried = True
            self._put_off()
            self._plan()
        return self._changes

    async def barrier(self, timeout: float | None = None, *, upto: int | None = None) -> bool:
        """Wait until all that is remembered now is durable.

        Returns False when `timeout` seconds pass first, or the store refuses it.

        Args:
            timeout: seconds. None: no limit.
            upto: what `hurry` returned. What came later is not waited for.
        """
        wanted = self._changes if upto is None else upto
        if self._durable >= wanted:
            return True
        if self._tried >= wanted:
            self._tried = self._durable  # once more: the store may have changed its mind
        self.hurry()
        try:
            async with asyncio.timeout(timeout):
                while self._tried < wanted:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return self._durable >= wanted

    def end(self) -> None:
        """Write nothing more of what has changed so far. What a front end reports even now is written at once."""
        self._durable = self._tried = self._changes
        self._interval = 0
        self._put_off()

    # ---- one checkpoint after the other

    def _plan(self) -> None:
        if self._next is None and not self._on_its_way and self._tried < self._changes:
            seconds = 0 if self._hurried else self._interval
            # An empty context: it must not keep alive the turn that happened to change something, nor be traced in it.
            context = contextvars.Context()
            self._next = asyncio.get_running_loop().call_later(seconds, self._write, context=context)

    def _put_off(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _write(self, *, again: bool = False) -> None:
        """Write what is remembered now. If it is refused, all of it is written, once; then as something changes."""
        self._next, self._on_its_way, self._hurried = None, True, False
        upto = self._changes
        try:
            self._line.put(self._thread_id, dict(self._values()), self._lists, self._waiting())
        except Exception:  # a value of the program's that fails when it is looked at; the next words must be stored
            logger.exception("thread %s: what is remembered could not be written", self._thread_id)
            self._over(upto, stored=False, again=again)
        else:
            self.saver.written(self._thread_id).add_done_callback(lambda _: self._written(upto, again=again))

    def _written(self, upto: int, *, again: bool) -> None:
        report = self.saver.take_report(self._thread_id)
        self._lost += report.lost
        self._over(upto, stored=not report.given_up, again=again)

    def _over(self, upto: int, *, stored: bool, again: bool) -> None:
        self._on_its_way = False
        if not stored:
            self._line.start_over()
            if not again:
                self._write(again=True)
                return
        self._failing_since = None if stored else self._failing_since or time.monotonic()
        self._tried = max(self._tried, upto)
        self._durable = max(self._durable, upto) if stored else self._durable
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()
        self._plan()


class _ThreadWriter:
    """Writes the checkpoints of one thread, each after the last."""

    def __init__(self, saver: LiveSaver) -> None:
        self._saver = saver
        self._id = empty_checkpoint()["id"]
        """The id of the last checkpoint; at first, an id that the first one comes after."""
        self._step = -1
        self._parent: Checkpoint | None = None
        self._written: dict[str, Any] = {}
        self._behind: dict[str, int] = {}
        """List -> how many items were written as differences since it was last written whole."""
        self._whole: dict[str, int] = {}
        """List -> its length when it was last written whole."""
        self._must_be_whole = False
        self._versions: dict[str, Any] = {}
        self._counter: Any = None

    def begin(self, head: CheckpointTuple | None, values: Values) -> None:
        if head is None:
            return
        self._id, self._parent = head.checkpoint["id"], head.checkpoint
        self._step = head.metadata.get("step", -1)
        self._versions = dict(head.checkpoint["channel_versions"])
        self._counter = max(self._versions.values(), default=None)
        self._written = dict(values)
        # The head's pending writes are its run's own, not what is remembered.
        self._must_be_whole = bool(head.pending_writes)

    def start_over(self) -> None:
        """The last write is not stored, or not all of it: the next one holds everything."""
        self._must_be_whole = True
        self._written = {}

    def put(self, thread_id: str, values: dict[str, Any], lists: Sequence[str], waiting: Pending | None) -> None:
        if waiting is not None and self._comes_last(waiting):
            self._put_waiting(thread_id, values, waiting)
            return
        changed = [name for name, value in values.items() if not _same(self._written.get(name, _NOTHING), value)]
        changed += [name for name in self._written if name not in values]
        if not changed and not self._must_be_whole and self._parent is not None:
            return  # what changed meanwhile was changed back
        writes: list[tuple[str, Any]] = []
        held = {name: value for name, value in values.items() if name not in lists}
        for name in lists:
            value = values.get(name)
            if value is None or (name not in changed and not self._must_be_whole):
                continue
            update = _difference(self._written.get(name) or [], value)
            behind = self._behind.get(name, 0) + len(update or ())
            limit = max(_SNAPSHOT_EVERY, self._whole.get(name, 0))
            if update is None or behind > limit or self._must_be_whole or self._parent is None:
                held[name] = value
                self._behind[name], self._whole[name] = 0, len(value)
            elif update:
                writes.append((name, update))
                self._behind[name] = behind
        self._step += 1
        if writes:
            where = self._where(thread_id)
            self._saver.put_writes(where, writes, f"graph_voice-{self._step}", f"graph_voice:{self._step:012}")
        self._must_be_whole = False
        self._put(thread_id, self._next_id(), held, changed, {"source": "update", "step": self._step, "parents": {}})
        self._written = dict(values)

    def _put(
        self, thread_id: str, checkpoint_id: str, held: dict[str, Any], changed: Sequence[str], metadata: Any
    ) -> None:
        self._counter = self._saver.get_next_version(self._counter, None)
        new = dict.fromkeys(changed, self._counter)
        self._versions.update(new)
        checkpoint = empty_checkpoint()
        checkpoint["id"] = checkpoint_id
        checkpoint["channel_values"] = held
        checkpoint["channel_versions"] = dict(self._versions)
        checkpoint["updated_channels"] = sorted(changed)
        self._saver.put(self._where(thread_id), checkpoint, metadata, new)
        self._id, self._parent = checkpoint_id, checkpoint

    def _comes_last(self, waiting: Pending) -> bool:
        """Whether this run can be stored as it is. The head of a thread is the checkpoint with the greatest id: a run
        whose question was asked after those of newer runs would never be it."""
        if self._parent is None:
            return True  # nothing is written yet
        ids = [found.checkpoint["id"] for found, _ in waiting.saver.export() if not _namespace(found)]
        return all(found >= self._id for found in ids)

    def _put_waiting(self, thread_id: str, values: dict[str, Any], waiting: Pending) -> None:
        """Store a run that waits in `interrupt()` as it is, but with what is remembered instead of what it wrote."""
        number = _Versions(self._saver, self._counter)
        for found, writes in waiting.saver.export():
            checkpoint = number.translate(found.checkpoint)
            metadata: Any = {**found.metadata, ASKING: waiting.asking}
            namespace = _namespace(found)
            where: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
            if namespace == "":
                checkpoint["channel_values"] = {**checkpoint["channel_values"], **values}
                checkpoint["channel_versions"] = {
                    **dict.fromkeys(values, number.first),
                    **checkpoint["channel_versions"],
                }
                if checkpoint["id"] != self._id and self._parent is not None:
                    where = self._where(thread_id)
                self._step = found.metadata.get("step", self._step)
                self._versions = dict(checkpoint["channel_versions"])
                self._id, self._parent = checkpoint["id"], checkpoint
            put = self._saver.put(where, checkpoint, metadata, checkpoint["channel_versions"])
            for task_id, task_writes in writes.items():
                self._saver.put_writes(put, task_writes, task_id)
        self._counter = number.last
        self._written = dict(values)
        self._must_be_whole = True

    def _where(self, thread_id: str) -> RunnableConfig:
        where: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        if self._parent is not None:
            where["configurable"]["checkpoint_id"] = self._id
        return where

    def _next_id(self) -> str:
        """The id right after the last one, not one made from the current time. The head of a thread is the checkpoint
        with the greatest id. A run that began earlier and waits in `interrupt()` later must come after this one, and
        keeps its own id, from which its task ids are made."""
        return str(uuid.UUID(int=uuid.UUID(self._id).int + 1))


class _Versions:
    """Translates a run's own version numbers into those of the durable saver."""

    def __init__(self, saver: LiveSaver, counter: Any) -> None:
        self._saver = saver
        self.first = self.last = saver.get_next_version(counter, None)
        self._known: dict[Any, Any] = {}

    def translate(self, checkpoint: Checkpoint) -> Checkpoint:
        numbers = {*checkpoint["channel_versions"].values()}
        numbers.update(v for seen in checkpoint["versions_seen"].values() for v in seen.values())
        for number in sorted(numbers - set(self._known)):
            self.last = self._known[number] = self._saver.get_next_version(self.last, None)
        return {
            **checkpoint,
            "channel_values": dict(checkpoint["channel_values"]),
            "channel_versions": {k: self._known[v] for k, v in checkpoint["channel_versions"].items()},
            "versions_seen": {
                node: {k: self._known[v] for k, v in seen.items()} for node, seen in checkpoint["versions_seen"].items()
            },
        }


_NOTHING = object()


def _namespace(found: CheckpointTuple) -> str:
    return str(found.config["configurable"].get("checkpoint_ns", ""))


def _same(before: Any, after: Any) -> bool:
    if before is after:
        return True
    try:
        return bool(before == after)
    except Exception:  # values that can't be compared: numpy's, or nested too deep
        return False


def _difference(before: Sequence[Any], after: Sequence[Any]) -> list[Any] | None:
    """The update that turns `before` into `after` by the channel's own reducer; None when the whole list is needed.

    Items are messages (by id: appended, replaced in place, removed) or values that are only ever appended.
    """
    same = 0
    for old, new in zip(before, after, strict=False):
        if not _same(old, new):
            break
        same += 1
    if same == len(before):
        return list(after[same:])
    old_ids, new_ids = [_id(item) for item in before[same:]], [_id(item) for item in after[same:]]
    if None in old_ids or None in new_ids:
        return None
    kept = [found for found in old_ids if found in set(new_ids)]
    if new_ids[: len(kept)] != kept:
        return None  # something was inserted between them
    old_by_id = dict(zip(old_ids, before[same:], strict=True))
    update: list[Any] = [
        RemoveMessage(id=found) for found in old_ids if found is not None and found not in set(new_ids)
    ]
    update += [item for item in after[same:] if not _same(old_by_id.get(_id(item)), item)]
    return update


def _id(item: Any) -> str | None:
    return getattr(item, "id", None)
