"""The front desk: what a caller may try, on both front ends."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice.drawing.picture import EdgeKind, picture
from graph_voice.testing import Call, ScriptedModel, call, say
from graphs.front_desk import graph as app
from graphs.front_desk.appointments import Appointment, CalendarError, Slot
from graphs.front_desk.fake_calendar import FakeCalendar
from graphs.front_desk.graph import Visitor, graph

pytestmark = pytest.mark.virtual_clock

NOW = datetime(2026, 6, 12, 8, 0, tzinfo=UTC)
"""A Friday."""
RUNNING = "The tool call is still in progress."
LIST = call("list_available_slots")
GIVES = call("record_email", {"address": "ada@example.org"})
CONFIRMS = call("confirm_email")
STILL_HERE = "Take your time, I am still here."
ASKS = "What is your email address?"
EMAIL = [ASKS, GIVES, "ada@example.org, is that right?", CONFIRMS]


@pytest.fixture(params=["core", "livekit"])
def front_end(request: pytest.FixtureRequest) -> Any:
    return request.param


def at(days: int, hour: int, minute: int = 0) -> datetime:
    return NOW.replace(hour=hour, minute=minute) + timedelta(days=days)


SLOTS = [at(day, h, m) for day, hours in ((0, 9), (1, 14), (2, 11)) for h, m in ((hours, 0), (hours, 30))]
SLOTS += [at(0, 10), at(1, 15)]
TWO = Slot(start=at(1, 14)).id
"""Tomorrow at two."""
BOOKS = call("schedule_appointment", {"slot_id": TWO})


class SlowCalendar(FakeCalendar):
    """A calendar that takes four seconds to book."""

    begun = 0

    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        self.begun += 1
        await asyncio.sleep(4)
        return await super().schedule_appointment(start, email)


def calendar(slots: Sequence[datetime] = SLOTS, kind: type[FakeCalendar] = FakeCalendar) -> FakeCalendar:
    return kind(slots=slots, now=NOW)


def desk_call(front_end: Any, model: ScriptedModel, there: Any, **options: Any) -> Call[Visitor]:
    return Call(graph, llm=model, front_end=front_end, context=there, userdata=Visitor(), **options)


def booked(there: FakeCalendar) -> list[tuple[datetime, str]]:
    return [(found.slot.start, found.email) for found in there.scheduled_appointments]


def results(phone: Call[Any]) -> list[tuple[str, str]]:
    return [(m.name or "", m.text) for m in phone.messages if isinstance(m, ToolMessage)]


def shown(prompt: Any) -> str:
    """All that a model was shown."""
    return "\n".join(m.text for m in prompt.messages)


def scripted(desk: Sequence[Any], email: Sequence[Any] = EMAIL) -> ScriptedModel:
    return ScriptedModel(
        {"front_desk": ["Good morning. When would you like to come?", *desk], "get_email": list(email)}
    )


# ---- the rows of the original's tests


async def test_an_appointment_is_booked_with_an_address_that_was_spoken_and_confirmed(front_end: Any) -> None:
    there = calendar()
    model = scripted([say("Let me look.", LIST), "Tomorrow I have two, half past two, or three.", BOOKS, "See you."])
    async with desk_call(front_end, model, there) as phone:
        found = await phone.says("Can I come in tomorrow?")
        found.expect.contains_function_call(name="list_available_slots")
        lines = results(phone)[-1][1].splitlines()
        assert f"{TWO} – Saturday, June 13, 2026 at 14:00 UTC (tomorrow)" in lines
        assert len(lines) == len(SLOTS)
        chosen = await phone.says("Two in the afternoon.")
        chosen.expect.contains_function_call(name="schedule_appointment", arguments={"slot_id": TWO})
        chosen.expect.contains_agent_handoff(new_agent="get_email")
        assert phone.heard[-1] == ASKS
        assert (phone.active_agent, booked(there)) == ("get_email", [])
        spoken = await phone.says("It's ada at example dot org.")
        spoken.expect.contains_function_call(name="record_email", arguments={"address": "ada@example.org"})
        assert phone.heard[-1] == "ada@example.org, is that right?"
        assert (phone.active_agent, booked(there)) == ("get_email", [])
        confirmed = await phone.says("Yes.")
        confirmed.expect.contains_function_call(name="confirm_email")
        confirmed.expect.contains_agent_handoff(new_agent="front_desk")
        assert phone.heard[-1] == "See you."
        assert booked(there) == [(at(1, 14), "ada@example.org")]
        assert results(phone)[1] == (
            "schedule_appointment",
            "The visit is booked for Saturday, June 13 at 14:00. A confirmation goes to ada@example.org.",
        )
    assert not model.errors


async def test_an_address_that_is_typed_needs_no_confirmation(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Tomorrow at two?", BOOKS, "See you."], [ASKS, GIVES])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes, two.", "ada@example.org"):
            await phone.types(words)
        assert (phone.active_agent, phone.heard[-1]) == ("front_desk", "See you.")
        assert booked(there) == [(at(1, 14), "ada@example.org")]


async def test_an_empty_calendar_has_no_slots(front_end: Any) -> None:
    model = scripted([call("get_current_time"), LIST, "There is nothing in the next two weeks. Shall I look further?"])
    async with desk_call(front_end, model, calendar([])) as phone:
        await phone.says("Anything in the next two weeks?")
        assert results(phone) == [
            ("get_current_time", "Friday, June 12, 2026 at 08:00 UTC"),
            ("list_available_slots", "No slots available at the moment."),
        ]
        assert phone.heard[-1] == "There is nothing in the next two weeks. Shall I look further?"


# ---- tools


@pytest.mark.parametrize(("ahead", "days"), [("default", 14), ("+2week", 14), ("+1month", 30), ("+3month", 90)])
async def test_the_range_is_two_weeks_a_month_or_three(front_end: Any, ahead: str, days: int) -> None:
    there = calendar([at(day, 9) for day in range(100)])
    model = scripted([call("list_available_slots", {"range": ahead}), "Well."])
    async with desk_call(front_end, model, there) as phone:
        await phone.says("When?")
        assert len(results(phone)[0][1].splitlines()) == days
        assert len(phone.userdata.offered) == days


@pytest.mark.parametrize("known", [False, True], ids=["before listing", "after listing"])
async def test_a_slot_that_was_not_listed_is_refused_before_the_address_is_asked_for(
    front_end: Any, known: bool
) -> None:
    there = calendar()
    made_up = call("schedule_appointment", {"slot_id": "ST_MADEUP00" if known else TWO})
    model = scripted([*([LIST, "Tomorrow?"] if known else []), made_up, "Let me see what there is."])
    async with desk_call(front_end, model, there) as phone:
        for words in ["Tomorrow?", "Yes."][: 1 + known]:
            await phone.says(words)
        assert results(phone)[-1][1].startswith("There is no slot ")
        assert (phone.active_agent, booked(there)) == ("front_desk", [])


async def test_a_slot_that_somebody_else_has_booked_meanwhile_is_lost_and_not_offered_again(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "I am sorry, it is gone.", BOOKS, "It really is gone."])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        there.take(at(1, 14))
        await phone.says("Yes.")
        assert phone.heard[-1] == "I am sorry, it is gone."
        assert "isn't available anymore" in results(phone)[1][1]
        assert (phone.userdata.lost_slots, booked(there)) == (1, [])
        await phone.says("Try it once more.")
        assert results(phone)[-1][1].startswith("There is no slot ")
        assert phone.userdata.lost_slots == 1


async def test_what_was_booked_is_no_longer_listed(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "Done. Anything else?", LIST, "Half past two, or three."])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org", "Yes.", "What else is free?"):
            await phone.says(words)
        assert TWO not in results(phone)[-1][1]
        assert len(results(phone)[-1][1].splitlines()) == len(SLOTS) - 1


class Broken(FakeCalendar):
    async def list_available_slots(self, start: datetime, end: datetime) -> list[Slot]:
        raise CalendarError("503: secret-key")


class BrokenWhileItBooks(FakeCalendar):
    async def schedule_appointment(self, start: datetime, email: str) -> Appointment:
        raise CalendarError("timeout")


async def test_a_calendar_that_fails_is_no_empty_calendar_and_its_text_is_told_to_nobody(front_end: Any) -> None:
    model = scripted([LIST, "The calendar does not answer."])
    async with desk_call(front_end, model, calendar(kind=Broken)) as phone:
        await phone.says("Tomorrow?")
        assert results(phone)[0][1].startswith("The calendar does not answer.")
        assert "secret-key" not in repr(phone.messages)


async def test_a_calendar_that_fails_while_it_books_leaves_it_open_and_the_model_is_told_so(front_end: Any) -> None:
    model = scripted([LIST, "Two?", BOOKS, "I don't know whether it is booked."])
    async with desk_call(front_end, model, calendar(kind=BrokenWhileItBooks)) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org", "Yes."):
            await phone.says(words)
        assert "not known whether the visit was booked" in results(phone)[1][1]
        assert phone.userdata.lost_slots == 0


# ---- the email address


async def test_an_address_that_was_said_before_is_recorded_and_not_asked_for(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "See you."], [GIVES, "ada@example.org, is that right?", CONFIRMS])
    async with desk_call(front_end, model, there) as phone:
        await phone.says("Tomorrow? My address is ada at example dot org.")
        await phone.says("Two is fine.")
        assert phone.heard[-1] == "ada@example.org, is that right?"
        task = next(prompt for prompt in model.prompts if prompt.agent == "get_email")
        assert "My address is ada at example dot org." in shown(task)
        await phone.says("Yes.")
        assert booked(there) == [(at(1, 14), "ada@example.org")]


async def test_an_address_that_is_none_is_refused(front_end: Any) -> None:
    wrong = call("record_email", {"address": "ada at nowhere"})
    model = scripted([LIST, "Two?", BOOKS], [ASKS, wrong, "Once more, please?"])
    async with desk_call(front_end, model, calendar()) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at nowhere"):
            await phone.says(words)
        assert results(phone)[-1][1].startswith("Not an email address")
        assert phone.active_agent == "get_email"


async def test_what_the_caller_corrects_has_to_be_confirmed_anew(front_end: Any) -> None:
    there = calendar()
    corrects = say("", call("record_email", {"address": "ada@example.net"}), CONFIRMS)
    model = scripted([LIST, "Two?", BOOKS, "See you."], [*EMAIL[:3], corrects, "Dot net, then?", CONFIRMS])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org", "No, dot net."):
            await phone.says(words)
        assert (phone.active_agent, booked(there)) == ("get_email", [])
        await phone.says("Yes.")
        assert booked(there) == [(at(1, 14), "ada@example.net")]


async def test_a_caller_who_declines_is_answered_by_the_desk_and_nothing_is_booked(front_end: Any) -> None:
    there = calendar()
    declines = call("give_up", {"reason": "they keep their address to themselves"})
    model = scripted([LIST, "Two?", BOOKS, "Then I can't book it."], [ASKS, declines])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "I would rather not say."):
            await phone.says(words)
        assert (phone.active_agent, phone.heard[-1]) == ("front_desk", "Then I can't book it.")
        told = next(m for m in phone.messages if isinstance(m, ToolMessage) and m.name == "schedule_appointment")
        assert told.text == "Not booked, there is no email address: they keep their address to themselves"
        assert (told.status, booked(there)) == ("error", [])


async def test_a_change_of_mind_before_the_address_books_the_other_slot_only(front_end: Any) -> None:
    there = calendar()
    other = Slot(start=at(2, 11)).id
    again = say("", call("schedule_appointment", {"slot_id": other}))
    model = scripted(
        [LIST, "Two?", BOOKS, again, "See you on Sunday."],
        [ASKS, call("give_up", {"reason": "they want Sunday at eleven"}), "And your email address?", *EMAIL[1:]],
    )
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "No, wait, Sunday at eleven."):
            await phone.says(words)
        assert (phone.active_agent, phone.heard[-1]) == ("get_email", "And your email address?")
        for words in ("ada at example dot org", "Yes."):
            await phone.says(words)
        assert booked(there) == [(at(2, 11), "ada@example.org")]
        assert phone.heard[-1] == "See you on Sunday."


async def test_an_agent_that_the_program_puts_in_its_place_abandons_the_booking(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "Front desk again.", "Yes?"], [ASKS])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes."):
            await phone.says(words)
        await phone.update_agent("front_desk")
        assert results(phone)[1] == ("schedule_appointment", "not done: the task was abandoned.")
        await phone.says("ada at example dot org")
        assert (phone.active_agent, booked(there)) == ("front_desk", [])


async def test_a_caller_who_hangs_up_in_the_middle_has_booked_nothing(front_end: Any) -> None:
    there, saver = calendar(), InMemorySaver()
    model = scripted([LIST, "Two?", BOOKS], [ASKS])
    phone = desk_call(front_end, model, there, saver=saver, thread_id="1")
    async with phone:
        for words in ("Tomorrow?", "Yes."):
            await phone.says(words)
    state = await graph.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "1"}})
    asked = {c["id"] for m in state.values["messages"] if isinstance(m, AIMessage) for c in m.tool_calls}
    assert asked == {m.tool_call_id for m in state.values["messages"] if isinstance(m, ToolMessage)}
    assert booked(there) == []


# ---- barge-ins


async def test_a_caller_who_cuts_into_the_last_words_before_the_booking_books_nothing_yet(front_end: Any) -> None:
    there = calendar()
    model = scripted(
        [LIST, "Two?", BOOKS, "See you."],
        [*EMAIL[:3], say("Thank you, then I will book that now for you.", CONFIRMS), "What is wrong?", CONFIRMS],
    )
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        phone.barge_in("No, wait.", after_words=3)
        await phone.says("Yes.")
        assert (phone.active_agent, phone.heard[-1], booked(there)) == ("get_email", "What is wrong?", [])
        await phone.says("Nothing, it is fine.")
        assert booked(there) == [(at(1, 14), "ada@example.org")]


async def test_a_caller_who_cuts_in_between_the_address_and_the_booking_books_nothing(
    front_end: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slowly(ctx: Any) -> None:
        await asyncio.sleep(3)

    monkeypatch.setattr(app.get_email, "on_exit", slowly)
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "I have not booked it.", "Anything else?", "Well?"])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        phone.during_tool("confirm_email").says("No, wait.")
        await phone.says("Yes.")
        assert (phone.active_agent, booked(there)) == ("front_desk", [])
        assert results(phone)[1][1].startswith("Not booked")


def truthful(messages: Sequence[Any]) -> Any:
    """A front desk that says what its tools say."""
    told = [m.text for m in messages if m.type == "tool"]
    if any(text.startswith("The visit is booked") for text in told):
        return "It is booked."
    if RUNNING in told:
        return "One moment, I am booking it."
    return {0: "Good morning." if messages[-1].type != "human" or "Greet" in messages[-1].text else LIST}.get(
        len(told), BOOKS if messages[-1].type == "human" else "Two?"
    )


async def test_a_caller_who_cuts_in_while_it_is_booked_is_told_that_it_is(front_end: Any) -> None:
    there = calendar(kind=SlowCalendar)
    model = ScriptedModel({"front_desk": truthful, "get_email": EMAIL})
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        phone.during_tool("confirm_email").says("No, wait, don't.")
        await phone.says("Yes.")
        assert booked(there) == [(at(1, 14), "ada@example.org")]
        assert results(phone)[1][1].startswith("The visit is booked for Saturday, June 13 at 14:00.")
        assert phone.heard[-1].strip() == "It is booked."
    assert there.begun == 1


async def test_a_confirmation_that_was_cut_off_is_still_known(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "Wonderful, you are booked for tomorrow at two.", "At two."])
    async with desk_call(front_end, model, there) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        phone.barge_in("When was it again?", after_words=2)
        await phone.says("Yes.")
        # LiveKit protects the whole speech of a tool call that can't be interrupted, so this one is heard to its end.
        whole = "Wonderful, you are booked for tomorrow at two."
        assert phone.heard[-1] == ("At two." if front_end == "core" else whole)
        assert "The visit is booked for Saturday" in shown(model.prompts[-1])
        assert booked(there) == [(at(1, 14), "ada@example.org")]


async def test_a_guess_that_was_wrong_books_nothing(front_end: Any) -> None:
    there = calendar()
    model = ScriptedModel(
        {"front_desk": lambda messages: BOOKS if messages[-1].text == "Two" else "Well?", "get_email": [ASKS]}
    )
    async with desk_call(front_end, model, there) as phone:
        phone.userdata.offered[TWO] = Slot(start=at(1, 14))
        await phone.speculates("Two").then_says("Two or three, I am not sure")
        assert (phone.active_agent, booked(there)) == ("front_desk", [])
        assert phone.effects.count("schedule_appointment") == 0


# ---- the same call in other ways


TYPED = ["Tomorrow?", "Two, please.", "ada@example.org"]


async def test_a_typed_call_and_a_plain_run_end_in_the_same_state(front_end: Any) -> None:
    """As Studio runs it: no conversation, LangGraph's own checkpointer."""
    script = {"front_desk": [LIST, "Two?", BOOKS, "See you."], "get_email": [ASKS, GIVES]}
    there, saver = calendar(), InMemorySaver()
    model = ScriptedModel({**script, "front_desk": ["Good morning.", *script["front_desk"]]})
    async with desk_call(front_end, model, there, saver=saver, thread_id="1") as phone:
        for words in TYPED:
            await phone.types(words)
        ended = phone.userdata.model_dump(), phone.active_agent, booked(there)
        done = results(phone)
    stored = await graph.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "1"}})
    ids = [m.id for m in stored.values["messages"]]
    assert len(ids) == len(set(ids))
    assert [m.text for m in stored.values["messages"]] == [m.text for m in phone.messages]

    alone, compiled = calendar(), graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"llm": ScriptedModel(script), "thread_id": "2"}}
    for words in TYPED:
        state = await compiled.ainvoke({"messages": [("user", words)]}, config, context=alone)
    assert (state["userdata"].model_dump(), state["active_agent"], booked(alone)) == ended
    assert [(m.name, m.text) for m in state["messages"] if isinstance(m, ToolMessage)] == done


