"""While a handoff is in progress: who acts, who answers, and what stays when it does not take place."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain_core.messages import ToolMessage
from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, VoiceState, create_voice_graph, function_tool, history
from graph_voice.testing import Call, ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])


class Guest(BaseModel):
    paid: bool = False
    nurse: str | None = None
    left: str | None = None


class Audited(VoiceState[Guest]):
    audit: Annotated[list[str], operator.add]


def results(phone: Any) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


def checkout(*, seconds: float = 0.0, result: str | None = "Paid.") -> tuple[Any, list[int]]:
    payments: list[int] = []

    @function_tool(handoffs=["greeter"])
    async def take_payment(ctx: RunContext[Guest]) -> Handoff:
        """Take the payment."""
        payments.append(22)
        ctx.userdata.paid = True
        await asyncio.sleep(seconds)
        return ctx.handoff("greeter", result)

    agents = [
        Agent("checkout", instructions="c", tools=[take_payment], handoffs=[Handoff("greeter", tool=False)]),
        Agent("greeter", instructions="g", on_enter="Ask."),
    ]
    return create_voice_graph(agents, userdata=Guest, start="checkout"), payments


@both
@pytest.mark.parametrize("when", ["on the words before it", "while the tool runs"])
@pytest.mark.parametrize(("result", "own"), [("Paid.", "Paid. "), (None, "")])
async def test_a_tool_that_acted_keeps_its_own_words_when_its_transfer_does_not_take_place(
    front_end: str, when: str, result: str | None, own: str
) -> None:
    graph, payments = checkout(seconds=0.0 if when == "on the words before it" else 6.0, result=result)
    words = "One moment please, I am charging your card right now." if when == "on the words before it" else "Wait."
    charge = say(words, call("take_payment"))
    model = ScriptedModel(lambda messages: charge if messages[-1].text == "Charge it." else "I see.")
    async with Call(graph, llm=model, front_end=front_end) as phone:
        if when == "on the words before it":
            phone.barge_in("Great, do I get a receipt?", after_words=3)
        else:
            phone.during_tool("take_payment").says("Is that all?")
        await phone.says("Charge it.")
        await phone.silence(10)
        await phone.says("So it is paid?")
        assert (phone.active_agent, payments, phone.userdata.paid) == ("checkout", [22], True)
        (told,) = results(phone)
        assert told.startswith(f"{own}The transfer did not take place")
        assert "not happen" not in told
        assert told in [m.text for m in model.prompts[-1].messages]


@both
async def test_a_declared_transfer_that_is_cut_off_did_nothing_and_is_told_so(front_end: str) -> None:
    desk = Agent("desk", instructions="d", handoffs=[Handoff("nurse")])
    graph = create_voice_graph([desk, Agent("nurse", instructions="n")])
    words = say("I am putting you through to the nurse, please hold.", call("transfer_to_nurse"))
    async with Call(
        graph, llm=ScriptedModel({"desk": [words, "All right."], "nurse": lambda m: "Hi."}), front_end=front_end
    ) as phone:
        phone.barge_in("No, wait.", after_words=3)
        await phone.says("A nurse please.")
        (message,) = [m for m in phone.messages if isinstance(m, ToolMessage)]
        assert (message.status, phone.active_agent) == ("error", "desk")


def clinic() -> tuple[Any, list[str]]:
    acted: list[str] = []

    async def enter(ctx: RunContext[Guest]) -> None:
        acted.append("paged")
        ctx.userdata.nurse = "paged"
        await ctx.generate_reply("Greet.")

    desk = Agent("desk", instructions="d", handoffs=[Handoff("nurse")])
    return create_voice_graph([desk, Agent("nurse", instructions="n", on_enter=enter)], userdata=Guest), acted


@both
@pytest.mark.parametrize("cut", [True, False])
async def test_an_on_enter_method_acts_only_when_the_handoff_has_happened(front_end: str, cut: bool) -> None:
    graph, acted = clinic()
    words = say("I am putting you through to the nurse, please hold the line.", call("transfer_to_nurse"))
    model = ScriptedModel({"desk": [words, "All right."], "nurse": lambda m: "Nurse here."})
    async with Call(graph, llm=model, front_end=front_end) as phone:
        if cut:
            phone.barge_in("No, wait.", after_words=4)
        await phone.says("A nurse please.")
        assert (phone.active_agent, acted, phone.userdata.nurse) == (
            ("desk", [], None) if cut else ("nurse", ["paged"], "paged")
        )


@both
@pytest.mark.parametrize("cut", [True, False])
async def test_a_custom_node_behind_the_new_agent_acts_only_when_the_handoff_has_happened(
    front_end: str, cut: bool
) -> None:
    paged: list[str] = []

    async def page(state: Any) -> dict[str, Any]:
        if state["active_agent"] == "nurse":
            paged.append("paged")
            return {"audit": ["paged"]}
        return {}

    desk = Agent("desk", instructions="d", handoffs=[Handoff("nurse")])
    graph = create_voice_graph([desk, Agent("nurse", instructions="n")], userdata=Guest, state_schema=Audited)
    graph.add_node("page", page)
    graph.add_edge("nurse", "page")
    words = say("I am putting you through to the nurse, please hold the line.", call("transfer_to_nurse"))
    model = ScriptedModel({"desk": [words, "All right."], "nurse": lambda m: "Nurse here."})
    async with Call(graph, llm=model, front_end=front_end) as phone:
        if cut:
            phone.barge_in("No, wait.", after_words=4)
        await phone.says("A nurse please.")
        assert phone.active_agent == ("desk" if cut else "nurse")
        assert paged == ([] if cut else ["paged"])
        assert (phone.conversation.state.get("audit") or []) == paged


def through_a_node(left: list[str], *, say: str | None = None, **metadata: Any) -> Any:
    async def leave(ctx: RunContext[Guest]) -> None:
        left.append(ctx.agent)
        ctx.userdata.left = ctx.agent

    async def enter(ctx: RunContext[Guest]) -> None:
        assert ctx.userdata.left == "a", "as in LiveKit, the old agent has left by then"
        ctx.userdata.nurse = "entered"
        await ctx.say("B here.")

    a = Agent("a", instructions="A.", on_exit=leave, handoffs=[Handoff("lookup", history=history.full(), say=say)])
    graph = create_voice_graph([a, Agent("b", instructions="B.", on_enter=enter)], userdata=Guest, state_schema=Audited)

    async def lookup(state: Any) -> dict[str, Any]:
        return {"audit": ["looked"]}

    graph.add_node("lookup", lookup, metadata=metadata or None)
    graph.add_edge("lookup", "b")
    return graph


@both
async def test_a_handoff_through_a_custom_node_carries_its_history_and_the_old_agent_leaves(front_end: str) -> None:
    left: list[str] = []
    model = ScriptedModel({"a": ["One.", "Two.", call("transfer_to_lookup")], "b": ["Yes?"]})
    async with Call(through_a_node(left), llm=model, front_end=front_end) as phone:
        for words in ("first", "second", "third"):
            await phone.says(words)
        assert (phone.active_agent, left, phone.state["audit"]) == ("b", ["a"], ["looked"])
        assert (phone.userdata.left, phone.userdata.nurse) == ("a", "entered")
        await phone.says("hello?")
        shown = [message.text for message in model.prompts[-1].messages]
        assert [text for text in shown if text in ("first", "second", "third")] == ["first", "second", "third"]
        assert [h["new_agent_id"] for h in phone.conversation.handoffs] == ["b"]
    # The call's end: the agent that is active then leaves, too.
    assert left == ["a"]


@both
@pytest.mark.parametrize("metadata", [{}, {"speculative": True}])
async def test_a_custom_node_behind_a_transfer_that_is_cut_off_does_nothing(
    front_end: str, metadata: dict[str, Any]
) -> None:
    left: list[str] = []
    model = ScriptedModel({"a": [call("transfer_to_lookup"), "Ok then.", call("transfer_to_lookup")], "b": ["Yes?"]})
    graph = through_a_node(left, say="I am putting you through.", **metadata)
    async with Call(graph, llm=model, front_end=front_end) as phone:
        phone.during_handoff().says("No, wait.")
        await phone.says("B please.")
        assert (phone.active_agent, phone.state.get("audit") or [], left) == ("a", [], [])
        await phone.says("B please, now.")
        assert (phone.active_agent, phone.state["audit"], left) == ("b", ["looked"], ["a"])


@both
@pytest.mark.parametrize("how", ["returned", "asked for"])
async def test_a_handoff_that_on_enter_asks_for_happens(front_end: str, how: str) -> None:
    class Router(Agent):
        instructions = "R"
        handoffs = (Handoff("billing", say="One moment.", tool=False, history=history.full()),)

        async def on_enter(self, ctx: RunContext[Any]) -> Any:
            if how == "returned":
                return ctx.handoff("billing")
            ctx.request_handoff(ctx.handoff("billing"))
            return None

    billing = Agent("billing", instructions="B", on_enter="Greet.")
    model = ScriptedModel(lambda messages: "Billing here.")
    async with Call(create_voice_graph([Router("router"), billing]), llm=model, front_end=front_end) as phone:
        assert (phone.greeting.heard, phone.active_agent) == ("One moment. Billing here.", "billing")
        assert [(h["old_agent_id"], h["new_agent_id"]) for h in phone.conversation.handoffs] == [("router", "billing")]


@both
async def test_agents_that_hand_on_in_their_on_enter_for_ever_are_stopped_with_words(front_end: str) -> None:
    def hands_to(other: str) -> Any:
        async def enter(ctx: RunContext[Any]) -> Handoff:
            return ctx.handoff(other)

        return enter

    agents = [
        Agent("a", instructions="A", handoffs=[Handoff("b", tool=False)], on_enter=hands_to("b")),
        Agent("b", instructions="B", handoffs=[Handoff("a", tool=False)], on_enter=hands_to("a")),
    ]
    async with Call(create_voice_graph(agents, apology="Sorry."), llm=ScriptedModel([]), front_end=front_end) as phone:
        assert phone.greeting.heard == "Sorry."


async def test_words_behind_a_handoff_whose_old_agent_still_leaves_are_answered_by_the_new_one() -> None:
    async def leave(ctx: RunContext[Any]) -> None:
        await asyncio.sleep(4)

    def answer(who: str) -> Any:
        def reply(messages: list[Any]) -> Any:
            if who == "triage" and messages[-1].text == "My bill please.":
                return say("I'm putting you through.", call("transfer_to_billing"))
            return f"This is {who}."

        return reply

    model = ScriptedModel({"triage": answer("triage"), "billing": answer("billing")})
    triage = Agent("triage", instructions="You are triage.", on_exit=leave, handoffs=[Handoff("billing")])
    billing = Agent("billing", instructions="You are billing.", on_enter="Greet.")
    ga = GraphAgent(create_voice_graph([triage, billing], llm=model))
    async with voice_rig(ga) as rig:
        await rig.user_says("My bill please.", at=0.5)
        await asyncio.sleep(2.6)
        assert rig.session.current_agent.id == "billing"
        await rig.user_says("My card is blue.", seconds=0.8)
        await rig.until_idle()
        assert [p.messages[0].text for p in model.prompts][-1] == "You are billing."
        assert rig.messages[-2:] == [("user", "My card is blue."), ("assistant", "This is billing.")]
