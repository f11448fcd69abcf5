"""A graph that runs on a LangGraph server (`RemoteGraph`): one thread there per call, and one run at a time."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.errors import GraphDrained
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.runtime import RunControl
from langgraph.types import Command, Interrupt
from langgraph_sdk.errors import NotFoundError

from graph_voice.call.remote_values import interrupts_of, messages_of, part_of, reconciled, update_to
from graph_voice.errors import BuildError, TurnError

__all__ = ["RemoteRun", "RemoteThread", "stand_in", "thread_of"]

logger = logging.getLogger("graph_voice")

GRACE = 3.0
"""Seconds that the caller's next words wait for a tool of an interrupted run. Then the server cancels the tool."""


def stand_in(speak: Sequence[str], silent: Sequence[str]) -> Pregel[Any, Any, Any, Any]:
    """What is known here of a graph that runs elsewhere: the nodes that speak, and `messages`. It is never run.

    Raises `BuildError` if no node is named: only the server knows the others.
    """
    for what, names in (("speak", speak), ("silent", silent)):
        if isinstance(names, str):
            raise BuildError(f'{what}="{names}" is one string: write a list, {what}=["{names}"].')
    if not speak:
        raise BuildError('Nobody speaks in this remote graph. Name the nodes that do, speak=["model"].')
    builder = StateGraph(MessagesState)
    for name in dict.fromkeys([*speak, *silent]):
        builder.add_node(name, _elsewhere)
        builder.add_edge(START, name)
    return builder.compile()


async def _elsewhere(state: MessagesState) -> None:
    raise AssertionError("this node runs on its server")


def thread_of(thread_id: str) -> str:
    """The id of a call's thread: the call's own if it is a UUID, as a LangGraph server wants it, else made from it."""
    with suppress(ValueError):
        return str(uuid.UUID(thread_id))
    return str(uuid.uuid5(uuid.NAMESPACE_URL, thread_id))


