"""A graph of a user's own: uncompiled, with its model, a voice, and a tool that asks before it acts."""

from typing import Any

from langgraph.types import interrupt
from pydantic import BaseModel, Field

from graph_voice import Agent, Handoff, RunContext, Voice, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call


class Order(BaseModel):
    dish: str | None = Field(None, title="What is ordered")
    paid: bool = False


@function_tool
async def pay(ctx: RunContext[Order], dish: str) -> str:
    """Take the money for a dish."""
    answer: Any = interrupt(f"Pay for the {dish}?")
    ctx.userdata.dish, ctx.userdata.paid = dish, answer == "yes"
    return "Paid." if answer == "yes" else "Not paid."


model = ScriptedModel([("soup", [call("pay", {"dish": "soup"}), "Done."]), ("", "Welcome.")])
waiter = Agent(
    "waiter",
    instructions="You are a waiter.",
    tools=[pay],
    handoffs=[Handoff("cook", "Ask the cook.")],
    voice=Voice(tts="cartesia/sonic-3:waiter", turn_handling={"interruption": {"enabled": False}}),
)
cook = Agent("cook", instructions=lambda order: f"You cook {order.dish}.", handoffs=[Handoff("waiter", "Back.")])
graph = create_voice_graph([waiter, cook], userdata=Order, llm=model)
