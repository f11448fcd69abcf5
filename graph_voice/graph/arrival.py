"""Arriving at an agent by an edge: the active agent changes, and no tool call carries the handoff out.

The edge is the user's own, or a declared handoff leads along it: through custom nodes, or out of an `on_enter`. The
policy of a declared handoff says what the new agent is shown.
"""

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import Runtime

from graph_voice.agents.agent import Agent
from graph_voice.agents.handoff import Handoff, Reply, handoff_record
from graph_voice.errors import HandoffError
from graph_voice.graph.agent_runtime import AgentRuntime, Settings
from graph_voice.graph.frames import abandon
from graph_voice.graph.handoff_arguments import kept_arguments, typed_arguments, words_of
from graph_voice.history import from_dict
from graph_voice.history.context import carry, resolve, view
from graph_voice.turn.handoff import HandoffInProgress
from graph_voice.turn.nodes_side import NodesSide, turn_of
from graph_voice.turn.record import Write
from graph_voice.userdata.working_copy import WorkingCopy

__all__ = ["WAY", "Arrival", "ExternalNode", "arrive", "from_plain", "leave", "plain", "shown_outside"]

logger = logging.getLogger("graph_voice")

WAY = "way"
"""In `chat_ctx`: the declared handoff that is on its way to an agent, as plain data."""


@dataclass
class Arrival:
    """What the agent's node writes because the graph has come to it."""

    update: dict[str, Any]
    work: WorkingCopy | None = None
    """The userdata that the old agent's `on_exit` has changed."""


async def arrive(
    state: Mapping[str, Any],
    config: RunnableConfig,
    runtime: Runtime[Any],
    turn: NodesSide | None,
    name: str,
    settings: Settings,
    *,
    external: bool = False,
) -> Arrival | None:
    """What changes when the graph has come to `name` while another agent is active; nothing when none is.

    The old agent's `on_exit` acts, so it waits until the active agent has really changed. Returns None when it has not.
    """
    old = state.get("active_agent") or None
    ctx: dict[str, Any] = state.get("chat_ctx") or {}
    way = ctx.get(WAY)
    before = {**state, "chat_ctx": {k: v for k, v in ctx.items() if k != WAY}}
    if old == name:
        return Arrival({} if way is None else {"chat_ctx": before["chat_ctx"]})
    if old is None or old not in settings.agents:
        return Arrival({"active_agent": name})
    messages: list[AnyMessage] = state.get("messages") or []
    leaving = settings.runtimes.get(old)
    handoff: Handoff | None = None
    if leaving is not None and way is not None and way["to"] in leaving.agent.ways:
        handoff = from_plain(way, leaving.agent, settings.secrets)
    taken = {} if handoff is None else kept_arguments(handoff, settings.secrets)
    # As fresh() does, but with the words that the edge was taken for.
    start = next((i for i in range(len(messages) - 1, -1, -1) if isinstance(messages[i], HumanMessage)), 0)
    shown = carry([], messages[:start])
    if handoff is not None and leaving is not None and external:
        shown = await _shown(before, handoff, name, leaving, config)
    announced: HandoffInProgress | None = None
    if turn is not None:
        told = shown_outside({"messages": messages, "chat_ctx": shown}, taken) if external else ()
        policy = handoff.on_interruption if handoff is not None else "cancel"
        announced = turn.handed_off(None, old, name, told, policy, arguments=taken.get("arguments"))
    work = WorkingCopy(before)
    if leaving is not None and leaving.agent.on_exit is not None:
        if turn is not None and not await turn.record.handoffs.decided():
            return None
        await leave(leaving, before, config, runtime, turn, work)
    if handoff is not None and leaving is not None and not external:
        shown = await _shown({**before, "userdata": work.current}, handoff, name, leaving, config)
    if waiting := ctx.get("pending"):
        shown["pending"] = waiting  # what a node on the way here returned is for the agent that comes now
    update: dict[str, Any] = {
        "active_agent": name,
        "handoffs": [handoff_record(old, name, None, taken)],
        "chat_ctx": shown if external else {**shown, "entering": True},
        "contexts": {old: carry(view(before), messages)},
    }
    if (left := abandon(state)) is not None:
        update["stack"] = left
    if changes := work.changes():
        update["userdata"] = changes
    if turn is not None and announced is not None:
        # Now, not when the node is over: what the new agent says in its `on_enter` may have to wait for its turn to be
        # heard, and whoever answers the caller meanwhile waits for the handoff.
        turn.wrote(Write(name, dict(update), announced, name if not external else None))
    return Arrival(update, work)


