"""The silences that a caller hears, with a model that takes 400 ms and a tool that takes 800 ms.

Played on the virtual clock, so these numbers are exact and the same on every machine. The applications are those of
docs/comparison.md, each written as in its framework's documentation. The voice takes 0.2 s to its first sound and
0.25 s per word, and a summary takes 2 s.
"""

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, ToolMessage

from benchmarks.part import Measuring, Part, Row
from benchmarks.stores import ROOT
from benchmarks.tables import markdown
from graph_voice.testing import call, run, say

sys.path.append(str(ROOT / "tests" / "support"))

from comparison.app import App, Carry, Member, Way, asked  # the applications of docs/comparison.md
from comparison.call import a_call
from comparison.tools import Order

__all__ = ["MODEL", "PART", "SUMMARY", "TOOL", "measure"]

MODEL, TOOL, SUMMARY = 0.4, 0.8, 2.0
"""Seconds to the model's first token, for the tool, and for a summary."""
LINE = "One moment please while I look that up."
TRANSFER = "I am putting you through to billing now."


def measure(measuring: Measuring) -> list[Row]:
    """One row for each scene and way."""
    scenes: dict[str, Callable[[Way], Awaitable[Row]]] = {
        "plain turn": _plain,
        "tool turn, a line before the tool call": lambda way: _tool(way, LINE),
        "tool turn, nothing said before": lambda way: _tool(way, ""),
        "handoff, a line before it": lambda way: _handoff(way, TRANSFER),
        "handoff, nothing said before": lambda way: _handoff(way, ""),
        "handoff with a summary, a line before it": lambda way: _handoff(way, TRANSFER, Carry.SUMMARY),
        "handoff with a summary, nothing said before": lambda way: _handoff(way, "", Carry.SUMMARY),
    }
    ways = (Way.LIVEKIT, Way.ADAPTER, Way.OURS)
    measuring.progress.begin(len(scenes))
    rows: list[Row] = []
    for name, scene in scenes.items():
        measuring.progress.step(f"gaps: {name}")
        rows += [{"turn": name, "way": way.value, **run(scene(way), limit=600)} for way in ways]  # type: ignore[arg-type]
    return rows


async def _plain(way: Way) -> Row:
    return await _heard(App([Member("shop")], {"shop": lambda m: "It is two kettles."}, first_token=MODEL), way)


async def _tool(way: Way, line: str) -> Row:
    def shop(messages: list[BaseMessage]) -> Any:
        if isinstance(messages[-1], ToolMessage):
            return "It is two kettles."
        return say(line, call("look_up")) if line else say(call("look_up"))

    return await _heard(App([Member("shop", [Order(TOOL).tool])], {"shop": shop}, first_token=MODEL), way)


async def _handoff(way: Way, line: str, carry: Carry = Carry.FULL) -> Row:
    def summary(messages: list[BaseMessage]) -> Any:
        return say("They have a bill.", first_token=SUMMARY)

    def front(messages: list[BaseMessage]) -> Any:
        if "Summarize" in asked(messages):
            return summary(messages)
        if "bill" not in asked(messages):
            return "This is the front desk."
        return say(line, call("transfer_to_billing")) if line else say(call("transfer_to_billing"))

    members = [Member("front", (), ["billing"]), Member("billing")]
    script = {"front": front, "billing": lambda m: "Billing speaking."}
    app = App(members, script, carry=carry, first_token=MODEL, others=summary)
    before = ["is anybody there", "hello again to you"] if carry is Carry.SUMMARY else []
    return await _heard(app, way, before, "my bill please")


async def _heard(app: App, way: Way, before: Sequence[str] = (), text: str = "look it up") -> Row:
    """Seconds from the end of the caller's words to the first word, and the longest silence after it."""
    async with a_call(app, way) as heard:
        await heard.rig.wait_until(0.5)
        for said in before:
            await heard.say(said)
            await heard.rig.wait_until(heard.rig.now + 3)
        ended = await heard.say(text)
        first, silence = heard.first_word(ended), heard.longest_silence(ended)
        assert first is not None
        assert silence is not None
        return {"first_word_s": first, "silence_s": silence, "longest_s": max(first, silence), "words": heard.words}


def table(rows: Sequence[Row]) -> str:
    """For the page: a line for each scene."""
    lines = []
    for scene in dict.fromkeys(row["turn"] for row in rows):
        line: dict[str, Any] = {"turn": scene}
        for row in rows:
            if row["turn"] == scene:
                line[f"{row['way']}_first"] = f"{row['first_word_s']:.2f}"
                line[f"{row['way']}_silence"] = f"{row['silence_s']:.2f}"
        lines.append(line)
    columns = {"turn": "seconds"}
    for way in dict.fromkeys(row["way"] for row in rows):
        columns |= {f"{way}_first": f"{way}: to the first word", f"{way}_silence": "longest silence after it"}
    return markdown(lines, columns)


PART = Part("gaps", "the silences that a caller hears (model 400 ms, tool 800 ms)", measure, table)
