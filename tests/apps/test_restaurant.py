"""The restaurant: what a caller may try, in text and by voice."""

import itertools
import json
import logging
from typing import Any

import pytest
from app_call import GRAPHS, app_call
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice.launch.loading import load_graph
from graph_voice.secrets.values import MASK
from graph_voice.testing import Call, ScriptedModel, call, say
from graphs.restaurant.graph import confirm_checkout, takeaway
from graphs.restaurant.payments import DECLINED

pytestmark = pytest.mark.virtual_clock

HELLO = "Good evening. A table, or something to take away?"
TIME = call("update_reservation_time", {"time": "Friday at seven"})
NAME = call("update_name", {"name": "Ada"})
PHONE = call("update_phone", {"phone": "555 0134"})
TO_RESERVATION = [call("transfer_to_reservation"), "When would you like to come?"]
TO_TAKEAWAY = [call("transfer_to_takeaway"), "What would you like?"]
TWO_PIZZAS = call("update_order", {"items": [{"dish": "pizza", "count": 2}, {"dish": "coffee"}]})
CARD = {"number": "5193 8765 2091 3657", "expiry": "12/28", "security_code": "917"}
ORDERED = [
    HELLO,
    *TO_TAKEAWAY,
    TWO_PIZZAS,
    "Two pizzas and a coffee. Shall we go on?",
    call("to_checkout"),
    "22 dollars?",
]
ORDERING = ["Something to take away.", "Two pizzas and a coffee.", "Yes, I'd like to pay."]


