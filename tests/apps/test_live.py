"""The applications' acceptance as scenarios that hold with any good model.

With scripted models they are tests like the others; `pytest tests/apps/test_live.py --graph-voice-live openai:gpt-4.1`
plays them with a real one. They ask for the state, handoffs and tools, and let a judge read the words.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from graph_voice.launch.loading import load_graph
from graph_voice.testing import Call, ScriptedModel, call, say
from graph_voice.testing.happened import AgentHandoff
from graphs.front_desk.appointments import Slot
from graphs.front_desk.fake_calendar import FakeCalendar

pytestmark = [pytest.mark.live, pytest.mark.virtual_clock(limit=100_000)]

GRAPHS = Path(__file__).parents[2] / "graphs"


@pytest.fixture(params=["core", "livekit"])
def open_app(request: pytest.FixtureRequest, open_call: Any) -> Any:
    """A call of an application, on either front end."""

    def open_app(app: str, script: Any, **options: Any) -> Call[Any]:
        made: Call[Any] = open_call(
            load_graph(str(GRAPHS / app)), llm=ScriptedModel(script), front_end=request.param, **options
        )
        return made

    return open_app


def judge() -> Any:
    """The real model, when there is one; else one that is content."""
    content = call("check_intent", {"success": True, "reason": "it is scripted"})
    return Call.live_model or ScriptedModel(lambda messages: content)


def handoffs(phone: Call[Any]) -> list[str]:
    return [item.new_agent for item in phone.result.items if isinstance(item, AgentHandoff)]


async def test_a_refill_goes_to_patient_support_behind_a_line_of_the_front_desk(open_app: Any) -> None:
    script = {
        "triage": ["Elm Street Clinic. How can I help?", call("transfer_to_support")],
        "support": ["Patient support. Which medicine is it?"],
    }
    phone = open_app("medical_triage", script)
    result = await phone.says("I need a refill of my blood pressure pills.")
    assert handoffs(phone) == ["support"]
    assert phone.current_agent == "support"
    said = [item for item in result.items if not isinstance(item, AgentHandoff)]
    assert [getattr(item, "agent", None) for item in said][-1] == "support"
    result.expect.contains_message(agent="triage")
    await result.expect.contains_message(agent="support").judge(
        judge(), intent="takes up the refill that was asked for"
    )


async def test_a_bill_goes_to_billing_which_verifies_who_is_calling(open_app: Any) -> None:
    script = {"triage": ["Elm Street Clinic.", call("transfer_to_billing")], "billing": ["Billing. Who is calling?"]}
    phone = open_app("medical_triage", script)
    result = await phone.says("There is a charge on my bill that I don't understand.")
    assert phone.current_agent == "billing"
    await result.expect.contains_message(agent="billing").judge(
        judge(), intent="asks who is calling: the full name, the date of birth, or both"
    )
    assert not phone.userdata.identity_confirmed


async def test_an_unclear_opening_is_asked_about(open_app: Any) -> None:
    phone = open_app(
        "medical_triage", {"triage": ["Elm Street Clinic.", "Is it about an appointment, or about a bill?"]}
    )
    result = await phone.says("Hello, I have a question.")
    assert handoffs(phone) == []
    await result.expect.contains_message(agent="triage").judge(judge(), intent="asks what the question is about")


async def test_a_name_given_to_the_front_desk_is_known_to_support(open_app: Any) -> None:
    script = {
        "triage": [
            "Elm Street Clinic.",
            call("note_caller", {"name": "Ada Byron", "reason": "records"}),
            call("transfer_to_support"),
        ],
        "support": ["Patient support. Your records, Ada?"],
    }
    phone = open_app("medical_triage", script)
    await phone.says("This is Ada Byron, I need a copy of my medical records.")
    assert phone.userdata.name == "Ada Byron"
    assert phone.current_agent == "support"


async def test_a_table_is_booked_with_what_the_caller_says(open_app: Any) -> None:
    script = {
        "greeter": ["Good evening. A table?", call("transfer_to_reservation"), "Anything else?"],
        "reservation": [
            "When would you like to come?",
            say(
                "",
                call("update_reservation_time", {"time": "Friday at seven"}),
                call("update_name", {"name": "Ada"}),
                call("update_phone", {"phone": "555 0134"}),
            ),
            "Friday at seven for Ada. Is that right?",
            call("confirm_reservation"),
        ],
    }  # fmt: skip
    phone = open_app("restaurant", script)
    result = await phone.says("I'd like to book a table.")
    assert phone.current_agent == "reservation"
    result.expect.contains_message(agent="reservation")
    await phone.says("Friday at seven, my name is Ada, and my number is 555 0134.")
    await phone.says("Yes, that's right. Please book it.")
    assert phone.userdata.reserved
    assert phone.userdata.name == "Ada"
    assert phone.current_agent == "greeter"


async def test_an_order_is_stored_and_checkout_wants_one(open_app: Any) -> None:
    order = {"items": [{"dish": "pizza", "count": 2}, {"dish": "coffee", "count": 1}]}
    script = {
        "greeter": ["Good evening.", call("transfer_to_takeaway")],
        "takeaway": ["What would you like?", call("update_order", order), "Two pizzas and a coffee, 22 dollars."],
    }
    phone = open_app("restaurant", script)
    await phone.says("Something to take away, please.")
    assert phone.current_agent == "takeaway"
    await phone.says("Two pizzas and a coffee.")
    assert sorted((line.dish, line.count) for line in phone.userdata.order) == [("coffee", 1), ("pizza", 2)]
    assert phone.userdata.total == 22
    assert not phone.userdata.checked_out


async def test_two_sauces_are_two_and_a_drink_is_asked_for_before_a_meal_is_ordered(open_app: Any) -> None:
    combo = {"meal": "combo_spicy_chicken", "drink": "kite_cola", "drink_size": "L", "fries_size": "L"}
    ketchup = call("order_regular_item", {"item": "ketchup"})
    script = [
        "Paper Kite. What can I get you?",
        say("", ketchup, ketchup),
        "Two ketchup. Anything else?",
        "Which drink would you like with it?",
        call("order_combo_meal", combo),
        "A large four b with a large cola.",
    ]
    phone = open_app("drive_thru", script)
    await phone.says("Can I get two ketchups?")
    assert [item.item_id for item in phone.userdata.items.values()] == ["ketchup", "ketchup"]
    result = await phone.says("And a large number four b combo.")
    assert len(phone.userdata.items) == 2
    await result.expect.contains_message(agent="attendant").judge(judge(), intent="asks which drink is wanted")
    await phone.says("A large Kite Cola.")
    meal = list(phone.userdata.items.values())[-1]
    assert (meal.meal_id, meal.drink_id) == ("combo_spicy_chicken", "kite_cola")
    assert (meal.drink_size, meal.fries_size) == ("L", "L")
    assert len(phone.userdata.items) == 3


async def test_what_is_sold_out_is_not_ordered_and_the_customer_is_told(open_app: Any) -> None:
    script = [
        "Paper Kite. What can I get you?",
        call("order_regular_item", {"item": "caramel_sundae"}),
        "I'm sorry, the caramel sundae is sold out today. How about a Cookie Swirl?",
    ]
    phone = open_app("drive_thru", script)
    result = await phone.says("A caramel sundae, please.")
    assert not phone.userdata.items
    await result.expect.contains_message(agent="attendant").judge(
        judge(), intent="says that the caramel sundae can't be had today"
    )


NOW = datetime(2026, 6, 12, 8, tzinfo=UTC)
HOURS = {12: (9, 9.5, 10), 13: (14, 14.5, 15), 14: (11, 11.5)}
SLOTS = [NOW.replace(day=day, hour=int(h), minute=int(h % 1 * 60)) for day, hours in HOURS.items() for h in hours]
TWO = Slot(start=NOW.replace(day=13, hour=14))


async def test_a_visit_is_booked_for_an_address_that_was_spoken_and_confirmed(open_app: Any) -> None:
    script = {
        "front_desk": [
            "Good morning. When would you like to come in?",
            call("list_available_slots"),
            "Tomorrow I have two, half past two, and three in the afternoon.",
            call("schedule_appointment", {"slot_id": TWO.id}),
            "You are booked for tomorrow at two.",
        ],
        "get_email": [
            "What is your email address?",
            call("record_email", {"address": "ada@example.org"}),
            "ada@example.org, is that right?",
            call("confirm_email"),
        ],
    }
    calendar = FakeCalendar(slots=SLOTS, now=NOW)
    phone = open_app("front_desk", script, context=calendar)
    result = await phone.says("Can I have an appointment tomorrow?")
    result.expect.contains_function_call(name="list_available_slots")
    await result.expect.contains_message(agent="front_desk").judge(
        judge(), intent="offers times tomorrow between two and three in the afternoon, and no other day"
    )
    result = await phone.says("Two in the afternoon, please.")
    result.expect.contains_function_call(name="schedule_appointment", arguments={"slot_id": TWO.id})
    result.expect.contains_agent_handoff(new_agent="get_email")
    result = await phone.says("It is ada at example dot org.")
    result.expect.contains_function_call(name="record_email", arguments={"address": "ada@example.org"})
    assert list(calendar.scheduled_appointments) == []
    result = await phone.says("Yes, that's right.")
    result.expect.contains_function_call(name="confirm_email")
    result.expect.contains_agent_handoff(new_agent="front_desk")
    assert [(one.slot, one.email) for one in calendar.scheduled_appointments] == [(TWO, "ada@example.org")]
    await result.expect.contains_message(agent="front_desk").judge(judge(), intent="confirms a visit tomorrow at two")


async def test_an_empty_calendar_is_said_to_be_empty(open_app: Any) -> None:
    script = {
        "front_desk": ["Good morning.", call("list_available_slots"), "There is nothing free in the next two weeks."]
    }
    phone = open_app("front_desk", script, context=FakeCalendar(slots=[], now=NOW))
    result = await phone.says("What do you have in the next two weeks?")
    result.expect.contains_function_call(name="list_available_slots")
    await result.expect.contains_message(agent="front_desk").judge(
        judge(), intent="says that nothing is free; it may offer to look further"
    )
