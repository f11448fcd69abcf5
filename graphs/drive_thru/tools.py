"""The attendant's tools. They are made from the menu: what it does not have can't be ordered."""

import hashlib
import json
import logging
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from langgraph.config import get_stream_writer
from pydantic import BeforeValidator, WithJsonSchema

from graph_voice import RunContext, ToolError, function_tool

from .menu import SIZES, Category, Menu, Row, Size
from .order import ComboMeal, Item, KidsMeal, Order, RegularItem, cart

__all__ = ["tools_of"]

logger = logging.getLogger(__name__)
BASE36 = string.digits + string.ascii_uppercase


def _null(value: Any) -> Any:
    """Models write the word "null" for nothing."""
    return None if isinstance(value, str) and value.strip().lower() in ("null", "none", "") else value


def _size(value: Any) -> Any:
    """S, M or L, also if the word is written out."""
    if (value := _null(value)) is None:
        return None
    letters = {way: size for size, name in SIZES.items() for way in (size.lower(), name)}
    return letters.get(str(value).strip().lower(), value)


AnySize = Annotated[Size | None, BeforeValidator(_size)]
ComboSize = Annotated[Literal["M", "L"] | None, BeforeValidator(_size)]
FriesSize = Annotated[Literal["M", "L"], BeforeValidator(_size)]


@dataclass(frozen=True)
class Checks:
    """What the tools ask of the menu. Each raises `ToolError` with what the attendant should do."""

    menu: Menu

    def row(self, item: str, size: Size | None, sizes: Sequence[Size]) -> Row:
        """The row of a thing that can be ordered now, in one of these sizes."""
        name = self.menu.name(item)
        rows = [row for row in self.menu.rows if row.id == item and (row.size is None or row.size in sizes)]
        there = [row for row in rows if row.available]
        if not there:
            raise ToolError(f"{name} ({item}) is not available today. Let the customer choose something else.")
        offered = ", ".join(row.size for row in there if row.size is not None)
        if offered and size not in [row.size for row in rows]:
            asked = f"there is no size {size}" if size is not None else "no size was given"
            raise ToolError(f"{name} ({item}) comes in {offered}, and {asked}: ask which size.")
        row = self.menu.find(item, size)
        if row is None:
            raise ToolError(f"{name} ({item}) comes in one size only: call again without a size.")
        if not row.available:
            raise ToolError(f"{row.title} ({item}) is not available today. It is there in {offered}.")
        return row

    def sauce(self, sauce: str | None) -> str | None:
        return None if sauce is None else self.row(sauce, None, ()).id


