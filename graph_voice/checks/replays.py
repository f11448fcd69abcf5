"""Tools that wait for a task, and change the userdata in place before it: found by reading their source.

Such a tool runs again from its start when the result is there. What it has assigned is undone before; what it has
changed in place (`ctx.userdata.seen.append(slot)`) is not, so it is changed twice. Nothing is run here: a tool may act.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from graph_voice.agents.agent import Agent
from graph_voice.agents.tools import is_function_tool
from graph_voice.checks.findings import Finding, Severity

__all__ = ["check_replays"]

_TWICE = frozenset(
    {"append", "appendleft", "extend", "extendleft", "insert", "pop", "popitem", "popleft", "remove", "reverse"}
)
"""Methods that change something else when they are called a second time. `add`, `update` and others do not."""
_ENDS = (ast.Return, ast.Raise, ast.Continue, ast.Break)


def check_replays(agents: Mapping[str, Agent]) -> Iterator[Finding]:
    """A warning for each tool, and each `on_enter` method, that changes the userdata in place and then runs a task."""
    for agent in agents.values():
        for name, function in _code_of(agent):
            if (change := _changed_before_a_task(function)) is None:
                continue
            what = f"tool {name}" if name is not None else f'on_enter of agent "{agent.name}"'
            yield Finding(
                Severity.WARNING,
                f"{what} changes the userdata in place ({change}) and then runs a task. It runs again from its start "
                "when the result is there, and makes the change twice.",
                "Assign a new value (what is assigned is undone), ctx.userdata.seen = [*ctx.userdata.seen, slot], or "
                "change it behind the last run_task.",
                agent=agent.name,
                tool=name,
            )


def _code_of(agent: Agent) -> Iterator[tuple[str | None, Callable[..., Any]]]:
    """The functions of the agent that may run tasks, and the names of the tools that they are."""
    methods = (getattr(type(agent), name, None) for name in dir(type(agent)) if not name.startswith("__"))
    for tool in [*agent.tools, *methods]:
        if is_function_tool(tool):
            yield tool.__graph_voice_tool__["name"], tool
    if agent.enters_by_method and callable(agent.on_enter):
        yield None, agent.on_enter


def _changed_before_a_task(function: Callable[..., Any]) -> str | None:
    """What it changes, as it is written; None if nothing, and for a function whose source can't be read."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):
        return None
    found = next((n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    return _Body().read(found.body) if found is not None else None


class _Body:
    """One function, read from its top: which changes have been made when a task is run."""

    def __init__(self) -> None:
        self._names: dict[str, bool] = {}
        """A variable that holds the userdata (False), or a part of it (True)."""
        self._found: str | None = None

    def read(self, body: Sequence[ast.stmt]) -> str | None:
        self._block(body, [])
        return self._found

    def _block(self, block: Sequence[ast.stmt], made: list[str]) -> list[str]:
        """The changes that have been made behind this block, if those had been made before it."""
        for statement in block:
            blocks = [inner for name in ("body", "orelse", "finalbody") if (inner := getattr(statement, name, None))]
            blocks += [part.body for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ()))]
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            own = [node for part in _parts(statement) for node in ast.walk(part)]
            if self._found is None and made and any(map(_runs_task, own)):
                self._found = made[-1]
            self._note(statement)
            made = [*made, *(text for node in own for text in self._changes(node))]
            for _ in range(2 if isinstance(statement, ast.For | ast.AsyncFor | ast.While) else 1):
                made = [*made, *(change for inner in blocks for change in self._block(inner, made))]
            if isinstance(statement, _ENDS):
                return []
        return list(dict.fromkeys(made))

    def _note(self, statement: ast.stmt) -> None:
        """A variable that holds the userdata from now on."""
        if isinstance(statement, ast.Assign):
            part = self._part_of(statement.value)
            for target in statement.targets:
                if isinstance(target, ast.Name) and part is not None:
                    self._names[target.id] = part

    def _changes(self, node: ast.AST) -> Iterator[str]:
        """This, as it is written, if it changes the userdata in place, and otherwise the second time."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _TWICE:
            if self._part_of(node.func.value):
                yield ast.unparse(node)
        elif isinstance(node, ast.AugAssign):
            target = node.target
            inside = isinstance(target, ast.Attribute | ast.Subscript) and self._part_of(target.value)
            adds_to_list = isinstance(target, ast.Attribute) and isinstance(node.value, ast.List | ast.ListComp)
            if inside or (adds_to_list and self._part_of(target)):
                yield ast.unparse(node)

    def _part_of(self, node: ast.expr) -> bool | None:
        """Whether this is a part of the userdata (True), or the whole (False). None: neither."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if isinstance(node, ast.Attribute) and node.attr == "userdata" and isinstance(node.value, ast.Name):
            return False
        if isinstance(node, ast.Attribute | ast.Subscript):
            return True if self._part_of(node.value) is not None else None
        return None


def _parts(statement: ast.stmt) -> Iterable[ast.AST]:
    """The expressions of a statement, without the statements inside it."""
    if not hasattr(statement, "body") and not hasattr(statement, "cases"):
        return [statement]
    return [part for part in ast.iter_child_nodes(statement) if isinstance(part, ast.expr | ast.withitem)]


def _runs_task(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "run_task"
