"""The graph: a front desk that lists free slots and books one, and a task that gets the email address for it."""

import functools
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, Field

from graph_voice import (
    Agent,
    Idle,
    RunContext,
    TaskFailed,
    ToolError,
    Voice,
    create_voice_graph,
    function_tool,
    history,
    tasks,
)

from .appointments import Calendar, CalendarError, Slot, SlotUnavailable
from .fake_calendar import FakeCalendar

RANGES = {"default": 14, "+2week": 14, "+1month": 30, "+3month": 90}
"""How far ahead `list_available_slots` looks, in days."""


class Visitor(BaseModel):
    """What is known of a call. What was booked is in the calendar, and nowhere else."""

    offered: dict[str, Slot] = {}
    """Id -> slot, of all slots that were listed: no other can be booked."""
    lost_slots: int = Field(default=0, description="How often a slot was gone when it was to be booked.")


@functools.cache
def practice_calendar() -> Calendar:
    """The calendar of calls that are given none: made-up slots, the same for all calls of this process."""
    return FakeCalendar(seed=1)


def calendar_of(ctx: RunContext[Visitor]) -> Calendar:
    """The calendar that the call was given as its context: `Conversation(graph, context=calendar)`."""
    given: Any = ctx.context
    return given if isinstance(given, Calendar) else practice_calendar()


# ---- dates in words


def relative(day: date, today: date) -> str:
    """How far away a day is, as people say it."""
    days = (day - today).days
    if days < 2:
        return ("today", "tomorrow")[max(days, 0)]
    return f"in {days} days" if days < 14 else f"in {days // 7} weeks"


def dated(moment: datetime) -> str:
    return f"{moment:%A}, {moment:%B} {moment.day}, {moment.year} at {moment:%H:%M} {moment:%Z}"


def listed(slot: Slot, now: datetime) -> str:
    """A slot as the model reads it."""
    start = slot.start.astimezone(now.tzinfo)
    return f"{slot.id} – {dated(start)} ({relative(start.date(), now.date())})"


# ---- the front desk


get_email = tasks.get_email(
    history=history.exclude_tool_calls(),  # an address that was said already is recorded, not asked for
    give_up="The caller does not want to give an email address, or wants something else first, such as another time.",
)


@function_tool
async def get_current_time(ctx: RunContext[Visitor]) -> str:
    """The date and the time now."""
    return dated(calendar_of(ctx).now())


@function_tool(filler="Let me look at the calendar.")
async def list_available_slots(
    ctx: RunContext[Visitor], range: Literal["default", "+2week", "+1month", "+3month"] = "default"
) -> str:
    """List the free slots, each with its id. Nothing else can be booked.

    Args:
        range: how far to look ahead: two weeks (the default), a month, or three months. Infer it from what the caller
            says, and never ask for it.
    """
    calendar = calendar_of(ctx)
    now = calendar.now()
    try:
        slots = await calendar.list_available_slots(now, now + timedelta(days=RANGES[range]))
    except CalendarError:
        raise ToolError("The calendar does not answer. Tell the caller, and offer to try once more.") from None
    ctx.userdata.offered |= {slot.id: slot for slot in slots}
    return "\n".join(listed(slot, now) for slot in slots) or "No slots available at the moment."


def slot_of(visitor: Visitor, slot_id: str) -> Slot | None:
    if slot_id == "first":
        return min(visitor.offered.values(), key=lambda slot: slot.start, default=None)
    return visitor.offered.get(slot_id)


@function_tool(tasks=[get_email], filler="One moment, I am entering it in the calendar.")
async def schedule_appointment(ctx: RunContext[Visitor], slot_id: str) -> str:
    """Book a slot that the caller has agreed to. They are asked for their email address first, so don't ask for it.

    Args:
        slot_id: the id of the slot, as list_available_slots gives it, or "first" for the earliest one that was listed.
    """
    slot = slot_of(ctx.userdata, slot_id)
    if slot is None:
        raise ToolError(f"There is no slot {slot_id}: call list_available_slots, and offer what it lists.")
    try:
        email = await ctx.run_task(get_email)
    except TaskFailed as declined:
        raise ToolError(f"Not booked, there is no email address: {declined.reason}") from None
    if ctx.interrupted:
        raise ToolError("Not booked: the caller cut in. Answer them, and book only if they still want it.")
    ctx.disallow_interruptions()  # from here on the calendar may have it
    return await book(ctx, slot, email.address)


async def book(ctx: RunContext[Visitor], slot: Slot, email: str) -> str:
    calendar = calendar_of(ctx)
    try:
        booked = await calendar.schedule_appointment(slot.start, email)
    except SlotUnavailable:
        ctx.userdata.lost_slots += 1
        ctx.userdata.offered.pop(slot.id, None)
        raise ToolError("This slot isn't available anymore. Tell the caller, and offer another one.") from None
    except CalendarError:
        raise ToolError(
            "The calendar did not answer, so it is not known whether the visit was booked. Tell the caller so, and "
            f"that the practice will write to {email}. Don't book it once more."
        ) from None
    ctx.userdata.offered.pop(slot.id, None)
    start = booked.slot.start.astimezone(calendar.now().tzinfo)
    return (
        f"The visit is booked for {start:%A}, {start:%B} {start.day} at {start:%H:%M}. A confirmation goes to {email}."
    )


class FrontDesk(Agent):
    name = "front_desk"
    instructions = (
        "You are the front desk of Juniper House, a physiotherapy practice, and talk to a caller on the phone: "
        "friendly, in short spoken sentences, without lists, formatting or ids. You book visits, and lead the call "
        "there: if the caller hesitates, offer a time.\n"
        "Times: get_current_time tells what today is; list_available_slots tells what is free. Say that you are "
        "looking before you look. Offer two or three times, grouped by day, and more only when they are asked for. Say "
        "days and times as people do, as in 'tomorrow at two in the afternoon': no AM or PM, no time zone, not the "
        "current year. Never name a time that was not listed: if what the caller wants is not there, say so, and offer "
        "what is close.\n"
        "Book only what the caller has agreed to, once. Say when it is booked, and when it is not, say why."
    )
    tools = (get_current_time, list_available_slots, schedule_appointment)
    voice = Voice(tts="inworld/inworld-tts-1:Ashley")

    async def on_enter(self, ctx: RunContext[Visitor]) -> None:
        hour = calendar_of(ctx).now().hour
        part = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
        await ctx.generate_reply(f'Greet the caller with "Good {part}", and ask when they would like to come in.')


graph = create_voice_graph(
    [FrontDesk(), get_email],
    userdata=Visitor,
    idle=Idle(after=10, every=10, say="Take your time, I am still here.", limit=3),
)
