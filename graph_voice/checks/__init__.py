"""Public. Checks of a graph without a call: what can't work, what will go wrong, what may be meant otherwise."""

import importlib.util
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import ModuleType
from typing import Any

from langchain_core.tools import BaseTool
from langgraph.graph import StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph

from graph_voice.agents.agent import Agent
from graph_voice.agents.completing import Ending
from graph_voice.agents.task import Task
from graph_voice.agents.tools import FunctionTool, is_function_tool
from graph_voice.checks.arguments import check_arguments
from graph_voice.checks.findings import Finding, Severity
from graph_voice.checks.keys import check_keys
from graph_voice.checks.livekit_names import livekit_mistakes
from graph_voice.checks.prompts import check_prompts
from graph_voice.checks.replays import check_replays
from graph_voice.drawing.picture import EdgeKind, Picture, picture
from graph_voice.errors import BuildError, GraphVoiceError, LoadError
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.graph.build import METADATA, definition_of, runtime_of
from graph_voice.graph.roles import Roles
from graph_voice.graph.speakers import is_structured, speakers_of
from graph_voice.launch.loading import load_graph, load_module, source_of
from graph_voice.models import DEFAULT_MODEL_VARIABLE, model_from
from graph_voice.userdata.channel import UserdataChannel

__all__ = ["Finding", "Severity", "check_file", "check_graph"]

_ORDER = list(Severity)


def check_file(spec: str, *, speak: Sequence[str] = ()) -> list[Finding]:
    """Load the graph that `spec` names (as `load_graph`) and check it. Includes warnings given while it is imported.

    `speak` names the nodes that speak, for a graph that doesn't say so itself.

    Raises `LoadError` when there is no such graph, or its file fails for reasons of its own.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            graph, module = load_graph(spec), load_module(spec)
        except LoadError as error:
            if not isinstance(cause := error.__cause__, GraphVoiceError):
                raise
            return _with_refusal(_livekit_names(spec), cause)
    found = [*check_graph(graph, module=module, speak=speak), *_livekit_names(spec)]
    told = {finding.problem for finding in found}
    for warning in caught:
        # The builder's own are plain; those of other packages (mostly deprecations) are not about the graph.
        if warning.category is UserWarning and str(warning.message) not in told:
            found.append(Finding(Severity.WARNING, str(warning.message)))
    return _sorted(found)


def _livekit_names(spec: str) -> list[Finding]:
    """The mistakes with LiveKit's names in the file itself."""
    where = source_of(spec)
    if not where.endswith(".py"):
        found = importlib.util.find_spec(where)
        where = (found.origin if found is not None else None) or ""
    path = Path(where).expanduser()
    return livekit_mistakes(path.read_text(encoding="utf-8"), where) if path.is_file() else []


def _with_refusal(found: list[Finding], refused: GraphVoiceError) -> list[Finding]:
    """What was refused while the file was imported, unless it is one of these mistakes, which have their own lines."""
    told = Finding(Severity.ERROR, str(refused), where=_place(refused))
    is_known = "LiveKit" in told.problem and any(f.tool is None or f.tool in told.problem for f in found)
    return _sorted(found if is_known or any(f.where == told.where for f in found) else [told, *found])


def check_graph(
    graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph,
    *,
    module: ModuleType | None = None,
    speak: Sequence[str] = (),
) -> list[Finding]:
    """Check a graph. Returns the worst findings first.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any other graph.
        module: the module that defines it, to find tools that no agent lists.
        speak: the nodes that speak, for a graph that doesn't say so itself.

    The code inside a function (a custom node, a tool) is not checked. Only prompts that are functions of the userdata
    are run.
    """
    if isinstance(graph, RemoteGraph):
        fix = "Run the check where the graph is written."
        return [Finding(Severity.INFO, "The graph runs on a server, so nothing of it can be checked here.", fix)]
    try:
        compiled = graph.compile() if isinstance(graph, StateGraph) else graph
    except ValueError as error:  # BuildError, or LangGraph's own
        return [Finding(Severity.ERROR, str(error))]
    agents = {name: agent for name in compiled.nodes if (agent := definition_of(compiled, name)) is not None}
    shown = picture(compiled)
    return _sorted(
        [
            *_speakers(compiled, speak),
            *_checkpointer(compiled),
            *_models(compiled, agents),
            *_unreachable(compiled, agents, shown),
            *_no_way_back(agents, shown),
            *(finding for agent in agents.values() for finding in _handoffs(agent)),
            *check_prompts(agents, _all_tools(agents, module), _first_userdata(compiled), shown.start),
            *_unused(compiled, agents, module),
            *check_replays(agents),
            *_tasks(agents),
            *_toolsets(agents),
            *_userdata(compiled),
            *check_keys(agents, module),
            *check_arguments(agents),
        ]
    )