async def _shown(
    state: Mapping[str, Any], handoff: Handoff, name: str, leaving: AgentRuntime, config: RunnableConfig
) -> dict[str, Any]:
    """What the policy of a declared handoff shows the agent that it has come to."""
    ctx = {k: v for k, v in (state.get("chat_ctx") or {}).items() if k != "pending"}
    found = await resolve(
        {**state, "chat_ctx": ctx}, model=lambda: leaving.model(config), operation=handoff.history, agent=name
    )
    return {k: v for k, v in (found or {}).items() if k != "resolved"}


async def leave(
    leaving: AgentRuntime,
    state: Mapping[str, Any],
    config: RunnableConfig,
    runtime: Runtime[Any],
    turn: NodesSide | None,
    work: WorkingCopy,
) -> None:
    """An agent's `on_exit`. The active agent has changed already, so a failure is logged and undoes nothing."""
    name = leaving.agent.name
    ctx = leaving.context(state, config, runtime, turn, userdata=work.value)
    try:
        await leaving.run_hook(leaving.agent.on_exit, ctx)
        if ctx.requested is not None:
            raise HandoffError(f"on_exit can't hand off to {ctx.requested.to!r}: another agent is active already.")
    except GraphBubbleUp:
        raise
    except Exception:
        logger.exception("agent %s: on_exit failed", name)
    if (wrong := work.undo_invalid()) is not None:
        logger.error("agent %s: on_exit set invalid userdata, which is not stored: %s", name, wrong)


def shown_outside(state: Mapping[str, Any], taken: dict[str, Any]) -> list[AnyMessage]:
    """What a handoff shows an external agent of the conversation, and what it takes along."""
    return [*view(state), *([SystemMessage(words_of(taken), id=f"arguments-{uuid.uuid4().hex[:12]}")] if taken else [])]


def plain(request: Handoff, agent: Agent, userdata: Any, secrets: SerializerProtocol | None) -> dict[str, Any]:
    """A handoff of this agent as a checkpoint keeps it. A line that is a function is said as of now."""
    kept: dict[str, Any] = {"to": request.to, "result": request.result, "history": request.history.to_dict()}
    kept |= {"on_interruption": request.on_interruption, **kept_arguments(request, secrets)}
    if request.say is not agent.ways[request.to].say:
        line = request.say(userdata) if callable(request.say) else request.say
        kept["say"] = {"instructions": line.instructions} if isinstance(line, Reply) else line
    return kept


def from_plain(kept: Mapping[str, Any], agent: Agent, secrets: SerializerProtocol | None) -> Handoff:
    """The handoff that `plain` made this of."""
    declared = agent.ways[kept["to"]]
    say = kept.get("say", declared.say)
    kind = agent.argument_types.get(kept.get("arguments_type", ""))
    return replace(
        declared,
        arguments=kind,
        given=None if kind is None else typed_arguments(kept, kind, secrets),
        result=kept["result"],
        history=from_dict(kept["history"]),
        on_interruption=kept["on_interruption"],
        say=Reply(say["instructions"]) if isinstance(say, dict) else say,
    )


class ExternalNode:
    """The node of an external agent. The graph's part of the call ends here until the front end hands back."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, Any]:
        """The node: makes the agent active when an edge leads here. After a handoff by a tool it is active already."""
        turn = turn_of(runtime)
        if turn is not None and turn.interrupted:
            return {}
        arrived = await arrive(state, config, runtime, turn, self.name, self._settings, external=True)
        return arrived.update if arrived is not None else {}