async def test_only_the_agents_words_are_spoken(front_end: Any) -> None:
    model = scripted([say("Let me look.", LIST), "Two?", BOOKS, "See you."])
    async with desk_call(front_end, model, calendar()) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org", "Yes."):
            await phone.says(words)
        assert phone.heard == [
            "Good morning. When would you like to come?",
            "Let me look.",
            "Two?",
            ASKS,
            "ada@example.org, is that right?",
            "See you.",
        ]


async def test_a_slow_calendar_is_bridged_by_a_line(front_end: Any) -> None:
    model = scripted([LIST, "Two?", BOOKS, "See you."])
    async with desk_call(front_end, model, calendar(kind=SlowCalendar)) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org", "Yes."):
            await phone.says(words)
        await phone.silence(5)  # less than the front desk waits before it says something
        told = [text.strip() for text in phone.heard[-2:]]
        assert told == ["One moment, I am entering it in the calendar.", "See you."]


async def test_a_silent_caller_is_told_that_somebody_is_there_but_not_while_the_calendar_is_asked(
    front_end: Any,
) -> None:
    model = scripted([LIST, "Two?", BOOKS, "See you."])
    async with desk_call(front_end, model, calendar(kind=SlowCalendar)) as phone:
        await phone.says("Tomorrow?")
        await phone.silence(12)
        assert phone.heard[-1] == STILL_HERE
        for words in ("Yes.", "ada at example dot org"):
            await phone.says(words)
        await phone.silence(60)
        assert phone.heard.count(STILL_HERE) == 4, "three times at most, until the caller speaks again"
        await phone.says("Yes.")
        await phone.silence(5)
        assert phone.heard[-1].strip() == "See you."


