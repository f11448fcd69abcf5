"""Customer service of a small internet provider: a front desk that transfers to billing and to technical support."""

from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history


class Account(BaseModel):
    balance: float = 42.50
    """Dollars."""
    due: str = "the third of May"
    line_checked: bool = False


@function_tool
async def look_up_balance(ctx: RunContext[Account]) -> str:
    """Look up what the caller owes, and when it is due."""
    return f"The balance is {ctx.userdata.balance:.2f} dollars, due on {ctx.userdata.due}."


@function_tool
async def check_line(ctx: RunContext[Account]) -> str:
    """Run a line test on the caller's connection."""
    ctx.userdata.line_checked = True
    return "The line is up, and the signal is strong."


customer_service = Agent(
    "customer_service",
    instructions=(
        "You are a friendly customer service representative of Acorn Broadband. Answer general questions, and "
        "transfer the caller to a specialist for bills or for technical problems."
    ),
    on_enter="Greet the caller warmly and offer your assistance.",
    handoffs=[
        Handoff(
            "billing",
            "Transfer the caller to billing for bills, payments and refunds.",
            history=history.exclude_instructions() | history.truncate(max_items=6),
            say="I'm transferring you to billing now.",
        ),
        Handoff(
            "technical_support",
            "Transfer the caller to technical support for connection problems.",
            history=history.exclude_instructions() | history.truncate(max_items=6),
            say="Let me put you through to technical support.",
        ),
    ],
)

billing = Agent(
    "billing",
    instructions="You are a billing specialist of Acorn Broadband. Help with balances, payments and refunds.",
    tools=[look_up_balance],
    on_enter="Introduce yourself as billing and ask how you can help with the account.",
    handoffs=[Handoff("customer_service", "Send the caller back to the front desk for anything but billing.")],
)

technical_support = Agent(
    "technical_support",
    instructions="You are a technical support specialist of Acorn Broadband. Find out what is wrong, step by step.",
    tools=[check_line],
    on_enter="Introduce yourself as technical support and ask what the problem is.",
    handoffs=[Handoff("customer_service", "Send the caller back to the front desk for anything not technical.")],
)

graph = create_voice_graph([customer_service, billing, technical_support], userdata=Account)
