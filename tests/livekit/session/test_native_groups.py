"""Groups of tasks, tasks inside tasks, and tasks that are given up, beside LiveKit's own: the same call by hand-written
agents and by a graph. What differs on purpose is declared in one place, and nothing else may.
"""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, AgentTask, RunContext, ToolError, function_tool
from livekit.agents.beta.workflows import TaskGroup
from livekit.agents.llm import ToolResult
from native_support import NAME, SLOW, LiveKitModel, Pair, Seen, counted, in_text, spoken_call

import graph_voice
from graph_voice import Done, Task, create_voice_graph
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.script import ScriptedReply, ScriptedToolCall
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS, VoiceRig

pytestmark = pytest.mark.virtual_clock

# ---- what differs on purpose

GROUP = "task_group"
"""LiveKit's group is an agent of its own, which is active between its steps. Ours is none: who runs it is active."""
GOING_BACK: tuple[tuple[str, dict[str, Any], str], tuple[str, dict[str, Any], str]] = (
    ("out_of_scope", {"task_ids": ["get_name"]}, ""),
    ("go_back", {"steps": ["get_name"]}, "Back to get_name."),
)
"""The tool that goes back, its arguments, and its output, in LiveKit and here. LiveKit's is made when there is where to
go back to; ours is withheld from the model until then."""


# ---- by hand


class _Asks(AgentTask[str]):
    name = ""

    def __init__(self) -> None:
        super().__init__(instructions=f"{self.name}?", tts=FakeTTS("desk"))

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask.")

    def ended(self, how: str) -> ToolResult:
        return ToolResult(f"{self.name.replace('_', ' ')} {how}", reply_required=False)


class GetName(_Asks):
    name = "get_name"

    @function_tool
    async def complete_get_name(self, context: RunContext[Any], value: str) -> Any:
        """The name."""
        self.complete(value)
        return self.ended("is complete.")

    @function_tool
    async def give_up(self, context: RunContext[Any], reason: str) -> Any:
        """They don't want to."""
        self.complete(ToolError(reason))
        return self.ended(f"was given up: {reason}")


class GetCity(_Asks):
    name = "get_city"

    @function_tool
    async def complete_get_city(self, context: RunContext[Any], value: str) -> Any:
        """The city."""
        self.complete(value)
        return self.ended("is complete.")


class GetOrder(_Asks):
    name = "get_order"

    @function_tool
    async def find(self, context: RunContext[Any], number: int) -> Any:
        """Find the order of this number, and of this name."""
        name = await GetName()
        self.complete(f"{number} of {name}")
        return self.ended("is complete.")


class Desk(Agent):
    def __init__(self) -> None:
        super().__init__(id="desk", instructions="You are the desk.", tts=FakeTTS("desk"))


class Registers(Desk):
    @function_tool
    async def register(self, context: RunContext[Any]) -> str:
        """Register."""
        group = TaskGroup(summarize_chat_ctx=False)
        group.add(GetName, id="get_name", description="the name")
        group.add(GetCity, id="get_city", description="the city")
        found = (await group).task_results
        return f"Registered {found['get_name']} of {found['get_city']}."


class Greets(Desk):
    @function_tool
    async def greet(self, context: RunContext[Any]) -> str:
        """Greet by name."""
        return f"Hello {await GetName()}."


class LooksUp(Desk):
    @function_tool
    async def look_up(self, context: RunContext[Any]) -> str:
        """Look up an order."""
        return f"Order {await GetOrder()}."


# ---- as a graph

VOICE = graph_voice.Voice(tts=FakeTTS("desk"))


def task(name: str, **options: Any) -> Task[str]:
    return Task(name, instructions=f"{name}?", on_enter="Ask.", voice=VOICE, **options)


get_name = task("get_name", description="the name", give_up="They don't want to.")
form = graph_voice.TaskGroup("form", [get_name, task("get_city", description="the city")])


@graph_voice.function_tool
async def find(ctx: graph_voice.RunContext[Any], number: int) -> Done:
    """Find the order of this number, and of this name."""
    return ctx.complete(f"{number} of {await ctx.run_task(get_name)}")


get_order = task("get_order", tools=[find], tasks=[get_name])


@graph_voice.function_tool
async def register(ctx: graph_voice.RunContext[Any]) -> str:
    """Register."""
    found = await ctx.run_task(form)
    return f"Registered {found['get_name']} of {found['get_city']}."


@graph_voice.function_tool
async def greet(ctx: graph_voice.RunContext[Any]) -> str:
    """Greet by name."""
    return f"Hello {await ctx.run_task(get_name)}."


@graph_voice.function_tool
async def look_up(ctx: graph_voice.RunContext[Any]) -> str:
    """Look up an order."""
    return f"Order {await ctx.run_task(get_order)}."


DESKS: dict[str, tuple[type[Desk], Any, list[Any]]] = {
    "register": (Registers, register, [form]),
    "greet": (Greets, greet, [get_name]),
    "look_up": (LooksUp, look_up, [get_order, get_name]),
}
"""The tool that a script begins with -> the hand-written agent, the graph's tool, and its tasks."""


