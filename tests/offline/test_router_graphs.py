"""The example graphs, spoken to by the callers of their example files and answered by the router."""

import importlib
from datetime import datetime
from pathlib import Path

import pytest

from graph_voice import Conversation, events
from graph_voice.drawing import to_svg
from graph_voice.launch.loading import load_graph
from graph_voice_livekit.offline.router import IntentRouter
from graphs.front_desk.fake_calendar import FakeCalendar

GRAPHS = Path(__file__).parents[2] / "graphs"
DOCS = GRAPHS.parent / "docs"
GRAPH_NAMES = [
    "customer_service",
    "intake",
    "intake_form",
    "specialist",
    "with_subgraph",
    "restaurant",
    "medical_triage",
    "drive_thru",
    "front_desk",
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", GRAPH_NAMES)
async def test_a_whole_call_needs_no_language_model(name: str, seed: int) -> None:
    where = GRAPHS / name if (GRAPHS / name).is_dir() else GRAPHS / f"{name}.py"
    router = IntentRouter(where, seed=seed)
    assert router.examples.caller is not None
    steps = {agent: list(steps) for agent, steps in router.examples.caller.steps.items()}
    graph = load_graph(str(where))
    conversation = Conversation(graph, config={"configurable": {"llm": router}})

    ended = False
    while not ended:
        step = steps[conversation.active_agent].pop(0)
        words = step.say[seed % len(step.say)]
        said = await conversation.run(turn=conversation.turn(words, modality="audio"))
        assert not [event for event in said if isinstance(event, events.Failed)]
        assert any(isinstance(event, events.Text) for event in said)
        if step.expect_handoff:
            assert conversation.active_agent == step.expect_handoff, step
            # The new agent greets the caller at once, in words of its own.
            greeting = "".join(e.text for e in said if isinstance(e, events.Text) and e.agent == step.expect_handoff)
            agent = router.examples.agents[step.expect_handoff]
            assert any(_begins(greeting, sentence) for sentence in agent.enter), greeting
        ended = step.end

    assert not any(steps.values()), "steps that were never said"
    if name == "intake":
        assert conversation.userdata.name in str(conversation.messages)
        assert conversation.userdata.age in (34, 52, 27)
    if name == "intake_form":
        form = conversation.userdata.form
        assert form.get_email.address.endswith("@example.org"), "the caller has gone back and changed it"
        assert "is complete. We will write to" in conversation.messages[-3].text
        assert (form.get_phone_number.number, form.get_experience.years) == ("5550123456", (6, 12, 2)[seed])
    if name == "restaurant":
        guest = conversation.userdata
        assert (guest.reserved, guest.checked_out, guest.expense, guest.card) == (True, True, 34.0, None)
        assert not any(digits in str(conversation.messages) for digits in ("5 1 9 3", "3 6 5 7", "9 0 3 6"))
    if name == "medical_triage":
        assert conversation.userdata.identity_confirmed
    if name == "front_desk":
        assert any(str(m.text).startswith("The visit is booked for") for m in conversation.messages)


async def test_the_page_on_tasks_shows_the_intake_form_as_it_is() -> None:
    graph, router = load_graph(str(GRAPHS / "intake_form.py")), IntentRouter(GRAPHS / "intake_form.py")
    conversation = Conversation(graph, config={"configurable": {"llm": router}})
    await conversation.run()
    steps = {agent: list(steps) for agent, steps in router.examples.caller.steps.items()}  # type: ignore[union-attr]
    while (step := steps[conversation.active_agent].pop(0)).end is False:
        await conversation.run(step.say[0])
    said = [f"{m.name or 'caller'}: {m.text}" for m in conversation.messages if m.type != "tool" and m.text]
    page = (DOCS / "tasks.md").read_text()
    assert "\n".join(["```text", *said, "```"]) in page
    assert (DOCS / "images" / "intake_form.svg").read_text() == to_svg(graph)


async def test_the_page_of_the_front_desk_shows_the_call_as_it_is() -> None:
    graph, router = load_graph(str(GRAPHS / "front_desk")), IntentRouter(GRAPHS / "front_desk")
    calendar = FakeCalendar(seed=1, now=datetime(2026, 6, 12, 9))
    conversation = Conversation(graph, config={"configurable": {"llm": router}}, context=calendar)
    await conversation.run()
    steps = {agent: list(steps) for agent, steps in router.examples.caller.steps.items()}  # type: ignore[union-attr]
    ended = False
    while not ended:
        step = steps[conversation.active_agent].pop(0)
        await conversation.run(turn=conversation.turn(step.say[0], modality="audio"))
        ended = step.end
    said = [f"{m.name or 'caller'}: {m.text}" for m in conversation.messages if m.type != "tool" and m.text]
    assert "\n".join(["```text", *said, "```"]) in (DOCS / "front-desk.md").read_text()


def _begins(greeting: str, sentence: str) -> bool:
    return greeting.startswith(sentence.split("{")[0])


async def test_a_summary_is_not_made_up() -> None:
    router = IntentRouter(GRAPHS / "specialist.py")
    conversation = Conversation(
        importlib.import_module("graphs.specialist").graph, config={"configurable": {"llm": router}}
    )
    for words in (None, "My phone has no signal.", "I want to talk to a specialist."):
        await conversation.run(words)
    assert conversation.active_agent == "specialist"
    assert not [m for m in conversation.chat_ctx if "summary" in m.text.lower()]
    assert "My phone has no signal." in [m.text for m in conversation.chat_ctx]
    await conversation.aclose()
