"""LiveKit's session around a graph: what a program does from outside, and what LiveKit's own tools see."""

import asyncio
import threading
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
from livekit.agents import AgentSession, llm, metrics, mock_tools
from livekit.agents import function_tool as livekit_tool

from graph_voice import Agent, Handoff, RunContext, StopResponse, create_voice_graph, function_tool, history
from graph_voice.errors import BuildError, UserdataError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS
from graph_voice_livekit.testing.sound import encode, frame_of

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
    answers = [m for m in seen if isinstance(m, metrics.LLMMetrics)]
    assert [(m.prompt_tokens, m.completion_tokens) for m in answers] == [(100, 7)]
    assert answers[0].ttft == pytest.approx(0.5, abs=0.01)
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


# ---- generate_reply, say and interrupt, as LiveKit has them


def helpful(model: ScriptedModel, base: type[LiveKitAgent] | None = None) -> GraphAgent:
    @function_tool
    async def weather() -> str:
        """The weather."""
        return "sunny"

    @function_tool
    async def clock() -> str:
        """The time."""
        return "noon"

    graph = create_voice_graph([Agent("host", instructions="Host.", tools=[weather, clock])], llm=model)
    return GraphAgent(graph, bases={"host": base} if base is not None else None)


@pytest.mark.parametrize(
    ("asked", "tool_choice", "tools"),
    [
        ({}, None, ("weather", "clock")),
        ({"tool_choice": "none"}, "none", ("weather", "clock")),
        ({"tool_choice": "required"}, "any", ("weather", "clock")),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}}, "clock", ("weather", "clock")),
        ({"tools": ["clock"]}, None, ("clock",)),
        ({"tools": []}, None, ()),
    ],
)
async def test_generate_reply_says_which_tools_the_first_reply_may_use(
    asked: dict[str, Any], tool_choice: Any, tools: tuple[str, ...]
) -> None:
    first = "Well." if tool_choice == "none" or not tools else call("clock")
    model = ScriptedModel([first, "It is noon.", "As I said."])
    ga = helpful(model)
    async with a_text_call(ga, model) as session:
        await session.generate_reply(user_input="what time is it", **asked)
        await session.run(user_input="pardon?")
    assert (model.prompts[0].tool_choice, model.prompts[0].tools) == (tool_choice, tools)
    # It holds for this reply only.
    assert (model.prompts[1].tool_choice, model.prompts[1].tools) == (None, ("weather", "clock"))


async def test_generate_reply_with_a_chat_context_shows_the_model_that_and_remembers_the_reply_only() -> None:
    model = ScriptedModel(["Hello.", call("clock"), "It is noon.", "Of course."])
    ga = helpful(model)
    async with a_text_call(ga, model) as session:
        await session.run(user_input="hello")
        context = llm.ChatContext.empty()
        context.add_message(role="user", content="What time is it in the story?")
        await session.generate_reply(chat_ctx=context)
        await session.run(user_input="thank you")
    assert [m.text for m in model.prompts[1].messages] == ["Host.", "What time is it in the story?"]
    assert [m.text for m in model.prompts[2].messages] == ["Host.", "What time is it in the story?", "", "noon"]
    assert [m.text for m in ga.conversation.messages if m.text] == [
        "hello",
        "Hello.",
        "noon",
        "It is noon.",
        "thank you",
        "Of course.",
    ]
    assert "What time is it in the story?" not in [m.text for m in model.prompts[3].messages]


async def test_a_reply_that_may_not_be_interrupted_is_spoken_to_its_end() -> None:
    model = ScriptedModel(["This is said to the very end of it, whatever happens."])
    ga = helpful(model)
    async with a_call(ga, model) as rig:
        await rig.wait_until(0.5)
        rig.session.generate_reply(instructions="Say it.", allow_interruptions=False)
        await rig.until_speaking()
        with pytest.raises(RuntimeError):
            await rig.session.interrupt()
        await rig.until_idle()
        assert spoken(rig) == [("voice", "This is said to the very end of it, whatever happens.")]


