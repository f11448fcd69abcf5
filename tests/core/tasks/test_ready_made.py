"""Ready-made tasks: what their tools take and refuse, and what a store's file has of a card."""

import contextlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import SecretStr
from secrets_support import Gcm, sqlite_bytes

from graph_voice import (
    Agent,
    Conversation,
    Done,
    RunContext,
    Task,
    ToolError,
    create_voice_graph,
    function_tool,
    tasks,
)
from graph_voice.errors import BuildError
from graph_voice.tasks.credit_card import checked_expiration, issuer_of, luhn
from graph_voice.tasks.date_of_birth import checked_date
from graph_voice.tasks.email import checked_email
from graph_voice.tasks.phone_number import checked_number
from graph_voice.testing import ScriptedModel, call

NUMBER, CODE = "4242424242424242", "737"
DIGITS = st.text("0123456789", min_size=12, max_size=18)


def with_check_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if luhn(digits + last))


# ---- the card


@pytest.mark.parametrize(
    ("number", "issuer"),
    [
        ("4242424242424242", "Visa"),
        ("5555555555554444", "Mastercard"),
        ("2223003122003222", "Mastercard"),
        ("378282246310005", "American Express"),
        ("6011111111111117", "Discover"),
        ("30569309025904", ""),
    ],
)
def test_the_card_networks_own_test_numbers_are_right(number: str, issuer: str) -> None:
    assert luhn(number)
    assert issuer_of(number) == issuer


@given(DIGITS, st.integers(0, 18), st.integers(1, 9))
def test_a_number_with_one_wrong_digit_is_refused(digits: str, place: int, off: int) -> None:
    number = with_check_digit(digits)
    place %= len(number)
    wrong = str((int(number[place]) + off) % 10)
    assert luhn(number)
    assert not luhn(number[:place] + wrong + number[place + 1 :])


@given(DIGITS, st.integers(0, 17))
def test_a_number_with_two_digits_exchanged_is_refused(digits: str, place: int) -> None:
    number = with_check_digit(digits)
    place %= len(number) - 1
    first, second = number[place : place + 2]
    exchanged = number[:place] + second + first + number[place + 2 :]
    assert luhn(exchanged) == (first == second or {first, second} == {"0", "9"})


def test_a_card_is_good_to_the_end_of_its_month_and_a_year_may_have_two_digits() -> None:
    today = date.today()
    assert checked_expiration(today.month, today.year % 100) == (today.month, today.year)
    assert checked_expiration(today.month, today.year) == (today.month, today.year)
    last = today.replace(day=1) - timedelta(days=1)
    for month, year in [(last.month, last.year), (today.month, today.year - 1), (1, 2000)]:
        with pytest.raises(ToolError, match="expired"):
            checked_expiration(month, year)
    for month, year in [(0, today.year), (13, today.year), (1, today.year + 26), (1, 1999), (1, -5)]:
        with pytest.raises(ToolError, match="no expiration date"):
            checked_expiration(month, year)


async def told(task: Any, *calls: Any) -> list[str]:
    """What the tools of this task, which is the whole call, answer."""
    conversation = Conversation(create_voice_graph([task], llm=ScriptedModel([*calls, "Well."])))
    await conversation.run("Hello.")
    return [m.text for m in conversation.messages if m.type == "tool"]


@pytest.mark.parametrize(
    ("tool", "args", "answer"),
    [
        ("record_card_number", {"number": "4242 4242 4242 4243"}, "That is not a card number"),
        ("record_card_number", {"number": "42"}, "That is not a card number"),
        ("record_card_number", {"number": "four two"}, "That is not a card number"),
        ("record_card_number", {"number": "4242-4242-4242-4242"}, "Recorded. Ask for the name on the card."),
        ("record_security_code", {"code": "12345"}, "The security code has 3 or 4 digits."),
        ("record_security_code", {"code": "\u0661\u0662\u0663"}, "The security code has 3 or 4 digits."),
        ("record_cardholder", {"cardholder": "--"}, "Not a name."),
        ("record_expiration_date", {"month": 1, "year": 20}, "The card has expired."),
    ],
)
async def test_what_is_wrong_with_a_card_is_told_without_its_digits(tool: str, args: Any, answer: str) -> None:
    (said,) = await told(tasks.get_credit_card(), call(tool, args))
    assert said.startswith(answer)
    assert not any(str(value) in said for value in args.values())


