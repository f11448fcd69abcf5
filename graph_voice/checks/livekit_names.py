"""LiveKit's names in a graph's file, found by reading it: each mistake with its line, without running anything.

While a file is imported, the first mistake is refused and hides the others. What only a call would refuse is not
refused there at all.
"""

import ast
from collections.abc import Iterator

from graph_voice.agents.run_context import LIVEKITS
from graph_voice.checks.findings import Finding, Severity

__all__ = ["livekit_mistakes"]

Function = ast.FunctionDef | ast.AsyncFunctionDef
_IMPORT = "from graph_voice import {name}"
_HOOKS = ("on_enter", "on_exit")


def livekit_mistakes(source: str, file: str) -> list[Finding]:
    """What a graph refuses of LiveKit's names and calls, in the file's order.

    Args:
        source: the file's text. One that does not parse has no findings.
        file: its name, for `Finding.where`.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    found = sorted(_Reader(tree).mistakes(), key=lambda one: one[0])
    return [
        Finding(Severity.ERROR, problem, fix, tool=tool, where=f"{file}:{line}") for line, problem, fix, tool in found
    ]


Mistake = tuple[int, str, str, str | None]
"""The line, the problem, what to write instead, and the tool."""


class _Reader:
    """One file: where its names come from, which classes are agents of a graph, which functions their tools."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._origins = dict(_imported(tree))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        self._agents = [node for node in classes if self._is_agent(node, classes)]
        self._theirs = {node.name for node in classes if self._bases(node, "livekit.", "Agent")}
        self._their_tasks = {node.name for node in classes if self._bases(node, "livekit.", "AgentTask")}
        self._listed = {name for entry in self._tools() if (name := _name(entry)) is not None}

    # ---- what a name stands for

    def _origin(self, node: ast.AST | None) -> str:
        """The dotted name that this stands for, such as "livekit.agents.function_tool"; "" if it is not imported."""
        if isinstance(node, ast.Call | ast.Subscript):
            return self._origin(node.func if isinstance(node, ast.Call) else node.value)
        if isinstance(node, ast.Attribute):
            left = self._origin(node.value)
            return f"{left}.{node.attr}" if left else ""
        return self._origins.get(node.id, "") if isinstance(node, ast.Name) else ""

    def _comes_from(self, node: ast.AST | None, package: str, name: str) -> bool:
        origin = self._origin(node)
        return origin.startswith(package) and origin.rpartition(".")[2] == name

    def _bases(self, node: ast.ClassDef, package: str, name: str) -> bool:
        return any(self._comes_from(base, package, name) for base in node.bases)

    def _is_agent(self, node: ast.ClassDef, classes: list[ast.ClassDef]) -> bool:
        bases = {_name(base) for base in node.bases}
        inherits = any(c.name in bases and c is not node and self._is_agent(c, classes) for c in classes)
        return self._bases(node, "graph_voice", "Agent") or inherits

    def _tools(self) -> Iterator[ast.expr]:
        """What stands in `tools=[...]` of a graph's agents."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call) and self._comes_from(node.func, "graph_voice", "Agent"):
                yield from _elements(next((k.value for k in node.keywords if k.arg == "tools"), None))
        for agent in self._agents:
            for line in agent.body:
                if isinstance(line, ast.Assign | ast.AnnAssign) and "tools" in _targets(line):
                    yield from _elements(line.value)

    # ---- mistakes

    def mistakes(self) -> Iterator[Mistake]:
        methods = {id(f): agent for agent in self._agents for f in agent.body if isinstance(f, Function)}
        for node in ast.walk(self._tree):
            if isinstance(node, Function):
                agent = methods.get(id(node))
                if agent is not None and node.name in (*_HOOKS, "instructions"):
                    yield from self._hook(node, agent)
                    yield from self._awaits(node, None)
                elif self._is_tool(node, is_method=agent is not None):
                    yield from self._tool(node)
            elif isinstance(node, ast.Call):
                yield from self._call(node)
        for entry in self._tools():
            if self._is_their_server(entry):
                fix = 'Write McpServer({"command": ..., "args": [...]}), or McpServer({"url": ...}).'
                yield entry.lineno, f"{ast.unparse(entry)} is a server of LiveKit's.", fix, None
            if self._origin(entry).startswith("livekit.plugins"):
                yield (
                    entry.lineno,
                    f"{ast.unparse(entry)} is run by the provider of LiveKit's own model.",
                    'Write it as a LangChain model takes it: Agent(..., tools=[{"type": "web_search"}]).',
                    None,
                )

    def _is_their_server(self, node: ast.AST) -> bool:
        origin = self._origin(node)
        return origin.startswith("livekit.") and origin.rpartition(".")[2].startswith(("MCPServer", "MCPToolset"))

    def _is_tool(self, node: Function, *, is_method: bool) -> bool:
        ours = any(self._comes_from(d, "graph_voice", "function_tool") for d in node.decorator_list)
        return ours or node.name in self._listed or (is_method and self._livekits_mark(node) is not None)

    def _livekits_mark(self, node: Function) -> ast.expr | None:
        return next((d for d in node.decorator_list if self._comes_from(d, "livekit.", "function_tool")), None)

    def _hook(self, node: Function, agent: ast.ClassDef) -> Iterator[Mistake]:
        if [a.arg for a in node.args.args] == ["self"]:
            fix = (
                f"Write `async def {node.name}(self, ctx: RunContext)`; `await ctx.say(...)` instead of `self.session`."
            )
            if node.name == "instructions":
                fix = "Write a function of the userdata: def instructions(userdata)."
            yield node.lineno, f"{agent.name}.{node.name}(self) has LiveKit's signature.", fix, None
        yield from self._context(node, None)

    def _tool(self, node: Function) -> Iterator[Mistake]:
        if (mark := self._livekits_mark(node)) is not None:
            fix = f"Write `{_IMPORT.format(name='function_tool')}`."
            yield mark.lineno, f"tool {node.name} is LiveKit's (livekit.agents.function_tool).", fix, node.name
        yield from self._context(node, node.name)
        yield from self._awaits(node, node.name)
        for line in ast.walk(node):
            if isinstance(line, ast.Return) and any(_name(v) in self._theirs for v in _returned(line.value)):
                yield (
                    line.lineno,
                    f"tool {node.name} returns an agent of LiveKit's.",
                    'Return ctx.handoff("billing"), and declare it: create_voice_graph(..., external=["billing"]).',
                    node.name,
                )

    def _awaits(self, node: Function, tool: str | None) -> Iterator[Mistake]:
        """LiveKit's tasks, awaited or returned."""
        who = f"tool {node.name}" if tool else node.name
        for line in ast.walk(node):
            if not isinstance(line, ast.Await | ast.Return):
                continue
            for found in _returned(line.value):
                if _name(found) in self._their_tasks or self._is_their_task(found):
                    name, verb = ast.unparse(found), "awaits" if isinstance(line, ast.Await) else "returns"
                    fix = (
                        'Declare it, create_voice_graph(..., external_tasks={"name": Result}), write '
                        '`await ctx.run_task("name")`, and let LiveKit run it: GraphAgent(graph, tasks={"name": lambda '
                        f"run: {name}(...)}}). Or write a graph_voice.Task."
                    )
                    yield line.lineno, f"{who} {verb} {name}, a task of LiveKit's.", fix, tool

    def _is_their_task(self, node: ast.expr) -> bool:
        origin = self._origin(node)
        return origin.startswith("livekit.") and origin.rpartition(".")[2].endswith(("Task", "TaskGroup"))

    def _context(self, node: Function, tool: str | None) -> Iterator[Mistake]:
        """LiveKit's `RunContext` as an annotation, and what only LiveKit's has."""
        who = f"tool {node.name}" if tool else node.name
        contexts = set()
        for argument in (*node.args.args, *node.args.kwonlyargs):
            if self._comes_from(argument.annotation, "livekit.", "RunContext"):
                fix = f"Write `{_IMPORT.format(name='RunContext')}`; LiveKit's own is `{argument.arg}.host`."
                yield argument.lineno, f"{who}: {argument.arg} is annotated with LiveKit's RunContext.", fix, tool
            ours = self._comes_from(argument.annotation, "graph_voice", "RunContext")
            if ours or (argument.annotation is None and argument.arg in ("ctx", "context")):
                contexts.add(argument.arg)
        for part in ast.walk(node):
            if not isinstance(part, ast.Attribute):
                continue
            is_host = part.attr == "update" and isinstance(part.value, ast.Attribute) and part.value.attr == "host"
            holder = part.value.value if is_host and isinstance(part.value, ast.Attribute) else part.value
            if _name(holder) in contexts and (is_host or part.attr in LIVEKITS):
                fix = f"Write await {_name(holder)}.update(...)." if is_host else LIVEKITS[part.attr]
                yield part.lineno, f"{who}: {ast.unparse(part)} is LiveKit's.", fix, tool

    def _call(self, node: ast.Call) -> Iterator[Mistake]:
        for keyword in node.keywords:
            value = keyword.value
            if keyword.arg == "history" and self._origin(value).startswith("graph_voice") and _is_bare(value):
                written = ast.unparse(value)
                yield value.lineno, f"history={written} is not called.", f"Write history={written}().", None
        if self._comes_from(node.func, "graph_voice", "Agent"):
            for keyword in node.keywords:
                if keyword.arg == "mcp_servers":
                    fix = 'Write tools=[McpServer({"command": ..., "args": [...]})].'
                    yield keyword.value.lineno, "mcp_servers= is LiveKit's.", fix, None
        if self._comes_from(node.func, "livekit.", "AgentSession"):
            tools = next((k.value for k in node.keywords if k.arg == "tools"), None)
            marked = {f.name for f in ast.walk(self._tree) if isinstance(f, Function) and self._is_ours(f)}
            for entry in _elements(tools):
                if (name := _name(entry)) in marked:
                    fix = f"Declare it in the graph: Agent(..., tools=[{name}])."
                    yield entry.lineno, f"AgentSession(tools=[...]): {name} is no tool of LiveKit's.", fix, name
        if self._theirs or not isinstance(node.func, ast.Attribute):
            return  # the file has agents of LiveKit's own, whose calls these may be
        if node.func.attr == "update_instructions" and self._uses_graph_agent:
            fix = "Write instructions=lambda userdata: ..., a function of the userdata."
            yield node.lineno, "update_instructions() is refused: an agent's prompt is made by the graph.", fix, None
        if node.func.attr == "update_options" and any(k.arg == "llm" for k in node.keywords) and self._uses_graph_agent:
            fix = 'Name the model in the graph: create_voice_graph(..., llm="openai:gpt-4.1").'
            yield node.lineno, "update_options(llm=...) is refused: the graph names the models.", fix, None

    def _is_ours(self, node: Function) -> bool:
        return any(self._comes_from(d, "graph_voice", "function_tool") for d in node.decorator_list)

    @property
    def _uses_graph_agent(self) -> bool:
        return any(origin.startswith("graph_voice") for origin in self._origins.values())


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Each imported name, and what it stands for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _name(node: ast.AST | None) -> str | None:
    return node.id if isinstance(node, ast.Name) else None


def _elements(node: ast.expr | None) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.List | ast.Tuple) else []


def _targets(line: ast.Assign | ast.AnnAssign) -> set[str | None]:
    return {_name(target) for target in (line.targets if isinstance(line, ast.Assign) else [line.target])}


def _returned(value: ast.expr | None) -> list[ast.expr]:
    """What is returned: `Billing()`, or `Billing(), "words"`."""
    return [v.func if isinstance(v, ast.Call) else v for v in (_elements(value) or ([value] if value else []))]


def _is_bare(value: ast.expr) -> bool:
    """Whether an operation is named, but not called: `history.full`."""
    return isinstance(value, ast.Attribute)
