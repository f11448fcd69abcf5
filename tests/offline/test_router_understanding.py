"""What the router acts on: exact examples, whole clauses, merged wishes; and what it never acts on."""

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.launch.loading import load_graph
from graph_voice.testing import Call
from graph_voice_livekit.offline.examples import Examples, ExamplesError
from graph_voice_livekit.offline.router import IntentRouter
from graph_voice_livekit.offline.slot_types import SLOT_TYPES

GRAPHS = Path(__file__).parents[2] / "graphs"

SHOP = """
slots:
  name: {type: name, asked: [name]}
  reason: {type: choice, choices: {fever: [], cough: []}}
  time: time
  dish: {type: choice, choices: {pizza: [], soup: [], ice_cream: [gelato]}}
  count: {type: count, minimum: 1, maximum: 20, default: 1}
  sauce: {type: choice, choices: {ketchup: [], mustard: []}}
outside: ["What is the weather like?", "Do you like music?"]
agents:
  front_desk:
    enter: ["Hello."]
    intents:
      - {name: gives_name, patterns: ["my name's {name}", "I'm {name}", "{name}"], tool: note, args: {name: "{name}"}}
      - {name: gives_reason, patterns: ["I have a {reason}", "{reason}"], tool: note, args: {reason: "{reason}"}}
      - {name: books, patterns: ["{time}"], examples: [I would like to come on Friday at seven.], tool: book,
         args: {time: "{time}"}, reply: ["When?"]}
      - {name: orders, patterns: ["{count} {dish}", "{dish}"], examples: [I would like to order.],
         tool: order, adds: true, args: {items: [{dish: "{dish}", count: "{count}"}]},
         reply: ["Please say the whole order."]}
      - {name: sauces, patterns: ["{count} {sauce}", "{sauce}"], tool: add, several: true, times: "{count}",
         args: {item: "{sauce}"}}
      - {name: person, examples: [I want to talk to a person., Put me through to someone.], tool: transfer_to_person}
      - {name: agrees, asked: [right], examples: [Yes., That's right.], tool: confirm}
      - {name: takes_one, asked: [another], examples: [Yes.], reply: ["Here it is."]}
      - {name: music, examples: [I want to hear the music of a person on the phone.], reply: ["La la."]}
    after: {note: "{output}", book: "{output}", order: "{output} Else?", add: "{output}", confirm: "{output}"}
    fallback: ["I did not get that."]
"""
TOOLS = [
    {"name": name, "description": name, "parameters": {"type": "object"}}
    for name in ("note", "book", "order", "add", "confirm", "transfer_to_person")
]


def _line(dish: str, count: int) -> dict[str, Any]:
    return {"dish": dish, "count": count}


@pytest.fixture(scope="module")
def shop() -> IntentRouter:
    return IntentRouter(Examples.model_validate(yaml.safe_load(SHOP)))


def answer(router: IntentRouter, *words: str, asked: str = "How can I help?", before: list[BaseMessage] | None = None):
    prompt = [SystemMessage("Be kind."), *(before or []), AIMessage(asked), *map(HumanMessage, words)]
    return router.bind_tools(TOOLS).invoke(prompt)


def calls(router: IntentRouter, *words: str, **kwargs: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(call["name"], call["args"]) for call in answer(router, *words, **kwargs).tool_calls]


@pytest.mark.parametrize("path", sorted(GRAPHS.rglob("*.examples.yaml")), ids=lambda path: path.name.split(".")[0])
def test_an_exact_example_always_wins(path: Path) -> None:
    """In each file that is there, however the example is written: with other marks, in capitals, with courtesy."""
    router = IntentRouter(path)
    for name, agent in router.examples.agents.items():
        tools = [{"name": tool, "description": "", "parameters": {"type": "object"}} for tool in agent.tools]
        model = router.model_copy(update={"agent": name}).bind_tools(tools)
        for intent in agent.intents:
            for sentence in intent.examples:
                for words in (sentence, sentence.upper().rstrip(".!?"), f"Um, {sentence}"):
                    asked = AIMessage(" ".join(intent.asked) or "Well?")
                    said = model.invoke([SystemMessage("."), asked, HumanMessage(words)])
                    called = {call["name"] for call in said.tool_calls}
                    assert called <= {intent.tool}, words
                    if intent.tool and not intent.slots:
                        assert called == {intent.tool}, words
                    elif not called and intent.reply:
                        assert said.text in intent.reply, words


