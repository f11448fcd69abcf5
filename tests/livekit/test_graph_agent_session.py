"""LiveKit's session around a graph: what a program does from outside, and what LiveKit's own tools see."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from graph_agent_support import (
    a_call,
    a_text_call,
    agrees,
    handoffs_in_livekit,
    outputs_in_graph,
    spoken,
    told_by_graph,
    voice,
)
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import AgentSession, metrics, mock_tools

from graph_voice import Agent, Handoff, RunContext, StopResponse, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


@dataclass
class Caller:
    name: str | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> str:
    """Record the caller's name."""
    ctx.userdata.name = name
    return "recorded"


def bank(model: ScriptedModel, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [
            Agent(
                "support",
                instructions="You are support.",
                tools=[record_name],
                handoffs=[Handoff("billing")],
                voice=voice("support"),
            ),
            Agent("billing", instructions="You are billing.", on_enter="Greet.", voice=voice("billing")),
        ],
        userdata=Caller,
        llm=model,
    )
    return GraphAgent(graph, **options)


async def test_what_the_program_says_is_remembered_as_heard() -> None:
    model = ScriptedModel(["Fine."])
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.wait_until(0.5)
        rig.session.say("This call is recorded.")
        await rig.until_idle()
        await rig.user_says("hello")
        await rig.until_idle()
        assert spoken(rig) == [("support", "This call is recorded. Fine.")]
    assert told_by_graph(ga) == [("assistant", "This call is recorded."), ("user", "hello"), ("assistant", "Fine.")]
    assert "This call is recorded." in [m.text for m in model.prompts[0].messages]


async def test_what_the_program_says_and_the_caller_cuts_off_is_remembered_as_far_as_it_was_heard() -> None:
    model = ScriptedModel(["Fine."])
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.wait_until(0.5)
        rig.session.say("This call is recorded for reasons that are too many to be listed here in full.")
        await rig.user_says("please stop that", at=2.0)
        await rig.until_idle()
    assert told_by_graph(ga)[0][1].startswith("This call is recorded")
    assert not told_by_graph(ga)[0][1].endswith("full.")


@pytest.mark.parametrize("text", [True, False])
async def test_generate_reply_with_instructions_does_not_store_them(text: bool) -> None:
    model = ScriptedModel(["Hello Ann.", "Fine."])
    ga = bank(model)
    if text:
        async with a_text_call(ga, model) as session:
            await session.generate_reply(instructions="Greet Ann.")
            await session.run(user_input="how are you")
    else:
        async with a_call(ga, model) as rig:
            await rig.wait_until(0.5)
            rig.session.generate_reply(instructions="Greet Ann.")
            await rig.until_idle()
            await rig.user_says("how are you")
            await rig.until_idle()
    assert "Greet Ann." in model.prompts[0].messages[-1].text
    assert not [m for m in model.prompts[1].messages if "Greet Ann." in m.text]
    assert told_by_graph(ga) == [("assistant", "Hello Ann."), ("user", "how are you"), ("assistant", "Fine.")]


async def test_generate_reply_with_user_input_is_a_user_turn() -> None:
    model = ScriptedModel(["Hello Ann.", "Fine."])
    ga = bank(model)
    async with a_text_call(ga, model) as session:
        await session.generate_reply(user_input="I am Ann.")
        await session.generate_reply(user_input="Go on.", instructions="Be brief.")
    assert told_by_graph(ga) == [
        ("user", "I am Ann."),
        ("assistant", "Hello Ann."),
        ("user", "Go on."),
        ("assistant", "Fine."),
    ]
    assert model.prompts[1].messages[-2].text == "Go on."
    assert "Be brief." in model.prompts[1].messages[-1].text


@pytest.mark.parametrize("text", [True, False])
async def test_a_reply_asked_for_after_a_user_turn_in_silence_is_no_second_user_turn(text: bool) -> None:
    @function_tool
    async def hush() -> str:
        """Say nothing."""
        raise StopResponse

    model = ScriptedModel([call("hush"), "Are you there?"])
    ga = GraphAgent(create_voice_graph([Agent("host", instructions="Host.", tools=[hush])], llm=model))
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="hush")
            await session.generate_reply(instructions="Ask whether they are there.")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("hush", at=0.5)
            await rig.until_idle()
            rig.session.generate_reply(instructions="Ask whether they are there.")
            await rig.until_idle()
    assert told_by_graph(ga) == [("user", "hush"), ("assistant", "Are you there?")]


