"""What a program calls on LiveKit's agent while the call goes on: honored, or refused with the graph's way."""

import logging
from collections.abc import Sequence
from typing import Any

from livekit.agents import NOT_GIVEN, Agent, llm, utils

from graph_voice import Agent as GraphDefinition
from graph_voice.errors import BuildError, TurnError
from graph_voice.graph.build import definition_of, runtime_of
from graph_voice_livekit.convert.converters import from_chat_context
from graph_voice_livekit.session.bridge import Bridge
from graph_voice_livekit.session.host_tools import require_livekits

__all__ = ["ProgramCalls"]

logger = logging.getLogger("graph_voice.livekit")
_OWN_GRAPH = (
    "a graph of its own, with its own prompt and tools. Give them there: create_agent(model, tools=[...], "
    'system_prompt="...").'
)


class ProgramCalls(Agent):
    """LiveKit's `update_...` of an agent of a graph, and the tools that LiveKit's session has for it."""

    _bridge: Bridge
    _definition: GraphDefinition | None
    """What the graph says of the agent; None for one that is a graph of its own."""
    _was_active = False

    def check_session_tools(self) -> None:
        """Raise `BuildError` for tools of the session that no model would know."""
        require_livekits("AgentSession(tools=[...])", self.session.tools)
        names = ", ".join(llm.ToolContext(self.session.tools).function_tools)
        if not names:
            return
        graph, agents = self._bridge.conversation.graph, self._bridge.conversation.call.roles.agents
        if without := sorted(name for name in agents or {self.id} if definition_of(graph, name) is None):
            told = f"AgentSession(tools=[...]): {names} can't be given to {', '.join(without)}, {_OWN_GRAPH}"
            if not any(definition_of(graph, name) for name in agents):
                raise BuildError(told)
            if not self._bridge.bound:
                logger.warning(told)

    def offered(self) -> frozenset[str]:
        """The names of the tools that its model may call."""
        own = self._definition.all_tools if self._definition is not None else ()
        return frozenset(tool.name for tool in self._bridge.host_tools.offered(self.id, own))

    def missing_mirrors(self, names: Sequence[str], tools: Sequence[llm.Tool]) -> list[llm.Tool]:
        """The mirrors of called tools that LiveKit does not have: those of the agent's toolsets."""
        runtime = runtime_of(self._bridge.conversation.graph, self.id)
        if runtime is None or not runtime.agent.toolsets:
            return []
        return self._bridge.mirrors.missing(names, tools, runtime.tools.seen)

    async def update_instructions(self, instructions: str) -> None:
        """Refused: an agent's instructions are the graph's. Raises `TurnError`."""
        if self._definition is None:
            raise TurnError(f'agent "{self.id}": update_instructions() would change nothing: it is {_OWN_GRAPH}')
        raise TurnError(
            f'agent "{self.id}": update_instructions() would change nothing: its prompt is made by the graph. Make its '
            "instructions a function of the userdata, instructions=lambda userdata: ..., and change the userdata. For "
            "one reply: session.generate_reply(instructions=...)."
        )

    async def update_tools(self, tools: list[llm.Tool | llm.Toolset]) -> None:
        """LiveKit's: what the agent's model may call from now on. LiveKit runs the tools that are not the graph's.

        Raises `BuildError` for tools that LiveKit can't run, and for an agent that is a graph of its own.
        """
        if self._definition is None:
            raise BuildError(f'agent "{self.id}": update_tools() would change nothing: it is {_OWN_GRAPH}')
        require_livekits(f'agent "{self.id}": update_tools()', tools)
        await super().update_tools(tools)
        self._bridge.host_tools.update(self.id, self.tools)

    async def update_chat_ctx(self, chat_ctx: llm.ChatContext, *, exclude_invalid_function_calls: bool = True) -> None:
        """LiveKit's: what the agent's model is shown, the graph's `chat_ctx`. `messages` keeps what was said.

        Raises `TurnError` for an agent that is not active yet, and for a graph whose state has no `chat_ctx`.
        """
        if "chat_ctx" not in self._bridge.conversation.graph.channels:
            raise TurnError(
                f'agent "{self.id}": update_chat_ctx() would change nothing: the graph shows its models what its own '
                "`messages` hold. Let its state extend VoiceState, or remove messages in a node (RemoveMessage)."
            )
        state = self._bridge.conversation.call.state
        active = state.active_agent == self.id and not self._bridge.is_external
        if not active and not self._was_active:
            raise TurnError(
                f'agent "{self.id}" is not active yet, so what it is shown is decided when it is: '
                f'ga.agent("{self.id}", history=...). An earlier conversation: GraphAgent(graph, messages=[...]).'
            )
        await super().update_chat_ctx(chat_ctx, exclude_invalid_function_calls=exclude_invalid_function_calls)
        if active:
            kept = [item for item in self.chat_ctx.items if not item.id.startswith("lk.")]
            state.show(from_chat_context(llm.ChatContext(kept)))

    def update_options(self, **options: Any) -> None:
        """LiveKit's, for its voice. Raises `TurnError` for `llm`: the models are the graph's."""
        if utils.is_given(options.get("llm", NOT_GIVEN)):
            raise TurnError(
                f'agent "{self.id}": update_options(llm=...) would change nothing: the graph names the models. '
                'Name them there, create_voice_graph(..., llm="openai:gpt-4.1"), or for one call: '
                'GraphAgent(graph, config={"configurable": {"llm": model}}).'
            )
        super().update_options(**options)
