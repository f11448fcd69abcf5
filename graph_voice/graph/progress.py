"""The model's words about the updates of running tool calls: the prompt of the turn, with what tools tell so far."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.runnables import RunnableConfig

from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.task_steps import merged
from graph_voice.graph.tool_batch import ToolBatch
from graph_voice.history.context import view
from graph_voice.messages.pairs import PROGRESS, placeholder, running
from graph_voice.messages.prompt import add_words, build_prompt
from graph_voice.models import SilentModelError
from graph_voice.turn.nodes_side import NodesSide

__all__ = ["words_about"]

UPDATE = """The tool `{name}` has updated, message: {message}
The task is still running, so DON'T make up or give information not included in the message above."""
"""The result of a tool call so far, as the model is shown it. LiveKit's words."""


async def words_about(
    runtime: AgentRuntime, batch: ToolBatch, updates: Mapping[str, str], message_id: str
) -> AIMessage | None:
    """Let the agent's model speak about these updates (tool call id -> update) of tool calls that run. It is offered no
    tools. None: it had nothing to say. Raises what the model raises."""
    turn = batch.turn
    if turn is None:
        return None
    prompt = build_prompt(runtime.instructions(batch.state, batch.work.current, turn), _shown(batch, turn, updates))
    turn.begin_line(runtime.agent.name, message_id, batch.asking.id)
    try:
        made = await runtime.ask(
            prompt,
            _named(batch.config, batch.asking, updates),
            turn,
            tools=runtime.agent.all_tools,
            may_call=False,
            message_id=message_id,
            reports=False,
        )
    except SilentModelError:
        return None
    finally:
        turn.line_done(message_id)
    text = batch.known.text(made.message.text)
    return AIMessage(text, id=message_id, name=runtime.agent.name) if text.strip() else None


def _shown(batch: ToolBatch, turn: NodesSide, updates: Mapping[str, str]) -> Sequence[AnyMessage]:
    """What the model is shown: the conversation, with the results of the batch as far as they are there."""
    batch_so_far: list[AnyMessage] = [_asking(batch, turn)]
    for call in batch.asking.tool_calls:
        call_id, name = call["id"] or "", call["name"]
        known = turn.run.tool_call(call_id)
        if (message := updates.get(call_id)) is not None:
            so_far = placeholder(call_id, name, UPDATE.format(name=name, message=message))
            marks = {**so_far.additional_kwargs, PROGRESS: message}
            batch_so_far.append(so_far.model_copy(update={"additional_kwargs": marks}))
        elif known is not None:
            batch_so_far.append(known.result or placeholder(call_id, name, running(known.progress)))
    state = {**batch.state, "messages": merged(batch.state["messages"], batch_so_far)}
    # LiveKit's `generate_reply(chat_ctx=...)`: the whole turn is shown that instead of what was before it.
    instead = turn.run.options.messages if not turn.record.handoffs else None
    if instead is None:
        return view(state)
    return [*instead, *(m for m in state["messages"] if m.id not in turn.run.before)]


def _asking(batch: ToolBatch, turn: NodesSide) -> AIMessage:
    """The message that made the tool calls, with what was said since."""
    if (found := turn.record.spoken(batch.asking.id or "")) is None or found[0].message is None:
        return batch.asking  # of an earlier turn
    said = " ".join(text for line in found[0].lines if (text := line.hidden(line.produced)))
    return add_words(found[0].message, said) if said else found[0].message


def _named(config: RunnableConfig, asking: AIMessage, updates: Mapping[str, str]) -> RunnableConfig:
    """The config of the request: its run is called by what it is for, in traces."""
    names = dict.fromkeys(call["name"] for call in asking.tool_calls if call["id"] in updates)
    return cast(RunnableConfig, {**cast(dict[str, Any], config), "run_name": f"update: {', '.join(names)}"})
