"""Tools: what an agent's model may call. LiveKit's `function_tool`, as a LangChain tool."""

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import tool as _langchain_tool
from langchain_core.utils.pydantic import get_fields
from langgraph.errors import GraphBubbleUp, GraphInterrupt

from graph_voice.agents.approval import Approve, approval_of, check_approval, require_approval
from graph_voice.agents.duplicates import CONFIRM, DuplicateMode, DuplicateScope, check_duplicates, may_confirm
from graph_voice.agents.livekit_arguments import OF_TOOLS, refuse_arguments
from graph_voice.agents.livekit_names import is_livekit, refused_task, refused_tool
from graph_voice.agents.replay import RunnableTask, TaskWanted, insisting
from graph_voice.agents.run_context import RunContext, running
from graph_voice.agents.schema_extras import with_extras
from graph_voice.agents.slow_tool import FILLER_AFTER, Filler, LatePolicy, SlowTool
from graph_voice.agents.tool_output import tool_output
from graph_voice.agents.tool_schema import schema_of
from graph_voice.errors import BuildError
from graph_voice.secrets.arguments import masked_output, redact_error, with_redacted_arguments
from graph_voice.secrets.known import Known, known_here
from graph_voice.secrets.values import secret_texts
from graph_voice.userdata.working_copy import Assignments

__all__ = [
    "FunctionTool",
    "as_tool",
    "function_tool",
    "is_function_tool",
    "is_idempotent",
    "is_provider_tool",
    "takes_state",
]

F = TypeVar("F", bound=Callable[..., Any])


class FunctionTool(StructuredTool):
    """What `@function_tool` makes: a LangChain tool whose `RunContext` parameter the model never sees."""

    takes_context: bool = False
    """Whether the function has a `RunContext` parameter."""
    handoffs: tuple[str, ...] = ()
    """Targets that this tool may hand off to, for the drawing."""
    timeout: float | None = None
    """Seconds after which the model is told that the tool did not answer."""
    idempotent: bool = False
    """Whether the tool may run again for the same tool call after a crash."""
    slow: SlowTool = SlowTool()
    """What is said while it takes long, and what happens to a result that comes late."""
    tasks: tuple[Any, ...] = ()
    """The `Task`s, or their names, that this tool may run."""
    on_enter: bool = True
    """Whether the agent's first reply may use it."""
    available: Any = None
    """A function of the tool's `RunContext` that says whether the model has the tool now. None: always."""
    cancellable: bool = False
    """Whether the model may cancel it while it runs."""
    on_duplicate: DuplicateMode = "allow"
    """What happens when the model calls it while it runs."""
    duplicate_scope: DuplicateScope = "name"


