"""What customers say at the drive-thru, answered by the router: nothing wrong is ever ordered."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from graph_voice import Conversation, events
from graph_voice.launch.loading import load_graph
from graph_voice_livekit.offline.router import IntentRouter
from graphs.drive_thru.menu import MENU

HERE = Path(__file__).parent
GRAPH = HERE.parents[1] / "graphs" / "drive_thru"
LINES: list[dict[str, Any]] = yaml.safe_load((HERE / "drive_thru_lines.yaml").read_text("utf-8"))
SECTIONS = ("drink", "combo", "kids_meal", "regular", "sauce")


def called(said: list[events.Event]) -> list[tuple[str, dict[str, Any]]]:
    """The tool calls, with ids of the menu for what was said."""
    found = []
    for event in said:
        for call in event.calls if isinstance(event, events.ToolCalls) else ():
            args = {}
            for key, value in call.args.items():
                size = {"small": "S", "medium": "M", "large": "L"}.get(str(value).lower())
                args[key] = size or MENU.resolve(str(value), MENU.ids(*SECTIONS)) or value
            found.append((call.name, args))
    return found


@pytest.fixture(scope="module")
def router() -> IntentRouter:
    return IntentRouter(GRAPH)


async def answered(router: IntentRouter, line: str) -> list[events.Event]:
    conversation = Conversation[Any](load_graph(str(GRAPH)), config={"configurable": {"llm": router}})
    await conversation.run()
    said = await conversation.run(line)
    await conversation.aclose()
    return said


async def test_no_line_orders_anything_wrong_and_most_are_right(router: IntentRouter) -> None:
    assert len(LINES) == 30
    wrong, right = [], 0
    for line in LINES:
        expected = [(name, args) for name, args in line["calls"]]
        made = called(await answered(router, line["say"]))
        right += made == expected
        if any(one not in expected for one in made):
            wrong.append((line["say"], made))
    assert wrong == []
    assert right >= 25


@pytest.mark.parametrize("line", [line["say"] for line in LINES if not line["calls"]])
async def test_what_is_no_whole_order_is_answered_in_words(router: IntentRouter, line: str) -> None:
    said = await answered(router, line)
    assert not called(said)
    assert "".join(event.text for event in said if isinstance(event, events.Text)).strip()
