"""What is known about a caller: the userdata of the call."""

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
    order: list[Line] = []
    expense: float | None = Field(default=None, description="Dollars that the caller has agreed to pay.")
    card: Card | None = None
    checked_out: bool = False

    @property
    def total(self) -> float:
        """Dollars that the order costs."""
        return sum(MENU[line.dish] * line.count for line in self.order)