@overload
def function_tool(fn: F, /) -> F: ...
@overload
def function_tool(
    *,
    name: str | None = None,
    description: str | None = None,
    handoffs: Sequence[str] = (),
    tasks: Sequence[RunnableTask[Any] | str] = (),
    needs: Mapping[str, RunnableTask[Any] | str] | None = None,
    timeout: float | None = None,
    idempotent: bool = False,
    filler: Filler | None = None,
    filler_after: float = FILLER_AFTER,
    late: LatePolicy = "announce",
    on_enter: bool = True,
    available: Callable[[Any], bool] | None = None,
    approve: Approve | None = None,
    cancellable: bool = False,
    on_duplicate: DuplicateMode = "allow",
    duplicate_scope: DuplicateScope = "name",
) -> Callable[[F], F]: ...
def function_tool(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    handoffs: Sequence[str] = (),
    tasks: Sequence[RunnableTask[Any] | str] = (),
    needs: Mapping[str, RunnableTask[Any] | str] | None = None,
    timeout: float | None = None,
    idempotent: bool = False,
    filler: Filler | None = None,
    filler_after: float = FILLER_AFTER,
    late: LatePolicy = "announce",
    on_enter: bool = True,
    available: Callable[[Any], bool] | None = None,
    approve: Approve | None = None,
    cancellable: bool = False,
    on_duplicate: DuplicateMode = "allow",
    duplicate_scope: DuplicateScope = "name",
    **others: Any,
) -> Any:
    """Mark a function, or a method of an `Agent` subclass, as a tool.

    The parameters' annotations are the schema, the docstring is the description. A parameter annotated
    `RunContext[...]` gets the tool call's context, one annotated `RunnableConfig` LangChain's config of the run;
    neither is part of the schema. A sync function runs in a thread.

    Args:
        name: the tool's name. Default: the function's.
        description: what the model reads. Default: the docstring.
        handoffs: agents that the tool may hand off to with `ctx.handoff(...)`, so that the drawing shows it.
        tasks: the tasks that it may run with `await ctx.run_task(task)`, so that the drawing shows it. It runs again
            from its start when a result is there, and finds the results that it has.
        needs: parameter -> the task whose result it is. The model does not see the parameter; the task runs before the
            function, which runs once.
        timeout: seconds after which the model is told that the tool did not answer. Default: no limit.
        idempotent: the tool may run again for the same `ctx.tool_call_id` after a crash.
        filler: said once when the tool keeps the caller waiting: a text, a function of the userdata, or a list of
            texts that the tool's calls use in turn. Several slow tool calls at once share one filler. A tool that says
            something itself (`ctx.say`) has none. LiveKit's `RunContext.with_filler`.
        filler_after: seconds of silence, while the tool runs, after which the filler is said.
        late: what happens to a result that comes after a barge-in, when the caller was answered without it.
            "announce": the active agent tells the caller of it unasked, unless a reply has done so meanwhile;
            "merge": it is remembered, and the next model call sees it.
        on_enter: whether the agent's first reply may use it. LiveKit's `ToolFlag.IGNORE_ON_ENTER`.
        available: a function of the `RunContext` (`run.userdata`, `run.draft`) that says whether the model has the tool
            now. Default: always.
        approve: the question that the caller has to say yes to before the function runs, such as "Shall I book it for
            {slot}?": a text with parameters in braces, or a function of some of the parameters, by name, which returns
            the text (or None: no approval needed). It is asked once for each tool call. After a no, and after words
            that ask for a change, nothing has run, and the model is told what the caller said.
        cancellable: whether the model may cancel the tool while it runs: it gets `lk_agents_cancel_task` and
            `lk_agents_get_running_tasks`. The function sees `asyncio.CancelledError`. LiveKit's `ToolFlag.CANCELLABLE`.
        on_duplicate: what happens when the model calls the tool while it runs, which it may after the caller has cut
            in. "allow": it runs twice; "reject": the model is told that it runs; "confirm": the same, and that it may
            confirm; "replace": the one that runs is canceled. LiveKit's.
        duplicate_scope: "name": any two calls of the tool are duplicates; "name_and_args": those with equal arguments.

    The function stays an ordinary function: a test can call it directly. Any other LangChain tool (such as an MCP
    tool) declares `filler`, `filler_after`, `late` and `approve` in its `metadata`.

    Raises `BuildError` for a filler that can't be said, seconds that are not above 0, and an unknown policy.
    """

    refuse_arguments("@function_tool", others, OF_TOOLS)

    def mark(target: Any) -> Any:
        if isinstance(target, BaseTool):
            raise BuildError(f"{target.name} is already a LangChain tool: list it in tools=[...] as it is.")
        if timeout is not None and (not isinstance(timeout, int | float) or not timeout > 0):
            raise BuildError(
                f"@function_tool(timeout={timeout!r}): write seconds above 0, or leave it out for no limit."
            )
        _check_tasks(tasks, needs, available)
        check_duplicates(on_duplicate, duplicate_scope, cancellable=cancellable)
        function: Any = target.__func__ if isinstance(target, staticmethod | classmethod) else target
        function.__graph_voice_tool__ = {
            "name": name or function.__name__,
            "description": description,
            "handoffs": tuple(handoffs),
            "timeout": timeout,
            "idempotent": idempotent,
            "tasks": (*tasks, *(needs or {}).values()),
            "needs": dict(needs or {}),
            "on_enter": on_enter,
            "available": available,
            "approve": approve,
            "cancellable": cancellable,
            "on_duplicate": on_duplicate,
            "duplicate_scope": duplicate_scope,
            "slow": SlowTool(filler, filler_after, late).check(name or function.__name__),
        }
        return target

    return mark if fn is None else mark(fn)


def _check_tasks(tasks: Any, needs: Any, available: Any) -> None:
    """Raise `BuildError` for what a tool can't say about tasks, and about when the model has it."""

    def runs(task: Any) -> bool:
        return (
            isinstance(task, str)
            or getattr(type(task), "is_task", False)
            or getattr(type(task), "is_task_group", False)
        )

    for task in (*(() if isinstance(tasks, str) else tasks), *(needs.values() if isinstance(needs, Mapping) else ())):
        if (why := refused_task(task)) is not None:
            raise BuildError(f"@function_tool: {why}")
    if isinstance(tasks, str) or not all(map(runs, tasks)):
        raise BuildError(f"@function_tool(tasks={tasks!r:.60}): write a list of tasks, tasks=[get_email].")
    if not isinstance(needs or {}, Mapping) or not all(runs(task) for task in (needs or {}).values()):
        raise BuildError(
            f'@function_tool(needs={needs!r:.60}): write parameter and task, needs={{"email": get_email}}.'
        )
    if available is not None and not callable(available):
        raise BuildError(f"@function_tool(available={available!r:.60}): write a function of the RunContext.")