async def test_the_program_interrupts_and_the_graph_remembers_what_was_heard() -> None:
    model = ScriptedModel(["One two three four five six seven eight.", "Yes?"])
    ga = helpful(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("count", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 0.9)
        await rig.session.interrupt()
        await rig.user_says("hello")
        await rig.until_idle()
    assert told_by_graph(ga) == [
        ("user", "count"),
        ("assistant", "One two three"),
        ("user", "hello"),
        ("assistant", "Yes?"),
    ]


async def test_what_is_said_beside_the_chat_context_is_not_remembered() -> None:
    model = ScriptedModel(["Fine."])
    ga = helpful(model)
    async with a_call(ga, model) as rig:
        await rig.wait_until(0.5)
        rig.session.say("One moment.", add_to_chat_ctx=False)
        await rig.until_idle()
        await rig.user_says("hello")
        await rig.until_idle()
        assert spoken(rig) == [("voice", "One moment. Fine.")]
    assert told_by_graph(ga) == [("user", "hello"), ("assistant", "Fine.")]


async def test_words_with_audio_of_their_own_are_remembered() -> None:
    async def jingle() -> Any:
        yield frame_of(encode(["Welcome."], 0.5, voice="jingle"))

    ga = helpful(ScriptedModel([]))
    async with a_call(ga) as rig:
        await rig.wait_until(0.5)
        rig.session.say("Welcome.", audio=jingle())
        await rig.until_idle()
    assert told_by_graph(ga) == [("assistant", "Welcome.")]


async def test_without_userdata_the_session_says_so_as_livekit_does() -> None:
    model = ScriptedModel(["Hello."])
    async with a_text_call(helpful(model), model) as session:
        await session.run(user_input="hello")
        with pytest.raises(ValueError, match="userdata is not set"):
            _ = session.userdata


async def test_userdata_that_a_tool_begins_is_the_session_s() -> None:
    @function_tool
    async def note(ctx: RunContext[dict[str, Any]], text: str) -> str:
        """Note something."""
        ctx.userdata["note"] = text
        return "noted"

    model = ScriptedModel([call("note", {"text": "tea"}), "Noted."])
    ga = GraphAgent(create_voice_graph([Agent("host", instructions="Host.", tools=[note])], llm=model))
    async with a_text_call(ga, model) as session:
        await session.run(user_input="tea, please")
        assert session.userdata == {"note": "tea"}


# ---- what LiveKit's own context of an agent holds


async def test_a_new_agent_s_chat_context_holds_what_the_policy_carries_and_its_real_instructions() -> None:
    model = ScriptedModel(
        {"support": ["Hello.", call("transfer_to_billing")], "billing": ["Billing speaking.", "Ten euros."]}
    )
    graph = create_voice_graph(
        [
            Agent("support", instructions="S.", handoffs=[Handoff("billing", history=history.exclude_tool_calls())]),
            Agent("billing", instructions=lambda caller: f"Help {caller.name}."),
        ],
        userdata=Caller,
        llm=model,
    )
    ga = GraphAgent(graph, userdata=Caller("Ann"))
    async with a_text_call(ga, model) as session:
        assert session.current_agent.instructions == "S."
        for text in ("hello", "my bill", "how much"):
            await session.run(user_input=text)
        agent = session.current_agent
        assert agent.instructions == "Help Ann."
        told = [(i.role, i.text_content) for i in agent.chat_ctx.items if i.type == "message"]
    assert told == [
        ("system", "Help Ann."),
        ("user", "hello"),
        ("assistant", "Hello."),
        ("user", "my bill"),
        ("assistant", "Billing speaking."),
        ("user", "how much"),
        ("assistant", "Ten euros."),
    ]


# ---- classes of the user's own behind the agents


async def test_what_on_user_turn_completed_adds_is_shown_for_this_reply_only() -> None:
    class WithKnowledge(LiveKitAgent):
        async def on_user_turn_completed(self, turn_ctx: Any, new_message: Any) -> None:
            turn_ctx.add_message(role="assistant", content=f"Known of this: {new_message.text_content} is tea.")

    # LiveKit drops a preemptive reply when the context is edited, so a list of replies would be used up.
    model = ScriptedModel(lambda messages: "First." if messages[-1].text == "oolong" else "Second.")
    ga = helpful(model, WithKnowledge)
    async with a_call(ga, model) as rig:
        await rig.user_says("oolong", at=0.5)
        await rig.until_idle()
        await rig.user_says("rooibos")
        await rig.until_idle()
    # As in LiveKit, but that the caller's words come last: no model is shown a prompt that ends with its own.
    assert [m.text for m in model.prompts[-1].messages if m.type != "system"][-2:] == [
        "First.\nKnown of this: rooibos is tea.",
        "rooibos",
    ]
    assert [text for _, text in told_by_graph(ga)] == ["oolong", "First.", "rooibos", "Second."]


async def test_a_base_has_its_attributes_and_runs_its_own_on_enter_and_on_exit() -> None:
    class Base(LiveKitAgent):
        log: list[str] = []  # noqa: RUF012

        def __init__(self, greeting: str = "Welcome to the shop.") -> None:
            super().__init__(instructions="of its own", tts=FakeTTS("its own"))
            self.greeting = greeting

        async def on_enter(self) -> None:
            self.log.append(f"{self.id} enters")
            self.session.say(self.greeting)

        async def on_exit(self) -> None:
            self.log.append(f"{self.id} leaves")

    model = ScriptedModel({"support": [call("transfer_to_billing")], "billing": ["Billing speaking."]})
    ga = bank(model, bases={"support": Base, "billing": Base})
    async with a_call(ga, model) as rig:
        await rig.until_idle()
        await rig.user_says("my bill")
        await rig.until_idle()
        assert spoken(rig) == [
            ("support", "Welcome to the shop."),
            ("billing", "Billing speaking. Welcome to the shop."),
        ]
        assert Base.log == ["support enters", "support leaves", "billing enters"]
        assert isinstance(rig.session.current_agent, Base)
        assert rig.session.current_agent.instructions == "You are billing."
    graph = create_voice_graph([Agent("host", instructions="Host.")], llm=model)
    assert isinstance(GraphAgent(graph, bases={"host": Base}).tts, FakeTTS)  # what the graph leaves open is the class's


def test_a_base_that_can_t_be_one_is_refused() -> None:
    class WithTools(LiveKitAgent):
        @livekit_tool
        async def dance(self) -> None:
            """Dance."""

    class Demanding(LiveKitAgent):
        def __init__(self, shop: str) -> None:
            super().__init__(instructions=shop)

    model = ScriptedModel([])
    with pytest.raises(BuildError, match=r'bases=\{"host": WithTools\}: its LiveKit tools \(dance\) are not the graph'):
        helpful(model, WithTools)
    with pytest.raises(BuildError, match="made without arguments, but wants shop"):
        helpful(model, Demanding)
    with pytest.raises(BuildError, match=r"subclass of livekit\.agents\.Agent"):
        helpful(model, str)  # type: ignore[arg-type]


async def test_a_mock_is_given_the_arguments_by_name_or_by_place() -> None:
    model = ScriptedModel({"support": [call("record_name", {"name": "Ann"}), "Fine."] * 2})
    ga = bank(model)
    async with a_text_call(ga, model) as session:
        for mock in (lambda name: f"by name {name}", lambda n: f"by place {n}"):
            with mock_tools(ga.agent_type("support"), {"record_name": mock}):
                await session.run(user_input="I am Ann")
    assert list(outputs_in_graph(ga).values()) == ["by name Ann", "by place Ann"]


# ---- userdata that is alive


async def test_a_live_object_in_the_userdata_is_refused_when_the_agent_is_made() -> None:
    alive: Any = threading.Lock()
    with pytest.raises(UserdataError, match=r"userdata\.name can't hold a lock: .*GraphAgent\(graph, context="):
        bank(ScriptedModel([]), userdata=Caller(alive))


@pytest.mark.parametrize("when", ["the session is made", "the call goes on"])
async def test_a_live_object_that_the_program_puts_into_the_session_is_not_taken(when: str) -> None:
    """LiveKit takes anything; the graph says what is wrong, keeps what it has, and the caller is answered."""
    alive: Any = Caller()
    alive.name = threading.Lock()
    model = ScriptedModel({"support": [call("record_name", {"name": "Bob"}), "Hello Bob."]})
    ga = bank(model)
    told = "userdata.name can't hold a lock"
    async with a_text_call(
        ga, model, accident=told, userdata=alive if when == "the session is made" else None
    ) as session:
        if when == "the call goes on":
            session.userdata = alive
        await session.run(user_input="Hi.")
        assert session.userdata.name == ga.conversation.userdata.name == "Bob"
