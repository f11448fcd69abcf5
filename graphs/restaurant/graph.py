"""The graph: a greeter who passes callers on, reservations, takeaway and checkout."""

import re

from pydantic import SecretStr

from graph_voice import Agent, Handoff, RunContext, ToolError, Voice, create_voice_graph, function_tool, history

from .guest import Card, Guest, Line
from .menu import card_of_the_day
from .payments import CardDeclined, charge

HOUSE = "You work for The Copper Ladle, a small restaurant, and talk to a caller on the phone: short, warm, no lists."

carried = history.exclude_instructions() | history.truncate(max_items=6) | history.resume() | history.userdata_summary()
"""What the next agent is shown: its own earlier part of the call, if it has one, the last messages, and what is known
about the caller. It never contains secrets."""

OPEN = "If the caller has just asked for something, answer that and don't greet. Otherwise: "
"""An agent that gets the caller back does not greet over a question that stands open."""


# ---- tools that several agents have


@function_tool
async def update_name(ctx: RunContext[Guest], name: str) -> str:
    """Note the caller's name. Confirm the spelling before you call this."""
    ctx.userdata.name = name
    return f"The name is {name}."


@function_tool
async def update_phone(ctx: RunContext[Guest], phone: str) -> str:
    """Note the caller's phone number. Confirm it before you call this."""
    ctx.userdata.phone = phone
    return f"The phone number is {phone}."


def to_greeter(what: str) -> Handoff:
    return Handoff("greeter", f"Give the caller back to the greeter for anything but {what}.", history=carried)


# ---- greeter


def greeting(guest: Guest) -> str:
    if guest.checked_out:
        return f"{OPEN}Thank {guest.name or 'the caller'} for the order, which is paid, and ask what else you can do."
    if guest.reserved:
        return f"{OPEN}Tell {guest.name} that you look forward to the visit, and ask what else you can do."
    return f"{OPEN}Greet the caller, and ask whether they would like a table or something to take away."


