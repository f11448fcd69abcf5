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

from graph_voice.errors import SaverError
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
        self._now = asyncio.Event()
        """Set when something waits for what is remembered now."""
        self._stored = asyncio.Condition()
        self._worker: asyncio.Task[None] | None = None

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
        self._start()

    def _start(self) -> None:
        if self._worker is None or self._worker.done():
            # An empty context: the worker must not keep alive the turn that happened to wake it, nor be traced in it.
            self._worker = asyncio.get_running_loop().create_task(
                self._work(), name="graph_voice journal", context=contextvars.Context()
            )

    def hurry(self) -> int:
        """Write what is remembered now, without waiting for more. Returns the position for `barrier(upto=...)`."""
        if self._durable < self._changes:
            self._now.set()
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
            self._start()
        self._now.set()
        try:
            async with asyncio.timeout(timeout), self._stored:
                await self._stored.wait_for(lambda: self._tried >= wanted)
        except TimeoutError:
            return False
        return self._durable >= wanted

    async def aclose(self, timeout: float | None = None) -> None:
        """Write the rest, and stop. Raises `SaverError` when it is not durable after `timeout` seconds."""
        done = await self.barrier(timeout)
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])
        if not done:
            raise SaverError(
                f"thread {self._thread_id!r}: the end of the call is not durable after {timeout} s. "
                f"Last error: {self.saver.lag.error!r}"
            )

    async def abandon(self) -> None:
        """Stop at once, without writing the rest."""
        self._durable = self._tried = self._changes
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        while self._tried < self._changes:
            if not self._now.is_set():
                try:
                    async with asyncio.timeout(self._interval):
                        await self._now.wait()
                except TimeoutError:
                    pass
            self._now.clear()
            upto = self._changes
            stored = await self._write() or await self._write()  # the second time all of it
            self._failing_since = None if stored else self._failing_since or time.monotonic()
            async with self._stored:
                self._tried = upto
                if stored:
                    self._durable = upto
                self._stored.notify_all()

    async def _write(self) -> bool:
        """Write what is remembered now. Returns False when it could not be written: the next time, all of it is."""
        try:
            self._line.put(self._thread_id, dict(self._values()), self._lists, self._waiting())
            report = await self.saver.report(self._thread_id)
        except Exception:  # a value of the program's that fails when it is looked at; the next words must be stored
            logger.exception("thread %s: what is remembered could not be written", self._thread_id)
            self._line.start_over()
            return False
        self._lost += report.lost
        if report.given_up:
            self._line.start_over()
        return not report.given_up


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
