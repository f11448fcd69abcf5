"""What a customer has ordered: the userdata of the call."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from .menu import Menu, Row, Size

__all__ = ["ComboMeal", "Item", "KidsMeal", "Order", "RegularItem", "cart"]


class ComboMeal(BaseModel):
    """A burger with fries and a drink."""

    type: Literal["combo_meal"] = "combo_meal"
    meal_id: str
    drink_id: str
    drink_size: Literal["M", "L"] | None = None
    fries_size: Literal["M", "L"]
    sauce_id: str | None = None


class KidsMeal(BaseModel):
    """A small meal with a drink."""

    type: Literal["kids_meal"] = "kids_meal"
    meal_id: str
    drink_id: str
    drink_size: Size | None = None
    sauce_id: str | None = None


class RegularItem(BaseModel):
    """Anything that is ordered by itself."""

    type: Literal["regular"] = "regular"
    item_id: str
    size: Size | None = None


Item = Annotated[ComboMeal | KidsMeal | RegularItem, Field(discriminator="type")]


class Order(BaseModel):
    items: dict[str, Item] = {}
    """Order id -> what was ordered. Each is added by its own id, so it does not matter in which order tools run."""


def cart(order: Order, menu: Menu) -> str:
    """The order as Markdown, with what it comes to; "" for an empty order, which hides the cart."""
    if not order.items:
        return ""
    rows = [_row(item, menu) for item in order.items.values()]
    lines = [f"| {row.title}{_with(item, menu)} | ${row.cents / 100:.2f} |" for item, row in _pairs(order, rows)]
    total = sum(row.cents for row in rows)
    return "\n".join(["| Your order | |", "|:---|---:|", *lines, f"| **Total** | **${total / 100:.2f}** |"])


def _pairs(order: Order, rows: list[Row]) -> list[tuple[Item, Row]]:
    return list(zip(order.items.values(), rows, strict=True))


def _row(item: Item, menu: Menu) -> Row:
    found = menu.find(item.item_id, item.size) if isinstance(item, RegularItem) else menu.find(item.meal_id)
    assert found is not None, f"{item!r} was on the menu when it was ordered"
    return found


def _with(item: Item, menu: Menu) -> str:
    """What comes with a meal."""
    if isinstance(item, RegularItem):
        return ""
    drink = menu.find(item.drink_id, item.drink_size)
    parts = [drink.title if drink is not None else menu.name(item.drink_id)]
    if isinstance(item, ComboMeal):
        parts.insert(0, "large fries" if item.fries_size == "L" else "medium fries")
    if item.sauce_id is not None:
        parts.append(menu.name(item.sauce_id))
    return f": {', '.join(parts)}"
