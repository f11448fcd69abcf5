"""A LangGraph subgraph as an agent: the front desk of a shop, and a stock clerk that is a small graph of its own."""

from typing import Annotated, Any

from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.models import run_model

STOCK = {"kettle": 12, "toaster": 0, "teapot": 3}


class Clerk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    active_agent: str
    found: str
    """Only in the subgraph: the voice graph has no such channel."""


def check_stock(state: Clerk) -> dict[str, Any]:
    """Look up what the caller has just named. It calls no model and says nothing."""
    said = next((m.text.lower() for m in reversed(state["messages"]) if isinstance(m, HumanMessage)), "")
    found = [f"{thing}: {count} in stock" for thing, count in STOCK.items() if thing in said]
    return {"found": "; ".join(found) or "The caller has not named anything that the shop sells."}


async def tell(state: Clerk, config: RunnableConfig) -> dict[str, Any]:
    """Say it. Then the front desk is the active agent again, and answers the caller's next words."""
    instructions = f"You are the stock clerk of a shop. Tell the caller in one sentence. {state['found']}"
    asked = [m for m in state["messages"] if isinstance(m, HumanMessage)][-1:]
    reply = await run_model(config).ainvoke([SystemMessage(instructions), *asked], config)
    return {"messages": [reply], "active_agent": "front_desk"}


stock_clerk = (
    StateGraph(Clerk)
    .add_node("check_stock", check_stock)
    .add_node("tell", tell)
    .add_edge(START, "check_stock")
    .add_edge("check_stock", "tell")
    .add_edge("tell", END)
    .compile(name="stock_clerk")
)

front_desk = Agent(
    "front_desk",
    instructions="You are the front desk of a shop for kitchen things. Let the stock clerk say what is there.",
    on_enter="Greet the caller.",
    handoffs=[Handoff("stock_clerk", "Ask the stock clerk whether a thing is in stock.", say="Let me ask the clerk.")],
)

graph = create_voice_graph([front_desk, stock_clerk])
