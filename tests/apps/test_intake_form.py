"""The intake form: four tasks in order, back to one of them, and a crash in the middle, on both front ends."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice.testing import Call, ScriptedModel, call
from graphs.intake_form import Applicant, graph

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]

NAME = ["What is your name?", call("record_name", {"first": "Ada", "last": "Lovelace"})]
EMAIL = ["Your email?", call("record_email", {"address": "ada@x.org"}), "ada@x.org, right?", call("confirm_email")]
PHONE = ["Your number?", call("record_phone_number", {"number": "555 0123 456"})]
EXPERIENCE = ["How many years?", call("complete_get_experience", {"years": 12})]
WORDS = ["I'd like to apply.", "Ada Lovelace.", "ada at x dot org", "Yes.", "555 0123 456", "Twelve."]


def applying(**more: list[Any]) -> ScriptedModel:
    script = {"get_name": NAME, "get_email": EMAIL, "get_phone_number": PHONE, "get_experience": EXPERIENCE}
    return ScriptedModel({"recruiter": ["Would you like to apply?", call("apply"), "All done."], **script, **more})


def found(phone: Call[Any]) -> tuple[Any, ...]:
    form = phone.userdata.form
    return form.get_name.full, form.get_email.address, form.get_phone_number.number, form.get_experience.years


@pytest.mark.parametrize("typed", [False, True], ids=["spoken", "typed"])
async def test_the_form_is_filled_in_step_by_step(front_end: Any, typed: bool) -> None:
    model = applying()
    async with Call(graph, llm=model, userdata=Applicant(), front_end=front_end) as phone:
        agents = []
        for words in WORDS:
            await (phone.types if typed else phone.says)(words)
            agents.append(phone.active_agent)
        assert agents == [
            "get_name",
            "get_email",
            "get_email",
            "get_phone_number",
            "get_experience",
            "recruiter",
        ]
        assert found(phone) == ("Ada Lovelace", "ada@x.org", "5550123456", 12)
        assert phone.heard[-1] == "All done."
        (told,) = [m.text for m in phone.messages if isinstance(m, ToolMessage) and m.name == "apply"]
        assert told == "The application of Ada Lovelace is complete. We will write to ada@x.org"
        # The recruiter is shown the form that its tool has, and nothing of the steps.
        assert not [m for m in model.prompts[-1].messages if isinstance(m, AIMessage) and "Your email?" in m.text]
    assert not model.errors


async def test_the_caller_goes_back_to_a_step_and_then_on_where_they_were(front_end: Any) -> None:
    again = ["Your email again?", call("record_email", {"address": "ada@y.org"}), "ada@y.org?", call("confirm_email")]
    back = call("go_back", {"steps": ["get_email"]})
    model = applying(get_email=[*EMAIL, *again], get_phone_number=[PHONE[0], back, "And your number?", PHONE[1]])
    async with Call(graph, llm=model, userdata=Applicant(), front_end=front_end) as phone:
        for words in WORDS[:4]:
            await phone.says(words)
        await phone.says("Wait, my email was wrong.")
        assert phone.active_agent == "get_email"
        for words in ["ada at y dot org", "Yes.", *WORDS[4:]]:
            await phone.says(words)
        assert found(phone) == ("Ada Lovelace", "ada@y.org", "5550123456", 12)
    assert not model.errors


async def test_a_crash_in_the_third_step_loses_nothing(front_end: Any) -> None:
    model = applying(get_phone_number=["Your number?", "Sorry, your number?", PHONE[1]])
    async with Call(graph, llm=model, userdata=Applicant(), front_end=front_end, saver=InMemorySaver()) as phone:
        for words in WORDS[:4]:
            await phone.says(words)
        await phone.crash().resume()
        assert phone.active_agent == "get_phone_number"
        if phone.heard[-1] != "Sorry, your number?":
            await phone.says("Hello?")
        for words in WORDS[4:]:
            await phone.says(words)
        assert found(phone) == ("Ada Lovelace", "ada@x.org", "5550123456", 12)


async def test_the_caller_gives_up_and_the_recruiter_is_told_why(front_end: Any) -> None:
    model = applying(get_name=["What is your name?", call("give_up", {"reason": "they would rather not say"})])
    async with Call(graph, llm=model, userdata=Applicant(), front_end=front_end) as phone:
        await phone.says("I'd like to apply.")
        await phone.says("I would rather not say.")
        assert (phone.active_agent, phone.userdata.form) == ("recruiter", None)
        assert next(m.text for m in phone.messages if isinstance(m, ToolMessage)) == "they would rather not say"
