"""A whole call in a test: what the caller says, when they cut in, what the front end guesses, when the process dies."""

import asyncio
import functools
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Generic, Self

from langchain_core.messages import AIMessage, AnyMessage, convert_to_openai_messages
from langgraph.checkpoint.base import BaseCheckpointSaver
from typing_extensions import TypeVar

from graph_voice import events
from graph_voice.call.conversation import Conversation
from graph_voice.call.durable import ResumeHook
from graph_voice.errors import TurnError
from graph_voice.models import model_from
from graph_voice.testing.front_end import CallPlan, FrontEnd, Moment, Plan, PlanError, require_known, watched
from graph_voice.testing.happened import CallerSaid, Effects, Happening, require_answers, transcript
from graph_voice.testing.invariants import invariants
from graph_voice.testing.planned import Crash, Planned, Plans, Speculation
from graph_voice.testing.processes import Processes
from graph_voice.testing.replays import Replays
from graph_voice.testing.result import Result, log_to_langsmith
from graph_voice.turn.tool_run import ToolRun
from graph_voice.turn.turn import Turn
from graph_voice.userdata.channel import public_fields

__all__ = ["Call"]

U = TypeVar("U", default=Any)
_INSTANT = 0.01
"""Seconds."""


class Call(Generic[U]):
    """A scripted call on a voice graph. Time is that of the event loop: on the virtual clock it passes at once.

    ```python
    @pytest.mark.virtual_clock
    async def test_a_booking() -> None:
        async with Call(graph, llm=ScriptedModel([call("book", {"day": "Friday"}), "Booked."])) as phone:
            result = await phone.says("A table for Friday.")
            result.expect.next_event().is_function_call(name="book", arguments={"day": "Friday"})
            result.expect.contains_message()
    ```

    `async with` plays the first agent's `on_enter` (`greeting`). At the end it closes the call, and checks the six
    invariants (`graph_voice.testing.invariants`) and that every scripted model had a reply for each request.

    Args:
        graph: what `create_voice_graph(...)` returned, or any graph that a `Conversation` takes.
        llm: the model of every agent, in place of the graph's: a `ScriptedModel`, or any chat model.
        front_end: "core" (a modeled voice on `Conversation` and `Turn`), "livekit" (a real `AgentSession` with fake
            audio; extra `livekit`), a `FrontEnd` class, or a function that makes one from a `CallPlan`.
        mocks: agent -> tool -> a function that answers in the tool's place. It gets the tool call's arguments by name.
            A name that the graph does not have raises `TurnError` when the call begins.
        check: whether to make these checks at the end.
        saver: the durable checkpointer, for `crash`: any LangGraph checkpointer except a `LiveSaver`.
        on_resume: what the agent says when another process resumes the call, as for `GraphAgent`: instructions, or a
            function of `graph_voice.Resumed` that returns them, or None to wait for the caller.
        options: arguments of `Conversation` (`userdata`, `thread_id`, `context`, `store`, `config`, `messages`,
            `speak`, ...).
    """

    live_model: Any = None
    """Set by `pytest --graph-voice-live MODEL`: replaces each call's model."""
    opened: "deque[Call[Any]]" = deque(maxlen=20)  # noqa: RUF012 - shared: the pytest plugin shows those of a failed test
    """The last calls of the test that runs."""

    def __init__(
        self,
        graph: Any,
        *,
        llm: Any = None,
        front_end: str | Callable[[CallPlan], FrontEnd] = "core",
        mocks: Mapping[str, Mapping[str, Callable[..., Any]]] | None = None,
        check: bool = True,
        saver: BaseCheckpointSaver[Any] | None = None,
        on_resume: ResumeHook = None,
        **options: Any,
    ) -> None:
        self.graph = graph
        self.effects = Effects()
        """The tool runs that really happened."""
        self.said: list[str] = []
        """What the caller said in turns that count."""
        self.greeting = Result([])
        """What was said and done before the caller said anything."""
        self._check = check
        self._replays = Replays()
        self._mocks: dict[str, dict[str, Callable[..., Any]]] = {
            agent: {tool: watched(fake, functools.partial(self._began_to_run, tool)) for tool, fake in tools.items()}
            for agent, tools in (mocks or {}).items()
        }
        self._options = {"thread_id": f"call-{uuid.uuid4().hex[:12]}", **options}
        model = Call.live_model if Call.live_model is not None else llm
        if model is not None:
            config = dict(options.get("config") or {})
            config["configurable"] = {**config.get("configurable", {}), "llm": model_from(model)}
            self._options["config"] = config
        self._entries: list[Happening] = []
        self._processes = Processes(
            front_end,
            CallPlan(graph, self._options, self._mocks, self._caller_said, self._not_heard, on_resume),
            saver,
            self._watch,
        )
        self._plans = Plans()
        self._began: float | None = None
        self._crashed = False
        self._closed = False
        Call.opened.append(self)

    # ---- its life

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._front_end is None or self._crashed or self._closed:
            return
        self._closed = True
        await self._front_end.close("user_initiated")
        log_to_langsmith(self)
        if kind is None:
            self._require_no_plans()
            if self._check:
                require_answers(self._entries)
                self._replays.require_same()
                invariants(self)

    async def close(self) -> None:
        """End the call, and check the invariants, as the end of `async with` does."""
        await self.__aexit__(None, None, None)

    async def _open(self) -> FrontEnd:
        if self._crashed:
            raise TurnError("The process of this call has crashed: first resume it with `await call.resume()`.")
        if self._closed:
            raise TurnError("This call was closed: nothing can be said in it any more.")
        if self._front_end is not None:
            return self._front_end
        result = self._begin()
        made = await self._processes.begin()
        self.greeting = result()
        return made

    @property
    def _front_end(self) -> FrontEnd | None:
        return self._processes.front_end

    def _watch(self, conversation: Conversation[Any]) -> None:
        require_known(self._mocks, conversation)
        conversation.call.on_event = self._happened
        conversation.call.on_tool = self._tool_ran
        conversation.call.on_line = self._said_outside_a_turn

    # ---- what happens

    @property
    def now(self) -> float:
        """Seconds since the call began."""
        now = asyncio.get_running_loop().time()
        if self._began is None:
            self._began = now
        return now - self._began

    def _happened(self, turn: Turn, event: events.Event) -> None:
        self._entries.append(Happening(self.now, event, turn))
        if isinstance(event, events.HandedOff):
            self._plans.handed_off()
        elif isinstance(event, events.Say) and self._is_transferring(turn):
            self._plans.transfer_line()

    def _said_outside_a_turn(self, line: AIMessage) -> None:
        """The program has spoken, or an open question was asked again."""
        self._entries.append(Happening(self.now, events.Say(line.name or "", line.id or "", line.text)))

    def _is_transferring(self, turn: Turn) -> bool:
        """Whether a declared transfer of this turn is in progress: its line is spoken before it is answered."""
        last = next((step for step in reversed(list(turn.record.steps())) if step.calls), None)
        return last is not None and any(
            call.result is None and call.name.startswith("transfer_to_") for call in last.calls.values()
        )

    def _tool_ran(self, run: ToolRun) -> None:
        self.effects.note(run)
        self._replays.note(run)
        if run.outcome == "running":
            self._began_to_run(run.tool)

    def _began_to_run(self, tool: str) -> None:
        # Not at the very first instant: that is when the tool may disallow interruptions.
        asyncio.get_running_loop().call_later(_INSTANT, self._plans.tool_runs, tool)

    def _caller_said(self, text: str, how: str) -> None:
        self._entries.append(Happening(self.now, CallerSaid(text, how)))
        if how != "guess":
            self.said.append(text)

    def _not_heard(self, text: str) -> None:
        """The front end, as it is declared, has heard nothing of these words."""
        if text in self.said:
            self.said.reverse()
            self.said.remove(text)
            self.said.reverse()
            self._entries.append(Happening(self.now, CallerSaid(text, "was not heard with")))

    def _begin(self) -> Callable[[], Result]:
        start, entries = self.now, len(self._entries)
        return lambda: Result(self._entries[entries:], self.now - start)

    # ---- what the caller does

    async def says(self, text: str) -> Result:
        """The caller says this, and plans are carried out at their moments. Returns when everything is over.

        Raises `PlanError` when a moment never came.
        """
        return await self._play(lambda front_end, plans: front_end.says(text, plans))

    async def types(self, text: str) -> Result:
        """The caller types this instead of saying it: `ctx.modality` is "text". Returns when everything is over."""
        return await self._play(lambda front_end, plans: front_end.types(text))

    def barge_in(self, text: str | None = "Wait.", *, after_words: int) -> None:
        """Plan that the caller cuts in during the next reply.

        Args:
            text: what they say. None: a noise, after which the agent goes on.
            after_words: how many words of the agents are heard before, at least 1.
        """
        if after_words < 1:
            raise ValueError(
                f"barge_in(after_words={after_words}): there is nothing to cut into before the first word; write 1."
            )
        self._plans.add(Plan(Moment(f"after {after_words} words", after_words), text))

    def during_tool(self, name: str) -> Planned:
        """Plan something for the moment when this tool's code, or its mock, begins to run: `.says("Wait.")`,
        `.crash()`."""
        return self._plans.during_tool(name)

    def during_handoff(self) -> Planned:
        """Plan something for the middle of a handoff: during the transfer line, if there is one."""
        return self._plans.during_handoff()

    def speculates(self, guess: str) -> Speculation:
        """The front end takes these words for the whole turn (LiveKit's preemptive generation). The real words follow:
        `await call.speculates("Charge nine").then_says("Charge ninety")`."""
        return Speculation(lambda text: self._play(lambda front_end, plans: front_end.speculates(guess, text, plans)))

    async def silence(self, seconds: float) -> Result:
        """The caller is silent for this long. Returns what the agents said unasked, and what tools did."""
        front_end = await self._open()
        result = self._begin()
        await front_end.silence(seconds)
        return result()

    async def program_says(self, text: str) -> Result:
        """The program speaks in the agent's voice (LiveKit's `session.say`)."""
        front_end = await self._open()
        result = self._begin()
        await front_end.program_says(text)
        return result()

    async def update_agent(self, name: str) -> Result:
        """The program makes an agent the active one (LiveKit's `session.update_agent`)."""
        front_end = await self._open()
        result = self._begin()
        await front_end.update_agent(name)
        return result()

    async def generate_reply(self, instructions: str) -> Result:
        """The program asks for a reply (LiveKit's `session.generate_reply`)."""
        front_end = await self._open()
        result = self._begin()
        await front_end.generate_reply(instructions)
        return result()

    # ---- the process dies

    def crash(self) -> Crash[Self]:
        """The process ends at this instant: only its durable copy is left. `await call.crash()`, and later
        `await call.resume()`; or both at once, `await call.crash().resume()`.

        Raises `TurnError` without a `saver`.
        """
        return Crash(self, self._crash())

    async def _crash(self) -> None:
        await self._open()
        await self._processes.crash()
        self._crashed = True

    async def resume(self) -> Result:
        """Another process resumes the call, as `GraphAgent` does: the agent says that the line was cut (`on_resume`),
        and a question that is still open is asked again. Returns what it said and did."""
        if not self._crashed:
            raise TurnError("resume(): the call is still running; crash() it first.")
        self._crashed = False
        result = self._begin()
        await self._processes.begin()
        return result()

    # ---- plans

    async def _play(self, act: Callable[[FrontEnd, list[Plan]], Coroutine[Any, Any, None]]) -> Result:
        """Play this together with the plans. Crashes are done here, all other plans by the front end."""
        front_end = await self._open()
        result = self._begin()
        plans = self._plans.all()
        crashing = [asyncio.create_task(plan.moment.came.wait()) for plan in plans if plan.crashes]
        if crashing:
            self._processes.require_saver()
        task = asyncio.ensure_future(act(front_end, [plan for plan in plans if not plan.crashes]))
        try:
            await asyncio.wait([task, *crashing], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
                await self._crash()
            else:
                task.result()
        finally:
            for waiter in crashing:
                waiter.cancel()
        self._require_no_plans()
        return result()

    def _require_no_plans(self) -> None:
        if missed := self._plans.take_missed():
            raise PlanError(f"planned, but its moment never came: {'; '.join(missed)}.\nThe call:\n{self.transcript}")

    # ---- what there is now

    @property
    def conversation(self) -> Conversation[U]:
        """The call, in the process that runs it."""
        if self._front_end is None:
            raise TurnError('The call has not begun: write "async with Call(...) as call:", or let the caller speak.')
        return self._front_end.conversation

    @property
    def state(self) -> dict[str, Any]:
        """The graph's state."""
        return self.conversation.state

    @property
    def messages(self) -> list[AnyMessage]:
        """Everything that was said (as it was heard) and done."""
        return self.conversation.messages

    @property
    def history(self) -> list[AnyMessage]:
        """What the active agent's model is shown of it."""
        return self.conversation.chat_ctx

    @property
    def userdata(self) -> U:
        return self.conversation.userdata

    @property
    def public_userdata(self) -> dict[str, Any]:
        """The fields of the userdata that are set, as plain JSON data, without secrets."""
        return public_fields(self.state.get("userdata"))

    @property
    def active_agent(self) -> str:
        return self.conversation.active_agent

    @property
    def current_agent(self) -> str:
        """The front end's current agent."""
        return self._front_end.current_agent if self._front_end is not None else ""

    @property
    def heard(self) -> list[str]:
        """What the caller heard of the agents, according to the front end."""
        return self._processes.heard

    @property
    def heard_since_crash(self) -> list[str]:
        """As `heard`, in the process that runs the call now."""
        return self._processes.heard_since_crash

    @property
    def crashes(self) -> int:
        """How many of its processes have crashed."""
        return self._processes.crashes

    @property
    def over(self) -> bool:
        """Whether the call has ended."""
        return self._front_end is not None and self._front_end.over

    @property
    def transcript(self) -> str:
        """Who said what, what was heard, where it was cut off, what was done."""
        return transcript(self._entries)

    @property
    def happenings(self) -> list[Happening]:
        """Everything that happened, in order, with its time and its turn."""
        return list(self._entries)

    @property
    def result(self) -> Result:
        """The whole call, as one result."""
        return Result(self._entries, self.now)

    def score(self, key: str, score: float | bool | None = None, **more: Any) -> bool:
        """Give feedback on the call in LangSmith, when it is traced: `Conversation.score`."""
        return self.conversation.score(key, score, **more)

    def trajectory(self) -> list[dict[str, Any]]:
        """The conversation in the format of agentevals: OpenAI's messages, with tool calls and results."""
        found = convert_to_openai_messages(self.messages)
        return found if isinstance(found, list) else [found]

    def __repr__(self) -> str:
        return f"<Call\n{self.transcript}\n>"