greeter = Agent(
    "greeter",
    instructions=(
        f"{HOUSE} You are the greeter. On the menu today: {card_of_the_day()}. Find out whether the caller wants a "
        "table or food to take away, and pass the caller on. Answer questions about the menu yourself."
    ),
    on_enter=greeting,
    on_enter_tools="none",
    handoffs=[
        Handoff("reservation", "Pass the caller on to book a table, or to change a booking.", history=carried),
        Handoff("takeaway", "Pass the caller on to order food to take away.", history=carried),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Ashley"),
)


# ---- reservation


@function_tool
async def update_reservation_time(ctx: RunContext[Guest], time: str) -> str:
    """Note when the caller wants the table. Confirm day and time before you call this."""
    ctx.userdata.table_for, ctx.userdata.reserved = time, False
    return f"The table is for {time}."


@function_tool(handoffs=["greeter"])
async def confirm_reservation(ctx: RunContext[Guest]) -> str | Handoff:
    """Book the table, once the caller has confirmed time, name and phone number."""
    guest = ctx.userdata
    if not guest.name or not guest.phone:
        return "Not booked: ask for the caller's name and phone number first."
    if not guest.table_for:
        return "Not booked: ask for the time first."
    guest.reserved = True
    return ctx.handoff("greeter", f"Booked for {guest.table_for} in the name of {guest.name}.")


reservation = Agent(
    "reservation",
    instructions=(
        f"{HOUSE} You book tables. Ask for day and time, then for name and phone number, one after the other, and not "
        "for what is known. Repeat all of it, and book when the caller agrees."
    ),
    on_enter=lambda guest: "Ask for day and time." if not guest.table_for else "Ask what to change about the booking.",
    on_enter_tools="none",
    tools=[update_reservation_time, update_name, update_phone, confirm_reservation],
    handoffs=[to_greeter("booking a table")],
    voice=Voice(tts="inworld/inworld-tts-1:Diego"),
)


# ---- takeaway


@function_tool
async def update_order(ctx: RunContext[Guest], items: list[Line]) -> str:
    """Note the order: all of it, each time it changes. It replaces what was noted before."""
    guest = ctx.userdata
    guest.order, guest.expense, guest.checked_out = items, None, False
    return f"The order is {', '.join(map(str, items)) or 'empty'}: {guest.total:.2f} dollars."


@function_tool(handoffs=["checkout"])
async def to_checkout(ctx: RunContext[Guest]) -> str | Handoff:
    """Pass the caller on to pay, once the order is confirmed."""
    if not ctx.userdata.order:
        return "Not done: there is no order yet. Ask the caller for one."
    return ctx.handoff("checkout")


takeaway = Agent(
    "takeaway",
    instructions=(
        f"{HOUSE} You take orders for takeaway. On the menu today, and nothing else: {card_of_the_day()}. Ask for "
        "special wishes, repeat the order, and pass the caller on to pay when it is right."
    ),
    on_enter=lambda guest: "Ask what to change about the order." if guest.order else "Ask what the caller would like.",
    on_enter_tools="none",
    tools=[update_order, to_checkout],
    handoffs=[Handoff("checkout", history=carried, tool=False), to_greeter("food to take away")],
    voice=Voice(tts="inworld/inworld-tts-1:Olivia"),
)


# ---- checkout


@function_tool
async def confirm_expense(ctx: RunContext[Guest], dollars: float) -> str:
    """Note what the caller has agreed to pay."""
    guest = ctx.userdata
    if abs(dollars - guest.total) >= 0.01:
        raise ToolError(f"The order comes to {guest.total:.2f} dollars, not {dollars:.2f}: tell the caller.")
    guest.expense = dollars
    return f"Agreed: {dollars:.2f} dollars."


@function_tool
async def update_credit_card(
    ctx: RunContext[Guest], number: SecretStr, expiry: SecretStr, security_code: SecretStr
) -> str:
    """Take the caller's card: the number, the month and year of expiry, and the security code."""
    digits, code = (re.sub(r"\D", "", s.get_secret_value()) for s in (number, security_code))
    if not 13 <= len(digits) <= 19 or not 3 <= len(code) <= 4:
        raise ToolError("That is no card: the number has 13 to 19 digits, the code 3 or 4. Ask the caller to repeat.")
    ctx.userdata.card = Card(number=SecretStr(digits), expiry=expiry, security_code=SecretStr(code))
    return "The card is noted."


@function_tool(handoffs=["greeter"])
async def confirm_checkout(ctx: RunContext[Guest]) -> str | Handoff:
    """Take the payment, once the caller has agreed to the amount and has given the card."""
    guest = ctx.userdata
    if guest.expense is None:
        return "Not paid: let the caller agree to the amount first."
    if guest.card is None:
        return "Not paid: ask for the card first, with expiry and security code."
    try:
        await charge(guest.card, guest.expense, key=str(ctx.tool_call_id))
    except CardDeclined:
        guest.card = None
        raise ToolError("The bank declined the card. Ask the caller for another one.") from None
    guest.card, guest.checked_out = None, True  # nobody needs it any more
    return ctx.handoff("greeter", "Paid.")


checkout = Agent(
    "checkout",
    instructions=lambda guest: (
        f"{HOUSE} You take the payment for the order, which comes to {guest.total:.2f} dollars. Let the caller agree "
        "to that, then ask for name and phone number if they are not known, then for the card: number, expiry and "
        "security code, one after the other. Never repeat any of the card's numbers."
    ),
    on_enter=lambda guest: f"Say that the order comes to {guest.total:.2f} dollars, and ask whether that is right.",
    on_enter_tools="none",
    tools=[confirm_expense, update_name, update_phone, update_credit_card, confirm_checkout],
    handoffs=[
        Handoff("takeaway", "Give the caller back to change the order.", history=carried),
        to_greeter("paying for the order"),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Edward"),
)

graph = create_voice_graph([greeter, reservation, takeaway, checkout], userdata=Guest)
