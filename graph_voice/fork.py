"""A run's own checkpointer: it starts from the live state of the call and is thrown away with the turn.

LangGraph runs a graph from a checkpoint. This one is made from the state in memory, without serialising anything, so
that speculation is a fork that costs nothing, and a run that is discarded leaves no trace.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    copy_checkpoint,
    empty_checkpoint,
)

__all__ = ["ForkSaver", "stored"]


def stored(channel: BaseChannel[Any, Any, Any]) -> Any:
    """A channel's value as a checkpoint holds it."""
    # A DeltaChannel's checkpoint is a marker to replay older ones, which a fork does not have.
    return channel.get() if isinstance(channel, DeltaChannel) else channel.checkpoint()


class ForkSaver(BaseCheckpointSaver[Any]):
    """Holds the last checkpoint of one run, and of each of its subgraphs, in memory.

    Args:
        values: what the channels hold when the run starts, as `stored` gives it.
        run: a run that waits in `interrupt()`, to be taken up where it stopped, with these values. It stays as it is.
    """

    @classmethod
    def of(cls, found: Iterable[CheckpointTuple]) -> "ForkSaver":
        """The last checkpoints of a run that was stored, its subgraphs' among them."""
        run = cls({})
        for one in found:
            namespace = one.config["configurable"].get("checkpoint_ns", "")
            run._tuples[namespace] = one
            run._writes[namespace] = {
                (task_id, WRITES_IDX_MAP.get(channel, index)): (task_id, channel, value)
                for index, (task_id, channel, value) in enumerate(one.pending_writes or ())
            }
            if namespace == "":
                run._head = one.checkpoint
        return run

    def __init__(self, values: Mapping[str, Any], run: "ForkSaver | None" = None) -> None:
        super().__init__()
        self._tuples: dict[str, CheckpointTuple] = {}
        self._writes: dict[str, dict[tuple[str, int], tuple[str, str, Any]]] = {}
        self._head = empty_checkpoint()
        if run is not None:
            self._tuples = dict(run._tuples)
            self._writes = {namespace: dict(writes) for namespace, writes in run._writes.items()}
            if (top := self._tuples.get("")) is not None:
                self._head = top.checkpoint
                self._tuples[""] = top._replace(checkpoint=_with_values(self._head, values))
        self._head = _with_values(self._head, values)

    def channel_value(self, name: str) -> Any:
        """What this channel of the graph held at the last checkpoint."""
        top = self._tuples.get("")
        return (top.checkpoint if top is not None else self._head)["channel_values"].get(name)

    def export(self) -> Iterator[tuple[CheckpointTuple, dict[str, list[tuple[str, Any]]]]]:
        """Each last checkpoint, the graph's own and its subgraphs', with task id -> what it wrote on top of it."""
        for namespace, found in self._tuples.items():
            writes: dict[str, list[tuple[str, Any]]] = {}
            for task_id, channel, value in self._writes[namespace].values():
                writes.setdefault(task_id, []).append((channel, value))
            yield found, writes

    def get_next_version(self, current: Any, channel: None) -> Any:
        # A run that was stored has the versions of the saver that it was stored in.
        return f"{int(current.split('.')[0]) + 1:032}.0" if isinstance(current, str) else (current or 0) + 1

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = config["configurable"]
        namespace = where.get("checkpoint_ns", "")
        if namespace not in self._tuples and namespace == "":
            self._put(where["thread_id"], "", self._head, {"source": "fork", "step": -1, "parents": {}}, None)
        if (found := self._tuples.get(namespace)) is None:
            return None
        # The run changes the dicts of its checkpoint; another fork of the same run begins where this one did.
        return found._replace(
            checkpoint=copy_checkpoint(found.checkpoint), pending_writes=list(self._writes[namespace].values())
        )

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
        self._tuples[namespace] = CheckpointTuple(config, checkpoint, metadata, parent)
        self._writes[namespace] = {}
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
        found = self._writes.get(config["configurable"].get("checkpoint_ns", ""))
        if found is None:
            return
        for index, (channel, value) in enumerate(writes):
            # As LangGraph's own savers: a special write (an interrupt, an answer to one) replaces the task's earlier
            # one, a plain write counts once.
            key = (task_id, WRITES_IDX_MAP.get(channel, index))
            if key[1] < 0 or key not in found:
                found[key] = (task_id, channel, value)

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


def _with_values(checkpoint: Checkpoint, values: Mapping[str, Any]) -> Checkpoint:
    versions = checkpoint["channel_versions"]
    first: Any = min(versions.values(), default=1)  # of the same type as the others: a saver's may be strings
    return {
        **checkpoint,
        "channel_values": {**checkpoint["channel_values"], **values},
        "channel_versions": {**dict.fromkeys(values, first), **versions},
    }