def test_an_example_that_is_nearer_to_another_intent_still_wins(shop: IntentRouter) -> None:
    assert calls(shop, "I want to talk to a person.") == [("transfer_to_person", {})]
    assert answer(shop, "I want to hear the music of a person on the phone.").text == "La la."
    assert answer(shop, "Do you like music?").text == "I did not get that.", "an example of what it can't do"


def test_a_short_answer_belongs_to_the_question(shop: IntentRouter) -> None:
    assert calls(shop, "Yes.", asked="Is that right?") == [("confirm", {})]
    assert calls(shop, "Yeah, sure.", asked="Is that right?") == [("confirm", {})]
    assert answer(shop, "Yes.", asked="Would you like another?").text == "Here it is."
    assert answer(shop, "Yes.", asked="How are you?").text == "I did not get that."


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("My name is Ann Lee and I have a fever.", [("note", {"name": "Ann Lee", "reason": "fever"})]),
        ("Two pizzas and a soup.", [("order", {"items": [_line("pizza", 2), _line("soup", 1)]})]),
        ("A gelato, please", [("order", {"items": [_line("ice_cream", 1)]})]),
        ("Two ketchups and a mustard", [("add", {"item": "ketchup"})] * 2 + [("add", {"item": "mustard"})]),
        (
            "Friday at seven, and a soup.",
            [("book", {"time": "Friday at seven"}), ("order", {"items": [_line("soup", 1)]})],
        ),
        ("I'm Ann. My name is Ann Lee.", [("note", {"name": "Ann Lee"})]),
        ("My name is Ann. Put me through to someone.", [("note", {"name": "Ann"}), ("transfer_to_person", {})]),
    ],
)
def test_wishes_of_one_tool_become_one_call_and_others_stay_apart(
    shop: IntentRouter, words: str, wanted: list[tuple[str, dict[str, Any]]]
) -> None:
    assert calls(shop, words) == wanted


def test_what_an_earlier_intent_only_answers_is_answered_and_nothing_is_called() -> None:
    """An emergency goes before what else was said."""
    data = yaml.safe_load(SHOP)
    emergency = {"name": "emergency", "patterns": ["chest pain", "can't breathe"], "reply": ["Call 911."]}
    data["agents"]["front_desk"]["intents"].insert(0, emergency)
    router = IntentRouter(Examples.model_validate(data))
    for words in ("My name is Ann and I have chest pain.", "I can't breathe", "Is it chest pain?"):
        said = answer(router, words)
        assert (said.text, said.tool_calls) == ("Call 911.", [])
    assert calls(router, "My name is Ann.") == [("note", {"name": "Ann"})]


def test_words_that_contradict_each_other_do_nothing(shop: IntentRouter) -> None:
    said = answer(shop, "Friday at seven, Saturday at eight.")
    assert (said.text, said.tool_calls) == ("When?", [])


