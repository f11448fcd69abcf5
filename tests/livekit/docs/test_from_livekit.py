"""Each Python sample of LiveKit's page "Agents and handoffs", as LiveKit's agents and as ours: the same call twice.

Where the two differ, the test says so: in the script by `OnlyLiveKit` and `OnlyOurs` (who asks the model for one reply
more), in `same_story(answers=...)`, in `same_prompts(carried=...)`, or in an assertion of its own.
"""

import ast
import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from livekit.agents import Agent, AgentSession, inference
from page_samples.both_sides import (
    OnlyLiveKit,
    OnlyOurs,
    Told,
    same_prompts,
    same_story,
    sample,
    told_by_livekit,
    told_by_ours,
)

import graph_voice
from graph_voice.testing import call, say

pytestmark = pytest.mark.virtual_clock
SAMPLES = Path(__file__).parents[2] / "support" / "page_samples"
GUIDE = Path(__file__).parents[3] / "docs" / "from-livekit.md"


# ---- defining an agent


async def test_an_agent_defined_as_a_subclass_greets_as_livekit_s_does() -> None:
    script, steps = ["Hello!", "A good day."], ["hi"]
    theirs = await told_by_livekit(sample("livekit_subclass").HelpfulAssistant(), script, steps)
    ours = await told_by_ours(sample("ours_subclass").graph, script, steps)
    same_story(theirs, ours, script)
    same_prompts(theirs, ours, script)
    assert ours.said == ["Hello!", "A good day."]


async def test_an_agent_defined_as_an_instance_waits_for_the_caller() -> None:
    script, steps = ["A good day."], ["hi"]
    theirs = await told_by_livekit(sample("livekit_instance").agent, script, steps)
    ours = await told_by_ours(sample("ours_instance").graph, script, steps)
    same_prompts(theirs, ours, script)
    # LiveKit calls every instance "default_agent"; ours has a name, since it is a node of the graph.
    assert theirs.events == [("agent_handoff", None, "default"), ("message", "assistant", "A good day.")]
    assert ours.events == [("agent_handoff", None, "assistant"), ("message", "assistant", "A good day.")]


# ---- the active agent


async def test_the_initial_agent_is_the_graph_s_start() -> None:
    script = ["Welcome."]
    theirs = await told_by_livekit(sample("livekit_active_agent").CustomerServiceAgent(), script, [])
    ours = await told_by_ours(sample("ours_active_agent").graph, script, [])
    same_story(theirs, ours, script)
    assert ours.active_agent == "customer_service"


def test_livekit_takes_no_initial_agent_in_the_constructor_as_the_page_says() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'agent'"):
        sample("livekit_active_agent").initial()


async def test_update_agent_changes_the_active_agent_and_the_new_one_greets_with_a_fresh_context() -> None:
    def change(part: str) -> Any:
        async def step(session: AgentSession[Any], agent: Agent) -> None:
            greeted = asyncio.Event()
            session.on("conversation_item_added", lambda e: greeted.set() if e.item.type == "message" else None)
            module = sample(part)
            module.change(session) if part.startswith("livekit") else module.change(session, agent)
            await greeted.wait()

        return step

    script = ["Yes?", "Welcome.", "Of course."]
    reception = sample("livekit_active_agent").ReceptionAgent()
    theirs = await told_by_livekit(reception, script, ["hi", change("livekit_active_agent"), "help"])
    graph = sample("ours_active_agent").from_reception
    ours = await told_by_ours(graph, script, ["hi", change("ours_active_agent"), "help"])
    same_story(theirs, ours, script)
    same_prompts(theirs, ours, script)
    assert ours.handoffs == [(None, "reception"), ("reception", "customer_service")]
    assert ("user", "hi") not in ours.prompts[1]


# ---- handoffs


def handoff_script(to: str) -> list[Any]:
    # A handoff with a result: LiveKit has the agent that leaves say something more, after the decision to leave. To say
    # something at a handoff, ours has `Handoff(say=...)`.
    return ["Hello!", call(f"transfer_to_{to}"), OnlyLiveKit("Goodbye."), f"This is {to}.", "Ten dollars."]