def is_function_tool(value: Any) -> bool:
    return hasattr(value, "__graph_voice_tool__")


def as_tool(value: Any, *, where: str = "") -> BaseTool:
    """A LangChain tool made of an item of `Agent(tools=[...])`. Raises `BuildError` for what can't be one.

    `where`: the begin of that sentence, which says whose tool it is.
    """
    if (why := refused_tool(value)) is not None:
        raise BuildError(f"{where}: {why}")
    if getattr(type(value), "is_task", False):
        made_of_task: BaseTool = value.as_tool()
        return made_of_task
    if isinstance(value, BaseTool):
        approval_of(value)
        return with_redacted_arguments(with_extras(value))
    if is_function_tool(value):
        return _build(value, **value.__graph_voice_tool__)
    if callable(value) and hasattr(value, "__name__"):
        if _context_parameter(value) is not None:
            return _build(value, name=value.__name__)
        try:
            made: BaseTool = _langchain_tool(parse_docstring=True, error_on_invalid_docstring=False)(value)
            return with_redacted_arguments(with_extras(made))
        except ValueError as error:
            raise BuildError(f"{where}: {value.__name__} can't be a tool: {error}") from error
    if isinstance(value, dict):
        raise BuildError(
            f"{where}: {value!r} is a function's schema without a function. Write a @function_tool function. A "
            'provider\'s own tool has a type of its own: {"type": "web_search"}.'
        )
    raise BuildError(f"{where}: {value!r} is not a tool. Write a @function_tool function or a LangChain tool.")


def is_provider_tool(value: Any) -> bool:
    """Whether this is a tool that the model's provider runs itself (`{"type": "web_search"}`)."""
    return isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"] != "function"