@pytest.mark.parametrize(("number", "code"), [("378282246310005", "737"), (NUMBER, "7373")])
async def test_the_code_of_a_card_has_the_number_of_digits_of_its_network(number: str, code: str) -> None:
    said = await told(
        tasks.get_credit_card(),
        call("record_cardholder", {"cardholder": "Ada"}),
        call("record_expiration_date", {"month": 7, "year": 39}),
        call("record_security_code", {"code": code}),
        call("record_card_number", {"number": number}),
    )
    assert said[-1].startswith("The security code has another number of digits for this card.")


@pytest.mark.parametrize("encrypted", [False, True], ids=["left out", "encrypted"])
async def test_no_byte_of_a_stores_file_has_the_card(tmp_path: Path, encrypted: bool) -> None:
    found: list[Any] = []
    get_card = tasks.get_credit_card()

    @function_tool(needs={"card": get_card})
    async def pay(ctx: RunContext[Any], card: tasks.CreditCard) -> str:
        """Pay."""
        found.append(card)
        return "paid"

    model = ScriptedModel(
        {
            "desk": [call("pay"), "Paid."],
            "get_credit_card": [
                "Card?",
                call("record_card_number", {"number": NUMBER}),
                call("record_cardholder", {"cardholder": "Ada"}),
                call("record_expiration_date", {"month": 7, "year": 39}),
                "Code?",
                call("record_security_code", {"code": CODE}),
                "Right?",
                call("confirm_card"),
            ],
        }
    )
    desk = Agent("desk", instructions="Desk.", tools=[pay])
    secrets = EncryptedSerializer(Gcm()) if encrypted else None
    path = tmp_path / "calls.sqlite"
    events = []
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        graph = create_voice_graph([desk, get_card], llm=model, secrets=secrets)
        async with Conversation(graph, saver=saver) as conversation:
            for words in ("Pay.", f"{NUMBER}, Ada, 07/39", f"seven three seven, {CODE}", "Yes."):
                turn = conversation.turn(words, modality="audio")
                events += await conversation.run(turn=turn)
                await conversation.flush()
                assert NUMBER.encode() not in sqlite_bytes(path)
            assert conversation.active_agent == "desk"
    raw = sqlite_bytes(path)
    assert b"get_credit_card" in raw
    for secret in (NUMBER, "seven three seven"):
        assert secret.encode() not in raw
        assert secret not in repr(events) + repr(conversation.state) + repr(conversation.messages)
    for text in (f"'{CODE}'", f'"{CODE}"', f", {CODE}"):
        assert text not in repr(events) + repr(conversation.state) + repr(conversation.messages)
    assert [card.number for card in found] == [SecretStr(NUMBER)]


async def test_what_a_task_is_given_may_be_secret_too(tmp_path: Path) -> None:
    given: list[Any] = []

    @function_tool
    async def use(ctx: RunContext[Any]) -> Done:
        """Use it."""
        given.append(ctx.inputs)
        return ctx.complete("used")

    task = Task("check", result=str, instructions="Check.", tools=[use])

    @function_tool
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        return str(await ctx.run_task(task, pin=SecretStr("9753-1"), tries=[SecretStr("x")]))

    model = ScriptedModel({"desk": [call("pay"), "Paid."], "check": ["Well?", call("use")]})
    desk = Agent("desk", instructions="Desk.", tools=[pay], tasks=[task])
    path = tmp_path / "calls.sqlite"
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        graph = create_voice_graph([desk, task], llm=model, secrets=EncryptedSerializer(Gcm()))
        async with Conversation(graph, saver=saver) as conversation:
            await conversation.run("Pay.")
            await conversation.flush()
            assert "9753-1" not in repr(conversation.state)
            await conversation.run("Yes.")
    assert given == [{"pin": SecretStr("9753-1"), "tries": [SecretStr("x")]}]
    assert b"9753-1" not in sqlite_bytes(path)


