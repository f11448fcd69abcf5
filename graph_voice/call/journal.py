"""The durable copy of a call: its remembered state, written in the background as checkpoints of its thread."""

import asyncio
import contextvars
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import RemoveMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, empty_checkpoint

from graph_voice.errors import ThreadTakenError
from graph_voice.storage.live_saver import LiveSaver
from graph_voice.storage.ownership import OWNER, later_id
from graph_voice.turn.pending import Pending

__all__ = ["ASKING", "QUESTION", "Journal"]

logger = logging.getLogger("graph_voice")

ASKING = "graph_voice_asking"
"""In the metadata of a run that waits in `interrupt()`: the id of the message whose tool calls wait."""
QUESTION = "graph_voice_question"
"""In the metadata of a checkpoint: the id of an earlier one, whose run still waits in `interrupt()`."""
Values = Mapping[str, Any]
_SNAPSHOT_EVERY = 256
"""How many items are written as differences before a list is written whole again. A longer list waits for as many
items as it had when it was last written whole."""


class Journal:
    """Writes what is remembered of a call, whenever it changes, one checkpoint at a time.

    A thread has one owner, the call that took it up last. When another call has taken it up since, this one stops
    writing: what it remembers from then on is not durable.

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
        self._claimed = False
        self._changes = 0
        self._tried = 0
        self._durable = 0
        self._failing_since: float | None = None
        self._taken_at: float | None = None
        self._lost: list[str] = []
        self._next: asyncio.TimerHandle | None = None
        """When the next checkpoint is made; None while one is on its way, and when there is nothing new."""
        self._on_its_way = False
        self._hurried = False
        """Whether something waits for what the next checkpoint holds."""
        self._moved = asyncio.Event()
        """Set, and replaced by a new one, whenever a checkpoint is durable or refused, or the thread is lost."""

    @property
    def seconds_behind(self) -> float:
        """How long it has been that what is remembered could not be stored; 0 while it can be."""
        since = self._taken_at if self.taken else self._failing_since
        return 0.0 if since is None else time.monotonic() - since

    def take_lost(self) -> list[str]:
        """The values that are not stored as they were, since this was last asked."""
        lost, self._lost = self._lost, []
        return lost

    def begin(
        self, claim: str | None, head: CheckpointTuple | None, values: Values, *, after: str | None = None
    ) -> None:
        """Continue this checkpoint, which holds these values.

        Args:
            claim: by which the call owns the thread. None: the thread is taken up with the first write.
            head: the last checkpoint of the call before.
            values: what it holds.
            after: the id of the thread's newest checkpoint, if that is another one.
        """
        self._claimed = claim is not None
        self._line.begin(claim, head, values, after)

    @property
    def taken(self) -> bool:
        """Whether another call has taken the thread up."""
        return self._taken_at is not None

    def require_owner(self) -> None:
        """Raise `ThreadTakenError` when another call has taken the thread up, and this one has gone on since."""
        if self.taken and self._durable < self._changes:
            behind = self.seconds_behind
            raise ThreadTakenError(
                f"thread {self._thread_id!r}: another call has taken it up, {behind:.1f} s ago or more. What this "
                "call has remembered since is not stored. A thread belongs to the conversation that was opened last."
            )

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

        Returns False when `timeout` seconds pass first, the store refuses it, or another call has taken the thread up.

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
                while self._tried < wanted and not self.taken:
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
        if self._next is None and not self._on_its_way and self._tried < self._changes and not self.taken:
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
        if not self._claimed:  # the store took no writes when the call began
            self._claimed = True
            self.saver.put_claim(self._thread_id, self._line.claim)
        if _is_own(self._waiting()):
            # Its checkpoint has an id of its own, which might come after those of the thread's next owner.
            self._if_owned(lambda: self._put(again=again))
        else:
            self._put(again=again)

    def _put(self, *, again: bool) -> None:
        upto = self._changes
        try:
            self._line.put(self._thread_id, dict(self._values()), self._lists, self._waiting())
        except Exception:  # a value of the program's that fails when it is looked at; the next words must be stored
            logger.exception("thread %s: what is remembered could not be written", self._thread_id)
            self._over(upto, stored=False, again=again)
        else:
            self._if_owned(lambda: self._written(upto, again=again))

    def _if_owned(self, act: Callable[[], None]) -> None:
        """When all that was put is written: do this, if the thread is still the call's. Only what its owner writes is
        what a later call reads."""
        asked = self.saver.ask_owner(self._thread_id)

        def answered(_: Any) -> None:
            if asked.allows(self._line.claim):
                act()
                return
            logger.warning("thread %s: another call has taken it up; this one is stored no more", self._thread_id)
            self._on_its_way, self._taken_at = False, time.monotonic()
            self.saver.note(self._thread_id, "another call has taken it up, so one goes on that is not stored")
            self._tell()

        self.saver.written(self._thread_id).add_done_callback(answered)

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
        self._tell()
        self._plan()

    def _tell(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


class _ThreadWriter:
    """Writes the checkpoints of one thread, each after the last."""

    def __init__(self, saver: LiveSaver) -> None:
        self._saver = saver
        self.claim = later_id()
        """By which the call owns the thread."""
        self._id = self.claim
        """The id of the last checkpoint of this owner; at first, an id that the first one comes after."""
        self._step = -1
        self._parent: str | None = None
        """The id of the last checkpoint, at first of an earlier owner."""
        self._written: dict[str, Any] = {}
        self._behind: dict[str, int] = {}
        """List -> how many items were written as differences since it was last written whole."""
        self._whole: dict[str, int] = {}
        """List -> its length when it was last written whole."""
        self._must_be_whole = True
        """Nothing is written as a difference to what an earlier owner has written: another one may still write."""
        self._versions: dict[str, Any] = {}
        self._counter: Any = None
        self._question: str | None = None

    def begin(self, claim: str | None, head: CheckpointTuple | None, values: Values, after: str | None) -> None:
        newest = max(head.checkpoint["id"] if head is not None else "", after or "")
        self.claim = claim or later_id(newest or None)
        self._id = self.claim if self.claim > newest else later_id(newest)
        if head is None:
            return
        self._parent = head.checkpoint["id"]
        self._step = head.metadata.get("step", -1)
        self._versions = dict(head.checkpoint["channel_versions"])
        self._counter = _apart(max(self._versions.values(), default=None))
        self._written = dict(values)

    def start_over(self) -> None:
        """The last write is not stored, or not all of it: the next one holds everything."""
        self._must_be_whole = True
        self._written = {}

    def put(self, thread_id: str, values: dict[str, Any], lists: Sequence[str], waiting: Pending | None) -> None:
        if waiting is not None and _is_own(waiting):
            ahead, first = self._id, self._parent is None
            self._put_waiting(thread_id, values, waiting)
            if self._id >= ahead or first:
                return
            self._id = ahead  # asked before something else was written: the run's own time does not make it the head
        question = _id_of(waiting) if waiting is not None else None
        whole = self._must_be_whole
        # What is written whole gets a new version: a saver may keep values by their versions (Postgres does), and
        # another owner's would stand for it.
        changed = [n for n, value in values.items() if whole or not _same(self._written.get(n, _NOTHING), value)]
        changed += [name for name in self._written if name not in values]
        if not changed and question == self._question:
            return  # what changed meanwhile was changed back
        writes: list[tuple[str, Any]] = []
        held = {name: value for name, value in values.items() if name not in lists}
        for name in lists:
            value = values.get(name)
            if value is None or name not in changed:
                continue
            update = _difference(self._written.get(name) or [], value)
            behind = self._behind.get(name, 0) + len(update or ())
            limit = max(_SNAPSHOT_EVERY, self._whole.get(name, 0))
            if update is None or behind > limit or whole:
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
        metadata: dict[str, Any] = {"source": "update", "step": self._step, "parents": {}, OWNER: self.claim}
        if waiting is not None:
            metadata |= {QUESTION: question, ASKING: waiting.asking}
        self._question = question
        self._put(thread_id, self._next_id(), held, changed, metadata)
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
        self._id = self._parent = checkpoint_id

    def _put_waiting(self, thread_id: str, values: dict[str, Any], waiting: Pending) -> None:
        """Store a run that waits in `interrupt()` as it is, but with what is remembered instead of what it wrote."""
        self._question = None
        number = _Versions(self._saver, self._counter)
        for found, writes in waiting.saver.export():
            checkpoint = number.translate(found.checkpoint)
            metadata: Any = {**found.metadata, ASKING: waiting.asking, OWNER: self.claim}
            namespace = _namespace(found)
            where: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}
            if namespace == "":
                checkpoint["channel_values"] = {**checkpoint["channel_values"], **values}
                checkpoint["channel_versions"] = {
                    **dict.fromkeys(values, number.first),
                    **checkpoint["channel_versions"],
                }
                if checkpoint["id"] > (self._parent or ""):
                    where = self._where(thread_id)
                self._step = found.metadata.get("step", self._step)
                self._versions = dict(checkpoint["channel_versions"])
                self._id = self._parent = checkpoint["id"]
            put = self._saver.put(where, checkpoint, metadata, checkpoint["channel_versions"])
            for task_id, task_writes in writes.items():
                self._saver.put_writes(put, task_writes, task_id)
        self._counter = number.last
        self._written = dict(values)
        self._must_be_whole = True

    def _where(self, thread_id: str) -> RunnableConfig:
        where: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
        if self._parent is not None:
            where["configurable"]["checkpoint_id"] = self._parent
        return where

    def _next_id(self) -> str:
        """The id right after the last one, not one made from the current time. The head of a thread is the checkpoint
        with the greatest id. A run that began earlier and waits in `interrupt()` later must come after this one, and
        keeps its own id, from which its task ids are made. And all ids of one owner come before those of the next."""
        return str(uuid.UUID(int=uuid.UUID(self._id).int + 1))


def _is_own(waiting: Pending | None) -> bool:
    """Whether a run of this call waits. One that an earlier owner has stored stays where it is: a second copy under its
    id could be overwritten by that owner, and under another id its tasks would not be found."""
    return waiting is not None and not waiting.stored


def _id_of(waiting: Pending) -> str:
    return next(found.checkpoint["id"] for found, _ in waiting.saver.export() if not _namespace(found))


def _apart(counter: Any) -> Any:
    """Where this owner's versions begin. Savers that number them at random need no help; a plain number would be given
    to a value of another owner as well."""
    return counter + random.getrandbits(30) if isinstance(counter, int) else counter


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
