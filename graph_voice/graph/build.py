"""From agents to a LangGraph `StateGraph`: agents are nodes, handoffs are labeled conditional edges."""

import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Never, Self, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.graph import END, START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy

from graph_voice.agents.agent import Agent
from graph_voice.agents.external_task import ExternalTask
from graph_voice.agents.idle import Idle
from graph_voice.agents.livekit_arguments import OF_GRAPHS, refuse_arguments
from graph_voice.agents.shared_tools import SharedTools
from graph_voice.agents.task_group import TaskGroup
from graph_voice.agents.tools import FunctionTool
from graph_voice.agents.toolset import Toolset
from graph_voice.errors import BuildError, TurnError
from graph_voice.graph.agent_node import AgentNode
from graph_voice.graph.agent_runtime import AgentRuntime, Apology, Settings
from graph_voice.graph.arrival import ExternalNode
from graph_voice.graph.external_task import ExternalTaskNode
from graph_voice.graph.members import (
    check_names,
    check_options,
    check_tasks,
    check_tools,
    members_of,
    name_of,
    run_by,
    tasks_run_by,
    waiting_nodes,
    warn_of_unreachable,
)
from graph_voice.graph.state import VoiceState, schema_for
from graph_voice.graph.studio_context import is_editable, studio_context
from graph_voice.turn.nodes_side import turn_of

__all__ = ["GO_ON", "METADATA", "create_voice_graph", "definition_of", "refuse_voice_graph", "runtime_of"]

logger = logging.getLogger("graph_voice")

METADATA = "graph_voice"
"""The metadata key under which a library node describes itself."""
GO_ON = "go_on"
"""The name of the conditional edges from an agent to its tools and to the targets of its transfers."""


