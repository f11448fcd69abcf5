"""A task in a LiveKit session looks as LiveKit's own does: the same call by hand-written agents and by a graph."""

import asyncio
from typing import Any
from unittest.mock import MagicMock

import pytest
from livekit.agents import Agent, AgentSession, AgentTask, RunContext, ToolError, function_tool
from livekit.agents.llm import ToolResult
from native_support import NAME, SLOW, LiveKitModel, Pair, counted, in_text, spoken_call
from pydantic import BaseModel

import graph_voice
from graph_voice import Done, Task, TaskFailed, create_voice_graph, events
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.script import ScriptEntry
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.testing import FakeTTS, VoiceRig

pytestmark = pytest.mark.virtual_clock


# ---- by hand


class GetEmail(AgentTask[str]):
    """LiveKit's own task."""

    def __init__(self, **options: Any) -> None:
        super().__init__(instructions="Ask for the email.", tts=FakeTTS("desk"), **options)
        self.address = ""

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask for it.")

    @function_tool
    async def update_email(self, context: RunContext[Any], email: str) -> str:
        """Record the address."""
        if "@" not in email:
            raise ToolError(f"Invalid email address: {email}")
        self.address = email
        return f"Recorded {email}."

    @function_tool
    async def confirm_email(self, context: RunContext[Any]) -> Any:
        """The caller has confirmed it."""
        self.complete(self.address)
        return ToolResult("get email is complete.", reply_required=False)


class Desk(Agent):
    def __init__(self) -> None:
        super().__init__(id="desk", instructions="You are the desk.", tts=FakeTTS("desk"))

    @function_tool
    async def schedule(self, context: RunContext[Any], slot: str) -> str:
        """Book this slot."""
        email = await GetEmail()
        return f"Booked {slot} for {email}."

    @function_tool
    async def both(self, context: RunContext[Any]) -> str:
        """Ask twice."""
        first = await GetEmail()
        second = await GetEmail()
        return f"{first} and {second}"

    @function_tool
    async def hang_up(self, context: RunContext[Any]) -> str:
        """Ask, and hang up."""
        await GetEmail()
        return "Say goodbye."


# ---- as a graph


class City(BaseModel):
    name: str


class Draft(BaseModel):
    address: str = ""


@graph_voice.function_tool
async def update_email(ctx: graph_voice.RunContext[Any, Draft], email: str) -> str:
    """Record the address."""
    if "@" not in email:
        raise graph_voice.ToolError(f"Invalid email address: {email}")
    ctx.draft.address = email
    return f"Recorded {email}."


@graph_voice.function_tool
async def confirm_email(ctx: graph_voice.RunContext[Any, Draft]) -> Done:
    """The caller has confirmed it."""
    return ctx.complete(ctx.draft.address)


get_email = Task(
    "get_email",
    result=str,
    draft=Draft,
    instructions="Ask for the email.",
    on_enter="Ask for it.",
    tools=[update_email, confirm_email],
    voice=graph_voice.Voice(tts=FakeTTS("desk")),
)


@graph_voice.function_tool
async def schedule(ctx: graph_voice.RunContext[Any], slot: str) -> str:
    """Book this slot."""
    email = await ctx.run_task(get_email)
    return f"Booked {slot} for {email}."


@graph_voice.function_tool
async def both(ctx: graph_voice.RunContext[Any]) -> str:
    """Ask twice."""
    first = await ctx.run_task(get_email)
    second = await ctx.run_task(get_email)
    return f"{first} and {second}"


@graph_voice.function_tool
async def hang_up(ctx: graph_voice.RunContext[Any]) -> str:
    """Ask, and hang up."""
    await ctx.run_task(get_email)
    ctx.end_call()
    return "Say goodbye."


def graph(**options: Any) -> Any:
    desk = graph_voice.Agent(
        "desk",
        instructions="You are the desk.",
        tools=[schedule, both, hang_up],
        tasks=[get_email],
        voice=graph_voice.Voice(tts=FakeTTS("desk")),
    )
    return create_voice_graph([desk, get_email], **options)


def by_hand(script: list[ScriptEntry]) -> Pair:
    model = LiveKitModel(script)
    return Pair(Desk(), {"llm": model}, model)


def by_graph(script: list[ScriptEntry]) -> Pair:
    model = ScriptedModel(counted(script), name=NAME)
    return Pair(GraphAgent(graph(llm=model)), {}, model)


