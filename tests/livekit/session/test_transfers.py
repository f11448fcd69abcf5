"""Declared transfers in a call: one LangGraph step, and for LiveKit what they were."""

import asyncio
from typing import Any

import pytest
from durable_support import a_call_again, a_crash, left_behind
from graph_agent_support import (
    a_call,
    a_text_call,
    handoffs_in_livekit,
    outputs_in_graph,
    outputs_in_livekit,
    spoken,
    told_by_graph,
    voice,
)
from langgraph.checkpoint.memory import InMemorySaver
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import mock_tools
from native_support import LiveKitModel
from steps import Steps

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS

pytestmark = pytest.mark.virtual_clock

LINE = "I'm transferring you to billing now, my colleague has your papers and will help you with all of it."


@function_tool
async def balance() -> str:
    """Look up the balance."""
    return "40 euros"


@function_tool(handoffs=["billing"])
async def pass_on(ctx: RunContext[Any]) -> Any:
    """Pass the caller on."""
    return ctx.handoff("billing")


def office(
    first: Any, *, way: Handoff | None = None, on_exit: Any = None, **options: Any
) -> tuple[GraphAgent, ScriptedModel, Steps]:
    model = ScriptedModel(
        {
            "support": [("bill", [first, "I'm still support."]), ("", "Support, yes?")],
            "billing": [("much", "It is 40 euros."), ("wait", "I'm waiting."), ("", "Billing here.")],
        }
    )
    support = Agent(
        "support",
        instructions="Support.",
        tools=[balance, pass_on],
        handoffs=[way or Handoff("billing", say=LINE)],
        on_exit=on_exit,
        voice=voice("support"),
    )
    billing = Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing"))
    steps = Steps()
    graph = create_voice_graph([support, billing], llm=model)
    return GraphAgent(graph, config={"callbacks": [steps]}, **options), model, steps


@pytest.mark.parametrize(
    ("calls", "way"),
    [
        (["transfer_to_billing"], ["support", "billing"]),
        (["balance", "transfer_to_billing"], ["support", "support_tools", "billing"]),
        (["transfer_to_billing", "balance"], ["support", "support_tools", "billing"]),
        (["transfer_to_billing", "transfer_to_billing"], ["support", "support_tools", "billing"]),
        (["pass_on"], ["support", "support_tools", "billing"]),
    ],
    ids=lambda value: "+".join(value),
)
async def test_a_transfer_that_is_alone_is_one_step_and_livekit_sees_what_it_saw(calls: Any, way: Any) -> None:
    ga, model, steps = office(say("Sure.", *map(call, calls)))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill please", at=0.5)
        await rig.until_idle()
        assert steps.nodes == way
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert spoken(rig) == [("support", f"Sure. {LINE}"), ("billing", "Billing here.")]
        assert outputs_in_livekit(rig.session) == outputs_in_graph(ga)
        await rig.user_says("how much", at=30)
        await rig.until_idle()
        assert spoken(rig)[-1] == ("billing", "Billing here. It is 40 euros.")


async def test_a_mock_of_a_transfer_answers_the_model_and_nobody_is_transferred() -> None:
    ga, model, steps = office(call("transfer_to_billing"))
    async with a_text_call(ga, model) as session:
        with mock_tools(ga.agent_type("support"), {"transfer_to_billing": lambda: "billing is closed"}):
            result = await session.run(user_input="my bill please")
        result.expect.contains_function_call_output(output="billing is closed", is_error=False)
        result.expect.contains_message(role="assistant")
        assert handoffs_in_livekit(session) == []
    assert told_by_graph(ga)[-1] == ("assistant", "I'm still support.")
    assert outputs_in_graph(ga) == {"call_1": "billing is closed"}
    assert steps.nodes == ["support", "support_tools", "support"]


@pytest.mark.parametrize("policy", ["cancel", "complete"])
async def test_the_caller_cuts_into_the_announcement(policy: Any) -> None:
    ga, model, steps = office(call("transfer_to_billing"), way=Handoff("billing", say=LINE, on_interruption=policy))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill please", at=0.5)
        await rig.user_says("wait a moment", at=3.5)
        await rig.until_idle()
        completes = policy == "complete"
        assert handoffs_in_livekit(rig.session) == (["billing"] if completes else [])
        assert spoken(rig)[-1][1].endswith("I'm waiting." if completes else "Support, yes?")
        assert LINE not in [text for _, text in spoken(rig)], "it was cut off"
    assert "support_tools" not in steps.nodes


async def test_a_transfer_to_an_external_agent_and_one_through_a_custom_node() -> None:
    class HumanDesk(LiveKitAgent):
        def __init__(self) -> None:
            super().__init__(instructions="Desk.", llm=LiveKitModel([]), tts=FakeTTS("desk"))

        async def on_enter(self) -> None:
            await self.session.say("The desk, hello.")

    model = ScriptedModel(
        {"support": [call("look_it_up")], "billing": ["Billing here.", call("transfer_to_human_desk")]}
    )
    support = Agent(
        "support", instructions="S.", handoffs=[Handoff("lookup", name="look_it_up")], voice=voice("support")
    )
    billing = Agent("billing", instructions="B.", handoffs=[Handoff("human_desk")], voice=voice("billing"))
    graph = create_voice_graph([support, billing], llm=model, external=["human_desk"])
    graph.add_node("lookup", lambda state: {"userdata": {"looked": "up"}})
    graph.add_edge("lookup", "billing")
    steps = Steps()
    ga = GraphAgent(graph, agents={"human_desk": HumanDesk}, config={"callbacks": [steps]})
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill please", at=0.5)
        await rig.until_idle()
        await rig.user_says("a human please", at=30)
        await rig.until_idle()
        assert handoffs_in_livekit(rig.session) == ["billing", "human_desk"]
        assert spoken(rig) == [("billing", "Billing here."), ("desk", "The desk, hello.")]
    assert steps.nodes == ["support", "lookup", "billing", "billing", "human_desk"]
    assert ga.conversation.userdata == {"looked": "up"}


@pytest.mark.parametrize(("moment", "current"), [(0.6, "support"), (2.5, "support"), (12.0, "billing")])
async def test_a_process_that_ends_during_a_transfer_is_taken_up_by_another_which_transfers(
    moment: float, current: str
) -> None:
    """At the beginning of the announcement, in the middle of it, and while the old agent leaves."""

    async def on_exit(ctx: RunContext[Any]) -> None:
        await asyncio.sleep(20 if len(left) == 0 else 0)

    left: list[InMemorySaver] = []
    saver = InMemorySaver()
    ga, _, _ = office(call("transfer_to_billing"), on_exit=on_exit, thread_id="t", saver=saver)
    async with a_crash(ga) as rig:
        await rig.user_says("my bill please", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(moment)
        assert (rig.session.current_agent.id, ga.conversation.active_agent) == (current, "support")
        left.append(left_behind(saver))
    ga, model, steps = office(call("transfer_to_billing"), on_exit=on_exit, thread_id="t", saver=left[0])
    async with a_call_again(ga, model) as rig:
        await rig.until_idle()
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert spoken(rig)[-1] == ("billing", "Billing here.")
    assert steps.nodes == ["support", "support_tools", "billing"], "support's model is not asked again"
    assert outputs_in_graph(ga) == {"call_1": "Transferring to billing."}