class RemoteThread:
    """The thread of one call on a LangGraph server.

    The server runs one run of a thread at a time. Before each run the thread's messages are made those that are
    remembered, as heard, by the run's own input; after each turn, and at the end of the call, by `update_state`.

    Args:
        graph: the remote graph.
        thread_id: the call's name.
        speak: the nodes that speak.
        silent: other nodes that are named.
    """

    def __init__(self, graph: RemoteGraph, thread_id: str, speak: Sequence[str], silent: Sequence[str]) -> None:
        if graph.client is None:
            raise BuildError("RemoteGraph(...) has no async client: give it url=, or client=get_client(url=...).")
        self.id = thread_of(thread_id)
        self.graph = graph
        self.client = graph.client
        self.config: RunnableConfig = {"configurable": {"thread_id": self.id}}
        self.speak = tuple(speak)
        self.spoken: set[str | None] = set()
        """Ids of the messages that speaking nodes have written."""
        self.questions: tuple[Interrupt, ...] = ()
        """What the thread waits for, LangGraph's `interrupt()`."""
        self._named = {*speak, *silent}
        self._held: list[BaseMessage] | None = None
        """The thread's messages; None while they are not known."""
        self._stopped_at: tuple[str, ...] = ()
        """The nodes at which the last run has stopped."""
        self._checked = False
        self._free = asyncio.Lock()
        self._running: RemoteRun | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- the thread

    async def open(self) -> list[BaseMessage]:
        """Read what the thread holds. Raises `BuildError` for a node that the graph does not have."""
        if not self._checked:
            nodes = [name for name in (await self.graph.aget_graph()).nodes if not name.startswith("__")]
            if unknown := sorted(self._named - {*nodes}):
                raise BuildError(f"speak={unknown}: the remote graph's nodes are {', '.join(nodes)}.")
            self._checked = True
        return await self._read() if self._held is None else self._held

    async def _read(self) -> list[BaseMessage]:
        try:
            found = await self.client.threads.get_state(self.id)
        except NotFoundError:
            self._held, self.questions, self._stopped_at = [], (), ()
            return self._held
        values = found["values"]
        self._held = messages_of(values.get("messages") or []) if isinstance(values, dict) else []
        self.questions = tuple(one for task in found["tasks"] for one in interrupts_of(task["interrupts"]))
        self._stopped_at = tuple(found["next"] or ())
        return self._held

    def update(self, remembered: Sequence[AnyMessage]) -> list[dict[str, Any]]:
        """What makes the thread's messages those that are remembered."""
        held = self._held or []
        return [as_json(message) for message in update_to(held, reconciled(held, remembered, self.spoken))]

    def changed(self, remembered: Sequence[AnyMessage]) -> list[dict[str, Any]]:
        """Those of the thread's messages that are remembered otherwise."""
        held = self._held or []
        there = {message.id for message in held}
        return [as_json(m) for m in update_to(held, [m for m in remembered if m.id in there]) if m.id in there]

    def reconcile(self, remembered: Callable[[], Sequence[AnyMessage]]) -> None:
        """Make the thread's messages those that are remembered, behind the run that is going on."""
        self._behind(self._reconcile(remembered))

    async def _reconcile(self, remembered: Callable[[], Sequence[AnyMessage]]) -> None:
        async with self._free:
            await self._write(remembered())

    async def _write(self, remembered: Sequence[AnyMessage]) -> None:
        if self._held is None or self.questions:
            return  # an update would take the question away; the run that answers it brings what has changed
        if not (update := self.update(remembered)):
            return
        try:
            await self._update_state(update)
        except Exception as error:
            logger.warning(f"the thread {self.id} holds what was not heard until its next run: {error}")
        self._held = None

    async def _update_state(self, update: Sequence[dict[str, Any]]) -> None:
        """LangGraph's `update_state`. It goes on behind the node that an update is written as, and a graph's edges may
        refuse that: so it is tried as each node that may have written it."""
        await self.client.threads.create(thread_id=self.id, if_exists="do_nothing")
        nodes = list(dict.fromkeys([*self._stopped_at, *self.speak]))
        for node in nodes:
            try:
                await self.graph.aupdate_state(self.config, {"messages": list(update)}, as_node=node)
                return
            except Exception:
                if node == nodes[-1]:
                    raise

    async def aclose(self, remembered: Sequence[AnyMessage], timeout: float | None) -> None:
        """The call is over: end what still runs, and leave the thread as it is remembered."""
        if self._running is not None:
            self._running.stop()
        try:
            async with asyncio.timeout(timeout):
                while self._tasks:
                    await asyncio.wait([*self._tasks])
                async with self._free:
                    if self._checked:
                        await self.open()
                        await self._write(remembered)
        except Exception as error:
            logger.warning(f"the thread {self.id} may hold what was not heard: {error!r}")

    def _behind(self, work: Any) -> None:
        self._tasks.add(task := asyncio.create_task(work, name="graph_voice.remote"))
        task.add_done_callback(self._tasks.discard)

    # ---- its runs

    async def begin(self, run: "RemoteRun") -> None:
        """Wait until the run before has ended on the server."""
        while True:
            try:
                async with asyncio.timeout(GRACE):
                    await self._free.acquire()
                    break
            except TimeoutError:
                if self._running is not None and self._running.draining:
                    self._running.stop()
        self._running = run
        await self.open()

    def end(self, run: "RemoteRun") -> None:
        """The run is over here: end it on the server too, then let others begin."""
        if self._running is run:
            self._running = None
            self._behind(self._end(run))

    async def _end(self, run: "RemoteRun") -> None:
        try:
            if run.complete:
                self._held, self.questions, self._stopped_at = run.messages, run.questions, run.last
            else:
                self._held = None
                if run.begun:
                    await run.cancel()
                    await self._read()
        except Exception as error:
            logger.warning(f"the remote run of thread {self.id} may go on: {error!r}")
        finally:
            self._free.release()


