"""Speech of a node that is not an agent: any node speaks with `say`, as a tool does with `ctx.say`."""

from langchain_core.messages import AIMessage

from graph_voice.agents.run_context import new_id, running
from graph_voice.turn.nodes_side import current_turn

__all__ = ["say"]


async def say(text: str) -> AIMessage:
    """Speak a fixed line from any node, and wait until it was played (or interrupted) before going on.

    The active agent says it, and what was heard of it is remembered. To show it to models that are called later in the
    same turn, return it: `return {"messages": [await say("One moment.")]}`. Without a turn (LangGraph Studio,
    `ainvoke`) nobody listens: then `say` only makes the message.

    Args:
        text: the line. A node needs no `metadata={"speak": True}` for it.

    Returns the line as a message, with the id under which it is remembered.
    """
    if (ctx := running.get()) is not None:
        await ctx.say(text)
        return ctx.spoken[-1] if ctx.spoken else AIMessage(text, id=new_id("say"), name=ctx.agent)
    message_id, turn = new_id("say"), current_turn.get()
    if turn is None:
        return AIMessage(text, id=message_id)
    agent = turn.speaker
    turn.line(agent, message_id, text)
    await turn.wait_heard(message_id)
    return AIMessage(text, id=message_id, name=agent)