def _sorted(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: _ORDER.index(finding.severity))


def _place(error: BaseException) -> str | None:
    """The last line outside this package that led to the error, as `file:line`."""
    package = Path(__file__).parent.parent
    trace = traceback.extract_tb(error.__traceback__)
    # A dataclass's own `__init__` is in "<string>".
    frames = [f for f in trace if not (f.filename.startswith("<") or Path(f.filename).is_relative_to(package))]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


# ---- the graph as a whole


def _speakers(graph: Pregel[Any, Any, Any, Any], speak: Sequence[str]) -> Iterator[Finding]:
    if "messages" not in graph.channels:
        yield Finding(
            Severity.ERROR,
            "The graph has no `messages` channel, so it can't hear or speak.",
            "Let its state extend VoiceState, or LangGraph's MessagesState.",
        )
        return
    try:
        chosen = speakers_of(graph, speak)
        roles = Roles(graph, chosen)
    except BuildError as error:
        yield Finding(Severity.ERROR if speak else Severity.WARNING, str(error))
        return
    if chosen and not speak:
        yield Finding(
            Severity.INFO,
            f'The graph does not say who speaks. Its node "{chosen[0]}" is the only one that calls a model, so the '
            "commands let it speak.",
            f"In a program: GraphAgent(graph, speak={chosen!r}).",
        )
    late = [name for name, node in roles.nodes.items() if not (node.is_library or node.speculative)]
    if late:
        yield Finding(
            Severity.INFO,
            f"A turn starts only when the caller has finished, because these nodes may act: {', '.join(late)}.",
            "If they have no effects, say so: graph.add_node(..., metadata={'speculative': True}); then a turn may "
            "start earlier and be thrown away.",
        )


def _checkpointer(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Finding]:
    if graph.checkpointer:
        yield Finding(
            Severity.WARNING,
            f"The graph is compiled with a checkpointer ({type(graph.checkpointer).__name__}), which LangGraph Studio "
            "and its server refuse: they bring their own.",
            "Export the graph without it, graph = create_voice_graph(...), and compile it with the checkpointer where "
            "it is run.",
        )


def _models(graph: Pregel[Any, Any, Any, Any], agents: Mapping[str, Agent]) -> Iterator[Finding]:
    without: list[str] = []
    named: dict[str, list[str]] = {}
    for name, agent in agents.items():
        runtime = runtime_of(graph, name)
        for llm in _strings(runtime, agent):
            named.setdefault(llm, []).append(name)
        if runtime is None or runtime.own_model is None:
            without.append(name)
        if runtime is not None and (is_structured(runtime.own_model) or is_structured(runtime.fallback)):
            yield Finding(
                Severity.ERROR,
                f'agent "{name}" speaks, but its model answers with structured output, which can\'t be spoken.',
                "Give it the plain model; ask for structured output in a tool, or in a node that does not speak.",
                agent=name,
            )
    for llm, users in named.items():
        if (problem := _unusable(llm)) is not None:
            yield Finding(
                Severity.WARNING,
                f"{_listed(users)}: {problem} Without it the graph can be drawn and tested, but no call can be held.",
                agent=users[0] if len(users) == 1 else None,
            )
    if not without:
        return
    if (default := os.environ.get(DEFAULT_MODEL_VARIABLE)) is not None:
        if (problem := _unusable(default)) is not None:
            yield Finding(Severity.WARNING, f"{DEFAULT_MODEL_VARIABLE}, the model of this graph: {problem}")
        return
    yield Finding(
        Severity.WARNING,
        f"{_listed(without)}: no model. Drawing and Studio work without one, a call does not.",
        'Write create_voice_graph(..., llm="openai:gpt-4.1-mini"), or give one to each run: '
        'config={"configurable": {"llm": model}}, '
        f"graph-voice chat --llm, or the environment variable {DEFAULT_MODEL_VARIABLE}.",
        agent=without[0] if len(without) == 1 else None,
    )