async def test_two_replies_asked_for_at_once_come_one_after_the_other() -> None:
    model = ScriptedModel(["First.", "Second."])
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.wait_until(0.5)
        rig.session.generate_reply(instructions="Say the first.")
        rig.session.generate_reply(instructions="Say the second.")
        await rig.until_idle()
        assert spoken(rig) == [("support", "First. Second.")]


async def test_the_program_gives_the_floor_to_another_agent() -> None:
    model = ScriptedModel({"support": ["Hello."], "billing": ["Billing speaking.", "You owe nothing."]})
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        rig.session.update_agent(ga.agent("billing"))
        await rig.until_idle()
        agrees(ga, rig.session)
        await rig.user_says("what do I owe")
        await rig.until_idle()
        assert spoken(rig) == [("support", "Hello."), ("billing", "Billing speaking. You owe nothing.")]
        assert handoffs_in_livekit(rig.session) == ["billing"]
    assert ga.conversation.active_agent == "billing"


async def test_run_expectations_see_calls_outputs_handoffs_and_messages() -> None:
    model = ScriptedModel(
        {
            "support": [call("record_name", {"name": "Ann"}), say("Sure, Ann.", call("transfer_to_billing"))],
            "billing": ["Billing speaking."],
        }
    )
    ga = bank(model)
    async with a_text_call(ga, model) as session:
        result = await session.run(user_input="I am Ann, my bill is wrong")
        result.expect.next_event().is_function_call(name="record_name", arguments={"name": "Ann"})
        result.expect.next_event().is_function_call_output(output="recorded", is_error=False)
        result.expect.next_event().is_message(role="assistant")
        result.expect.next_event().is_function_call(name="transfer_to_billing")
        result.expect.next_event().is_function_call_output(output="Transferring to billing.")
        result.expect.next_event().is_agent_handoff(new_agent_type=ga.agent_type("billing"))
        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()


async def test_mock_tools_replace_a_tool_and_a_transfer() -> None:
    model = ScriptedModel(
        {
            "support": [
                call("record_name", {"name": "Ann"}),
                call("transfer_to_billing"),
                "They are closed, and your name is Bob.",
            ]
        }
    )
    ga = bank(model)
    async with a_text_call(ga, model) as session:
        mocks = {"record_name": lambda: "it is Bob", "transfer_to_billing": lambda: "billing is closed"}
        with mock_tools(ga.agent_type("support"), mocks):
            await session.run(user_input="I am Ann, my bill is wrong")
        assert session.current_agent.id == "support"
    assert outputs_in_graph(ga) == {"call_1": "it is Bob", "call_2": "billing is closed"}
    assert ga.conversation.userdata == Caller(None)
    assert ga.conversation.handoffs == []


async def test_a_mock_that_raises_is_an_error_for_the_model() -> None:
    def broken() -> str:
        raise RuntimeError("no database")

    model = ScriptedModel({"support": [call("record_name", {"name": "Ann"}), "Sorry."]})
    ga = bank(model)
    async with a_text_call(ga, model, accident="no database") as session:
        with mock_tools(ga.agent_type("support"), {"record_name": broken}):
            await session.run(user_input="I am Ann")
    assert outputs_in_graph(ga) == {"call_1": "An internal error occurred"}


def test_agent_type_names_the_agents_it_knows() -> None:
    ga = bank(ScriptedModel([]))
    assert issubclass(ga.agent_type("billing"), LiveKitAgent)
    assert ga.agent_type("billing") is ga.agent_type("billing") is not ga.agent_type("support")
    with pytest.raises(BuildError, match="billing, support"):
        ga.agent_type("nobody")


class Shouting(LiveKitAgent):
    """A user's LiveKit agent with pipeline hooks of its own."""

    heard: list[str]

    async def transcription_node(self, text: Any, model_settings: Any) -> Any:
        async for delta in text:
            yield delta.upper()

    async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
        type(self).heard.append(new_message.text_content)


