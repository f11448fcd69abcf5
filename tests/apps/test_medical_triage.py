"""The clinic's triage: what a caller may try, in text and by voice."""

from typing import Any

import pytest
from app_call import GRAPHS, agents_of, app_call
from langchain_core.messages import ToolMessage

from graph_voice.drawing.picture import EdgeKind, picture
from graph_voice.launch.loading import load_graph
from graph_voice.testing import call, say

pytestmark = pytest.mark.virtual_clock

HELLO = "Elm Street Clinic. How can I help you?"
LINES = {
    ("triage", "support"): "I'll put you through to patient support.",
    ("triage", "billing"): "I'll put you through to our billing office.",
    ("support", "triage"): "Let me give you back to the front desk.",
    ("support", "billing"): "Billing can answer that. I'll connect you.",
    ("billing", "triage"): "Our front desk can help with that. One moment.",
    ("billing", "support"): "I'll pass you to patient support for that.",
}
"""What the old agent says, for each way."""


def to(agent: str) -> Any:
    return call(f"transfer_to_{agent}")


async def test_a_refill_is_for_support_whose_first_words_come_behind_the_line_of_triage(front_end: str) -> None:
    script = [HELLO, to("support"), "Patient support. Which medicine is it?", "I'll ask the doctor."]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says("I need a refill.")
        assert line.handoffs == [("triage", "support")]
        assert line.spoken == [
            ("triage", HELLO),
            ("triage", LINES["triage", "support"]),
            ("support", "Patient support. Which medicine is it?"),
        ]
        await line.says("The blue pills.")
        assert line.current_agent == "support"
        assert line.model.agents[-1] == "support"


async def test_a_bill_is_for_billing_which_asks_who_is_calling(front_end: str) -> None:
    born = {"name": "Ada Byron", "date_of_birth": "1980-05-03"}
    script = [HELLO, to("billing"), "Who is calling?", call("confirm_identity", born), "Thank you, Ada."]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says("There is a charge on my bill.")
        assert line.current_agent == "billing"
        assert "ask for full name and date of birth" in line.prompt(-1)
        await line.says("Ada Byron, May 3, 1980.")
        assert (line.state.name, line.state.identity_confirmed) == ("Ada Byron", True)
        assert "1980" in line.prompt(-2)
        assert "1980" not in line.prompt(-1) + repr(line.conversation.messages)
        assert "identity is confirmed" in line.prompt(-1)


async def test_a_date_that_is_none_confirms_nobody(front_end: str) -> None:
    wrong = call("confirm_identity", {"name": "Ada", "date_of_birth": "2999-01-01"})
    async with app_call("medical_triage", front_end, [HELLO, to("billing"), "Who?", wrong, "Once more?"]) as line:
        await line.says("My bill.", "Ada, January 1, 2999.")
        assert line.results[-1] == ("confirm_identity", "That is no date of birth: ask for it again.")
        assert not line.state.identity_confirmed


async def test_anything_else_goes_from_billing_to_triage(front_end: str) -> None:
    script = [HELLO, to("billing"), "Who is calling?", to("triage"), "What else can I do?"]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says("My bill.", "No, it is about something else.")
        assert line.handoffs == [("triage", "billing"), ("billing", "triage")]
        assert line.spoken[-2:] == [("billing", LINES["billing", "triage"]), ("triage", "What else can I do?")]


async def test_an_unclear_opening_is_asked_about(front_end: str) -> None:
    async with app_call("medical_triage", front_end, [HELLO, "Is it medical, or a bill?"]) as line:
        await line.says("I have a problem.")
        assert (line.current_agent, line.handoffs) == ("triage", [])


async def test_a_name_given_to_triage_is_known_to_support(front_end: str) -> None:
    script = [HELLO, say("", call("note_caller", {"name": "Ada"}), to("support")), "Hello Ada."]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says("It's Ada, I need a refill.")
        assert "name: Ada" in line.prompt(-1).partition("What is known so far:")[2]
        assert line.spoken[-1] == ("support", "Hello Ada.")


