"""What `create_voice_graph` is given: its agents, tasks and options, and what is refused of them."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from langgraph.graph import END, START
from langgraph.pregel import Pregel
from langgraph.types import RetryPolicy

from graph_voice.agents.agent import Agent
from graph_voice.agents.external_task import ExternalTask
from graph_voice.agents.idle import Idle
from graph_voice.agents.task import Task
from graph_voice.agents.task_group import TaskGroup
from graph_voice.errors import BuildError

__all__ = [
    "check_names",
    "check_options",
    "check_tasks",
    "check_tools",
    "members_of",
    "name_of",
    "run_by",
    "tasks_run_by",
    "waiting_nodes",
    "warn_of_unreachable",
]


def check_options(
    external: Any,
    external_tasks: Any,
    retry: Any,
    timeout: Any,
    max_hops: Any,
    max_tool_calls: Any,
    apology: Any,
    idle: Any,
    secrets: Any,
) -> None:
    """Raise `BuildError` for what would fail in the middle of a call."""

    def refuse(name: str, value: Any, fix: str) -> None:
        raise BuildError(f"create_voice_graph({name}={value!r:.60}): {fix}")

    if not isinstance(external_tasks, Mapping | None) or not all(
        isinstance(name, str) for name in external_tasks or ()
    ):
        refuse("external_tasks", external_tasks, 'write name and result, external_tasks={"dtmf": Digits}.')
    if not isinstance(external, Iterable):
        refuse("external", external, 'write the names of the agents, external=["human_desk"].')
    for name, number in (("max_hops", max_hops), ("max_tool_calls", max_tool_calls)):
        if not isinstance(number, int) or number < 0:
            refuse(name, number, "write a whole number, 0 or more.")
    if timeout is not None and (not isinstance(timeout, int | float) or not timeout > 0):
        refuse("first_token_timeout", timeout, "write seconds above 0, or None for no limit.")
    if not isinstance(apology, str) and not callable(apology):
        refuse("apology", apology, "write a text, or a function of the userdata.")
    if idle is not None and not isinstance(idle, Idle):
        refuse("idle", idle, 'write idle=Idle(after=10, every=10, say="Are you still there?").')
    if not isinstance(retry, RetryPolicy):
        refuse(
            "retry_policy", retry, "write LangGraph's RetryPolicy(max_attempts=2); RetryPolicy(max_attempts=1): once."
        )
    if secrets is not None and not hasattr(secrets, "dumps_typed"):
        refuse("secrets", secrets, "write LangGraph's EncryptedSerializer.from_pycryptodome_aes().")


def members_of(agents: Iterable[Any]) -> list[Any]:
    """The agents, with the steps of each group of tasks. A task that is a step too is there once."""
    found = [_instance(m) for agent in agents for m in (agent.steps if isinstance(agent, TaskGroup) else [agent])]
    copied = [member.made_of for member in found if isinstance(member, Task) and member.made_of is not None]
    return [member for member in found if not any(member is original for original in copied)]


def _instance(agent: Any) -> Any:
    if not isinstance(agent, type):
        return agent
    try:
        return agent()
    except TypeError as error:
        raise BuildError(
            f"{agent.__name__} can't be made without arguments ({error}): pass an instance, {agent.__name__}(...)."
        ) from error


def check_tools(agent: Agent) -> None:
    for tool in agent.own_tools:
        undeclared = sorted(set(getattr(tool, "handoffs", ())) - agent.targets)
        if undeclared:
            raise BuildError(
                f'agent "{agent.name}": tool "{tool.name}" hands off to "{undeclared[0]}", which the agent does not '
                f'declare: Agent("{agent.name}", ..., handoffs=[Handoff("{undeclared[0]}", tool=False)]).'
            )
    if agent.name in agent.targets:
        raise BuildError(f'agent "{agent.name}" declares a handoff to itself.')


def run_by(members: Sequence[Any], task: str) -> list[Agent]:
    """The agents that run this task."""
    return [member for member in members if isinstance(member, Agent) and task in tasks_run_by(member)]


def tasks_run_by(agent: Agent) -> list[str]:
    return [*agent.own_tasks, *agent.external_tasks]


def waiting_nodes(agents: Sequence[Agent]) -> list[str]:
    """The nodes that go on when a task that these agents run has ended."""
    return [f"{agent.name}_tools" if agent.has_tools else agent.name for agent in agents]


def check_tasks(members: Sequence[Any], start: str) -> None:
    """Raise `BuildError` for a task that nobody runs, and for one that is run and not there."""
    agents = [member for member in members if isinstance(member, Agent)]
    there = {member.name for member in agents if isinstance(member, Task)}
    outside = {member.name for member in agents if isinstance(member, ExternalTask)}
    for agent in agents:
        for name in set(agent.external_tasks) - outside:
            raise BuildError(
                f'agent "{agent.name}" names the task "{name}", so it is an external one: create_voice_graph(..., '
                f'external_tasks={{"{name}": Result}}). A Task of the graph\'s is written itself, tasks=[{name}].'
            )
    run = {name: member.name for member in agents for name in tasks_run_by(member)}
    for name, by in run.items():
        if name not in there:
            raise BuildError(
                f'agent "{by}" runs the task "{name}", which is not in the graph: list it, '
                f"create_voice_graph([..., {name}])."
            )
    for agent in agents:
        for task in agent.own_tasks.values():
            listed = next(member for member in agents if member.name == task.name)
            if isinstance(listed, Task) and listed.result != task.result:
                raise BuildError(
                    f'agent "{agent.name}" runs a task named "{task.name}" with the result {task.result!r:.60}, and '
                    f"the graph lists another one of that name, with the result {listed.result!r:.60}: rename one."
                )
    for name in sorted(there - set(run) - {start}):
        raise BuildError(
            f'nobody runs the task "{name}": declare it with who does, Agent(..., tasks=[{name}]), and run it, '
            f"await ctx.run_task({name})."
        )


def name_of(member: Any) -> str:
    if isinstance(member, Agent):
        return str(member.name)
    name = getattr(member, "name", None)
    if not isinstance(member, Pregel) or not name or name == "LangGraph":
        raise BuildError(
            f"{member!r} is not an agent. Write an Agent, or a compiled graph with a name: "
            'create_agent(..., name="x"), builder.compile(name="x").'
        )
    return str(name)


def check_names(names: Sequence[str], external: Sequence[str]) -> None:
    if not names:
        raise BuildError("create_voice_graph([]) has no agents: give at least one.")
    reserved = {START, END, *(f"{n}_tools" for n in names)}
    for name in external:
        if not isinstance(name, str) or not name:
            raise BuildError(f'external={list(external)!r}: write the names of the agents, external=["human_desk"].')
        if name in names:
            raise BuildError(f'external=["{name}"]: the graph has an agent of that name; rename one.')
    names = [*names, *external]
    for name in names:
        if names.count(name) > 1:
            raise BuildError(f'two agents are named "{name}"; rename one.')
        if name in reserved:
            raise BuildError(f'agent "{name}": this name is taken by a node of the graph; rename the agent.')


def warn_of_unreachable(members: Sequence[Any], start: str, external: Sequence[str]) -> None:
    reached, frontier = {start}, [start]
    by_name = {name_of(m): m for m in members}
    ways = {
        name: (m.targets - set(external)) | {*tasks_run_by(m)} for name, m in by_name.items() if isinstance(m, Agent)
    }
    if len(ways) < len(by_name) or not set(by_name).issuperset(chain.from_iterable(ways.values())):
        return  # a compiled graph, or a node that is added later, may lead anywhere
    while frontier:
        for target in ways[frontier.pop()]:
            if target not in reached:
                reached.add(target)
                frontier.append(target)
    for name in sorted(set(by_name) - reached):
        warnings.warn(
            f'agent "{name}" can\'t be reached from "{start}": no agent declares a handoff to it.',
            stacklevel=3,
        )
