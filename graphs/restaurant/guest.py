"""What is known about a caller: the userdata of the call."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, Field, SecretStr

from .menu import MENU, Dish

__all__ = ["Card", "Guest", "Line"]


class Line(BaseModel):
    """One line of an order."""

    dish: Dish
    count: int = Field(default=1, ge=1, le=50)
    wish: str = ""
    """What the kitchen is asked to do differently."""

    def __str__(self) -> str:
        return f"{self.count} {self.dish}{'s' * (self.count > 1)}" + (f" ({self.wish})" if self.wish else "")


class Card(BaseModel):
    """A bank card. It is never shown: not to a model, and not in a checkpoint, trace or log."""

    number: SecretStr
    expiry: SecretStr
    security_code: SecretStr


class Guest(BaseModel):
    name: str | None = None
    phone: str | None = None
    table_for: str | None = Field(default=None, description="When a table is wanted.")
    reserved: bool = False
    order: list[Line] = Field(default=[], description="All that was ordered in this call, with what is paid.")
    paid_for: list[Line] = Field(default=[], description="What of the order is paid.")
    expense: float | None = Field(default=None, description="Dollars that the caller has agreed to pay.")
    card: Card | None = None
    checked_out: bool = Field(default=False, description="Whether all of the order is paid.")
    news: Literal["booked", "paid"] | None = Field(default=None, description="What was done since the last greeting.")
    welcomed: bool = False
    payments: int = 0
    declined: int = 0

    @property
    def total(self) -> float:
        """Dollars that the order costs."""
        return _cost(self.order)

    @property
    def due(self) -> float:
        """Dollars of it that are still to be paid."""
        return _cost(self.order) - _cost(self.paid_for)

    def counted(self) -> Counter[Dish]:
        """How many of each dish are ordered."""
        return _counted(self.order)

    def wants(self, items: Iterable[Line]) -> None:
        """Note an order: all of it, or, once something is paid, what the caller wants besides. What is paid stays
        ordered, and is never paid again."""
        items = list(items)
        if not _counted(self.paid_for) <= _counted(items):
            items = [*self.paid_for, *items]
        self.order, self.expense = _merged(items), None
        self.checked_out = bool(self.order and not self.due)

    def pay(self) -> None:
        """What is ordered is paid."""
        self.paid_for, self.checked_out, self.news = list(self.order), True, "paid"
        self.payments += 1
        self.card = None  # nobody needs it any more


def _cost(lines: Iterable[Line]) -> float:
    return sum(MENU[line.dish] * line.count for line in lines)


def _counted(lines: Iterable[Line]) -> Counter[Dish]:
    counts: Counter[Dish] = Counter()
    for line in lines:
        counts[line.dish] += line.count
    return counts


def _merged(lines: Iterable[Line]) -> list[Line]:
    """One line for each dish and wish, in the order in which they came."""
    counts: Counter[tuple[Dish, str]] = Counter()
    for line in lines:
        counts[line.dish, line.wish] += line.count
    return [Line.model_construct(dish=dish, count=count, wish=wish) for (dish, wish), count in counts.items()]
