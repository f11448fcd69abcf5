"""What the two nodes of an agent share: its model, its speech, and the contexts of its tools and hooks."""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy
from pydantic import BaseModel

from graph_voice.agents.agent import Agent
from graph_voice.agents.handoff import Handoff, Reply, Utterance
from graph_voice.agents.idle import Idle
from graph_voice.agents.livekit_names import awaited_task
from graph_voice.agents.replay import insisting
from graph_voice.agents.run_context import RunContext, running
from graph_voice.agents.task import Task
from graph_voice.errors import GraphVoiceError, TurnError
from graph_voice.events import Modality
from graph_voice.graph.frames import frame_of, replay_of
from graph_voice.graph.generate import Generated
from graph_voice.graph.handoff_arguments import arguments_of, told_arguments
from graph_voice.graph.retry import RETRY, ask
from graph_voice.graph.tool_table import ToolTable
from graph_voice.history.context import view
from graph_voice.messages.pairs import GOTO
from graph_voice.messages.prompt import build_prompt
from graph_voice.models import checked, is_loaded, models_named, run_models
from graph_voice.models.bindings import Bindings
from graph_voice.secrets.arguments import secret_schemas
from graph_voice.secrets.known import NOTHING, Known, known_of
from graph_voice.secrets.values import opened
from graph_voice.turn.nodes_side import NodesSide, current_turn
from graph_voice.userdata.channel import untyped

__all__ = ["USUAL_APOLOGY", "AgentRuntime", "Apology", "Settings", "hops", "modality_of", "since_last_user"]


Apology = str | Callable[[Any], str]
"""What is said when something failed: a text, or a function of the userdata."""


USUAL_APOLOGY = "I'm sorry, something went wrong on my side. Could you say that again?"


@dataclass(frozen=True)
class Settings:
    """The settings of every agent of one graph."""

    agents: frozenset[str]
    """The names of the agents. A handoff to another node does not change the active agent."""
    external: frozenset[str] = frozenset()
    """The external agents among them."""
    external_tasks: Mapping[str, Task[Any]] = field(default_factory=dict, compare=False, repr=False)
    """The tasks that the front end runs."""
    max_hops: int = 4
    """The number of handoffs in a turn after which the active agent must answer."""
    max_tool_calls: int = 64
    """The number of tool calls of one message that count."""
    apology: Apology = USUAL_APOLOGY
    """Said when a model fails, or answers with nothing."""
    secrets: SerializerProtocol | None = None
    """Encrypts the secrets in the drafts and the results of tasks where they are stored. None: they are left out."""
    idle: Idle | None = None
    """What an agent that has no `idle` of its own says when the caller is silent."""
    retry: RetryPolicy = RETRY
    """How often, and after which errors, a model that has not said anything yet is asked again."""
    runtimes: "dict[str, AgentRuntime]" = field(default_factory=dict, compare=False, repr=False)
    """The agents of the graph by name, for who takes over from one of them."""
    first_token_timeout: float | None = 10.0
    """Seconds to wait for the first piece of a model's answer before it counts as failed. The default is LiveKit's."""