def tools_of(menu: Menu) -> list[Any]:
    """The tools that take orders from this menu."""
    checks = Checks(menu)

    def one_of(*categories: Category, optional: bool = False) -> list[Any]:
        """An id of these sections of the menu; a name or an alias is taken for it."""
        ids = menu.ids(*categories)

        def known(value: Any) -> Any:
            if optional and _null(value) is None:
                return None
            if (found := menu.resolve(str(value), ids)) is None:
                raise ValueError(f"{value!s:.40} is not on the menu. The ids are: {', '.join(ids)}")
            return found

        schema = {"type": "string", "enum": ids}
        return [
            BeforeValidator(known),
            WithJsonSchema({"anyOf": [schema, {"type": "null"}]} if optional else schema),
        ]

    combo, kids, drink = one_of("combo"), one_of("kids_meal"), one_of("drink")
    sauces, anything = one_of("sauce", optional=True), one_of("regular", "drink", "sauce")

    def added(ctx: RunContext[Order], item: Item) -> str:
        order_id = _order_id(ctx.tool_call_id)
        ctx.userdata.items[order_id] = item
        show(ctx.userdata)
        return f"The item was added: {_line(order_id, item)}"

    def show(order: Order) -> None:
        """Show the cart. It is not part of taking the order: that it fails stops nothing."""
        try:
            get_stream_writer()({"key": "cart", "markdown": cart(order, menu)})
        except Exception:
            logger.exception("the cart could not be shown")

    @function_tool(idempotent=True)
    async def order_combo_meal(
        ctx: RunContext[Order],
        meal: Annotated[str, *combo],
        drink: Annotated[str, *drink],
        fries_size: FriesSize,
        drink_size: ComboSize = None,
        sauce: Annotated[str | None, *sauces] = None,
    ) -> str:
        """Add one combo meal: a main, fries and a drink. Call it once for each. Never assume a drink or a size.

        Args:
            meal: the combo.
            drink: the drink that the customer has chosen.
            fries_size: M or L. A "large meal" has large fries.
            drink_size: M or L; null for a drink that comes in one size. A "large meal" has a large drink.
            sauce: the sauce that the customer has asked for; null for none.
        """
        checks.row(meal, None, ())
        checks.row(drink, drink_size, ("M", "L"))
        checks.row("fries", fries_size, ("M", "L"))
        return added(
            ctx,
            ComboMeal(
                meal_id=meal,
                drink_id=drink,
                drink_size=drink_size,
                fries_size=fries_size,
                sauce_id=checks.sauce(sauce),
            ),
        )

    @function_tool(idempotent=True)
    async def order_kids_meal(
        ctx: RunContext[Order],
        meal: Annotated[str, *kids],
        drink: Annotated[str, *drink],
        drink_size: AnySize = None,
        sauce: Annotated[str | None, *sauces] = None,
    ) -> str:
        """Add one kids' meal, with a drink. Call it once for each. Never assume a drink or a size.

        Args:
            meal: the kids' meal.
            drink: the drink that the customer has chosen.
            drink_size: S, M or L; null for a drink that comes in one size.
            sauce: the sauce that the customer has asked for; null for none.
        """
        checks.row(meal, None, ())
        size = drink_size if menu.sizes(drink) else None
        checks.row(drink, size, ("S", "M", "L"))
        item = KidsMeal(meal_id=meal, drink_id=drink, drink_size=size, sauce_id=checks.sauce(sauce))
        return added(ctx, item)

    @function_tool(idempotent=True)
    async def order_regular_item(ctx: RunContext[Order], item: Annotated[str, *anything], size: AnySize = None) -> str:
        """Add one thing that is no meal: à la carte, a drink, or a sauce. Call it once for each.

        Args:
            item: what the customer has asked for.
            size: S, M or L; null for what comes in one size.
        """
        size = size if menu.sizes(item) else None
        checks.row(item, size, ("S", "M", "L"))
        return added(ctx, RegularItem(item_id=item, size=size))

    @function_tool
    async def remove_order_item(ctx: RunContext[Order], order_ids: list[str]) -> str:
        """Remove items from the order.

        Args:
            order_ids: their order ids, as list_order_items and the tools that add items give them.
        """
        items = ctx.userdata.items
        if unknown := [order_id for order_id in order_ids if order_id not in items]:
            raise ToolError(f"Nothing was removed: the order has no {', '.join(unknown)}. Look at list_order_items.")
        removed = [_line(order_id, items.pop(order_id)) for order_id in dict.fromkeys(order_ids)]
        show(ctx.userdata)
        return "\n".join(["Removed:", *removed]) if removed else "Nothing was removed: name the order ids."

    @function_tool
    async def list_order_items(ctx: RunContext[Order]) -> str:
        """List what was ordered so far, with the order ids."""
        lines = [_line(order_id, item) for order_id, item in ctx.userdata.items.items()]
        return "\n".join(lines) or "The order is empty"

    return [order_combo_meal, order_kids_meal, order_regular_item, remove_order_item, list_order_items]


def _line(order_id: str, item: Item) -> str:
    return json.dumps({"order_id": order_id, **item.model_dump()})


def _order_id(tool_call_id: str | None) -> str:
    """The order id of a tool call: the same one, should the tool run again after a crash."""
    seed = tool_call_id.encode() if tool_call_id else secrets.token_bytes(16)
    number = int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big")
    return "O_" + "".join(BASE36[number // 36**place % 36] for place in range(6))
