"""`GraphAgent`: a voice graph as a LiveKit agent."""

import contextlib
import inspect
from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from typing import Any, Never

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.store.base import BaseStore
from livekit.agents import Agent, FlushSentinel, ModelSettings, llm

from graph_voice import Agent as GraphDefinition
from graph_voice import Conversation, Task, Voice, events, history
from graph_voice.agents.livekit_arguments import OF_CALLS, refuse_arguments
from graph_voice.call.durable import ResumeHook
from graph_voice.errors import BuildError, ModelError
from graph_voice.graph.build import METADATA, definition_of
from graph_voice.graph.given import as_compiled
from graph_voice_livekit.convert.converters import to_chat_context
from graph_voice_livekit.convert.voices import Voices
from graph_voice_livekit.session.behind_base import BehindBase, TaskAgent
from graph_voice_livekit.session.bridge import Bridge
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.external import ExternalAgents
from graph_voice_livekit.session.external_tasks import ExternalTasks, MakeTask
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.session.host_tools import ToolsetMirror
from graph_voice_livekit.session.program_calls import ProgramCalls
from graph_voice_livekit.session.recovery import recognizer_of
from graph_voice_livekit.session.reply import FLUSH, GraphLLM

__all__ = ["GraphAgent", "NodeAgent"]


INSTRUCTIONS = "lk.agent_task.instructions"
"""How the id of LiveKit's items with an agent's instructions begins."""


class NodeAgent(ProgramCalls):
    """The LiveKit agent of one agent of a graph: its voice, mirrors of its tools, and a reply that drains the turn."""

    arriving: history.Operation | None = None
    """What the graph's agent is shown if the program makes it the active one; None: `GraphAgent(history=...)`."""
    _has_entered = True
    """False for an agent with which LiveKit's session began although another agent was active in the stored call."""
    handoff: LiveHandoff | None = None
    """The handoff by which this agent becomes active, until it has entered: its first words continue that turn."""
    entering: Driver | None = None
    """The turn in which the graph's agent enters by a method of its own, until that has ended."""

    def _become(self, bridge: Bridge, name: str, definition: GraphDefinition | None, voice: dict[str, Any]) -> None:
        self._bridge = bridge
        self._definition = definition
        bridge.host_tools.update(name, None)
        tools: list[llm.Tool | llm.Toolset] = [*bridge.mirrors.of(definition.all_tools if definition else ())]
        names = dict.fromkeys(toolset.name for toolset in (definition.toolsets if definition else ()))
        tools += map(ToolsetMirror, names)
        self._arguments = {
            "id": name,
            "instructions": self._rendered(name, definition),
            "tools": tools,
            "llm": GraphLLM(bridge, name, self._check_models, self.offered, self.missing_mirrors),
            **voice,
        }
        if isinstance(self, BehindBase):
            super().__init__()  # type: ignore[call-arg]  # of the class in `bases`, which leads to `BehindBase`
        else:
            Agent.__init__(self, **self._arguments)

    def _rendered(self, name: str, definition: GraphDefinition | None) -> str:
        """The agent's instructions with the userdata as it is now, for LiveKit's judges and traces."""
        if definition is not None:
            with contextlib.suppress(Exception):  # the program's function; if it fails in the run, that is reported
                call = self._bridge.conversation.call
                return definition.render(call.state.value("userdata"), call.modality)
        return f"The graph's agent {name}; its prompt is the graph's own."

    @property
    def bridge(self) -> Bridge:
        """The bridge of this agent's call."""
        return self._bridge

    @property
    def recognizer(self) -> object:
        """Its speech recognizer, if LiveKit may keep it across a handoff; else None."""
        return recognizer_of(self, self.session)

    @property
    def definition_enters(self) -> bool:
        """Whether the graph's agent has an `on_enter`."""
        return self._definition is not None and self._definition.on_enter is not None

    def _check_models(self) -> None:
        """Raise what the program's author should see in `session.start`: later, the caller would hear nothing."""
        self._refuse_realtime()
        self.check_session_tools()
        self._bridge.conversation.call.require_models()

    def _refuse_realtime(self) -> None:
        model = self.session.llm
        if isinstance(model, llm.RealtimeModel):  # LiveKit has made a duplex model one by now
            raise ModelError(
                f"AgentSession(llm={model.label}): a realtime (speech-to-speech) model answers by itself, past "
                "LiveKit's llm_node, so nothing of the graph would be asked. Leave llm out, give the session an stt "
                'and a tts, and name the model in the graph: create_voice_graph(..., llm="openai:gpt-4.1").'
            )

    @property
    def enters_by_method(self) -> bool:
        """Whether the graph's agent has an `on_enter` method."""
        return self._definition is not None and self._definition.enters_by_method

    def first_instructions(self) -> str | None:
        """The instructions of the graph's `on_enter`, with the userdata as it is now, for LiveKit's traces."""
        if self._definition is not None:
            with contextlib.suppress(Exception):  # as above
                return self._definition.render_on_enter(self._bridge.conversation.call.state.value("userdata"))
        return None

    async def on_enter(self) -> None:
        self._was_active = True
        if self.id in self._bridge.external_tasks:
            await self._bridge.run_task(self)
            return
        self._has_entered = await self._bridge.handoffs.entered(self)
        if self._has_entered:
            await super().on_enter()
        if self.entering is not None:
            # As in LiveKit: a run (`session.run`, `capture_run`) lasts until the `on_enter` method has ended.
            await self.entering.entered_by_method.wait()
            self.entering = None

    async def on_exit(self) -> None:
        if self.entering is not None:
            self.entering.entered_by_method.set()  # LiveKit waits for the agent's on_enter before another one enters
        await self._bridge.handoffs.leaving()
        if self._has_entered:
            await super().on_exit()

    async def show(self, messages: Sequence[BaseMessage]) -> None:
        """Make LiveKit's chat context what the graph shows the agent: turn detectors and judges read it."""
        if (instructions := self._rendered(self.id, self._definition)) != self.instructions:
            await super(ProgramCalls, self).update_instructions(instructions)  # LiveKit's own
        shown = to_chat_context(messages).items
        known = {item.id for item in shown}
        own = [item for item in self.chat_ctx.items if item.id not in known]
        first = [item for item in own if item.id.startswith(INSTRUCTIONS)]
        rest = [item for item in own if item not in first]
        context = llm.ChatContext([*first, *shown, *rest])
        await super(ProgramCalls, self).update_chat_ctx(context, exclude_invalid_function_calls=False)

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        with self._bridge.recovery.passing(new_message):
            await super().on_user_turn_completed(turn_ctx, new_message)
        if any(not isinstance(part, str) for part in new_message.content):
            # LiveKit keeps a preemptive reply when the words are the same, although its model never saw the image. An
            # item that no model is shown makes the two contexts differ, so that LiveKit makes a new reply.
            turn_ctx.items.append(llm.AgentConfigUpdate())

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncIterable[llm.ChatChunk | FlushSentinel]:
        graph_llm = self.llm
        assert isinstance(graph_llm, GraphLLM)
        self._bridge.host_tools.seen(self._bridge.mirrors.others(tools), self.tools)
        await self._bridge.resume.ready()  # the caller may speak before it is known whether the store has the call
        async with graph_llm.chat(
            chat_ctx=chat_ctx, tools=tools, tool_choice=model_settings.tool_choice, own_ctx=self.chat_ctx
        ) as stream:
            async for chunk in stream:
                # Without it, the voice's sentence tokenizer would hold back the words before a slow step until its end.
                yield FlushSentinel() if chunk.id == FLUSH else chunk


