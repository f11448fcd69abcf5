"""A card number that the caller says aloud: shown to the agent that takes it until it is taken, and to nobody else."""

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from history_support import thorough
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import interrupt
from pydantic import BaseModel, SecretStr
from secrets_support import Watcher, sqlite_bytes

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.secrets.numbers import numbers_in
from graph_voice.secrets.spoken import close, open_words, redact, words_of
from graph_voice.secrets.values import MASK
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

CARD = "4111222233334444"
TILL = frozenset({"till"})
WAYS_TO_SAY = [
    "My card is 4111222233334444.",
    "My card is 4111 2222 3333 4444, thanks.",
    "It's 4111-2222-3333-4444.",
    "It is 4111, then 2222, then 3333 and 4444.",
    "four one one one two two two two three three three three four four four four",
    "Four, one one one, double two, double two, triple three, three, double four double four",
    "forty one eleven, twenty two twenty two, thirty three thirty three, forty four forty four",
    "four one one one to to two two three three three three for for four four",  # as a recogniser may write it
    "٤١١١ ٢٢٢٢ ٣٣٣٣ ٤٤٤٤",
]


def digits(text: str) -> str:
    return "".join(c for c in text if c.isdecimal())


# ---- numbers in speech


@pytest.mark.parametrize("text", WAYS_TO_SAY)
def test_a_number_is_found_however_it_is_said(text: str) -> None:
    (number,) = numbers_in(text)
    assert number.find(CARD, whole_pieces=False) == (number.start, number.end)


@pytest.mark.parametrize(
    "text",
    [
        "Two pizzas for four, please.",
        "A table for two at seven.",
        "I won, to be fair.",
        "",
        "Oh, too bad.",
    ],
)
def test_small_numbers_are_nobodys_secret(text: str) -> None:
    message = HumanMessage(text, id="1")
    assert redact(message, TILL) is message


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "It's 4111 2222 3333 4444, expiry 12/27, and the code is one two three.",
            f"It's {MASK}, expiry {MASK}, and the code is {MASK}.",
        ),
        ("two pizzas, and call 555 0100", f"two pizzas, and call {MASK}"),
    ],
)
def test_an_agent_that_takes_secrets_has_the_words_and_all_others_a_mask(text: str, shown: str) -> None:
    held = redact(HumanMessage(text, id="1"), TILL)
    assert held.text == shown
    assert [m.text for m in open_words([held], "till")] == [text]
    assert [m.text for m in open_words([held], "host")] == [shown]
    assert words_of(held) == text


def test_a_card_number_told_to_the_wrong_agent_is_shown_to_nobody_and_a_phone_number_is_what_it_was() -> None:
    held = redact(HumanMessage("Pay with 4111 2222 3333 4444, my phone is 555 010 0199.", id="1"), frozenset())
    assert held.text == f"Pay with {MASK}, my phone is 555 010 0199."
    assert type(held.content) is str, "there is nothing to open"


def test_words_in_content_blocks_are_held_back_too() -> None:
    blocks: Any = [{"type": "text", "text": "My code is 123"}, {"type": "image", "url": "x"}, "4111 2222"]
    held = redact(HumanMessage(blocks, id="1"), TILL)
    assert held.content[0] == {"type": "text", "text": f"My code is {MASK}"}
    assert held.content[1] == blocks[1]
    assert open_words([held], "till")[0].content == blocks


# ---- closing


def test_what_was_taken_is_closed_and_the_rest_is_not() -> None:
    held = redact(HumanMessage("4111 2222 3333 4444, 12/27, 123", id="1"), TILL)
    (closed,) = close([held], [CARD])
    assert open_words([closed], "till")[0].text == f"{MASK}, 12/27, 123"
    (closed,) = close([closed], ["12/27"])
    assert open_words([closed], "till")[0].text == f"{MASK}, {MASK}, 123"
    (closed,) = close([closed], ["123"])
    assert open_words([closed], "till")[0].text == closed.text == MASK
    assert type(closed.content) is str


@pytest.mark.parametrize(
    "text", ["May 3rd, 1980", "on May 3, 1980.", "the third of May 1980", "3 5 1980", "05/03/1980"]
)
def test_a_date_is_closed_in_whatever_order_it_is_said(text: str) -> None:
    (closed,) = close([redact(HumanMessage(f"I was born {text}", id="1"), TILL)], ["1980-05-03"])
    assert "1980" not in open_words([closed], "till")[0].text
    assert close([HumanMessage("In 1981, on 3 5 12", id="1")], ["1980-05-03"]) == []


def test_a_number_said_in_two_breaths_is_closed_in_both() -> None:
    said = [redact(HumanMessage(t, id=t), TILL) for t in ("It's 4111 2222", "and 3333 4444.", "The code is 124.")]
    closed = close(said, [CARD])
    assert [m.text for m in open_words(closed, "till")] == [f"It's {MASK}", f"and {MASK}."]