def _strings(runtime: AgentRuntime | None, agent: Agent) -> list[str]:
    """The models that an agent names by strings: its own, its fallback, and those that summarize."""
    operations = [handoff.history for handoff in agent.ways.values()]
    operations += [agent.context] if agent.context is not None else []
    found = [runtime.own_model, runtime.fallback] if runtime is not None else []
    found += [step.get("model") for operation in operations for step in operation.flat() if step["op"] == "summarize"]
    strings = (name for name in found if isinstance(name, str) and not name.startswith("instance:"))
    return list(dict.fromkeys(strings))


def _unusable(llm: str) -> str | None:
    """Why a call could not use this model here; None if it can."""
    try:
        model_from(llm)
    except GraphVoiceError as error:
        return str(error)
    return None


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f'"{name}"' for name in names)
    return f"{'agent' if len(names) == 1 else 'agents'} {listed}"


def _first_userdata(graph: Pregel[Any, Any, Any, Any]) -> Any:
    """The userdata that a call begins with; None when it has to be given."""
    channel = graph.channels.get("userdata")
    return channel.get() if isinstance(channel, UserdataChannel) and channel.is_available() else None


def _userdata(graph: Pregel[Any, Any, Any, Any]) -> Iterator[Finding]:
    channel = graph.channels.get("userdata")
    if isinstance(channel, UserdataChannel) and not channel.is_available():
        name = channel.ValueType.__name__
        yield Finding(
            Severity.INFO,
            f"The userdata class {name} has fields without a default, so each call must be given its userdata.",
            f"Give the fields defaults, or write Conversation(graph, userdata={name}(...)); on the command line "
            "--userdata.",
        )


# ---- ways


def _unreachable(graph: Pregel[Any, Any, Any, Any], agents: Mapping[str, Agent], shown: Picture) -> Iterator[Finding]:
    if shown.start is None or _has_custom_nodes(graph, agents):
        return  # a custom node may lead anywhere
    reached = _reached(shown.start, shown)
    for name in agents:
        if name not in reached:
            # The same words as the builder's warning, so that it is reported once.
            yield Finding(
                Severity.WARNING,
                f'agent "{name}" can\'t be reached from "{shown.start}": no agent declares a handoff to it.',
                f'Declare one, handoffs=[Handoff("{name}", "When to transfer.")], or leave the agent out.',
                agent=name,
            )


def _no_way_back(agents: Mapping[str, Agent], shown: Picture) -> Iterator[Finding]:
    for name in agents:
        before = {
            shown.nodes[edge.source].owner or edge.source
            for edge in shown.edges
            if edge.kind is EdgeKind.HANDOFF and edge.target == name
        }
        if name != shown.start and before and before.isdisjoint(_reached(name, shown)):
            listed = " or ".join(f'"{agent}"' for agent in sorted(before))
            yield Finding(
                Severity.INFO,
                f'agent "{name}" has no way back to {listed}.',
                f'If the caller may want to go back: handoffs=[Handoff("{min(before)}", "When to go back.")].',
                agent=name,
            )


def _reached(start: str, shown: Picture) -> set[str]:
    """The nodes that can be reached from this one, and the node itself."""
    reached, frontier = {start}, [start]
    while frontier:
        source = frontier.pop()
        for edge in shown.edges:
            if edge.source == source and edge.target not in reached:
                reached.add(edge.target)
                frontier.append(edge.target)
    return reached


def _has_custom_nodes(graph: Pregel[Any, Any, Any, Any], agents: Mapping[str, Agent]) -> bool:
    about = {name: (node.metadata or {}).get(METADATA) or {} for name, node in graph.nodes.items()}
    external = {name for name in about if about[name].get("external")}
    library = {*agents, *(f"{name}_tools" for name in agents), *external}
    return any(name not in library and not name.startswith("__") for name in graph.nodes)


