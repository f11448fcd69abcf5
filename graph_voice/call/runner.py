"""Run the graph of one turn, and record what its nodes write."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

from langchain_core.messages import BaseMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl
from langgraph.types import Interrupt

from graph_voice.agents.handoff import handoff_record
from graph_voice.call.custom_nodes import CustomNodes
from graph_voice.call.durable import UNKNOWN
from graph_voice.call.retold import Attempts
from graph_voice.call.state import CallState
from graph_voice.messages.pairs import waits_for_task
from graph_voice.storage.run_saver import RunSaver
from graph_voice.turn.answer import answer
from graph_voice.turn.gate import AnsweredAlready
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.nodes_side import NodesSide
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import CONTROL, Write

__all__ = ["Runner"]

logger = logging.getLogger("graph_voice")


class Streams(Protocol):
    """What the nodes run in: a compiled graph, or one run of a graph on a server."""

    @property
    def astream(self) -> Callable[..., AsyncIterator[Any]]: ...


class Silence(RuntimeError):
    """A graph ended, and nothing was said."""


class Runner:
    """One graph run of one turn, on a fork of the state."""

    def __init__(self, turn: NodesSide, call: CallState[Any], saver: RunSaver) -> None:
        self._turn = turn
        self._roles = call.roles
        self._call = call
        self._saver = saver
        self._speaks = bool(self._roles.custom_speakers)
        self._attempts: Attempts | None = None
        self._interrupts: dict[str, Interrupt] = {}
        self._last_node: str | None = None
        self._resumed = turn.run.resumes
        """The run that this turn's words answer; None when another turn has answered it."""
        self._custom = None if self._roles.all_library else self._follow_custom(turn, call)
        self._ended = 0
        """How many steps have ended; one more than those of this run, since it begins with what it was given."""

    def _follow_custom(self, turn: NodesSide, call: CallState[Any]) -> CustomNodes:
        known: dict[Any, BaseMessage] = {m.id: m for m in call.state["messages"]}
        if turn.record.user is not None:
            known[turn.record.user.id] = turn.record.user
        self._attempts = Attempts() if self._roles.retries else None
        return CustomNodes(turn, self._roles, known, self._attempts, call.thinkers)

    async def run(self, graph: Streams, payload: Any, config: RunnableConfig) -> None:
        """Run the graph to its end. Errors become `Failed` events and an apology; `discard` cancels it."""
        turn = self._turn
        try:
            control = turn.control = RunControl()
            turn.run.interruption.on_rejected = lambda: control.request_drain("the handoff did not happen")
            if self._custom is None:
                await self._stream(graph, payload, config, control)
            else:
                with self._custom.stoppable(control) if self._speaks else nullcontext():
                    await self._stream(graph, payload, config, control)
                self._custom.over()
            self._ask()
            if not self._answered():
                raise Silence(f"the graph ended, and nothing was said (last node: {self._last_node})")
        except GraphDrained:
            pass  # an interruption: the running step has ended
        except AnsweredAlready:
            self._resumed = None
            raise
        except Exception as error:
            turn.apologize(self._named(self._custom.failed if self._custom is not None else None), error)
        finally:
            self._end_custom()
            self._end_earlier_calls()
            self._end_calls()
            turn.run.interruption.on_stop = turn.run.interruption.on_rejected = None

    async def _stream(self, graph: Streams, payload: Any, config: RunnableConfig, control: RunControl) -> None:
        modes: list[Any] = ["updates", "custom"]
        if self._custom is not None:
            modes += ["values", "tasks", *(["messages"] if self._speaks else [])]
        if self._attempts is not None:
            config = merge_configs(config, {"callbacks": [self._attempts]})
        async for part in graph.astream(
            payload,
            config,
            context=self._call.context,
            stream_mode=modes,
            subgraphs=self._speaks,
            control=control,
            version="v2",
        ):
            if part["type"] == "custom":
                self._turn.custom(part["data"], node=self._writing(part["ns"]))
            elif part["ns"] or part["type"] in ("messages", "tasks"):
                # What a subgraph's nodes write comes as one update of its node, at its end.
                if self._custom is not None and part["type"] != "values":
                    self._custom.follow(part)
            elif part["type"] == "updates":
                self._updated(part["data"])
            elif part["type"] == "values" and self._custom is not None and not part["interrupts"]:
                self._ended += 1
                self._custom.became(_messages_of(part["data"]))

    def _writing(self, where: Sequence[str]) -> str:
        """The node that has written custom data; "" if several may have."""
        if where:
            return where[0].partition(":")[0]
        return self._turn.speaker if self._custom is None else self._custom.running

    def _updated(self, data: Mapping[str, Any]) -> None:
        cached = bool(data.get("__metadata__", {}).get("cached"))
        if cached and self._resumed is not None and self._ended < 2:
            return  # what the run had finished before it waited comes again, and is recorded already
        for node, update in data.items():
            if node != "__metadata__":
                self._record(node, update, cached=cached)
        self._turn.store_results()

    def _record(self, node: str, update: Any, *, cached: bool = False) -> None:
        """Record a finished node: what it has written, and what a custom node has said."""
        if node == "__interrupt__":
            self._interrupts.update((found.id, found) for found in update)
            return
        self._last_node = node
        parts = [p for p in (update if isinstance(update, list) else [update]) if isinstance(p, Mapping)]
        for part in _with_whole_handoff(parts):
            values = {k: v for k, v in part.items() if k != "messages"}
            handoff = self._handoff(node, values)
            if values:
                self._turn.wrote(Write(node, values, handoff, self._roles.agent_of(node)))
            if "messages" not in part or self._custom is None:
                continue
            if self._roles.is_library(node):
                self._custom.library_wrote(node)  # it has told the turn what it said and did
            else:
                self._custom.messages(node, part["messages"], cached=cached)

    def _handoff(self, node: str, values: dict[str, Any]) -> HandoffInProgress | None:
        """The handoff that this update carries out. One that a custom node makes by itself is announced here."""
        new = values.get("active_agent")
        if not values.get("handoffs"):
            if (
                self._roles.is_library(node)
                or new not in self._roles.agents | self._roles.external
                or new == self._speaker
            ):
                return None
            values["handoffs"] = [handoff_record(self._speaker, str(new), None)]
        record = values["handoffs"][-1]
        if not self._roles.is_library(node) and record["new_agent_id"] not in self._roles.agents | self._roles.external:
            return None  # between the agents of a graph inside this one
        handoff = self._turn.record.handoffs.to_write(record["tool_call_id"], record["new_agent_id"])
        if handoff is None and self._roles.is_library(node):
            del values["handoffs"]  # told already: the graph came to this agent by an edge
        elif handoff is None:
            handoff = self._turn.handed_off(None, record["old_agent_id"] or "", record["new_agent_id"])
        return handoff

    def _ask(self) -> None:
        """Ask the first question of LangGraph's `interrupt()`; the others come after its answer."""
        if not self._interrupts:
            self._ask_earlier()
            return
        turn, resumed = self._turn, self._turn.run.resumes
        asking = next((s for s in reversed(list(turn.record.steps())) if _waits(s)), None)
        asked_by: str | None
        if asking is not None:
            calls, asked_by = dict(asking.calls), asking.words.id
        elif resumed is not None:
            calls, asked_by = dict(resumed.calls), resumed.asking
        else:
            calls, asked_by = {}, None
        open_already = any(pending.asked for pending in self._call.all_waiting(but=turn.run))
        interrupts = tuple(self._interrupts.values())
        shown = self._custom.shown if self._custom is not None else {}
        turn.run.pending = Pending(interrupts, self._saver, calls, asked_by, asked=not open_already, shown=shown)
        if open_already:
            return
        first = interrupts[0]
        node = self._custom.asking.get(first.id) if self._custom is not None else None
        agent = asking.agent if asking is not None else self._named(node)
        turn.asked(agent, first.id, first.value, asking.words.id if asking is not None else None)

    def _ask_earlier(self) -> None:
        """Ask a question that came while another was open, now that none is open any more."""
        turn = self._turn
        earlier = self._call.all_waiting(but=turn.run)
        if not earlier or any(pending.asked for pending in earlier) or turn.interrupted or turn.run.call_ends:
            return
        turn.run.asks_for = earlier[0]
        first = earlier[0].interrupts[0]
        turn.asked(self._speaker, first.id, first.value, None)

    def _answered(self) -> bool:
        turn = self._turn
        if turn.interrupted or turn.run.pending is not None or self._roles.is_library(self._last_node or ""):
            return True  # library nodes are silent only where they may be
        if self._roles.may_be_silent(self._last_node or ""):
            return True
        return any(words.produced.strip() for step in turn.record.steps() for words in (step.words, *step.lines))

    def _end_custom(self) -> None:
        """Record what custom nodes have written in a step that has not ended."""
        if self._custom is None:
            return
        try:
            self._custom.over()
        except Exception:
            logger.exception("what the last step wrote to `messages` is not remembered")

    def _end_earlier_calls(self) -> None:
        """Decide about the tool calls of the run that this turn's words have resumed."""
        turn, resumed = self._turn, self._resumed
        if resumed is None or turn.run.pending is not None or not turn.run.state.happened:
            return
        if turn.interrupted and self._last_node is None:
            turn.run.answers_nothing()  # nothing of it has run: the question is still open
            return
        results = {m.tool_call_id: m for m in self._call.messages if isinstance(m, ToolMessage)}
        for call in resumed.calls.values():
            found = results.get(call.id)
            if found is not None and found.additional_kwargs.get("placeholder") and not waits_for_task(found):
                turn.remember([answer(call.id, call.name, UNKNOWN, is_error=True)])

    def _end_calls(self) -> None:
        """End the tool calls that were running when the run broke off, since no result will come."""
        turn = self._turn
        if turn.run.pending is not None:
            return
        for step in turn.record.steps():
            for call in step.calls.values():
                if call.open and not self._roles.is_library(step.agent) and self._call.remote is None:
                    call.status = "refused"  # the node that would have run it never started
                elif call.open:
                    call.result = answer(call.id, call.name, UNKNOWN, is_error=True)

    def _named(self, node: str | None) -> str:
        """Who speaks for this node: itself, if it may, else the active agent."""
        return node if node in self._roles.custom_speakers else self._speaker

    @property
    def _speaker(self) -> str:
        return self._turn.speaker


def _with_whole_handoff(parts: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The update of a node, with its handoff as one part.

    When a node has written a channel twice, LangGraph gives its update channel by channel. A handoff is the last thing
    that a node writes: the last value of each of a handoff's channels belongs to it.
    """
    if len(parts) < 2 or not any("handoffs" in part for part in parts):
        return parts
    handoff: dict[str, Any] = {}
    others: list[Mapping[str, Any]] = []
    for part in reversed(parts):
        of_handoff = {k: v for k, v in part.items() if k in CONTROL and k not in handoff}
        handoff |= of_handoff
        if rest := {k: v for k, v in part.items() if k not in of_handoff}:
            others.append(rest)
    return [*reversed(others), handoff]


def _messages_of(state: Any) -> Sequence[Any]:
    found = state.get("messages") if isinstance(state, Mapping) else getattr(state, "messages", None)
    return found or ()


def _waits(step: Any) -> bool:
    return any(call.open for call in step.calls.values())
