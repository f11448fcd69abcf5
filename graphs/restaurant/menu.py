"""What the kitchen has, and what it costs."""

from typing import Literal

__all__ = ["MENU", "Dish", "card_of_the_day"]

Dish = Literal["pizza", "soup", "tart", "coffee"]
MENU: dict[Dish, float] = {"pizza": 10.0, "soup": 6.0, "tart": 4.0, "coffee": 2.0}
"""Dish -> dollars."""


def card_of_the_day() -> str:
    """The menu as text for a prompt."""
    return ", ".join(f"{dish} {price:.0f} dollars" for dish, price in MENU.items())