def _handoffs(agent: Agent) -> Iterator[Finding]:
    for transfer in agent.transfers:
        if transfer.handoff.description is None:
            yield Finding(
                Severity.WARNING,
                f'agent "{agent.name}": nothing tells the model when to use {transfer.name}.',
                f'Write Handoff("{transfer.handoff.to}", "Transfer the caller to ... for ...").',
                agent=agent.name,
                tool=transfer.name,
            )
    taken = {t.handoff.to for t in agent.transfers}
    taken |= {to for tool in agent.own_tools if isinstance(tool, FunctionTool) for to in tool.handoffs}
    for target in sorted(agent.targets - taken):
        declared = f'agent "{agent.name}" declares a handoff to "{target}"'
        if not agent.own_tools and not agent.toolsets:
            yield Finding(
                Severity.WARNING,
                f"{declared}, but has no tool that could make it.",
                f'For a transfer tool leave tool=False out: Handoff("{target}", "When to transfer.").',
                agent=agent.name,
            )
        else:
            yield Finding(
                Severity.INFO,
                f"{declared}, but no tool says that it makes it, so the drawing can't show which one does.",
                f'Write @function_tool(handoffs=["{target}"]) above the tool that returns ctx.handoff("{target}").',
                agent=agent.name,
            )


def _tasks(agents: Mapping[str, Agent]) -> Iterator[Finding]:
    for task in agents.values():
        if isinstance(task, Task) and task.ends is Ending.PERHAPS:
            yield Finding(
                Severity.WARNING,
                f'task "{task.name}": nothing shows that one of its tools can end it.',
                "Annotate the one that returns ctx.complete(result) with -> Done.",
                agent=task.name,
            )


# ---- tools


def _toolsets(agents: Mapping[str, Agent]) -> Iterator[Finding]:
    """What a toolset lacks. None of them is set up: a server is not connected."""
    for agent in agents.values():
        for toolset in agent.toolsets:
            try:
                toolset.require()
            except GraphVoiceError as error:
                yield Finding(Severity.ERROR, str(error), agent=agent.name, tool=toolset.name)


def _all_tools(agents: Mapping[str, Agent], module: ModuleType | None) -> Set[str]:
    own = {tool.name for agent in agents.values() for tool in agent.all_tools}
    return own | {_tool_name(tool) for tool in _tools_of(module)}


def _unused(
    graph: Pregel[Any, Any, Any, Any], agents: Mapping[str, Agent], module: ModuleType | None
) -> Iterator[Finding]:
    defined = vars(module).values() if module is not None else ()
    # The file may hold agents of another graph, and classes of agents.
    holders = [*agents.values(), *(v for v in defined if isinstance(v, Agent) or _is_agent_class(v))]
    listed = {id(tool) for holder in holders for tool in holder.tools}
    named = {tool.name for agent in agents.values() for tool in agent.own_tools}
    for _, inner in graph.get_subgraphs(recurse=True):
        for node in getattr(inner, "nodes", {}).values():
            if isinstance(node.bound, ToolNode):
                named |= set(node.bound.tools_by_name)
    for tool in _tools_of(module):
        name = _tool_name(tool)
        if id(tool) not in listed and name not in named:
            yield Finding(
                Severity.WARNING,
                f"tool {name} is marked as a tool, but no agent lists it.",
                f"Add it to an agent, Agent(..., tools=[{name}]), or remove the mark.",
                tool=name,
            )


def _tools_of(module: ModuleType | None) -> list[Any]:
    """The tools that a file defines itself, each once."""
    found: dict[int, Any] = {}
    for value in vars(module).values() if module is not None else ():
        if isinstance(value, BaseTool):
            function = getattr(value, "coroutine", None) or getattr(value, "func", None)
        else:
            function = value if is_function_tool(value) else None
        if function is not None and getattr(function, "__module__", None) == getattr(module, "__name__", None):
            found[id(value)] = value
    return list(found.values())


def _tool_name(tool: Any) -> str:
    return str(tool.name if isinstance(tool, BaseTool) else tool.__graph_voice_tool__["name"])


def _is_agent_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Agent)
