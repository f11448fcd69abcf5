"""A LangGraph checkpointer that reads from memory and writes in the background: the durable copy delays no speech."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from functools import cache, partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    copy_checkpoint,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.types import ERROR

from graph_voice.errors import SaverError
from graph_voice.storage.checkpoints import Checkpoints, Kept, Lineage, either, lineage_of, walk
from graph_voice.storage.ownership import AskedOwner, Claim, owner_of, put_claim, take
from graph_voice.storage.storable import SaysWhatIsLost, Storing, storable_in_json, stored
from graph_voice.storage.write_behind import Lag, Op, Report, WriteBehind

__all__ = ["LiveSaver"]

logger = logging.getLogger("graph_voice")
F = TypeVar("F", bound=CheckpointTuple | None)

AtMaxLag = Literal["go_on", "end_call"]
CLOSING_MESSAGE = "I'm sorry, there is a technical problem, and I have to end this call. Please call again later."


class LiveSaver(BaseCheckpointSaver[Any]):
    """Any durable LangGraph checkpointer, with the head of each thread in memory and writes in the background.

    Reading the head needs no decoding, and writing returns at once. Writes become durable soon after, in order.
    Everything older than the head is read from the durable saver (time travel, `alist`), after all pending writes.

    Use one `LiveSaver` for a worker's process, or one for each call. A graph that is compiled on it must be the only
    writer of its threads. As everywhere in LangGraph, what is put must not be changed afterwards: it is kept, not
    copied.

    Args:
        durable: the checkpointer behind it (`AsyncSqliteSaver`, `AsyncPostgresSaver`, ...), open and set up. If it has
            only synchronous methods, they are called in a thread.
        timeout: seconds for one write; one that takes longer is tried again.
        max_pending: writes that may wait. Beyond that, `aput` and `aput_writes` wait up to `timeout` seconds for room,
            then raise `SaverError`. A `Conversation` never reaches it: it writes its next checkpoint when the last one
            is stored.
        on_lag: called with a `Lag` when the store begins to fail, at each further failure, when all is durable again,
            and when the store does not take a value as it is (`lag.lost`).
        max_lag: seconds that the oldest write may wait (`lag.seconds`). Beyond that, an error is logged, and
            `at_max_lag` says what happens to the calls.
        at_max_lag: "go_on" with the call, or "end_call": its next turn says `closing_message`, and the call ends as
            with `ctx.end_call()`.
        closing_message: a text, or a function of the userdata.

    Raises `SaverError` for a `LiveSaver` behind a `LiveSaver`, and for any other `at_max_lag`.
    """

    def __init__(
        self,
        durable: BaseCheckpointSaver[Any],
        *,
        timeout: float = 5.0,
        max_pending: int = 1000,
        on_lag: Callable[[Lag], None] | None = None,
        max_lag: float = 30.0,
        at_max_lag: AtMaxLag = "go_on",
        closing_message: str | Callable[[Any], str] = CLOSING_MESSAGE,
    ) -> None:
        if isinstance(durable, LiveSaver):
            raise SaverError("LiveSaver(LiveSaver(...)): pass the durable checkpointer itself.")
        if at_max_lag not in get_args(AtMaxLag):
            raise SaverError(f'LiveSaver(at_max_lag={at_max_lag!r}): write "go_on" or "end_call".')
        super().__init__(serde=durable.serde)
        self.durable = durable
        self.at_max_lag = at_max_lag
        self._closing_message = closing_message
        self._timeout = timeout
        self._memory = Checkpoints()
        self._behind = WriteBehind(timeout=timeout, bound=max_pending, max_lag=max_lag, on_lag=on_lag)
        self._storing = Storing(durable.serde)
        self._formed: dict[tuple[Lineage, str], tuple[Any, Any]] = {}
        """The last value of a channel that was not simple, and its form: it is written again with each checkpoint."""

    # ---- what it adds to a checkpointer

    @property
    def lag(self) -> Lag:
        """How far behind the durable copy is."""
        return self._behind.lag

    @property
    def is_too_late(self) -> bool:
        """Whether the durable copy is so far behind that its calls must end."""
        return self.at_max_lag == "end_call" and self.lag.seconds > self._behind.max_lag

    def closing_message(self, userdata: Any, *, behind: float = 0.0) -> str | None:
        """What a call says before it ends because the durable copy is too far behind; None while it is not.

        Args:
            userdata: for a function of it.
            behind: seconds that this call's copy is behind, if that is more than the saver's own lag.
        """
        if not self.is_too_late and (self.at_max_lag != "end_call" or behind <= self._behind.max_lag):
            return None
        if not callable(self._closing_message):
            return self._closing_message
        try:
            return self._closing_message(userdata)
        except Exception:
            logger.exception("the function for the closing message failed; the default message is said")
            return CLOSING_MESSAGE

    async def flush(self, thread_id: str | None = None, *, timeout: float | None = None) -> None:
        """Return when all that was put before is durable.

        Args:
            thread_id: only what belongs to this thread.
            timeout: seconds to wait. Default: without limit, while the store is tried again and again.

        Raises `SaverError` after the timeout, and when something was lost since the last `flush`: all else is stored.
        """
        await self._behind.flush(thread_id, timeout=timeout)

    def written(self, thread_id: str) -> "asyncio.Future[None]":
        """A future that is done when all that was put into this thread before is durable or given up."""
        return self._behind.written(thread_id)

    def take_report(self, thread_id: str) -> Report:
        """What was lost or given up of this thread since the last `take_report` or `flush`."""
        return self._behind.take_report(thread_id)

    async def take_up(self, thread_id: str) -> Claim:
        """Become the owner of a thread, whoever has written it before; then read it. Raises as `ownership.take`."""
        await self._behind.wait(thread_id)
        claim = await take(self.durable, thread_id)
        self._memory.forget(self._memory.lines(thread_id))  # another process may have written since
        return claim

    def put_claim(self, thread_id: str, claim: str) -> None:
        """Take a thread up by this claim, behind all that was put before: for a store that took no writes earlier."""
        self._later(thread_id, partial(put_claim, self.durable, thread_id, claim))

    def note(self, thread_id: str, what: str) -> None:
        """Say in `lag.lost`, and to `on_lag`, what the durable copy of a thread lacks."""
        self._behind.note(thread_id, what)

    def ask_owner(self, thread_id: str) -> AskedOwner:
        """Ask for the owner of a thread, behind all that was put before."""
        asked = AskedOwner()

        async def ask() -> None:
            asked.claim = await owner_of(self.durable, thread_id)

        self._later(thread_id, ask)
        return asked

    def _later(self, thread_id: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._behind.put(Op(thread_id, lambda _: work(), lambda _: asyncio.run(work()), lambda: None))

    async def abandon(self) -> None:
        """Stop at once, without writing the rest, like a process that crashes."""
        await self._behind.abandon()

    async def aclose(self, timeout: float | None = None) -> None:
        """`flush()`, then stop. Whoever opened the durable saver closes it. Raises as `flush`."""
        await self._behind.aclose(timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # ---- reading

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        line, checkpoint_id = lineage_of(config), get_checkpoint_id(config)
        if (kept := self._memory.get(line, checkpoint_id)) is not None:
            return _answer(kept, config)
        if self._behind.is_pending(line.thread_id):
            await self._behind.wait(line.thread_id, timeout=self._timeout)
        found = await either(self.durable.aget_tuple, self.durable.get_tuple, config)
        return self._loaded(line, checkpoint_id, found)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        line, checkpoint_id = lineage_of(config), get_checkpoint_id(config)
        if (kept := self._memory.get(line, checkpoint_id)) is not None:
            return _answer(kept, config)
        return self._loaded(line, checkpoint_id, self.durable.get_tuple(config))

    def _loaded(
        self, line: Lineage, checkpoint_id: str | None, found: CheckpointTuple | None
    ) -> CheckpointTuple | None:
        found = _as_it_was(found)
        if found is None or checkpoint_id is not None:
            return found
        return self._memory.load(line, found).tuple()

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        await self._behind.wait(lineage_of(config).thread_id if config else None, timeout=self._timeout)
        try:
            async for found in self.durable.alist(config, filter=filter, before=before, limit=limit):
                yield _as_it_was(found)
        except NotImplementedError:
            for found in self.durable.list(config, filter=filter, before=before, limit=limit):
                yield _as_it_was(found)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        yield from map(_as_it_was, self.durable.list(config, filter=filter, before=before, limit=limit))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        line, kept = self._target(config)
        if kept is not None and (known := self._known_history(line, kept, channels)) is not None:
            return known
        if self._behind.is_pending(line.thread_id):
            await self._behind.wait(line.thread_id, timeout=self._timeout)
        durable = self.durable
        found: Mapping[str, DeltaChannelHistory] = _history_as_it_was(
            await either(
                partial(durable.aget_delta_channel_history, config=config, channels=channels),
                partial(durable.get_delta_channel_history, config=config, channels=channels),
            )
        )
        if kept is not None:
            self._memory.learn(line, kept.id, found)
        return found

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        line, kept = self._target(config)
        if kept is not None and (known := self._known_history(line, kept, channels)) is not None:
            return known
        found = _history_as_it_was(self.durable.get_delta_channel_history(config=config, channels=channels))
        if kept is not None:
            self._memory.learn(line, kept.id, found)
        return found

    def _target(self, config: RunnableConfig) -> tuple[Lineage, Kept | None]:
        line = lineage_of(config)
        return line, self._memory.get(line, get_checkpoint_id(config))

    def _known_history(
        self, line: Lineage, kept: Kept, channels: Sequence[str]
    ) -> dict[str, DeltaChannelHistory] | None:
        known = self._memory.history(line, kept.id, channels)
        if known is None:
            known = walk(channels, kept, lambda checkpoint_id: self._memory.get(line, checkpoint_id))
            if known is not None:
                self._memory.learn(line, kept.id, known)
        return known

    # ---- writing

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        await self._room()
        return self.put(config, checkpoint, metadata, new_versions)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        checkpoint = copy_checkpoint(checkpoint)  # the run keeps changing its own
        kept, where = self._memory.put(config, checkpoint, metadata)
        line, durable = lineage_of(config), self.durable
        # LangGraph's savers differ in whether they take a config without a namespace.
        parent = _with_namespace(config)

        @cache
        def form(careful: bool) -> tuple[Checkpoint, CheckpointMetadata]:
            values = {k: self._form(line, k, v, careful) for k, v in checkpoint["channel_values"].items()}
            about = cast(CheckpointMetadata, _in_json(metadata)) if careful else metadata
            return {**checkpoint, "channel_values": values}, about

        self._enqueue(
            line,
            kept,
            lambda careful: durable.aput(parent, *form(careful), new_versions),
            lambda careful: durable.put(parent, *form(careful), new_versions),
        )
        return where

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        await self._room()
        self.put_writes(config, writes, task_id, task_path)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        line, durable = lineage_of(config), self.durable
        kept = self._memory.write(config, writes, task_id, task_path)
        where = _with_namespace(config)

        @cache
        def form(careful: bool) -> list[tuple[str, Any]]:
            return [(channel, self._form(line, channel, value, careful)) for channel, value in writes]

        self._enqueue(
            line,
            kept,
            lambda careful: durable.aput_writes(where, form(careful), task_id, task_path),
            lambda careful: durable.put_writes(where, form(careful), task_id, task_path),
        )

    def _form(self, line: Lineage, channel: str, value: Any, careful: bool) -> Any:
        """What was put, as the store takes it. What is lost by that is told."""
        known, made = self._formed.get((line, channel), (None, None))
        if known is None or not (known is value or (isinstance(known, SaysWhatIsLost) and known == value)):
            if channel.startswith("__") and isinstance(value, tuple):  # LangGraph's own; it reads a list as well
                value = list(value)
            made, lost = self._storing.form(value, channel)
            if made is not value or lost:
                self._formed[line, channel] = (value, made)
            for loss in lost:
                if channel != ERROR:  # LangGraph stores an exception as a text
                    self._behind.tell(line.thread_id, str(loss), gone=loss.gone)
        return storable_in_json(made) if careful else made

    def _enqueue(
        self, line: Lineage, kept: Kept | None, awaited: Callable[[bool], Any], blocking: Callable[[bool], Any]
    ) -> None:
        if kept is not None:
            kept.on_its_way += 1

        def done() -> None:
            if kept is not None:
                self._memory.settle(line, kept)

        self._behind.put(Op(line.thread_id, awaited, blocking, done))

    async def _room(self) -> None:
        if self._behind.lag.pending >= self._behind.bound:
            await self._behind.wait(timeout=self._timeout)

    # ---- threads

    async def adelete_thread(self, thread_id: str) -> None:
        self._delete(thread_id)
        await self._behind.wait(thread_id, timeout=self._timeout)

    def delete_thread(self, thread_id: str) -> None:
        self._delete(thread_id)

    def _delete(self, thread_id: str) -> None:
        self._formed = {key: form for key, form in self._formed.items() if key[0].thread_id != thread_id}
        self._memory.forget(self._memory.lines(thread_id))
        durable = self.durable
        self._behind.put(
            Op(
                thread_id,
                lambda careful: durable.adelete_thread(thread_id),
                lambda careful: durable.delete_thread(thread_id),
                lambda: None,
            )
        )

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await self._behind.wait(timeout=self._timeout)
        await self.durable.acopy_thread(source_thread_id, target_thread_id)
        self._memory.forget(self._memory.lines(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await self._behind.wait(timeout=self._timeout)
        await self.durable.aprune(thread_ids, strategy=strategy)
        for thread_id in thread_ids:
            self._memory.forget(self._memory.lines(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await self._behind.wait(timeout=self._timeout)
        await self.durable.adelete_for_runs(run_ids)
        self._memory.forget_all()

    # ---- what else LangGraph needs from a checkpointer

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.durable.get_next_version(current, channel)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> "LiveSaver":
        durable = self.durable.with_allowlist(extra_allowlist)
        if durable is self.durable:
            return self
        # The same memory and the same queue, used by a saver that knows more types.
        clone = LiveSaver.__new__(LiveSaver)
        clone.__dict__.update(self.__dict__)
        clone.durable, clone.serde = durable, durable.serde
        clone._storing = Storing(durable.serde)
        return clone


def _as_it_was(found: F) -> F:
    """What a store gives back, with what stands for another value replaced by that."""
    if found is None:
        return found
    checkpoint: Checkpoint = {
        **found.checkpoint,
        "channel_values": {k: stored(v) for k, v in found.checkpoint["channel_values"].items()},
    }
    writes = found.pending_writes and [(task, channel, stored(value)) for task, channel, value in found.pending_writes]
    return found._replace(checkpoint=checkpoint, pending_writes=writes)


def _history_as_it_was(found: Mapping[str, DeltaChannelHistory]) -> Mapping[str, DeltaChannelHistory]:
    made: dict[str, DeltaChannelHistory] = {}
    for name, history in found.items():
        made[name] = {"writes": [(task, channel, stored(value)) for task, channel, value in history["writes"]]}
        if "seed" in history:
            made[name]["seed"] = stored(history["seed"])
    return made


def _in_json(value: Any) -> Any:
    """Metadata as a column of JSON takes them."""
    if isinstance(value, Mapping):
        return {str(_in_json(k)): _in_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_in_json(item) for item in value]
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    return str(value).replace("\x00", "").encode(errors="replace").decode()


def _answer(kept: Kept, config: RunnableConfig) -> CheckpointTuple:
    found = kept.tuple()
    return found._replace(config=config) if get_checkpoint_id(config) is not None else found


def _with_namespace(config: RunnableConfig) -> RunnableConfig:
    where = config["configurable"]
    if "checkpoint_ns" in where:
        return config
    return {**config, "configurable": {**where, "checkpoint_ns": ""}}
