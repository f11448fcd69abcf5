"""Speech of a node that is not an agent: any node speaks with `say`, as a tool does with `ctx.say`."""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.runtime import Runtime, get_runtime

from graph_voice.agents.run_context import new_id, running
from graph_voice.turn.nodes_side import current_turn

__all__ = ["say"]


async def say(text: str) -> AIMessage:
    """Speak a fixed line from any node, and wait until it was played (or interrupted) before going on.

    The active agent says it, and what was heard of it is remembered. To show it to models that are called later in the
    same turn, return it: `return {"messages": [await say("One moment.")]}`. A node that LangGraph's `RetryPolicy` runs
    again does not repeat it. Without a turn (LangGraph Studio,
    `ainvoke`), and in a graph that a tool runs, nobody listens: then `say` only makes the message.

    Args:
        text: the line. A node needs no `metadata={"speak": True}` for it.

    Returns the line as a message, with the id under which it is remembered.
    """
    ctx = running.get()
    if ctx is not None and not _in_another_graph(ctx.runtime):
        await ctx.say(text)
        return ctx.spoken[-1] if ctx.spoken else AIMessage(text, id=new_id("say"), name=ctx.agent)
    message_id, turn = new_id("say"), current_turn.get()
    if ctx is not None or turn is None:
        return AIMessage(text, id=message_id)
    agent = turn.speaker
    if (said := turn.said_before(_task(), text, message_id)) is not None:
        return AIMessage(text, id=said, name=agent)
    turn.line(agent, message_id, text)
    await turn.wait_heard(message_id)
    return AIMessage(text, id=message_id, name=agent)


def _task() -> tuple[str, int]:
    """The task of this node, and which attempt this is at it (LangGraph's `RetryPolicy`)."""
    where = get_runtime().execution_info
    return (where.checkpoint_ns, where.node_attempt) if where is not None else ("", 1)


def _in_another_graph(runtime: Runtime[Any]) -> bool:
    """Whether this is a node of a graph that the tool or hook with this runtime runs, which is its own graph."""
    try:
        here = get_runtime()
    except RuntimeError:
        return False  # called by hand, outside of a graph
    if here is None or here.execution_info is None or runtime.execution_info is None:
        return False
    return here.execution_info.checkpoint_ns != runtime.execution_info.checkpoint_ns