@pytest.mark.parametrize("way", sorted(LINES), ids=" to ".join)
async def test_each_way_has_its_line_in_the_voice_of_the_agent_that_leaves(
    front_end: str, way: tuple[str, str]
) -> None:
    old, new = way
    before = [] if old == "triage" else [to(old), "Here I am."]
    async with app_call("medical_triage", front_end, [HELLO, *before, to(new), "And here I am."]) as line:
        await line.says(*(["First."] if before else []), "Now.")
        assert line.spoken[-2:] == [(old, LINES[way]), (new, "And here I am.")]
        if line.rig is not None:
            declared = {n: str(a.voice.tts) for n, a in agents_of(load_graph(str(GRAPHS / "medical_triage"))).items()}
            assert len(set(declared.values())) == 3
            used = [s.voice for s in line.rig.spoken if s.text.strip()]
            assert used[-2:] == [f"{old}/{declared[old]}", f"{new}/{declared[new]}"]


async def test_a_long_call_carries_six_items_and_no_other_agents_instructions(front_end: str) -> None:
    noted = [say("", call("note_caller", {"reason": f"reason {i}"})) for i in range(8)]
    script: list[Any] = [HELLO]
    for i, note in enumerate(noted):
        script += [note, f"Noted, number {i}."]
    script += [f"Number {i}." for i in range(12)]
    script += [to("support"), "Patient support."]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says(*(f"Words {i}." for i in range(20)), "A refill, please.")
        carried = line.carried(-1)
        assert 1 <= len(carried) <= 6
        ids = [m.id for m in carried]
        assert len(set(ids)) == len(ids)
        assert not isinstance(carried[0], ToolMessage)
        assert "You are the first to answer" not in line.prompt(-1)
        assert line.prompt(-1).count("What is known so far:") == 1


async def test_coming_back_again_and_again_adds_no_second_summary(front_end: str) -> None:
    script: list[Any] = [HELLO]
    for agent in ("support", "triage", "support", "triage", "support"):
        script += [to(agent), "Here I am."]
    async with app_call("medical_triage", front_end, script) as line:
        await line.says(*["There.", "Back."] * 2, "There.")
        assert line.prompt(-1).count("What is known so far:") == 1
        carried = [m.id for m in line.carried(-1)]
        assert len(carried) == len(set(carried)) <= 24, "its own part of the call, and six messages"


async def test_a_caller_who_cuts_into_the_line_is_answered_by_the_new_agent() -> None:
    script = [HELLO, to("support"), "It takes a day."]
    async with app_call("medical_triage", "voice", script) as line:
        assert line.rig is not None
        await line.rig.user_says("I need a refill.")
        line.said.append("I need a refill.")
        await line.rig.until_speaking()
        await line.rig.user_says("How long does it take?")
        line.said.append("How long does it take?")
        await line.rig.until_idle()
        assert line.handoffs == [("triage", "support")], "the transfer happens, and not by halves"
        heard = [text for agent, text in line.spoken if agent == "triage"][-1]
        assert heard != LINES["triage", "support"]
        assert LINES["triage", "support"].startswith(heard)
        assert line.spoken[-1] == ("support", "It takes a day.")
        assert "How long does it take?" in line.prompt(-1)


def test_six_ways_are_drawn_and_labelled() -> None:
    drawn = picture(load_graph(str(GRAPHS / "medical_triage")))
    edges = {(e.source, e.target, e.label) for e in drawn.edges if e.kind is EdgeKind.HANDOFF}
    assert edges == {(old, new, f"transfer_to_{new}") for old, new in LINES}


def test_the_restaurants_ways_are_those_of_its_table() -> None:
    drawn = picture(load_graph(str(GRAPHS / "restaurant")), agents_only=True)
    edges = {(e.source, e.target): set(e.labels) for e in drawn.edges if e.kind is EdgeKind.HANDOFF}
    assert edges == {
        ("greeter", "reservation"): {"transfer_to_reservation"},
        ("greeter", "takeaway"): {"transfer_to_takeaway"},
        ("reservation", "greeter"): {"transfer_to_greeter", "confirm_reservation"},
        ("takeaway", "checkout"): {"to_checkout"},
        ("takeaway", "greeter"): {"transfer_to_greeter"},
        ("checkout", "greeter"): {"transfer_to_greeter", "confirm_checkout"},
        ("checkout", "takeaway"): {"transfer_to_takeaway"},
    }
