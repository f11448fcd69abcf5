"""The restaurant's money: who cuts in, comes back or orders more pays for each thing once, and is told the truth."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice.testing import Call, ScriptedModel, call, say
from graphs.restaurant.graph import confirm_checkout, graph
from graphs.restaurant.guest import Guest, Line
from graphs.restaurant.menu import MENU
from graphs.restaurant.payments import CardDeclined

pytestmark = pytest.mark.virtual_clock

CARD = {"number": "5193 8765 2091 3657", "expiry": "12/28", "security_code": "917"}
LINES = {"items": [{"dish": "pizza", "count": 2}, {"dish": "coffee", "count": 1}]}
ORDER = call("update_order", LINES)
AGREES = call("confirm_expense", {"dollars": 22})
PAYS = call("confirm_checkout")
TO_CHECKOUT = call("to_checkout")
TO_TAKEAWAY = call("transfer_to_takeaway")
WORDS = ["Food.", "Two pizzas and a coffee.", "I'd like to pay.", "22, and here is my card."]


@pytest.fixture(params=["core", "livekit"])
def front_end(request: pytest.FixtureRequest) -> Any:
    return request.param


class Terminal:
    """A bank that takes its time. It charges once for each key, as payment providers do."""

    def __init__(self) -> None:
        self.charged: dict[str, float] = {}
        self.asked = 0
        self.declines = False

    async def charge(self, card: Any, dollars: float, *, key: str) -> None:
        self.asked += 1
        await asyncio.sleep(4)
        if self.declines:
            raise CardDeclined
        self.charged.setdefault(key, dollars)


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setitem(confirm_checkout.__globals__, "charge", terminal.charge)
    return terminal


def scripted(
    greeter: tuple[Any, ...] = (), takeaway: tuple[Any, ...] = (), checkout: tuple[Any, ...] = ()
) -> ScriptedModel:
    """A model that takes the order of 22 dollars and the card; what follows is given."""
    return ScriptedModel(
        {
            "greeter": ["Good evening.", TO_TAKEAWAY, *greeter],
            "takeaway": ["What would you like?", ORDER, "22. Shall we go on?", TO_CHECKOUT, *takeaway],
            "checkout": ["22 dollars?", say("", AGREES, call("update_credit_card", CARD)), "Shall I?", *checkout],
        }
    )


def opened(front_end: Any, model: ScriptedModel, **options: Any) -> Call[Guest]:
    return Call(graph, llm=model, front_end=front_end, userdata=Guest(), **options)


async def about_to_pay(phone: Call[Guest]) -> None:
    for words in WORDS:
        await phone.says(words)
    assert (phone.active_agent, phone.userdata.card is not None) == ("checkout", True)


def results(phone: Call[Any], name: str) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage) and m.name == name]


def shown(model: ScriptedModel, agent: str) -> str:
    """What this agent's model was shown last."""
    return "\n".join(m.text for m in [p for p in model.prompts if p.agent == agent][-1].messages)


# ---- cutting in


@pytest.mark.parametrize("words", ["", "Fine, then I charge your card now."], ids=["silent", "announced"])
async def test_who_cuts_in_while_the_card_is_charged_pays_once_and_is_told(
    front_end: Any, bank: Terminal, words: str
) -> None:
    # In LiveKit the caller is answered while the tool runs, unless the agent speaks: the model knows that it runs.
    model = scripted(greeter=("It is paid: 22 dollars.",) * 2, checkout=(say(words, PAYS), PAYS, "It is under way."))
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        phone.during_tool("confirm_checkout").says("Wait, don't charge it.")
        await phone.says("Yes.")
        assert (list(bank.charged.values()), bank.asked) == ([22.0], 1)
        told = results(phone, "confirm_checkout")
        assert told[0] == "Paid."
        assert all("under way" in more for more in told[1:])
        assert (phone.active_agent, phone.userdata.checked_out, phone.userdata.card) == ("greeter", True, None)
        assert phone.heard[-1] == "It is paid: 22 dollars."
        assert "Paid." in shown(model, "greeter")


