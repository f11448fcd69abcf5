"""A call that another process had begun: LiveKit's history is filled with it, and the caller is told."""

import asyncio
from collections.abc import Callable

from langchain_core.messages import ToolMessage
from livekit.agents import Agent
from livekit.agents.voice.events import AgentStateChangedEvent

from graph_voice import Turn
from graph_voice.call.durable import Resumed
from graph_voice_livekit.convert.converters import to_chat_context
from graph_voice_livekit.session.call import Call
from graph_voice_livekit.session.open_question import OpenQuestion
from graph_voice_livekit.session.turns import TurnDriver

__all__ = ["Hook", "Resume"]

Hook = str | Callable[[Resumed], str | None] | None
"""What is said when a call is taken up again: instructions for the reply; a function that gives them, or None to wait
for the caller in silence; None for the usual ones."""

PATIENCE = 3.0
"""Seconds that the caller may wait until the store has said whether the call is a new one."""
ASKING = (
    "The line was cut for a moment and the call is connected again. Say so in one short sentence, and nothing else: "
    "the question that the caller has to answer is repeated right behind it."
)


class Resume:
    """Takes a call up again when its store knows it.

    Args:
        call: to be taken up.
        hook: what is said.
        open_question: a question of the graph that was not answered yet.
    """

    def __init__(self, call: Call, hook: Hook, open_question: OpenQuestion) -> None:
        self._call = call
        self._conversation = call.conversation
        self._hook = hook
        self._open_question = open_question
        self._read = False
        self.found = False
        """The call was found in the store, and nobody has spoken of it yet."""
        self.moving = False
        """The floor is on its way to the agent that had it."""

    async def ready(self) -> None:
        """Return when it is known whether the call is a new one."""
        await self._conversation.open(patience=PATIENCE)
        if not self._read:
            self._read = True
            self._fill_history()
            self._call.userdata.give()

    def _fill_history(self) -> None:
        messages = self._conversation.messages
        if self._conversation.resumed is None or not messages:
            return  # where nothing was said yet the agent greets as in a new call
        history = self._call.session.history
        items = [i for i in to_chat_context(messages).items if history.get_by_id(i.id) is None]
        history.insert(items)
        running = {m.tool_call_id for m in messages if isinstance(m, ToolMessage) and _waits(m)}
        for item in items:
            if item.type == "function_call_output" and item.call_id in running:
                self._call.tables.asking[item.call_id] = item
        self.found = True

    # ---- the agent that had the floor

    def moves_to(self, name: str) -> str | None:
        """The agent that had the floor, when it is another one than `name`, with which LiveKit's session begins."""
        active = self._conversation.active_agent
        if not self.found or active == name or active not in self._call.agents | self._conversation.roles.external:
            return None
        self.moving = True
        return active

    async def move(self, agent: Agent) -> None:
        """Give it the floor, before anything is spoken."""
        if self._call.external_agents.name_of(agent) is not None:
            self.found = False
            await self._call.external_agents.show(agent, self._conversation.chat_ctx)
        await self._started()
        self._call.session.update_agent(agent)

    async def _started(self) -> None:
        """LiveKit ignores `update_agent` for as long as its session starts."""
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

    # ---- what it says

    def begin(self) -> Turn | None:
        """Start the turn in which it speaks of it. None: it waits for the caller."""
        self.found = self.moving = False
        resumed, hook = self._conversation.resumed, self._hook
        assert resumed is not None
        instructions = hook(resumed) if callable(hook) else hook
        if callable(hook) and instructions is None and not resumed.again:
            return None
        # What ran when the process ended runs again in any case, and its result is told.
        return self._conversation.resume(instructions or (ASKING if self._conversation.interrupts else None))

    async def ask_behind(self, driver: TurnDriver) -> None:
        """A question that waits for the caller's answer (LangGraph's `interrupt()`) is asked again."""
        if not self._conversation.interrupts:
            return
        await driver.over.wait()
        if not driver.turn.interrupted:
            self._open_question.ask()


def _waits(message: ToolMessage) -> bool:
    return bool(message.additional_kwargs.get("placeholder"))