async def test_a_table_is_asked_for_and_the_first_words_of_reservations_are_a_question(front_end: str) -> None:
    async with app_call("restaurant", front_end, [HELLO, *TO_RESERVATION]) as line:
        await line.says("I'd like to book a table.")
        assert line.current_agent == "reservation"
        assert line.spoken == [("greeter", HELLO), ("reservation", "When would you like to come?")]
        assert line.model.prompts[-1].tool_choice == "none", "it can't call anything with its first words"
        assert "Ask for day and time." in line.prompt(-1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_time_name_and_phone_come_in_any_order(front_end: str, order: tuple[int, ...]) -> None:
    given = [("Friday at seven.", TIME), ("I'm Ada.", NAME), ("It's 555 0134.", PHONE)]
    script: list[Any] = [HELLO, *TO_RESERVATION]
    for place in order:
        script += [given[place][1], "Noted. And?"]
    script += [call("confirm_reservation"), "See you on Friday, Ada. Anything else?"]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("A table, please.", *(given[place][0] for place in order), "Yes, book it.")
        guest = line.state
        assert (guest.name, guest.phone, guest.table_for, guest.reserved) == (
            "Ada",
            "555 0134",
            "Friday at seven",
            True,
        )
        assert line.handoffs == [("greeter", "reservation"), ("reservation", "greeter")]
        assert line.spoken[-1] == ("greeter", "See you on Friday, Ada. Anything else?")
        assert line.results[-1] == ("confirm_reservation", "Booked for Friday at seven in the name of Ada.")


@pytest.mark.parametrize(
    ("known", "refusal"),
    [([], "name and phone"), ([NAME], "name and phone"), ([PHONE], "name and phone"), ([NAME, PHONE], "time first")],
    ids=["nothing", "name", "phone", "name and phone"],
)
async def test_a_booking_with_something_missing_is_refused_and_stays(
    front_end: str, known: list[Any], refusal: str
) -> None:
    script = [
        HELLO,
        *TO_RESERVATION,
        *([say("", *known), "Noted."] if known else []),
        call("confirm_reservation"),
        "May I have the rest?",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("A table, please.", *(["Here is what I say."] if known else []), "Book it now.")
        assert line.results[-1][1].startswith("Not booked: ask for")
        assert refusal in line.results[-1][1]
        assert (line.current_agent, line.state.reserved) == ("reservation", False)
        assert line.spoken[-1] == ("reservation", "May I have the rest?")


async def test_an_order_is_stored_whole_and_a_change_replaces_it(front_end: str) -> None:
    changed = call("update_order", {"items": [{"dish": "soup", "count": 3, "wish": "no onions"}]})
    script = [HELLO, *TO_TAKEAWAY, TWO_PIZZAS, "That is 22.", changed, "That is 18."]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("Food, please.", "Two pizzas and a coffee.")
        assert [(item.dish, item.count) for item in line.state.order] == [("pizza", 2), ("coffee", 1)]
        assert line.results[-1] == ("update_order", "The order is 2 pizzas, 1 coffee: 22.00 dollars.")
        await line.says("No, three soups without onions.")
        assert [str(item) for item in line.state.order] == ["3 soups (no onions)"]


async def test_what_is_not_on_the_menu_is_not_ordered(front_end: str) -> None:
    sushi = call("update_order", {"items": [{"dish": "sushi"}]})
    async with app_call("restaurant", front_end, [HELLO, *TO_TAKEAWAY, sushi, "We have no sushi."]) as line:
        await line.says("Food, please.", "Sushi.")
        assert line.state.order == []
        assert "pizza" in line.results[-1][1], "the model is told what there is"
        assert line.spoken[-1] == ("takeaway", "We have no sushi."), "and the caller is not told that"


async def test_there_is_no_checkout_without_an_order(front_end: str) -> None:
    script = [HELLO, *TO_TAKEAWAY, call("to_checkout"), "What would you like first?"]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("Food, please.", "I want to pay.")
        assert line.results[-1] == ("to_checkout", "Not done: there is no order yet. Ask the caller for one.")
        assert line.current_agent == "takeaway"


async def test_an_order_is_paid_and_the_greeter_thanks(front_end: str) -> None:
    script = [
        *ORDERED,
        call("confirm_expense", {"dollars": 22}),
        "Your name and number?",
        say("", NAME, PHONE),
        "And your card?",
        call("update_credit_card", CARD),
        "Shall I charge it?",
        call("confirm_checkout"),
        "Thank you, Ada. What else can I do?",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(
            *ORDERING,
            "22 is right.",
            "Ada, 555 0134.",
            "It's 5193 8765 2091 3657, until 12/28, and the code is 917.",
        )
        assert line.state.card.number.get_secret_value() == "5193876520913657"
        await line.says("Yes.")
        guest = line.state
        assert (guest.expense, guest.checked_out, guest.name, guest.phone) == (22.0, True, "Ada", "555 0134")
        assert guest.card is None, "nobody needs it any more"
        assert line.handoffs == [("greeter", "takeaway"), ("takeaway", "checkout"), ("checkout", "greeter")]
        assert line.spoken[-1] == ("greeter", "Thank you, Ada. What else can I do?")
        assert "Thank Ada for the order" in line.prompt(-1)


@pytest.mark.parametrize(
    ("before", "refusal"),
    [
        ([], "Not paid: let the caller agree"),
        ([call("confirm_expense", {"dollars": 22})], "Not paid: ask for the card"),
        ([call("update_credit_card", CARD)], "Not paid: let the caller agree"),
    ],
    ids=["nothing", "no card", "no amount"],
)
async def test_nothing_is_charged_before_amount_and_card_are_there(
    front_end: str, before: list[Any], refusal: str
) -> None:
    script = [*ORDERED, say("", *before, call("confirm_checkout")), "One thing is missing."]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(*ORDERING, "Charge my card.")
        assert line.results[-1][1].startswith(refusal)
        assert (line.current_agent, line.state.checked_out) == ("checkout", False)


async def test_the_amount_is_the_orders_and_a_card_that_is_none_is_refused(front_end: str) -> None:
    script = [
        *ORDERED,
        call("confirm_expense", {"dollars": 2}),
        "It is 22.",
        call("update_credit_card", {**CARD, "number": "5193"}),
        "Say it again, please.",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(*ORDERING, "Two dollars?", "My card is 5193.")
        assert line.results[-2] == ("confirm_expense", "The order comes to 22.00 dollars, not 2.00: tell the caller.")
        assert line.results[-1][1].startswith("That is no card")
        assert (line.state.expense, line.state.card) == (None, None)


async def test_a_declined_card_is_forgotten_and_another_one_asked_for(front_end: str) -> None:
    script = [
        *ORDERED,
        call("confirm_expense", {"dollars": 22}),
        "Your card?",
        call("update_credit_card", {**CARD, "number": DECLINED}),
        "Shall I?",
        call("confirm_checkout"),
        "Do you have another one?",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(*ORDERING, "Right.", f"It's {DECLINED}, 12/28, 917.", "Yes.")
        assert line.results[-1] == ("confirm_checkout", "The bank declined the card. Ask the caller for another one.")
        assert (line.current_agent, line.state.card, line.state.checked_out) == ("checkout", None, False)


@pytest.mark.parametrize(
    "way",
    [
        [("A table.", TO_RESERVATION)],
        [("Food.", TO_TAKEAWAY)],
        [("Food.", TO_TAKEAWAY), ("Pizza.", [TWO_PIZZAS, "22."]), ("Pay.", [call("to_checkout"), "22?"])],
    ],
    ids=["reservation", "takeaway", "checkout"],
)
async def test_anything_else_goes_back_to_the_greeter(front_end: str, way: list[tuple[str, list[Any]]]) -> None:
    script = [
        HELLO,
        *(reply for _, replies in way for reply in replies),
        call("transfer_to_greeter"),
        "We open at noon.",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(*(words for words, _ in way))
        specialist = line.current_agent
        await line.says("When do you open?")
        assert line.handoffs[-1] == (specialist, "greeter")
        assert line.spoken[-1] == ("greeter", "We open at noon.")


async def test_a_greeter_who_gets_the_caller_back_knows_what_it_said_and_answers_the_open_question(
    front_end: str,
) -> None:
    hello = "The Copper Ladle. By the way, our terrace is open. A table, or something to take away?"
    script = [
        hello,
        TO_TAKEAWAY[0],
        *TO_TAKEAWAY[1:],
        *(TWO_PIZZAS, "22 so far."),
        *("Anything else?" for _ in range(4)),
        call("transfer_to_greeter"),
        "Yes, it is, until ten.",
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("Food.", "Two pizzas.", *(f"Let me think, part {n}." for n in range(4)))
        assert line.current_agent == "takeaway"
        await line.says("Is that terrace open tonight as well?")
        assert line.spoken[-1] == ("greeter", "Yes, it is, until ten.")
        shown = line.prompt(-1)
        assert "our terrace is open" in shown, "its own part, long before the last six messages"
        assert "Is that terrace open tonight as well?" in shown
        assert "don't greet" in shown


async def test_an_order_is_changed_on_the_way_to_the_payment(front_end: str) -> None:
    script = [*ORDERED, call("transfer_to_takeaway"), "What shall I change?"]
    async with app_call("restaurant", front_end, script) as line:
        await line.says(*ORDERING, "I want one more pizza.")
        assert line.current_agent == "takeaway"
        assert "Ask what to change about the order." in line.prompt(-1)
        assert len(line.state.order) == 2


async def test_a_name_that_reservations_know_is_known_at_the_checkout(front_end: str) -> None:
    script = [
        HELLO,
        *TO_RESERVATION,
        say("", TIME, NAME, PHONE),
        "Shall I book it?",
        call("confirm_reservation"),
        "Anything else?",
        *ORDERED[1:],
    ]
    async with app_call("restaurant", front_end, script) as line:
        await line.says("A table.", "Friday at seven, Ada, 555 0134.", "Yes.", *ORDERING)
        assert line.current_agent == "checkout"
        known = line.prompt(-1).partition("What is known so far:")[2]
        assert "name: Ada" in known
        assert "555 0134" in known


# ---- the card


class Watcher(AsyncCallbackHandler):
    """Every run but the model's own, as a tracer gets it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.seen += [json.dumps(inputs, default=str), repr(inputs)]

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.seen += [json.dumps(outputs, default=str), repr(outputs)]

    async def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self.seen += [input_str, repr(kwargs)]

    async def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.seen.append(repr(output))


SAID = "My card is five one nine three, 8765, double two oh nine one... no, 5193 8765 2091 3657, until 12/28, code 917."


async def test_the_card_is_in_no_prompt_result_trace_checkpoint_or_log(
    front_end: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="graph_voice")
    watcher, saver = Watcher(), InMemorySaver()
    script = [
        *ORDERED,
        call("confirm_expense", {"dollars": 22}),
        "And your card?",
        call("update_credit_card", CARD),
        "Shall I charge it?",
        call("confirm_checkout"),
        "Thank you. Anything else?",
        call("transfer_to_takeaway"),
        "What would you like?",
    ]
    options: dict[str, Any] = {"saver": saver, "thread_id": "1", "config": {"callbacks": [watcher]}}
    async with app_call("restaurant", front_end, script, **options) as line:
        await line.says(*ORDERING, "22 is right.", SAID, "Yes.", "More food, please.")
        await line.conversation.flush()
        conversation, model = line.conversation, line.model
        spoken = [text for _, text in line.spoken]
        items = [] if line.rig is None else line.rig.session.history.to_dict()["items"]
    told = next(i for i in range(len(model.prompts)) if SAID in line.prompt(i))
    assert model.prompts[told].agent == "checkout"
    prompts = [line.prompt(i) for i in range(len(model.prompts)) if i != told]
    assert len(prompts) == len(model.prompts) - 1, "only the one that has to take it"
    assert any(MASK in prompt for prompt in prompts)
    results = [result for _, result in line.results]
    texts = [m.text for m in conversation.messages]
    history = [str([item.get(key) for key in ("content", "arguments", "output")]) for item in items]
    for found in (*spoken, *prompts, *results, *texts, *history, caplog.text):
        for secret in ("5193", "8765", "2091", "3657", "12/28", "917", "five one nine"):
            assert secret not in found, found
    # Ids and times are in these: only what can't be there by chance.
    stored = repr(dict(saver.storage)) + repr(dict(saver.blobs)) + repr(dict(saver.writes))
    for found in (*watcher.seen, stored, repr(conversation.state), repr(conversation.messages)):
        for secret in (
            "5193 8765",
            "51938765",
            "2091 3657",
            "20913657",
            "until 12/28",
            "'12/28'",
            "code 917",
            "'917'",
            '"917"',
        ):
            assert secret not in found, f"...{found[max(0, found.find(secret) - 200) : found.find(secret) + 40]}..."
    assert "Two pizzas and a coffee" in stored, "the rest of the call is there"


@pytest.mark.parametrize("way", ["core", "livekit", "ainvoke"])
async def test_a_call_that_another_process_takes_up_charges_no_empty_card(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is not stored, so there is none: neither in a resumed call, nor in Studio, which reads each turn."""
    charged: list[str] = []

    async def charge(card: Any, dollars: float, *, key: str) -> None:
        charged.append(card.number.get_secret_value())

    monkeypatch.setitem(confirm_checkout.__globals__, "charge", charge)

    def answer(messages: Any) -> Any:
        last = messages[-1]
        said = {"Pizza.": TWO_PIZZAS, "Pay.": call("to_checkout"), "Yes.": call("confirm_checkout")}
        said["22, and my card."] = say("", call("confirm_expense", {"dollars": 22}), call("update_credit_card", CARD))
        return said.get(last.text, "Well?") if last.type == "human" else f"[{last.text}]"

    model, saver = ScriptedModel(answer), InMemorySaver()
    graph = load_graph(str(GRAPHS / "restaurant"))
    first = ["Food.", "Pizza.", "Pay.", "22, and my card."]
    if way == "ainvoke":
        compiled = graph.compile(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "1", "llm": model}}
        await compiled.ainvoke({"messages": ["x"], "active_agent": "takeaway"}, config)
        for words in [*first, "Yes."]:
            state = await compiled.ainvoke({"messages": [("user", words)]}, config)
        guest, messages = state["userdata"], state["messages"]
    else:
        options: dict[str, Any] = {"front_end": way, "saver": saver, "thread_id": "1", "llm": model, "check": False}
        async with Call(graph, **options) as phone:
            await phone.update_agent("takeaway")
            for words in first:
                await phone.says(words)
            assert phone.userdata.card.number.get_secret_value() == "5193876520913657"
        async with Call(graph, **options) as phone:
            await phone.says("Yes.")
            guest, messages = phone.userdata, phone.messages
    assert charged == []
    assert (guest.card, guest.checked_out, guest.expense) == (None, False, 22.0)
    assert [m.text for m in messages if m.type == "tool"][-1].startswith("Not paid: ask for the card")


def test_the_menu_is_in_the_prompt() -> None:
    assert isinstance(takeaway.instructions, str)
    assert "pizza 10 dollars" in takeaway.instructions
