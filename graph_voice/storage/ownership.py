"""Who writes a thread: whoever took it up last. LangGraph's checkpointers know no writers, so a thread's owner is a
checkpoint too: the newest one in a namespace of its own, which nothing else reads.
"""

import random
import uuid
from dataclasses import dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint

from graph_voice.errors import SaverError
from graph_voice.storage.checkpoints import either

__all__ = ["OWNER", "AskedOwner", "Claim", "NotClaimedError", "later_id", "owner_of", "put_claim", "take"]

OWNER = "graph_voice_owner"
"""The namespace of the claims, and the key in the metadata of each checkpoint that an owner writes: its claim."""
_TRIES = 5
_RANDOM = 1 << 48


class NotClaimedError(SaverError):
    """The saver answers, but takes no writes."""


@dataclass(frozen=True)
class Claim:
    """A thread that was taken up."""

    id: str
    """A later claim has a greater id. The owner's checkpoints have ids that count from it."""
    previous: str | None
    """The claim of the owner before."""


class AskedOwner:
    """The answer to a question that waits behind the writes of a thread."""

    claim: str | None = None
    """Of the owner; None until it is known, and when nobody has taken the thread up."""

    def allows(self, claim: str) -> bool:
        """Whether who holds this claim may write, as far as is known."""
        return self.claim is None or self.claim <= claim


async def take(saver: BaseCheckpointSaver[Any], thread_id: str) -> Claim:
    """Become the owner of a thread. What an earlier owner knows to be durable is stored already, so read it now.

    Raises what the saver raises when it can't be read, and `NotClaimedError` when it can't be written.
    """
    previous = await owner_of(saver, thread_id)
    newest = previous
    for _ in range(_TRIES):
        claim = later_id(newest)
        try:
            await put_claim(saver, thread_id, claim)
        except Exception as error:
            raise NotClaimedError(f"thread {thread_id!r} can be read, but not written: {error!r}") from error
        newest = await owner_of(saver, thread_id)
        if newest == claim:
            break
        previous = newest  # another one took it up in the same moment, and its clock is ahead
    return Claim(claim, previous)


async def put_claim(saver: BaseCheckpointSaver[Any], thread_id: str, claim: str) -> None:
    """Write a claim. It counts if no greater one is there."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = claim
    metadata = {"source": "update", "step": -1, "parents": {}}
    await either(saver.aput, saver.put, _where(thread_id), checkpoint, metadata, {})


async def owner_of(saver: BaseCheckpointSaver[Any], thread_id: str) -> str | None:
    """The claim of a thread's owner; None when nobody has taken it up."""
    found = await either(saver.aget_tuple, saver.get_tuple, _where(thread_id))
    return str(found.checkpoint["id"]) if found is not None else None


def later_id(*ids: str | None) -> str:
    """An id of the present time, and in any case later than these, and than those that count from them.

    LangGraph's ids begin with the time, and end at random. One that counts from another changes the lower half only.
    """
    now = uuid.UUID(empty_checkpoint()["id"]).int
    above = max((uuid.UUID(found).int + (1 << 80) for found in ids if found is not None), default=0)
    return str(uuid.UUID(int=max(now, above - above % _RANDOM + random.randrange(_RANDOM))))


def _where(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": OWNER}}
