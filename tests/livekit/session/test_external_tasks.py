"""LiveKit's own tasks, run by a graph's tools: they take the session, and their results come back as typed ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import livekit.agents as lk
import pytest
from graph_agent_support import no_accidents, told_by_graph, told_by_livekit
from langgraph.checkpoint.memory import InMemorySaver
from livekit import rtc
from livekit.agents import AgentSession, AgentTask, ToolError
from livekit.agents.beta.workflows import GetDtmfTask, GetEmailTask, WarmTransferTask, warm_transfer
from livekit.agents.beta.workflows.dtmf_inputs import GetDtmfResult
from livekit.agents.beta.workflows.email_address import GetEmailResult
from livekit.agents.beta.workflows.warm_transfer import WarmTransferResult
from livekit.agents.testing import fake_job_context
from livekit.rtc import EventEmitter
from native_support import LiveKitModel
from pydantic import BaseModel

from graph_voice import Agent, RunContext, TaskFailed, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock


class Digits(BaseModel):
    digits: str


@dataclass
class Found:
    digits: str


class Ask(AgentTask[Found]):
    """A task of LiveKit's: it asks, and a tool of its own ends it."""

    def __init__(self, count: int, **options: Any) -> None:
        super().__init__(instructions=f"Ask for {count} digits.", **options)

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask.")

    @lk.function_tool
    async def record(self, digits: str) -> None:
        """Record the digits."""
        if digits == "none":
            raise ToolError("write digits")
        self.complete(Found(digits) if digits != "refused" else ToolError("the caller refuses"))


@function_tool
async def pay(ctx: RunContext[Any]) -> str:
    """Pay."""
    try:
        found = await ctx.run_task("dtmf", n=4)
    except TaskFailed as failed:
        return f"Not paid: {failed.reason}"
    return f"Paid with {found.digits}."


@function_tool(needs={"digits": "dtmf"})
async def unlock(digits: Digits) -> str:
    """Unlock."""
    return f"Unlocked by {digits.digits}."


def desk(
    make: Any, result: Any = Digits, tools: Any = (pay, unlock), userdata: Any = None, **options: Any
) -> GraphAgent:
    def script(messages: Any) -> Any:
        if messages[-1].text in ("pay", "unlock", "email", "pin", "connect"):
            return call(messages[-1].text)
        told = [m.text for m in messages if m.type == "tool"]
        return "Good bye." if messages[-1].text == "thanks" else f"So: {told[-1]}"

    agent = Agent("desk", instructions="You help.", tools=list(tools), tasks=["dtmf"])
    graph = create_voice_graph([agent], llm=ScriptedModel(script), external_tasks={"dtmf": result}, userdata=userdata)
    return GraphAgent(graph, tasks={"dtmf": make}, **options)


def asking(*script: Any) -> tuple[LiveKitModel, Any]:
    model = LiveKitModel(list(script))
    return model, lambda run: Ask(run.inputs.get("n", 0), llm=model)


async def talk(ga: GraphAgent, *said: str, **options: Any) -> AgentSession[Any]:
    """A call in text."""
    with no_accidents():
        async with AgentSession[Any](vad=None, **options) as session:
            await session.start(ga)
            await asyncio.sleep(1)  # an on_enter method may speak first
            for words in said:
                await session.run(user_input=words)
        await ga.aclose()
    return session


def heard(session: AgentSession[Any]) -> list[tuple[str, str]]:
    return [(m.role, str(m.text_content)) for m in session.history.messages() if m.role != "system"]