def create_voice_graph(
    agents: Sequence[Agent | type[Agent] | TaskGroup[Any] | Pregel[Any, Any, Any, Any]],
    *,
    userdata: type[Any] | None = None,
    start: str | Agent | None = None,
    llm: BaseChatModel | str | None = None,
    state_schema: Any = VoiceState,
    context_schema: type[Any] | None = None,
    tools: Sequence[Any] = (),
    external: Sequence[str] = (),
    external_tasks: Mapping[str, Any] | None = None,
    fallback: BaseChatModel | str | None = None,
    retry_policy: RetryPolicy = Settings.retry,
    first_token_timeout: float | None = Settings.first_token_timeout,
    max_hops: int = 4,
    max_tool_calls: int = 64,
    apology: Apology = Settings.apology,
    idle: Idle | None = None,
    secrets: SerializerProtocol | None = None,
    **others: Never,
) -> StateGraph[Any, Any, Any, Any]:
    """Wire agents into LangGraph's own `StateGraph`. Compile it with any checkpointer and store, or none.

    Args:
        agents: `Agent`s (instances, or subclasses that need no arguments), `Task`s and `TaskGroup`s, or named compiled
            graphs.
        userdata: the userdata class: a pydantic model or a dataclass. None: a dict.
        start: the name of the agent that is active first, or that agent. Default: the first of the list.
        llm: the model of agents that have none of their own. None: the run names it
            (`config={"configurable": {"llm": ...}}`), or the environment variable `GRAPH_VOICE_LLM`.
        state_schema: `VoiceState`, or a class that extends it with channels of your own.
        context_schema: LangGraph's: what a run gets besides the state; it is never stored. None: each agent's
            instructions and model, which LangGraph Studio can edit (`graph_voice.studio.studio_context`). The context
            itself is passed on unchanged.
        tools: tools of every agent and task, as in `Agent(tools=[...])`. An agent's own tool of the same name comes
            first. What such a tool hands off to (`@function_tool(handoffs=["operator"])`) need not be declared, and
            that agent itself does not get it. Compiled graphs among the agents keep to their own tools. LiveKit's
            `AgentSession(tools=[...])`.
        external: names of external agents, which handoffs may lead to. The front end defines them
            (`GraphAgent(graph, agents={"human_desk": HumanDesk})`).
        external_tasks: the name of a task that the front end runs -> the class of its result: LiveKit's own
            `AgentTask`s (`GraphAgent(graph, tasks={"dtmf": lambda run: GetDtmfTask(...)})`). Agents name them:
            `Agent(tasks=["dtmf"])`, `await ctx.run_task("dtmf")`.
        fallback: the model that answers when an agent's own fails before its first word. None: no fallback.
        retry_policy: LangGraph's: how often, and after which errors, a model that has not said anything yet is asked
            again. Default: once more after 0.2 seconds, when LangChain calls the error retryable.
        first_token_timeout: seconds to wait for the first piece of a model's answer before it counts as failed. None:
            no limit.
        max_hops: the number of handoffs in a turn after which the active agent must answer.
        max_tool_calls: how many tool calls of one message count. A model that has lost its way may write thousands;
            those beyond the limit are dropped, and the model is told so.
        apology: said when every model has failed or answered with nothing, a node has failed, or a run has ended
            and nothing was said: a text, or a function of the userdata. A node that may end a turn without speech
            declares it: `add_node(..., metadata={"silent": True})`.
        idle: what the active agent says when the caller is silent for a while: `Idle(after=10, say="...")`. None:
            nothing.
        secrets: the serializer that encrypts the secrets (`SecretStr`, `SecretBytes`, `Secret[...]`) of the userdata,
            and of the tasks' drafts and results, in checkpoints: LangGraph's `EncryptedSerializer`. None: they are left
            out, so a call that another process resumes has lost them.

    Raises `BuildError` for duplicate or reserved names, an undeclared target, an empty list, and `ModelError` for a
    model string that names no provider. The model itself is made when a call needs it: you can build, draw and check
    the graph, and run it with another model, without its package and key. Warns of an agent that no handoff leads to. A
    target may be any node, even one that you add to the result, so a missing target is a `BuildError` of `compile()`.
    """
    if isinstance(agents, Agent | Pregel | type):
        raise BuildError("create_voice_graph(...) takes a list of agents: create_voice_graph([agent]).")
    if not isinstance(agents, Iterable) or isinstance(agents, str):
        raise BuildError(f"create_voice_graph({agents!r:.60}): write a list of agents, create_voice_graph([agent]).")
    refuse_arguments("create_voice_graph()", others, OF_GRAPHS)
    check_options(
        external, external_tasks, retry_policy, first_token_timeout, max_hops, max_tool_calls, apology, idle, secrets
    )
    shared = SharedTools(tools)
    members = [shared.given_to(m) if isinstance(m, Agent) else m for m in members_of(agents)]
    members += [ExternalTask(name, kind) for name, kind in (external_tasks or {}).items()]
    names = [name_of(member) for member in members]
    for name, member in zip(names, members, strict=True):
        refuse_voice_graph(name, member)
    external = [external] if isinstance(external, str) else list(external)
    check_names(names, external)
    start = (start.name if isinstance(start, Agent) else start) or names[0]
    if start not in names:
        raise BuildError(f'start="{start}" is not one of the agents: {", ".join(names)}.')
    settings = Settings(
        agents=frozenset(names) | frozenset(external),
        external=frozenset(external),
        external_tasks={member.name: member for member in members if isinstance(member, ExternalTask)},
        max_hops=max_hops,
        max_tool_calls=max_tool_calls,
        apology=apology,
        idle=idle,
        retry=retry_policy,
        secrets=secrets,
        first_token_timeout=first_token_timeout,
    )
    if context_schema is None:
        context_schema = studio_context(members)
    editable = is_editable(context_schema)
    builder: StateGraph[Any, Any, Any, Any] = _VoiceGraph(
        schema_for(state_schema, userdata, secrets, [*names, *external]), context_schema=context_schema
    )
    check_tasks(members, start)
    groups = {
        step.name: group.name
        for agent in members
        if isinstance(agent, Agent)
        for group in agent.own_groups.values()
        for step in group.steps
    }
    for member in members:
        if isinstance(member, ExternalTask):
            _add_external_task(builder, member, settings, run_by(members, member.name))
        elif isinstance(member, Agent):
            check_tools(member)
            runtime = AgentRuntime(member, llm, settings, fallback)
            runtime.editable = editable
            settings.runtimes[member.name] = runtime
            waiting, group = waiting_nodes(run_by(members, member.name)), groups.get(member.name)
            _add_agent(builder, member, runtime, start=member.name == start, waiting=waiting, group=group)
        else:
            about = {"agent": name_of(member), "subgraph": True, "start": name_of(member) == start}
            builder.add_node(name_of(member), member, metadata={"speak": True, METADATA: about})
            builder.add_edge(name_of(member), END)

    for name in external:
        outside = ExternalNode(name, settings)
        builder.add_node(name, cast(Any, outside.step), metadata={METADATA: {"external": True}})
        builder.add_edge(name, END)

    # Async, like the nodes: LangGraph runs a sync path function in a thread, which costs more than the function does.
    async def first(state: dict[str, Any]) -> str:
        active = state.get("active_agent") or start
        if active in known:
            return active
        logger.warning('the state\'s active agent "%s" is none of this graph: "%s" answers', active, start)
        return start

    known = {*names, *external}
    builder.add_conditional_edges(
        START, RunnableLambda(_refuse_sync, first, name="first"), {name: name for name in (*names, *external)}
    )
    warn_of_unreachable(members, start, external)
    return builder


