"""Agents: who speaks in a call. LiveKit's `Agent`, as a definition that holds no state of a call."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Never, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from pydantic import BaseModel

from graph_voice.agents.cancel_tools import with_cancel_tools
from graph_voice.agents.described_tool import described_tool
from graph_voice.agents.handoff import Handoff, TransferTool
from graph_voice.agents.idle import Idle
from graph_voice.agents.livekit_arguments import OF_AGENTS, LiveKitAttributes, refuse_arguments, refuse_hooks
from graph_voice.agents.livekit_names import refused_servers, refused_task, refused_tool
from graph_voice.agents.tools import is_function_tool, is_provider_tool
from graph_voice.agents.toolset import Toolset
from graph_voice.agents.voice import Voice
from graph_voice.errors import BuildError
from graph_voice.events import Modality
from graph_voice.history.operation import Operation
from graph_voice.secrets.credentials import shown

__all__ = ["Agent", "Spoken", "Text", "require_tool_name", "takes_arguments", "texts_of"]


@dataclass(frozen=True)
class Spoken:
    """Instructions that differ by how the caller's words came. LiveKit's `Instructions(audio=..., text=...)`.

    `Agent("desk", instructions=Spoken(audio="Expect noise.", text="Expect typing errors."))`. Which of the two counts
    is decided for each reply: `RunContext.modality`.
    """

    audio: str | Callable[[Any], str]
    """For a turn in which the caller spoke: text, or a function of the userdata."""
    text: str | Callable[[Any], str]
    """For a turn in which the caller typed."""


Text = str | Callable[[Any], str] | Spoken
"""Fixed text, a function of the userdata, or one of the two for each modality."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class Agent(LiveKitAttributes):
    """An agent of a voice graph: a node, with its tools and its handoffs.

    Write an instance, or a subclass with class attributes, `@function_tool` methods and
    `async def on_enter(self, ctx)` / `async def on_exit(self, ctx)`. An agent keeps no data of a call (that belongs in
    the userdata), so one instance serves any number of calls.

    Args:
        name: the node's name; letters, digits, `_` and `-`.
        instructions: the system prompt: text, a function of the userdata, or `Spoken(audio=..., text=...)`. Rendered
            for each model call.
        tools: `@function_tool` functions, plain functions, LangChain tools, toolsets (`McpServer(...)`), or tools that
            the model's provider runs itself (`{"type": "web_search"}`), which its LangChain model takes as they are.
        tasks: the `Task`s that its tools and its `on_enter` method run with `ctx.run_task`, and the names of external
            ones (`create_voice_graph(external_tasks=...)`).
        handoffs: `Handoff`s. A name, or an agent, is short for `Handoff(name)`: the model gets `transfer_to_<name>`.
            A target that only tools of yours hand off to, with `ctx.handoff(name)`, is `Handoff(name, tool=False)`.
        on_enter: instructions for the first reply after a handoff: text, a function of the userdata (or of the userdata
            and of what came with the handoff, `Handoff(arguments=...)`; None if nothing did), or `Spoken`. None: the
            agent replies at once from its instructions. As a method it speaks by itself, and may hand off as a tool
            does (`return ctx.handoff("billing")`). It runs when the handoff to the agent has happened.
        on_exit: an async function of the `RunContext`. It runs when another agent has become active, and when the
            call ends.
        llm: a LangChain chat model or a string such as "openai:gpt-4.1". Default: the graph's.
        fallback: the model that answers when `llm` fails before its first word. Default: the graph's.
        voice: how it hears and sounds.
        on_enter_tools: "own" (default) lets the first reply use the agent's tools but no transfer, so that the agent
            can't hand off before it has spoken; "none" allows no tools.
        context: a history operation that keeps what the model is shown short while the agent is active, such as
            `history.when(max_items=60, then=history.summarize(keep_last_turns=6))`. A `Conversation` applies it
            between turns, in the background; without one (Studio, `ainvoke`) it is applied when a turn begins.
        idle: what it says when the caller is silent for a while. Default: the graph's, `create_voice_graph(idle=...)`.

    Raises `BuildError` for what can't work: a bad name, no instructions, two tools with the same name, an `on_enter`
    that is neither text nor a function.
    """

    name: str = ""
    instructions: Text = ""
    is_graph_agent: ClassVar[bool] = True
    tools: Sequence[Any] = ()
    handoffs: "Sequence[Handoff | str | Agent]" = ()
    tasks: Sequence[Any] = ()
    llm: BaseChatModel | str | None = None
    fallback: BaseChatModel | str | None = None
    voice: Voice | None = None
    on_enter_tools: Literal["own", "none"] = "own"
    on_enter: Any = None
    on_exit: Any = None
    context: Operation | None = None
    idle: Idle | None = None

    def __init__(
        self,
        name: str | None = None,
        *,
        instructions: Text | None = None,
        tools: Sequence[Any] | None = None,
        handoffs: "Sequence[Handoff | str | Agent] | None" = None,
        tasks: Sequence[Any] | None = None,
        on_enter: str | Spoken | Callable[[Any], Any] | None = None,
        on_exit: Callable[[Any], Any] | None = None,
        llm: BaseChatModel | str | None = None,
        fallback: BaseChatModel | str | None = None,
        voice: Voice | None = None,
        on_enter_tools: Literal["own", "none"] | None = None,
        context: Operation | None = None,
        idle: Idle | None = None,
        mcp_servers: None = None,
        **others: Never,
    ) -> None:
        if mcp_servers is not None:
            raise BuildError(f"Agent({name!r}): {refused_servers(mcp_servers)}")
        refuse_arguments(f"{type(self).__name__}({name or self.name!r})", others, OF_AGENTS)
        given = {
            "name": name,
            "instructions": instructions,
            "tools": tools,
            "handoffs": handoffs,
            "tasks": tasks,
            "on_enter": on_enter,
            "on_exit": on_exit,
            "llm": llm,
            "fallback": fallback,
            "voice": voice,
            "on_enter_tools": on_enter_tools,
            "context": context,
            "idle": idle,
        }
        for attribute, value in given.items():
            if value is not None:
                setattr(self, attribute, value)
        if isinstance(self.voice, str):
            self.voice = Voice(tts=self.voice)  # as LiveKit's Agent(tts="cartesia/sonic-3")
        if self.voice is not None and not isinstance(self.voice, Voice):
            hint = ", ".join(f"{key}=..." for key in self.voice) if isinstance(self.voice, dict) else 'tts="..."'
            raise BuildError(f'Agent("{self.name}", voice={shown(self.voice)!r:.60}): write voice=Voice({hint}).')
        if self.idle is not None and not isinstance(self.idle, Idle):
            raise BuildError(f'Agent("{self.name}", idle={self.idle!r:.60}): write idle=Idle(after=10, say="...").')
        for attribute in ("tools", "handoffs", "tasks"):
            if not isinstance(value := getattr(self, attribute), Iterable):
                raise BuildError(f'Agent("{self.name}", {attribute}={value!r:.60}): write a list, {attribute}=[...].')
        if not isinstance(self.handoffs, str):
            self.handoffs = [_as_handoff(handoff) for handoff in self.handoffs]
        for attribute in ("instructions", "on_enter"):
            # `instructions = lambda userdata: ...` in a class body is a function of the userdata, not a method.
            raw = inspect.getattr_static(self, attribute)
            if (
                inspect.isfunction(raw)
                and list(inspect.signature(raw).parameters) == ["self"]
                and raw is not given.get(attribute)
            ):
                _refuse_self(type(self).__name__, attribute)
            if inspect.isfunction(raw) and len(inspect.signature(raw).parameters) == 1:
                setattr(self, attribute, raw)
        if not self.name and type(self) is not Agent:
            self.name = _snake_case(type(self).__name__)
        self._check()
        refuse_hooks(type(self), self.name)
        self.declared = [h for h in self.handoffs if isinstance(h, Handoff)]  # all of them: a name became one above
        self.ways: dict[str, Handoff] = {}
        """Target -> the declaration that `ctx.handoff` uses: one with `tool=False` comes before a transfer tool's."""
        for way in sorted(self.declared, key=lambda handoff: handoff.tool):
            self.ways.setdefault(way.to, way)
        self.argument_types = self._argument_types()
        """Name -> class, of what its handoffs take along."""
        self.transfers: list[TransferTool] = [handoff.transfer_tool() for handoff in self.declared if handoff.tool]
        self.provider_tools = [tool for tool in self.tools if is_provider_tool(tool)]
        """Tools that the model's provider runs, as it wants them declared."""
        self.toolsets = [tool for tool in self.tools if isinstance(tool, Toolset)]
        """Its tools that come and go."""
        given_tools = [tool for tool in self.tools if not isinstance(tool, Toolset)]
        own = [tool for tool in [*given_tools, *self._tool_methods()] if not is_provider_tool(tool)]
        own += self._extra_tools(own)
        made = [described_tool(tool, where=f"agent {self.name!r}") for tool in own]
        self.own_tools: list[BaseTool] = with_cancel_tools(made)
        self.own_groups: dict[str, Any] = {}
        """The groups of tasks that it may run, by name."""
        self.external_tasks = tuple(task for task in self.tasks if isinstance(task, str))
        """The names of the tasks that it may run and that the front end carries out."""
        self.own_tasks: dict[str, Any] = {}
        """The others that it may run, by name."""
        self.declare_tasks()
        seen: set[str] = set()
        for tool in self.all_tools:
            if tool.name in seen:
                self._refuse_twice(tool.name)
            require_tool_name(tool, where=f'agent "{self.name}"')
            seen.add(tool.name)

    def _argument_types(self) -> dict[str, type[BaseModel]]:
        found: dict[str, type[BaseModel]] = {}
        for kind in (handoff.arguments for handoff in self.declared):
            if kind is not None and found.setdefault(kind.__name__, kind) is not kind:
                raise BuildError(
                    f'agent "{self.name}": its handoffs take along two classes named {kind.__name__}; rename one.'
                )
        return found

    def _extra_tools(self, given: Sequence[Any]) -> list[Any]:
        """Tools that come with the kind of agent."""
        return []

    def declare_tasks(self) -> None:
        """Read from its tasks and its tools what it may run."""
        self.own_groups = {}
        self.own_tasks = self._declared_tasks()

    def _declared_tasks(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for task in self.tasks:
            if isinstance(task, str):
                continue
            if getattr(type(task), "is_task_group", False):
                self.own_groups[task.name] = task
                found.update((step.name, step) for step in task.steps)
                continue
            if (why := refused_task(task)) is not None:
                raise BuildError(f'agent "{self.name}": {why}')
            if not getattr(type(task), "is_task", False):
                raise BuildError(
                    f'agent "{self.name}": tasks has {task!r:.60}. Write the task itself, tasks=[get_email].'
                )
            found[task.name] = task
        for tool in self.own_tools:
            for task in getattr(tool, "tasks", ()):
                if getattr(type(task), "is_task_group", False):
                    self.own_groups[task.name] = task
                    found.update((step.name, step) for step in task.steps)
                elif getattr(type(task), "is_task", False):
                    found.setdefault(task.name, task)
                elif task not in found and task not in self.own_groups and task not in self.external_tasks:
                    raise BuildError(
                        f'agent "{self.name}": tool "{tool.name}" runs the task "{task}", which the agent does not '
                        f'declare: Agent("{self.name}", ..., tasks=[{task}]).'
                    )
        return found

    def _check(self) -> None:
        """Raise `BuildError` for what would fail in the middle of a call."""
        name = self.name
        if not isinstance(name, str) or not _NAME.match(name):
            first = 'give it a name first, Agent("billing", instructions="..."): ' if name == "" else ""
            raise BuildError(
                f"Agent({name!r}): {first}a name is up to 64 letters, digits, '_' and '-', and starts with a letter or "
                "'_'. It becomes a node of the graph and part of a tool's name."
            )
        for written in texts_of(self.instructions):
            if not written or (isinstance(written, str) and not written.strip()):
                raise BuildError(f'agent "{name}" has no instructions: Agent("{name}", instructions="...").')
            if not isinstance(written, str) and not _takes_one(written):
                raise BuildError(
                    f'agent "{name}": instructions={written!r} is neither text nor a function of the userdata that '
                    'returns text: instructions="...", or instructions=lambda userdata: f"...".'
                )
            if inspect.iscoroutinefunction(written):
                raise BuildError(
                    f'agent "{name}": its instructions are an async function. Make it a plain function of the '
                    "userdata, and load what it needs in on_enter or in a tool."
                )
        enters = [text for text in texts_of(self.on_enter) if text is not None and not isinstance(text, str)]
        if not all(map(_enters, enters)) or (
            isinstance(self.on_enter, Spoken) and any(map(inspect.iscoroutinefunction, enters))
        ):
            raise BuildError(
                f'agent "{name}": on_enter={self.on_enter!r} is none of: instructions for the first reply (text, or a '
                "function of the userdata, or of the userdata and the handoff's arguments), an async function of the "
                "RunContext."
            )
        exits = inspect.getattr_static(self, "on_exit")
        if inspect.isfunction(exits) and list(inspect.signature(exits).parameters) == ["self"]:
            _refuse_self(type(self).__name__, "on_exit")
        if self.on_exit is not None and not _takes_one(self.on_exit):
            raise BuildError(f'agent "{name}": on_exit={self.on_exit!r} is not a function of the RunContext.')
        if isinstance(self.handoffs, str):
            raise BuildError(f'agent "{name}": handoffs is a list: handoffs=["{self.handoffs}"].')
        for handoff in self.handoffs:
            if not isinstance(handoff, Handoff):
                raise BuildError(
                    f'agent "{name}": handoffs has {handoff!r}. Write the name of the target, handoffs=["billing"], or '
                    'Handoff("billing", ...).'
                )
        if self.on_enter_tools not in ("own", "none"):
            raise BuildError(f'agent "{name}": on_enter_tools={self.on_enter_tools!r}: write "own" or "none".')
        if self.context is not None and not isinstance(self.context, Operation):
            raise BuildError(
                f'agent "{name}": context={self.context!r} is not a history operation. Write '
                "context=history.when(max_items=60, then=history.summarize(keep_last_turns=6))."
            )

    def _refuse_twice(self, tool: str) -> None:
        made = next((t.handoff for t in self.transfers if t.name == tool), None)
        if made is None:
            raise BuildError(f'agent "{self.name}" has two tools named "{tool}"; rename one.')
        if not any(own.name == tool for own in self.own_tools):
            raise BuildError(
                f'agent "{self.name}" declares two transfer tools named "{tool}". If one of them is for your own tool '
                f'that hands off: Handoff("{made.to}", tool=False). If both stay: Handoff("{made.to}", name="...").'
            )
        raise BuildError(
            f'agent "{self.name}" has two tools named "{tool}": one of its own, and the one that Handoff("{made.to}") '
            f'makes. If your tool makes the handoff: Handoff("{made.to}", tool=False). If both stay: '
            f'Handoff("{made.to}", name="...").'
        )

    @property
    def all_tools(self) -> list[BaseTool]:
        return [*self.own_tools, *self.transfers]

    @property
    def has_tools(self) -> bool:
        """Whether its model may have a tool to call."""
        return bool(self.all_tools or self.toolsets)

    @property
    def targets(self) -> frozenset[str]:
        """Every target that this agent may hand off to."""
        return frozenset(self.ways)

    @property
    def enters_by_method(self) -> bool:
        """Whether `on_enter` is an async function that acts itself, instead of instructions for a reply."""
        return inspect.iscoroutinefunction(self.on_enter)

    def render(self, userdata: Any, modality: Modality = "text") -> str:
        """The instructions as they are now."""
        return _render(self.instructions, userdata, modality)

    def render_on_enter(self, userdata: Any, modality: Modality = "text", arguments: Any = None) -> str | None:
        """The instructions for the first reply; None if there are none. `arguments`: what came with the handoff."""
        if self.on_enter is None or self.enters_by_method:
            return None
        text = _variant(self.on_enter, modality)
        if takes_arguments(text):
            return cast(Callable[[Any, Any], str], text)(userdata, arguments)
        return _render(text, userdata, modality)

    def _tool_methods(self) -> list[Any]:
        found = []
        for attribute in dir(type(self)):
            if (why := refused_tool(inspect.getattr_static(type(self), attribute, None))) is not None:
                raise BuildError(f"agent {self.name!r}: {why}")
            if not attribute.startswith("__") and is_function_tool(getattr(type(self), attribute, None)):
                found.append(getattr(self, attribute))
        return found

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def require_tool_name(tool: BaseTool, *, where: str) -> None:
    """Raise `BuildError` for a tool whose name no provider takes. `where`: the begin of the sentence."""
    if not _TOOL_NAME.match(tool.name):
        hint = f'Handoff("{tool.handoff.to}", name="...")' if isinstance(tool, TransferTool) else "rename it"
        raise BuildError(
            f"{where}: the providers refuse the tool name \"{tool.name}\". They take up to 64 letters, digits, '_' and "
            f"'-': {hint}."
        )


def _as_handoff(written: Any) -> Any:
    """A name, or an agent, as the `Handoff` that it is short for. Anything else is refused with the others."""
    name = written.name if isinstance(written, Agent) else written
    return Handoff(name) if name and isinstance(name, str) else written


def _refuse_self(kind: str, attribute: str) -> None:
    """Raise `BuildError` for a hook with LiveKit's signature."""
    if attribute == "instructions":
        raise BuildError(f"{kind}.instructions(self): a function of the userdata, def instructions(userdata): ...")
    raise BuildError(
        f"{kind}.{attribute}(self) has LiveKit's signature. Write `async def {attribute}(self, ctx: RunContext)`, and "
        "`await ctx.say(...)` or `await ctx.generate_reply(...)` instead of `self.session...`."
    )


def _render(text: Text, userdata: Any, modality: Modality) -> str:
    text = _variant(text, modality)
    return text(userdata) if callable(text) else text


def _variant(text: Text, modality: Modality) -> str | Callable[..., str]:
    if isinstance(text, Spoken):
        return text.audio if modality == "audio" else text.text
    return text


def texts_of(written: Any) -> list[Any]:
    """What may be rendered of a text: both variants of one that differs by modality."""
    return [written.audio, written.text] if isinstance(written, Spoken) else [written]


def takes_arguments(on_enter: Any) -> bool:
    """Whether this `on_enter` is a function of the userdata and of what came with the handoff."""
    return callable(on_enter) and not _takes_one(on_enter)


def _enters(function: Any) -> bool:
    """Whether it may stand in `on_enter`: a function of the userdata, or of that and the handoff's arguments."""
    return _takes_one(function) or (not inspect.iscoroutinefunction(function) and _takes(function, None, None))


def _takes_one(function: Any) -> bool:
    """Whether it can be called with one argument."""
    return _takes(function, None)


def _takes(function: Any, *arguments: None) -> bool:
    """Whether it can be called with so many arguments. A function without a signature (a builtin) is taken to."""
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _snake_case(name: str) -> str:
    name = re.sub(r"Agent$", "", name) or name
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
