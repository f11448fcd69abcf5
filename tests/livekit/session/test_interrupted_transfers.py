"""The caller speaks while the transfer is announced: it is cancelled or completed as declared, and never half."""

import asyncio
import random
from typing import Any

import pytest
from graph_agent_support import a_call, handoffs_in_livekit, outputs_in_graph, spoken, told_by_graph, voice
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice import Agent, Handoff, Reply, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeAudioOutput, VoiceRig

pytestmark = pytest.mark.virtual_clock

LINE = "I'm transferring you to billing now, they will look at it with you in a moment."
WORDS = "no wait stay here"


@function_tool(handoffs=["billing"])
async def pass_on(ctx: RunContext[Any]) -> Any:
    """Pass the caller on."""
    await asyncio.sleep(0.1)
    return ctx.handoff("billing", say=LINE, on_interruption="complete")


@function_tool(handoffs=["billing"])
async def tell_and_pass_on(ctx: RunContext[Any]) -> Any:
    """Tell the caller, then pass them on."""
    await ctx.say(LINE)
    return ctx.handoff("billing", on_interruption="complete")


WAYS: dict[str, tuple[Any, dict[str, Any]]] = {
    "line": (call("transfer_to_billing"), {"say": LINE}),
    "model": (say(LINE, call("transfer_to_billing")), {}),
    "generated": (call("transfer_to_billing"), {"say": Reply("Tell them what you do.")}),
    "tool": (call("pass_on"), {}),
    "in tool": (call("tell_and_pass_on"), {}),
}


def desk(way: str, policy: Any = "complete", *, on_exit: Any = None) -> GraphAgent:
    first, options = WAYS[way]

    def support(messages: list[BaseMessage]) -> Any:
        if "Tell them what you do." in messages[-1].text:
            return say(LINE, per_token=0.3)
        words = next(m.text for m in reversed(messages) if isinstance(m, HumanMessage))
        return first if "bill" in words else "Of course, I stay with you."

    model = ScriptedModel(
        {
            "support": support,
            "billing": [("wait", "Billing is here, and you stay."), ("", "Billing speaking, what can I do?")],
        }
    )
    tools = {"tool": [pass_on], "in tool": [tell_and_pass_on]}.get(way, [])
    first_agent = Agent(
        "support",
        instructions="Support.",
        tools=tools,
        handoffs=[Handoff("billing", on_interruption=policy, **options)],
        on_exit=on_exit,
        voice=voice("support"),
    )
    billing = Agent("billing", instructions="Billing.", on_enter="Greet.", voice=voice("billing"))
    return GraphAgent(create_voice_graph([first_agent, billing], llm=model))


def happened(ga: GraphAgent, rig: VoiceRig) -> bool:
    """Whether the floor changed. Fails when it did by half: in LiveKit and in the state, in marks and words."""
    conversation = ga.conversation
    floor = rig.session.current_agent.id
    transferred = floor == "billing"
    assert conversation.active_agent == floor
    assert handoffs_in_livekit(rig.session) == (["billing"] if transferred else [])
    assert [h["new_agent_id"] for h in conversation.handoffs] == (["billing"] if transferred else [])
    marks = [m.artifact for m in conversation.messages if isinstance(m, ToolMessage) and m.artifact is not None]
    assert len(marks) == transferred
    by_billing = [m for m in conversation.messages if isinstance(m, AIMessage) and m.name == "billing"]
    assert bool(by_billing) == transferred
    return transferred


def answered_once(ga: GraphAgent, agent: str, answer: str) -> None:
    """The caller's words are in the state once, and this agent answered them."""
    said = [m for m in ga.conversation.messages if not isinstance(m, ToolMessage)]
    assert [m.text for m in said].count(WORDS) == 1
    place = [m.text for m in said].index(WORDS)
    replies = [m for m in said[place + 1 :] if isinstance(m, AIMessage) and m.text]
    assert [(m.name, m.text) for m in replies] == [(agent, answer)]


@pytest.mark.parametrize("can_pause", [True, False])
@pytest.mark.parametrize("way", WAYS)
async def test_a_handoff_that_completes_gives_the_callers_words_to_the_new_agent(way: str, can_pause: bool) -> None:
    ga = desk(way)
    async with a_call(ga, loudspeaker=FakeAudioOutput(can_pause=can_pause)) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says(WORDS, at=3.5)
        await rig.until_idle()
        assert happened(ga, rig)
        if way != "generated":  # that one is worded so slowly that nothing of it is heard by then
            assert spoken(rig)[0][0] == "support"
            assert LINE.startswith(spoken(rig)[0][1])
            assert len(spoken(rig)[0][1]) < len(LINE)
        answered_once(ga, "billing", "Billing is here, and you stay.")
        await rig.user_says("and now wait")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Billing is here, and you stay.")
    assert outputs_in_graph(ga) == {"call_1": "Transferring to billing."}