def _refuse_sync(state: Any) -> str:
    raise TurnError(
        "A voice graph's nodes are async, so graph.invoke(...) and graph.stream(...) can't run it: write "
        "`await graph.ainvoke(...)` or `async for ... in graph.astream(...)`; in a script, asyncio.run(...)."
    )


class _VoiceGraph(StateGraph[Any, Any, Any, Any]):
    """LangGraph's own `StateGraph`, with a clearer error for a missing handoff target."""

    def validate(self, interrupt: Sequence[str] | None = None) -> Self:
        """LangGraph's check of nodes and edges, when the graph is compiled. Raises `BuildError`."""
        for name in self.nodes:
            refuse_voice_graph(name, self.nodes[name].runnable)
            runtime = _runtime(self, name)
            for target in sorted(runtime.agent.targets - set(self.nodes)) if runtime is not None else ():
                close = difflib.get_close_matches(target, self.nodes, 1)
                meant = f'did you mean "{close[0]}"? ' if close else ""
                known = ", ".join(n for n in self.nodes if _runtime(self, n) is not None)
                raise BuildError(
                    f'agent "{name}" hands off to "{target}", but the graph has no such node: {meant}The agents are '
                    f'{known}. A node of your own is added before compile(): graph.add_node("{target}", ...). An '
                    f'external agent is declared: create_voice_graph(..., external=["{target}"]).'
                )
        return super().validate(interrupt)


def refuse_voice_graph(name: str, member: Any) -> None:
    """Raise `BuildError` for a voice graph as a node of a graph whose state is a voice graph's too."""
    if isinstance(getattr(member, "builder", None), _VoiceGraph):
        raise BuildError(
            f'"{name}" is a voice graph. It can\'t be a node of another one, since both keep their active agent and '
            "their handoffs in the same state. Put its agents into the list of agents; or, to ask it as a graph of its "
            'own, call it in a tool or in a node: await graph.ainvoke({"messages": [...]}).'
        )


def runtime_of(graph: Pregel[Any, Any, Any, Any], name: str) -> AgentRuntime | None:
    """The runtime of an agent's node in a compiled voice graph; None for any other node."""
    return _runtime(getattr(graph, "builder", None), name)


def definition_of(graph: Pregel[Any, Any, Any, Any], name: str) -> Agent | None:
    """The `Agent` behind a node of a compiled voice graph; None for any other node."""
    runtime = runtime_of(graph, name)
    return None if runtime is None else runtime.agent


def require_models(graph: Pregel[Any, Any, Any, Any], config: RunnableConfig) -> None:
    """Raise `ModelError` or `MissingDependencyError` if an agent of this graph has no model in a run with this config,
    or one that can't be made."""
    for runtime in _runtimes(graph):
        runtime.models(config)


async def load_models(graph: Pregel[Any, Any, Any, Any], config: RunnableConfig) -> None:
    """Make the models that a run with this config asks. What can't be made is reported by `require_models`."""
    for runtime in _runtimes(graph):
        await runtime.load(config)


def toolsets_of(graph: Pregel[Any, Any, Any, Any]) -> list[Toolset]:
    """The toolsets of this graph's agents."""
    return [toolset for runtime in _runtimes(graph) for toolset in runtime.agent.toolsets]


def _runtimes(graph: Pregel[Any, Any, Any, Any]) -> list[AgentRuntime]:
    return [runtime for name in graph.nodes if (runtime := runtime_of(graph, name)) is not None]


def _runtime(builder: Any, name: str) -> AgentRuntime | None:
    spec = builder.nodes.get(name) if builder is not None else None
    step = getattr(getattr(spec, "runnable", None), "afunc", None)
    node = getattr(step, "__self__", None)
    return node.runtime if isinstance(node, AgentNode) else None


