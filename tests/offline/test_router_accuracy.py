"""How often the router picks the right intent for words that are in no example file.

The sentences below were written before the example files and before any constant was tuned. The examples have become
more since, so lines that nobody has tuned for are in test_natural_lines.py. One author wrote sentences and examples, so
expect less of real callers.
"""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from graph_voice_livekit.offline.router import IntentRouter

GRAPHS = Path(__file__).parents[2] / "graphs"

# (agent, what the caller says, the intent that should be picked; None: no intent fits)
CUSTOMER_SERVICE = [
    ("customer_service", "I think you took money from my account twice this month.", "billing"),
    ("customer_service", "There's something odd on the statement you posted to me.", "billing"),
    ("customer_service", "Who do I talk to about getting some money back?", "billing"),
    ("customer_service", "My card expired and I want to give you the new one.", "billing"),
    ("customer_service", "I can't load any websites since yesterday evening.", "technical_support"),
    ("customer_service", "The little lamp on the box is blinking orange.", "technical_support"),
    ("customer_service", "Video calls freeze all the time at my house.", "technical_support"),
    (
        "customer_service",
        "Nothing works after the storm last night, we're completely offline.",
        "technical_support",
    ),
    ("customer_service", "Until what time can I reach someone on a Saturday?", "opening_hours"),
    ("customer_service", "Which packages could I choose from?", "plans"),
    ("customer_service", "Is there something faster that I could switch to?", "plans"),
    ("customer_service", "Sorry, which firm have I reached?", "who_are_you"),
    ("customer_service", "That was really kind of you.", "thanks"),
    ("customer_service", "All right, that will be all for today.", "goodbye"),
    ("billing", "What's outstanding on my account right now?", "balance"),
    ("billing", "By which day do you need the money?", "balance"),
    ("billing", "Could you tell me the amount I still have to pay?", "balance"),
    ("billing", "Do you accept credit cards?", "how_to_pay"),
    ("billing", "Can this be taken from my bank automatically?", "how_to_pay"),
    ("billing", "It went up compared to the month before, what happened?", "higher_bill"),
    ("billing", "Actually my connection is also broken.", "other_matter"),
    ("billing", "Put me through to the person I had before.", "other_matter"),
    ("billing", "Great, you've been very helpful.", "thanks"),
    ("technical_support", "Could you run a test on my connection?", "check_line"),
    ("technical_support", "Pages take forever to open.", "check_line"),
    ("technical_support", "Is something broken in my neighbourhood?", "check_line"),
    ("technical_support", "How do I switch the box off and on again properly?", "restart"),
    ("technical_support", "I'd like a different password for my wireless.", "wifi_password"),
    ("technical_support", "I was also wondering about the payment for last month.", "other_matter"),
    ("technical_support", "Okay then, have a nice evening.", "goodbye"),
    # out of scope
    ("customer_service", "Who won the football match on Sunday?", None),
    ("customer_service", "Could you write a poem about the sea?", None),
    ("customer_service", "I'm looking for a good recipe with potatoes.", None),
    ("billing", "What's the capital of Australia?", None),
    ("billing", "My neighbour has a very loud dog.", None),
    ("technical_support", "Which film should I watch tonight?", None),
]