# ---- a process that dies


async def test_a_process_that_dies_while_the_address_is_asked_for_loses_nothing(front_end: Any) -> None:
    there = calendar()
    model = scripted([LIST, "Two?", BOOKS, "See you."], [*EMAIL[:3], "The line was cut. Is it right?", CONFIRMS])
    async with desk_call(front_end, model, there, saver=InMemorySaver()) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        await phone.crash().resume()
        assert phone.active_agent == "get_email"
        if phone.heard[-1] != "The line was cut. Is it right?":
            await phone.says("Hello?")
        await phone.says("Yes.")
        assert booked(there) == [(at(1, 14), "ada@example.org")]
        assert phone.heard[-1] == "See you."


async def test_a_process_that_dies_while_it_books_does_not_book_again(front_end: Any) -> None:
    there = calendar(kind=SlowCalendar)
    model = scripted([LIST, "Two?", BOOKS, "I don't know whether that went through.", "I will find out."])
    async with desk_call(front_end, model, there, saver=InMemorySaver()) as phone:
        for words in ("Tomorrow?", "Yes.", "ada at example dot org"):
            await phone.says(words)
        phone.during_tool("confirm_email").crash()
        await phone.says("Yes.")
        await phone.resume()
        await phone.silence(10)
        assert (phone.active_agent, there.begun) == ("front_desk", 1)
        assert not any(text.startswith("The visit is booked") for _, text in results(phone))