def by_hand(script: list[ScriptedReply]) -> Pair:
    model = LiveKitModel([replace(line, calls=tuple(map(_theirs, line.calls))) for line in script])
    return Pair(DESKS[script[0].calls[0].name][0](), {"llm": model}, model)


def _theirs(asked: ScriptedToolCall) -> ScriptedToolCall:
    theirs, ours = GOING_BACK
    return replace(asked, name=theirs[0], args=json.dumps(theirs[1])) if asked.name == ours[0] else asked


def by_graph(script: list[ScriptedReply]) -> Pair:
    _, tool, tasks = DESKS[script[0].calls[0].name]
    model = ScriptedModel(counted(script), name=NAME)
    desk = graph_voice.Agent("desk", instructions="You are the desk.", tools=[tool], tasks=tasks[:1], voice=VOICE)
    return Pair(GraphAgent(create_voice_graph([desk, *tasks], llm=model)), {}, model)


def answers(tool: str, **arguments: Any) -> ScriptedReply:
    return say(call(tool, arguments), **SLOW)


def asks(text: str) -> ScriptedReply:
    return say(text, **SLOW)


SCRIPTS: dict[str, tuple[list[ScriptedReply], list[str]]] = {
    "a group": (
        [
            say("One moment.", call("register"), **SLOW),
            asks("Your name?"),
            answers("complete_get_name", value="Ada"),
            asks("Your city?"),
            answers("complete_get_city", value="London"),
            asks("All done."),
        ],
        ["Register me.", "Ada.", "London."],
    ),
    "going back": (
        [
            answers("register"),
            asks("Your name?"),
            answers("complete_get_name", value="Ada"),
            asks("Your city?"),
            answers("go_back", steps=["get_name"]),
            asks("Which name, then?"),
            answers("complete_get_name", value="Eve"),
            asks("And your city?"),
            answers("complete_get_city", value="London"),
            asks("All done."),
        ],
        ["Register me.", "Ada.", "My name is wrong.", "Eve.", "London."],
    ),
    "given up": (
        [answers("greet"), asks("Your name?"), answers("give_up", reason="it is private"), asks("Never mind.")],
        ["Greet me.", "I won't say."],
    ),
    "a task inside a task": (
        [
            answers("look_up"),
            asks("Which number?"),
            answers("find", number=3),
            asks("Your name?"),
            answers("complete_get_name", value="Ada"),
            asks("It is on its way."),
        ],
        ["My order.", "Three.", "Ada."],
    ),
}


def as_ours(theirs: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """LiveKit's items with what differs on purpose as it is here."""
    items, found, caller = list(theirs), list[tuple[Any, ...]](), ""
    tools: tuple[Any, ...] = ()
    while items:
        first = items.pop(0)
        if first[0] != "agent_handoff" or first[2] != GROUP:
            found.append(_gone_back(first))
            tools = first if first[0] == "agent_config_update" and not caller else tools
            continue
        assert items.pop(0) == ("agent_config_update", [], [])  # the group has no tools
        after = items.pop(0)
        if not caller:
            caller = first[1]
            found.append(("agent_handoff", caller, after[2]))
        elif after[2] == caller:
            found.append(("agent_handoff", first[1], caller))
        else:
            found += [("agent_handoff", first[1], caller), tools, ("agent_handoff", caller, after[2])]
    return found


def _gone_back(item: tuple[Any, ...]) -> tuple[Any, ...]:
    theirs, ours = GOING_BACK
    if item[0] == "agent_config_update":
        return (item[0], [name for name in item[1] if name not in (theirs[0], ours[0])], item[2])
    if item[1:2] != (theirs[0],):
        return item
    return ("function_call", *ours[:2]) if item[0] == "function_call" else (item[0], ours[0], ours[2], *item[3:])


def executed(seen: Seen, *, by_hand: bool) -> list[Any]:
    events = seen.of("function_tools_executed")
    if not by_hand:
        return events
    return [(kind, list(map(_gone_back, calls)), list(map(_gone_back, outputs))) for kind, calls, outputs in events]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("text", [True, False])
async def test_a_program_sees_the_same_items_in_the_same_order(name: str, text: bool) -> None:
    script, steps = SCRIPTS[name]

    async def speak(rig: VoiceRig) -> None:
        for words in steps:
            await rig.user_says(words)
            await rig.until_idle()

    async def write(session: AgentSession[Any]) -> None:
        for words in steps:
            await session.run(user_input=words)
            await asyncio.sleep(3)  # LiveKit's run returns before the agent that has run a group answers

    sides = (by_hand(script), by_graph(script))
    hand, ours = [await (in_text(side, write) if text else spoken_call(side, speak)) for side in sides]
    assert list(map(_gone_back, ours.items)) == as_ours(hand.items)
    assert executed(ours, by_hand=False) == executed(hand, by_hand=True)
    assert ours.usage == hand.usage
