"""Intake: learn the caller's name and age, then hand off to customer service, which greets them by name."""

from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool


class Caller(BaseModel):
    name: str | None = None
    age: int | None = None


def done(ctx: RunContext[Caller]) -> Handoff | str:
    if ctx.userdata.name and ctx.userdata.age:
        return ctx.handoff("customer_service")
    return "Noted. Ask for what is still missing."


@function_tool(handoffs=["customer_service"])
async def record_name(ctx: RunContext[Caller], name: str) -> Handoff | str:
    """Record the caller's name."""
    ctx.userdata.name = name
    return done(ctx)


@function_tool(handoffs=["customer_service"])
async def record_age(ctx: RunContext[Caller], age: int) -> Handoff | str:
    """Record the caller's age in years."""
    ctx.userdata.age = age
    return done(ctx)


intake = Agent(
    "intake",
    instructions="You are an intake agent. Learn the caller's name and age.",
    tools=[record_name, record_age],
    handoffs=[Handoff("customer_service", tool=False)],
    on_enter="Greet the caller, say what the call is about, and ask for their name and age.",
)

customer_service = Agent(
    "customer_service",
    instructions=lambda caller: f"You are a friendly customer service representative. The caller is {caller.name}.",
    on_enter=lambda caller: f"Greet {caller.name} by name and offer your assistance.",
)

graph = create_voice_graph([intake, customer_service], userdata=Caller)
