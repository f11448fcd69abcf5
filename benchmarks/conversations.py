"""One conversation in a real `AgentSession`, whichever way its agent is run: in text, with the fake model."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph_swarm import create_handoff_tool, create_swarm
from livekit.agents import Agent, AgentSession
from livekit.agents import function_tool as livekit_tool
from livekit.plugins.langchain import LLMAdapter

from benchmarks.fakes import Brain, FakeLLM, FakeModel
from benchmarks.stores import Stores
from benchmarks.watch import Watch
from benchmarks.ways import Way
from graph_voice import Agent as GraphDefinition
from graph_voice import Conversation, Handoff, create_voice_graph, function_tool
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.convert.converters import to_chat_context

__all__ = ["Talk", "Took", "a_talk", "history"]

INSTRUCTIONS = "You are a friendly voice agent of a shop. Keep your answers short."
SETTLE = 0.03
"""Seconds that a session gets after a turn for background work: no caller answers sooner."""


def history(size: int) -> list[BaseMessage]:
    """`size` earlier messages, alternating between the caller and the agent."""
    return [
        HumanMessage(f"And what about order number {i}, please?", id=f"h{i}")
        if i % 2 == 0
        else AIMessage(f"Order {i} arrives on Monday. Is there anything else?", id=f"a{i}")
        for i in range(size)
    ]


async def look_up() -> str:
    """Look up the order."""
    return "Order 3: two kettles, arrives on Monday."


@dataclass(frozen=True)
class Took:
    """One turn, in milliseconds from the caller's text."""

    chunk: float
    """To the first chunk with words out of `llm_node`."""
    used: float
    """Processor time of the event loop's thread until that chunk: a busy machine does not change it."""
    text: float
    """To the first words that reach the voice."""
    whole: float
    """Until `session.run` returned."""
    cpu: float
    """Processor time until all background work of the turn was done, including writes."""


@dataclass
class Talk:
    """A conversation that is open."""

    way: Way
    session: AgentSession[Any]
    watch: Watch
    brain: Brain
    conversation: Conversation[Any] | None = None
    """graph_voice's; None for the other ways."""

    async def turn(self, text: str = "And where is my order?") -> Took:
        """The caller says this, and is answered."""
        watch = self.watch
        watch.reset()
        began, used, own = time.perf_counter(), time.process_time(), time.thread_time()
        await self.session.run(user_input=text)
        ended = time.perf_counter()
        await self.settle()
        cpu = time.process_time() - used
        assert watch.first_chunk is not None
        assert watch.first_chunk_used is not None
        assert watch.first_text is not None
        parts = (
            watch.first_chunk - began,
            watch.first_chunk_used - own,
            watch.first_text - began,
            ended - began,
            cpu,
        )
        return Took(*(1000 * part for part in parts))

    async def settle(self) -> None:
        """Return when the turn's background work is done, so that no other contestant's turn pays for it."""
        await asyncio.sleep(SETTLE)
        if self.conversation is not None:
            await self.conversation.flush()


@contextlib.asynccontextmanager
async def a_talk(
    way: Way,
    stores: Stores,
    *,
    size: int = 0,
    brain: Brain | None = None,
    desk: bool = False,
    saver: BaseCheckpointSaver[Any] | None = None,
) -> AsyncIterator[Talk]:
    """Open a conversation that already has a history. With a store, graph_voice's is resumed from there.

    Args:
        way: which contestant.
        size: messages in the history.
        brain: the model's; if it has a `tool`, the agent has it too.
        desk: two agents that hand off to each other when the caller asks for it.
        saver: used in place of a store of its own.
    """
    brain = brain or Brain()
    names = ("front", "billing") if desk else ("front",)
    watch = Watch()
    async with contextlib.AsyncExitStack() as stack:
        if saver is None:
            saver = await stack.enter_async_context(stores.open(way.store))
        thread = stores.thread_id()
        session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
        agent: Agent
        conversation = None
        if way.is_library:
            agent = await _ours(names, brain, size, watch, saver, thread)
            conversation = agent.conversation
            stack.push_async_callback(agent.aclose)
        elif way.is_adapter:
            agent = _adapter(names, brain, size, watch, saver, thread)
        else:
            agent = _plain(names, brain, size, watch)
        stack.push_async_callback(session.aclose)
        await session.start(agent=agent)
        # LiveKit's own history has the earlier messages with every way, as in a call that has grown this long.
        before = to_chat_context(history(size)).items
        session.history.insert([item for item in before if session.history.get_by_id(item.id) is None])
        yield Talk(way, session, watch, brain, conversation)