@pytest.mark.parametrize(("tool", "told"), [("pay", "Paid with 1234."), ("unlock", "Unlocked by 1234.")])
async def test_livekits_task_takes_the_session_and_its_result_is_the_typed_one(tool: str, told: str) -> None:
    model, make = asking("Which digits?", call("record", {"digits": "1234"}))
    ga = desk(make)
    session = await talk(ga, tool, "one two three four", "thanks")
    assert heard(session) == [
        ("user", tool),
        ("assistant", "Which digits?"),
        ("user", "one two three four"),
        ("assistant", f"So: {told}"),
        ("user", "thanks"),
        ("assistant", "Good bye."),
    ]
    assert told_by_graph(ga) == heard(session)
    assert ga.conversation.active_agent == "desk"
    assert not ga.conversation.state["stack"]
    assert f"Ask for {4 if tool == 'pay' else 0} digits." in str(model.shown[0].to_dict())
    handoffs = [(i.old_agent_id, i.new_agent_id) for i in session.history.items if i.type == "agent_handoff"]
    assert handoffs[1:] == [("desk", "dtmf"), ("dtmf", "ask"), ("ask", "dtmf"), ("dtmf", "desk")]


async def test_a_task_of_livekits_that_fails_is_a_failed_task() -> None:
    _, make = asking("Which digits?", call("record", {"digits": "refused"}))
    ga = desk(make)
    session = await talk(ga, "pay", "I refuse")
    assert heard(session)[-1] == ("assistant", "So: Not paid: the caller refuses")


async def test_a_function_that_cannot_make_the_task_is_a_failed_task(caplog: pytest.LogCaptureFixture) -> None:
    def make(run: Any) -> Any:
        raise RuntimeError("no line")

    ga = desk(make)
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.run(user_input="pay")
    assert heard(session)[-1] == ("assistant", "So: Not paid: An internal error occurred.")
    assert "LiveKit's task dtmf failed" in caplog.text


async def test_the_task_is_told_the_inputs_the_facts_and_the_conversation() -> None:
    seen: list[Any] = []
    _, ask = asking("Which digits?", call("record", {"digits": "1"}))

    def make(run: Any) -> Any:
        seen.append(run)
        return ask(run)

    await talk(desk(make, userdata=Digits), "pay", "one", userdata=Digits(digits="known"))
    (run,) = seen
    assert (dict(run.inputs), run.userdata) == ({"n": 4}, Digits(digits="known"))
    assert [item.text_content for item in run.chat_ctx.items if item.type == "message"] == ["pay"]


async def test_a_ready_made_task_of_livekits_runs_with_the_sessions_model() -> None:
    model = LiveKitModel(["What is your address?", call("update_email_address", {"email": "ada@example.org"})])
    ga = desk(lambda run: GetEmailTask(require_confirmation=False), GetEmailResult, [email])
    session = await talk(ga, "email", "ada at example dot org", llm=model)
    assert heard(session)[-1] == ("assistant", "So: ada@example.org")


@function_tool
async def email(ctx: RunContext[Any]) -> str:
    """Email."""
    found: GetEmailResult = await ctx.run_task("dtmf")
    return found.email_address


async def test_the_session_may_close_while_livekits_task_runs() -> None:
    _, make = asking("Which digits?")
    ga = desk(make)
    await talk(ga, "pay")
    assert ga.conversation.closed
    assert [m.text for m in ga.conversation.messages if m.type == "tool"] == ["not done: the task was abandoned."]


def test_what_is_declared_on_one_side_only_is_refused() -> None:
    for tasks, told in (
        ({}, r'tasks=\{"dtmf": lambda run: MyAgentTask'),
        ({"dtmf": lambda run: None, "x": lambda run: None}, r'external_tasks=\{"x": Result\}'),
        ({"dtmf": Ask}, "write a function of the run"),
        ({"dtmf": lambda: None}, "write a function of the run"),
    ):
        agent = Agent("desk", instructions="x", tools=[pay], tasks=["dtmf"])
        with pytest.raises(BuildError, match=told):
            GraphAgent(create_voice_graph([agent], external_tasks={"dtmf": Digits}), tasks=tasks)  # type: ignore[arg-type]


async def test_by_voice_a_barge_in_on_the_tasks_question_is_livekits_own_and_the_call_goes_on() -> None:
    _, make = asking("Which digits do you want to pay with today?", "Again, please.", call("record", {"digits": "12"}))
    ga = desk(make)
    with no_accidents():
        async with voice_rig(ga) as rig:
            await rig.user_says("pay")
            await asyncio.sleep(1.5)  # in the middle of the question
            await rig.user_says("wait")
            await asyncio.sleep(6)
            await rig.user_says("one two")
            await asyncio.sleep(6)
            said = heard(rig.session)
            assert said[-1] == ("assistant", "So: Paid with 12.")
            assert told_by_graph(ga) == told_by_livekit(rig.session)
            assert "Which digits do you want to pay with today?" not in [text for _, text in said]
            assert ga.conversation.active_agent == "desk"


