"""Payments. The restaurant's own provider goes here; this is a test terminal with one card that it declines."""

from .guest import Card

__all__ = ["DECLINED", "CardDeclined", "charge"]

DECLINED = "4000000000000002"
"""A card number that is always declined, like the test cards of payment providers."""


class CardDeclined(Exception):
    """The bank does not pay."""


async def charge(card: Card, dollars: float, *, key: str) -> None:
    """Charge the card. A charge with the same key happens once.

    Raises `CardDeclined`.
    """
    if not key:
        raise ValueError(f"a charge of {dollars:.2f} dollars needs a key")
    if card.number.get_secret_value() == DECLINED:
        raise CardDeclined