def test_a_short_secret_is_not_found_inside_of_another_number() -> None:
    said: list[AnyMessage] = [HumanMessage("Flat 1234, and 123 it is", id="1")]
    assert [m.text for m in close(said, ["123"])] == [f"Flat 1234, and {MASK} it is"]
    assert close([HumanMessage("12 people", id="1")], ["12"]) == []


def test_words_that_are_a_secret_are_closed_by_their_value_also_where_an_agent_has_repeated_them() -> None:
    said: list[AnyMessage] = [
        HumanMessage("My password is Swordfish.", id="1"),
        AIMessage("swordfish, is that right?", id="2"),
        HumanMessage("Yes.", id="3"),
        AIMessage("Thank you, swordfish.", id="4"),
    ]
    closed = close(said, ["swordfish"])
    assert [(m.id, m.text) for m in closed] == [("1", f"My password is {MASK}."), ("2", f"{MASK}, is that right?")]


PHRASES = [
    "my card number is",
    "and",
    "the code",
    "double",
    "to",
    "for",
    "oh",
    "seven",
    "twenty",
    "12",
    "4444",
    "three",
]
WORDS = st.sampled_from([*PHRASES, "thanks,", "dash", "/", "-", ".", "hundred"])


@given(before=st.lists(WORDS, max_size=6), after=st.lists(WORDS, max_size=6), how=st.sampled_from(WAYS_TO_SAY))
@thorough
def test_wherever_it_is_said_nobody_else_is_shown_it_and_no_copy_tells(
    before: list[str], after: list[str], how: str
) -> None:
    text = " ".join([*before, how, *after])
    held = redact(HumanMessage(text, id="1"), TILL)
    dumped = [
        held.text,
        held.model_dump_json(),
        repr(held),
        repr(pickle.loads(pickle.dumps(held))),
        repr(JsonPlusSerializer().dumps_typed(held)),
        json.dumps(held.model_dump(), default=str),
    ]
    assert MASK in held.text
    assert "4111" not in "".join(dumped)
    assert not any(n.find(CARD, whole_pieces=False) for n in numbers_in(held.text))
    assert open_words([held], "till")[0].text == text
    closed = close([held], [CARD])
    assert len(closed) == 1
    for shown in (closed[0], open_words(closed, "till")[0]):
        assert not any(CARD in digits(n) for n in [shown.text])
        assert not any(CARD in "".join(p.digits for p in n.pieces) for n in numbers_in(shown.text))


@given(st.text(max_size=40))
@thorough
def test_any_text_can_be_held_back_opened_and_closed(text: str) -> None:
    held = redact(HumanMessage(text, id="1"), TILL)
    assert open_words([held], "till")[0].text == text
    assert redact(held, TILL) is held
    for message in close([held], ["123", CARD, "swordfish"]):
        assert "swordfish" not in message.text.lower()


# ---- in a call


class Caller(BaseModel):
    card: SecretStr | None = None
    phone: str = ""


@function_tool
async def take_card(ctx: RunContext[Caller], number: SecretStr) -> str:
    """Take the caller's card."""
    ctx.userdata.card = number
    return "Taken."


@function_tool
async def take_phone(ctx: RunContext[Caller], phone: str) -> str:
    """Take the caller's phone number."""
    ctx.userdata.phone = phone
    return "Noted."


@function_tool
async def ask_card(ctx: RunContext[Caller]) -> str:
    """Ask for the card."""
    ctx.userdata.card = SecretStr(str(interrupt("What is the number?")))
    return "Taken."


def shop(model: ScriptedModel) -> Any:
    till = Agent(
        "till",
        instructions="Take payments.",
        tools=[take_card, take_phone, ask_card],
        handoffs=[Handoff("host", history=history.full())],
    )
    host = Agent("host", instructions="Help.", handoffs=[Handoff("till", history=history.full())])
    return create_voice_graph([till, host], userdata=Caller, start="till", llm=model)


def shown(model: ScriptedModel, index: int) -> str:
    return "\n".join(m.text for m in model.prompts[index].messages)


def test_prompts_are_what_they_were_in_a_graph_without_secrets() -> None:
    graph = create_voice_graph([Agent("a", instructions="A.", tools=[take_phone])], llm=ScriptedModel(["Yes."]))
    message = HumanMessage("My card is 4111 2222 3333 4444.", id="1")
    assert Conversation(graph).call.redact(message) is message