async def test_a_program_that_moves_the_call_away_abandons_the_task() -> None:
    _, make = asking("Which digits?")
    other = Agent("other", instructions="x", llm=ScriptedModel(lambda ms: "Other here."))
    waiting = Agent("desk", instructions="x", tools=[pay], tasks=["dtmf"], handoffs=["other"])
    graph = create_voice_graph([waiting, other], llm=ScriptedModel([call("pay")]), external_tasks={"dtmf": Digits})
    ga = GraphAgent(graph, tasks={"dtmf": make})
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        await session.run(user_input="pay")
        session.update_agent(ga.agent("other"))
        await asyncio.sleep(2)
        await session.run(user_input="hello")
        assert heard(session)[-1] == ("assistant", "Other here.")
        assert ga.conversation.active_agent == "other"
    await ga.aclose()
    assert [m.text for m in ga.conversation.messages if m.type == "tool"] == ["not done: the task was abandoned."]


async def test_another_process_runs_the_task_anew() -> None:
    saver = InMemorySaver()
    for script, said in ((["Which digits?"], ["pay"]), (["Which digits?", call("record", {"digits": "12"})], ["one"])):
        _, make = asking(*script)
        ga = desk(make, saver=saver, thread_id="room")
        async with AgentSession[Any](vad=None) as session:
            await session.start(ga)
            await asyncio.sleep(2)
            for words in said:
                await session.run(user_input=words)
            await ga.conversation.flush()
            if said == ["pay"]:
                await ga.conversation.call.abandon()  # as if the process had ended here
        await ga.aclose()
    assert heard(session)[-1] == ("assistant", "So: Paid with 12.")


class Line(EventEmitter[str]):
    """As much of a room as LiveKit's tasks need."""

    name = "line"
    local_participant = SimpleNamespace(identity="agent")

    def isconnected(self) -> bool:
        return False


@contextlib.contextmanager
def a_job(line: Line) -> Iterator[None]:
    """A LiveKit job on this line. Its temporary directory is left to its process otherwise."""
    with fake_job_context(room=line) as job:  # type: ignore[arg-type]
        yield
    job._tempdir.cleanup()


async def test_livekits_keypad_task_takes_the_digits_that_are_keyed_in() -> None:
    model = LiveKitModel(["Please key in four digits."])
    ga = desk(lambda run: GetDtmfTask(num_digits=run.inputs["n"]), GetDtmfResult, [pin])
    line = Line()
    with no_accidents(), a_job(line):
        async with AgentSession[Any](vad=None, llm=model) as session:
            await session.start(ga)
            await session.run(user_input="pin")
            for digit in "1234#":
                line.emit("sip_dtmf_received", rtc.SipDTMF(code=0, digit=digit, participant=None))
            await asyncio.sleep(5)
            said = heard(session)
        await ga.aclose()
    assert said == [
        ("user", "pin"),
        ("assistant", "Please key in four digits."),
        ("assistant", "So: 1 2 3 4"),
    ]


@function_tool
async def pin(ctx: RunContext[Any]) -> str:
    """Ask for the PIN."""
    found: GetDtmfResult = await ctx.run_task("dtmf", n=4)
    return found.user_input


class Doorman(Agent):
    name, instructions, tasks = "doorman", "You open doors.", ("dtmf",)

    async def on_enter(self, ctx: RunContext[Any]) -> None:
        found = await ctx.run_task("dtmf", n=2)
        await ctx.say(f"You are in, {found.digits}.")


