"""Triage hands off to a specialist, who gets a summary of the conversation instead of all of it.

The summary is made while the caller talks, so the handoff does not wait for it. `history.summarize(model=...)` lets
another model make it, for example a smaller one.
"""

from typing import Literal

from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history

summary = history.summarize(
    prompt=(
        "Summarize the conversation between user and assistant. Keep the summary brief, touching on the main topics "
        "and outcomes."
    ),
)


class Case(BaseModel):
    topic: Literal["network", "billing", "other"] | None = None


@function_tool
async def record_topic(ctx: RunContext[Case], topic: Literal["network", "billing", "other"]) -> str:
    """Record what the caller needs help with, before the transfer."""
    ctx.userdata.topic = topic
    return "Noted. Transfer the caller once you know enough."


triage = Agent(
    "triage",
    instructions=(
        "You are the triage agent of a support line. Find out what the caller needs, with as few questions as "
        "possible, then transfer the caller to a specialist."
    ),
    on_enter="Greet the caller and ask what they need help with.",
    tools=[record_topic],
    handoffs=[
        Handoff(
            "specialist",
            "Hand off to a specialist once triage is complete.",
            history=summary,
            say="One moment, I'm getting you a specialist.",
        )
    ],
)

specialist = Agent(
    "specialist",
    instructions=lambda case: (
        f"You are a specialist for {case.topic} questions. You are given a summary of the prior conversation: go on "
        "from there, and don't ask again what the caller has said already."
    ),
    on_enter="Say that you are the specialist, and what you understood of the caller's case.",
)

graph = create_voice_graph([triage, specialist], userdata=Case)