async def test_the_words_are_in_the_prompt_that_takes_them_and_in_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model = ScriptedModel(
        [
            "And your card?",
            call("take_phone", {"phone": "555 0100"}),
            call("take_card", {"number": CARD}),
            "Thanks.",
            call("transfer_to_host"),
            "Anything else?",
            "Glad to help.",
        ]
    )
    watcher, path = Watcher(), tmp_path / "calls.sqlite"
    words = [
        "Phone: 555 0100.",
        "The card is 4111 2222 3333 4444.",
        "Back to the host.",
        "No, my card was 4111 2222 3333 4444.",
    ]
    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        conversation = Conversation(shop(model), thread_id="1", config={"callbacks": [watcher]}, saver=saver)
        async with conversation:
            for text in words:
                await conversation.run(text)
                await conversation.flush()
            check_invariants(conversation, said=words, current_agent="host")
            assert conversation.userdata.card == SecretStr(CARD)
            assert [m.text for m in conversation.messages if isinstance(m, HumanMessage)] == [
                f"Phone: {MASK}.",
                f"The card is {MASK}.",
                "Back to the host.",
                f"No, my card was {MASK}.",
            ]
            remembered = repr(conversation.state) + json.dumps(
                [m.model_dump() for m in (*conversation.messages, *conversation.chat_ctx)], default=str
            )
    seen = [i for i in range(len(model.prompts)) if "4111 2222 3333 4444" in shown(model, i)]
    assert seen == [1, 2], "from the words to the call that takes them"
    assert "555 0100" in shown(model, 3), "what nobody took as a secret is this agent's still"
    assert "555 0100" not in shown(model, 5), "and no other agent's"
    assert not model.errors
    for found in (remembered, caplog.text, repr(sqlite_bytes(path))):
        assert "4111" not in found
    chains = [s for name, s in zip(watcher.names, watcher.seen, strict=False) if name != "prompt"]
    assert chains


async def test_a_turn_that_was_not_committed_closes_nothing() -> None:
    model = ScriptedModel([call("take_card", {"number": CARD}), call("take_card", {"number": CARD}), "Thanks."])
    conversation = Conversation(shop(model))
    guess = conversation.turn("It is 4111 2222 3333 4444")
    async for event in guess:
        if type(event).__name__ == "ToolCalls":
            break
    guess.discard()
    await conversation.run("It is 4111 2222 3333 4444.")
    assert "4111 2222 3333 4444" in shown(model, 1)
    assert "4111" not in shown(model, 2)
    await conversation.aclose()


async def test_other_final_words_are_held_back_as_well() -> None:
    model = ScriptedModel([call("take_card", {"number": CARD}), "Thanks."])
    conversation = Conversation(shop(model))
    turn = conversation.turn("It is 4111 2222 3333 444")
    turn.commit("It is 4111 2222 3333 4444.")
    assert conversation.messages[0].text == f"It is {MASK}."
    await conversation.run(turn=turn)
    assert conversation.messages[0].text == f"It is {MASK}."
    assert conversation.userdata.card == SecretStr(CARD)
    await conversation.aclose()


async def test_a_tool_that_asks_for_it_gets_it_and_another_agent_has_a_mask() -> None:
    model = ScriptedModel([call("ask_card"), "Thanks.", call("transfer_to_host"), "Hello."])
    conversation = Conversation(shop(model))
    await conversation.run("I want to pay.")
    await conversation.run(CARD)
    assert conversation.userdata.card == SecretStr(CARD)
    await conversation.run("The host, please.")
    assert CARD not in shown(model, 3)
    assert CARD not in repr(conversation.messages)
    await conversation.aclose()


async def test_words_that_are_no_number_are_closed_when_they_are_taken_before_anything_is_stored(
    tmp_path: Path,
) -> None:
    stored: list[bytes] = []
    path = tmp_path / "calls.sqlite"

    @function_tool
    async def log_in(password: SecretStr) -> str:
        """Log in."""
        stored.append(sqlite_bytes(path))
        return "Welcome."

    gate = Agent("gate", instructions="Let in.", tools=[log_in])
    model = ScriptedModel([say("One moment.", call("log_in", {"password": "swordfish"})), "Welcome.", "Yes?"])
    graph = create_voice_graph([gate], llm=model)
    async with (
        AsyncSqliteSaver.from_conn_string(str(path)) as saver,
        Conversation(graph, thread_id="1", saver=saver) as conversation,
    ):
        await conversation.run("The word is swordfish.")
        await conversation.run("Hello?")
    assert b"The word is" in stored[0], "the words are stored before the tool acts"
    assert b"swordfish" not in stored[0] + sqlite_bytes(path)
    assert ["swordfish" in shown(model, i) for i in range(3)] == [True, False, False]


async def test_outside_of_a_conversation_the_next_prompts_have_a_mask() -> None:
    model = ScriptedModel([call("take_card", {"number": CARD}), "Thanks.", call("transfer_to_host"), "Hello."])
    graph = shop(model).compile()
    state: Any = await graph.ainvoke({"messages": ["My card is 4111 2222 3333 4444."]})
    state = await graph.ainvoke({**state, "messages": [*state["messages"], HumanMessage("The host, please.")]})
    assert "4111" in shown(model, 0)
    assert not any("4111" in shown(model, i) for i in (1, 2, 3))
    assert "4111" not in repr(state["messages"])


async def test_what_is_said_outside_of_a_turn_is_held_back() -> None:
    conversation = Conversation(shop(ScriptedModel([])))
    conversation.add(HumanMessage("4111 2222 3333 4444"))
    assert [m.text for m in conversation.messages] == [MASK]
    await conversation.aclose()