async def test_who_cuts_in_before_the_payment_is_asked_for_pays_nothing(front_end: Any, bank: Terminal) -> None:
    model = scripted(checkout=("Shall I charge twenty-two dollars to your card now?", "I have not charged it."))
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        phone.barge_in("No, stop.", after_words=2)
        await phone.says("What now?")
        assert (bank.asked, phone.userdata.checked_out, phone.userdata.card is None) == (0, False, False)
        assert phone.heard[-1] == "I have not charged it."


async def test_a_second_payment_of_the_same_order_is_none(front_end: Any, bank: Terminal) -> None:
    """The model asks for the payment twice in one message, and once more later."""
    model = scripted(greeter=("Thank you. Anything else?",), checkout=(say("", PAYS, PAYS), "It is paid."))
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        await phone.says("Yes.")
        await phone.update_agent("checkout")
        assert list(bank.charged.values()) == [22.0]
        assert phone.userdata.checked_out
        assert "is paid" in shown(model, "checkout").partition("\n")[0], "checkout's instructions"


async def test_at_the_checkout_a_paid_order_is_not_unpaid_because_there_is_no_card(
    front_end: Any, bank: Terminal
) -> None:
    model = scripted(greeter=("Anything else?", "It did."), checkout=(PAYS, "Yes?", PAYS))
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        await phone.says("Yes.")
        await phone.update_agent("checkout")
        await phone.says("Did that go through?")
        told = results(phone, "confirm_checkout")[-1]
        assert told.startswith("Paid already")
        assert "ask for the card" not in told
        assert (list(bank.charged.values()), bank.asked) == ([22.0], 1)


async def test_a_process_that_dies_while_it_charges_charges_once(front_end: Any, bank: Terminal) -> None:
    """The bank has it, the call does not know. Whoever pays again pays with the same key."""

    async def lost(card: Any, dollars: float, *, key: str) -> None:
        bank.asked += 1
        bank.charged.setdefault(key, dollars)
        await asyncio.sleep(0 if bank.asked > 1 else 60)

    confirm_checkout.__globals__["charge"] = lost
    again = (
        PAYS,
        "I don't know whether that went through.",
        "Your card?",
        call("update_credit_card", CARD),
        "Shall I?",
    )
    model = scripted(greeter=("Thank you.",), checkout=(*again, PAYS))
    async with opened(front_end, model, saver=InMemorySaver(), thread_id="restaurant-1") as phone:
        await about_to_pay(phone)
        phone.during_tool("confirm_checkout").crash()
        await phone.says("Yes.")
        await phone.resume()
        if phone.heard[-1] != "I don't know whether that went through.":
            await phone.says("Hello?")
        assert "Paid." not in results(phone, "confirm_checkout")
        await phone.says("Take the card again.")
        await phone.says("5193 8765 2091 3657, 12/28, 917.")
        await phone.says("Yes.")
        assert (bank.asked, list(bank.charged.values())) == (2, [22.0])
        assert phone.userdata.checked_out


async def test_another_card_after_a_declined_one_is_charged_anew(front_end: Any, bank: Terminal) -> None:
    bank.declines = True
    other = call("update_credit_card", {**CARD, "number": "4111 1111 1111 1111"})
    model = scripted(greeter=("Thank you.",), checkout=(PAYS, "Another one?", other, "Shall I?", PAYS))
    keys: list[str] = []
    charge = bank.charge

    async def noted(card: Any, dollars: float, *, key: str) -> None:
        keys.append(key)
        await charge(card, dollars, key=key)

    confirm_checkout.__globals__["charge"] = noted
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        await phone.says("Yes.")
        bank.declines = False
        await phone.says("4111 1111 1111 1111, 12/28, 917.")
        await phone.says("Yes.")
        assert phone.userdata.checked_out
    assert len(set(keys)) == 2, "a provider answers a key with what it answered before"


# ---- more, after paying