class GraphAgent(NodeAgent):
    """A voice graph in a LiveKit `AgentSession`: `await session.start(agent=GraphAgent(graph))`.

    It is the LiveKit agent of the graph's start agent. The others become active by LiveKit's own handoffs.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any compiled graph with a `messages`
            channel (then `speak` names the nodes that speak, and the graph starts when the user turn is certain), or
            LangGraph's `RemoteGraph`.
        thread_id: the call's name in LangGraph and LangSmith.
        userdata: the call's typed facts. Default: `AgentSession(userdata=...)`, else the userdata class's defaults.
        messages: an earlier conversation that this one continues.
        context: LangGraph's run context.
        store: LangGraph's store.
        config: a LangChain `RunnableConfig` for every turn; `{"configurable": {"llm": model}}` names the model.
        speak: names of nodes that speak.
        silent: nodes with which a turn may end without a word.
        apology: said when something failed, or nothing was said: a text, or a function of the userdata. Default: the
            graph's own.
        ask: what is said for a value that was given to `interrupt()`: a function of the value. See `Conversation`.
        answer: what `interrupt()` returns: a function of its value and the caller's words. See `Conversation`.
        on_custom: called with each `graph_voice.events.Custom`, what tools and nodes write with LangGraph's
            `get_stream_writer()`. See `Conversation`.
        voices: agent -> `Voice`, in place of what the graph declares.
        agents: the name of an external agent -> its LiveKit `Agent` class, or a function that makes one. It is called
            at each handoff to that agent.
        tasks: the name of an external task -> a function of the run (`run.inputs`) that makes LiveKit's `AgentTask`.
            It is called each time the task begins. The task's model is its own, or `AgentSession(llm=...)`.
        history: what an agent of the graph is shown of the conversation when an external agent hands off to it.
            Default: nothing, as in LiveKit. `messages` has all of it in any case.
        bases: agent -> a LiveKit `Agent` subclass whose pipeline hooks (all but `llm_node`) and attributes it inherits.
            It is made without arguments. Its prompt and tools are the graph's; its plugins are its own where the
            graph's `Voice` names none. Its `on_enter` runs when the graph's agent has been asked for its first words,
            its `on_exit` before a handoff.
        saver: where the call is stored while it goes on, as `Conversation(saver=...)`. With the `thread_id` of a stored
            call, this one goes on where that one ended: same agent, history and userdata.
        on_resume: what the agent says then instead of a greeting: instructions for the reply, or a function of
            `graph_voice.Resumed` that returns them, or None to wait for the caller. Default: it says that the line was
            cut, and goes on.

    Raises `graph_voice.errors.BuildError` for a graph that can't speak. `session.start` raises `ModelError` or
    `MissingDependencyError` for one whose models can't be used.
    """

    def __new__(
        cls, graph: Any = None, *, bases: Mapping[str, type[Agent]] | None = None, **options: Any
    ) -> "GraphAgent":
        del options
        start = _start_of(graph)
        if bases and start is not None and start in bases:
            cls = _typed(start, (cls, *_behind(bases[start])))
        if start is not None and _is_task(graph, start):
            cls = _typed(start, (cls, TaskAgent))  # the whole call is one task, and LiveKit's run has its result
        return super().__new__(cls)

    def __init__(
        self,
        graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph,
        *,
        thread_id: str | None = None,
        userdata: Any = None,
        messages: Sequence[Any] | None = None,
        context: Any = None,
        store: BaseStore | None = None,
        config: Any = None,
        speak: Sequence[str] = (),
        silent: Sequence[str] = (),
        apology: str | Callable[[Any], str] | None = None,
        ask: Callable[[Any], str] | None = None,
        answer: Callable[[Any, str], Any] | None = None,
        on_custom: Callable[[events.Custom], Any] | None = None,
        voices: Mapping[str, Voice] | None = None,
        agents: Mapping[str, Callable[[], Agent]] | None = None,
        tasks: Mapping[str, MakeTask] | None = None,
        history: history.Operation | None = None,
        bases: Mapping[str, type[Agent]] | None = None,
        saver: BaseCheckpointSaver[Any] | None = None,
        on_resume: ResumeHook = None,
        **others: Never,
    ) -> None:
        refuse_arguments("GraphAgent()", others, OF_CALLS)
        self.conversation: Conversation[Any] = Conversation(
            as_compiled(graph, "GraphAgent"),
            thread_id=thread_id,
            userdata=userdata,
            messages=messages,
            context=context,
            store=store,
            config=config,
            speak=speak,
            silent=silent,
            apology=apology,
            ask=ask,
            answer=answer,
            on_custom=on_custom,
            saver=saver,
        )
        self._plugins = Voices()
        self._voices = dict(voices or {})
        self._types: dict[str, type[NodeAgent]] = {}
        self._task_types: dict[type[Agent], type[Agent]] = {}
        self._bases = dict(bases or {})
        roles = self.conversation.call.roles
        first = next((name for name in roles.nodes if name in roles.custom_speakers), "")
        for name in roles.agents:
            self._plugins.check(name, self._voice(name))
        self._start = self.conversation.active_agent or first
        unknown = (set(self._bases) - roles.agents) | (set(self._voices) - roles.agents - {self._start})
        if unknown:
            raise BuildError(f"{sorted(unknown)}: the graph's agents are {', '.join(sorted(roles.agents)) or 'none'}.")
        for name, base in self._bases.items():
            _check_base(name, base)
        self._external_agents = ExternalAgents(roles, agents or {})
        external_tasks = ExternalTasks(roles, tasks or {})
        self._bridge = Bridge(
            self.conversation, self._node, self._task, self._external_agents, external_tasks, history, on_resume
        )
        self._become(self._bridge, self._start, *self._describe(self._start))

    def agent(self, name: str, *, history: history.Operation | None = None) -> Agent:
        """Make a LiveKit agent of a graph's agent, for `session.update_agent(...)` or as the result of a LiveKit tool.

        Args:
            name: of the agent. An external agent is made as `GraphAgent(agents=...)` says.
            history: what it is shown of the conversation so far. Default: after an external agent what
                `GraphAgent(history=...)` says, else nothing.

        Raises `graph_voice.errors.BuildError` for a name that is no agent of the graph.
        """
        if name in self._external_agents:
            if history is not None:
                raise BuildError(
                    f'agent("{name}", history=...): an external agent gets its context from the code that makes it.'
                )
            return self._external_agents.make(name)
        made = self._node(name)
        made.arriving = history
        return made

    def _node(self, name: str, handoff: LiveHandoff | None = None) -> NodeAgent:
        kind = self.agent_type(name)
        made = kind.__new__(kind)
        assert isinstance(made, NodeAgent)
        made._become(self._bridge, name, *self._describe(name))
        made.handoff = handoff
        return made

    def _task(self, handoff: LiveHandoff) -> TaskAgent:
        kind = self.agent_type(handoff.new_agent)
        if kind not in self._task_types:
            self._task_types[kind] = type(kind.__name__, (kind, TaskAgent), {"__module__": __name__})
        made = self._task_types[kind].__new__(self._task_types[kind])
        assert isinstance(made, NodeAgent)
        assert isinstance(made, TaskAgent)
        made._become(self._bridge, handoff.new_agent, *self._describe(handoff.new_agent))
        made.handoff = handoff
        return made

    def agent_type(self, name: str) -> type[Agent]:
        """The class of a graph's agent, for LiveKit's `mock_tools` and `is_agent_handoff(new_agent_type=...)`.

        Raises `graph_voice.errors.BuildError` for a name that is no agent of the graph.
        """
        if name == self._start:
            return type(self)
        if name in self._external_agents:
            return self._external_agents.type_of(name)
        if name not in self.conversation.call.roles.agents:
            agents = ", ".join(sorted(self.conversation.call.roles.agents | self.conversation.call.roles.external))
            raise BuildError(f"agent_type({name!r}): the graph's agents are {agents}.")
        if name not in self._types:
            self._types[name] = _typed(name, (NodeAgent, *_behind(self._bases.get(name, Agent))))
        return self._types[name]

    def _describe(self, name: str) -> tuple[GraphDefinition | None, dict[str, Any]]:
        definition = definition_of(self.conversation.graph, name)
        return definition, self._plugins.arguments(self._voice(name))

    def _voice(self, name: str) -> Voice | None:
        definition = definition_of(self.conversation.graph, name)
        return self._voices.get(name) or (definition.voice if definition is not None else None)

    async def aclose(self) -> None:
        """End the call: running tools finish, and the trace is completed. LiveKit's `close` event does it as well."""
        await self._bridge.aclose()