# ---- words


@pytest.mark.parametrize(("hour", "part"), [(0, "morning"), (11, "morning"), (12, "afternoon"), (18, "evening")])
async def test_the_greeting_goes_by_the_time_of_day(front_end: Any, hour: int, part: str) -> None:
    there = FakeCalendar(slots=[], now=at(0, hour))
    model = scripted([])
    async with desk_call(front_end, model, there) as phone:
        assert phone.greeting.heard.startswith("Good morning.")
        assert f'Greet the caller with "Good {part}"' in shown(model.prompts[0])
        assert "2026" not in shown(model.prompts[0]), "the prompt stays the same, so that a provider can cache it"


async def test_a_call_without_a_calendar_has_one_with_made_up_slots() -> None:
    async with Call(graph, llm=scripted([LIST, "Well."]), userdata=Visitor()) as phone:
        await phone.says("When?")
        assert all(line.startswith("ST_") for line in results(phone)[0][1].splitlines())
        assert len(phone.userdata.offered) > 10


def test_the_ways_are_to_the_task_and_back() -> None:
    drawn = picture(graph, agents_only=True)
    edges = {(e.source, e.target): set(e.labels) for e in drawn.edges if e.kind is EdgeKind.HANDOFF}
    assert edges[("front_desk", "get_email")] == {"schedule_appointment"}