@pytest.mark.parametrize(
    "words",
    [
        "Two pizzas and a burger.",
        "Two pizzas for the unicorn.",
        "Not on Friday at seven.",
        "I can't come on Friday at seven.",
        "I don't want to talk to a person.",
        "No pizza.",
        "No ketchup, please.",
        "Is it a pizza?",
        "Why is a soup on Friday?",
        "Are you open on Friday at seven?",
        "Monday is my least favorite day.",
        "For my wife's birthday.",
        "Whenever you like.",
        "My name is not important.",
        "I'm sorry.",
        "I'm Dutch.",
        "Is my name Johnson?",
        "Hello",
        "Johnson?",
    ],
)
def test_what_was_not_understood_is_not_done(shop: IntentRouter, words: str) -> None:
    for asked in ("When would you like to come?", "What is your name?", "How can I help?"):
        said = answer(shop, words, asked=asked)
        assert not said.tool_calls
        assert said.text in ("I did not get that.", "When?", "Please say the whole order."), said.text


@given(
    st.lists(
        st.from_regex(r"[bcdfgjklmnpqrvwxz]{2}[aeiou][bcdfgjklmnpqrvwxz]{2}", fullmatch=True), min_size=1, max_size=6
    )
)
@settings(max_examples=40)
def test_unknown_words_never_call_a_tool_that_takes_words(unknown: list[str]) -> None:
    router = IntentRouter(Examples.model_validate(yaml.safe_load(SHOP)))
    words = " ".join(unknown)
    for around in ("{}.", "For {}.", "A {} and two {}.", "On {} please.", "It's {}."):
        said = calls(router, around.replace("{}", words), asked="When would you like to come?")
        assert not {name for name, _ in said} & {"book", "order", "add", "note"}


def test_one_more_is_put_behind_the_order_that_it_replaces(shop: IntentRouter) -> None:
    order = {"items": [_line("pizza", 2)]}
    before = [
        AIMessage("", tool_calls=[{"name": "order", "args": order, "id": "1"}]),
        ToolMessage("The order is 2 pizzas.", tool_call_id="1"),
    ]
    more = [("order", {"items": [_line("pizza", 2), _line("soup", 1)]})]
    assert calls(shop, "One more soup, please.", before=before) == more
    assert calls(shop, "Also a soup.", before=before) == more
    assert calls(shop, "A soup.", before=before) == [("order", {"items": [_line("soup", 1)]})]
    said = answer(shop, "One more soup, please.")
    assert (said.text, said.tool_calls) == ("Please say the whole order.", []), "what it is added to is not known"


def test_internal_names_are_not_spoken(shop: IntentRouter) -> None:
    def told(output: str) -> str:
        call = AIMessage("", tool_calls=[{"name": "order", "args": {}, "id": "1"}])
        return (
            shop.bind_tools(TOOLS)
            .invoke([SystemMessage("."), HumanMessage("A soup."), call, ToolMessage(output, tool_call_id="1")])
            .text
        )

    assert told("Back to front_desk.") == "Else?"
    assert told("Noted. Call transfer_to_person now. Thank you") == "Noted. Thank you. Else?"
    assert told("We write to front_desk@example.org") == "We write to front_desk@example.org. Else?"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"slots": {"name": "words"}},
            r"my name's \{name\}.? has a slot that takes any words.*give the slot 'name' a type",
        ),
        ({"slots": {"name": {"type": "choice"}}}, r"a slot of type choice, and no other, has choices"),
        (
            {
                "agents": {
                    "front_desk": {
                        "intents": [
                            {"name": "a", "examples": ["Yes."], "reply": ["A."]},
                            {"name": "b", "examples": ["yes"], "reply": ["B."]},
                        ]
                    }
                }
            },
            r"'yes' is an example of two intents, 'a' and 'b': leave it to one of them, or write `asked: ",
        ),
    ],
)
def test_a_file_that_would_act_on_anything_is_refused(tmp_path: Path, change: dict[str, Any], complaint: str) -> None:
    data = yaml.safe_load(SHOP)
    for section, values in change.items():
        for key, value in values.items():
            data[section][key] = {**data[section][key], **value} if section == "agents" else value
    path = tmp_path / "shop.examples.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ExamplesError, match=rf"(?s)shop\.examples\.yaml: .*{complaint}"):
        Examples.load(path)