@pytest.mark.parametrize(
    ("to", "agent"),
    [("billing", "BillingAgent"), ("technical_support", "TechnicalSupportAgent")],
)
async def test_a_handoff_with_a_result_and_the_whole_context(to: str, agent: str) -> None:
    script, steps = handoff_script(to), ["my bill, please", "how much?"]
    theirs = await told_by_livekit(sample("livekit_handoffs_repaired").CustomerServiceAgent(), script, steps)
    ours = await told_by_ours(sample("ours_handoffs").graph, script, steps)
    same_story(theirs, ours, script)
    assert ours.active_agent == to

    result = f"Transferring to {to.replace('_', ' ')}"
    transfer = [("call", f"transfer_to_{to}", "{}"), ("output", result)]
    same_prompts(theirs, ours, script, carried=transfer)
    # The new agent knows that the caller was transferred, and why; in LiveKit the call is not in its context.
    greeting = ours.prompts[3]
    assert greeting[greeting.index(("user", "my bill, please")) + 1 :][:2] == transfer
    assert not any(item[0] in ("call", "output") for item in theirs.prompts[3])
    assert type(theirs.session.current_agent).__name__ == agent


async def test_the_page_s_sample_as_it_stands_never_hands_off() -> None:
    # The page says that `BillingAgent(chat_ctx=...)` works though its `__init__` takes no argument. Python says no.
    script = ["Hello!", call("transfer_to_billing"), "That did not work."]
    theirs = await told_by_livekit(sample("livekit_handoffs").CustomerServiceAgent(), script, ["my bill"])
    assert theirs.active_agent == "customer_service"
    assert ("function_call_output", "transfer_to_billing", "An internal error occurred", True) in theirs.events


async def test_no_agent_is_shown_another_agent_s_prompt_even_with_the_whole_context() -> None:
    script, steps = handoff_script("billing"), ["my bill, please", "how much?"]
    theirs = await told_by_livekit(sample("livekit_handoffs_repaired").CustomerServiceAgent(), script, steps)
    ours = await told_by_ours(sample("ours_handoffs").graph, script, steps)
    first = ("instructions", theirs.prompts[0][0][1])
    assert ours.prompts[0][0] == first
    assert any(first[1] in item for prompt in (theirs.prompts[3], theirs.prompts[4]) for item in prompt)
    assert not any(first[1] in item for prompt in (ours.prompts[3], ours.prompts[4]) for item in prompt)


async def test_the_chat_history_has_the_handoff_as_livekit_s_item_and_as_a_record_of_the_graph() -> None:
    script, steps = handoff_script("billing"), ["my bill, please", "how much?"]
    theirs = await told_by_livekit(sample("livekit_handoffs_repaired").CustomerServiceAgent(), script, steps)
    ours = await told_by_ours(sample("ours_handoffs").graph, script, steps)
    assert ours.handoffs == theirs.handoffs == [(None, "customer_service"), ("customer_service", "billing")]
    conversation = ours.agent.conversation
    [record] = conversation.handoffs
    assert (record["old_agent_id"], record["new_agent_id"]) == ("customer_service", "billing")
    [artifact] = [m.artifact for m in conversation.messages if m.type == "tool"]
    assert artifact == record


# ---- passing state

NAME, AGE = call("record_name", {"name": "Ann"}), call("record_age", {"age": 30})
ARRIVED = "Transferring to customer service."


async def intake(script: list[Any], steps: list[str], *, answers: dict[str, str]) -> tuple[Told, Told]:
    theirs_module = sample("livekit_intake")
    theirs = await told_by_livekit(theirs_module.IntakeAgent(), script, steps, theirs_module.make_session)
    ours = await told_by_ours(sample("ours_intake").graph, script, steps)
    same_story(theirs, ours, script, answers=answers)
    same_prompts(theirs, ours, script)
    assert (ours.userdata.user_name, ours.userdata.age) == ("Ann", 30)
    assert ours.active_agent == "customer_service"
    assert ours.prompts[len(script) - 1] == [
        ("instructions", "You are a friendly customer service representative."),
        ("inline", "Greet Ann personally and offer your assistance."),
    ]
    return theirs, ours


async def test_intake_with_both_tools_in_one_message_hands_off_once_and_greets_by_name() -> None:
    await intake([say(NAME, AGE), "Hello Ann."], ["I'm Ann, 30"], answers={"record_age": ARRIVED})


async def test_intake_with_both_tools_the_other_way_round_hands_off_too() -> None:
    await intake([say(AGE, NAME), "Hello Ann."], ["I'm 30, Ann"], answers={"record_name": ARRIVED})


async def test_intake_with_one_silent_tool_per_turn_is_mute_in_livekit_and_answers_in_ours() -> None:
    # The page's tool returns None. LiveKit asks for no reply then, and the caller who has given the name hears nothing.
    script = [NAME, OnlyOurs("And your age?"), AGE, "Hello Ann."]
    theirs, ours = await intake(script, ["I'm Ann", "30"], answers={"record_age": ARRIVED})
    assert theirs.said == ["Hello Ann."]
    assert ours.said == ["And your age?", "Hello Ann."]