class RemoteRun:
    """One run on the server: streamed as a local graph streams it.

    Args:
        thread: where it runs.
        remembered: returns the messages with which it begins, without those of its input: the run before it may still
            change them.
    """

    def __init__(self, thread: RemoteThread, remembered: Callable[[], Sequence[AnyMessage]]) -> None:
        self._thread = thread
        self._remembered = remembered
        self._parts: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._control: RunControl | None = None
        self._run_id: str | None = None
        self.complete = False
        """Whether the server has ended it."""
        self.messages: list[BaseMessage] = []
        """The thread's messages after its last step."""
        self.questions: tuple[Interrupt, ...] = ()
        """What it waits for."""
        self.last: tuple[str, ...] = ()
        """The node that has ended last."""

    @property
    def draining(self) -> bool:
        """Whether it was asked to go no further."""
        return self._control is not None and self._control.drain_requested

    @property
    def begun(self) -> bool:
        """Whether the server was asked for it."""
        return self._reader is not None

    def stop(self) -> None:
        """End it now, whatever it does."""
        if self._reader is not None:
            self._reader.cancel()

    def over(self) -> None:
        """Nobody reads it any more."""
        self.stop()
        self._thread.end(self)

    async def astream(
        self, payload: Any, config: RunnableConfig, *, control: RunControl, **options: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """LangGraph's `astream`. Asked to go no further, it ends with the step that is running."""
        self._control = control
        await self._thread.begin(self)
        config = merge_configs({**config, "callbacks": None}, self._thread.config)
        self._reader = asyncio.create_task(self._read(self._input(payload), config, options))
        while (part := await self._parts.get()) is not None:
            yield part
            if part["type"] == "values" and not part["ns"] and control.drain_requested:
                raise GraphDrained(control.drain_reason or "")
        if self._error is not None:
            raise self._error
        if not self.complete:
            raise GraphDrained("the run was stopped")

    def _input(self, payload: Any) -> Any:
        if isinstance(payload, Command):
            # Of a batch of tool calls that waits, the results must stand behind it: nothing new may come between.
            changed = self._thread.changed(self._remembered())
            return Command(resume=payload.resume, update={"messages": changed} if changed else None)
        update = self._thread.update(self._remembered())
        if self._thread.questions:
            raise TurnError(
                "The remote graph waits for an answer (interrupt()), and a thread has one run at a time: nothing else "
                "can be asked of it before the caller has answered."
            )
        return {"messages": [*update, *map(as_json, payload.get("messages", ()))]}

    async def _read(self, payload: Any, config: RunnableConfig, options: Mapping[str, Any]) -> None:
        try:
            async for part in self._thread.graph.astream(
                payload,
                config,
                context=options.get("context"),
                stream_mode=options["stream_mode"],
                subgraphs=options["subgraphs"],
                version="v2",
                on_disconnect="cancel",
                on_run_created=self._created,
            ):
                found = part_of(part)
                self._see(found)
                self._parts.put_nowait(found)
            self.complete = True
        except Exception as error:
            self._error = error
        finally:
            self._parts.put_nowait(None)

    def _created(self, run: Any) -> None:
        self._run_id = run["run_id"]

    def _see(self, part: Mapping[str, Any]) -> None:
        """Note what the thread holds, and who has written it."""
        data = part["data"]
        if part["type"] == "messages":
            root = part["ns"][0].partition(":")[0] if part["ns"] else data[1].get("langgraph_node")
            if root in self._thread.speak and isinstance(data[0], AIMessage):
                self._thread.spoken.add(data[0].id)
        elif part["ns"]:
            return
        elif part["type"] == "values":
            self.messages = list(data.get("messages") or [])
        elif part["type"] == "updates":
            for node, update in data.items():
                if node == "__interrupt__":
                    self.questions = (*self.questions, *update)
                elif not node.startswith("__"):
                    self.last = (node,)
                    self._wrote(node, update)

    def _wrote(self, node: str, update: Any) -> None:
        for one in update if isinstance(update, list) else [update]:
            if node in self._thread.speak and isinstance(one, Mapping):
                found = (m for m in one.get("messages") or () if isinstance(m, AIMessage))
                self._thread.spoken.update(message.id for message in found)

    async def cancel(self) -> None:
        """Cancel it on the server, and wait until it has stopped there."""
        if self._reader is not None:
            await asyncio.wait([self._reader])
        if self._run_id is not None:
            with suppress(NotFoundError):  # it has ended meanwhile
                await self._thread.client.runs.cancel(self._thread.id, self._run_id, wait=True)


def as_json(message: BaseMessage) -> dict[str, Any]:
    """A message as the server takes it."""
    return message.model_dump(mode="json", exclude_none=True, fallback=str)
