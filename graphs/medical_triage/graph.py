"""The graph: three agents and six handoffs between them, each announced in the voice of the agent that hands off."""

import contextlib
from datetime import date, datetime

from pydantic import BaseModel, Field, SecretStr

from graph_voice import Agent, Handoff, RunContext, ToolError, Voice, create_voice_graph, function_tool, history

CLINIC = (
    "You work for Elm Street Clinic and talk to a caller on the phone: calm, in plain words, one question at a time. "
    "What the caller says is confidential. If it sounds like an emergency (chest pain, trouble breathing, heavy "
    "bleeding, somebody unconscious, thoughts of suicide), tell the caller before anything else to hang up and call "
    "911, and don't pass them on."
)

OPEN = "If the caller has just asked for something, take that up and don't greet. Otherwise: "
"""An agent that gets the caller does not speak over a question that stands open."""


class Patient(BaseModel):
    """What the agents know about the caller."""

    name: str | None = None
    reason: str | None = Field(default=None, description="Why the caller calls.")
    identity_confirmed: bool = False
    welcomed: bool = False


@function_tool
async def note_caller(ctx: RunContext[Patient], name: str | None = None, reason: str | None = None) -> str:
    """Note the caller's name, or why they call, so that nobody asks again."""
    patient = ctx.userdata
    if name and name != patient.name:
        patient.identity_confirmed = False  # it was another name's
    patient.name, patient.reason = name or patient.name, reason or patient.reason
    return "Noted."


def day(text: str) -> date | None:
    """A date as people and models write it."""
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%B %d %Y", "%d %B %Y"):
        with contextlib.suppress(ValueError):
            return datetime.strptime(text.replace(",", "").strip(), form).date()
    return None


@function_tool
async def confirm_identity(ctx: RunContext[Patient], name: str, date_of_birth: SecretStr) -> str:
    """Confirm who the caller is, by full name and date of birth (such as 1980-05-03 or May 3, 1980)."""
    born = day(date_of_birth.get_secret_value())
    if born is None or not 0 < (date.today() - born).days < 130 * 366:
        raise ToolError("That is no date of birth: ask for it again.")
    if not name.strip():
        raise ToolError("There is no name: ask for the full name.")
    ctx.userdata.name, ctx.userdata.identity_confirmed = name, True
    return f"{name} is confirmed."


known = history.userdata_summary(exclude=["welcomed"])
others = history.exclude_instructions() | history.truncate(max_items=6)
carried = others | history.resume() | history.truncate(max_items=24) | known
"""What the next agent is shown: the last six messages, behind its own earlier part of the call if it has one, and what
is known about the caller."""

FOR = {
    "triage": "Give the caller back to the front desk for anything else.",
    "support": "Pass the caller to patient support: appointments, refills, records, general questions.",
    "billing": "Pass the caller to the billing office: charges, insurance, copays, payment plans.",
}


def to(agent: str, line: str) -> Handoff:
    """One of the six handoffs. The line is said first; if the caller cuts in, the next agent answers them."""
    return Handoff(
        agent,
        FOR[agent],
        say=line,
        history=carried,
        on_interruption="complete",
    )


def greeting(patient: Patient) -> str:
    caller = patient.name or "the caller"
    return (
        f"{OPEN}Ask {caller} what else you can do."
        if patient.welcomed
        else f"Greet {caller}, and ask how you can help."
    )


async def welcomed(ctx: RunContext[Patient]) -> None:
    """The caller goes on from the front desk: next time it does not greet them as if they were new."""
    ctx.userdata.welcomed = True


triage = Agent(
    "triage",
    instructions=(
        f"{CLINIC} You are the first to answer. Find out whether it is about a medical service (appointments, refills, "
        "records) or about a bill. If that is unclear, ask. If it is both, take what is most urgent first. Note name "
        "and reason when you hear them, then pass the caller on."
    ),
    on_enter=greeting,
    on_exit=welcomed,
    on_enter_tools="none",
    tools=[note_caller],
    handoffs=[
        to("support", "I'll put you through to patient support."),
        to("billing", "I'll put you through to our billing office."),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Ashley"),
)

support = Agent(
    "support",
    instructions=(
        f"{CLINIC} You are patient support: appointments, prescription refills, medical records, general questions. If "
        "something can't be solved now, say what happens next. Don't ask for what is known already."
    ),
    on_enter="Say that you are patient support, and take up what the caller has said already.",
    on_enter_tools="none",
    tools=[note_caller],
    handoffs=[
        to("triage", "Let me give you back to the front desk."),
        to("billing", "Billing can answer that. I'll connect you."),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Diego"),
)

billing = Agent(
    "billing",
    instructions=lambda patient: (
        f"{CLINIC} You are the billing office: charges, insurance, copays, payment plans. "
        + (
            "The caller's identity is confirmed."
            if patient.identity_confirmed
            else "Before anything else, confirm who the caller is, by full name and date of birth."
        )
    ),
    on_enter=lambda patient: (
        "Say that you are the billing office, and take up what the caller has said."
        if patient.identity_confirmed
        else "Say that you are the billing office, and ask for full name and date of birth to verify who is calling."
    ),
    on_enter_tools="none",
    tools=[confirm_identity],
    handoffs=[
        to("triage", "Our front desk can help with that. One moment."),
        to("support", "I'll pass you to patient support for that."),
    ],
    voice=Voice(tts="inworld/inworld-tts-1:Olivia"),
)

graph = create_voice_graph([triage, support, billing], userdata=Patient)
