"""What is known to be secret is found by its value, and what is not stays as it is, the same object."""

import traceback
from dataclasses import dataclass, field
from typing import Any

import pytest
from history_support import thorough
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from misplaced_support import CARD, SPELLINGS, found_in
from pydantic import BaseModel, SecretStr, ValidationError

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.secrets.arguments import redact_arguments, secret_schemas
from graph_voice.secrets.known import NOTHING, Known, known_of
from graph_voice.secrets.spoken import redact
from graph_voice.secrets.values import MASK, Redacted, revealed_in
from graph_voice.testing import ScriptedModel, call, say

KNOWN = Known(["swordfish", "1980-05-03"], CARD)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-99999, 99999) | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
@thorough
def test_what_has_no_secret_is_the_same_object(value: Any) -> None:
    if found_in(repr(value)) is None and not any(s in repr(value).lower() for s in ("swordfish", "527384")):
        kept = KNOWN.value(value)
        assert kept is value or found_in_parts(value)
    assert NOTHING.value(value) is value


def found_in_parts(value: Any) -> bool:
    """Whether six digits of the card stand in a row in it, torn apart by whatever."""
    digits = "".join(c for c in repr(value) if c.isdecimal())
    return any(CARD[i : i + 6] in digits for i in range(11))


@pytest.mark.parametrize("spelled", SPELLINGS.values(), ids=list(SPELLINGS))
@given(before=st.text(max_size=12), after=st.text(max_size=12))
@thorough
def test_a_number_is_found_in_any_text_and_can_be_read_by_the_tool(spelled: str, before: str, after: str) -> None:
    text = f"{before} {spelled} {after}"
    shown = KNOWN.text(text)
    assert MASK in shown
    assert found_in(shown) is None
    args = KNOWN.value({"a": [text, {"b": spelled}], "c": int(CARD), "d": float(CARD)}, keep=True)
    assert found_in(repr(args)) is None
    assert revealed_in(args) == {"a": [text, {"b": spelled}], "c": int(CARD), "d": float(CARD)}


@pytest.mark.parametrize(
    "text",
    [
        "Your order 12345678 costs 49.90.",
        "Call 555 010 0199 on May 4th, 1980.",
        "Card ending in 4756, valid until 12/27.",
        "5273 XXXX XXXX 4756",
        "52738 people",
        "sword, fish",
    ],
)
def test_what_only_looks_like_it_stays(text: str) -> None:
    assert KNOWN.text(text) is text


@pytest.mark.parametrize(
    "text", ["It is SwordFish.", '{"word": "swordfish"}', "Born on the third of May, nineteen eighty", "born 3/5/80"]
)
def test_words_and_dates_are_found_too(text: str) -> None:
    assert MASK in KNOWN.text(text)


class Body(BaseModel):
    text: str = ""
    parts: list[Any] = []


@dataclass
class Sent:
    text: str
    inside: list[Any] = field(default_factory=list)


def test_messages_models_and_dataclasses_are_searched() -> None:
    message = ToolMessage(CARD, tool_call_id="1", artifact=[Body(text=CARD), Sent(CARD, [CARD])])
    shown = KNOWN.value([message, (CARD, 1), {CARD}, CARD.encode(), {"n": int(CARD)}])
    assert found_in(repr(shown)) is None
    assert [type(part) for part in shown] == [ToolMessage, tuple, set, bytes, dict]
    assert isinstance(shown[0].artifact[0], Body)
    assert isinstance(shown[0].artifact[1], Sent)
    assert found_in(repr(message)), "the tool's own objects stay as they are"


# ---- errors


class Stubborn(Exception):
    """Its text can't be changed."""

    def __str__(self) -> str:
        return f"stubborn {CARD}"


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def invalid() -> ValidationError:
    class Strict(BaseModel):
        number: int

    try:
        Strict.model_validate({"number": [CARD]})
    except ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "error",
    [
        ValueError(f"no {CARD}"),
        KeyError(CARD),
        OSError(5, CARD, f"/tmp/{CARD}"),
        raised(RuntimeError("x"), ValueError(CARD)),
        raised(RuntimeError("x"), raised(ValueError("y"), KeyError(CARD))),
        ExceptionGroup("all", [ValueError(CARD), ExceptionGroup("inner", [KeyError(CARD)])]),
        Stubborn(),
        invalid(),
        raised(ValueError("x"), invalid()),
        UnicodeDecodeError("utf-8", CARD.encode(), 0, 1, CARD),
    ],
    ids=repr,
)
def test_an_error_s_text_causes_and_notes_hold_nothing(error: Exception) -> None:
    error.add_note(f"sent {CARD}")
    shown = KNOWN.error(error)
    assert found_in("".join(traceback.format_exception(shown)) + repr(shown) + repr(vars(shown))) is None


def test_an_error_without_a_secret_is_the_same_and_a_circle_ends() -> None:
    error = ValueError("x")
    error.self = error  # type: ignore[attr-defined]
    error.__context__ = other = KeyError("y")
    other.__context__ = None
    assert KNOWN.error(error) is error
    assert str(error) == "x"


