"""Handoffs in a call: batches, chains, hooks, and switches that no tool asked for."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import Roots, a_call, a_text_call, handoffs_in_livekit, outputs_in_graph, spoken, voice
from langchain_core.messages import AIMessage
from livekit.agents import Agent as LiveKitAgent

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


@function_tool
async def balance() -> str:
    """Look up the balance."""
    await asyncio.sleep(0.5)
    return "40 euros"


def agent(name: str, *handoffs: Any, **options: Any) -> Agent:
    return Agent(name, instructions=f"You are {name}.", handoffs=handoffs, voice=voice(name), **options)


def office(model: ScriptedModel, *agents: Agent, **options: Any) -> GraphAgent:
    return GraphAgent(create_voice_graph(agents, llm=model), **options)


@pytest.mark.parametrize("first", ["balance", "transfer_to_billing"])
async def test_a_handoff_and_a_plain_tool_in_one_batch_in_both_orders(first: str) -> None:
    second = "balance" if first != "balance" else "transfer_to_billing"
    model = ScriptedModel({"support": [say("Sure.", call(first), call(second))], "billing": ["Billing, you have 40."]})
    ga = office(model, agent("support", Handoff("billing"), tools=[balance]), agent("billing"))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill please", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("support", "Sure."), ("billing", "Billing, you have 40.")]
        assert handoffs_in_livekit(rig.session) == ["billing"]
    assert sorted(outputs_in_graph(ga).values()) == ["40 euros", "Transferring to billing."]
    asking = ga.conversation.messages[1]
    assert isinstance(asking, AIMessage)
    assert [c["name"] for c in asking.tool_calls] == [first, second]


async def test_of_two_handoffs_in_one_batch_the_first_wins_and_the_other_is_told() -> None:
    model = ScriptedModel(
        {
            "support": [say(call("transfer_to_sales"), call("transfer_to_billing"))],
            "sales": ["Sales."],
        }
    )
    ga = office(model, agent("support", Handoff("billing"), Handoff("sales")), agent("billing"), agent("sales"))
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("sales", "Sales.")]
        assert handoffs_in_livekit(rig.session) == ["sales"]
    assert sorted(outputs_in_graph(ga).values()) == [
        "Transferring to sales.",
        "not done: the caller is being transferred to sales.",
    ]


def chained(target: str) -> Any:
    @function_tool(name=f"go_on_to_{target}", handoffs=[target])
    async def go_on(ctx: RunContext[Any]) -> Any:
        """Go on."""
        return ctx.handoff(target)

    return go_on


async def test_three_agents_in_one_turn_are_one_trace_and_three_voices() -> None:
    roots = Roots()
    model = ScriptedModel(
        {
            "a": [say("A here.", call("transfer_to_b"))],
            "b": [say("B here.", call("go_on_to_c"))],
            "c": ["C here."],
        }
    )
    ga = office(
        model,
        agent("a", Handoff("b")),
        agent("b", Handoff("c", tool=False), tools=[chained("c")]),
        agent("c"),
        config={"callbacks": [roots]},
    )
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("a", "A here."), ("b", "B here."), ("c", "C here.")]
        assert handoffs_in_livekit(rig.session) == ["b", "c"]
    assert [end["heard"] for end in roots.ended] == ["A here. B here. C here."]


async def test_seven_silent_handoffs_there_and_back_end_in_an_answer() -> None:
    graph = create_voice_graph(
        [
            agent("a", Handoff("b", tool=False), tools=[chained("b")]),
            agent("b", Handoff("a", tool=False), tools=[chained("a")]),
        ],
        llm=(
            model := ScriptedModel(
                {
                    "a": [call("go_on_to_b")] * 4 + ["A answers."],
                    "b": [call("go_on_to_a")] * 3 + ["B answers."],
                }
            )
        ),
        max_hops=7,
    )
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("b", "B answers.")]
        assert handoffs_in_livekit(rig.session) == ["b", "a"] * 3 + ["b"]


async def test_the_hop_budget_ends_a_ping_pong_with_words() -> None:
    model = ScriptedModel({"a": [call("go_on_to_b")] * 2 + ["A answers."], "b": [call("go_on_to_a")] * 2})
    ga = office(
        model,
        agent("a", Handoff("b", tool=False), tools=[chained("b")]),
        agent("b", Handoff("a", tool=False), tools=[chained("a")]),
    )
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("a", "A answers.")]
        assert handoffs_in_livekit(rig.session) == ["b", "a", "b", "a"]


class Greeter(Agent):
    name = "greeter"
    instructions = "You greet."

    async def on_enter(self, ctx: RunContext[Any]) -> None:
        await ctx.say("Welcome to the greeter.")
        ctx.userdata["greeted"] = True


class Silent(Agent):
    name = "silent"
    instructions = "You are silent."

    async def on_enter(self, ctx: RunContext[Any]) -> None:
        ctx.userdata["entered"] = ctx.userdata.get("entered", 0) + 1


async def test_an_on_enter_method_speaks_for_itself() -> None:
    greeter = Greeter(voice=voice("greeter"))
    model = ScriptedModel({"support": [call("transfer_to_greeter")], "greeter": ["I heard you."]})
    ga = office(model, agent("support", Handoff("greeter")), greeter)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("greeter", "Welcome to the greeter.")]
        assert rig.session.userdata == {"greeted": True}
        await rig.user_says("are you there")
        await rig.until_idle()
        assert spoken(rig) == [("greeter", "Welcome to the greeter. I heard you.")]


async def test_an_on_enter_method_that_says_nothing_leaves_the_agent_silent_until_the_caller_speaks() -> None:
    silent = Silent(voice=voice("silent"))
    model = ScriptedModel({"support": [call("transfer_to_silent")], "silent": ["I heard you."]})
    ga = office(model, agent("support", Handoff("silent")), silent)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == []
        assert rig.session.current_agent.id == "silent"
        await rig.user_says("are you there")
        await rig.until_idle()
        assert spoken(rig) == [("silent", "I heard you.")]
    assert ga.conversation.userdata == {"entered": 1}


@pytest.mark.parametrize("on_enter", ["Greet Ann.", lambda userdata: f"Greet {userdata['name']}."])
async def test_on_enter_instructions_of_the_first_agent_open_the_call(on_enter: Any) -> None:
    model = ScriptedModel(["Hello Ann.", "Fine."])
    ga = office(model, agent("support", on_enter=on_enter), userdata={"name": "Ann"})
    async with a_call(ga, model) as rig:
        await rig.until_idle()
        assert spoken(rig) == [("support", "Hello Ann.")]
        await rig.user_says("how are you")
        await rig.until_idle()
    assert "Greet Ann." in model.prompts[0].messages[-1].text
    assert not [m for m in model.prompts[1].messages if "Greet Ann." in m.text]


async def test_on_exit_runs_once_and_only_when_the_floor_changed() -> None:
    left: list[str] = []

    async def on_exit(ctx: RunContext[Any]) -> None:
        left.append(ctx.agent)
        ctx.userdata["left"] = len(left)

    line = "I'm transferring you to billing now, they will look at it with you in a moment."
    model = ScriptedModel(
        {
            "support": [say(line, call("transfer_to_billing")), "I stay.", say("Sure.", call("transfer_to_billing"))],
            "billing": ["Billing."],
        }
    )
    ga = office(model, agent("support", Handoff("billing"), on_exit=on_exit), agent("billing"))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill is wrong", at=0.5)
        await rig.user_says("no wait stay here", at=3.5)
        await rig.until_idle()
        assert left == []
        await rig.user_says("now transfer me")
        await rig.until_idle()
        assert rig.session.current_agent.id == "billing"
        assert left == ["support"]
    assert ga.conversation.userdata == {"left": 1}


async def test_a_switch_by_an_edge_moves_livekit_along() -> None:
    model = ScriptedModel({"support": ["Support here."], "billing": ["Billing here.", "Still billing."]})
    builder = create_voice_graph([agent("support", Handoff("billing")), agent("billing")], llm=model)

    async def route(state: dict[str, Any]) -> dict[str, Any]:
        return {}

    builder.branches.pop("__start__")
    builder.add_node("router", route, metadata={"speculative": True})
    builder.add_edge("__start__", "router")
    builder.add_conditional_edges(
        "router",
        lambda state: "billing" if "bill" in state["messages"][-1].text else state.get("active_agent") or "support",
        {"support": "support", "billing": "billing"},
    )
    roots = Roots()
    ga = GraphAgent(builder, config={"callbacks": [roots]})
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        await rig.user_says("my bill is wrong")
        await rig.until_idle()
        await rig.user_says("go on")
        await rig.until_idle()
        assert spoken(rig) == [("support", "Support here."), ("billing", "Billing here. Still billing.")]
        assert handoffs_in_livekit(rig.session) == ["billing"]
    assert [end["heard"] for end in roots.ended if not end["discarded"]] == [
        "Support here.",
        "Billing here.",
        "Still billing.",
    ]


@pytest.mark.parametrize("text", [True, False])
async def test_two_switches_by_edges_in_one_turn_are_followed_one_after_the_other(text: bool) -> None:
    """The graph runs ahead: it has announced the second one before LiveKit has carried out the first."""
    script = ["Hello.", "Still me."]
    model = ScriptedModel(
        {"front": script, "triage": ["First some questions."], "doctor": ["I am the doctor.", "Yes?"]}
    )
    builder = create_voice_graph(
        [agent("front", Handoff("triage")), agent("triage", Handoff("doctor")), agent("doctor")], llm=model
    )
    builder.branches.pop("__start__")
    builder.branches.pop("triage")
    builder.add_conditional_edges(
        "__start__",
        lambda state: "triage" if "ill" in state["messages"][-1].text else state.get("active_agent") or "front",
        {"front": "front", "triage": "triage", "doctor": "doctor"},
    )
    builder.add_edge("triage", "doctor")
    ga = GraphAgent(builder)
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="hello")
            await session.run(user_input="I am ill")
            assert handoffs_in_livekit(session) == ["triage", "doctor"]
            await session.run(user_input="go on")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("hello", at=0.5)
            await rig.until_idle()
            await rig.user_says("I am ill")
            await rig.until_idle()
            assert handoffs_in_livekit(rig.session) == ["triage", "doctor"]
            await rig.user_says("go on")
            await rig.until_idle()
            said = [("triage", "First some questions."), ("doctor", "I am the doctor. Yes?")]
            assert spoken(rig) == [("front", "Hello."), *said]
    assert ga.conversation.active_agent == "doctor"
    assert [h["new_agent_id"] for h in ga.conversation.handoffs] == ["triage", "doctor"]


async def test_there_and_back_in_one_turn_in_text() -> None:
    model = ScriptedModel(
        {"a": [say("A.", call("transfer_to_b")), "A again."], "b": [say("B.", call("go_on_to_a"))]},
    )
    ga = office(model, agent("a", Handoff("b")), agent("b", Handoff("a", tool=False), tools=[chained("a")]))
    async with a_text_call(ga, model) as session:
        await session.run(user_input="hello")
        assert session.current_agent.id == "a"
        assert handoffs_in_livekit(session) == ["b", "a"]


async def test_what_on_exit_says_is_heard_before_the_new_agents_words() -> None:
    async def on_exit(ctx: RunContext[Any]) -> None:
        await ctx.say("Goodbye from support.")

    model = ScriptedModel({"support": [call("transfer_to_billing")], "billing": ["Billing."]})
    ga = office(model, agent("support", Handoff("billing"), on_exit=on_exit), agent("billing"))
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        assert " ".join(text for _, text in spoken(rig)) == "Goodbye from support. Billing."


async def test_a_barge_in_while_the_floor_already_changes_does_not_undo_it() -> None:
    left: list[str] = []

    async def on_exit(ctx: RunContext[Any]) -> None:
        left.append(ctx.agent)

    class SlowToLeave(LiveKitAgent):
        async def on_exit(self) -> None:
            await asyncio.sleep(2)

    model = ScriptedModel({"support": [say("Sure.", call("transfer_to_billing"))], "billing": [("", "Billing.")]})
    graph = create_voice_graph([agent("support", Handoff("billing"), on_exit=on_exit), agent("billing")], llm=model)
    ga = GraphAgent(graph, bases={"support": SlowToLeave})
    async with a_call(ga, model) as rig:
        handles: list[Any] = []
        rig.session.on("speech_created", lambda event: handles.append(event.speech_handle))
        rig.session.on("function_tools_executed", lambda event: handles[-1].interrupt())
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle(quiet=5)
        assert handoffs_in_livekit(rig.session) == ["billing"]
        assert rig.session.current_agent.id == "billing"
    assert left == ["support"]
    assert ga.conversation.active_agent == "billing"
