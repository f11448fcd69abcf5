"""The graph: a greeter who passes callers on, reservations, takeaway and checkout."""

import re

from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr

from graph_voice import Agent, Handoff, RunContext, ToolError, Voice, create_voice_graph, function_tool, history

from .guest import Card, Guest, Line
from .menu import card_of_the_day
from .payments import CardDeclined, charge

HOUSE = "You work for The Copper Ladle, a small restaurant, and talk to a caller on the phone: short, warm, no lists."

known = history.userdata_summary(exclude=["news", "welcomed", "payments", "declined"])
others = history.exclude_instructions() | history.truncate(max_items=6)
carried = others | history.resume() | history.truncate(max_items=24) | known
"""What the next agent is shown: the last six messages, behind its own earlier part of the call if it has one, and what
is known about the caller. It never contains secrets."""

OPEN = "If the caller has just asked for something, answer that and don't greet. Otherwise: "
"""An agent that gets the caller does not speak over a question that stands open."""


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
    caller = guest.name or "the caller"
    if guest.news == "paid":
        return f"{OPEN}Thank {caller} for the order, which is paid, and ask what else you can do."
    if guest.news == "booked":
        return f"{OPEN}Tell {caller} that you look forward to the visit, and ask what else you can do."
    if guest.welcomed:
        return f"{OPEN}Ask {caller} what else you can do."
    return f"{OPEN}Greet the caller, and ask whether they would like a table or something to take away."


async def greeted(ctx: RunContext[Guest]) -> None:
    """The caller goes on from the greeter, so the next greeting is about what happens from here on."""
    ctx.userdata.welcomed, ctx.userdata.news = True, None