@pytest.mark.parametrize(
    ("kind", "words", "value"),
    [
        ("time", "Friday at seven", "Friday at seven"),
        ("time", "tomorrow evening at half past six", "tomorrow evening at half past six"),
        ("time", "7 pm on Saturday", "7 pm on Saturday"),
        ("time", "the third of May at noon", "the third of May at noon"),
        ("time", "it's Johnson", None),
        ("time", "two", None),
        ("date", "May 3rd, 1980", "1980-05-03"),
        ("date", "the twenty-first of June nineteen eighty-four", "1984-06-21"),
        ("date", "3 May 2001", "2001-05-03"),
        ("date", "1980-05-03", "1980-05-03"),
        ("date", "July fourth two thousand and one", "2001-07-04"),
        ("date", "February 30, 1980", None),
        ("date", "May 3", None),
        ("email", "ada dot lovelace at example dot org", "ada.lovelace@example.org"),
        ("email", "Sam_Carter@Mail.org", "sam_carter@mail.org"),
        ("email", "meet me at noon", None),
        ("phone", "555 0123 456", "5550123456"),
        ("phone", "+1 (202) 555-0143", "+12025550143"),
        ("phone", "five five five, oh one double two", "5550122"),
        ("count", "a", 1),
        ("count", "a couple of", 2),
        ("count", "twenty-five", 25),
        ("amount", "$22.50", 22.5),
        ("amount", "22 dollars", 22),
        ("amount", "twenty-two dollars and fifty cents", 22.5),
        ("name", "Ann Lee", "Ann Lee"),
        ("name", "Monday", None),
        ("name", "It's", None),
    ],
)
def test_a_type_takes_what_it_knows_and_nothing_else(kind: str, words: str, value: Any) -> None:
    found = re.fullmatch(SLOT_TYPES[kind].regex, words)
    assert (SLOT_TYPES[kind].value(found[0]) if found else None) == value


@given(st.dates(min_value=date(1900, 1, 1), max_value=date(2099, 12, 31)))
def test_every_day_is_read_as_people_write_it(day: date) -> None:
    for text in (
        f"{day:%B} {day.day}, {day.year}",
        f"{day.day} {day:%B} {day.year}",
        f"the {day.day}th of {day:%B} {day.year}",
    ):
        assert SLOT_TYPES["date"].value(text) == day.isoformat()


@given(st.text("0123456789", min_size=7, max_size=15), st.sampled_from([" ", "-", ", ", ""]))
def test_every_phone_number_is_read_however_it_is_grouped(digits: str, between: str) -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert SLOT_TYPES["phone"].value(between.join(digits)) == digits
    assert SLOT_TYPES["phone"].value(" ".join(names[int(digit)] for digit in digits)) == digits


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
async def test_hello_is_not_answered_with_goodbye(front_end: str) -> None:
    """The intake form, as a caller hears it."""
    router = IntentRouter(GRAPHS / "intake_form.py")
    router.warm_up()
    async with Call(load_graph(str(GRAPHS / "intake_form.py")), llm=router, front_end=front_end) as phone:
        await phone.says("Hello")
        last = phone.messages[-1].text
        assert "bye" not in last.lower()
        assert "apply" in last


TAKEN_BACK = ["Actually, no.", "No wait.", "Never mind.", "Scratch that.", "Um, no.", "Sorry, forget it.", "No."]
INSTEAD = ["no wait,", "Actually, make that", "sorry, I meant", "or rather", "Scratch that,", "no, sorry,"]


@pytest.mark.parametrize("back", TAKEN_BACK)
@pytest.mark.parametrize("words", ["Two pizzas.", "Can I get a ketchup?", "Friday at seven,", "My name is Ann."])
def test_what_is_taken_back_is_not_done(shop: IntentRouter, words: str, back: str) -> None:
    assert calls(shop, words)
    assert calls(shop, f"{words} {back}") == []
    assert calls(shop, words, back) == [], "also when the agent was cut off in between"


