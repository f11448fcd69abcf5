"""A fork of a thread for a speculative run: promoted into the thread, or dropped."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

from graph_voice.errors import SaverError
from graph_voice.storage.checkpoints import Checkpoints, Lineage, lineage_of, place, walk

if TYPE_CHECKING:
    from graph_voice.storage.live_saver import LiveSaver

__all__ = ["SaverFork"]


class SaverFork(BaseCheckpointSaver[Any]):
    """Made by `LiveSaver.fork(thread_id)`: a checkpointer for one run on this thread.

    It sees the thread as it was when the run began, and keeps what the run writes to itself. `promote()` gives that to
    the thread; `drop()` forgets it. Nothing is copied either way.
    """

    def __init__(self, base: "LiveSaver", thread_id: str) -> None:
        super().__init__(serde=base.serde)
        self._base = base
        self._thread_id = thread_id
        self._memory = Checkpoints(keep_all=True)
        self._log: list[tuple[str, tuple[Any, ...]]] = []
        self._starts: dict[Lineage, str | None] = {}
        """Lineage -> the thread's head when the run first asked for it."""
        self._over: str | None = None

    def promote(self) -> None:
        """Make what the run wrote part of the thread.

        Raises `SaverError` when the thread has gone on since, or when the fork is over.
        """
        self._check()
        for line, start in self._starts.items():
            head = self._base.head_id(line)
            if head != start and self._memory.head(line) is not None:
                raise SaverError(f"thread {line.thread_id!r} has gone on since this fork began: drop() it.")
        self._over = "promoted"
        for method, args in self._log:
            getattr(self._base, method)(*args)
        self._log.clear()

    def drop(self) -> None:
        """Forget what the run wrote. Raises `SaverError` when the fork is over."""
        self._check()
        self._over = "dropped"
        self._log.clear()
        self._memory.forget_all()

    def _check(self, config: RunnableConfig | None = None) -> None:
        if self._over is not None:
            raise SaverError(f"This fork was {self._over}. Fork the thread again.")
        if config is not None and (found := lineage_of(config).thread_id) != self._thread_id:
            raise SaverError(f"This is a fork of thread {self._thread_id!r}, and was asked for {found!r}.")

    # ---- a checkpointer

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._check(config)
        line, checkpoint_id = lineage_of(config), get_checkpoint_id(config)
        if (kept := self._memory.get(line, checkpoint_id)) is not None:
            return kept.tuple()
        if checkpoint_id is None and line in self._starts:
            checkpoint_id = self._starts[line]
            if checkpoint_id is None:
                return None
            config = place(line, checkpoint_id)
        found = await self._base.aget_tuple(config)
        return self._started(line, checkpoint_id, found)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        self._check(config)
        line, checkpoint_id = lineage_of(config), get_checkpoint_id(config)
        if (kept := self._memory.get(line, checkpoint_id)) is not None:
            return kept.tuple()
        if checkpoint_id is None and line in self._starts:
            checkpoint_id = self._starts[line]
            if checkpoint_id is None:
                return None
            config = place(line, checkpoint_id)
        return self._started(line, checkpoint_id, self._base.get_tuple(config))

    def _started(
        self, line: Lineage, checkpoint_id: str | None, found: CheckpointTuple | None
    ) -> CheckpointTuple | None:
        """Note where the fork begins. What the run writes on top of the thread's own head stays here as well."""
        if checkpoint_id is None:
            self._starts[line] = found.checkpoint["id"] if found is not None else None
            if found is not None:
                return self._memory.load(line, found).tuple()
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The thread's own checkpoints: a fork's are listed when it is promoted."""
        self._check(config)
        async for found in self._base.alist(config, filter=filter, before=before, limit=limit):
            yield found

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        self._check(config)
        line = lineage_of(config)
        kept = self._memory.get(line, get_checkpoint_id(config))
        start = self._starts.get(line)
        if kept is None or start is None or kept.id == start:
            return await self._base.aget_delta_channel_history(config=config, channels=channels)
        before = await self._base.aget_delta_channel_history(config=place(line, start), channels=channels)
        return walk(channels, kept, lambda found: self._memory.get(line, found), {start: before}) or before

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self._base.get_next_version(current, channel)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        self._check(config)
        checkpoint = copy_checkpoint(checkpoint)  # the run goes on with its own
        self._log.append(("put", (config, checkpoint, metadata, new_versions)))
        return self._memory.put(config, checkpoint, metadata)[1]

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self.put(config, checkpoint, metadata, new_versions)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._check(config)
        self._log.append(("put_writes", (config, writes, task_id, task_path)))
        self._memory.write(config, writes, task_id, task_path)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)