async def test_intake_with_one_tool_per_turn_and_words_beside_it_is_the_same_call() -> None:
    # The caller has heard something, so None ends the turn on both sides.
    script = [say("Thank you. Your age?", NAME), say("Good.", AGE), "Hello Ann."]
    theirs, ours = await intake(script, ["I'm Ann", "30"], answers={"record_age": ARRIVED})
    assert theirs.said == ours.said == ["Thank you. Your age?", "Good.", "Hello Ann."]


async def test_userdata_may_be_given_to_the_session_as_in_livekit() -> None:
    script, module = [say(NAME, AGE), "Hello Ann."], sample("ours_intake")
    info = module.MySessionInfo()
    ours = await told_by_ours(module.graph, script, ["I'm Ann, 30"], userdata=info)
    assert ours.said == ["Hello Ann."]
    assert ours.userdata == ours.agent.conversation.userdata == module.MySessionInfo("Ann", 30)


# ---- context preservation

TRANSFERRED = "Transferring to technical support."
# An agent without on_enter says nothing in LiveKit until the caller speaks. Ours speaks at once: somebody waits.
SUPPORT = ["Yes?", call("transfer_to_technical_support"), "I'll pass you on.", OnlyOurs("Support here."), "Restart it."]


@pytest.mark.parametrize("way", ["ours_context_preservation", "ours_context_preservation_in_tool"])
async def test_the_caller_is_told_inside_the_tool_and_the_turns_are_carried_without_instructions(way: str) -> None:
    steps = ["hi", "my router is broken", "hello?"]
    theirs = await told_by_livekit(sample("livekit_context_preservation").CustomerServiceAgent(), SUPPORT, steps)
    ours = await told_by_ours(sample(way).graph, SUPPORT, steps)
    same_story(theirs, ours, SUPPORT, answers={"transfer_to_technical_support": TRANSFERRED})
    transfer = [("call", "transfer_to_technical_support", "{}"), ("output", TRANSFERRED)]
    same_prompts(theirs, ours, SUPPORT, carried=transfer)
    # The line is worded with the call still open, which both sides answer by a placeholder.
    assert ours.prompts[2][-2:] == [
        ("output", "The tool call is still in progress."),
        ("inline", "Inform the customer that you're transferring them to the technical support team."),
    ]
    # `exclude_instructions` leaves the previous agent's prompt in LiveKit's context, in an item of its own kind.
    assert ("agent_config_update", "You are a friendly customer service representative.") in theirs.prompts[4]
    assert ours.prompts[4][1:] == [
        ("user", "hi"),
        ("assistant", "Yes?"),
        ("user", "my router is broken"),
        ("assistant", "I'll pass you on."),
        *transfer,
        ("assistant", "Support here."),
        ("user", "hello?"),
    ]


async def test_an_on_enter_that_says_nothing_waits_for_the_caller_as_livekit_s_agent_without_one() -> None:
    class TechnicalSupport(graph_voice.Agent):
        instructions = sample("ours_context_preservation").technical_support.instructions

        async def on_enter(self, ctx: graph_voice.RunContext[Any]) -> None:
            pass

    script = [entry for entry in SUPPORT if not isinstance(entry, OnlyOurs)]
    steps = ["hi", "my router is broken", "hello?"]
    theirs = await told_by_livekit(sample("livekit_context_preservation").CustomerServiceAgent(), script, steps)
    service = sample("ours_context_preservation").customer_service
    ours = await told_by_ours(graph_voice.create_voice_graph([service, TechnicalSupport()]), script, steps)
    same_story(theirs, ours, script, answers={"transfer_to_technical_support": TRANSFERRED})


async def test_a_summary_of_the_conversation_is_all_that_the_next_agent_is_shown() -> None:
    asks = call("transfer_to_specialist", {"topic": "routers"})
    script = ["What colour?", asks, OnlyOurs("A router, I see."), "Replace it."]
    steps = ["my router blinks", "red", "hello?"]
    theirs = await told_by_livekit(sample("livekit_summary").TriageAgent(), script, steps)
    ours = await told_by_ours(sample("ours_summary").graph, script, steps)
    # The topic is userdata in ours: an agent holds nothing of a call.
    assert ours.userdata.topic == "routers"
    ours.userdata = None
    same_story(theirs, ours, script, answers={"transfer_to_specialist": "Transferring to specialist."})
    same_prompts(theirs, ours, script)
    assert ours.prompts[2] == [
        ("instructions", "You are a specialist for routers."),
        ("inline", "Prior conversation summary: The router blinks red."),
    ]
    # Both are asked once, about the same turns; the words around them are each side's own.
    [asked_theirs], [asked_ours] = theirs.summary_prompts, ours.summary_prompts
    turns = [text for _, text in asked_theirs[1:]]
    assert turns == ["user: my router blinks", "assistant: What colour?", "user: red"]
    spoken = re.findall(r"<(user|assistant)>(.*?)</", asked_ours[1][1])
    assert [f"{who}: {text}" for who, text in spoken] == turns