@pytest.mark.parametrize(
    "items",
    [
        [{"dish": "coffee", "count": 1}],
        [{"dish": "pizza", "count": 2}, {"dish": "coffee", "count": 2}],
        [{"dish": "pizza", "count": 2}, {"dish": "coffee", "count": 1}, {"dish": "coffee", "count": 1}],
    ],
    ids=["the coffee", "all of it", "a line more"],
)
async def test_one_more_coffee_after_paying_is_one_coffee(front_end: Any, bank: Terminal, items: list[Any]) -> None:
    more = call("update_order", {"items": items})
    model = scripted(
        greeter=("Thank you. Anything else?", TO_TAKEAWAY, "And the coffee is paid too."),
        takeaway=("What else would you like?", more, "That is 2 dollars more.", TO_CHECKOUT),
        checkout=(
            PAYS,
            "2 dollars?",
            say("", call("confirm_expense", {"dollars": 2}), call("update_credit_card", CARD)),
            "Shall I?",
            PAYS,
        ),
    )
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        await phone.says("Yes.")
        await phone.says("One more coffee.")
        assert "Ask what else the caller would like." in shown(model, "takeaway")
        await phone.says("A coffee.")
        assert results(phone, "update_order")[-1] == (
            "The order is 2 pizzas, 2 coffees: 24.00 dollars. 22.00 dollars of it are paid, 2.00 are to be paid."
        )
        await phone.says("I'd like to pay.")
        assert "2.00 dollars" in shown(model, "checkout")
        await phone.says("2 is right, and my card again.")
        await phone.says("Yes.")
        assert list(bank.charged.values()) == [22.0, 2.0]
        assert (phone.userdata.checked_out, phone.userdata.due) == (True, 0)
        assert phone.heard[-1] == "And the coffee is paid too."


async def test_who_has_paid_for_everything_is_not_asked_to_pay_again(front_end: Any, bank: Terminal) -> None:
    model = scripted(
        greeter=("Anything else?", TO_TAKEAWAY),
        takeaway=("What else?", TO_CHECKOUT, "It is all paid."),
        checkout=(PAYS,),
    )
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        for words in ("Yes.", "Food again.", "I want to pay."):
            await phone.says(words)
        assert results(phone, "to_checkout")[-1].startswith("Not done: the order is paid already.")
        assert phone.active_agent == "takeaway"


async def test_an_amount_that_was_agreed_to_before_the_order_changed_is_not_charged(
    front_end: Any, bank: Terminal
) -> None:
    more = call("update_order", {"items": [{"dish": "pizza", "count": 3}]})
    model = scripted(
        takeaway=("What shall I change?", more, "30.", TO_CHECKOUT), checkout=(TO_TAKEAWAY, "30?", PAYS, "30?")
    )
    async with opened(front_end, model) as phone:
        await about_to_pay(phone)
        for words in ("Wait, I want more.", "Three pizzas.", "Pay.", "Charge it."):
            await phone.says(words)
        assert results(phone, "confirm_checkout") == ["Not paid: let the caller agree to the amount first."]
        assert bank.asked == 0


LINE = st.builds(Line, dish=st.sampled_from(sorted(MENU)), count=st.integers(1, 9))
ORDERS = st.lists(LINE, max_size=4)


@given(st.lists(st.tuples(ORDERS, st.booleans()), max_size=6))
def test_whatever_is_ordered_and_paid_nothing_is_paid_twice_and_nothing_is_free(steps: list[Any]) -> None:
    guest, paid = Guest(), 0.0
    for items, pays in steps:
        guest.wants(items)
        assert 0 <= guest.due == pytest.approx(guest.total - paid)
        for line in guest.paid_for:
            assert guest.counted()[line.dish] >= line.count, "what is paid is still ordered"
        if pays and guest.due:
            paid += guest.due
            guest.pay()
            assert (guest.due, guest.checked_out) == (0, True)
        assert guest.checked_out == bool(guest.order and not guest.due)
