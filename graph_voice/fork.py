"""A run's own checkpointer: it starts from the live state of the call and is thrown away with the turn.

LangGraph runs a graph from a checkpoint. This one is made from the state in memory, without serialising anything, so
that speculation is a fork that costs nothing, and a run that is discarded leaves no trace.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    empty_checkpoint,
)

__all__ = ["ForkSaver", "checkpoint_of"]


def checkpoint_of(values: Mapping[str, Any], channels: Mapping[str, Any]) -> Checkpoint:
    """A LangGraph checkpoint that holds these channel values, as if a finished run had left them."""
    checkpoint = empty_checkpoint()
    for name, value in values.items():
        channel = channels.get(name)
        if isinstance(channel, BaseChannel):
            checkpoint["channel_values"][name] = channel.from_checkpoint(value).checkpoint()
            checkpoint["channel_versions"][name] = 1
    return checkpoint


class ForkSaver(BaseCheckpointSaver[int]):
    """Holds the checkpoints of one run, and of its subgraphs, in memory."""

    def __init__(self, head: Checkpoint) -> None:
        super().__init__()
        self._tuples: dict[str, CheckpointTuple] = {}
        self._head = head

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = config["configurable"]
        namespace = where.get("checkpoint_ns", "")
        if namespace not in self._tuples and namespace == "":
            self._put(where["thread_id"], "", self._head, {"source": "fork", "step": -1, "parents": {}}, None)
        return self._tuples.get(namespace)

    def _put(
        self,
        thread_id: str,
        namespace: str,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        parent: RunnableConfig | None,
    ) -> RunnableConfig:
        config: RunnableConfig = {
            "configurable": {
                "thread_id": thread_id,
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint["id"],
            }
        }
        self._tuples[namespace] = CheckpointTuple(config, checkpoint, metadata, parent, [])
        return config

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self.get_tuple(config)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        where = config["configurable"]
        return self._put(where["thread_id"], where.get("checkpoint_ns", ""), checkpoint, metadata, config)

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
        found = self._tuples.get(config["configurable"].get("checkpoint_ns", ""))
        if found is not None and found.pending_writes is not None:
            found.pending_writes.extend((task_id, channel, value) for channel, value in writes)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self.put_writes(config, writes, task_id, task_path)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        for found in list(self._tuples.values()):
            yield found
