"""The same scripted calls on a real `AgentSession`: the same words, the same results, the same state."""

import inspect
from typing import Any

import pytest

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.testing import Call, ScriptedModel, call, say
from graph_voice_livekit.testing import LiveKitFrontEnd
from tests.core.testing import test_scripted_call as scenarios

pytestmark = pytest.mark.virtual_clock(limit=100_000)

PLAYED = {
    name: played
    for name, played in vars(scenarios).items()
    if name.startswith("test_") and inspect.iscoroutinefunction(played) and not inspect.signature(played).parameters
}


@pytest.mark.parametrize("scenario", PLAYED)
async def test_each_scenario_of_the_core_holds_in_livekit(scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "FRONT_END", "livekit")
    await PLAYED[scenario]()


def test_there_are_scenarios() -> None:
    assert len(PLAYED) > 20


async def test_each_agent_has_a_voice_of_its_own_and_the_session_is_at_hand() -> None:
    graph = create_voice_graph(
        [
            Agent("desk", instructions="D.", handoffs=[Handoff("billing", "To billing.")]),
            Agent("billing", instructions="B."),
        ],
        llm=ScriptedModel({"desk": ["One moment.", call("transfer_to_billing")], "billing": ["Billing."]}),
    )
    async with Call(graph, front_end=LiveKitFrontEnd) as phone:
        await phone.says("Hello.")
        await phone.says("My bill.")
        front_end = phone._front_end
        assert isinstance(front_end, LiveKitFrontEnd)
        assert [(s.voice, s.text) for s in front_end.rig.spoken] == [("desk", "One moment."), ("billing", "Billing.")]
        assert front_end.rig.session.current_agent.id == "billing"


@function_tool
async def count(ctx: RunContext[dict[str, Any]]) -> str:
    """Count."""
    ctx.userdata["count"] = ctx.userdata.get("count", 0) + 1
    return f"{ctx.userdata['count']} times"


async def _long_call(front_end: str) -> Any:
    """A call of everything, on one front end."""
    agents = [
        Agent(
            name,
            instructions=f"You are {name}.",
            tools=[count],
            on_enter="Say who you are." if name == "a" else None,
            handoffs=[
                Handoff(other, history=history.last_turns(2), say="Please hold the line." if name == "a" else None)
            ],
        )
        for name, other in (("a", "b"), ("b", "a"))
    ]
    script = {
        "a": ["This is a.", say("Well.", call("count")), "It is one.", "One two three four five six.", "Yes?",
              call("transfer_to_b"), "A again.", "Ninety."],
        "b": ["This is b.", call("count"), "It is two.", call("transfer_to_a")],
    }  # fmt: skip
    async with Call(create_voice_graph(agents), llm=ScriptedModel(script), front_end=front_end) as phone:
        await phone.says("Count for me.")
        phone.barge_in("Stop.", after_words=4)
        await phone.says("Count to six.")
        await phone.says("To b, please.")
        await phone.silence(5)
        await phone.says("Count again.")
        await phone.program_says("We close soon.")
        await phone.says("Back to a.")
        await phone.speculates("Ninety").then_says("Ninety")
        assert not phone._options["config"]["configurable"]["llm"].errors
        remembered = [(m.type, m.text, [c["name"] for c in getattr(m, "tool_calls", [])]) for m in phone.messages]
        items = [
            tuple(v for k, v in vars(item).items() if k not in ("message_id", "call_id")) for item in phone.result.items
        ]
        return remembered, items, phone.userdata, phone.current_agent, [run.tool for run in phone.effects], phone.heard


async def test_both_front_ends_agree_on_a_long_call() -> None:
    assert await _long_call("livekit") == await _long_call("core")
