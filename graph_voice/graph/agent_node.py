"""The node of an agent: one model step, or its `on_enter` method."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph import END
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Command

from graph_voice.agents.handoff import Handoff, TransferTool
from graph_voice.agents.replay import TaskWanted
from graph_voice.agents.run_context import new_id
from graph_voice.agents.tools import FunctionTool
from graph_voice.errors import HandoffError
from graph_voice.graph.agent_runtime import AgentRuntime, hops, modality_of
from graph_voice.graph.arrival import WAY, arrive, plain
from graph_voice.graph.frames import TaskFrame, going_on, merge_stack, returned_to, stack_of
from graph_voice.graph.generate import normalize_tool_calls, used_call_ids, within_limit, without_calls
from graph_voice.graph.studio_context import edited
from graph_voice.graph.task_steps import TaskSteps, answers_of, merged
from graph_voice.graph.tool_node import ToolsNode
from graph_voice.history.context import resolve, shortened, view
from graph_voice.messages.pairs import GOTO, ends_task, keep_calls
from graph_voice.messages.prompt import complete_prompt, render_context
from graph_voice.models import SilentModelError
from graph_voice.secrets.arguments import INVALID, redact_arguments
from graph_voice.secrets.known import Known, known_of
from graph_voice.secrets.spoken import open_words
from graph_voice.turn.nodes_side import NodesSide, turn_of
from graph_voice.turn.record import Write
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.userdata.channel import required
from graph_voice.userdata.working_copy import Assignments, WorkingCopy

__all__ = ["AgentNode"]

Update = dict[str, Any] | list[Command[Any]]
_WRITTEN_LATE = {"messages", "active_agent"}
"""What a step may write together with the transfer that it carries out. In a call, the record of the turn has the
messages already, and an agent that is active without having been made so is the one that the call starts with."""
_TOO_MANY = (
    'on_enter of agent "{agent}" hands off to "{to}", but this turn has had too many handoffs: '
    "create_voice_graph(..., max_hops=...)."
)


class AgentNode:
    """One step of an agent: render the prompt, call the model, stream its words.

    When the model asks for a declared transfer and for nothing else, the step carries it out, and the graph goes
    straight to the target. All other tool calls are for the tools node.
    """

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.agent = runtime.agent

    @cached_property
    def tools(self) -> ToolsNode:
        """The node of the agent's tools."""
        return ToolsNode(self.runtime)

    async def step(self, state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]) -> Update:
        """The node: an update of the state."""
        if runtime.context is not None and (changed := await edited(self.runtime, runtime.context)) is not None:
            return await AgentNode(changed).step(state, config, runtime)
        await self.runtime.load(config)
        turn = turn_of(runtime)
        if turn is not None and turn.interrupted:
            return {}
        returned = returned_to(state, self.agent.name)
        if self._has_open_batch(state) or (returned is not None and returned["call_id"] is not None):
            return {}  # a crash came before its calls had ended, or a task has ended: they run first
        known = self.runtime.known(state, turn)
        if turn is not None:
            turn.known = known
        arrived = await arrive(state, config, runtime, turn, self.agent.name, self.runtime.settings)
        if arrived is None:
            return {}
        update = dict(arrived.update)
        state = {**state, **update, "stack": merge_stack(state.get("stack"), update.get("stack"))}
        if arrived.work is not None:
            state["userdata"] = arrived.work.current
        if (left := await self._abandoned(state, turn)) is None:
            return {}
        if left:
            update |= left
            state["messages"] = merged(state.get("messages") or [], left.get("messages", []))
            state["stack"] = merge_stack(state.get("stack"), left.get("stack"))
        resolved = await resolve(state, model=lambda: self.runtime.model(config))
        if resolved is not None:
            update["chat_ctx"] = state["chat_ctx"] = resolved
        if turn is None and self.agent.context is not None and _caller_waits(state):
            # Outside a conversation nothing runs between turns, so the context is shortened here.
            model = self.runtime.model(config) if self.agent.context.asks_model else None
            short = await shortened(state, self.agent.context, agent=self.agent.name, model=model, config=config)
            if short is not None:
                update["chat_ctx"] = state["chat_ctx"] = short
        entering = bool((state.get("chat_ctx") or {}).get("entering"))
        if entering:
            update["chat_ctx"] = {k: v for k, v in state["chat_ctx"].items() if k != "entering"}
            state["chat_ctx"] = update["chat_ctx"]
            # The caller spoke before the agent's first words: answer the caller instead of greeting.
            # Its own tools have answered, in a run that went on with the caller's answer: it speaks of the results.
            entering = not _caller_waits(state) and not self._has_results(state)
        if returned is not None:
            # Its on_enter method waits for a task, unless an earlier turn, which the caller cut into, lets it go on.
            entering = await self._goes_on(returned, turn)
            if not entering:
                update["stack"] = going_on(returned)
        if entering and self.agent.enters_by_method:
            entered, handoff = await self._enter(state, config, runtime, turn, arrived.work)
            update |= entered
            if isinstance(handoff, TaskWanted):
                control = await self._begin_task(handoff, state, entered, config, turn)
                return [Command(update=update), Command(update=control, goto=handoff.task)]
            if handoff is None:
                return update
            update["chat_ctx"] = {
                **state["chat_ctx"],
                WAY: plain(handoff, self.agent, None, self.runtime.settings.secrets),
            }
            return [Command(update=update, goto=handoff.to)]
        if turn is not None:
            turn.entered()  # it answers, or its first words are the model's
        update |= await self._reply(state, config, turn, entering=entering, known=known)
        written: Update = update
        if not self.agent.has_tools and self._asks_the_front_end(update):
            return await self._wait_for_the_front_end(update, state, config, runtime)
        if (call_id := self._transfer_alone(update)) is not None and not (turn is not None and turn.interrupted):
            written = await self._transfer(call_id, update, state, config, runtime, turn)
        if turn is not None and turn.call.acts_behind(self.agent.name):
            # A custom node may come next. This agent's words are on their way already.
            await turn.record.handoffs.decided()
        return written

    def route(self, state: dict[str, Any]) -> str:
        """Where the graph goes from here: to the target of a transfer, to the tools, or to the end.

        A transfer that the step has just carried out leads to its target by itself. That it is read from the state too
        is for a state that was edited.
        """
        turn = turn_of()
        if turn is not None and turn.interrupted:
            return END
        if (target := self._transferred_to(state)) is not None:
            return target
        if (returned := returned_to(state, self.agent.name)) is not None and returned["call_id"] is not None:
            return self.tools.name
        return self.tools.name if self._has_open_batch(state) else END

    def _has_results(self, state: dict[str, Any]) -> bool:
        """Whether the conversation ends with results of this agent's own tool calls."""
        messages = state.get("messages") or []
        asking = next((message for message in reversed(messages) if not isinstance(message, ToolMessage)), None)
        return (
            bool(messages)
            and messages[-1] is not asking
            and isinstance(asking, AIMessage)
            and asking.name == self.agent.name
        )

    def _has_open_batch(self, state: dict[str, Any]) -> bool:
        """Whether the conversation ends with tool calls of this agent that have no result yet."""
        messages = state.get("messages") or []
        answered = set()
        for message in reversed(messages):
            if isinstance(message, ToolMessage):
                if not ends_task(message):
                    answered.add(message.tool_call_id)
                continue
            asked = message.tool_calls if isinstance(message, AIMessage) else []
            return self.agent.has_tools and any(call["id"] not in answered for call in asked)
        return False

    # ---- tools of the front end

    def _asks_the_front_end(self, update: dict[str, Any]) -> bool:
        """Whether this step of an agent without tools has called some: then they are the front end's own."""
        asking = update["messages"][-1] if update.get("messages") else None
        return isinstance(asking, AIMessage) and bool(asking.tool_calls)

    async def _wait_for_the_front_end(
        self, update: dict[str, Any], state: dict[str, Any], config: RunnableConfig, runtime: Runtime[Any]
    ) -> Update:
        """Write the results, and let the agent speak of them. The graph has no tools node for such an agent."""
        messages = [*(state.get("messages") or []), *update["messages"]]
        written = await self.tools.run({**state, "messages": messages}, config, runtime, node=self.agent.name)
        turn = turn_of(runtime)
        ends = turn is not None and turn.interrupted
        answered = [m for command in written for m in (command.update or {}).get("messages", ())]
        ends = ends or self.tools.route({**state, "messages": [*messages, *answered]}) is None
        told = {m.id: m for m in (*update["messages"], *answered)}
        return [Command(update={**update, "messages": list(told.values())}, goto=END if ends else self.agent.name)]

    # ---- a transfer

    def _transfer_alone(self, update: dict[str, Any]) -> str | None:
        """The id of the tool call when this step made one alone, a declared transfer.

        A step that has more to write (a handoff by an edge that led to it, what a policy has made) ends first: a crash
        while the transfer waits must not lose that.
        """
        asking = update["messages"][-1] if update.get("messages") else None
        if not isinstance(asking, AIMessage) or len(asking.tool_calls) != 1 or update.keys() - _WRITTEN_LATE:
            return None
        (call,) = asking.tool_calls
        transfer = next((t for t in self.agent.transfers if t.name == call["name"]), None)
        # What a transfer takes along may not fit: then the model is told by the tools node, and goes on.
        is_plain = transfer is not None and transfer.handoff.arguments is None
        return call["id"] if is_plain and INVALID not in asking.additional_kwargs else None

    async def _transfer(
        self,
        call_id: str,
        update: dict[str, Any],
        state: dict[str, Any],
        config: RunnableConfig,
        runtime: Runtime[Any],
        turn: NodesSide | None,
    ) -> Update:
        """Carry out a transfer, unless the front end has another answer for it, which the model is then told."""
        if turn is not None and not (await turn.permission(call_id)).run and not turn.interrupted:
            return update
        messages = [*(state.get("messages") or []), *update["messages"]]
        try:
            answered, *handoff = await self.tools.run(
                {**state, "messages": messages}, config, runtime, node=self.agent.name
            )
        except GraphInterrupt:
            if turn is not None:
                raise
            # `on_exit` asks. The tools node waits for the answer: this one would ask its model again.
            return update
        written = {**(answered.update or {})}
        # By id: with the words of an announcement, the message that asked is there once more.
        told = {m.id: m for m in (*update["messages"], *written["messages"])}
        return [Command(update={**update, **written, "messages": list(told.values())}), *handoff]

    def _transferred_to(self, state: dict[str, Any]) -> str | None:
        """The target, when the conversation ends with a transfer of this agent that has not led anywhere yet."""
        messages = state.get("messages") or []
        answer = messages[-1] if messages else None
        target = answer.additional_kwargs.get(GOTO) if isinstance(answer, ToolMessage) else None
        if target not in {transfer.handoff.to for transfer in self.agent.transfers}:
            return None
        ctx = state.get("chat_ctx") or {}
        if target in self.runtime.settings.agents:
            on_its_way = state.get("active_agent") == target and bool(ctx.get("entering"))
        else:
            on_its_way = state.get("active_agent") == self.agent.name and (ctx.get(WAY) or {}).get("to") == target
        return target if on_its_way else None

    # ---- what an agent does

    async def _enter(
        self,
        state: dict[str, Any],
        config: RunnableConfig,
        runtime: Runtime[Any],
        turn: NodesSide | None,
        work: WorkingCopy | None,
    ) -> tuple[dict[str, Any], Handoff | TaskWanted | None]:
        """Run the `on_enter` method. Returns what it has changed, and the handoff or the task that it asks for."""
        if turn is not None and not await turn.enters(self.agent.name):
            return {}, None  # the method acts, and this agent is not the active one after all
        work = work or WorkingCopy(state)
        ctx = self.runtime.context(state, config, runtime, turn, userdata=work.value, tasks=True)
        returned = returned_to(state, self.agent.name)
        ctx.already_said = list(returned["said"]) if returned is not None else []
        assignments = Assignments()
        wanted: TaskWanted | None = None
        try:
            with work.assigned_by(assignments):
                await self.runtime.run_hook(self.agent.on_enter, ctx)
        except TaskWanted as asked:
            wanted = asked
            assignments.undo()
        finally:
            assignments.over = True
            if turn is not None:
                turn.entered()
        work.undo_invalid()
        handoff = ctx.requested
        if handoff is not None and turn is not None and len(turn.record.handoffs) >= self.runtime.settings.max_hops:
            turn.apologize(self.agent.name, HandoffError(_TOO_MANY.format(agent=self.agent.name, to=handoff.to)))
            handoff = None
        if handoff is not None and handoff.say is not None and ctx.speak is not None:
            await ctx.speak(new_id("say"), handoff.say)
        update: dict[str, Any] = {}
        if ctx.spoken:
            update["messages"] = known_of((), work.current).value(list(ctx.spoken))
        if changes := work.changes():
            update["userdata"] = changes
        if ctx.ending and turn is not None:
            turn.call_ends()
        if wanted is not None and not (turn is not None and turn.interrupted):
            return update, wanted
        if returned is not None:
            update["stack"] = {"drop": [returned["id"]]}
        if (chat_ctx := await TaskSteps(self.runtime).group_over(state, config, None)) is not None:
            update["chat_ctx"] = chat_ctx
        return update, None if turn is not None and turn.interrupted else handoff

    async def _goes_on(self, returned: TaskFrame, turn: NodesSide | None) -> bool:
        """Whether the `on_enter` method, whose task has ended, goes on in this turn. It does so once."""
        if turn is None:
            return True
        if not await turn.floor_is_back():
            return True  # the task has not ended after all, and `_enter` sees that too
        if not turn.call.goes_on(returned["id"], returned["call_id"], len(returned["results"])):
            return False
        turn.wrote(Write(self.agent.name, {"stack": going_on(returned)}, agent=self.agent.name))
        return True

    async def _begin_task(
        self,
        wanted: TaskWanted,
        state: dict[str, Any],
        entered: dict[str, Any],
        config: RunnableConfig,
        turn: NodesSide | None,
    ) -> dict[str, Any]:
        """Let the task take over that an `on_enter` method asks for."""
        spoken = entered.get("messages", [])
        messages = merged(state.get("messages") or [], spoken)
        returned = returned_to(state, self.agent.name)
        said = [*(returned["said"] if returned is not None else ()), *(line.text for line in spoken)]
        return await TaskSteps(self.runtime).begin(
            wanted, {**state, "messages": messages}, config, turn, call_id=None, asking=None, said=said
        )

    async def _abandoned(self, state: dict[str, Any], turn: NodesSide | None) -> dict[str, Any] | None:
        """Answer the tool calls whose tasks were left for this agent. None: the handoff to it has not happened."""
        left = [frame["id"] for frame in stack_of(state) if frame.get("left")]
        if not left:
            return {}
        if turn is not None and not await turn.floor_is_back():
            return None
        told = answers_of(stack_of(state), state.get("messages") or [])
        for message in told:
            if turn is not None:
                turn.result(self.agent.name, message)
        return {"stack": {"drop": left}, **({"messages": told} if told else {})}

    def _unavailable(
        self,
        tools: Sequence[BaseTool],
        state: dict[str, Any],
        userdata: Any,
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        entering: bool,
    ) -> frozenset[str]:
        """Those of the agent's tools that its model does not have now."""
        found = set[str]()
        for tool in tools:
            if not isinstance(tool, FunctionTool):
                continue
            if entering and not tool.on_enter:
                found.add(tool.name)
            elif tool.available is not None:
                draft = TaskSteps(self.runtime).draft(state)
                ctx = self.runtime.context(state, config, get_runtime(), turn, userdata=userdata, draft=draft)
                if not tool.available(ctx):
                    found.add(tool.name)
        return frozenset(found)

    async def _reply(
        self,
        state: dict[str, Any],
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        entering: bool,
        known: Callable[[], Known],
    ) -> dict[str, Any]:
        agent, userdata = self.agent, required(state)
        own = await self.runtime.tools.known(turn) if self.runtime.tools.undecided else self.runtime.tools.now()
        offered = list(own if turn is None else turn.call.offered(agent.name, own))
        tools, withheld = offered, frozenset[str]()
        messages = state.get("messages") or []
        may_call = bool(tools) and hops(messages) < self.runtime.settings.max_hops
        if entering:
            # The first reply has no transfer tools: a caller must not be passed on unheard.
            tools = [t for t in tools if not isinstance(t, TransferTool)]
            withheld = frozenset(t.name for t in agent.transfers)
            may_call = may_call and agent.on_enter_tools != "none"
        not_now = self._unavailable(own, state, userdata, config, turn, entering=entering)
        tools = [t for t in tools if t.name not in not_now]
        withheld |= not_now
        may_call = may_call and bool(tools)
        modality = modality_of(turn)
        arguments = self.runtime.arguments(state)
        instructions = agent.render_on_enter(userdata, modality, arguments) if entering else None
        if turn is not None:
            asked = turn.take_instructions()
            instructions = instructions if asked is None else asked
        options = turn.take_options() if turn is not None else ReplyOptions()
        if options.tools is not None:
            tools = [t for t in tools if t.name in options.tools]
            withheld |= {t.name for t in offered} - options.tools
        withholds = options.tool_choice == "none" or (turn is not None and not turn.may_call_tools(agent.name))
        may_call = may_call and bool(tools) and not withholds
        must_call = {None: None, "none": None, "required": "any"}.get(options.tool_choice, options.tool_choice)
        try:
            if options.messages is not None and turn is not None:
                shown = render_context([*options.messages, *(m for m in messages if m.id not in turn.run.before)])
            else:
                shown = render_context(view(state))
            if self.runtime.secret_schemas:
                shown = open_words(shown, agent.name)
            prompt = complete_prompt(
                self.runtime.instructions(state, userdata, turn), shown, reply_instructions=instructions
            )
            made = await self.runtime.ask(
                prompt,
                config,
                turn,
                tools=tools,
                may_call=may_call,
                must_call=must_call,
                withheld=withheld,
                known=known,
            )
        except GraphBubbleUp:
            raise
        except Exception as error:
            if turn is not None:
                said = turn.apologize(self.agent.name, error)
                return {} if said is None else {"messages": [said]}
            if isinstance(error, SilentModelError):
                return {}  # as with LangGraph's own agents: nothing was said, and nothing failed
            raise
        message = made.message
        if made.cut:
            return {"messages": [known().message(message)]} if message.content else {}
        names = {tool.name for tool in offered}
        message = normalize_tool_calls(message, used_call_ids(messages), names) if may_call else without_calls(message)
        message = within_limit(message, self.runtime.settings.max_tool_calls)
        if withheld:
            message = keep_calls(
                message, [c["id"] for c in message.tool_calls if c["id"] and c["name"] not in withheld]
            )
        message = redact_arguments(message, self.runtime.secret_schemas, names, known())
        if turn is not None:
            turn.message(agent.name, message)
        return {"messages": [message]}


def _caller_waits(state: dict[str, Any]) -> bool:
    """Whether the conversation ends with words of the caller that the agent is shown. The view alone does not tell: a
    policy may leave out what came after them (`exclude_tool_calls`: the transfer)."""
    shown = next((m for m in reversed(view(state)) if not isinstance(m, SystemMessage)), None)
    last = next((m for m in reversed(state.get("messages") or []) if not isinstance(m, SystemMessage)), None)
    return isinstance(shown, HumanMessage) and last is not None and last.id == shown.id
