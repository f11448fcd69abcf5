"""`GraphAgent`: a voice graph as a LiveKit agent."""

from collections.abc import AsyncIterable, Mapping, Sequence
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from livekit.agents import Agent, FlushSentinel, ModelSettings, llm

from graph_voice import Agent as GraphDefinition
from graph_voice import Conversation, Voice
from graph_voice.errors import BuildError
from graph_voice.graph import METADATA, definition_of
from graph_voice_livekit.bridge import Bridge
from graph_voice_livekit.converters import to_chat_context
from graph_voice_livekit.driver import TurnDriver
from graph_voice_livekit.mirrors import make_mirror
from graph_voice_livekit.reply import GraphLLM
from graph_voice_livekit.voices import Voices

__all__ = ["GraphAgent", "NodeAgent"]


class NodeAgent(Agent):
    """One agent of a graph, as LiveKit sees it: its voice, mirrors of its tools, and a reply that drains the turn."""

    _bridge: Bridge
    _definition: GraphDefinition | None
    turn: TurnDriver | None = None
    """The turn that handed off to this agent, until it has entered: its first words belong to it."""

    def _become(self, bridge: Bridge, name: str, definition: GraphDefinition | None, voice: dict[str, Any]) -> None:
        self._bridge = bridge
        self._definition = definition
        tools: list[llm.Tool | llm.Toolset] = []
        if definition is not None:
            tools += [make_mirror(bridge, tool) for tool in definition.all_tools]
        Agent.__init__(
            self,
            id=name,
            instructions=f"The graph's agent {name}; its prompt is the graph's own.",
            tools=tools,
            llm=GraphLLM(bridge, name),
            **voice,
        )

    @property
    def definition_enters(self) -> bool:
        """Whether the graph's agent has an `on_enter`."""
        return self._definition is not None and self._definition.on_enter is not None

    async def on_enter(self) -> None:
        await self._bridge.entered(self)

    async def on_exit(self) -> None:
        self._bridge.leaving()
        await super().on_exit()

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterable[llm.ChatChunk | FlushSentinel]:
        graph_llm = self.llm
        assert isinstance(graph_llm, GraphLLM)
        async with graph_llm.chat(chat_ctx=chat_ctx, tools=tools, tool_choice=model_settings.tool_choice) as stream:
            async for chunk in stream:
                if chunk.delta is not None and chunk.delta.tool_calls:
                    # Otherwise the sentence tokenizer holds the words before a slow tool back until it has ended.
                    yield FlushSentinel()
                yield chunk


class GraphAgent(NodeAgent):
    """A voice graph in a LiveKit `AgentSession`: `await session.start(agent=GraphAgent(graph))`.

    It is the LiveKit agent of the graph's start agent; the others take the floor by LiveKit's own handoffs.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any compiled graph with a `messages`
            channel (then `speak` names the nodes that speak, and the graph starts when the user turn is certain).
        thread_id: the call's name in LangGraph and LangSmith.
        userdata: the caller's facts. Default: `AgentSession(userdata=...)`, else the userdata class's defaults.
        messages: a conversation that went before.
        context: LangGraph's run context.
        store: LangGraph's store.
        config: a LangChain `RunnableConfig` for every turn; `{"configurable": {"llm": model}}` names the model.
        speak: nodes that speak.
        voices: agent -> `Voice`, in place of what the graph declares.
        bases: agent -> a LiveKit `Agent` subclass whose pipeline hooks it inherits (all but `llm_node`).

    Raises `graph_voice.errors.BuildError` for a graph that can't speak.
    """

    def __new__(
        cls, graph: Any = None, *, bases: Mapping[str, type[Agent]] | None = None, **options: Any
    ) -> "GraphAgent":
        del options
        start = _start_of(graph)
        if bases and start is not None and start in bases:
            cls = _typed(start, (cls, bases[start]))
        return super().__new__(cls)

    def __init__(
        self,
        graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any],
        *,
        thread_id: str | None = None,
        userdata: Any = None,
        messages: Sequence[Any] | None = None,
        context: Any = None,
        store: BaseStore | None = None,
        config: Any = None,
        speak: Sequence[str] = (),
        voices: Mapping[str, Voice] | None = None,
        bases: Mapping[str, type[Agent]] | None = None,
    ) -> None:
        self.conversation: Conversation[Any] = Conversation(
            graph,
            thread_id=thread_id,
            userdata=userdata,
            messages=messages,
            context=context,
            store=store,
            config=config,
            speak=speak,
        )
        self._plugins = Voices()
        self._voices = dict(voices or {})
        self._types: dict[str, type[NodeAgent]] = {}
        self._bases = dict(bases or {})
        roles = self.conversation.roles
        unknown = (set(self._bases) | set(self._voices)) - roles.agents
        if unknown:
            raise BuildError(f"{sorted(unknown)}: the graph's agents are {', '.join(sorted(roles.agents)) or 'none'}.")
        self._start = self.conversation.active_agent or next(iter(roles.foreign_speakers))
        self._bridge = Bridge(self.conversation, self.agent)
        self._become(self._bridge, self._start, *self._describe(self._start))

    def agent(self, name: str) -> NodeAgent:
        """The LiveKit agent of a graph's agent, for `session.update_agent(...)`; a new one at each call.

        Its chat context holds what the graph shows the agent, for turn detectors and judges.
        """
        made = self.agent_type(name).__new__(self.agent_type(name))
        definition, voice = self._describe(name)
        voice["chat_ctx"] = to_chat_context(self.conversation.chat_ctx)
        made._become(self._bridge, name, definition, voice)
        return made

    def agent_type(self, name: str) -> type[NodeAgent]:
        """The class of a graph's agent, for LiveKit's `mock_tools` and `is_agent_handoff(new_agent_type=...)`.

        Raises `graph_voice.errors.BuildError` for a name that is no agent of the graph.
        """
        if name == self._start:
            return type(self)
        if name not in self.conversation.roles.agents:
            agents = ", ".join(sorted(self.conversation.roles.agents))
            raise BuildError(f"agent_type({name!r}): the graph's agents are {agents}.")
        if name not in self._types:
            self._types[name] = _typed(name, (NodeAgent, *([self._bases[name]] if name in self._bases else [])))
        return self._types[name]

    def _describe(self, name: str) -> tuple[GraphDefinition | None, dict[str, Any]]:
        definition = definition_of(self.conversation.graph, name)
        voice = self._voices.get(name) or (definition.voice if definition is not None else None)
        return definition, self._plugins.arguments(voice)

    async def aclose(self) -> None:
        """End the call: running tools finish, the trace is complete. LiveKit's `close` event does it as well."""
        await self._bridge.aclose()


def _typed(name: str, bases: tuple[type, ...]) -> Any:
    return type("".join(part.title() for part in name.split("_")), bases, {"__module__": __name__})


def _start_of(graph: Any) -> str | None:
    nodes = graph.nodes if isinstance(graph, StateGraph | Pregel) else {}
    for name, node in nodes.items():
        if ((node.metadata or {}).get(METADATA) or {}).get("start"):
            return str(name)
    return None