@pytest.mark.parametrize("way", ["line", "model", "generated"])
async def test_a_handoff_is_cancelled_unless_it_is_declared_to_complete(way: str) -> None:
    ga = desk(way, "cancel")
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says(WORDS, at=3.5)
        await rig.until_idle()
        assert not happened(ga, rig)
        answered_once(ga, "support", "Of course, I stay with you.")


@pytest.mark.parametrize("seconds", [0.0, 2.0])
@pytest.mark.parametrize("way", WAYS)
async def test_a_handoff_that_completes_after_an_interruption_without_words_is_greeted(
    way: str, seconds: float
) -> None:
    async def on_exit(ctx: RunContext[Any]) -> None:
        await asyncio.sleep(seconds)

    ga = desk(way, on_exit=on_exit if seconds else None)
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(1)
        await rig.session.interrupt()
        await rig.until_idle(quiet=1.5 + seconds)
        assert happened(ga, rig)
        assert spoken(rig)[-1] == ("billing", "Billing speaking, what can I do?")


@pytest.mark.parametrize("way", ["line", "model", "generated", "tool"])
async def test_words_that_reach_the_old_agent_while_the_floor_changes_are_the_new_agents_to_answer(way: str) -> None:
    """Typed words come at once, without the pause that ends a spoken turn."""
    ga = desk(way)
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.until_speaking()
        await asyncio.sleep(1)
        rig.session.interrupt()
        rig.session.generate_reply(user_input=WORDS)
        await rig.until_idle()
        assert happened(ga, rig)
        answered_once(ga, "billing", "Billing is here, and you stay.")


@pytest.mark.parametrize("way", ["line", "model"])
async def test_a_reply_begun_before_the_caller_was_taken_to_interrupt_is_not_the_old_agents(way: str) -> None:
    """Preemptive generation answers a guess at the caller's words while the announcement still plays."""
    ga = desk(way)
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says(WORDS, at=3.5, preflight=WORDS)
        await rig.until_idle()
        assert happened(ga, rig)
        answered_once(ga, "billing", "Billing is here, and you stay.")


MOMENTS = [round(1.4 + 0.17 * n + random.Random(n).uniform(0, 0.17), 3) for n in range(36)]
"""Seconds since the call began: from before the first word of the line to behind the greeting."""


@pytest.mark.parametrize("policy", ["complete", "cancel"])
@pytest.mark.parametrize("way", ["line", "model", "generated"])
@pytest.mark.parametrize("moment", MOMENTS)
async def test_at_any_moment_the_transfer_happens_whole_or_not_at_all(moment: float, way: str, policy: str) -> None:
    ga = desk(way, policy)
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says(WORDS, at=max(rig.now, moment))
        await rig.until_idle()
        floor = "billing" if happened(ga, rig) else "support"
        first = rig.spoken[0]
        announced = first.voice == "support" and bool(first.text.strip()) and LINE.startswith(first.text.strip())
        if policy == "complete" and announced:
            assert floor == "billing"
        if policy == "cancel" and announced and first.interrupted:
            assert floor == "support"
        # The last words are those of who has the floor: nobody was left without an answer.
        assert spoken(rig)[-1][0] == floor
    said = [text for role, text in told_by_graph(ga) if role == "user"]
    assert WORDS in " ".join(said)
    assert " ".join(said).count(WORDS) == 1


@pytest.mark.parametrize("moment", [2.5, 3.5, 4.5])
async def test_a_switch_by_an_edge_is_cancelled_whole_when_the_caller_interrupts_the_words_before_it(
    moment: float,
) -> None:
    model = ScriptedModel(
        {"support": [("bill", LINE), ("", "I stay with you.")], "billing": [("", "Billing speaking.")]}
    )
    agents = [Agent(n, instructions=n, voice=voice(n)) for n in ("support", "billing")]
    with pytest.warns(UserWarning, match="can't be reached"):
        builder = create_voice_graph(agents, llm=model)
    builder.edges.remove(("support", "__end__"))

    async def go_on(state: dict[str, Any]) -> str:
        return "billing" if state["messages"][-1].text.startswith("I'm transferring") else "__end__"

    builder.add_conditional_edges("support", go_on, {"billing": "billing", "__end__": "__end__"})
    ga = GraphAgent(builder)
    async with a_call(ga) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says(WORDS, at=moment)
        await rig.until_idle()
        assert not happened(ga, rig)
        answered_once(ga, "support", "I stay with you.")
        await rig.user_says("my bill again")
        await rig.until_idle()
        assert rig.session.current_agent.id == ga.conversation.active_agent == "billing"
