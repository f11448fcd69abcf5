"""Groups of tasks: several tasks one after the other, of which the caller may go back to earlier ones. LiveKit's
`TaskGroup`.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, Literal

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from typing_extensions import TypeVar

from graph_voice import history as _history
from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done, lost
from graph_voice.agents.tool_errors import TaskFailed, ToolError
from graph_voice.agents.tools import as_tool, function_tool
from graph_voice.errors import BuildError
from graph_voice.history import Operation

__all__ = ["TaskGroup"]

R = TypeVar("R", default=dict[str, Any])


class TaskGroup(Generic[R]):
    """Several tasks in order, as one task: `found = await ctx.run_task(intake)`.

    It is no agent and no node of its own; its steps are. List it in `create_voice_graph([...])`, and declare it with
    who runs it, `Agent(tasks=[intake])`. Each step is shown what was said since the group began.

    Args:
        name: the group's name.
        steps: the tasks, at least two. Their descriptions tell the model when to go back to them.
        result: a class with a field for each step, by the step's name. Default: a dict, step -> its result.
        revisit: whether the caller may go back to steps that have run: the tool `go_back(steps)` of each step. Those
            run again, in the order asked for, then the step that was running, with its draft.
        returns: what the agent that runs the group is shown of its talk, applied once, at its end. Default: all but the
            tool calls.
        on_step: a function of the `RunContext`, the step's name and its result, sync or async, called when a step has
            ended, also when it has run again. It may be called again after a crash.
        on_failure: what happens when a step is given up: "raise" `TaskFailed`, or "keep" the exception as its result.

    Raises `BuildError` for fewer than two steps, two steps of one name, and a result that pydantic can't read.
    """

    is_task_group: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        steps: Sequence[Task[Any]],
        *,
        result: Any = dict[str, Any],
        revisit: bool = True,
        returns: Operation | None = None,
        on_step: Callable[[RunContext[Any, Any], str, Any], Any] | None = None,
        on_failure: Literal["raise", "keep"] = "raise",
    ) -> None:
        self.name, self.result, self.revisit = name, result, revisit
        self.returns = _history.exclude_tool_calls() if returns is None else returns
        self.on_step, self.on_failure = on_step, on_failure
        steps = [] if isinstance(steps, str) else list(steps)
        if (wrong := next((step for step in steps if not isinstance(step, Task)), None)) is not None:
            raise BuildError(
                f'TaskGroup("{name}"): {wrong!r:.60} is no Task. Write the tasks themselves, [get_name, ...].'
            )
        names = [step.name for step in steps]
        if len(names) < 2:
            raise BuildError(f'TaskGroup("{name}", {names}): a group has at least two steps. A single one is a Task.')
        if len(set(names)) < len(names):
            double = next(step for step in names if names.count(step) > 1)
            raise BuildError(f'TaskGroup("{name}"): two steps are named "{double}"; rename one.')
        if on_failure not in ("raise", "keep"):
            raise BuildError(f'TaskGroup("{name}", on_failure={on_failure!r}): write "raise" or "keep".')
        if not isinstance(self.returns, Operation):
            raise BuildError(
                f'TaskGroup("{name}", returns={returns!r:.60}): write a history operation, '
                "returns=history.exclude_tool_calls()."
            )
        try:
            self._whole: TypeAdapter[Any] = TypeAdapter(result)
        except PydanticUserError as error:
            raise BuildError(
                f'TaskGroup("{name}", result={result!r:.60}): write a pydantic model or a dataclass with a field for '
                f"each step: {', '.join(names)}."
            ) from error
        if name in names:
            raise BuildError(f'TaskGroup("{name}"): a step has the group\'s name; rename one.')
        if (missing := sorted(_required(result) - set(names))) != []:
            raise BuildError(
                f'TaskGroup("{name}", result={result.__name__}): no step is named "{missing[0]}", so this field would '
                f"never be there. Name a step so, or give the field a default. The steps: {', '.join(names)}."
            )
        self.steps = [self._step(step, steps) for step in steps] if revisit else list(steps)

    def _step(self, step: Task[Any], steps: Sequence[Task[Any]]) -> Task[Any]:
        """The task with a tool that goes back to earlier steps."""
        about = "; ".join(f"{s.name}: {s.description or s.name.replace('_', ' ')}" for s in steps)

        @function_tool(
            name="go_back",
            description=(
                "Go back to earlier steps, when the caller wants to change what they said there. "
                f"The steps that have run can be named: {about}."
            ),
            available=lambda run: bool(run.earlier_steps),
            idempotent=True,
        )
        async def go_back(ctx: RunContext[Any, Any], steps: list[str]) -> Done:
            unknown = [name for name in steps if name not in ctx.earlier_steps]
            if unknown or not steps:
                raise ToolError(f"Only steps that have run can be run again: {', '.join(ctx.earlier_steps)}.")
            return Done(ctx.agent, revisit=tuple(dict.fromkeys(steps)), draft=step.plain_draft(ctx.draft))

        return step.with_tools([as_tool(go_back, where=f"agent {step.name!r}")])

    async def run(self, ctx: RunContext[Any, Any], inputs: Mapping[str, Any]) -> R:
        """Run the steps. A tool call that waits for them runs this again from its start, with the results so far."""
        assert ctx.replay is not None
        found: dict[str, Any] = {}
        drafts: dict[str, Any] = {}
        steps = {step.name: step for step in self.steps}
        waiting = list(steps)
        while waiting:
            name = waiting.pop(0)
            ended = ctx.replay.take(name, inputs, group=self.name, earlier=tuple(found), draft=drafts.pop(name, None))
            if (again := ended.get("revisit")) is not None:
                drafts[name] = ended.get("draft")
                waiting = [*again, name, *(step for step in waiting if step not in again)]
                continue
            if lost(ended):
                waiting.append(name)  # another process has had its secret: it runs again, behind the others
                continue
            try:
                found[name] = steps[name].read(ended)
            except TaskFailed as failed:
                if self.on_failure == "raise":
                    raise
                found[name] = failed
            if self.on_step is not None and ctx.replay.at_end:
                told = self.on_step(ctx, name, found[name])
                if inspect.isawaitable(told):
                    await told
        result: R = self._whole.validate_python(found)
        return result


def _required(result: Any) -> set[str]:
    """The names under which a class of a group's result needs a value."""
    if isinstance(result, type) and issubclass(result, BaseModel):
        fields = result.model_fields.items()
        return {str(field.validation_alias or name) for name, field in fields if field.is_required()}
    if dataclasses.is_dataclass(result):
        kinds = (dataclasses.MISSING,)
        return {
            field.name
            for field in dataclasses.fields(result)
            if field.init and field.default in kinds and field.default_factory in kinds
        }
    return set()
