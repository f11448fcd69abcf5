"""The task that gets a payment card, whose number and security code are secrets."""

from datetime import date

from pydantic import BaseModel, SecretStr
from typing_extensions import Unpack

from graph_voice.agents.run_context import RunContext
from graph_voice.agents.task import Task
from graph_voice.agents.task_end import Done
from graph_voice.agents.tool_errors import ToolError
from graph_voice.agents.tools import function_tool
from graph_voice.tasks.common import Recorded, TaskOptions, confirm_tool, ready_made, recorded

__all__ = ["CreditCard", "get_credit_card"]

AMEX = "American Express"


class CreditCard(BaseModel):
    """The result of `get_credit_card`."""

    cardholder: str
    issuer: str
    """Such as "Visa"; empty if it is not known."""
    number: SecretStr
    """Digits only."""
    security_code: SecretStr
    expiration_month: int
    expiration_year: int


class Draft(Recorded):
    cardholder: str = ""
    number: SecretStr | None = None
    security_code: SecretStr | None = None
    expiration_month: int | None = None
    expiration_year: int | None = None

    @property
    def missing(self) -> list[str]:
        """What the caller has not given yet."""
        parts = {
            "the name on the card": self.cardholder,
            "the card number": self.number,
            "the expiration date": self.expiration_month,
            "the security code": self.security_code,
        }
        return [part for part, found in parts.items() if not found]

    def card(self) -> CreditCard:
        number = self.number.get_secret_value() if self.number is not None else ""
        return CreditCard.model_validate({**dict(self), "issuer": issuer_of(number)})


def get_credit_card(
    name: str = "get_credit_card", *, confirm: bool | None = None, **options: Unpack[TaskOptions]
) -> Task[CreditCard]:
    """A task that gets a payment card: the name on it, its number, its expiration date, and its security code.

    The number and the code are `SecretStr` in the tools, in the draft and in the result, so they are in no message,
    event, trace or checkpoint (`create_voice_graph(secrets=...)` encrypts them there). The number is checked by its
    check digit, the date is not in the past.

    Args:
        name: the task's name.
        confirm: whether the name and the expiration date are read back, and the caller confirms them. The number and
            the code are never said. Default: when the caller speaks.
        options: `Task`'s own, such as `instructions`, `on_enter`, `history`, `llm`, `voice`.
    """

    def next_step(ctx: RunContext[object, Draft]) -> Done | str:
        draft = ctx.draft
        if missing := draft.missing:
            draft.recorded_after = None
            return f"Recorded. Ask for {missing[0]}."
        card = draft.card()
        if len(card.security_code.get_secret_value()) != (4 if card.issuer == AMEX else 3):
            draft.security_code = draft.recorded_after = None
            raise ToolError("The security code has another number of digits for this card. Ask for it again.")
        ends = f"{card.expiration_month:02}/{card.expiration_year}"
        read_back = (
            f'Read back the name on the card, "{card.cardholder}", and the expiration date, {ends}, nothing else.'
        )
        return recorded(ctx, confirm, card, read_back)

    @function_tool
    async def record_cardholder(ctx: RunContext[object, Draft], cardholder: str) -> Done | str:
        """Record the name on the card."""
        if not any(map(str.isalpha, cardholder)):
            raise ToolError("Not a name. Ask for the name as it is on the card.")
        ctx.draft.cardholder = cardholder.strip()
        return next_step(ctx)

    @function_tool
    async def record_card_number(ctx: RunContext[object, Draft], number: SecretStr) -> Done | str:
        """Record the card number, when all of its digits were given.

        Args:
            number: digits only.
        """
        digits = _digits(number)
        if not 13 <= len(digits) <= 19 or not luhn(digits):
            raise ToolError("That is not a card number: a digit is wrong or missing. Ask for the whole number again.")
        ctx.draft.number = SecretStr(digits)
        return next_step(ctx)

    @function_tool
    async def record_expiration_date(ctx: RunContext[object, Draft], month: int, year: int) -> Done | str:
        """Record the date on which the card expires.

        Args:
            month: 1 to 12.
            year: with two or four digits.
        """
        ctx.draft.expiration_month, ctx.draft.expiration_year = checked_expiration(month, year)
        return next_step(ctx)

    @function_tool
    async def record_security_code(ctx: RunContext[object, Draft], code: SecretStr) -> Done | str:
        """Record the security code, the 3 or 4 digits on the card.

        Args:
            code: digits only.
        """
        digits = _digits(code)
        if not 3 <= len(digits) <= 4:
            raise ToolError("The security code has 3 or 4 digits. Ask for it again.")
        ctx.draft.security_code = SecretStr(digits)
        return next_step(ctx)

    return ready_made(
        name,
        result=CreditCard,
        draft=Draft,
        tools=[
            record_cardholder,
            record_card_number,
            record_expiration_date,
            record_security_code,
            confirm_tool("confirm_card", "the card", lambda draft: draft.card()),
        ],
        what="the caller's payment card: the name on it, its number, its expiration date and its security code",
        record="record_cardholder, record_card_number, record_expiration_date or record_security_code",
        confirm_by="confirm_card",
        confirm=confirm,
        spoken=(
            'Write the digits that were said: "oh" is 0, "double five" is 55. Wait until all digits were said. Ask for '
            "one thing at a time. Never repeat the number or the security code."
        ),
        typed="Numbers may have spaces or dashes. Never repeat the number or the security code.",
        options=options,
    )


def _digits(secret: SecretStr) -> str:
    """The digits, without separators; "" if there is anything else."""
    text = "".join(secret.get_secret_value().split()).replace("-", "")
    return text if text.isascii() and text.isdigit() else ""


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def issuer_of(number: str) -> str:
    """The card's network, by the first digits of its number; empty if it is not known."""
    two, four = number[:2], int(number[:4] or 0)
    if number.startswith("4"):
        return "Visa"
    if "51" <= two <= "55" or 2221 <= four <= 2720:
        return "Mastercard"
    if two in ("34", "37"):
        return AMEX
    return "Discover" if two == "65" or four == 6011 or 6440 <= four <= 6499 else ""


def today() -> date:
    return date.today()


def checked_expiration(month: int, year: int) -> tuple[int, int]:
    """Month and year, with four digits. Raises `ToolError` for a card that has expired, and for no date."""
    if 0 <= year < 100:
        year += 2000
    if not 1 <= month <= 12 or not 2000 <= year <= today().year + 25:
        raise ToolError("That is no expiration date. Ask for the month and the year on the card.")
    if (year, month) < (today().year, today().month):
        raise ToolError("The card has expired. Tell the caller, and ask for another card.")
    return month, year