def _behind(base: Any) -> tuple[type, ...]:
    """The base classes of an agent. A value that is no class is refused later, with a reason."""
    return (base, BehindBase) if isinstance(base, type) and issubclass(base, Agent) and base is not Agent else ()


def _check_base(name: str, base: Any) -> None:
    """Raise `BuildError` for a class that can't be a base of the graph's agent."""
    where = f'bases={{"{name}": {getattr(base, "__name__", base)}}}'
    if not isinstance(base, type) or not issubclass(base, Agent):
        raise BuildError(f"{where}: write a subclass of livekit.agents.Agent.")
    if tools := sorted(tool.id for tool in llm.find_function_tools(base)):
        raise BuildError(
            f"{where}: its LiveKit tools ({', '.join(tools)}) are not the graph's, so no model would know them. Give "
            f'them to the agent: Agent("{name}", ..., tools=[...]).'
        )
    wanted = [
        parameter.name
        for parameter in list(inspect.signature(base.__init__).parameters.values())[1:]
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if base.__init__ is not Agent.__init__ and wanted:
        raise BuildError(f"{where}: it is made without arguments, but wants {', '.join(wanted)}. Give them defaults.")


def _typed(name: str, bases: tuple[type, ...]) -> Any:
    return type("".join(part.title() for part in name.split("_")), bases, {"__module__": __name__})


def _is_task(graph: Any, name: str) -> bool:
    compiled = as_compiled(graph, "GraphAgent")
    return isinstance(compiled, Pregel) and isinstance(definition_of(compiled, name), Task)


def _start_of(graph: Any) -> str | None:
    nodes = graph.nodes if isinstance(graph, StateGraph | Pregel) else {}
    for name, node in nodes.items():
        if ((node.metadata or {}).get(METADATA) or {}).get("start"):
            return str(name)
    return None