INTAKE = [
    ("intake", "Hi there, this is Robert speaking.", {"record_name": {"name": "Robert"}}),
    ("intake", "You can call me Julia.", {"record_name": {"name": "Julia"}}),
    ("intake", "The name is Martin Brown.", {"record_name": {"name": "Martin Brown"}}),
    ("intake", "My first name is Emma and my last name is Stone.", {"record_name": {"name": "Emma Stone"}}),
    ("intake", "Peter.", {"record_name": {"name": "Peter"}}),
    ("intake", "I turned 40 last week.", {"record_age": {"age": 40}}),
    ("intake", "I'll be 27 in March.", None),  # still twenty-six: nothing to record
    ("intake", "Sixty-one years old.", {"record_age": {"age": 61}}),
    ("intake", "My age? Twenty-nine.", {"record_age": {"age": 29}}),
    ("intake", "Fifty.", {"record_age": {"age": 50}}),
    ("intake", "I'm Laura, I'm 33.", {"record_name": {"name": "Laura"}, "record_age": {"age": 33}}),
    (
        "intake",
        "Hello. My name's Daniel Fisher, and I am forty-five years of age.",
        {"record_name": {"name": "Daniel Fisher"}, "record_age": {"age": 45}},
    ),
    ("intake", "What are you going to do with that information?", "why"),
    ("intake", "Is that really necessary?", "why"),
    ("intake", "I don't feel comfortable giving you that.", "refuses"),
    ("intake", "That's private.", "refuses"),
    ("intake", "Am I talking to a machine?", "who_are_you"),
    ("intake", "Who is this, please?", "who_are_you"),
    ("intake", "Pardon, could you say that once more?", "repeat"),
    ("intake", "Hey, good to talk to you.", "greeting"),
    ("customer_service", "Until what time can I reach someone on a Saturday?", "opening_hours"),
    ("customer_service", "Are you there on Sundays?", "opening_hours"),
    ("customer_service", "Which packages could I choose from?", "plans"),
    ("customer_service", "What would a faster connection cost me?", "plans"),
    ("customer_service", "How long until someone comes and sets it up?", "installation"),
    ("customer_service", "Does a person have to visit to put the cable in?", "installation"),
    ("customer_service", "We're getting a new flat in June.", "moving_house"),
    ("customer_service", "I want to stop my contract.", "cancelling"),
    ("customer_service", "I appreciate it.", "thanks"),
    ("customer_service", "Okay then, have a nice evening.", "goodbye"),
    # out of scope
    ("intake", "Who won the football match on Sunday?", None),
    ("intake", "I've been thinking about buying a boat.", None),
    ("customer_service", "Could you write a poem about the sea?", None),
    ("customer_service", "My neighbour has a very loud dog.", None),
]


def picked(router: IntentRouter, agent: str, text: str) -> set[str | None] | dict[str, Any]:
    """What the router does about `text`: its calls, or else the intents that hold the sentence it says."""
    section = router.examples.agents[agent]
    tools = [{"name": tool, "description": tool, "parameters": {"type": "object"}} for tool in section.tools]
    question = "Please tell me your name and your age."
    prompt = [SystemMessage("Be kind."), AIMessage(question), HumanMessage(text)]
    answer = router.model_copy(update={"agent": agent}).bind_tools(tools).invoke(prompt)
    calls = {call["name"]: call["args"] for call in answer.tool_calls}
    if any(calls.values()):
        return calls
    if calls:
        return {intent.name for intent in section.intents if intent.tool in calls}
    intents: set[str | None] = {intent.name for intent in section.intents if answer.text in intent.reply}
    return intents or ({None} if answer.text in section.fallback else set())


@pytest.mark.parametrize(
    ("graph", "cases", "floor_inside", "floor_outside"),
    # Measured when written: customer_service 28 of 30 and 6 of 6, intake 26 of 29 and 4 of 5.
    [("customer_service", CUSTOMER_SERVICE, 25, 5), ("intake", INTAKE, 23, 3)],
    ids=["customer_service", "intake"],
)
def test_most_new_sentences_get_the_right_intent(
    graph: str, cases: list[tuple[str, str, Any]], floor_inside: int, floor_outside: int
) -> None:
    router = IntentRouter(GRAPHS / f"{graph}.py")
    right, missed = {True: 0, False: 0}, []
    for agent, text, want in cases:
        got = picked(router, agent, text)
        good = got == want if isinstance(want, dict) else isinstance(got, set) and want in got
        right[want is not None] += good
        missed += [] if good else [f"{agent}: {text!r} gave {got}, not {want}"]

    assert right[True] >= floor_inside, "\n".join(missed)
    assert right[False] >= floor_outside, "\n".join(missed)


@pytest.mark.parametrize("graph", ["customer_service", "intake"])
def test_no_new_sentence_is_in_an_example_file(graph: str) -> None:
    router = IntentRouter(GRAPHS / f"{graph}.py")
    known = {
        sentence.lower().strip(" .!?")
        for agent in router.examples.agents.values()
        for intent in agent.intents
        for sentence in intent.examples
    }
    assert not {text for _, text, _ in CUSTOMER_SERVICE + INTAKE if text.lower().strip(" .!?") in known}