@pytest.mark.parametrize("instead", INSTEAD)
def test_what_is_said_instead_is_done(shop: IntentRouter, instead: str) -> None:
    assert calls(shop, f"A pizza, {instead} two soups.") == [("order", {"items": [_line("soup", 2)]})]
    assert calls(shop, f"Friday at seven, {instead} Sunday at eight.") == [("book", {"time": "Sunday at eight"})]
    assert calls(shop, f"A pizza and a soup, {instead} two soups.") == [], "nobody knows whether the pizza stays"
    assert calls(shop, f"A pizza, {instead} the blue one.") == []


def test_more_is_not_instead(shop: IntentRouter) -> None:
    assert calls(shop, "A pizza, no wait, and also a soup.") == []


@pytest.mark.parametrize("sound", ["uh", "um,", "er", "hmm", "mhm,"])
def test_sounds_are_no_words(shop: IntentRouter, sound: str) -> None:
    assert calls(shop, f"{sound} Friday at {sound} seven") == [("book", {"time": "Friday at seven"})]
    assert calls(shop, f"{sound.capitalize()} let me think.", asked="What is your name?") == []


@pytest.mark.parametrize(
    "words",
    [
        "My friend talks to a person.",
        "My brother put me through to someone.",
        "If I want to talk to a person, what then?",
        "Are you a person that I can talk to?",
        "I talked to a person last week.",
        "They told me to talk to a person.",
        "Yes, but I want to talk to a person first or my wife.",
        "A pizza or a soup.",
        "A pizza without olives.",
        "A pizza, but no olives.",
        "Maybe a pizza.",
        "If you have gelato, a gelato.",
        "Yes, but Friday at seven.",
        "A pizza with anchovies and a soup.",
    ],
)
def test_what_is_told_asked_or_imagined_is_no_wish(shop: IntentRouter, words: str) -> None:
    assert calls(shop, words) == []


@pytest.mark.parametrize(
    "words", ["My friend wants to talk to a person.", "I'd like to talk to a person if that's possible."]
)
def test_a_wish_for_others_and_a_polite_one_are_wishes(shop: IntentRouter, words: str) -> None:
    assert calls(shop, words) == [("transfer_to_person", {})]


def test_a_greeter_who_gets_the_caller_back_speaks_of_what_happened() -> None:
    """Without a language model, and although nobody knows the caller's name."""
    router = IntentRouter(GRAPHS / "restaurant", agent="greeter")

    def greets(instructions: str) -> str:
        return router.invoke([SystemMessage("Be kind."), AIMessage("Bye."), SystemMessage(instructions)]).text

    assert "your order is all settled" in greets("Thank the caller for the order, which is paid, and ask.")
    assert "your visit is all settled" in greets("Tell the caller that you look forward to the visit, and ask.")
    assert "what else can I do" in greets("Ask the caller what else you can do.")
    assert "table" in greets("Greet the caller, and ask whether they would like a table.")


@pytest.mark.parametrize(
    "words",
    [
        "my name is Anna Miller and I was born on May 3, 1980",
        "My name is Anna Miller, and I was born on May 3, 1980.",
        "Anna Miller born May 3 1980",
        "Anna Miller, May third nineteen eighty",
        "Anna Miller May 3 1980",
    ],
)
def test_a_recognizer_may_leave_marks_out(words: str) -> None:
    router = IntentRouter(GRAPHS / "medical_triage", agent="billing")
    tools = [{"name": "confirm_identity", "description": "", "parameters": {"type": "object"}}]
    asked = AIMessage("May I have your full name and your date of birth?")
    said = router.bind_tools(tools).invoke([SystemMessage("."), asked, HumanMessage(words)])
    assert [call["args"] for call in said.tool_calls] == [{"name": "Anna Miller", "date_of_birth": "1980-05-03"}]
