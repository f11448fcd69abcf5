"""The test kit's front end "livekit": a scripted call on a real `AgentSession`, with fake audio."""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from livekit.agents import ToolError as LiveKitToolError
from livekit.agents import mock_tools
from livekit.agents.voice.room_io import TextInputEvent, TextInputOptions

from graph_voice import Conversation, ToolError, Voice
from graph_voice.graph.roles import Roles
from graph_voice.testing.front_end import CallPlan, FrontEnd, Plan, counting
from graph_voice_livekit.agent import GraphAgent
from graph_voice_livekit.testing.rig import VoiceRig, voice_rig
from graph_voice_livekit.testing.voice import FakeTTS

__all__ = ["LiveKitFrontEnd"]

_STEP = 0.05
"""Seconds between two checks of what was heard: a fifth of a word."""
_SHORTEST = 0.6
"""The least number of seconds for which the caller speaks."""


class LiveKitFrontEnd(FrontEnd):
    """Plays a call in a real `AgentSession`: turn taking, interruptions, preemptive generation, handoffs and history
    are LiveKit's own. Each agent speaks in a `FakeTTS` of its name, four words a second, whatever its `Voice` says.

    A barge-in counts after 0.1 seconds (LiveKit's default is 0.5), so that it cuts where the test says. The voices say
    all that a model writes, also what LiveKit leaves out of speech by default (`tts_text_transforms`), so that what is
    heard can be compared with what is remembered. What the caller says while the agent can't be interrupted counts only
    if LiveKit answers it: by default it hears nothing then (`discard_audio_if_uninterruptible`).
    """

    def __init__(self, plan: CallPlan) -> None:
        super().__init__(plan)
        self._stack = contextlib.AsyncExitStack()
        self._agent: GraphAgent | None = None
        self._rig: VoiceRig | None = None
        self._protected: list[str] = []
        """What the caller has said while the agent could not be interrupted."""

    @property
    def agent(self) -> GraphAgent:
        """The graph's LiveKit agent."""
        assert self._agent is not None
        return self._agent

    @property
    def rig(self) -> VoiceRig:
        """The session, the caller and the loudspeaker."""
        assert self._rig is not None
        return self._rig

    @property
    def conversation(self) -> Conversation[Any]:
        return self.agent.conversation

    @property
    def current_agent(self) -> str:
        with contextlib.suppress(RuntimeError):  # the session is closed
            return str(self.rig.session.current_agent.id)
        return self.conversation.active_agent

    @property
    def heard(self) -> list[str]:
        return [spoken.text for spoken in self.rig.spoken if spoken.text.strip()]

    async def open(self, watch: Callable[[Conversation[Any]], None]) -> None:
        options = dict(self.plan.options)
        graph = self.plan.graph.compile() if isinstance(self.plan.graph, StateGraph) else self.plan.graph
        agents: frozenset[str] = frozenset()
        if isinstance(graph, Pregel):
            agents = Roles(graph, options.get("speak", ()), options.get("silent", ())).agents
        voices = {name: Voice(tts=_voice(name)) for name in agents}
        self._agent = agent = GraphAgent(graph, voices=voices, on_resume=self.plan.on_resume, **options)
        watch(agent.conversation)
        for name, tools in self.plan.mocks.items():
            mocks = {tool: _with_livekits_errors(fake) for tool, fake in tools.items()}
            self._stack.enter_context(mock_tools(agent.agent_type(name), mocks))
        self._rig = await self._stack.enter_async_context(
            voice_rig(
                agent,
                turn_handling={"interruption": {"min_duration": 0.1}, "preemptive_generation": {"enabled": False}},
                tts_text_transforms=None,
            )
        )
        await self.rig.until_idle()

    async def says(self, text: str, plans: list[Plan]) -> None:
        self.plan.said(text, "says")
        await self._play(plans, self._speak(text))

    async def types(self, text: str) -> None:
        self.plan.said(text, "types")
        waiting = TextInputOptions().text_input_cb(self.rig.session, TextInputEvent(text))
        if waiting is not None:
            await waiting
        await self._rest()

    async def speculates(self, guess: str, text: str, plans: list[Plan]) -> None:
        self.plan.said(guess, "guess")
        self.plan.said(text, "says")
        # Only here: each guess asks the model, and would use up the answers of a script that is read in order.
        preemptive = self.rig.session.options.preemptive_generation
        preemptive["enabled"] = True
        try:
            await self._play(plans, self._speak(text, preflight=guess))
        finally:
            preemptive["enabled"] = False

    async def silence(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._rest()

    async def program_says(self, text: str) -> None:
        self.rig.session.say(text)
        await self._rest()

    async def update_agent(self, name: str) -> None:
        self.rig.session.update_agent(self.agent.agent(name))
        await self._rest()

    async def generate_reply(self, instructions: str) -> None:
        self.rig.session.generate_reply(instructions=instructions)
        await self._rest()

    async def crash(self) -> None:
        await self.conversation.call.abandon()
        await self._stack.aclose()
        await self.agent.aclose()

    async def close(self, reason: str) -> None:
        await self._stack.aclose()
        await self.agent.aclose()

    # ---- the caller

    async def _speak(self, text: str, preflight: str | None = None) -> None:
        seconds = max(_SHORTEST, 0.3 * len(text.split()))
        speech = self.rig.session.current_speech
        if speech is not None and not speech.allow_interruptions:
            self._protected.append(text)
        await self.rig.user_says(text, seconds=seconds, preflight=preflight)

    async def _play(self, plans: list[Plan], caller: Any) -> None:
        watching = asyncio.create_task(self._count(plans), name="graph_voice.testing.words")
        acting = [asyncio.create_task(self._carry_out(plan), name="graph_voice.testing.plan") for plan in plans]
        try:
            await caller
            await self._rest()
            while any(plan.moment.came.is_set() and not plan.done for plan in plans):
                await asyncio.wait([t for t in acting if not t.done()], return_when=asyncio.FIRST_COMPLETED)
                await self._rest()
        finally:
            for task in (watching, *acting):
                task.cancel()
            await asyncio.wait([watching, *acting])

    async def _count(self, plans: list[Plan]) -> None:
        """Tell each moment that waits for a number of words how many were heard."""
        known = self._words_heard()
        while True:
            await asyncio.sleep(_STEP)
            now = self._words_heard()
            if (moment := counting(plans)) is not None:
                moment.heard(now - known)
            known = now

    def _words_heard(self) -> int:
        over = sum(len(spoken.text.split()) for spoken in self.rig.spoken)
        return over + len(self.rig.loudspeaker.heard.split())

    async def _carry_out(self, plan: Plan) -> None:
        await plan.moment.came.wait()
        if plan.says is None:
            await self.rig.caller.make_noise(_SHORTEST)
        else:
            self.plan.said(plan.says, "cuts in")
            await self._speak(plan.says)
        plan.done = True

    def _answers(self) -> bool:
        """Whether a turn has still to be spoken. Behind a task LiveKit says that it listens while a tool runs."""
        return self.agent.bridge.busy is not None

    async def _rest(self) -> None:
        if not self.conversation.closed:
            await self.rig.until_idle(timeout=600, busy=self._answers)
        heard = [m.text for m in self.conversation.messages if m.type == "human"]
        for text in self._protected:
            if not any(text in said for said in heard):
                self.plan.lost(text)
        self._protected.clear()


def _with_livekits_errors(fake: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fake)
    async def mock(*args: Any, **kwargs: Any) -> Any:
        try:
            made = fake(*args, **kwargs)
            return await made if inspect.isawaitable(made) else made
        except ToolError as error:
            raise LiveKitToolError(str(error)) from error

    return mock


def _voice(name: str) -> Callable[[], FakeTTS]:
    return lambda: FakeTTS(name)