async def test_an_on_enter_method_runs_livekits_task_too() -> None:
    model, make = asking("Which digits?", call("record", {"digits": "12"}))
    graph = create_voice_graph([Doorman()], llm=ScriptedModel(["Hello."]), external_tasks={"dtmf": Digits})
    ga = GraphAgent(graph, tasks={"dtmf": make})
    session = await talk(ga, "one two", "thanks")
    assert heard(session)[:3] == [
        ("assistant", "Which digits?"),
        ("user", "one two"),
        ("assistant", "You are in, 12."),
    ]
    assert "Ask for 2 digits." in str(model.shown[0].to_dict())
    assert told_by_graph(ga) == heard(session)


class SecondLine(EventEmitter[str]):
    """The room in which LiveKit's task calls a person, as far as the task needs it."""

    name = "line-human-agent"
    answered = True

    async def connect(self, url: str, token: str) -> None:
        if not self.answered:
            raise ConnectionError("no such room")

    async def disconnect(self) -> None: ...


class SecondSession:
    """What LiveKit's task says to that person is not this test's."""

    def __init__(self, **options: Any) -> None: ...

    async def start(self, *, agent: Any, room: SecondLine, **options: Any) -> None:
        self.room_io = SimpleNamespace(room=room)

    def shutdown(self, **options: Any) -> None: ...


class Exchange:
    """LiveKit's server, which dials, and moves who has answered into the caller's room."""

    def __init__(self) -> None:
        self.sip, self.room = self, self
        self.asked: list[Any] = []

    async def create_sip_participant(self, request: Any) -> None:
        self.asked.append(request.sip_call_to)
        await asyncio.sleep(10)  # it rings

    async def move_participant(self, request: Any) -> None:
        self.asked.append((request.identity, request.destination_room))


@function_tool
async def connect(ctx: RunContext[Any]) -> str:
    """Connect to a person."""
    try:
        found: WarmTransferResult = await ctx.run_task("dtmf")
    except TaskFailed as failed:
        return f"Not connected: {failed.reason}"
    return f"Connected to {found.human_agent_identity}."


DIALED, MOVED = "+15105550123", ("human-agent-sip", "line")


@pytest.mark.parametrize(
    ("ends", "told", "asked"),
    [
        (None, "Not connected: could not dial human agent", []),
        (lambda task: task.decline_transfer("busy"), "Not connected: human agent declined to connect: busy", [DIALED]),
        (lambda task: task.voicemail_detected(), "Not connected: voicemail detected", [DIALED]),
        (lambda task: task.connect_to_caller(), "Connected to human-agent-sip.", [DIALED, MOVED]),
    ],
    ids=["no line", "declined", "voicemail", "connected"],
)
async def test_livekits_warm_transfer_holds_the_call_while_it_dials_and_gives_it_back(
    ends: Any, told: str, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "a secret of thirty-two bytes, or more")
    monkeypatch.setattr(warm_transfer.rtc, "Room", SecondLine)
    monkeypatch.setattr(warm_transfer, "AgentSession", SecondSession)
    monkeypatch.setattr(SecondLine, "answered", ends is not None)
    exchange = Exchange()
    monkeypatch.setattr(lk.JobContext, "api", exchange)
    dialed: list[WarmTransferTask] = []

    def make(run: Any) -> WarmTransferTask:
        dialed.append(WarmTransferTask(DIALED, sip_trunk_id="t", hold_audio=None, chat_ctx=run.chat_ctx))
        return dialed[-1]

    ga = desk(make, WarmTransferResult, [connect])
    accidents = no_accidents() if ends is not None else contextlib.nullcontext()  # LiveKit logs that it could not dial
    with accidents, a_job(Line()):
        async with AgentSession[Any](vad=None, llm=LiveKitModel([])) as session:
            await session.start(ga)
            reply = session.generate_reply(user_input="connect")
            await asyncio.sleep(5)
            (task,) = dialed
            assert "Caller: connect" in str(task.instructions)
            if ends is not None:
                assert ga.conversation.active_agent == "dtmf"
                await asyncio.sleep(10)  # the person has answered
                await ends(task)
            await reply
            await asyncio.sleep(5)
            said = heard(session)
        await ga.aclose()
    assert said[-1] == ("assistant", f"So: {told}")
    assert exchange.asked == asked
    assert ga.conversation.active_agent == "desk"
    assert told_by_graph(ga) == said
