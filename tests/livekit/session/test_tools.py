"""Tools of a graph in a LiveKit call: what they may say and do, and what becomes of calls that go wrong."""

import asyncio
from typing import Any

import pytest
from graph_agent_support import a_call, a_text_call, outputs_in_graph, spoken, told_by_graph, voice
from langgraph.types import interrupt
from livekit.agents import ToolError as LiveKitToolError
from livekit.agents import mock_tools
from livekit.agents.voice.events import CloseEvent

from graph_voice import Agent, Handoff, RunContext, StopResponse, ToolError, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock


def host(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [Agent("host", instructions="You are the host.", tools=tools, voice=voice("host"))], llm=model
    )
    return GraphAgent(graph, **options)


@function_tool
async def add(a: int, b: int) -> str:
    """Add two numbers."""
    return str(a + b)


@function_tool
async def out_of_paper() -> str:
    """Print."""
    raise ToolError("there is no paper")


@function_tool
async def buggy() -> str:
    """Break."""
    raise KeyError("secret")


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (
            call("frobnicate", unknown=True),
            "Unknown function: frobnicate - available tools: add, out_of_paper, buggy",  # LiveKit's words
        ),
        (call("add", '{"a": 1, "b":'), None),
        (call("out_of_paper"), "there is no paper"),
        (call("buggy"), "An internal error occurred."),
    ],
    ids=["unknown", "no json", "tool error", "exception"],
)
async def test_a_call_that_goes_wrong_is_answered_and_the_model_goes_on(
    asked: Any, answer: str | None, text: bool
) -> None:
    model = ScriptedModel([asked, "Never mind."])
    ga = host(model, add, out_of_paper, buggy)
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="go")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("go", at=0.5)
            await rig.until_idle()
            assert spoken(rig) == [("host", "Never mind.")]
    assert told_by_graph(ga)[-1] == ("assistant", "Never mind.")
    (output,) = outputs_in_graph(ga).values()
    assert answer is None or output == answer


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("beside", ["before", "behind"])
async def test_an_unknown_tool_in_a_batch_does_not_keep_the_others_waiting(beside: str, text: bool) -> None:
    calls = [call("frobnicate", unknown=True), call("add", {"a": 1, "b": 2})]
    model = ScriptedModel([say(*(calls if beside == "before" else calls[::-1])), "It is three."])
    ga = host(model, add)
    async with asyncio.timeout(60):
        if text:
            async with a_text_call(ga, model) as session:
                await session.run(user_input="go")
        else:
            async with a_call(ga, model) as rig:
                await rig.user_says("go", at=0.5)
                await rig.until_idle()
    assert told_by_graph(ga)[-1] == ("assistant", "It is three.")
    unknown, added = outputs_in_graph(ga).values() if beside == "before" else [*outputs_in_graph(ga).values()][::-1]
    assert added == "3"
    assert "frobnicate" in unknown


@function_tool
async def look_around(ctx: RunContext[Any]) -> str:
    """Look around."""
    await asyncio.sleep(2)
    return "nothing there"


def mocked(a: int, b: int) -> str:
    return f"mocked {a} {b}"


async def slowly_mocked(a: int, b: int) -> str:
    await asyncio.sleep(4)
    return f"mocked {a} {b}"


def refuses(a: int, b: int) -> str:
    raise LiveKitToolError("no numbers today")


def breaks(a: int, b: int) -> str:
    raise RuntimeError("the password is 1234")


@pytest.mark.parametrize("beside", ["before", "behind"])
@pytest.mark.parametrize(
    ("mock", "answer"),
    [
        (mocked, "mocked 1 2"),
        (slowly_mocked, "mocked 1 2"),
        (refuses, "no numbers today"),
        (breaks, "An internal error occurred"),
    ],
)
async def test_a_mocked_tool_in_a_batch_does_not_keep_the_others_waiting(mock: Any, answer: str, beside: str) -> None:
    calls = [call("add", {"a": 1, "b": 2}), call("look_around")]
    model = ScriptedModel([say(*(calls if beside == "before" else calls[::-1])), "Done."])
    ga = host(model, add, look_around)
    async with asyncio.timeout(60), a_text_call(ga, model, accident="password") as session:
        with mock_tools(ga.agent_type("host"), {"add": mock}):
            await session.run(user_input="go")
    assert told_by_graph(ga)[-1] == ("assistant", "Done.")
    assert set(outputs_in_graph(ga).values()) == {answer, "nothing there"}


