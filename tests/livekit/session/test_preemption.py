"""Preemptive generation: a guess costs a model call at most; nothing is done or remembered for it."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import Roots, a_call, spoken, told_by_graph, voice
from langchain_core.messages import HumanMessage
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from livekit.agents.voice.events import ErrorEvent

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, fail, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock

APOLOGY = "I'm sorry, something went wrong on my side. Could you say that again?"


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


class Tagged(BaseTracer):
    """A tracer as LangSmith's: it keeps the runs without a parent, with their tags at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.ended.append(run)


async def test_a_discarded_guess_is_tagged_in_the_trace_and_nothing_else_is() -> None:
    model, tracer = ScriptedModel([("five", "Five."), ("nine", "Nine.")]), Tagged()
    ga = shop(model, config={"callbacks": [tracer]})
    async with a_call(ga, model) as rig:
        await rig.user_says("make it five", at=0.5, preflight="make it nine")
        await rig.until_idle()
        await rig.user_says("make it five again")
        await rig.until_idle()
    await asyncio.sleep(1)  # the last trace ends in the background
    marked = [(run.inputs["text"], "discarded" in (run.tags or ())) for run in tracer.ended]
    assert marked == [("make it nine", True), ("make it five", False), ("make it five again", False)]
    assert [run.outputs and run.outputs["heard"] for run in tracer.ended] == ["", "Five.", "Five."]
    assert all(child.end_time is not None for run in tracer.ended for child in run.child_runs)


@pytest.mark.parametrize("effects", [True, False])
async def test_a_foreign_node_with_an_effect_acts_for_what_was_said_and_once(effects: bool) -> None:
    """Guessed and dropped: no effect. Declared free of effects, it runs for the guess as well, for a quick answer."""
    ran: list[str] = []

    async def route(state: dict[str, Any]) -> dict[str, Any]:
        ran.append(state["messages"][-1].text)
        return {"messages": []}

    model = ScriptedModel([("", "Done.")])
    graph = create_voice_graph([Agent("shop", instructions="You charge cards.", voice=voice("shop"))], llm=model)
    graph.add_node("route", route, metadata={} if effects else {"speculative": True})
    graph.edges.remove(("shop", "__end__"))
    graph.add_edge("shop", "route")
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("charge five", at=0.5, preflight="charge nine")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "Done.")]
    asked = [next(m.text for m in p.messages if isinstance(m, HumanMessage)) for p in model.prompts]
    if effects:
        assert len(ran) == 1
        assert asked == ["charge five"]
    else:
        assert asked == ["charge nine", "charge five"]


async def test_a_guess_whose_tool_would_hand_off_leaves_the_floor_where_it_is() -> None:
    ran: list[str] = []

    @function_tool(handoffs=["bank"])
    async def check(ctx: RunContext[Any]) -> Any:
        """See whether it is for the bank."""
        ran.append("check")
        return ctx.handoff("bank")

    model = ScriptedModel({"shop": [("stay", "You stay here."), ("bank", call("check"))], "bank": [("", "The bank.")]})
    agents = [
        Agent(
            "shop",
            instructions="shop",
            tools=[check],
            handoffs=[Handoff("bank")],
            voice=voice("shop"),
        ),
        Agent("bank", instructions="bank", voice=voice("bank")),
    ]
    ga = GraphAgent(create_voice_graph(agents, llm=model))
    async with a_call(ga, model) as rig:
        await rig.user_says("stay", at=0.5, preflight="bank")
        await rig.until_idle()
        assert spoken(rig) == [("shop", "You stay here.")]
        assert rig.session.current_agent.id == "shop"
    assert ran == []
    assert ga.conversation.handoffs == []
    assert len(model.prompts) == 2
    assert ga.bridge.tables.tool_calls == {}


async def test_a_guess_that_hands_off_and_is_right_hands_off_once() -> None:
    model = ScriptedModel({"shop": [("", call("transfer_to_bank"))], "bank": [("", "The bank.")]})
    agents = [
        Agent("shop", instructions="shop", handoffs=[Handoff("bank")], voice=voice("shop")),
        Agent("bank", instructions="bank", voice=voice("bank")),
    ]
    ga = GraphAgent(create_voice_graph(agents, llm=model))
    async with a_call(ga, model) as rig:
        await rig.user_says("bank please", at=0.5, preflight="bank please")
        await rig.until_idle()
        assert spoken(rig) == [("bank", "The bank.")]
    assert [h["new_agent_id"] for h in ga.conversation.handoffs] == ["bank"]
    assert len(model.prompts) == 2


@pytest.mark.parametrize("seconds", [0.2, 0.6, 1.0, 1.4, 1.8, 2.4])
async def test_a_guess_made_while_an_agent_enters_leaves_nothing(seconds: float) -> None:
    """The caller speaks while the first words are made, or played; the recogniser guesses wrongly."""
    model = ScriptedModel([("five", "Five it is."), ("nine", "Nine it is."), ("", "Welcome to the shop my friend.")])
    host = Agent("shop", instructions="You charge cards.", on_enter="Greet the caller.", voice=voice("shop"))
    roots = Roots()
    ga = GraphAgent(create_voice_graph([host], llm=model), config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("make it five", at=seconds, preflight="make it nine")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Five it is.")
        assert "Nine" not in str(spoken(rig))
        assert [m.text for m in ga.conversation.messages if isinstance(m, HumanMessage)] == ["make it five"]
        await asyncio.sleep(2)
        assert [end["discarded"] for end in roots.outputs.values()].count(True) <= 1


# ---- errors of a guess


@pytest.mark.parametrize(("guess", "reported"), [("nine", 0), ("five", 1)])
async def test_an_error_of_a_guess_is_reported_when_the_turn_is_certain_and_only_then(
    guess: str, reported: int
) -> None:
    """LiveKit reports it before the caller's turn is over, and counts it towards closing the session."""
    broken = fail(ConnectionError("no line"))
    model = ScriptedModel([("five", "Five.") if guess == "nine" else ("five", broken), ("nine", broken)])
    ga = shop(model)
    errors: list[ErrorEvent] = []
    known: list[bool] = []

    def note(event: ErrorEvent) -> None:
        errors.append(event)
        known.append(any(m.type == "human" for m in ga.conversation.messages))

    endpointing = {"min_delay": 3.0, "max_delay": 4.0}
    async with a_call(ga, model, turn_handling={"endpointing": endpointing}) as rig:
        rig.session.on("error", note)
        await rig.user_says("five", at=0.5, preflight=guess)
        await asyncio.sleep(2.0)
        assert len(model.prompts) >= 1
        assert errors == []
        await rig.until_idle(quiet=4)
        assert spoken(rig) == [("shop", "Five." if guess == "nine" else APOLOGY)]
    assert len(errors) == reported
    assert all(known)
    assert not any(event.error.recoverable for event in errors)


async def test_ten_guesses_that_fail_do_not_close_the_call() -> None:
    model = ScriptedModel([("yes", "I hear you."), ("no", fail(ConnectionError("no line")))])
    ga = shop(model)
    async with a_call(ga, model) as rig:
        for n in range(10):
            await rig.user_says(f"yes {n}", preflight=f"no {n}")
            await rig.until_idle()
        assert rig.errors == []
    assert [m.text for m in ga.conversation.messages if isinstance(m, HumanMessage)] == [f"yes {n}" for n in range(10)]
