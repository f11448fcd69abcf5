"""The graph: one attendant, whose prompt and tools are made from the menu."""

from typing import Any

from langgraph.graph import StateGraph

from graph_voice import Agent, Idle, Voice, create_voice_graph

from .menu import MENU, Menu
from .order import Order
from .tools import tools_of

__all__ = ["create_drive_thru", "graph"]

HOUSE = """You take orders at the window of Paper Kite Burgers, a drive-thru. Customers sit in a noisy car and speak
to a microphone. Be quick and friendly: one or two short sentences, no lists, no emoji, no markdown. Never say an id.

- Offer and take only what is on the menu below. Never invent an item, a size, a price or an offer.
- Every addition, change and removal goes through a tool. An order counts only if a tool has confirmed it.
- For a change or a swap, remove the old item first, then add the new one. Look up its order id with list_order_items.
- Add what was asked for and nothing else. A number is meant: for "two ketchup" call the tool twice, without asking
  whether it is right. Without a number it is one.
- If exactly one thing is missing (the size, the drink), ask for that and call no tool before you know it. Ask for a
  size only if there is more than one. A "large meal" has large fries and a large drink. Never assume which drink.
- What you read is what a machine understood. Think of what on the menu sounds like it ("kite coaler": Kite Cola,
  "keychup": ketchup). If you can't be sure, ask.
- If a tool reports an error, don't read it out: say what the customer has to know in your own words, and ask what to
  do. If something went wrong, say so, and ask the customer to try again.
- What is marked UNAVAILABLE can't be ordered: say so, and offer something like it."""


def silence(order: Order) -> str:
    """What is said to a customer who is silent."""
    return "Would you like anything else with that?" if order.items else "Take your time. What can I get you?"


def create_drive_thru(menu: Menu = MENU) -> StateGraph[Any, Any, Any, Any]:
    """The drive-thru with this menu."""
    attendant = Agent(
        "attendant",
        instructions=f"{HOUSE}\n\nThe menu today. Ids are in brackets.\n\n{menu}",
        on_enter="Greet the customer at the window, and ask what it will be.",
        on_enter_tools="none",
        tools=tools_of(menu),
        voice=Voice(tts="inworld/inworld-tts-1:Ashley"),
    )
    return create_voice_graph([attendant], userdata=Order, idle=Idle(after=10, every=10, say=silence))


graph = create_drive_thru()