async def test_truncate_carries_the_last_items() -> None:
    script = ["A1", "A2", "A3", "A4", call("transfer_to_technical_support"), OnlyOurs("Support."), "Done."]
    steps = ["u1", "u2", "u3", "u4", "u5", "u6"]
    theirs = await told_by_livekit(sample("livekit_truncate").CustomerServiceAgent(), script, steps)
    ours = await told_by_ours(sample("ours_truncate").graph, script, steps)
    same_story(theirs, ours, script, answers={"transfer_to_technical_support": TRANSFERRED})
    # Six items on both sides. In ours the transfer itself is two of them: in LiveKit it is not in the context yet.
    shared = [("assistant", "A3"), ("user", "u4"), ("assistant", "A4"), ("user", "u5")]
    transfer = [("call", "transfer_to_technical_support", "{}"), ("output", TRANSFERRED)]
    config = ("agent_config_update", "You are a technical support specialist.")
    assert theirs.prompts[6][1:] == [("assistant", "A2"), ("user", "u3"), *shared, config, ("user", "u6")]
    assert ours.prompts[6][1:] == [("opener",), *shared, *transfer, ("assistant", "Support."), ("user", "u6")]


async def test_a_userdata_summary_is_shown_to_the_next_agent() -> None:
    script = [call("record", {"name": "Ann", "age": 30}), "Hello Ann.", "Of course."]
    steps = ["I'm Ann, 30", "can you help?"]
    module = sample("livekit_userdata_summary")

    def session(llm: Any) -> AgentSession[Any]:
        return AgentSession[Any](llm=llm, vad=None, userdata=module.MySessionInfo())

    theirs = await told_by_livekit(module.IntakeAgent(), script, steps, session)
    ours = await told_by_ours(sample("ours_userdata_summary").graph, script, steps)
    same_story(theirs, ours, script, answers={"record": ARRIVED})
    same_prompts(theirs, ours, script)
    assert ("inline", "What is known so far:\nuser_name: Ann\nage: 30") in ours.prompts[1]


# ---- tasks and task groups


def until_said(text: str) -> Any:
    """A step that waits for these words: LiveKit's run may be over while a task gives the conversation back."""

    async def step(session: AgentSession[Any], agent: Agent) -> None:
        said = asyncio.Event()

        def added(item: Any) -> None:
            if item.type == "message" and item.text_content == text:
                said.set()

        session.on("conversation_item_added", lambda event: added(event.item))
        for item in session.history.items:
            added(item)
        await asyncio.wait_for(said.wait(), 60)

    return step


def outputs(told: Told) -> dict[str, str]:
    return {event[1]: event[2] for event in told.history if event[0] == "function_call_output"}


@pytest.mark.parametrize("answer", ["given", "denied"])
async def test_on_enter_awaits_a_task_and_its_result_decides_what_is_said(answer: str) -> None:
    script = ["May I record?", call(f"consent_{answer}"), "How can I help?"]
    theirs = await told_by_livekit(sample("livekit_task").CustomerServiceAgent(), script, ["hm"])
    ours = await told_by_ours(sample("ours_task").graph, script, ["hm"])
    # The tool that ends a task returns None in LiveKit, and nobody is asked for a reply to it.
    same_story(theirs, ours, script, answers={f"consent_{answer}": "collect consent is complete."})
    same_prompts(theirs, ours, script)
    refused = "Say that nothing is recorded, and offer your assistance."
    assert ours.prompts[2][-1] == ("inline", "Offer your assistance." if answer == "given" else refused)


