"""The example files: what they may say, what their errors say, what their patterns read, how their callers fare."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import ValidationError

from graph_voice_livekit.offline.examples import Examples, ExamplesError, Slot
from graph_voice_livekit.offline.router import IntentRouter
from graph_voice_livekit.offline.slot_types import spoken_integer

GRAPHS = Path(__file__).parents[2] / "graphs"

GOOD = """
slots:
  age: {type: integer, maximum: 120}
  name: name
  city: {type: choice, choices: {New York: [], Rome: []}}
  code: {type: regex, regex: "[A-Z]{2}[0-9]"}
agents:
  billing:
    enter: Hello.
    intents:
      - {name: balance, examples: ["How much do I owe?"], tool: look_up_balance}
    after: {look_up_balance: "{output}"}
    fallback: [I can help with bills only.]
caller:
  steps:
    billing:
      - {say: ["What do I owe?", "How much is it?"]}
      - {say: Goodbye., end: true}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shop.examples.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def changed(**sections: Any) -> str:
    """GOOD with other keys in the section of its agent."""
    data = yaml.safe_load(GOOD)
    data["agents"]["billing"].update(sections)
    return yaml.safe_dump(data)


def test_a_file_is_found_beside_its_graph(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    for path in (tmp_path / "shop.py", f"{tmp_path}/shop.py:graph", tmp_path / "shop.examples.yaml"):
        examples = Examples.load(path)
        assert examples.agents["billing"].enter == ("Hello.",)
        assert examples.source.endswith("shop.examples.yaml")


def test_the_documented_format_is_a_file(tmp_path: Path) -> None:
    page = (GRAPHS.parent / "docs" / "offline.md").read_text(encoding="utf-8")
    documented = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert documented
    examples = Examples.load(write(tmp_path, documented[1]))
    assert [intent.name for intent in examples.agents["billing"].intents] == [
        "balance",
        "gives_age",
        "orders",
        "agrees",
        "hours",
    ]
    for kind in get_args(Slot.model_fields["type"].annotation):
        assert f"| `{kind}` |" in page, "each type is in the table"


def test_the_caller_is_plain_data(tmp_path: Path) -> None:
    caller = Examples.load(write(tmp_path, GOOD)).caller
    assert caller is not None
    first, last = caller.steps["billing"]
    assert list(first.say) == ["What do I owe?", "How much is it?"]
    assert (first.interrupts, first.expect_handoff, first.end) == (False, None, False)
    assert last.end
    with pytest.raises(ValidationError):
        first.end = True


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("agents: [", r"is not YAML"),
        ("- one", r"Write `agents:`"),
        ("slots: {}", r"agents: is missing or empty; write `agents:`"),
        ("agents: {}", r"agents: is missing or empty"),
        (GOOD.replace("enter: Hello.", ""), r"agents\.billing\.enter: is missing.*write `enter:`"),
        (GOOD.replace("fallback:", "fallbacks:"), r"agents\.billing\.fallbacks: is no key here; write `fallback`"),
        (changed(enter=[True]), r"agents\.billing\.enter\.0: is not text; write it in quotes"),
        (changed(enter=["Hello {name}."]), r"agents\.billing: each sentence of `enter` has a slot: write one without"),
        (changed(after={}), r"agents\.billing: tool 'look_up_balance' has no reply.*write `after: "),
        (
            changed(intents=[{"name": "hours", "examples": ["When?"]}]),
            r"agents\.billing\.intents\.hours: intent 'hours' does nothing: write `tool: name` or `reply:",
        ),
        (changed(intents=[{"name": "hours", "reply": ["Now."]}]), r"hours.* write `examples: \[\.\.\.\]`"),
        (
            changed(intents=[{"name": "a", "examples": ["A?"], "reply": ["A."]}] * 2),
            r"agents\.billing: two intents are called a",
        ),
        (
            changed(
                intents=[{"name": "a", "examples": ["A?"], "tool": "transfer_to_a", "args": {"age": "{age}"}}],
            ),
            r"intent 'a' wants age in `args`.*write `patterns:",
        ),
        (
            changed(intents=[{"name": "a", "patterns": ["I am {size}"], "reply": ["A."]}]),
            r"agents\.billing: the pattern 'I am \{size\}' has an undeclared slot: write `slots: \{size: name\}`",
        ),
        (
            changed(intents=[{"name": "a", "patterns": ["I am {age:number}"], "reply": ["A."]}]),
            r"has the type 'number': write one of amount, count, date",
        ),
        (GOOD.replace("end: true", "expect_handoff: sales"), r"caller\.steps\.billing: 'sales' is no agent: .*billing"),
        (GOOD.replace("regex: ", "asked: "), r"slots\.code: .*write \{type: regex, regex:"),
    ],
)
def test_an_error_names_file_and_section_and_says_what_to_write(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ExamplesError, match=rf"(?s)shop\.examples\.yaml: .*{complaint}"):
        Examples.load(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match=r"shop\.examples\.yaml: can't be read"):
        Examples.load(tmp_path / "shop.py")
    with pytest.raises(ValueError, match=r"shop\.examples\.yaml"):
        IntentRouter(tmp_path / "shop.py")