def _plain(names: tuple[str, ...], brain: Brain, size: int, watch: Watch) -> Agent:
    kinds: dict[str, Any] = {}

    def transfer(to: str) -> Any:
        async def transfer() -> Agent:
            taking_over: Agent = kinds[to]()
            return taking_over

        return livekit_tool(transfer, name=f"transfer_to_{to}", description=f"Transfer the caller to {to}.")

    def made(name: str) -> type[Agent]:
        class Member(Agent):
            def __init__(self, **options: Any) -> None:
                self.is_first = "chat_ctx" in options
                tools = [transfer(to) for to in names if to != name]
                if brain.tool is not None:
                    tools.append(livekit_tool(look_up))
                super().__init__(instructions=INSTRUCTIONS, llm=FakeLLM(brain), tools=tools, **options)

            async def on_enter(self) -> None:
                if not self.is_first:
                    self.session.generate_reply()

        watch.listen(Member)
        return Member

    kinds.update({name: made(name) for name in names})
    first: Agent = kinds[names[0]](chat_ctx=to_chat_context(history(size)))
    return first


def _adapter(
    names: tuple[str, ...], brain: Brain, size: int, watch: Watch, saver: BaseCheckpointSaver[Any] | None, thread: str
) -> Agent:
    class Member(Agent):
        pass

    watch.listen(Member)
    graph = _langgraph(names, brain, saver)
    config: Any = {"configurable": {"thread_id": thread}}
    adapter = LLMAdapter(graph, config=config if saver is not None else None, subgraphs=len(names) > 1)
    return Member(instructions=INSTRUCTIONS, llm=adapter, chat_ctx=to_chat_context(history(size)))


def _langgraph(
    names: tuple[str, ...], brain: Brain, saver: BaseCheckpointSaver[Any] | None
) -> Pregel[Any, Any, Any, Any]:
    model = FakeModel(brain=brain)
    if len(names) > 1:
        members: list[Any] = []
        for name in names:
            transfers = [create_handoff_tool(agent_name=to, name=f"transfer_to_{to}") for to in names if to != name]
            members.append(create_agent(model, transfers, name=name))
        swarm: Pregel[Any, Any, Any, Any] = create_swarm(members, default_active_agent=names[0]).compile(
            checkpointer=saver
        )
        return swarm
    if brain.tool is not None:
        made: Pregel[Any, Any, Any, Any] = create_agent(
            model, [StructuredTool.from_function(coroutine=look_up)], checkpointer=saver
        )
        return made

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=saver)


async def _ours(
    names: tuple[str, ...], brain: Brain, size: int, watch: Watch, saver: BaseCheckpointSaver[Any] | None, thread: str
) -> GraphAgent:
    tools = [function_tool(look_up)] if brain.tool is not None else []
    agents = [
        GraphDefinition(
            name,
            instructions=INSTRUCTIONS,
            tools=tools,
            handoffs=[Handoff(to, f"Transfer the caller to {to}.") for to in names if to != name],
        )
        for name in names
    ]
    graph = create_voice_graph(agents, llm=FakeModel(brain=brain)).compile()
    told: Any = history(size)
    if saver is not None and size:
        told = None  # it is read from the store
        async with Conversation(graph, thread_id=thread, messages=history(max(0, size - 2)), saver=saver) as before:
            await before.run("And where is my order?")  # a call without a turn is not stored
    bases = {name: type(name.title(), (Agent,), {}) for name in names}  # so that the classes are this session's own
    ga = GraphAgent(graph, thread_id=thread, messages=told, saver=saver, bases=bases, on_resume=lambda resumed: None)
    for name in names:
        watch.listen(ga.agent_type(name))
    return ga
