"""Tasks: an agent takes over the conversation for one purpose, and gives it back with a typed result. LiveKit's
`AgentTask`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Never, Self

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from pydantic import BaseModel, PydanticUserError, TypeAdapter, ValidationError, create_model
from typing_extensions import TypeVar

from graph_voice import history as _history
from graph_voice.agents.agent import Agent, Spoken, Text
from graph_voice.agents.completing import Ending, can_end
from graph_voice.agents.handoff import Handoff
from graph_voice.agents.plain_data import as_plain, as_typed
from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task_end import Done, lost
from graph_voice.agents.tool_errors import TaskFailed, ToolError
from graph_voice.agents.tools import FunctionTool, as_tool, function_tool
from graph_voice.agents.voice import Voice
from graph_voice.errors import BuildError, TurnError
from graph_voice.history import Operation
from graph_voice.secrets.values import holds_secrets, without_lost
from graph_voice.userdata.channel import explain

__all__ = ["Task"]

R = TypeVar("R", default=Any)
LOST = "{name}: what it had found is secret, and was not stored. Ask for it again."
"""Why a task failed whose result another process has had."""


class Task(Agent, Generic[R]):
    """An agent that takes over the conversation for one purpose, and gives it back with a result.

    A tool runs it with `await ctx.run_task(task)`. It is a node of the graph like any agent: list it in
    `create_voice_graph([...])`, and declare it with whoever runs it, `Agent(tasks=[task])`.

        get_city = Task("get_city", result=City, instructions="Find out the city.")

    Its tools end it: `return ctx.complete(City(name=name))`, `return ctx.fail("the caller hung up")`. Without tools it
    has one, `complete_<name>`, whose arguments are the result's fields.

    Args:
        name: the node's name.
        result: the class of the result: a pydantic model, a dataclass, or any type that pydantic knows. Stored as JSON.
        draft: the class of `ctx.draft`, the task's scratch. It is made without arguments when the task begins, and
            stored with the call. None: no draft.
        description: what the model reads when the task stands in `Agent(tools=[task])`.
        history: what the task is shown of the conversation. Default: nothing, as in LiveKit.
        returns: what the agent that gets the conversation back is shown of the task's talk. Default: all but the tool
            calls, as in LiveKit.
        give_up: when the model may give the task up. It becomes the tool `give_up(reason)`. None: no such tool.

    The other arguments are `Agent`'s. Raises `BuildError` as `Agent` does, for a result that pydantic can't read and
    write as JSON, for a draft that can't be made without arguments, and for tools of which none can end it.
    """

    is_task: ClassVar[bool] = True
    result: Any = str
    draft: type[BaseModel] | None = None
    description: str = ""
    history: Operation = _history.fresh()
    returns: Operation = _history.exclude_tool_calls()
    give_up: str | None = None
    ends: Ending = Ending.YES
    """Whether one of its tools ends it, as far as that can be told."""
    made_of: "Task[R] | None" = None
    """The task that this one, a step of a group, is a copy of."""

    def __init__(
        self,
        name: str | None = None,
        *,
        result: Any = None,
        draft: type[BaseModel] | None = None,
        description: str | None = None,
        history: Operation | None = None,
        returns: Operation | None = None,
        give_up: str | None = None,
        instructions: Text | None = None,
        tools: Sequence[Any] | None = None,
        handoffs: Sequence[Handoff | str] | None = None,
        tasks: Sequence[Any] | None = None,
        on_enter: str | Spoken | Callable[[Any], Any] | None = None,
        on_exit: Callable[[Any], Any] | None = None,
        llm: BaseChatModel | str | None = None,
        fallback: BaseChatModel | str | None = None,
        voice: Voice | None = None,
        **others: Never,
    ) -> None:
        given = {"result": result, "draft": draft, "description": description, "history": history}
        for attribute, value in {**given, "returns": returns, "give_up": give_up}.items():
            if value is not None:
                setattr(self, attribute, value)
        self._named = name or self.name
        self._json = self._adapter()
        super().__init__(
            name,
            instructions=instructions,
            tools=tools,
            handoffs=handoffs,
            tasks=tasks,
            on_enter=on_enter,
            on_exit=on_exit,
            llm=llm,
            fallback=fallback,
            voice=voice,
            **others,
        )
        self.new_draft()

    if not TYPE_CHECKING:

        def __await__(self) -> Any:
            raise TurnError(f"`await {self.name}`: write `await ctx.run_task({self.name})`.")

    def _adapter(self) -> TypeAdapter[Any]:
        for attribute in ("give_up", "description"):
            if not isinstance(value := getattr(self, attribute), str | None):
                raise BuildError(f'Task("{self._named}", {attribute}={value!r:.60}): write a text, {attribute}="...".')
        for attribute in ("history", "returns"):
            if not isinstance(value := getattr(self, attribute), Operation):
                raise BuildError(
                    f'Task("{self._named}", {attribute}={value!r:.60}): write a history operation, '
                    f"{attribute}=history.exclude_tool_calls()."
                )
        try:
            made: TypeAdapter[Any] = TypeAdapter(self.result)
            made.json_schema()
        except PydanticUserError as error:
            raise BuildError(
                f'Task("{self._named}", result={self.result!r:.60}): pydantic can\'t read and write it as JSON. Write '
                "a pydantic model, a dataclass, or a type such as str or list[int]."
            ) from error
        return made

    def _extra_tools(self, given: Sequence[Any]) -> list[Any]:
        """The tools of the task itself: `complete_<name>` if it has none of its own, and `give_up`."""
        made: list[Any] = []
        self.ends = can_end(given) if given else Ending.YES
        if not given:
            made.append(self._complete_tool())
        elif self.ends is Ending.NEVER:
            raise BuildError(
                f'Task("{self._named}"): none of its tools can end it, so it would never give its result. Let one '
                f"return ctx.complete(result) (-> Done), or leave tools out: then it has complete_{self._named}."
            )
        if self.give_up is not None:
            made.append(_give_up_tool(self.give_up))
        return made

    def _complete_tool(self) -> BaseTool:
        whole = isinstance(self.result, type) and issubclass(self.result, BaseModel)
        schema = self.result if whole else create_model(f"{self._named}_result", value=(self.result, ...))

        async def complete(**fields: Any) -> Any:
            ctx = RunContext.current()
            ctx.finished = ctx.complete(fields if whole else fields["value"])
            return ctx.finished.answer

        return FunctionTool(
            name=f"complete_{self._named}",
            description=self.description or f"Record the result of {self._named.replace('_', ' ')}, once it is known.",
            args_schema=schema,
            coroutine=complete,
            func=None,
            idempotent=True,
        )

    def as_tool(self) -> BaseTool:
        """The task as a tool of an agent: its model calls it, and reads the result."""

        async def run() -> Any:
            return await RunContext.current().run_task(self)

        run.__name__ = self.name
        described = self.description or f"Let {self.name.replace('_', ' ')} take over, and get its result."
        return as_tool(function_tool(name=self.name, description=described, tasks=[self])(run))

    # ---- its result and its draft, as plain data

    def done(self, result: Any) -> Done:
        """The end with this result. Raises `ToolError` if it does not fit the task's `result`."""
        try:
            fits = self._json.validate_python(result)
        except ValidationError as error:
            told = f"Not the result of {self.name}: {explain(error)}"
            # pydantic's own text shows the input.
            raise ToolError(told) from (None if holds_secrets(self.result) else error)
        return Done(self.name, as_plain(self._json, fits))

    def failed(self, reason: str) -> Done:
        """The end without one."""
        return Done(self.name, error=reason)

    async def run(self, ctx: RunContext[Any, Any], inputs: Mapping[str, Any]) -> R:
        """The result, for a tool call with this context (`ctx.run_task`)."""
        assert ctx.replay is not None
        while lost(found := ctx.replay.take(self.name, inputs)):
            # Another process has had the secret. The task runs once more, and that result comes behind the lost one.
            if not ctx.replay.may_take(self.name):
                raise TaskFailed(LOST.format(name=self.name))
        return self.read(found)

    def with_tools(self, more: Sequence[BaseTool]) -> Self:
        """A copy of this task with more tools."""
        made = copy.copy(self)
        made.own_tools = [*self.own_tools, *more]
        made.made_of = self
        return made

    def read(self, found: Mapping[str, Any]) -> R:
        """The result as the tool that ran the task gets it. Raises `TaskFailed` when the task was given up."""
        if (error := found.get("error")) is not None:
            raise TaskFailed(str(error))
        if lost(found):
            raise TaskFailed(LOST.format(name=self.name))
        value: R = as_typed(self._json, found["value"])
        return value

    def new_draft(self) -> Any:
        """The draft with which the task begins. Raises `BuildError` if it can't be made without arguments."""
        if self.draft is None:
            return None
        try:
            return self.draft()
        except Exception as error:
            raise BuildError(
                f'Task("{self.name}", draft={getattr(self.draft, "__name__", self.draft)}): it is made without '
                f"arguments when the task begins, so give its fields defaults: {error}"
            ) from error

    def read_draft(self, kept: Any) -> Any:
        """The draft that `plain_draft` made this of."""
        if self.draft is None or kept is None:
            return self.new_draft()
        if holds_secrets(self.draft):
            kept = without_lost(kept)
        try:
            return as_typed(TypeAdapter(self.draft), kept)
        except ValidationError:
            if holds_secrets(self.draft):
                return self.new_draft()  # it does not hold together without what was lost
            raise

    def plain_draft(self, draft: Any) -> Any:
        """The draft as the stack keeps it."""
        return None if self.draft is None else as_plain(TypeAdapter(self.draft), draft)


def _give_up_tool(when: str) -> Any:
    @function_tool(description=when, idempotent=True)
    async def give_up(ctx: RunContext[Any], reason: str) -> Done:
        return ctx.fail(reason)

    return give_up