@pytest.mark.parametrize(
    ("pattern", "words", "slots"),
    [
        ("my name is {name}", "Hi, my name is Ann Smith and I'm 34.", {"name": "Ann Smith"}),
        ("my name's {name}", "My name is Ann", {"name": "Ann"}),
        ("I'm {name}", "I’m Ann.", {"name": "Ann"}),
        ("I'm {name}", "I am Ann.", {"name": "Ann"}),
        ("I'm {name}", "I'm calling about my bill.", None),
        ("I'm {name}", "I'm Thirty four.", None),
        ("I'm {name}", "My name is Tim Smith", None),
        ("my name is {name}", "my name is ann smith and i am thirty four", {"name": "Ann Smith"}),
        ("my name is {name}", "My name is not important.", None),
        ("my name is {name}", "My name is O'Neil-Smith.", {"name": "O'Neil-Smith"}),
        ("{name} speaking", "Hello, Ann speaking.", {"name": "Ann"}),
        ("{name}", "Ann.", {"name": "Ann"}),
        ("{name}", "Hello.", None),
        ("I'm {age}", "I'm 34.", {"age": 34}),
        ("I'm {age}", "I'm thirty-four, thank you.", {"age": 34}),
        ("I'm {age}", "I am Thirty four.", {"age": 34}),
        ("I'm {age}", "I'm 5 minutes late.", None),
        ("I'm {age}", "I'm 340.", None),
        ("I'm a {age} year old", "I'm a 34-year-old.", {"age": 34}),
        ("{age}", "Thirty four.", {"age": 34}),
        ("{name}, {age}", "It's Ann, thirty-four.", {"name": "Ann", "age": 34}),
        ("I live in {city}", "I live in new york, and you?", {"city": "New York"}),
        ("the code is {code}", "The code is AB7.", {"code": "AB7"}),
        ("the code is {code}", "The code is wrong.", None),
    ],
)
def test_patterns_read_slots(tmp_path: Path, pattern: str, words: str, slots: dict[str, Any] | None) -> None:
    assert Examples.load(write(tmp_path, GOOD)).read(pattern, words) == slots


