"""Whole calls of careful callers without a language model: they order after paying, take back, and come back."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage

from graph_voice.launch.loading import load_graph
from graph_voice.testing import Call
from graph_voice_livekit.offline.router import IntentRouter

GRAPHS = Path(__file__).parents[2] / "graphs"
CARD = "My card is 5193 8765 2091 3657, it expires 12 28, and the code is 917."

pytestmark = pytest.mark.virtual_clock


def call_of(name: str, front_end: Any = "core") -> Call[Any]:
    graph = load_graph(str(GRAPHS / name))
    return Call(graph, llm=IntentRouter(GRAPHS / name), front_end=front_end, userdata=None)


def answers(phone: Call[Any], tool: str) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage) and m.name == tool]


async def test_one_more_coffee_after_paying_is_charged_alone() -> None:
    async with call_of("restaurant") as phone:
        await phone.says("I'd like some food to go.")
        await phone.says("two pizzas and a coffee")
        await phone.says("A soup. Actually, never mind.")
        await phone.says("that's everything, I'd like to pay")
        await phone.says("yes 22 dollars is right")
        await phone.says(CARD)
        back = await phone.says("yes please charge it")
        assert "your order is all settled" in back.heard
        await phone.says("I want to order one more coffee")
        await phone.says("one more coffee")
        due = await phone.says("that is all, I'd like to pay")
        assert "2 dollars" in due.heard
        await phone.says("yes 2 dollars")
        await phone.says(CARD)
        await phone.says("yes go ahead and charge it")
        assert answers(phone, "confirm_checkout") == ["Paid.", "Paid."]
        assert phone.effects.count("confirm_checkout") == 2


@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_a_customer_takes_back_and_orders_again_behind_a_barge_in(front_end: Any) -> None:
    async with call_of("drive_thru", front_end) as phone:
        phone.barge_in("No wait, a double kite.", after_words=2)
        await phone.says("Can I get a Kite Burger? Actually, no.")
        await phone.says("A large vanilla shake, no wait, a small one.")
        await phone.says("Do you have onion rings?")
        await phone.says("two ketchups please")
        ordered = [run.args["item"] for run in phone.effects if run.tool == "order_regular_item"]
        assert ordered == ["double_kite", "ketchup", "ketchup"]