async def test_a_mocked_tool_beside_a_transfer_does_not_keep_the_caller_from_the_next_agent() -> None:
    model = ScriptedModel(
        {"desk": [say(call("add", {"a": 1, "b": 2}), call("transfer_to_billing"))], "billing": ["Billing here."]}
    )
    desk = Agent("desk", instructions="D.", tools=[add], handoffs=[Handoff("billing")], voice=voice("desk"))
    billing = Agent("billing", instructions="B.", on_enter="Greet.", voice=voice("billing"))
    ga = GraphAgent(create_voice_graph([desk, billing], llm=model))
    async with asyncio.timeout(60), a_text_call(ga, model) as session:
        with mock_tools(ga.agent_type("desk"), {"add": slowly_mocked}):
            await session.run(user_input="My bill")
        assert session.current_agent.id == "billing"
    assert outputs_in_graph(ga)["call_1"] == "mocked 1 2"
    assert told_by_graph(ga)[-1] == ("assistant", "Billing here.")


async def test_two_calls_of_one_batch_run_at_the_same_time_and_keep_their_order() -> None:
    @function_tool
    async def wait_for(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return f"waited {seconds}"

    model = ScriptedModel([say(call("wait_for", {"seconds": 2}), call("wait_for", {"seconds": 1})), "Both done."])
    ga = host(model, wait_for)
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Both done.")]
        assert rig.spoken[0].started < 4.5
    assert list(outputs_in_graph(ga).values()) == ["waited 2.0", "waited 1.0"]


@pytest.mark.parametrize("generated", [False, True])
async def test_what_a_tool_says_is_spoken_before_the_tool_goes_on(generated: bool) -> None:
    went_on: list[float] = []

    @function_tool
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look up."""
        if generated:
            assert await ctx.generate_reply("Ask for patience.") == "Bear with me for a moment."
        else:
            await ctx.say("Bear with me for a moment.")
        went_on.append(asyncio.get_running_loop().time())
        return "found"

    lines = ["Bear with me for a moment."] if generated else []
    model = ScriptedModel([say("Sure.", call("look_up")), *lines, "Found it."])
    ga = host(model, look_up)
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "Sure. Bear with me for a moment. Found it.")]
        line = next(s for s in rig.spoken if s.text.startswith("Bear"))
        assert went_on[0] - rig.loudspeaker.origin >= line.ended - 1e-6
    assert told_by_graph(ga)[-1] == ("assistant", "Sure. Bear with me for a moment. Found it.")


async def test_the_line_of_a_tool_that_hands_off_is_in_the_old_agents_voice() -> None:
    @function_tool(handoffs=["billing"])
    async def send_on(ctx: RunContext[Any]) -> Any:
        """Send the caller on."""
        await ctx.say("I send you on.")
        return ctx.handoff("billing", say="Here they come.")

    model = ScriptedModel({"host": [call("send_on")], "billing": ["Billing."]})
    graph = create_voice_graph(
        [
            Agent(
                "host",
                instructions="Host.",
                tools=[send_on],
                handoffs=[Handoff("billing", tool=False)],
                voice=voice("host"),
            ),
            Agent("billing", instructions="Billing.", voice=voice("billing")),
        ],
        llm=model,
    )
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", "I send you on. Here they come."), ("billing", "Billing.")]


async def test_a_barge_in_on_what_a_tool_says_lets_the_tool_finish_and_nobody_goes_on_talking() -> None:
    done: list[bool] = []

    @function_tool
    async def look_up(ctx: RunContext[Any]) -> str:
        """Look up."""
        await ctx.say("Bear with me for a moment, this is going to take quite a while, I am afraid, so please wait.")
        done.append(True)
        return "found"

    model = ScriptedModel([("go", [call("look_up"), "Found it."]), ("", "Fine.")])
    ga = host(model, look_up)
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.user_says("never mind thank you", at=3.5)
        await rig.until_idle()
        assert rig.spoken[0].interrupted
        assert rig.spoken[-1].text.strip() == "Fine."
    assert done == [True]
    assert outputs_in_graph(ga) == {"call_1": "found"}


async def test_disallow_interruptions_lets_a_protected_line_be_heard_to_its_end() -> None:
    line = "Your card is being charged now, please do not hang up while this is going on."

    @function_tool
    async def charge(ctx: RunContext[Any]) -> str:
        """Charge."""
        ctx.disallow_interruptions()
        await ctx.say(line)
        return "charged"

    model = ScriptedModel([("charge", [call("charge"), "Charged."]), ("", "Fine.")])
    ga = host(model, charge)
    async with a_call(ga, model) as rig:
        await rig.user_says("charge it", at=0.5)
        await rig.user_says("no wait stop it", at=3.5)
        await rig.until_idle()
        assert spoken(rig)[0][1].startswith(f"{line} Charged.")
        assert not rig.spoken[0].interrupted


@pytest.mark.parametrize("text", [True, False])
async def test_stop_response_ends_the_turn_in_silence(text: bool) -> None:
    @function_tool
    async def hush() -> str:
        """Say nothing."""
        raise StopResponse

    model = ScriptedModel([call("hush"), "Here I am again."])
    ga = host(model, hush)
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="hush")
            assert len(model.prompts) == 1
            await session.run(user_input="hello")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("hush", at=0.5)
            await rig.until_idle()
            assert spoken(rig) == []
            assert len(model.prompts) == 1
            await rig.user_says("hello")
            await rig.until_idle()
            assert spoken(rig) == [("host", "Here I am again.")]


async def test_end_call_hangs_up_after_the_goodbye() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[Any]) -> str:
        """Hang up."""
        ctx.end_call()
        return "say goodbye"

    model = ScriptedModel([call("hang_up"), "Goodbye, it was a pleasure."])
    ga = host(model, hang_up)
    closed: list[CloseEvent] = []
    ended = asyncio.Event()
    async with a_call(ga, model) as rig:
        rig.session.on("close", lambda event: (closed.append(event), ended.set()))
        await rig.user_says("that is all", at=0.5)
        async with asyncio.timeout(30):
            await ended.wait()
        assert spoken(rig) == [("host", "Goodbye, it was a pleasure.")]
        assert told_by_graph(ga)[-1] == ("assistant", "Goodbye, it was a pleasure.")
    assert closed[0].error is None


@pytest.mark.parametrize("text", [True, False])
async def test_beyond_livekits_limit_of_tool_rounds_the_model_is_told_and_answers(text: bool) -> None:
    model = ScriptedModel([*[call("add", {"a": n, "b": 1}) for n in range(4)], "Four sums."])
    ga = host(model, add)
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="go")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("go", at=0.5)
            await rig.until_idle()
            assert spoken(rig) == [("host", "Four sums.")]
    assert list(outputs_in_graph(ga).values()) == ["1", "2", "3", "4"]
    assert [prompt.tool_choice for prompt in model.prompts] == [None] * 4 + ["none"]


async def test_a_model_that_ran_ahead_of_livekits_limit_is_refused_and_asked_once_more() -> None:
    @function_tool(filler="I am adding that up for you, one moment please.", filler_after=0.1)
    async def add_slowly(a: int, b: int) -> int:
        """Add."""
        await asyncio.sleep(0.3)
        return a + b

    model = ScriptedModel([*[call("add_slowly", {"a": n, "b": 1}) for n in range(5)], "Four sums."])
    ga = host(model, add_slowly)
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("please. Four sums.")
    refused = "not done: tools can't be used now."
    assert list(outputs_in_graph(ga).values()) == ["1", "2", "3", "4", refused]
    assert [prompt.tool_choice for prompt in model.prompts] == [None] * 5 + ["none"]


async def test_the_same_tool_twice_in_one_batch_runs_twice() -> None:
    model = ScriptedModel([say(call("add", {"a": 1, "b": 1}), call("add", {"a": 1, "b": 1})), "Done."])
    ga = host(model, add)
    async with a_call(ga, model) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle()
    assert list(outputs_in_graph(ga).values()) == ["2", "2"]


@pytest.mark.parametrize("guess", [None, "yes do", "no do not"])
@pytest.mark.parametrize("text", [True, False])
async def test_the_question_of_an_interrupt_is_spoken_and_the_next_words_answer_it(
    text: bool, guess: str | None
) -> None:
    booked: list[str] = []

    @function_tool
    async def book() -> str:
        """Book a flight."""
        reply = interrupt("Shall I really book it?")
        booked.append(reply)
        return f"booked: {reply}"

    model = ScriptedModel([call("book"), "It is booked."])
    ga = host(model, book)
    if text:
        async with a_text_call(ga, model) as session:
            await session.run(user_input="book it")
            assert told_by_graph(ga)[-1] == ("assistant", "Shall I really book it?")
            await session.run(user_input="yes do")
    else:
        async with a_call(ga, model) as rig:
            await rig.user_says("book it", at=0.5)
            await rig.until_idle()
            assert spoken(rig) == [("host", "Shall I really book it?")]
            await rig.user_says("yes do", preflight=guess)  # a guess that is dropped answers nothing
            await rig.until_idle()
            assert spoken(rig) == [("host", "Shall I really book it? It is booked.")]
    assert booked == ["yes do"]
    assert outputs_in_graph(ga) == {"call_1": "booked: yes do"}


async def test_a_tool_sees_livekits_own_context() -> None:
    seen: list[str] = []

    @function_tool
    async def peek(ctx: RunContext[Any]) -> str:
        """Peek."""
        seen.append(ctx.host.session.current_agent.id)
        return "ok"

    model = ScriptedModel([call("peek"), "Done."])
    ga = host(model, peek)
    async with a_text_call(ga, model) as session:
        await session.run(user_input="go")
    assert seen == ["host"]


async def test_the_transfer_tool_with_a_handoff_result() -> None:
    model = ScriptedModel({"host": [call("transfer_to_billing")], "billing": ["Billing."]})
    graph = create_voice_graph(
        [
            Agent("host", instructions="Host.", handoffs=[Handoff("billing", result="On the way.")]),
            Agent("billing", instructions="Billing."),
        ],
        llm=model,
    )
    ga = GraphAgent(graph)
    async with a_text_call(ga, model) as session:
        await session.run(user_input="go")
    assert outputs_in_graph(ga) == {"call_1": "On the way."}


async def test_after_livekits_step_limit_the_model_is_asked_once_more_without_tools() -> None:
    ran: list[str] = []

    @function_tool
    async def look() -> str:
        """Look."""
        ran.append("look")
        return "nothing yet"

    model = ScriptedModel([*[say("Looking.", call("look"))] * 4, "There is nothing."])
    ga = GraphAgent(create_voice_graph([Agent("main", instructions="x", tools=[look])], llm=model))
    async with voice_rig(ga, max_tool_steps=2) as rig:
        await rig.user_says("go", at=0.5)
        await rig.until_idle(timeout=60)
        assert [p.tool_choice for p in model.prompts] == [None, None, None, None, "none"]
        assert (len(ran), rig.messages[-1][1]) == (3, "Looking. There is nothing.")
        check_invariants(ga.conversation)


@pytest.mark.parametrize(
    ("words", "tools", "replies"),
    [
        ("Noted.", ["note"], False),
        ("", ["note"], True),
        ("Stopped.", ["stop"], False),
        ("", ["stop"], False),
        ("Both.", ["note", "add"], True),
        ("Both.", ["note", "stop"], False),
    ],
)
async def test_livekit_is_told_of_a_reply_only_when_one_follows(words: str, tools: list[str], replies: bool) -> None:
    @function_tool
    async def note() -> None:
        """Note."""

    @function_tool
    async def stop() -> str:
        """Stop."""
        raise StopResponse()

    told = []
    calls = [call(name, {"a": 1, "b": 2} if name == "add" else None) for name in tools]
    model = ScriptedModel([say(words, *calls), "And now?"])
    ga = host(model, note, stop, add)
    async with a_text_call(ga, model) as session:
        session.on("function_tools_executed", lambda event: told.append(event))
        result = await session.run(user_input="go")
    (event,) = told
    assert event.has_tool_reply is replies
    assert [output.reply_required for output in event.function_call_outputs] == [replies] * len(tools)
    said = [e.item.text_content for e in result.events if e.type == "message"]
    assert said == [*([words] if words else []), *(["And now?"] if replies else [])]