# ---- a message


@function_tool
async def store_card(ctx: RunContext[Any], number: SecretStr) -> str:
    """Store."""
    return "Stored."


@function_tool
async def note(ctx: RunContext[Any], text: str) -> str:
    """Note."""
    GOT.append(text)
    return "Noted."


GOT: list[str] = []
SCHEMAS = secret_schemas(Agent("a", instructions="A.", tools=[store_card, note]).own_tools)


def test_a_password_that_is_passed_to_a_misspelled_tool_or_parameter_is_redacted_though_nobody_knows_it() -> None:
    made = [("store_crad", {"word": "swordfish", "yes": True}), ("store_card", {"password": ["swordfish"]})]
    message = AIMessage("", tool_calls=[{"name": n, "args": a, "id": str(i)} for i, (n, a) in enumerate(made)])
    shown = redact_arguments(message, SCHEMAS, {"store_card", "note"})
    assert [c["args"] for c in shown.tool_calls] == [{"word": MASK, "yes": True}, {"password": [MASK]}]


def test_a_password_beside_its_own_argument_is_redacted_in_the_same_message() -> None:
    calls = [("store_card", {"number": "swordfish"}), ("note", {"text": "the word is Swordfish"})]
    message = AIMessage("I take swordfish.", tool_calls=[{"name": n, "args": a, "id": n} for n, a in calls])
    shown = redact_arguments(message, SCHEMAS, {"store_card", "note"})
    assert "swordfish" not in repr(shown).lower()
    assert shown.text == f"I take {MASK}."


def test_a_short_code_is_redacted_in_the_provider_s_own_copy_of_the_arguments_too() -> None:
    block: dict[str, Any] = {"type": "tool_use", "id": "1", "name": "store_card", "input": {"number": "907"}}
    message = AIMessage([block], tool_calls=[{"name": "store_card", "args": {"number": "907"}, "id": "1"}])
    assert "907" not in repr(redact_arguments(message, SCHEMAS))


def test_an_agent_that_takes_no_secret_writes_what_it_wants() -> None:
    message = AIMessage(CARD, tool_calls=[{"name": "other", "args": {"n": CARD}, "id": "1"}])
    assert redact_arguments(message, {}, set(), KNOWN) is message


def test_only_what_the_caller_said_to_an_agent_that_takes_secrets_is_known() -> None:
    said = redact(HumanMessage(f"My card is {CARD}.", id="1"), frozenset({"till"}))
    other = redact(HumanMessage("My order is 12345678.", id="2"), frozenset())
    known = known_of([said, other])
    assert known.text(f"{CARD} for order 12345678") == f"{MASK} for order 12345678"
    assert known.text("Order 12345678.") == "Order 12345678."
    assert known_of([other], open_words=True).text("Order 12345678.") == f"Order {MASK}."


# ---- in a call


def conversation(*script: Any) -> tuple[Conversation[Any], ScriptedModel]:
    GOT.clear()
    model = ScriptedModel([*script])
    agent = Agent("till", instructions="Pay.", tools=[store_card, note])
    return Conversation(create_voice_graph([agent], llm=model)), model


async def test_another_tool_gets_the_number_that_everything_else_shows_as_a_mask() -> None:
    talk, model = conversation(call("note", {"text": "phone 555 010 0199"}), "Noted.", "You are welcome.")
    await talk.run("My phone is 555 010 0199.")
    await talk.run("Thanks.")
    assert GOT == ["phone 555 010 0199"]
    assert talk.messages[1].tool_calls[0]["args"] == {"text": f"phone {MASK}"}  # type: ignore[union-attr]
    assert "555 010 0199" in model.prompts[2].messages[1].text, "the agent reads it in the caller's words"
    await talk.aclose()


async def test_a_model_that_repeats_a_mask_is_told_to_write_what_the_caller_said() -> None:
    talk, model = conversation(call("note", {"text": MASK}), call("note", {"text": "5550100"}), "Noted.")
    await talk.run("My phone is 555 0100.")
    assert GOT == ["5550100"]
    assert talk.messages[2].text == "text is redacted here: write it as the caller said it, or ask for it again."
    assert not model.errors
    await talk.aclose()


async def test_what_an_agent_says_is_spoken_and_remembered_without_the_number() -> None:
    talk, _ = conversation(say("5273 8491 6038 4756, is that right?"), "Fine.")
    seen = await talk.run(f"It is {CARD}.")
    assert "5273 8491 6038 4756" in "".join(getattr(event, "text", "") for event in seen)
    assert talk.messages[-1].text == f"{MASK}, is that right?"
    await talk.aclose()


def test_redacted_values_are_equal_by_what_they_stand_for() -> None:
    one, other = (KNOWN.value({"a": CARD}, keep=True)["a"] for _ in range(2))
    assert isinstance(one, Redacted)
    assert one == other
    assert one != KNOWN.value({"a": f"{CARD} "}, keep=True)["a"]
