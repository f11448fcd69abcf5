"""Plain turns, tool turns and handoffs by voice: one graph run and one trace per user turn, whoever speaks."""

import pytest
from graph_agent_support import Roots, a_call, a_text_call, agrees, handoffs_in_livekit, spoken, voice

from graph_voice import Agent, Handoff, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


@function_tool
async def balance(account: int) -> str:
    """Look up the balance of an account."""
    return f"{account * 10} euros"


def bank(model: ScriptedModel, **handoff: object) -> object:
    return create_voice_graph(
        [
            Agent(
                "support",
                instructions="You are support.",
                tools=[balance],
                handoffs=[Handoff("billing", **handoff)],  # type: ignore[arg-type]
                voice=voice("support"),
            ),
            Agent(
                "billing",
                instructions="You are billing.",
                on_enter="Greet the caller.",
                voice=voice("billing"),
                handoffs=[Handoff("support")],
            ),
        ],
        llm=model,
    )


async def test_a_plain_turn_is_one_model_call_and_one_trace() -> None:
    model, roots = ScriptedModel([("hello", "Hello, how can I help?")]), Roots()
    ga = GraphAgent(bank(model), config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("hello there", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "Hello, how can I help?")]
    assert len(model.prompts) == 1
    assert [end["heard"] for end in roots.ended] == ["Hello, how can I help?"]


async def test_a_tool_turn_speaks_before_and_after_the_tool() -> None:
    model = ScriptedModel([("balance", [say("One moment.", call("balance", {"account": 4})), "You have 40 euros."])])
    roots = Roots()
    ga = GraphAgent(bank(model), config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("what is my balance", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "One moment. You have 40 euros.")]
    assert [end["heard"] for end in roots.ended] == ["One moment. You have 40 euros."]
    assert [type(m).__name__ for m in ga.conversation.messages] == [
        "HumanMessage",
        "AIMessage",
        "ToolMessage",
        "AIMessage",
    ]


async def test_a_handoff_is_one_trace_and_two_voices() -> None:
    model = ScriptedModel(
        {
            "support": [("bill", [say("Sure.", call("transfer_to_billing"))])],
            "billing": ["Billing speaking.", "You owe nothing."],
        }
    )
    roots = Roots()
    ga = GraphAgent(bank(model), config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "Sure."), ("billing", "Billing speaking.")]
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert rig.session.current_agent.id == "billing"
        agrees(ga, rig.session)
        assert len(roots.started) == 1
        await rig.user_says("what do I owe")
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing speaking. You owe nothing.")
    assert [end["heard"] for end in roots.ended] == ["Sure. Billing speaking.", "You owe nothing."]


async def test_a_transfer_line_is_spoken_by_the_old_agent_before_the_new_ones_words() -> None:
    model = ScriptedModel({"support": [call("transfer_to_billing")], "billing": ["Billing speaking."]})
    ga = GraphAgent(bank(model, say="I'm transferring you to billing now."))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "I'm transferring you to billing now."), ("billing", "Billing speaking.")]


async def test_the_same_turn_in_text() -> None:
    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": ["Billing speaking."]})
    roots = Roots()
    ga = GraphAgent(bank(model, say="One moment please."), config={"callbacks": [roots]})
    async with a_text_call(ga, model) as session:
        result = await session.run(user_input="my bill is wrong")
        result.expect.contains_agent_handoff(new_agent_type=ga.agent_type("billing"))
        result.expect.contains_message(role="assistant")
        assert session.current_agent.id == "billing"
    assert len(roots.started) == 1
