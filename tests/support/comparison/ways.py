"""The application, written each way as its documentation says it should be."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from graph_agent_support import voice
from langchain.agents import AgentState, create_agent
from langchain_core.messages import AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.prebuilt import ToolRuntime
from langgraph.pregel import Pregel
from langgraph.types import Command
from livekit.agents import Agent, llm
from livekit.agents import function_tool as livekit_tool
from livekit.plugins.langchain import LLMAdapter
from typing_extensions import TypedDict

from comparison.app import App, Carry, Way
from comparison.scripted_llm import ScriptedLLM
from graph_voice import Agent as Definition
from graph_voice import Handoff, create_voice_graph, function_tool, history
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS

__all__ = ["THREAD", "Built", "adapted", "build"]

THREAD: Any = {"configurable": {"thread_id": "call"}}


@dataclass(frozen=True)
class Built:
    """A LiveKit agent to start a session with, and the graph behind it."""

    agent: Agent
    types: dict[str, type[Agent]] = field(default_factory=dict)
    """The class of each agent, where each has one of its own."""
    graph: Pregel[Any, Any, Any, Any] | None = None


def build(app: App, way: Way) -> Built:
    match way:
        case Way.LIVEKIT:
            return _hand_written(app)
        case Way.OURS:
            return _ours(app)
        case _:
            return adapted(_langgraph(app, way), subgraphs=len(app.members) > 1)


# ---- LiveKit agents


class HandWritten(Agent):
    """An agent as in LiveKit's own examples: it greets when it takes the floor, a transfer tool returns the next."""

    def __init__(
        self, app: App, types: dict[str, type["HandWritten"]], chat_ctx: llm.ChatContext | None = None
    ) -> None:
        self.app, self.types = app, types
        self.member = app.member(self.name)
        self.enters = chat_ctx is not None
        super().__init__(
            instructions=self.member.instructions,
            llm=ScriptedLLM(app.model),
            tts=FakeTTS(self.name),
            tools=[*map(livekit_tool, self.member.tools), *(self.transfer(to) for to in self.member.handoffs)],
            **({} if chat_ctx is None else {"chat_ctx": chat_ctx}),
        )

    name: str

    async def on_enter(self) -> None:
        if self.enters:
            self.session.generate_reply()

    def transfer(self, to: str) -> Any:
        async def transfer() -> Agent:
            return self.types[to](self.app, self.types, await self.carried())

        return livekit_tool(transfer, name=f"transfer_to_{to}", description=f"Transfer the caller to {to}.")

    async def carried(self) -> llm.ChatContext:
        chat_ctx = self.chat_ctx.copy(exclude_instructions=True)
        match self.app.carry:
            case Carry.LAST_TWO:
                return chat_ctx.copy(exclude_function_call=True).truncate(max_items=2)
            case Carry.SUMMARY:
                asked = chat_ctx.copy()
                asked.add_message(role="user", content="Summarize the conversation.")
                model = ScriptedLLM(self.app.model)
                reply = await model.chat(chat_ctx=asked).collect()
                short = llm.ChatContext.empty()
                short.add_message(role="user", content=f"Earlier: {reply.text}")
                return short
        return chat_ctx


def _hand_written(app: App) -> Built:
    types: dict[str, type[HandWritten]] = {}
    for member in app.members:
        types[member.name] = type(member.name.title(), (HandWritten,), {"name": member.name})
    return Built(types[app.start](app, types), dict(types))


# ---- LLMAdapter


class Shared(TypedDict, total=False):
    """The state of agents that hand over to each other, as langgraph-swarm has it."""

    messages: Annotated[list[AnyMessage], add_messages]
    active_agent: str


def _langgraph(app: App, way: Way) -> Pregel[Any, Any, Any, Any]:
    saver = InMemorySaver() if way is Way.SAVER else None
    if len(app.members) == 1:
        (only,) = app.members
        tools = [StructuredTool.from_function(coroutine=tool) for tool in only.tools]
        made: Pregel[Any, Any, Any, Any] = create_agent(
            app.model, tools, system_prompt=only.instructions, checkpointer=saver
        )
        return made
    builder = StateGraph(Shared)
    for member in app.members:
        tools = [StructuredTool.from_function(coroutine=tool) for tool in member.tools]
        agent = create_agent(
            app.model,
            [*tools, *(_command_tool(app, to) for to in member.handoffs)],
            system_prompt=member.instructions,
            name=member.name,
            state_schema=Inner,
        )
        builder.add_node(member.name, agent)
    names = [member.name for member in app.members]
    builder.add_conditional_edges(START, lambda state: state.get("active_agent") or app.start, names)
    return builder.compile(checkpointer=saver)


class Inner(AgentState[Any], total=False):
    """The state of one such agent."""

    active_agent: str


def _command_tool(app: App, to: str) -> StructuredTool:
    async def transfer(runtime: ToolRuntime) -> Command[Any]:
        *before, asking = runtime.state["messages"]
        done = ToolMessage(f"Transferred to {to}.", tool_call_id=runtime.tool_call_id or "", id=f"done-{asking.id}")
        carried = [*await _carried(app, before), asking, done]
        update = {"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *carried], "active_agent": to}
        return Command(goto=to, graph=Command.PARENT, update=update)

    return StructuredTool.from_function(
        coroutine=transfer, name=f"transfer_to_{to}", description=f"Transfer the caller to {to}."
    )


async def _carried(app: App, messages: list[AnyMessage]) -> list[AnyMessage]:
    match app.carry:
        case Carry.LAST_TWO:
            return messages[-2:]
        case Carry.SUMMARY:
            silent: Any = {"tags": ["nostream"]}  # LangGraph's way to keep a model's words out of the stream
            asked = [*messages, HumanMessage("Summarize the conversation.")]
            return [HumanMessage(f"Earlier: {(await app.model.ainvoke(asked, silent)).text}")]
    return messages


def adapted(graph: Pregel[Any, Any, Any, Any], **options: Any) -> Built:
    """Any graph behind LiveKit's adapter."""
    return Built(Agent(instructions="", llm=LLMAdapter(graph, config=THREAD, **options)), graph=graph)


# ---- graph_voice


def _ours(app: App) -> Built:
    carried = {
        Carry.FULL: history.exclude_instructions(),
        Carry.LAST_TWO: history.exclude_instructions() | history.exclude_tool_calls() | history.truncate(max_items=2),
        Carry.SUMMARY: history.summarize(keep_last_turns=0),
    }[app.carry]
    agents = [
        Definition(
            member.name,
            instructions=member.instructions,
            tools=[function_tool(tool) for tool in member.tools],
            handoffs=[Handoff(to, f"Transfer the caller to {to}.", history=carried) for to in member.handoffs],
            voice=voice(member.name),
        )
        for member in app.members
    ]
    ga = GraphAgent(create_voice_graph(agents, llm=app.model))
    return Built(ga, {m.name: ga.agent_type(m.name) for m in app.members}, ga.conversation.graph)
