"""Tools: who sees them, what becomes of their results, and what the caller hears meanwhile."""

import asyncio
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from livekit.agents import mock_tools

from comparison.app import App, Member, Script, Way, asked
from comparison.call import a_call, a_text_call
from comparison.rows import row
from graph_voice.testing import PromptError, call, say

GROUP = "Tools"
LINE = "One moment please while I look that up."
CUTS_IN = 4.6
"""The second at which the caller speaks again: the line is over, the tool runs since the second second."""


def shop(script: Script, *tools: Any, **options: Any) -> App:
    """One agent with tools."""
    return App([Member("shop", tools)], {"shop": script}, **options)


def looking(*calls: Any, line: str = LINE, then: str = "It is two kettles.") -> Script:
    """Asked to look something up, the model says a line, calls, and then tells; otherwise it is friendly."""
    asks = say(line, *(calls or (call("look_up"),))) if line else say(*(calls or (call("look_up"),)))

    def script(messages: list[BaseMessage]) -> Any:
        said = asked(messages)
        if said.startswith("look"):
            return then if isinstance(messages[-1], ToolMessage) else asks
        return then if "look_up" in said else "Yes, I am here."  # it is told that a result has come

    return script


class Order:
    """A tool that takes its time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.started: list[float] = []
        self.done = 0

        async def look_up() -> str:
            """Look up the order."""
            self.started.append(asyncio.get_running_loop().time())
            await asyncio.sleep(seconds)
            self.done += 1
            return '{"items": 2}'

        self.tool = look_up


@row(
    GROUP,
    "Tool results are not spoken",
    lambda o: "yes" if "items" not in o["words"] else f"no: `{o['words']}`",
    short="tool results are not spoken",
)
async def results_are_silent(way: Way) -> dict[str, Any]:
    async with a_call(shop(looking(), Order().tool), way) as heard:
        await heard.say("look it up", at=0.5)
        return {"words": heard.words}


@row(
    GROUP,
    "LiveKit's events, history and `session.run()` show them",
    lambda o: "yes" if o["events"] and o["items"] else "no: LiveKit sees no tool call",
    short="tools in LiveKit's events and history",
)
async def visible(way: Way) -> dict[str, Any]:
    async with a_text_call(shop(looking(), Order().tool), way) as written:
        result = await written.session.run(user_input="look it up")
        items = [i.type for i in written.session.history.items if i.type.startswith("function_call")]
        return {
            "events": written.tools_executed,
            "items": items,
            "run_result": [e.type for e in result.events if e.type.startswith("function_call")],
        }


@row(
    GROUP,
    "LiveKit's `mock_tools` replaces them",
    lambda o: "yes" if not o["ran"] else "no: the real tool ran",
)
async def mocked(way: Way) -> dict[str, Any]:
    order = Order()
    async with a_text_call(shop(looking(), order.tool), way) as written:
        kind = type(written.built.agent)
        with mock_tools(kind, {"look_up": lambda: "three kettles"}):
            await written.session.run(user_input="look it up")
    return {"ran": order.done}


def _silence(o: Any) -> str:
    return f"{o['silence']:.2f} s, and the line comes after {o['line_after']:.2f} s"


@row(
    GROUP,
    "Longest silence in a tool turn with an 8-word line before the tool call (model 0.4 s, tool 0.8 s, voice 0.2 s)",
    _silence,
    short="longest silence in a tool turn (tool 0.8 s)",
)
async def tool_turn(way: Way) -> dict[str, Any]:
    return await _tool_turn(way, 0.8)


@row(GROUP, "... with a tool of 4 s", _silence)
async def slow_tool_turn(way: Way) -> dict[str, Any]:
    return await _tool_turn(way, 4.0)


async def _tool_turn(way: Way, seconds: float) -> dict[str, Any]:
    async with a_call(shop(looking(), Order(seconds).tool, first_token=0.4), way) as heard:
        ended = await heard.say("look it up", at=0.5)
        return {"silence": heard.longest_silence(ended), "line_after": heard.first_word(ended), "words": heard.words}


@row(
    GROUP,
    "Results of a parallel batch are shown to the model in the order of the tool calls",
    lambda o: "yes" if o["order"] == ["slow", "quick"] else "no: in the order in which they came",
)
async def batch_order(way: Way) -> dict[str, Any]:
    async def slow() -> str:
        """Take a second."""
        await asyncio.sleep(1)
        return "slow"

    async def quick() -> str:
        """Take no time."""
        return "quick"

    app = shop(looking(call("slow"), call("quick"), line=""), slow, quick)
    async with a_call(app, way) as heard:
        await heard.say("look them up", at=0.5)
    shown = [m.text for m in app.model.prompts[-1].messages if isinstance(m, ToolMessage)]
    return {"order": shown}


@row(
    GROUP,
    'Malformed arguments (`{"city": `): the tool does not run, the model is told, and asks',
    lambda o: (
        f"no: the tool runs with {o['ran'][0]!r}"
        if o["ran"]
        else "yes"
        if o["words"] == "Which city?"
        else "no: the caller hears the error's text, then the question"
    ),
)
async def malformed(way: Way) -> dict[str, Any]:
    ran: list[str] = []

    async def look_up(city: str) -> str:
        """Look up the weather."""
        ran.append(city)
        return "sunny"

    app = shop(looking(call("look_up", '{"city": '), line="", then="Which city?"), look_up)
    async with a_call(app, way) as heard:
        await heard.say("look up the weather", at=0.5)
        return {"ran": ran, "words": heard.words}


@row(
    GROUP,
    "A tool raises: the model is told, and the caller answered",
    lambda o: (
        "no: the caller hears nothing"
        if not o["words"]
        else "yes, without the exception's text"
        if not o["leaked"]
        else "yes, with the exception's text"
    ),
)
async def raising(way: Way) -> dict[str, Any]:
    async def look_up() -> str:
        """Look up the order."""
        raise RuntimeError("password is hunter2")

    app = shop(looking(line="", then="I can't look it up now."), look_up)
    async with a_call(app, way) as heard:
        await heard.say("look it up", at=0.5)
        leaked = any("hunter2" in m.text for p in app.model.prompts for m in p.messages)
        return {"words": heard.words, "leaked": leaked or "hunter2" in heard.words, "errors": len(heard.rig.errors)}


@row(
    GROUP,
    "The caller speaks while a 6 s tool runs: the next turn is answered",
    lambda o: "yes" if o["answered"] else f"no: {o['refused'] or 'silence'}",
    short="a turn during a slow tool is answered",
)
async def cut_in_tool_answered(way: Way) -> dict[str, Any]:
    return await _cut_in_tool(way, 6.0)


@row(
    GROUP,
    "... and the tool's result is remembered",
    lambda o: "yes" if o["known"] else "no: the tool is canceled" if not o["ran"] else "no: the model is not shown it",
)
async def cut_in_tool_known(way: Way) -> dict[str, Any]:
    return await _cut_in_tool(way, 6.0)


async def _cut_in_tool(way: Way, seconds: float, *, at: float = CUTS_IN) -> dict[str, Any]:
    """The caller cuts in while a tool runs, and speaks again when it must have ended."""
    order = Order(seconds)
    app = shop(looking(), order.tool)
    async with a_call(app, way) as heard:
        await heard.rig.user_says("look it up please", at=0.5)
        ended = await heard.say("are you still there", at=at)
        answered = heard.first_word(ended)
        await heard.rig.wait_until(max(heard.rig.now, 8.0 + seconds))
        await heard.say("and now")
        shown = app.model.prompts[-1].messages
        calls = {c["id"] for m in shown if isinstance(m, AIMessage) for c in m.tool_calls}
        results = {m.tool_call_id: m.text for m in shown if isinstance(m, ToolMessage)}
        refused = [e for e in app.model.errors if isinstance(e, PromptError)]
        return {
            "answered": answered,
            "ran": order.done,
            "known": any("items" in text for text in results.values()),
            "dangling": bool(calls - set(results)),
            "refused": "every later prompt is refused, the call stays mute" if refused else "",
        }


@row(
    GROUP,
    "... the next turn is answered after (a tool of 15 s)",
    lambda o: f"{o['answered']:.2f} s" if o["answered"] is not None else f"never: {o['refused']}",
)
async def very_slow_tool(way: Way) -> dict[str, Any]:
    return await _cut_in_tool(way, 15.0)


@row(
    GROUP,
    "... the caller is told the late result when it comes",
    lambda o: (
        "yes" if o["told"] else "no: only when the caller speaks again" if o["ran"] else "no: the tool is canceled"
    ),
)
async def late_result(way: Way) -> dict[str, Any]:
    order = Order(15.0)
    async with a_call(shop(looking(), order.tool), way) as heard:
        await heard.rig.user_says("look it up please", at=0.5)
        await heard.say("are you still there", at=CUTS_IN)
        await heard.rig.wait_until(30.0)
        await heard.rig.until_idle()
        return {"told": "two kettles" in heard.words, "ran": order.done}


@row(
    GROUP,
    "The caller interrupts the line before a 6 s tool: its result is remembered",
    lambda o: "yes" if o["known"] else "no: the tool is canceled" if not o["ran"] else "no: the model is not shown it",
)
async def cut_line_known(way: Way) -> dict[str, Any]:
    return await _cut_in_tool(way, 6.0, at=3.0)