async def test_a_group_of_tasks_runs_in_order_for_a_tool_that_waits() -> None:
    name, city = call("record_name", {"name": "Ann"}), call("record_city", {"city": "Rome"})
    script = [call("register"), "Your name?", name, "Your city?", city, "You are registered."]
    steps = ["register me", "Ann", "Rome", until_said("You are registered.")]
    theirs = await told_by_livekit(sample("livekit_task_group").ClerkAgent(), script, steps)
    ours = await told_by_ours(sample("ours_task_group").graph, script, steps)
    for kind in ("message", "function_call"):
        assert [e for e in ours.history if e[0] == kind] == [e for e in theirs.history if e[0] == kind]
    assert outputs(theirs)["register"] == outputs(ours)["register"] == "Registered Ann of Rome."
    # LiveKit's group is an agent between the steps; ours is none.
    assert [agent for _, agent in theirs.handoffs if agent != "task_group"] == [
        "clerk",
        "get_name",
        "get_city",
        "clerk",
    ]
    assert [agent for _, agent in ours.handoffs] == ["clerk", "get_name", "clerk", "get_city", "clerk"]


async def test_the_ready_made_task_for_an_email_address_does_not_ask_back_what_was_typed() -> None:
    steps = ["invite me", "ann@x.org"]

    def script(tool: str, argument: str) -> list[Any]:
        return [call("invite"), "Your email?", call(tool, {argument: "ann@x.org"}), "You are invited."]

    their_script, our_script = script("update_email_address", "email"), script("record_email", "address")
    theirs = await told_by_livekit(sample("livekit_email").HostAgent(), their_script, steps)
    ours = await told_by_ours(sample("ours_email").graph, our_script, steps)
    assert theirs.said == ours.said == ["Your email?", "You are invited."]
    assert outputs(theirs)["invite"] == outputs(ours)["invite"] == "Sent to ann@x.org."
    assert theirs.active_agent == ours.active_agent == "host"
    assert "typed" in theirs.prompts[2][2][1]
    assert "types" in ours.prompts[2][0][1]


# ---- overriding plugins


async def test_an_agent_s_own_tts_is_livekit_s_plugin_with_the_same_model_and_voice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LIVEKIT_API_KEY", "not-used")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "not-used")
    monkeypatch.setattr(inference.TTS, "prewarm", lambda self: None)  # it would connect
    script = ["I'm the manager."]
    theirs = await told_by_livekit(sample("livekit_voice").CustomerServiceManager(), script, ["hi"])
    ours = await told_by_ours(sample("ours_voice").graph, script, ["hi"])
    same_story(theirs, ours, script)
    same_prompts(theirs, ours, script)
    assert type(ours.agent.tts) is type(theirs.agent.tts)
    assert ours.agent.tts.model == theirs.agent.tts.model == "cartesia/sonic-3"
    # LiveKit shows the voice nowhere else.
    assert ours.agent.tts._opts.voice == theirs.agent.tts._opts.voice == "6f84f4b8-58a2-430c-8c79-688dad597532"


# ---- length, public names, and the guide

PAIRS = sorted(
    (ours, SAMPLES / f"livekit_{ours.stem[5:].removesuffix('_in_tool')}.py") for ours in SAMPLES.glob("ours_*.py")
)


def lines(file: Path) -> int:
    """Non-blank lines, formatted."""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "120", "-"]
    text = subprocess.run(command, input=file.read_text("utf-8"), capture_output=True, text=True, check=True).stdout
    return sum(bool(line.strip()) for line in text.splitlines())


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.stem for ours, _ in PAIRS])
def test_ours_is_no_longer_than_livekit_s(ours: Path, theirs: Path) -> None:
    assert lines(ours) <= lines(theirs)


@pytest.mark.parametrize("ours", [ours for ours, _ in PAIRS], ids=lambda file: file.stem)
def test_ours_is_written_with_public_names_only(ours: Path) -> None:
    imports = [node for node in ast.walk(ast.parse(ours.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in imports} <= {"graph_voice", "dataclasses"}
    names = {alias.name for node in imports if node.module == "graph_voice" for alias in node.names}
    assert names <= set(graph_voice.__all__)


def test_every_snippet_of_the_guide_stands_in_a_sample_that_runs() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    sources = {file.stem: file.read_text("utf-8") for file in SAMPLES.glob("*_*.py")}
    homes = [
        [name for name, text in sources.items() if any(indent(snippet.rstrip(), " " * n) in text for n in (0, 4, 8))]
        for snippet in snippets
    ]
    assert [snippet for snippet, home in zip(snippets, homes, strict=True) if not home] == []
    sides = {name.partition("_")[0] for home in homes for name in home}
    assert sides >= {"livekit", "ours"}
    shown = {name.partition("_")[2] for home in homes for name in home if name.startswith("ours_")}
    assert shown == {ours.stem.partition("_")[2] for ours, _ in PAIRS}, json.dumps(homes)
