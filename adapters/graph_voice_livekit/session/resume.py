"""Resuming a call that another process has begun: LiveKit's history is filled, and the caller is told."""

import asyncio

from langchain_core.messages import ToolMessage
from livekit.agents import Agent
from livekit.agents.voice.events import AgentStateChangedEvent

from graph_voice import Turn
from graph_voice.call.durable import ResumeHook, resume_instructions
from graph_voice_livekit.convert.converters import to_chat_context
from graph_voice_livekit.session.call import Call
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.open_question import OpenQuestion
from graph_voice_livekit.session.tool_call import LiveToolCall

__all__ = ["Resume"]

PATIENCE = 3.0
"""Seconds that the caller may have to wait until it is known whether the store has the call."""


class Resume:
    """Resumes a call if its store has it.

    Args:
        call: the call.
        hook: what is said.
        open_question: asks again what the caller has not answered.
    """

    def __init__(self, call: Call, hook: ResumeHook, open_question: OpenQuestion) -> None:
        self._call = call
        self._conversation = call.conversation
        self._hook = hook
        self._open_question = open_question
        self._read = False
        self.found = False
        """Whether the call was found in the store and the caller has not been told yet."""
        self.instructions: str | None = None
        """Those of the reply that tells the caller."""
        self.moving = False
        """Whether LiveKit is handing off to the agent that was active when the call was cut off."""

    async def ready(self) -> None:
        """Wait until it is known whether the call is a new one."""
        await self._conversation.open(patience=PATIENCE)
        if not self._read:
            self._read = True
            self._fill_history()
            self._call.userdata.give()

    def _fill_history(self) -> None:
        messages = self._conversation.messages
        if self._conversation.resumed is None or not messages:
            return  # nothing was said yet, so the agent greets as in a new call
        history = self._call.session.history
        items = [
            i for i in to_chat_context(messages, self._conversation.handoffs).items if history.get_by_id(i.id) is None
        ]
        history.insert(items)
        running = {m.tool_call_id for m in messages if isinstance(m, ToolMessage) and _waits(m)}
        for item in items:
            if item.type == "function_call_output" and item.call_id in running:
                self._call.tables.tool_calls[item.call_id] = LiveToolCall(item.call_id, None, item=item)
        self.found = True

    # ---- the agent that was active

    def moves_to(self, name: str) -> str | None:
        """The agent that was active when the call was cut off; None if it is `name`, with which the session begins."""
        active = self._conversation.active_agent
        if not self.found or active == name or active not in self._call.agents | self._conversation.call.roles.external:
            return None
        self.moving = True
        return active

    async def move(self, agent: Agent) -> None:
        """Make it the active agent before anything is spoken."""
        if self._call.external_agents.name_of(agent) is not None:
            self.found = False
            await self._call.external_agents.show(agent, self._conversation.chat_ctx)
        await self._started()
        self._call.session.update_agent(agent)

    async def _started(self) -> None:
        """Wait until LiveKit's session has started; before that it ignores `update_agent`."""
        session, started = self._call.session, asyncio.Event()

        def changed(event: AgentStateChangedEvent) -> None:
            if event.new_state == "listening":
                started.set()

        session.on("agent_state_changed", changed)
        try:
            if session.agent_state == "initializing":
                await started.wait()
        finally:
            session.off("agent_state_changed", changed)

    # ---- what the agent says

    def begin(self) -> Turn | None:
        """Start the turn in which the agent tells the caller. None: it waits for the caller."""
        self.found = self.moving = False
        resumed, hook = self._conversation.resumed, self._hook
        assert resumed is not None
        self.instructions = resume_instructions(hook, resumed, asks=bool(self._conversation.interrupts))
        return None if self.instructions is None else self._conversation.resume(self.instructions)

    async def ask_behind(self, driver: Driver) -> None:
        """After this turn, ask the open question (LangGraph's `interrupt()`) again."""
        if not self._conversation.interrupts:
            return
        await driver.over.wait()
        if not driver.turn.interrupted:
            self._open_question.ask()


def _waits(message: ToolMessage) -> bool:
    return bool(message.additional_kwargs.get("placeholder"))
