"""Running the graph of one turn, and recording what its nodes wrote."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage, convert_to_messages
from langgraph.pregel import Pregel

from graph_voice import events
from graph_voice.memory import Call, Write, switch_key
from graph_voice.trace import Trace
from graph_voice.turn import Turn, current_turn

if TYPE_CHECKING:
    from graph_voice.conversation import Conversation

__all__ = ["run_turn"]


async def run_turn(turn: Turn, graph: Pregel[Any, Any, Any, Any], conversation: "Conversation[Any]") -> None:
    """Run the graph of this turn to its end. Errors become `Failed` events; a discard is a cancellation."""
    current_turn.set(turn)
    turn.trace = trace = await Trace.begin(turn, conversation)
    payload: dict[str, Any] = {}
    if turn.record.user is not None:
        payload["messages"] = [turn.record.user]
    if turn.entering:
        payload["chat_ctx"] = {**(conversation.state.get("chat_ctx") or {}), "entering": True}
    roles = conversation.roles
    foreign = bool(roles.foreign_speakers)
    modes: list[Any] = ["updates", "messages"] if foreign else ["updates"]
    try:
        async for part in graph.astream(
            payload,
            trace.config,
            context=conversation.context,
            stream_mode=modes,
            subgraphs=foreign,
            version="v2",
        ):
            if part["type"] == "messages":
                _foreign_words(turn, conversation, part)
            elif not part["ns"]:
                for node, update in part["data"].items():
                    _record(turn, conversation, node, update)
            if turn.interrupted and foreign:
                break
    except Exception as error:
        turn.failed(conversation.active_agent, error)


def _record(turn: Turn, conversation: "Conversation[Any]", node: str, update: Any) -> None:
    """One finished node: its writes, and its messages if nobody else has recorded them."""
    if node == "__interrupt__":
        for found in update:
            turn.emit(events.Interrupt(found.id, conversation.active_agent, found.value))
        return
    ours = conversation.roles.is_ours(node)
    for part in update if isinstance(update, list) else [update]:
        if not isinstance(part, Mapping):
            continue
        values = {k: v for k, v in part.items() if k != "messages"}
        if values:
            turn.wrote(Write(node, values, handoff=_handoff_key(values)))
        if "messages" not in part:
            continue
        if ours:
            _keep_additions(turn, part["messages"])
        else:
            _foreign_messages(turn, conversation, node, part["messages"])


def _handoff_key(values: Mapping[str, Any]) -> str | None:
    handoffs = values.get("handoffs")
    if not handoffs:
        return None
    last = handoffs[-1]
    return str(last["tool_call_id"] or switch_key(last["new_agent_id"]))


def _keep_additions(turn: Turn, messages: Any) -> None:
    """Messages that a tool added by `Command(update=...)`; those of the node itself are in the record already."""
    for message in messages if isinstance(messages, list) else [messages]:
        if isinstance(message, BaseMessage) and message.id is not None:
            if turn.record.spoken(message.id) is not None:
                continue
            if isinstance(message, ToolMessage) and turn.record.call(message.tool_call_id) is not None:
                continue
            if isinstance(message, AIMessage) and not message.tool_calls and not message.content:
                continue
        turn.record.raw([message], time.time())


def _foreign_words(turn: Turn, conversation: "Conversation[Any]", part: Any) -> None:
    """Words of a node that is not ours but declared to speak."""
    message, metadata = part["data"]
    node = part["ns"][0].partition(":")[0] if part["ns"] else metadata.get("langgraph_node", "")
    if node not in conversation.roles.foreign_speakers or not isinstance(message, AIMessage) or not message.id:
        return
    if (isinstance(message, AIMessageChunk) or turn.record.spoken(message.id) is None) and message.text:
        turn.say_text(node, message.id, message.text)


def _foreign_messages(turn: Turn, conversation: "Conversation[Any]", node: str, update: Any) -> None:
    """Messages of a node that is not ours. Its calls have run when it is done; speech still has to be heard."""
    speaks = node in conversation.roles.foreign_speakers
    raw = []
    for message in convert_to_messages(update if isinstance(update, list) else [update]):
        found = turn.record.call(message.tool_call_id) if isinstance(message, ToolMessage) else None
        if isinstance(message, ToolMessage) and found is not None:
            found[1].result, found[1].status = message, "done"
        elif isinstance(message, AIMessage) and message.id and (speaks or message.tool_calls):
            step = turn.record.step(node, message.id)
            step.message = message
            step.at = step.at or time.time()
            step.calls = {c["id"]: Call(c["id"], c["name"], "running") for c in message.tool_calls if c["id"]}
            if not speaks:
                step.words.produced = step.words.heard = message.text
            elif not step.words.produced and message.text:
                turn.say_text(node, message.id, message.text)
        else:
            raw.append(message)
    if raw:
        turn.record.raw(raw, time.time())