def _hints(fn: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(fn, include_extras=True)
    except NameError as error:
        raise BuildError(
            f"{getattr(fn, '__qualname__', fn)}: the annotation {error.name!r} can't be resolved. Import it at the top "
            "level of the module, not under TYPE_CHECKING."
        ) from error


def takes_state(tool: BaseTool) -> bool:
    """Whether a tool sees the state, and the userdata in it: by its `RunContext`, or by an injected argument."""
    if isinstance(tool, FunctionTool) and tool.takes_context:
        return True
    shown = tool.tool_call_schema
    if isinstance(shown, dict):
        return False  # a JSON schema has no injected arguments
    return set(get_fields(tool.get_input_schema())) != set(get_fields(shown))


def _is_context(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(map(_is_context, typing.get_args(annotation)))
    return annotation is RunContext or typing.get_origin(annotation) is RunContext


def _is_livekits_context(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(map(_is_livekits_context, typing.get_args(annotation)))
    return is_livekit(annotation, "RunContext") or is_livekit(typing.get_origin(annotation), "RunContext")


def _context_parameter(fn: Callable[..., Any]) -> str | None:
    hints = _hints(fn)
    for name in inspect.signature(fn).parameters:
        if _is_livekits_context(hints.get(name)):
            raise BuildError(
                f"{getattr(fn, '__qualname__', fn)}: {name} is annotated with LiveKit's RunContext. Write `from "
                f"graph_voice import RunContext` and `{name}: RunContext`; LiveKit's own is `{name}.host`."
            )
    found = next((p for p in inspect.signature(fn).parameters if _is_context(hints.get(p))), None)
    # Without an annotation it can be nothing else: the model is never asked for a "ctx".
    bare = (p for p in ("ctx", "context") if p in inspect.signature(fn).parameters and p not in hints)
    return found or next(bare, None)


def _config_parameter(fn: Callable[..., Any]) -> str | None:
    """The parameter that LangChain fills in with the run's config."""
    hints = _hints(fn)
    return next((p for p in inspect.signature(fn).parameters if _is_config(hints.get(p))), None)


def _is_config(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return any(map(_is_config, typing.get_args(annotation)))
    return annotation is RunnableConfig


def _build(
    fn: Callable[..., Any],
    *,
    name: str,
    description: str | None = None,
    handoffs: tuple[str, ...] = (),
    timeout: float | None = None,
    idempotent: bool = False,
    slow: SlowTool | None = None,
    tasks: tuple[Any, ...] = (),
    needs: Mapping[str, RunnableTask[Any] | str] | None = None,
    on_enter: bool = True,
    available: Any = None,
    approve: Approve | None = None,
    cancellable: bool = False,
    on_duplicate: DuplicateMode = "allow",
    duplicate_scope: DuplicateScope = "name",
) -> FunctionTool:
    context, config = _context_parameter(fn), _config_parameter(fn)
    if unknown := sorted(set(needs or ()) - set(inspect.signature(fn).parameters)):
        raise BuildError(f'tool {name!r}: needs={{"{unknown[0]}": ...}}, but the function has no such parameter.')
    check_approval(name, approve, set(inspect.signature(fn).parameters) - {config})
    for parameter in inspect.signature(fn).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BuildError(f"tool {name!r}: *{parameter.name} has no schema; name each parameter.")
    text = description or (inspect.getdoc(fn) or "").partition("\nArgs:\n")[0].strip()
    if not text:
        raise BuildError(f"tool {name!r}: the model decides by the description, so give the function a docstring.")
    unasked = [name for name in (context, config, *(needs or ())) if name is not None]
    schema = schema_of(name, fn, hints=_hints(fn), unasked=unasked)
    if on_duplicate == "confirm":
        schema = may_confirm(schema)
    is_async = inspect.iscoroutinefunction(fn)

    def bound(arguments: dict[str, Any]) -> dict[str, Any]:
        if context is not None:
            arguments = {**arguments, context: RunContext.current()}
        if config is not None:
            arguments = {**arguments, config: ensure_config()}  # that of the run in whose context this is called
        return arguments

    async def call_async(**arguments: Any) -> Any:
        arguments.pop(CONFIRM, None)
        try:
            for parameter, task in (needs or {}).items():
                arguments[parameter] = await RunContext.current().run_task(task)
            arguments = bound(arguments)
            if approve is not None:
                await require_approval(name, approve, _with_defaults(fn, arguments))
            ctx = running.get()
            with insisting(ctx.replay if ctx is not None else None, f"tool {name}"):
                result = await fn(**arguments) if is_async else await asyncio.to_thread(fn, **arguments)
                if inspect.isawaitable(result):  # a decorated function, or a partial, of an async one
                    result = await result
        except (GraphInterrupt, TaskWanted) as asked:
            if isinstance(asked, GraphInterrupt):
                asked.args = _known(arguments).value(asked.args)
            # It will run again from its start, so what it has assigned by now would count twice. Undo it at once,
            # before another tool call of the batch builds on it.
            if (assignments := Assignments.current()) is not None:
                assignments.undo()
            raise
        except GraphBubbleUp:
            raise
        except Exception as error:
            if (redacted := redact_error(error, _known(arguments))) is not error:
                raise redacted from None
            raise
        return masked_output(tool_output(result), _known(arguments))

    def call_sync(**arguments: Any) -> Any:
        if is_async:
            raise NotImplementedError(f"tool {name!r} is async: use ainvoke.")
        arguments.pop(CONFIRM, None)
        return tool_output(fn(**bound(arguments)))

    made = FunctionTool(
        name=name,
        description=text,
        args_schema=schema,
        func=call_sync,
        coroutine=call_async,
        handoffs=handoffs,
        timeout=timeout,
        idempotent=idempotent,
        slow=slow or SlowTool(),
        takes_context=context is not None,
        tasks=tasks,
        on_enter=on_enter,
        available=available,
        cancellable=cancellable,
        on_duplicate=on_duplicate,
        duplicate_scope=duplicate_scope,
    )
    return with_redacted_arguments(with_extras(made, fn))


def _with_defaults(fn: Callable[..., Any], arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    given = inspect.signature(fn).bind(**arguments)
    given.apply_defaults()
    return given.arguments


def _known(arguments: dict[str, Any]) -> Known:
    """The secrets that a tool call knows: those in its arguments, in the userdata, and what the caller has said."""
    given = [v for v in arguments.values() if not isinstance(v, RunContext)]
    contexts = [v.userdata for v in arguments.values() if isinstance(v, RunContext)]
    return known_here.get().and_also(secret_texts([given, contexts]))


def is_idempotent(tool: BaseTool | None) -> bool:
    """Whether a tool may run again for the same tool call: `@function_tool(idempotent=True)`, or MCP's annotations of a
    tool that only reads, or changes nothing when it is called again."""
    if tool is None or isinstance(tool, FunctionTool):
        return tool is not None and tool.idempotent
    return any((tool.metadata or {}).get(hint) is True for hint in ("idempotentHint", "readOnlyHint"))