greeter = Agent(
    "greeter",
    instructions=(
        f"{HOUSE} You are the greeter. On the menu today: {card_of_the_day()}. Find out whether the caller wants a "
        "table or food to take away, and pass the caller on. Answer questions about the menu yourself."
    ),
    on_enter=greeting,
    on_exit=greeted,
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
    if guest.reserved:
        return ctx.handoff("greeter", f"Booked already for {guest.table_for} in the name of {guest.name}.")
    if not guest.name or not guest.phone:
        return "Not booked: ask for the caller's name and phone number first."
    if not guest.table_for:
        return "Not booked: ask for the time first."
    guest.reserved, guest.news = True, "booked"
    return ctx.handoff("greeter", f"Booked for {guest.table_for} in the name of {guest.name}.")


reservation = Agent(
    "reservation",
    instructions=(
        f"{HOUSE} You book tables. Ask for day and time, then for name and phone number, one after the other, and not "
        "for what is known. Repeat all of it, and book when the caller agrees."
    ),
    on_enter=lambda guest: (
        OPEN + ("Ask for day and time." if not guest.table_for else "Ask what to change about the booking.")
    ),
    on_enter_tools="none",
    tools=[update_reservation_time, update_name, update_phone, confirm_reservation],
    handoffs=[to_greeter("booking a table")],
    voice=Voice(tts="inworld/inworld-tts-1:Diego"),
)


# ---- takeaway


@function_tool
async def update_order(ctx: RunContext[Guest], items: list[Line]) -> str:
    """Note the order: all of it, each time it changes, with what is paid already. It replaces what was noted before."""
    guest = ctx.userdata
    guest.wants(items)
    told = f"The order is {', '.join(map(str, guest.order)) or 'empty'}: {guest.total:.2f} dollars."
    if guest.paid_for:
        told += f" {guest.total - guest.due:.2f} dollars of it are paid, {guest.due:.2f} are to be paid."
    return told


@function_tool(handoffs=["checkout"])
async def to_checkout(ctx: RunContext[Guest]) -> str | Handoff:
    """Pass the caller on to pay, once the order is confirmed."""
    if not ctx.userdata.order:
        return "Not done: there is no order yet. Ask the caller for one."
    if not ctx.userdata.due:
        return "Not done: the order is paid already. Ask the caller what else they would like."
    return ctx.handoff("checkout")


def offer(guest: Guest) -> str:
    if guest.due:
        return f"{OPEN}Ask what to change about the order."
    return f"{OPEN}Ask what else the caller would like." if guest.order else f"{OPEN}Ask what the caller would like."


takeaway = Agent(
    "takeaway",
    instructions=(
        f"{HOUSE} You take orders for takeaway. On the menu today, and nothing else: {card_of_the_day()}. Ask for "
        "special wishes, repeat the order, and pass the caller on to pay when it is right."
    ),
    on_enter=offer,
    on_enter_tools="none",
    tools=[update_order, to_checkout],
    handoffs=[Handoff("checkout", history=carried, tool=False), to_greeter("food to take away")],
    voice=Voice(tts="inworld/inworld-tts-1:Olivia"),
)


# ---- checkout

PAID = "Paid already: nothing is left to pay. Tell the caller so."
under_way: set[str] = set()
"""The payments that the bank works on now: a caller who asks again meanwhile does not pay again."""


@function_tool
async def confirm_expense(ctx: RunContext[Guest], dollars: float) -> str:
    """Note what the caller has agreed to pay."""
    guest = ctx.userdata
    if guest.checked_out:
        return PAID
    if abs(dollars - guest.due) >= 0.01:
        raise ToolError(f"The order comes to {guest.due:.2f} dollars, not {dollars:.2f}: tell the caller.")
    guest.expense = dollars
    return f"Agreed: {dollars:.2f} dollars."


@function_tool
async def update_credit_card(
    ctx: RunContext[Guest], number: SecretStr, expiry: SecretStr, security_code: SecretStr
) -> str:
    """Take the caller's card: the number, the month and year of expiry, and the security code."""
    if ctx.userdata.checked_out:
        return PAID
    digits, code = (re.sub(r"\D", "", s.get_secret_value()) for s in (number, security_code))
    if not 13 <= len(digits) <= 19 or not 3 <= len(code) <= 4 or not expiry.get_secret_value().strip():
        raise ToolError(
            "That is no card: the number has 13 to 19 digits, the code 3 or 4, and it expires in some month. Ask the "
            "caller to repeat."
        )
    ctx.userdata.card = Card(number=SecretStr(digits), expiry=expiry, security_code=SecretStr(code))
    return "The card is noted."


@function_tool(handoffs=["greeter"])
async def confirm_checkout(ctx: RunContext[Guest], config: RunnableConfig) -> str | Handoff:
    """Take the payment, once the caller has agreed to the amount and has given the card."""
    guest = ctx.userdata
    if guest.checked_out:
        return ctx.handoff("greeter", PAID)
    if guest.expense is None:
        return "Not paid: let the caller agree to the amount first."
    if guest.card is None:
        return "Not paid: ask for the card first, with expiry and security code."
    ctx.disallow_interruptions()  # from here on the bank may have it
    # One key for each order and card: whatever happens to this tool call, a second one can't charge the order again.
    call = config.get("configurable", {}).get("thread_id") or ctx.tool_call_id
    key = f"{call}/{guest.payments}/{guest.declined}"
    if key in under_way:
        return "Not charged twice: the payment is under way. Tell the caller that it takes a moment."
    under_way.add(key)
    try:
        await charge(guest.card, guest.expense, key=key)
    except CardDeclined:
        guest.card = None
        guest.declined += 1
        raise ToolError("The bank declined the card. Ask the caller for another one.") from None
    finally:
        under_way.discard(key)
    guest.pay()
    return ctx.handoff("greeter", "Paid.")


def paying(guest: Guest) -> str:
    if guest.checked_out:
        return f"{HOUSE} You take payments, but the order is paid already. Tell the caller so, and give them back."
    paid = " (besides what is paid already)" if guest.paid_for else ""
    return (
        f"{HOUSE} You take the payment for the order, which comes to {guest.due:.2f} dollars{paid}. Let the caller "
        "agree to that, then ask for name and phone number if they are not known, then for the card: number, expiry "
        "and security code, one after the other. Never repeat any of the card's numbers."
    )


def bill(guest: Guest) -> str:
    if guest.checked_out:
        return f"{OPEN}Say that the order is paid already, and ask what else you can do."
    return f"{OPEN}Say that the order comes to {guest.due:.2f} dollars, and ask whether that is right."


checkout = Agent(
    "checkout",
    instructions=paying,
    on_enter=bill,
    on_enter_tools="none",
    tools=[confirm_expense, update_name, update_phone, update_credit_card, confirm_checkout],
    handoffs=[
        Handoff("takeaway", "Give the caller back to change the order.", history=carried),
        to_greeter("paying for the order"),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Edward"),
)

graph = create_voice_graph([greeter, reservation, takeaway, checkout], userdata=Guest)
