"""A LangGraph server in this process, for `RemoteGraph(client=...)`: its threads, runs and states, all as JSON.

It says what the real server says, part by part (tests/studio/test_remote_graph.py compares them), and takes the loop's
time, so it runs on the virtual clock.
"""

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import GraphBubbleUp
from langgraph.graph import StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command
from langgraph_sdk.errors import NotFoundError
from langgraph_sdk.schema import StreamPart
from pydantic import BaseModel

__all__ = ["LocalServer"]


class LocalServer:
    """Serves one graph.

    Args:
        builder: the graph.
        pick_up: seconds until a run begins.
    """

    def __init__(self, builder: StateGraph[Any, Any, Any, Any], *, pick_up: float = 0.05) -> None:
        self.graph = builder.compile(checkpointer=InMemorySaver())
        self.pick_up = pick_up
        self.statuses: dict[str, str] = {}
        """Run -> "running", "success", "error" or "interrupted", in the order in which the runs began."""
        self.updates: list[Any] = []
        """What was written by `update_state`."""
        self._free: dict[str, asyncio.Lock] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self.runs = self.threads = self.assistants = self

    def remote(self) -> RemoteGraph:
        return RemoteGraph("graph", client=self)  # type: ignore[arg-type]

    def held(self, thread_id: str) -> list[tuple[str, str, str]]:
        """The messages of a thread: type, id and text."""
        values = self.graph.get_state({"configurable": {"thread_id": thread_id}}).values
        return [(m.type, str(m.id), m.text) for m in values.get("messages", [])]

    # ---- client.assistants

    async def get_graph(self, assistant_id: str, **_: Any) -> Any:
        return as_json(self.graph.get_graph().to_json())

    # ---- client.threads

    async def create(self, *, thread_id: str, **_: Any) -> None:
        self._free.setdefault(str(uuid.UUID(thread_id)), asyncio.Lock())

    async def get_state(self, thread_id: str, **_: Any) -> Any:
        if thread_id not in self._free:
            raise NotFoundError("no such thread", response=httpx.Response(404, request=_REQUEST), body=None)
        found = await self.graph.aget_state(self._config(thread_id))
        tasks = [{"interrupts": task.interrupts} for task in found.tasks]
        return as_json({"values": found.values, "next": list(found.next), "tasks": tasks})

    async def update_state(self, thread_id: str, values: Any, *, as_node: str | None = None, **_: Any) -> Any:
        values = as_json(values)
        assert not self._free[thread_id].locked(), "a thread is updated while a run changes it"
        await self.graph.aupdate_state(self._config(thread_id), values, as_node)
        self.updates.append(values)
        return {"checkpoint": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": ""}}

    # ---- client.runs

    async def stream(
        self,
        *,
        thread_id: str,
        input: Any,
        command: Any,
        stream_mode: list[str],
        on_disconnect: str,
        on_run_created: Any,
        stream_subgraphs: bool,
        **_: Any,
    ) -> AsyncIterator[StreamPart]:
        await self.create(thread_id=thread_id)
        run_id, parts = str(uuid.uuid4()), asyncio.Queue[StreamPart | None]()
        given = as_json(input)
        if command is not None:
            command = as_json(command)
            given = Command(resume=command["resume"], update=command["update"])
        self.statuses[run_id] = "running"
        modes = [mode.partition("-")[0] for mode in stream_mode]
        self._runs[run_id] = asyncio.create_task(
            self._run(run_id, thread_id, given, modes, parts, subgraphs=stream_subgraphs)
        )
        on_run_created({"run_id": run_id, "thread_id": thread_id})
        try:
            while (part := await parts.get()) is not None:
                yield part
        finally:
            if on_disconnect == "cancel":
                self._runs[run_id].cancel()

    async def cancel(self, thread_id: str, run_id: str, *, wait: bool) -> None:
        task = self._runs[run_id]
        if task.done():
            raise NotFoundError("it has ended", response=httpx.Response(404, request=_REQUEST), body=None)
        task.cancel()
        await asyncio.wait([task])

    async def _run(self, run_id: str, thread_id: str, given: Any, modes: Any, parts: Any, *, subgraphs: bool) -> None:
        try:
            async with self._free[thread_id]:
                await asyncio.sleep(self.pick_up)
                config = self._config(thread_id)
                async for part in self.graph.astream(
                    given, config, stream_mode=modes, subgraphs=subgraphs, version="v2", durability="sync"
                ):
                    parts.put_nowait(_sent(part))
            self.statuses[run_id] = "success"
        except asyncio.CancelledError:
            self.statuses[run_id] = "interrupted"
            raise
        except (Exception, GraphBubbleUp) as error:
            self.statuses[run_id] = "error"
            parts.put_nowait(StreamPart("error", {"error": type(error).__name__, "message": str(error)}))
        finally:
            parts.put_nowait(None)

    def _config(self, thread_id: str) -> Any:
        return {"configurable": {"thread_id": thread_id}}


_REQUEST = httpx.Request("GET", "http://server")


def _sent(part: Any) -> StreamPart:
    data, namespace = part["data"], part["ns"]
    if part["type"] == "messages":
        return StreamPart("messages", as_json(list(data)))  # the real server leaves the namespace out
    if part["type"] == "values":
        data = {**data, **({"__interrupt__": part["interrupts"]} if part["interrupts"] else {})}
    return StreamPart("|".join([part["type"], *namespace]), as_json(data))


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "value") and hasattr(value, "id"):
        return {"value": value.value, "id": value.id}
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple | set | frozenset) else str(value)
