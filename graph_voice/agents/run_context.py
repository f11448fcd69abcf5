"""What a tool, or an agent's `on_enter` and `on_exit`, can see and do. LiveKit's `RunContext`."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, overload

from langchain_core.messages import AIMessage, AnyMessage
from langgraph.runtime import Runtime
from langgraph.store.base import BaseStore
from pydantic import BaseModel, ValidationError
from typing_extensions import TypeVar

from graph_voice.agents.handoff import Handoff, Reply, Utterance
from graph_voice.agents.livekit_names import refused_task
from graph_voice.agents.replay import Replay, RunnableTask
from graph_voice.agents.task_end import Done, Ends
from graph_voice.agents.yes_no import Answer
from graph_voice.errors import HandoffError, TurnError
from graph_voice.events import Modality, OnInterruption
from graph_voice.history import Operation

__all__ = ["LIVEKITS", "RunContext", "running"]

MAX_UPDATE = 1000
"""How many characters of an update count. The rest is cut."""
U = TypeVar("U", default=Any)
D = TypeVar("D", default=Any)
R = TypeVar("R")
_NO_DRAFT: Any = None

running: ContextVar["RunContext[Any] | None"] = ContextVar("graph_voice_running", default=None)
"""The context of the tool call or hook that runs in this task."""


def new_id(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"


LIVEKITS = {
    "session": "LiveKit's session is ctx.host.session; to speak: await ctx.say(...), await ctx.generate_reply(...).",
    "speech_handle": "LiveKit's is ctx.host.speech_handle.",
    "function_call": "The tool call's id is ctx.tool_call_id; LiveKit's item is ctx.host.function_call.",
    "with_filler": 'Write @function_tool(filler="...").',
    "foreground": "await ctx.say(...) and await ctx.generate_reply(...) wait until they were played.",
    "wait_for_playout": "await ctx.say(...) waits until it was played.",
}
"""What LiveKit's `RunContext` has, and what a graph has instead."""


