"""An agent that gets the caller back: it knows its own part of the call, answers an open question, and speaks of what
happened last."""

from typing import Any

import pytest

from graph_voice.launch.loading import load_graph
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock

CARD = {"number": "5193 8765 2091 3657", "expiry": "12/28", "security_code": "917"}


@pytest.fixture(params=["core", "livekit"])
def front_end(request: pytest.FixtureRequest) -> Any:
    return request.param


def to(agent: str) -> Any:
    return call(f"transfer_to_{agent}")


def shown(model: ScriptedModel, agent: str) -> list[str]:
    """What this agent's model was shown last."""
    return [m.text for m in [p for p in model.prompts if p.agent == agent][-1].messages]


def asked(model: ScriptedModel, agent: str) -> str:
    """The instructions of this agent's last first words."""
    return [text for text in shown(model, agent) if "<instructions>" in text][-1]


async def played(front_end: Any, app: str, script: dict[str, list[Any]], words: list[str]) -> tuple[Call[Any], Any]:
    model = ScriptedModel(script)
    phone: Call[Any] = Call(load_graph(f"graphs/{app}"), llm=model, front_end=front_end)
    async with phone:
        for said in words:
            await phone.says(said)
    return phone, model


BACK = {
    "restaurant": ("greeter", "takeaway", "By the way, our terrace is open."),
    "medical_triage": ("triage", "billing", "By the way, we have moved to the second floor."),
}


@pytest.mark.parametrize("app", BACK)
async def test_it_knows_what_it_said_long_ago_and_answers_the_open_question(front_end: Any, app: str) -> None:
    first, second, remark = BACK[app]
    script = {
        first: [f"Hello. {remark} How can I help?", to(second), "Yes, it is."],
        second: ["What is it about?", *(f"I see, part {n}." for n in range(6)), to(first)],
    }
    words = ["Please.", *(f"Part {n}." for n in range(6)), "Is that still so on Sunday?"]
    phone, model = await played(front_end, app, script, words)
    assert (phone.active_agent, phone.heard[-1]) == (first, "Yes, it is.")
    seen = "\n".join(shown(model, first))
    assert remark in seen, "its own words, long before the last six messages"
    assert "Is that still so on Sunday?" in seen
    assert "Part 0." not in seen, "of the others' talk it sees the end"
    assert "If the caller has just asked for something" in asked(model, first)
    assert "Greet" not in asked(model, first).replace("don't greet", "")


@pytest.mark.parametrize("app", BACK)
async def test_a_caller_who_cuts_into_its_first_words_is_answered(front_end: Any, app: str) -> None:
    first, second, remark = BACK[app]
    script = {
        first: [f"Hello. {remark}", to(second), "So here I am again, what else can I do for you today?", "Until ten."],
        second: ["What is it about?", to(first)],
    }
    model = ScriptedModel(script)
    async with Call[Any](load_graph(f"graphs/{app}"), llm=model, front_end=front_end) as phone:
        await phone.says("Please.")
        phone.barge_in("Until when are you there?", after_words=3)
        await phone.says("Something else.")
        assert (phone.active_agent, phone.heard[-1]) == (first, "Until ten.")
        assert "Until when are you there?" in shown(model, first)[-1]


BOOKS = [
    say(
        "",
        call("update_reservation_time", {"time": "Friday at seven"}),
        call("update_name", {"name": "Ada"}),
        call("update_phone", {"phone": "555 0134"}),
    ),
    "Shall I book it?",
    call("confirm_reservation"),
]
ORDERS = [call("update_order", {"items": [{"dish": "soup"}]}), "6 dollars. Pay?", call("to_checkout")]
PAYS = [
    say("", call("confirm_expense", {"dollars": 6}), call("update_credit_card", CARD)),
    "Shall I?",
    call("confirm_checkout"),
]
WAYS: dict[str, tuple[dict[str, list[Any]], list[str], list[str]]] = {
    "a table, then food": (
        {
            "greeter": [to("reservation"), "Anything else?", to("takeaway"), "Anything else?"],
            "reservation": ["When?", *BOOKS],
            "takeaway": ["What?", *ORDERS],
            "checkout": ["6 dollars?", *PAYS],
        },
        ["A table.", "Friday at seven, Ada, 555 0134.", "Yes.", "Food.", "Soup.", "Pay.", "Here is my card.", "Yes."],
        ["look forward to the visit", "for the order, which is paid"],
    ),
    "food, then a table": (
        {
            "greeter": [to("takeaway"), "Anything else?", to("reservation"), "Anything else?"],
            "reservation": ["When?", *BOOKS],
            "takeaway": ["What?", *ORDERS],
            "checkout": ["6 dollars?", *PAYS],
        },
        ["Food.", "Soup.", "Pay.", "Here is my card.", "Yes.", "A table.", "Friday at seven, Ada, 555 0134.", "Yes."],
        ["for the order, which is paid", "look forward to the visit"],
    ),
    "a table, then nothing": (
        {
            "greeter": [to("reservation"), "Anything else?", to("takeaway"), "What else?"],
            "reservation": ["When?", *BOOKS],
            "takeaway": ["What would you like?", to("greeter")],
        },
        ["A table.", "Friday at seven, Ada, 555 0134.", "Yes.", "Food.", "No, I have changed my mind."],
        ["look forward to the visit", "Ask Ada what else you can do."],
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_greeting_speaks_of_what_happened_last(front_end: Any, way: str) -> None:
    script, words, greetings = WAYS[way]
    script = {**script, "greeter": ["Good evening.", *script["greeter"]]}
    _, model = await played(front_end, "restaurant", script, words)
    said = [m.text for p in model.prompts if p.agent == "greeter" for m in p.messages[-1:] if "<instr" in m.text]
    assert len(said) == 3
    assert "Greet the caller" in said[0]
    for greeting, wanted in zip(said[1:], greetings, strict=True):
        assert wanted in greeting
        assert sum(other in greeting for other in ("look forward", "which is paid", "what else you can do.")) <= 2
        assert ("look forward" in greeting) + ("which is paid" in greeting) == (wanted[:3] != "Ask")


async def test_a_table_that_is_booked_is_not_booked_again(front_end: Any) -> None:
    script = {
        "greeter": ["Good evening.", to("reservation"), "Anything else?", to("reservation"), "It is booked."],
        "reservation": ["When?", *BOOKS, "What shall I change?", call("confirm_reservation")],
    }
    words = ["A table.", "Friday at seven, Ada, 555 0134.", "Yes.", "The booking again.", "Is it booked?"]
    phone, _ = await played(front_end, "restaurant", script, words)
    told = [m.text for m in phone.messages if m.type == "tool" and m.name == "confirm_reservation"]
    assert told == [f"Booked{more} for Friday at seven in the name of Ada." for more in ("", " already")]


async def test_an_identity_is_that_of_the_name_that_was_confirmed(front_end: Any) -> None:
    born = {"name": "Ada Byron", "date_of_birth": "05/03/1980"}
    script = {
        "triage": ["Hello.", to("billing"), "Yes?", call("note_caller", {"name": "Bob Byron"}), "Noted."],
        "billing": ["Who is calling?", call("confirm_identity", born), "Thank you.", to("triage")],
    }
    words = ["My bill.", "Ada Byron, May 3, 1980.", "The front desk.", "By the way, it is Bob who is speaking."]
    phone, _ = await played(front_end, "medical_triage", script, words)
    assert (phone.userdata.name, phone.userdata.identity_confirmed) == ("Bob Byron", False)