def _add_agent(
    builder: StateGraph[Any, Any, Any, Any],
    agent: Agent,
    runtime: AgentRuntime,
    *,
    start: bool,
    waiting: Sequence[str] = (),
    group: str | None = None,
) -> None:
    """Add the nodes and edges of an agent.

    Args:
        builder: the graph.
        agent: the agent.
        runtime: its runtime.
        start: whether a new call begins with it.
        waiting: the nodes that go on when it has ended, if it is a task.
        group: the group of tasks that it is a step of.
    """
    name, node = agent.name, AgentNode(runtime)
    voice = agent.voice.describe() if agent.voice is not None else {}
    about = {"agent": name, "start": start, "tools": tools_drawn(agent), "voice": voice}
    if group is not None:
        about["group"] = group
    builder.add_node(name, cast(Any, node.step), metadata={"speak": True, METADATA: about})
    own, by_tools = _handoffs(agent)
    if not agent.has_tools and not own:
        builder.add_edge(name, END)
        return
    leads_to: dict[str, str] = {END: END}
    if agent.has_tools:
        tools = node.tools
        leads_to[tools.name] = tools.name
        # `destinations` is what LangGraph draws. A transfer beside other tool calls leads from here to its target too,
        # but each handoff is drawn once: this one from its agent.
        builder.add_node(
            tools.name,
            cast(Any, tools.step),
            destinations={name: name, **by_tools, **dict.fromkeys(waiting, "task ends")},
            metadata={METADATA: {"tools_of": name}},
        )

        async def leave(state: dict[str, Any]) -> str | list[str]:
            target = tools.route(state, turn_of())
            return [] if target is None else target

        builder.add_conditional_edges(tools.name, leave)
    labels = {target: label if label not in leads_to else f"{label} " for target, label in own.items()}

    async def go_on(state: dict[str, Any]) -> str:  # its name is the edges' (`GO_ON`)
        target = node.route(state)
        return labels.get(target, target)

    ways = {label: target for target, label in labels.items()}
    builder.add_conditional_edges(name, go_on, cast(Any, {**leads_to, **ways}))


def tools_drawn(agent: Agent) -> list[str]:
    """The names under which an agent's tools are drawn. A toolset has its own, in place of its tools'."""
    return [*(t.name for t in agent.own_tools), *(s.name for s in agent.toolsets), *(t.name for t in agent.transfers)]


def _add_external_task(
    builder: StateGraph[Any, Any, Any, Any], task: ExternalTask, settings: Settings, run_by: Sequence[Agent]
) -> None:
    """Add the node of a task that the front end runs."""
    node = ExternalTaskNode(task, AgentRuntime(task, None, settings))
    about = {"agent": task.name, "external_task": True, "start": False, "tools": [], "voice": {}}
    ends = dict.fromkeys(waiting_nodes(run_by), "task ends")
    builder.add_node(task.name, cast(Any, node.step), destinations=ends, metadata={METADATA: about})


def _handoffs(agent: Agent) -> tuple[dict[str, str], dict[str, str]]:
    """The handoffs that lead from the agent's node, and those that lead from its tools: target -> label.

    LangGraph keeps one edge per pair of nodes, so its label lists all tools that take it.
    """
    transfers, returned = dict[str, list[str]](), dict[str, list[str]]()
    for transfer in agent.transfers:
        transfers.setdefault(transfer.handoff.to, []).append(transfer.name)
    for tool in agent.own_tools:
        for target in tool.handoffs if isinstance(tool, FunctionTool) else ():
            returned.setdefault(target, []).append(tool.name)
    for tool in agent.own_tools:
        for task in _tasks_of(agent, tool):
            returned.setdefault(task, []).append(tool.name)
    # What no tool names is for any of the agent's own tools; without any, for its `on_enter`.
    unnamed = returned if agent.own_tools or agent.toolsets else transfers
    for target in agent.ways:
        if target not in transfers and target not in returned:
            unnamed[target] = [f"handoff to {target}"]
    for task in tasks_run_by(agent):
        if task not in transfers and task not in returned:
            unnamed[task] = ["task begins"]
    return _joined(transfers), _joined(returned)


def _tasks_of(agent: Agent, tool: Any) -> list[str]:
    """The names of the tasks that a tool declares; those of a group are its steps."""
    found: list[str] = []
    for task in tool.tasks if isinstance(tool, FunctionTool) else ():
        name = getattr(task, "name", task)
        group = agent.own_groups.get(name)
        found += [name] if group is None else [step.name for step in group.steps]
    return found


def _joined(names: dict[str, list[str]]) -> dict[str, str]:
    return {target: ", ".join(found) for target, found in names.items()}