def test_a_file_of_patterns_alone_is_enough(tmp_path: Path) -> None:
    intents = [{"name": "age", "patterns": ["I'm {age}"], "reply": ["So you are {age}.", "I see."]}]
    router = IntentRouter(write(tmp_path, changed(intents=intents)))
    router.warm_up()
    assert router.invoke([SystemMessage("Be kind."), HumanMessage("I'm 34.")]).text == "So you are 34."
    assert router.invoke([SystemMessage("Be kind."), HumanMessage("Hm.")]).text == "I can help with bills only."


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("34", 34),
        ("Thirty-four.", 34),
        ("seventeen", 17),
        ("zero", 0),
        ("a hundred", 100),
        ("one hundred and twenty-one", 121),
        ("nine hundred ninety nine", 999),
        ("five six", None),
        ("nineteen eighty", None),
        ("thirty zero", None),
        ("thirty eleven", None),
        ("hundred", None),
        ("hello", None),
        ("", None),
    ],
)
def test_numbers_are_read_in_digits_and_words(text: str, number: int | None) -> None:
    assert spoken_integer(text) == number


def test_every_number_up_to_a_hundred_is_read() -> None:
    units = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    for ten, word in enumerate(tens, 2):
        assert spoken_integer(word) == ten * 10
        for unit in range(1, 10):
            assert spoken_integer(f"{word} {units[unit]}") == spoken_integer(f"{word}-{units[unit]}") == ten * 10 + unit


@pytest.fixture(scope="module", params=["customer_service", "intake"])
def router(request: pytest.FixtureRequest) -> IntentRouter:
    return IntentRouter(GRAPHS / f"{request.param}.py")


def test_each_example_is_nearest_to_its_own_intent(router: IntentRouter) -> None:
    wrong, count = [], 0
    for name, agent in router.examples.agents.items():
        for intent in agent.intents:
            for sentence in intent.examples:
                count += 1
                if router.match(sentence, agent=name)[0].intent != intent.name:
                    wrong.append((name, intent.name, sentence))
    assert len(wrong) <= count * 0.05, wrong


def test_the_caller_interrupts_is_handed_over_and_says_goodbye(router: IntentRouter) -> None:
    assert router.examples.caller is not None
    steps = [step for steps in router.examples.caller.steps.values() for step in steps]
    assert any(step.interrupts for step in steps)
    assert any(step.expect_handoff for step in steps)
    assert sum(step.end for step in steps) == 1
    assert all(len(step.say) >= 3 for step in steps)


def test_what_the_caller_says_does_what_the_step_expects(router: IntentRouter) -> None:
    """Each way to say each step: a transfer or a recorded slot where one is expected, an answer elsewhere."""
    assert router.examples.caller is not None
    for name, steps in router.examples.caller.steps.items():
        agent = router.examples.agents[name]
        tools = [{"name": tool, "description": tool, "parameters": {"type": "object"}} for tool in agent.tools]
        model = router.model_copy(update={"agent": name}).bind_tools(tools)
        for step in steps:
            for words in step.say:
                prompt = [SystemMessage("Be kind."), AIMessage(agent.enter[0]), HumanMessage(words)]
                answer = model.invoke(prompt)
                called = {call["name"] for call in answer.tool_calls}
                if f"transfer_to_{step.expect_handoff}" in agent.tools:
                    assert called == {f"transfer_to_{step.expect_handoff}"}, words
                elif step.expect_handoff:
                    assert called, words
                else:
                    assert not any(tool.startswith("transfer_to_") for tool in called), words
                    assert called or (answer.text and answer.text not in agent.fallback), words
                if step.end:
                    assert "oodbye" in answer.text, words


def test_what_is_interrupted_is_long(router: IntentRouter) -> None:
    """Each sentence that may be spoken before an interrupting step has three sentences or more."""
    assert router.examples.caller is not None
    for name, steps in router.examples.caller.steps.items():
        agent = router.examples.agents[name]
        for before, step in zip([None, *steps], steps, strict=False):
            if not step.interrupts:
                continue
            spoken: set[str] = set(agent.enter) if before is None else set()
            for words in before.say if before else ():
                wanted = router.match(words, agent=name)[0].intent
                intent = next(intent for intent in agent.intents if intent.name == wanted)
                spoken |= set(agent.after[intent.tool] if intent.tool else intent.reply)
            assert spoken
            for sentence in spoken:
                assert len([mark for mark in sentence if mark in ".?!"]) >= 3, sentence