class AgentRuntime:
    """One agent of one graph, at run time. It holds nothing of a call."""

    def __init__(
        self,
        agent: Agent,
        llm: BaseChatModel | str | None,
        settings: Settings,
        fallback: BaseChatModel | str | None = None,
    ) -> None:
        self.agent = agent
        self.settings = settings
        self.own_model = checked(agent.llm if agent.llm is not None else llm)
        """A string is made a model when a call needs it."""
        self.fallback = checked(agent.fallback if agent.fallback is not None else fallback)
        self.bindings = Bindings(agent.name, agent.provider_tools)
        self.tools = ToolTable(agent)
        """Its tools as they are now."""
        self.secret_schemas = secret_schemas(agent.all_tools)
        """The schemas of the tools that take a secret."""
        self.editable = False
        """Whether a run's context may change the instructions and the model (`studio_context`)."""
        self.override: BaseChatModel | None = None
        """The model that a run's context names; it takes precedence over all others."""

    @property
    def tasks(self) -> Mapping[str, Task[Any]]:
        """The tasks that the agent may run, by name."""
        return {
            **self.agent.own_tasks,
            **{name: self.settings.external_tasks[name] for name in self.agent.external_tasks},
        }

    async def load(self, config: RunnableConfig) -> None:
        """Make the models that strings name, in a thread: the first time, a provider's package is imported. What can't
        be made is reported when it is asked."""
        if not all(map(is_loaded, models_named(self.own_model, self.fallback, self._override(config)))):
            with contextlib.suppress(GraphVoiceError):
                await asyncio.to_thread(self.models, config)

    def models(self, config: RunnableConfig) -> list[BaseChatModel]:
        """The model of this run, then its fallback. Raises `ModelError` when there is none."""
        who = f'agent "{self.agent.name}"'
        return run_models(who, self.own_model, self.fallback, self._override(config))

    def _override(self, config: RunnableConfig) -> Any:
        return self.override or config.get("configurable", {}).get("llm")

    def model(self, config: RunnableConfig) -> BaseChatModel:
        """The model of this run. Raises `ModelError` when there is none."""
        return self.models(config)[0]

    async def ask(
        self,
        prompt: Sequence[AnyMessage],
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        tools: Sequence[Any],
        may_call: bool,
        must_call: str | None = None,
        withheld: frozenset[str] = frozenset(),
        message_id: str | None = None,
        known: Callable[[], Known] = lambda: NOTHING,
        reports: bool = True,
    ) -> Generated:
        """The answer of the agent's model or its fallback; see `retry.ask`. `reports`: whether it may tell the caller
        of a late result that it is shown."""
        made = await ask(
            self.models(config),
            prompt,
            config,
            agent=self.agent.name,
            turn=turn,
            bindings=self.bindings,
            tools=tools,
            may_call=may_call,
            must_call=must_call,
            withheld=withheld,
            message_id=message_id,
            retry=self.settings.retry,
            first_token_timeout=self.settings.first_token_timeout,
            known=known,
        )
        if reports and turn is not None and made.message.id is not None:
            turn.call.late.shown(prompt, turn.run, made.message.id)
        return made

    def known(self, state: Mapping[str, Any], turn: NodesSide | None) -> Callable[[], Known]:
        """What is known to be secret to this agent: the userdata's own secrets, and, if it takes any, what was said.
        It is looked for when it is first needed."""

        # The words that it is asked for may live longer than the state: only what is needed of it is kept.
        userdata = state.get("userdata")
        if not self.secret_schemas:
            return functools.cache(lambda: known_of((), userdata))
        messages = state.get("messages") or ()

        @functools.cache
        def find() -> Known:
            user = turn.record.user if turn is not None else None  # the caller's final words, by then
            return known_of([*messages, *([user] if user is not None else [])], userdata, open_words=turn is None)

        return find

    def arguments(self, state: Mapping[str, Any]) -> BaseModel | None:
        """What came with the handoff to this agent."""
        agents = {name: runtime.agent for name, runtime in self.settings.runtimes.items()}
        return arguments_of(state, self.agent.name, agents, self.settings.secrets)

    def instructions(self, state: Mapping[str, Any], userdata: Any, turn: NodesSide | None) -> str:
        """The agent's instructions as they are now, and behind them what came with the handoff to it."""
        return told_arguments(self.agent.render(userdata, modality_of(turn)), state, self.agent.name)

    def context(
        self,
        state: Mapping[str, Any],
        config: RunnableConfig,
        runtime: Runtime[Any],
        turn: NodesSide | None,
        *,
        userdata: Any,
        tool_call_id: str | None = None,
        step_id: str | None = None,
        host: Any = None,
        shown: Sequence[AnyMessage] | None = None,
        draft: Any = None,
        tasks: bool = False,
    ) -> RunContext[Any]:
        """The context of a tool call or a hook.

        Args:
            state: the graph's state.
            config: the node's config.
            runtime: LangGraph's.
            turn: the turn; None outside of one.
            userdata: what it gets as userdata.
            tool_call_id: of the tool call.
            step_id: of the message that made the tool call.
            host: the front end's own context.
            shown: what the agent's model was shown of this state, if that is known already.
            draft: of the task that the agent is.
            tasks: whether it may run tasks.
        """
        frame = frame_of(state, self.agent.name)
        ctx: RunContext[Any] = RunContext(
            agent=self.agent.name,
            userdata=userdata,
            state=dict(state),
            chat_ctx=view(state) if shown is None else list(shown),
            runtime=runtime,
            tool_call_id=tool_call_id,
            host=host,
            ways=self.agent.ways,
            declared=self.agent.declared,
            arguments=self.arguments(state),
            hold=turn.hold if turn is not None else None,
            draft=draft,
            inputs=untyped(opened(frame["inputs"], self.settings.secrets)) if frame is not None else {},
            earlier_steps=frame.get("earlier", ()) if frame is not None else (),
            task=self.agent if isinstance(self.agent, Task) else None,
            cut=(lambda: turn.interrupted) if turn is not None else None,
            modality=modality_of(turn),
        )
        if tasks:
            ctx.replay = replay_of(state, self.agent.name, self.tasks, tool_call_id, self.settings.secrets)

        async def speak(message_id: str, line: Utterance) -> str:
            text = await self.speak(
                line, state, config, turn, userdata=userdata, message_id=message_id, step_id=step_id
            )
            ctx.spoken.append(AIMessage(text, id=message_id, name=self.agent.name))
            if turn is not None:
                await turn.wait_heard(message_id)
            return text

        ctx.speak = speak
        return ctx

    async def speak(
        self,
        line: Utterance,
        state: Mapping[str, Any],
        config: RunnableConfig,
        turn: NodesSide | None,
        *,
        userdata: Any,
        message_id: str,
        step_id: str | None,
    ) -> str:
        """Say a line outside a model step. Returns its text without waiting for playout."""
        if isinstance(line, Reply):
            if turn is not None:
                turn.begin_line(self.agent.name, message_id, step_id)
            system = self.instructions(state, userdata, turn)
            prompt = build_prompt(system, view(state), reply_instructions=line.instructions)
            try:
                made = await self.ask(
                    prompt, config, turn, tools=self.tools.now(), may_call=False, message_id=message_id
                )
            finally:
                if turn is not None:
                    turn.line_done(message_id)
            return made.message.text
        text = line(userdata) if callable(line) else line
        if turn is not None:
            turn.line(self.agent.name, message_id, text, step_id=step_id)
        return text

    async def run_hook(self, hook: Any, ctx: RunContext[Any]) -> None:
        """Run `on_enter` or `on_exit`, sync or async. A handoff that it returns is one that it asks for."""
        token = running.set(ctx)
        outside = current_turn.set(None)  # as for a tool: what the hook starts is not part of this turn
        try:
            with insisting(ctx.replay, f'a hook of agent "{self.agent.name}"'):
                result = hook(ctx)
                if inspect.isawaitable(result):
                    result = await result
            if isinstance(result, Handoff):
                ctx.request_handoff(result)
        except Exception as error:
            if (why := awaited_task(error)) is not None:
                raise TurnError(f'agent "{self.agent.name}": {why}') from error
            raise
        finally:
            current_turn.reset(outside)
            running.reset(token)
            ctx.over = True


def modality_of(turn: NodesSide | None) -> Modality:
    """How the caller's words of this turn came."""
    return turn.run.modality if turn is not None else "text"


def since_last_user(messages: list[AnyMessage]) -> list[AnyMessage]:
    """The messages of this turn: those after the last user message."""
    for index in range(len(messages) - 1, -1, -1):
        if isinstance(messages[index], HumanMessage):
            return messages[index + 1 :]
    return messages


def hops(messages: list[AnyMessage]) -> int:
    """The number of handoffs since the caller last spoke."""
    return sum(isinstance(m, ToolMessage) and GOTO in m.additional_kwargs for m in since_last_user(messages))
