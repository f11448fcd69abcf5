"""The node of an agent: one model step, or its `on_enter` method."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.graph import END
from langgraph.runtime import Runtime

from graph_voice.agent_runtime import AgentRuntime, hops
from graph_voice.attempts import SilentModelError
from graph_voice.chat_context import carry, resolve, view
from graph_voice.handoff import TransferTool, handoff_record
from graph_voice.pairs import keep_calls
from graph_voice.prompt import build_prompt
from graph_voice.run_context import new_id
from graph_voice.speech import settle_calls, used_call_ids, without_calls
from graph_voice.turn import Turn, current_turn
from graph_voice.userdata import required
from graph_voice.working_copy import WorkingCopy

__all__ = ["AgentNode"]


class AgentNode:
    """One step of an agent: render the prompt, call the model, stream its words."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> dict[str, Any]:
        """The node: an update of the state."""
        turn = current_turn.get()
        if turn is not None and turn.interrupted:
            return {}
        update = self._take_floor(state, turn)
        state = {**state, **update}
        resolved = await resolve(state, model=lambda: self.runtime.model(config))
        if resolved is not None:
            update["chat_ctx"] = state["chat_ctx"] = resolved
        entering = bool((state.get("chat_ctx") or {}).get("entering"))
        if entering:
            update["chat_ctx"] = {k: v for k, v in state["chat_ctx"].items() if k != "entering"}
            state["chat_ctx"] = update["chat_ctx"]
            # The caller spoke before the agent came to its first words: they are answered, not greeted over.
            entering = not _caller_waits(state)
        if entering and self.agent.enters_by_method:
            return {**update, **await self._enter(state, config, runtime, turn)}
        made = await self._reply(state, config, turn, entering=entering)
        return {**update, **made}

    def route(self, state: dict[str, Any]) -> str:
        """Where the graph goes from here: to the tools, or to the end."""
        turn = current_turn.get()
        last = state["messages"][-1] if state.get("messages") else None
        if isinstance(last, AIMessage) and last.tool_calls and not (turn is not None and turn.interrupted):
            return f"{self.agent.name}_tools"
        return END

    def _take_floor(self, state: dict[str, Any], turn: Turn | None) -> dict[str, Any]:
        """The graph led here while another agent has the floor: by an edge, so without a transfer tool."""
        old, new = state.get("active_agent") or None, self.agent.name
        if old == new:
            return {}
        if old is None or old not in self.runtime.settings.agents:
            return {"active_agent": new}
        messages = state.get("messages") or []
        # As fresh() does, but with the words that the edge was taken for.
        start = next((i for i in range(len(messages) - 1, -1, -1) if isinstance(messages[i], HumanMessage)), 0)
        record = handoff_record(old, new, None)
        if turn is not None:
            turn.handed_off(None, old, new)
        ctx = carry([], messages[:start])
        if waiting := (state.get("chat_ctx") or {}).get("pending"):
            ctx["pending"] = waiting  # what a node on the way here returned is for the agent that comes now
        return {
            "active_agent": new,
            "handoffs": [record],
            "chat_ctx": ctx,
            "contexts": {old: carry(view(state), messages)},
        }

    async def _enter(
        self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any], turn: Turn | None
    ) -> dict[str, Any]:
        work = WorkingCopy(state)
        ctx = self.runtime.context(state, config, runtime, turn, userdata=work.value)
        await self.runtime.run_hook(self.agent.on_enter, ctx)
        work.undo_invalid()
        update: dict[str, Any] = {}
        if ctx.spoken:
            update["messages"] = list(ctx.spoken)
        if changes := work.changes():
            update["userdata"] = changes
        if ctx.ending and turn is not None:
            turn.call_ends = True
        return update

    async def _reply(
        self, state: dict[str, Any], config: RunnableConfig, turn: Turn | None, *, entering: bool
    ) -> dict[str, Any]:
        agent, userdata = self.agent, required(state)
        tools, withheld = agent.all_tools, frozenset[str]()
        messages = state.get("messages") or []
        may_call = bool(tools) and hops(messages) < self.runtime.settings.max_hops
        if entering:
            # The first reply can't transfer: a caller must not be passed on unheard.
            tools = [t for t in tools if not isinstance(t, TransferTool)]
            withheld = frozenset(t.name for t in agent.transfers)
            may_call = may_call and agent.on_enter_tools != "none"
        instructions = agent.render_on_enter(userdata) if entering else None
        if turn is not None and turn.instructions is not None:
            instructions, turn.instructions = turn.instructions, None
        try:
            prompt = build_prompt(agent.render(userdata), view(state), reply_instructions=instructions)
            made = await self.runtime.ask(prompt, config, turn, tools=tools, may_call=may_call, withheld=withheld)
        except GraphBubbleUp:
            raise
        except Exception as error:
            if turn is not None:
                return self._apologise(turn, error)
            if isinstance(error, SilentModelError):
                return {}  # as LangGraph's own agents: nothing was said, and nothing failed
            raise
        message = made.message
        if made.cut:
            return {"messages": [message]} if message.content else {}
        message = settle_calls(message, used_call_ids(messages)) if may_call else without_calls(message)
        if withheld:
            message = keep_calls(
                message, [c["id"] for c in message.tool_calls if c["id"] and c["name"] not in withheld]
            )
        if turn is not None:
            turn.message(agent.name, message)
        return {"messages": [message]}

    def _apologise(self, turn: Turn, error: Exception) -> dict[str, Any]:
        turn.failed(self.agent.name, error)
        message_id = new_id("apology")
        text = self.runtime.settings.apology
        turn.line(self.agent.name, message_id, text)
        return {"messages": [AIMessage(text, id=message_id, name=self.agent.name)]}


def _caller_waits(state: dict[str, Any]) -> bool:
    shown = [m for m in view(state) if not isinstance(m, SystemMessage)]
    return bool(shown) and isinstance(shown[-1], HumanMessage)