# ---- the others


@pytest.mark.parametrize(
    "text",
    ["ada@example.org", "ada.b+c@mail.example.co.uk", "Ada_9-x@EXAMPLE.org", "a d a @ example . org", "ü@bücher.de"],
)
def test_an_email_address_is_taken(text: str) -> None:
    assert checked_email(text).partition("@")[2] == text.replace(" ", "").partition("@")[2].lower()


def test_an_email_address_may_be_as_it_was_said() -> None:
    assert checked_email("ada dot lovelace At example Dot co dot uk") == "ada.lovelace@example.co.uk"


@pytest.mark.parametrize(
    "text",
    ["", "ada", "ada@", "@example.org", "ada@example", "ada@@example.org", "ada@exa mple", "a..b@example.org",
     ".a@example.org", "ada@-example.org", "ada@example.org, bob@example.org", "<ada@example.org>", "a@b." + "c" * 70],
)  # fmt: skip
def test_what_is_no_email_address_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match="Not an email address"):
        checked_email(text)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused_and_nothing_else_happens(text: str) -> None:
    for check in (checked_email, checked_number):
        with contextlib.suppress(ToolError):
            assert check(text)


@given(
    st.text("0123456789", min_size=7, max_size=15), st.sampled_from(["", "+"]), st.sampled_from([" ", "-", ".", "/"])
)
def test_a_phone_number_is_taken_however_it_is_divided(digits: str, plus: str, between: str) -> None:
    assert checked_number(plus + between.join([digits[:3], digits[3:]])) == plus + digits


@pytest.mark.parametrize("text", ["", "123456", "1" * 16, "12345+67", "call me", "++12345678"])
def test_what_is_no_phone_number_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match="Not a phone number"):
        checked_number(text)


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2020, 1, 1)))
def test_a_day_in_the_past_is_a_date_of_birth(born: date) -> None:
    assert checked_date(born.year, born.month, born.day) == born
    birthday = tasks.DateOfBirth(date=born)
    assert birthday.age(born) == 0
    assert birthday.age(date(born.year + 1, 1, 1)) == (1 if (born.month, born.day) == (1, 1) else 0)


@pytest.mark.parametrize("day", [(2023, 2, 29), (1990, 13, 1), (0, 1, 1), (10**20, 1, 1), (1850, 1, 1), (90, 1, 1)])
def test_what_is_no_date_of_birth_is_refused(day: tuple[int, int, int]) -> None:
    with pytest.raises(ToolError):
        checked_date(*day)
    tomorrow = date.today() + timedelta(days=1)
    with pytest.raises(ToolError, match="future"):
        checked_date(tomorrow.year, tomorrow.month, tomorrow.day)


async def test_digits_are_as_many_as_are_asked_for() -> None:
    for digits, answer in [("12", "These are 2 digits"), ("1234567", "These are 7"), ("12a4", "Not only digits: 12a4")]:
        (said,) = await told(tasks.get_digits(length=(4, 6)), call("record_digits", {"digits": digits}))
        assert said.startswith(answer)
    (said,) = await told(tasks.get_secret_digits(length=4), call("record_digits", {"digits": "12345"}))
    assert said.startswith("These are 5 digits, and 4 are needed.")
    assert "12345" not in said


async def test_a_task_may_be_the_whole_call() -> None:
    record = call("record_email", {"address": "ada@x.org"})
    script = ["Mail?", record, "Right?", call("confirm_email")]
    conversation = Conversation(create_voice_graph([tasks.get_email(confirm=True)], llm=ScriptedModel(script)))
    for words in ("Hello.", "ada@x.org", "Yes."):
        assert conversation.result is None
        await conversation.run(words)
    assert conversation.result == tasks.Email(address="ada@x.org")


def test_what_can_not_work_is_refused() -> None:
    with pytest.raises(BuildError, match="at least one part"):
        tasks.get_name(first=False, last=False)
    for length in (0, (3, 2), -1):
        with pytest.raises(BuildError, match=r"length=.*: write "):
            tasks.get_digits(length=length)