@pytest.mark.parametrize("name", ["support", "billing"])
async def test_bases_bring_their_pipeline_hooks(name: str) -> None:
    class Base(Shouting):
        heard: list[str] = []  # noqa: RUF012

    model = ScriptedModel({"support": ["Hello."], "billing": ["Hello."]})
    ga = bank(model, bases={name: Base})
    async with a_call(ga, model) as rig:
        if name == "billing":
            rig.session.update_agent(ga.agent("billing"))
            model.script["billing"].append("Fine.")  # the first reply is its greeting
            await rig.until_idle()
        assert isinstance(rig.session.current_agent, Base)
        if name == "support":
            await rig.user_says("hello")
            await rig.until_idle()
            assert Base.heard == ["hello"]
        assert rig.captions.shown[-1].strip() == "HELLO."
        assert spoken(rig)[-1] == (name, "Hello.")


async def test_userdata_is_shared_in_both_directions() -> None:
    theirs = Caller("Ann")
    model = ScriptedModel({"support": [call("record_name", {"name": "Bob"}), "Hello Bob.", "Hello Cid."]})
    ga = bank(model)
    async with a_text_call(ga, model, userdata=theirs) as session:
        assert ga.conversation.userdata.name == "Ann"
        await session.run(user_input="I am Bob")
        assert session.userdata.name == "Bob"
        assert session.userdata == ga.conversation.userdata
        session.userdata = Caller("Cid")
        await session.run(user_input="and now")
        assert ga.conversation.userdata.name == "Cid"


async def test_a_change_of_the_sessions_userdata_in_place_is_seen_by_the_graph() -> None:
    model = ScriptedModel({"support": ["Hello."]})
    ga = bank(model)
    async with a_text_call(ga, model, userdata=Caller("Ann")) as session:
        session.userdata.name = "Dan"
        await session.run(user_input="hello")
        assert ga.conversation.userdata.name == "Dan"
        assert session.userdata.name == "Dan"


async def test_without_userdata_of_its_own_the_session_has_the_graphs() -> None:
    model = ScriptedModel({"support": ["Hello."]})
    ga = bank(model)
    async with a_text_call(ga, model) as session:
        assert session.userdata == Caller()


async def test_metrics_and_usage_are_the_models() -> None:
    model = ScriptedModel([say("Hello there.", first_token=0.5, usage=(100, 7))], name="gpt-test")
    ga = bank(model)
    seen: list[Any] = []
    async with a_call(ga, model) as rig:
        rig.session.on("metrics_collected", lambda event: seen.append(event.metrics))
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        usage = rig.session.usage
    llm = [m for m in seen if isinstance(m, metrics.LLMMetrics)]
    assert [(m.prompt_tokens, m.completion_tokens) for m in llm] == [(100, 7)]
    assert llm[0].ttft == pytest.approx(0.5, abs=0.01)
    models = [u for u in usage.model_usage if u.type == "llm_usage"]
    assert [(u.input_tokens, u.output_tokens) for u in models] == [(100, 7)]


async def test_the_reply_is_spoken_while_the_model_still_streams() -> None:
    slow = "First sentence is here and it is long enough. " + "Then more words come one by one. " * 3
    model = ScriptedModel([say(slow, per_token=0.3)])
    ga = bank(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_speaking()
        assert model.prompts[0].outcome == "running"
        await rig.until_idle()


async def test_the_same_graph_serves_two_sessions() -> None:
    model = ScriptedModel(lambda messages: f"You said {messages[-1].text}.")
    graph = create_voice_graph([Agent("host", instructions="Host.")], llm=model).compile()
    one, two = GraphAgent(graph), GraphAgent(graph)
    async with a_text_call(one, model) as first, a_text_call(two, model) as second:
        await asyncio.gather(first.run(user_input="one"), second.run(user_input="two"))
    assert told_by_graph(one) == [("user", "one"), ("assistant", "You said one.")]
    assert told_by_graph(two) == [("user", "two"), ("assistant", "You said two.")]


async def test_a_call_that_is_resumed_is_not_greeted_again() -> None:
    model = ScriptedModel(["Yes, 40 euros."])
    graph = create_voice_graph([Agent("host", instructions="Host.", on_enter="Greet.")], llm=model)
    ga = GraphAgent(graph, messages=[("user", "what is my balance"), ("assistant", "40 euros.")])
    async with AgentSession[Any](vad=None) as session:
        await session.start(ga)
        assert model.prompts == []
        await session.run(user_input="really")
    assert [m.text for m in model.prompts[0].messages[1:]] == ["what is my balance", "40 euros.", "really"]
