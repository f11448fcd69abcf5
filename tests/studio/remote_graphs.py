"""Graphs that run on a server of their own, while their words are spoken here."""

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from graph_voice.testing import ScriptedModel, call, say


def _forecast(messages: Sequence[AnyMessage]) -> Any:
    """Calls the tool once for each question, and tells how many messages it was shown, and the last one."""
    last = messages[-1]
    if last.type == "tool":
        return f"It is {last.text}"
    if "weather" in last.text:
        return say("Let me see.", call("weather", {"city": "Oslo"}))
    before = messages[-2].text if len(messages) > 1 else "nothing"
    return f"You said {last.text!r} after {before!r}."


@tool
def weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}."


forecaster = create_agent(ScriptedModel(_forecast), [weather])


async def book(state: MessagesState) -> dict[str, Any]:
    city = interrupt("Which city do you want to fly to?")
    return {"messages": [AIMessage(f"Your flight to {city} is booked.")]}


builder = StateGraph(MessagesState)
builder.add_node(book)
builder.add_edge(START, "book")
travel = builder.compile()
"""Asks before it speaks."""


@tool
def pay(amount: int) -> str:
    """Pay a bill."""
    return f"{amount} paid."


def _pays(messages: Sequence[AnyMessage]) -> Any:
    if messages[-1].type == "tool":
        return f"The tool said: {messages[-1].text}"
    if messages[-1].text == "Pay.":
        return say("One moment.", call("pay", {"amount": 20}))
    return f"I was shown {', '.join(m.type for m in messages)}."


_approval = HumanInTheLoopMiddleware(
    {"pay": {"allowed_decisions": ["approve", "reject"], "description": "Shall I pay the bill?"}}
)
payer = create_agent(ScriptedModel(_pays), [pay], middleware=[_approval])
"""Asks before it pays."""


def _long(messages: Sequence[AnyMessage]) -> str:
    if len(messages) > 1:
        return f"You interrupted {messages[-2].text!r}."
    return "Once upon a time there was a very long story. " + "And then it went on. " * 500


storyteller = create_agent(ScriptedModel(_long, per_token=0.02), [])
"""Tells a story that takes a minute."""


@tool
async def lookup() -> str:
    """Look something up, for an hour."""
    await asyncio.sleep(3600)
    return "found"


def _search(messages: Sequence[AnyMessage]) -> Any:
    if messages[-1].type == "human" and len(messages) == 1:
        return call("lookup")
    return f"Instead: {messages[-1].text}"


searcher = create_agent(ScriptedModel(_search), [lookup])
"""Has a tool that never ends."""
