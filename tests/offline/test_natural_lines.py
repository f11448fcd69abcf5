"""What callers say naturally: the router never does anything else than what was meant, and mostly does that.

The lines were written before the example files were read, and no example was copied from them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import tool_call

from graph_voice_livekit.offline.router import IntentRouter
from graph_voice_livekit.offline.words import same_key

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests" / "offline" / "natural_lines").glob("*[!s].yaml"))
MISLEADING = sorted((ROOT / "tests" / "offline" / "natural_lines" / "misleading").glob("*.yaml"))
CAREFUL = sorted((ROOT / "tests" / "offline" / "natural_lines").glob("careful*/*.yaml"))
UNSEEN = sorted((ROOT / "tests" / "offline" / "natural_lines" / "unseen").glob("*.yaml"))


def lines(file: Path) -> tuple[IntentRouter, list[dict[str, Any]]]:
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    listed = data.get("listed", {})
    return IntentRouter(ROOT / data["graph"]), [{"listed": listed, **line} for line in data["lines"]]


def done(router: IntentRouter, line: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The calls that the router makes for a line, and its words."""
    section = router.examples.agents[line["agent"]]
    tools = [{"name": tool, "description": tool, "parameters": {"type": "object"}} for tool in section.tools]
    prompt: list[BaseMessage] = [SystemMessage("Be kind.")]
    for tool, result in line["listed"].items():
        prompt += [
            AIMessage("", tool_calls=[tool_call(name=tool, args={}, id=tool)]),
            ToolMessage(result, tool_call_id=tool),
        ]
    prompt += [AIMessage(line.get("asked", "How can I help?")), HumanMessage(line["says"])]
    answer = router.model_copy(update={"agent": line["agent"]}).bind_tools(tools).invoke(prompt)
    return [{call["name"]: call["args"]} for call in answer.tool_calls], answer.text


def faults(router: IntentRouter, all_lines: list[dict[str, Any]]) -> Iterator[tuple[bool, str]]:
    """Each line that goes wrong, and whether something was done that was not meant."""
    for line in all_lines:
        wanted = line["does"]
        calls, text = done(router, line)
        # A name alone is a call with any arguments.
        meant = [_lower(call) in _lower(wanted) or next(iter(call)) in wanted for call in calls]
        acted_wrong = not all(meant) or len(calls) > len(wanted)
        spoke_wrong = line.get("says_too", "") not in text or line.get("says_not", "\0") in text.lower()
        if acted_wrong or len(calls) != len(wanted) or spoke_wrong:
            yield acted_wrong, f"{line['agent']}: {line['says']!r} gave {calls} and {text!r}, not {wanted}"


def _lower(value: Any) -> Any:
    """A value in which "Tomorrow at two" and "tomorrow at two" are the same."""
    return yaml.safe_load(yaml.safe_dump(value).lower())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_is_done_that_was_not_meant_and_most_is_understood(file: Path) -> None:
    router, all_lines = lines(file)
    assert len(all_lines) == 30
    found = list(faults(router, all_lines))
    report = "\n".join(f"{'WRONG' if wrong else 'missed'} {what}" for wrong, what in found)
    assert not any(wrong for wrong, _ in found), report
    assert len(all_lines) - len(found) >= 20, report


@pytest.mark.parametrize("file", UNSEEN, ids=lambda file: file.stem)
def test_lines_written_after_the_router_fare_alike(file: Path) -> None:
    router, all_lines = lines(file)
    found = list(faults(router, all_lines))
    report = "\n".join(f"{'WRONG' if wrong else 'missed'} {what}" for wrong, what in found)
    assert not any(wrong for wrong, _ in found), report
    assert len(all_lines) - len(found) >= 10, report


@pytest.mark.parametrize("file", CAREFUL, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_careful_callers_take_back_ask_and_tell_without_doing_anything(file: Path) -> None:
    """Corrections, questions, reports of others, conditions, two wishes. A part of what was meant is wrong, too."""
    router, all_lines = lines(file)
    found = []
    for line in all_lines:
        for wrong, what in faults(router, [line]):
            found.append((wrong or bool(done(router, line)[0]), what))
    report = "\n".join(f"{'WRONG' if wrong else 'missed'} {what}" for wrong, what in found)
    assert not any(wrong for wrong, _ in found), report
    assert 3 * (len(all_lines) - len(found)) >= 2 * len(all_lines), report


@pytest.mark.parametrize("file", MISLEADING, ids=lambda file: file.stem)
def test_lines_that_mislead_do_nothing_either(file: Path) -> None:
    router, all_lines = lines(file)
    assert not [what for wrong, what in faults(router, all_lines) if wrong]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_are_not_made_of_these_lines(file: Path) -> None:
    router, all_lines = lines(file)
    known = {
        same_key(sentence)
        for agent in router.examples.agents.values()
        for intent in agent.intents
        for sentence in intent.examples
    }
    alike = [line["says"] for line in all_lines if same_key(line["says"]) in known]
    assert len(alike) <= 4, alike  # "Hello." is in both