ASK: list[Any] = [
    say("Your email?", **SLOW),
    say(call("update_email", {"email": "ada@x.org"}), **SLOW),
    say("Is that right?", **SLOW),
    say(call("confirm_email"), **SLOW),
]
SCRIPTS: dict[str, tuple[list[Any], list[str]]] = {
    "one task": (
        [say("One moment.", call("schedule", {"slot": "noon"}), **SLOW), *ASK, say("All booked.", **SLOW)],
        ["Book noon.", "ada at x dot org", "Yes."],
    ),
    "an error in the task": (
        [
            say(call("schedule", {"slot": "noon"}), **SLOW),
            say("Your email?", **SLOW),
            say(call("update_email", {"email": "ada"}), **SLOW),
            say("Once more?", **SLOW),
            *ASK[1:],
            say("All booked.", **SLOW),
        ],
        ["Book noon.", "ada", "ada at x dot org", "Yes."],
    ),
    "two tasks in a row": (
        [say(call("both"), **SLOW), *ASK, *ASK, say("Both.", **SLOW)],
        ["Both, please.", "ada at x dot org", "Yes.", "ada at x dot org", "Yes."],
    ),
}


async def test_the_turn_in_which_a_task_gives_the_floor_back_ends() -> None:
    side = by_graph([say(call("hang_up"), **SLOW), *ASK, say("Goodbye.", **SLOW)])

    async def play(rig: VoiceRig) -> None:
        closed = asyncio.Event()
        rig.session.on("close", lambda _: closed.set())
        for text in ("Bye.", "ada at x dot org", "Yes."):
            await rig.user_says(text)
            await rig.until_idle()
        async with asyncio.timeout(30):
            await closed.wait()  # the call ends when the turn has ended

    seen = await spoken_call(side, play)
    assert seen.items[-1][:3] == ("message", "assistant", "Goodbye.")


@pytest.mark.parametrize("gives_up", [False, True])
async def test_a_run_has_the_result_of_a_task_that_is_the_whole_call(gives_up: bool) -> None:
    get_city = Task(
        "get_city", result=City, instructions="Which city?", on_enter="Ask.", give_up="The caller declines."
    )
    ends = call("give_up", {"reason": "no time"}) if gives_up else call("complete_get_city", {"name": "Rome"})
    model = ScriptedModel(["Which city?", "Rome in Italy?", ends])
    ga = GraphAgent(create_voice_graph([get_city], llm=model))
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        first = await session.run(user_input="Rome.")
        assert [what(event) for event in first.events] == [("assistant", "Rome in Italy?")]
        if gives_up:
            with pytest.raises(TaskFailed, match="no time"):
                await session.run(user_input="Never mind.", output_type=City)
        else:
            result = await session.run(user_input="Yes.", output_type=City)
            assert result.final_output == City(name="Rome")


def told(events: list[Any]) -> list[Any]:
    return [e for e in events if e[0] in ("conversation_item_added", "function_tools_executed")]


@pytest.mark.parametrize("name", SCRIPTS)
async def test_by_voice_a_program_sees_the_same_items_in_the_same_order(name: str) -> None:
    script, steps = SCRIPTS[name]

    async def play(rig: VoiceRig) -> None:
        for text in steps:
            await rig.user_says(text)
            await rig.until_idle()

    hand, ours = await spoken_call(by_hand(script), play), await spoken_call(by_graph(script), play)
    assert ours.items == hand.items
    assert told(ours.events) == told(hand.events)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_in_text_a_run_sees_the_same_events_in_the_same_order(name: str) -> None:
    script, steps = SCRIPTS[name]
    seen: list[list[Any]] = []
    for side in (by_hand(script), by_graph(script)):
        found: list[Any] = []

        async def play(session: AgentSession[Any], found: list[Any] = found) -> None:
            for text in steps:
                result = await session.run(user_input=text)
                found.append([what(event) for event in result.events])

        await in_text(side, play)
        seen.append(found)
    assert seen[1] == seen[0]


def what(event: Any) -> Any:
    match event.type:
        case "message":
            return event.item.role, event.item.text_content
        case "function_call":
            return "call", event.item.name
        case "function_call_output":
            return "output", event.item.name, event.item.output, event.item.is_error
        case "agent_handoff":
            return "handoff", event.old_agent.id if event.old_agent else None, event.new_agent.id
    return event.type


def test_a_handoff_whose_agent_has_entered_is_not_in_progress_again_when_livekit_reports_its_tool_call() -> None:
    driver: Any = MagicMock()
    begun = LiveHandoff(events.HandedOff("c1", "desk", "get_email", task="begin"), driver)
    begun.enter()
    begun.becomes_certain()
    assert not begun.in_progress
