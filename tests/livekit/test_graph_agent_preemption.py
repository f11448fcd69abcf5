"""Preemptive generation: a guess costs a model call at most; nothing is done or remembered for it."""

from typing import Any

import pytest
from graph_agent_support import Roots, a_call, spoken, told_by_graph, voice
from langchain_core.messages import HumanMessage

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


class Card:
    """A card that is charged, and remembers it."""

    def __init__(self) -> None:
        self.charged: list[int] = []

        @function_tool
        async def charge(ctx: RunContext[Any], dollars: int) -> str:
            """Charge the card."""
            self.charged.append(dollars)
            ctx.userdata["charged"] = dollars
            return f"charged {dollars}"

        self.tool = charge


def shop(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [Agent("shop", instructions="You charge cards.", tools=tools, voice=voice("shop"))], llm=model
    )
    return GraphAgent(graph, **options)


def charging() -> ScriptedModel:
    return ScriptedModel(
        [
            ("nine", [say("One moment.", call("charge", {"dollars": 9})), "Charged nine."]),
            ("five", [say("One moment.", call("charge", {"dollars": 5})), "Charged five."]),
        ]
    )


async def test_a_discarded_guess_leaves_nothing_but_its_marked_trace() -> None:
    model, roots, card = charging(), Roots(), Card()
    ga = shop(model, card.tool, config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("charge five", at=0.5, preflight="charge nine")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "One moment. Charged five.")]
    assert card.charged == [5]
    assert ga.conversation.userdata == {"charged": 5}
    assert told_by_graph(ga)[0] == ("user", "charge five")
    assert [end["discarded"] for end in roots.ended] == [True, False]
    assert [end["heard"] for end in roots.ended] == ["", "One moment. Charged five."]


async def test_an_accepted_guess_is_one_model_call_and_comes_sooner() -> None:
    started = []
    for preflight in ("hello", None):
        model, roots = ScriptedModel([("hello", say("Hello yourself.", first_token=1.0))]), Roots()
        ga = shop(model, config={"callbacks": [roots]})
        async with a_call(ga, model) as rig:
            await rig.user_says("hello", at=0.5, preflight=preflight)
            await rig.until_idle()
            started.append(rig.spoken[0].started)
        assert len(model.prompts) == 1
        assert [end["discarded"] for end in roots.ended] == [False]
    assert started[0] < started[1]


async def test_an_accepted_guess_charges_once() -> None:
    model, card = charging(), Card()
    ga = shop(model, card.tool)
    async with a_call(ga, model) as rig:
        await rig.user_says("charge five", at=0.5, preflight="charge five")
        await rig.until_idle()
    assert card.charged == [5]
    assert len(model.prompts) == 2


async def test_the_final_transcript_replaces_an_equivalent_guess() -> None:
    model = ScriptedModel([("hello", "Hello yourself.")])
    ga = shop(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello there", at=0.5, preflight="hello there", final="Hello, there!")
        await rig.until_idle()
    assert told_by_graph(ga) == [("user", "Hello, there!"), ("assistant", "Hello yourself.")]


async def test_going_on_talking_discards_guess_after_guess() -> None:
    model, card, roots = charging(), Card(), Roots()
    ga = shop(model, card.tool, config={"callbacks": [roots]})
    async with a_call(ga, model, turn_handling={"endpointing": {"min_delay": 1.2, "max_delay": 4.0}}) as rig:
        await rig.user_says("charge nine", at=0.5)
        await rig.user_says("no make it five", at=2.0)
        await rig.until_idle()
    assert card.charged in ([5], [9])  # the rule that fits first wins: both numbers are in the words
    assert [end["discarded"] for end in roots.ended].count(False) == 1
    assert len(ga.conversation.messages) == 4


async def test_a_graph_with_a_foreign_node_that_acts_starts_at_commit() -> None:
    acted: list[str] = []

    async def log_the_call(state: dict[str, Any]) -> dict[str, Any]:
        acted.append(state["messages"][-1].text)
        return {}

    model = ScriptedModel([("", "Done.")])
    graph = create_voice_graph([Agent("shop", instructions="You charge cards.", voice=voice("shop"))], llm=model)
    graph.add_node("log_the_call", log_the_call)
    graph.edges.remove(("shop", "__end__"))
    graph.add_edge("shop", "log_the_call")
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("charge five", at=0.5, preflight="charge nine")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "Done.")]
    assert len(acted) == 1
    assert len(model.prompts) == 1
    assert [m.text for m in model.prompts[0].messages if isinstance(m, HumanMessage)] == ["charge five"]