@dataclass
class RunContext(Generic[U, D]):
    """The context of one tool call, or of an agent's `on_enter` or `on_exit`.

    A tool gets it by a parameter annotated `RunContext[Caller]`, whatever the parameter's name.
    """

    agent: str
    """The name of the active agent."""
    userdata: U
    """Shared by the tools of one batch. In-place changes count; the node writes them to the state as one update."""
    state: dict[str, Any]
    """The graph's state when the batch began."""
    chat_ctx: list[AnyMessage]
    """What the agent's model was shown of the conversation. LiveKit's `agent.chat_ctx`."""
    runtime: Runtime[Any]
    tool_call_id: str | None = None
    """None in `on_enter` and `on_exit`. It stays the same after a crash: use it as the key of what must happen once."""
    host: Any = None
    """The front end's own context of this tool call (LiveKit's `RunContext`), when there is one."""
    close_reason: str | None = None
    """In `on_exit`: why the call ends, such as "participant_disconnected" (LiveKit's `CloseReason`). None when the
    agent hands off, and everywhere else. At the call's end `say` and `generate_reply` do nothing."""

    modality: Modality = "text"
    """How the caller's words of this turn came: "audio" or "text". In a turn that the agent begins: those of the turn
    before. LiveKit's `ctx.speech_handle.input_details.modality`."""

    spoken: list[AIMessage] = field(default_factory=list, repr=False)
    """What `say` and `generate_reply` produced, in order."""
    already_said: list[str] = field(default_factory=list, repr=False)
    """What this tool call said before it asked (`interrupt()`). When it runs again from its start, it skips this."""
    updates: list[str] = field(default_factory=list, repr=False)
    """What `update` was given, in order."""
    updates_before: int = field(default=0, repr=False)
    """How many updates this tool call made before it asked. When it runs again from its start, it skips these."""
    tell: Callable[[str, bool], None] | None = field(default=None, repr=False)
    """Tell this update, silently or not."""
    requested: Handoff | None = field(default=None, repr=False)
    returned_none: bool = field(default=False, repr=False)
    ending: bool = field(default=False, repr=False)
    speak: Callable[[str, Utterance], Awaitable[str]] | None = field(default=None, repr=False)
    hold: Callable[[], None] | None = field(default=None, repr=False)
    held: bool = field(default=False, repr=False)
    over: bool = field(default=False, repr=False)
    """The tool or hook has ended. What it started may still run."""
    ways: Mapping[str, Handoff] = field(default_factory=dict, repr=False)
    """The agent's declared handoffs, by target."""
    declared: Sequence[Handoff] = field(default=(), repr=False)
    """All of them: several may lead to one target."""
    arguments: Any = None
    """What came with the handoff to this agent, as the class that its `Handoff(arguments=...)` names. None: nothing."""
    draft: D = _NO_DRAFT
    """In a task: its scratch, which lives as long as the task runs. Shared by the tools of one batch."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """In a task: what `ctx.run_task(task, **inputs)` gave it."""
    earlier_steps: Sequence[str] = ()
    """In a step of a `TaskGroup`: the steps that have run."""
    task: Ends | None = field(default=None, repr=False)
    """The task that the active agent is; None if it is none."""
    finished: Done | None = field(default=None, repr=False)
    replay: Replay | None = field(default=None, repr=False)
    """The tasks of this tool call; None where none can be run."""
    cut: Callable[[], bool] | None = field(default=None, repr=False)
    approved: bool = field(default=False, repr=False)
    """Whether the caller has approved this tool call."""
    note: Callable[[], Awaitable[None]] | None = field(default=None, repr=False)
    """Make it durable that the caller has approved."""
    running_tools: Any = field(default=None, repr=False)
    """The tool calls of the call that run now."""
    read_answer: Callable[[str, str], Awaitable[Answer]] | None = field(default=None, repr=False)
    """Let a model read the caller's words: the question, and the words."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = f" {LIVEKITS[name]}" if name in LIVEKITS else ""
            raise AttributeError(f"graph_voice's RunContext has no {name!r}.{hint}")

    @classmethod
    def current(cls) -> "RunContext[Any]":
        """The context of the running tool call or hook. Raises `TurnError` outside of one."""
        found = running.get()
        if found is None:
            raise TurnError("There is no RunContext here: the tool was called by hand. Pass a context of your own.")
        return found

    @property
    def context(self) -> Any:
        """The graph's run context (LangGraph's `context=`): clients, settings; never stored."""
        return self.runtime.context

    @property
    def store(self) -> BaseStore | None:
        """LangGraph's store, for what outlives the call."""
        return self.runtime.store

    def handoff(
        self,
        to: str,
        result: str | None = None,
        *,
        history: Operation | None = None,
        say: Utterance | None = None,
        on_interruption: OnInterruption | None = None,
        arguments: BaseModel | Mapping[str, Any] | None = None,
    ) -> Handoff:
        """Return this from a tool to hand off: `return ctx.handoff("billing")`.

        Args:
            to: the target, which the agent must declare in `handoffs=[...]`.
            result: what the tool answers. Default: "Transferring to <to>.".
            history: what the target is shown. Default: what the agent's declaration says.
            say: spoken by this agent before the target becomes active.
            on_interruption: what happens to the handoff when the caller interrupts its announcement, "cancel" or
                "complete". Default: what the agent's declaration says.
            arguments: what the target finds as its `ctx.arguments`: an instance of the class that the agent declares,
                `Handoff(to, tool=False, arguments=Reason)`.

        Raises `HandoffError` for a target, and for arguments, that are not declared.
        """
        way = self.ways.get(to)
        if way is None:
            raise HandoffError(
                f'agent "{self.agent}" may not hand off to "{to}": declare it, Agent("{self.agent}", ..., '
                f'handoffs=[Handoff("{to}", tool=False)]). Declared: {", ".join(sorted(self.ways)) or "none"}.'
            )
        kind = way.arguments if arguments is None else self._kind_of(to, arguments)
        given = None if arguments is None or kind is None else kind.model_validate(arguments)
        return replace(
            way,
            arguments=kind,
            given=given,
            result=way.result if result is None else result,
            history=way.history if history is None else history,
            say=way.say if say is None else say,
            on_interruption=way.on_interruption if on_interruption is None else on_interruption,
        )

    def _kind_of(self, to: str, arguments: BaseModel | Mapping[str, Any]) -> type[BaseModel]:
        """The declared class of these arguments."""
        kinds = [handoff.arguments for handoff in self.declared if handoff.to == to and handoff.arguments is not None]
        for kind in kinds:
            if isinstance(arguments, kind) or (isinstance(arguments, Mapping) and _fits(kind, arguments)):
                return kind
        known = ", ".join(kind.__name__ for kind in kinds) or "none"
        raise HandoffError(
            f'ctx.handoff("{to}", arguments=...) was given {type(arguments).__name__}, which fits no class that agent '
            f'"{self.agent}" declares ({known}): write Handoff("{to}", tool=False, arguments=...), and pass an '
            "instance of that class."
        )

    async def say(self, text: str) -> None:
        """Speak a fixed line, and wait until it was played or interrupted. LiveKit's `say`."""
        await self._speak(text)

    async def generate_reply(self, instructions: str) -> str:
        """Speak a line that the model writes from these instructions; wait until it was played. Returns its text.

        LiveKit's `session.generate_reply` inside a tool.
        """
        return await self._speak(Reply(instructions))

    async def update(self, message: str, *, silent: bool = False) -> None:
        """Tell how far the tool is; it goes on at once. LiveKit's `update`.

        The agent's model is shown this as the tool call's result so far, and speaks about it. What is told while its
        words are generated or played waits for their end; then the latest update counts. When the tool returns before
        the first word, nothing is said: the reply says it all. After an interruption, only models are told: in later
        prompts, the tool call is "still in progress", with its last update. So they are with `silent=True`.

        Outside a turn (LangGraph Studio, `ainvoke`), and when the tool has ended, nobody is told. Of a long message,
        the first 1000 characters count; a blank one tells nothing.

        Raises `TurnError` for what is no text, and in `on_enter` and `on_exit`, which are no tool calls.
        """
        if not isinstance(message, str):
            raise TurnError(f'ctx.update(...) takes a text, not {type(message).__name__}: write ctx.update(f"...").')
        if self.tool_call_id is None and self.speak is not None:
            raise TurnError(
                "ctx.update(...) tells how far a tool call is, and this is an on_enter or on_exit method. To speak: "
                "await ctx.say(...), await ctx.generate_reply(...)."
            )
        text = message.encode(errors="replace").decode().strip()
        if not text or self.over:
            return
        self.updates.append(text if len(text) <= MAX_UPDATE else f"{text[:MAX_UPDATE]}...")
        if self.tell is not None and len(self.updates) > self.updates_before:
            self.tell(self.updates[-1], silent)

    async def _speak(self, line: Utterance) -> str:
        if self.replay is not None:
            self.replay.go_on()
        if self.already_said:
            return self.already_said.pop(0)
        if self.speak is None:
            raise TurnError("This RunContext can't speak: it was made by hand.")
        return await self.speak(new_id("say"), line)

    @property
    def interrupted(self) -> bool:
        """Whether the caller has cut in since this turn began. After `run_task`: since the task has ended."""
        return self.cut is not None and self.cut()

    async def note_approval(self) -> None:
        """The caller has approved this tool call. It is not asked about again."""
        self.approved = True
        if self.note is not None:
            await self.note()

    # ---- tasks

    @overload
    async def run_task(self, task: RunnableTask[R], /, **inputs: Any) -> R: ...

    @overload
    async def run_task(self, task: str, /, **inputs: Any) -> Any: ...

    def run_task(self, task: RunnableTask[Any] | str, /, **inputs: Any) -> Coroutine[Any, Any, Any]:
        """Let a task take over the conversation, and get its result. LiveKit's `await AgentTask()`.

        The tool call waits meanwhile, over any number of turns, and a crash. When the result is there, the tool runs
        again from its start: each `run_task` returns the result that it has already, `say` is not said twice, and what
        was assigned to the userdata is undone and made again. So let it act only behind the last `run_task`, or declare
        the task by `@function_tool(needs={"email": get_email})`.

        Args:
            task: declared by the agent, `Agent(tasks=[task])`. One that the front end runs is named:
                `create_voice_graph(external_tasks=...)`.
            inputs: what the task is given: `ctx.inputs` in its tools.

        Raises `TaskFailed` when the task was given up, and `TurnError` for a task that is not declared, in `on_exit`,
        and in a sync tool.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise TurnError("run_task(...) in a sync tool: nobody can wait for the task. Write `async def`.") from None
        return self._run_task(task, inputs)

    async def _run_task(self, task: RunnableTask[Any] | str, inputs: Mapping[str, Any]) -> Any:
        if (why := refused_task(task)) is not None:
            raise TurnError(f"run_task(...): {why}")
        if isinstance(task, type):
            raise TurnError(f"run_task({task.__name__}): this is a class. Write the task itself, one for all calls.")
        if self.replay is None:
            name = task if isinstance(task, str) else task.name
            raise TurnError(
                f'run_task("{name}"): a task can be run by a tool or an on_enter method of an agent, not here '
                "(on_exit, or a RunContext that was made by hand)."
            )
        found: RunnableTask[Any] = self.replay.named(task) if isinstance(task, str) else task
        return await found.run(self, inputs)

    def complete(self, result: Any) -> Done:
        """Return this from a tool of a task to end it with its result: `return ctx.complete(Email(address=...))`.
        LiveKit's `AgentTask.complete`.

        Raises `ToolError`, which the model is told, for a result that does not fit the task's, and `TurnError` outside
        a task.
        """
        return self._task("complete").done(result)

    def fail(self, reason: str) -> Done:
        """Return this from a tool of a task to give it up: whoever runs the task gets `TaskFailed(reason)`.

        Raises `TurnError` outside a task.
        """
        return self._task("fail").failed(reason)

    def _task(self, method: str) -> Ends:
        if self.task is None:
            raise TurnError(f'ctx.{method}(...): agent "{self.agent}" is no task, so there is nothing to end.')
        return self.task

    def disallow_interruptions(self) -> None:
        """The caller can't interrupt from here to the end of this tool call. LiveKit's method of the same name."""
        if self.hold is not None and not self.held:
            self.held = True
            self.hold()

    def end_call(self) -> None:
        """End the call once the agent has finished speaking. The front end hangs up."""
        if self.replay is not None:
            self.replay.go_on()
        self.ending = True

    def request_handoff(self, request: Handoff) -> None:
        """What returning `request` from the tool does."""
        if request.to not in self.ways:
            self.handoff(request.to)
        self.requested = request


def _fits(kind: type[BaseModel], arguments: Mapping[str, Any]) -> bool:
    try:
        kind.model_validate(arguments)
    except ValidationError:
        return False
    return True
