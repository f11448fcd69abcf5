"""A run's own checkpointer: it starts from the live state of the call and is discarded with the turn.

LangGraph runs a graph from a checkpoint. This one is made from the state in memory, without serializing anything. So a
speculative run is a fork that costs almost nothing, and a discarded run leaves nothing behind.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import DeltaChannel
from langgraph.channels.base import BaseChannel
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    copy_checkpoint,
    empty_checkpoint,
)

from graph_voice.storage.checkpoints import Kept, Lineage, place

__all__ = ["RunSaver", "stored"]


def stored(channel: BaseChannel[Any, Any, Any]) -> Any:
    """A channel's value as a checkpoint holds it."""
    # A DeltaChannel's checkpoint is a marker to replay older checkpoints, which a fork does not have.
    return channel.get() if isinstance(channel, DeltaChannel) else channel.checkpoint()


class RunSaver(BaseCheckpointSaver[Any]):
    """Holds the last checkpoint of one run, and of each of its subgraphs, in memory.

    Args:
        values: what the channels hold when the run starts, as `stored` gives it.
        run: a run that waits in `interrupt()`, to be resumed where it stopped, with these values. It is not changed.
    """

    @classmethod
    def of(cls, found: Iterable[CheckpointTuple]) -> "RunSaver":
        """From the last checkpoints of a stored run, including those of its subgraphs."""
        run = cls({})
        run._kept = {one.config["configurable"].get("checkpoint_ns", ""): Kept(one) for one in found}
        return run

    def __init__(self, values: Mapping[str, Any], run: "RunSaver | None" = None) -> None:
        super().__init__()
        self._kept: dict[str, Kept] = {}
        self._history: dict[str, dict[str, DeltaChannelHistory]] = {}
        """Subgraph -> delta channel -> how to rebuild it, since the run keeps no older checkpoint."""
        self._values = dict(values)
        if run is not None:
            self._values = {**run._values, **values}
            self._kept = {namespace: kept.copy() for namespace, kept in run._kept.items()}
            self._history = {namespace: dict(history) for namespace, history in run._history.items()}
            if (top := self._kept.get("")) is not None:
                top.replace(_with_values(top.tuple().checkpoint, values))
                self._history[""] = {k: h for k, h in self._history.get("", {}).items() if k not in values}

    def channel_value(self, channel: BaseChannel[Any, Any, Any]) -> Any:
        """The value of this channel of the graph at the last checkpoint; None if it had none."""
        top = self._kept.get("")
        values = top.values if top is not None else self._values
        history = self._history.get("", {}).get(channel.key)
        if channel.key in values or history is None or not isinstance(channel, DeltaChannel):
            return values.get(channel.key)
        made = channel.from_checkpoint(history["seed"]) if "seed" in history else channel.copy()
        made.replay_writes(history["writes"])
        return made.get() if made.is_available() else None

    def waiting_ids(self, channel: BaseChannel[Any, Any, Any]) -> Iterator[str]:
        """The ids of the messages that finished tasks have written to this channel, and that no checkpoint has yet."""
        top = self._kept.get("")
        for _, name, value in top.writes() if top is not None else ():
            for item in (value if isinstance(value, list) else [value]) if name == channel.key else ():
                if isinstance(item, BaseMessage) and item.id is not None:
                    yield item.id

    def export(self) -> Iterator[tuple[CheckpointTuple, dict[str, list[tuple[str, Any]]]]]:
        """Each last checkpoint, the graph's own and its subgraphs', with task id -> what it wrote on top of it."""
        for kept in self._kept.values():
            writes: dict[str, list[tuple[str, Any]]] = {}
            for task_id, channel, value in kept.writes():
                writes.setdefault(task_id, []).append((channel, value))
            yield kept.tuple(), writes

    def get_next_version(self, current: Any, channel: None) -> Any:
        # A stored run has the version format of the saver that stored it.
        return f"{int(current.split('.')[0]) + 1:032}.0" if isinstance(current, str) else (current or 0) + 1

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        where = config["configurable"]
        namespace = where.get("checkpoint_ns", "")
        if namespace not in self._kept and namespace == "":
            head = _with_values(empty_checkpoint(), self._values)
            self._put(where["thread_id"], "", head, {"source": "fork", "step": -1, "parents": {}}, None)
        kept = self._kept.get(namespace)
        return kept.tuple() if kept is not None else None

    def _put(
        self,
        thread_id: str,
        namespace: str,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        parent: RunnableConfig | None,
    ) -> RunnableConfig:
        config = place(Lineage(thread_id, namespace), checkpoint["id"])
        if (before := self._kept.get(namespace)) is not None:
            self._keep_history(namespace, before, checkpoint["channel_values"])
        # The run keeps changing its own dicts (`versions_seen`); another fork must start from this checkpoint.
        self._kept[namespace] = Kept(CheckpointTuple(config, copy_checkpoint(checkpoint), metadata, parent))
        return config

    def _keep_history(self, namespace: str, before: Kept, values: Mapping[str, Any]) -> None:
        history = self._history.setdefault(namespace, {})
        for name in [name for name in before.values if name not in values]:
            history[name] = {"seed": before.values[name], "writes": []}
        for write in before.writes():
            if write[1] not in values:
                known = history.get(write[1], {"writes": []})
                # Not in place: a fork of a waiting run shares this list.
                history[write[1]] = {**known, "writes": [*known["writes"], write]}

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        history = self._history.get(config["configurable"].get("checkpoint_ns", ""), {})
        return {name: history.get(name, {"writes": []}) for name in channels}

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        return self.get_delta_channel_history(config=config, channels=channels)

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
        if (kept := self._kept.get(config["configurable"].get("checkpoint_ns", ""))) is not None:
            kept.add(writes, task_id, task_path)

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
        for kept in list(self._kept.values()):
            yield kept.tuple()


def _with_values(checkpoint: Checkpoint, values: Mapping[str, Any]) -> Checkpoint:
    versions = checkpoint["channel_versions"]
    first: Any = min(versions.values(), default=1)  # the same type as the others: a saver's may be strings
    return {
        **checkpoint,
        "channel_values": {**checkpoint["channel_values"], **values},
        "channel_versions": {**dict.fromkeys(values, first), **versions},
    }
