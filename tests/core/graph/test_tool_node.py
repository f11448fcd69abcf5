"""A batch of calls: in parallel, one winning handoff, every call answered, in the calls' order."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.errors import GraphDrained
from langgraph.types import Command
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, Turn, create_voice_graph, events, function_tool
from graph_voice.call.conversation import hear
from graph_voice.errors import TurnError
from graph_voice.testing import ScriptedModel, call, check_prompt, say
from graph_voice.turn.event_stream import TurnListener


class Caller(BaseModel):
    name: str | None = None
    age: int | None = None
    added: dict[str, int] = {}


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> Any:
    """Record the name."""
    await asyncio.sleep(1)
    ctx.userdata.name = name
    return ctx.handoff("billing") if ctx.userdata.age else "Noted."


@function_tool
async def record_age(ctx: RunContext[Caller], age: int) -> Any:
    """Record the age."""
    await asyncio.sleep(1)
    ctx.userdata.age = age
    return ctx.handoff("billing") if ctx.userdata.name else "Noted."


@function_tool
async def add(ctx: RunContext[Caller], key: str) -> str:
    """Add."""
    await asyncio.sleep(1)
    ctx.userdata.added[key] = 1
    await asyncio.sleep(1)
    return key


@function_tool
async def wait(ctx: RunContext[Caller], seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return f"{seconds}"


@function_tool
async def move(ctx: RunContext[Caller], to: str) -> Handoff:
    """Move."""
    return ctx.handoff(to)


TOOLS = [record_name, record_age, add, wait, move]


def build(
    replies: Any, tools: Any = None, *, handoffs: Any = ("billing", "support"), userdata: Any = Caller, **options: Any
) -> tuple[Any, ScriptedModel]:
    model = replies if isinstance(replies, ScriptedModel) else ScriptedModel(replies)
    ways = [Handoff(to, tool=False) if isinstance(to, str) else to for to in handoffs]
    intake = Agent("intake", instructions="Intake.", tools=TOOLS if tools is None else tools, handoffs=ways)
    billing = Agent("billing", instructions="Billing.", tools=[move], handoffs=[Handoff("intake", tool=False)])
    support = Agent("support", instructions="Support.")
    return create_voice_graph([intake, billing, support], userdata=userdata, llm=model, **options), model


async def invoke(graph: Any, **config: Any) -> dict[str, Any]:
    result: dict[str, Any] = await graph.compile().ainvoke({"messages": [HumanMessage("Hi", id="u")]}, config)
    return result


def answers(messages: list[AnyMessage]) -> list[str]:
    return [m.text for m in messages if isinstance(m, ToolMessage)]


async def gated(graph: Any, text: str = "Hi") -> tuple[Conversation[Any], list[events.Event]]:
    conversation: Conversation[Any] = Conversation(graph)
    return conversation, await conversation.run(text)


# ---- userdata of a batch


@pytest.mark.virtual_clock
@pytest.mark.parametrize("order", [("record_name", "record_age"), ("record_age", "record_name")])
async def test_two_calls_of_one_batch_see_what_the_other_wrote_and_hand_off(order: tuple[str, str]) -> None:
    calls = {"record_name": call("record_name", {"name": "Ann"}), "record_age": call("record_age", {"age": 3})}
    graph, _model = build({"intake": [say(*(calls[o] for o in order))], "billing": ["Hello Ann."]})
    conversation, _ = await gated(graph)
    assert conversation.active_agent == "billing"
    assert conversation.userdata == Caller(name="Ann", age=3)
    assert answers(conversation.messages) == ["Noted.", "Transferring to billing."]


@pytest.mark.virtual_clock
async def test_parallel_additions_to_one_dict_all_survive() -> None:
    graph, _ = build([say(*(call("add", {"key": k}) for k in "abc")), "Done."])
    result = await invoke(graph)
    assert result["userdata"].added == {"a": 1, "b": 1, "c": 1}


@pytest.mark.virtual_clock
async def test_a_dict_without_a_class_is_shared_too() -> None:
    @function_tool
    async def put(ctx: RunContext[dict[str, Any]], key: str) -> str:
        """Put."""
        seen = len(ctx.userdata)
        await asyncio.sleep(1)
        ctx.userdata[key] = seen
        return key

    graph, _ = build([say(call("put", {"key": "a"}), call("put", {"key": "b"})), "Done."], [put], userdata=None)
    assert (await invoke(graph))["userdata"] == {"a": 0, "b": 0}


# ---- the batch


@pytest.mark.virtual_clock
async def test_plain_calls_run_in_parallel_and_are_answered_in_order() -> None:
    graph, _ = build([say(call("wait", {"seconds": 3}), call("wait", {"seconds": 1})), "Done."])
    began = asyncio.get_running_loop().time()
    result = await invoke(graph)
    assert asyncio.get_running_loop().time() - began == 3
    assert answers(result["messages"]) == ["3.0", "1.0"]


@pytest.mark.virtual_clock
async def test_the_first_handoff_in_the_calls_order_wins_though_another_is_faster() -> None:
    @function_tool
    async def slow_move(ctx: RunContext[Caller]) -> Handoff:
        """Move slowly."""
        await asyncio.sleep(5)
        return ctx.handoff("support")

    calls = [call("slow_move"), call("move", {"to": "billing"}), call("wait", {"seconds": 1})]
    graph, model = build({"intake": [say(*calls)], "support": ["Support here."]}, [*TOOLS, slow_move])
    for conversation, _ in [await gated(graph)]:
        assert conversation.active_agent == "support"
        assert answers(conversation.messages) == [
            "Transferring to support.",
            "The transfer did not take place: the caller is being transferred to support.",
            "1.0",
        ]
    assert not model.errors


async def test_a_command_with_a_declared_goto_is_a_handoff() -> None:
    @tool
    def go() -> Command[Any]:
        """Go."""
        return Command(goto="support")

    graph, _ = build({"intake": [call("go")], "support": ["Support here."]}, [go])
    result = await invoke(graph)
    assert result["active_agent"] == "support"
    assert [h["new_agent_id"] for h in result["handoffs"]] == ["support"]
    assert result["messages"][-1].text == "Support here."


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (Command(goto="nowhere"), 'handoffs=[Handoff("nowhere", tool=False)]'),
        (Command(goto="support", graph=Command.PARENT), 'Return ctx.handoff("<agent>") or Command(goto="<agent>")'),
        (Command(goto=["support", "billing"]), "names one target"),
    ],
)
async def test_a_command_that_leads_nowhere_is_told_to_the_model(command: Command[Any], what: str) -> None:
    @tool
    def go() -> Command[Any]:
        """Go."""
        return command

    graph, _model = build([call("go"), "Sorry."], [go])
    result = await invoke(graph)
    assert what in answers(result["messages"])[0]
    assert result["messages"][-1].text == "Sorry."
    assert result["active_agent"] == "intake"


async def test_an_undeclared_target_of_a_handoff_names_the_missing_declaration() -> None:
    graph, _ = build([call("move", {"to": "nowhere"}), "Sorry."])
    assert (
        'declare it, Agent("intake", ..., handoffs=[Handoff("nowhere", tool=False)])'
        in answers((await invoke(graph))["messages"])[0]
    )


async def test_any_node_may_be_the_target() -> None:
    graph, _ = build([call("move", {"to": "desk"})], handoffs=["billing", "support", "desk"])
    graph.add_node("desk", lambda state: {"messages": [AIMessage("The desk.")]})
    result = await invoke(graph)
    assert result["messages"][-1].text == "The desk."
    assert result["active_agent"] == "intake"
    assert not result.get("handoffs")


@pytest.mark.parametrize("budget", [0, 1, 3])
async def test_a_hop_budget_ends_a_ping_pong_with_a_spoken_reply(budget: int) -> None:
    def reply(messages: list[Any]) -> Any:
        if model.prompts[-1].tool_choice == "none":
            return "I stay."
        return call("move", {"to": "billing" if messages[0].text == "Intake." else "intake"})

    model = ScriptedModel(reply)
    graph, _ = build(model, max_hops=budget)
    result = await invoke(graph)
    assert len(result.get("handoffs", [])) == budget
    assert result["messages"][-1].text == "I stay."


async def test_handoffs_to_nodes_that_are_no_agents_count_for_the_budget_too() -> None:
    model = ScriptedModel(
        lambda _: "I stay." if model.prompts[-1].tool_choice == "none" else call("move", {"to": "desk"})
    )
    graph, _ = build(model, handoffs=["billing", "support", "desk"], max_hops=2)
    graph.add_node("desk", lambda state: {"messages": [AIMessage("The desk.")]})
    graph.add_edge("desk", "intake")
    messages = (await invoke(graph, recursion_limit=40))["messages"]
    assert [m.text for m in messages].count("The desk.") == 2


async def test_unknown_tools_and_broken_arguments_are_answered() -> None:
    calls = [call("nothing", unknown=True), call("wait", "seconds=3"), call("wait", {"seconds": "long"})]
    graph, _ = build([say(*calls), "Sorry."])
    told = answers((await invoke(graph))["messages"])
    assert any("Unknown tool nothing. Available tools: record_name" in t for t in told)
    assert any("not valid JSON: seconds=3" in t for t in told)
    assert any("seconds: Input should be a valid number" in t for t in told)


async def test_a_call_id_that_comes_twice_is_two_calls() -> None:
    graph, _ = build([say(call("wait", {"seconds": 0}, id="c"), call("wait", {"seconds": 0}, id="c")), "Done."])
    messages = (await invoke(graph))["messages"]
    check_prompt(messages, allow={"opens_with_assistant", "ends_with_assistant"})
    assert len(answers(messages)) == 2


@pytest.mark.virtual_clock
async def test_a_tool_that_takes_too_long_is_cut_off_and_the_model_told() -> None:
    @function_tool(timeout=2)
    async def slow(ctx: RunContext[Caller]) -> str:
        """Slow."""
        ctx.userdata.name = "before"
        await asyncio.sleep(5)
        ctx.userdata.name = "after"
        return "Done."

    @function_tool(timeout=2)
    async def own(ctx: RunContext[Caller]) -> str:
        """Raise a timeout of its own."""
        raise TimeoutError("secret")

    graph, _ = build([say(call("slow"), call("own"), call("wait", {"seconds": 9})), "Sorry."], [slow, own, wait])
    result = await invoke(graph)
    told = ["The tool did not answer within 2 seconds.", "An internal error occurred.", "9.0"]
    assert answers(result["messages"]) == told
    assert result["userdata"].name == "before"


async def test_a_thread_that_outlives_its_call_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    late, tried = threading.Event(), threading.Event()
    failures: list[Exception] = []

    @function_tool(timeout=0.01)
    def slow(ctx: RunContext[Caller]) -> str:
        """Slow."""
        late.wait(300)
        try:
            ctx.userdata.name = "late"
        except Exception as error:
            failures.append(error)
        tried.set()
        return "Done."

    @function_tool
    def after(ctx: RunContext[Caller]) -> str:
        """Wait for the late one, in the same batch."""
        assert tried.wait(300)
        return "ok"

    @function_tool
    async def release(ctx: RunContext[Caller]) -> str:
        """Let the late one go on, once its call is answered."""
        while "slow did not answer" not in caplog.text:  # noqa: ASYNC110 - in real time, as the thread is
            await asyncio.sleep(0.01)
        late.set()
        return "ok"

    graph, _ = build([say(call("slow"), call("after"), call("release")), "Sorry."], [slow, after, release])
    result = await invoke(graph)
    assert result["userdata"].name is None
    assert "after the tool call had been answered" in str(failures[0])


@pytest.mark.virtual_clock
async def test_a_cancelled_run_cancels_its_tools() -> None:
    ended: list[str] = []

    @function_tool
    async def slow() -> str:
        """Slow."""
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            ended.append("cleaned up")
            raise
        return "Done."

    graph, _ = build([say(call("slow"), call("slow"))], [slow])
    run = asyncio.create_task(invoke(graph))
    await asyncio.sleep(1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended == ["cleaned up", "cleaned up"]


@pytest.mark.virtual_clock
async def test_langgraphs_control_exceptions_pass_through_when_the_other_calls_are_done() -> None:
    ended: list[str] = []

    @function_tool
    async def drain() -> str:
        """Drain."""
        raise GraphDrained("stop")

    @function_tool
    async def slow() -> str:
        """Slow."""
        await asyncio.sleep(1)
        ended.append("slow")
        return "Done."

    graph, _ = build([say(call("drain"), call("slow"))], [drain, slow])
    with pytest.raises(GraphDrained):
        await invoke(graph)
    assert ended == ["slow"]


async def test_a_sync_run_says_that_voice_graphs_are_async() -> None:
    graph, _ = build(["Hi."])
    with pytest.raises(TurnError, match=r"nodes are async.*await graph\.ainvoke"):
        graph.compile().invoke({"messages": [HumanMessage("Hi")]})


async def test_a_stream_of_updates_shows_one_update_of_the_userdata() -> None:
    graph, _ = build([say(call("move", {"to": "support"}), call("add", {"key": "a"})), "Support here."])
    seen = []
    async for update in graph.compile().astream({"messages": [HumanMessage("Hi")]}, stream_mode="updates"):
        parts = update.get("intake_tools") or []
        seen += [p["userdata"] for p in (parts if isinstance(parts, list) else [parts]) if "userdata" in p]
    assert seen == [{"added": {"a": 1}}]


# ---- lines and hooks


async def test_a_line_that_fails_does_not_cost_the_handoff(caplog: pytest.LogCaptureFixture) -> None:
    def broken(userdata: Any) -> str:
        raise KeyError("secret")

    graph, _ = build(
        {"intake": [call("transfer_to_support")], "support": ["Support here."]},
        handoffs=[Handoff("support", say=broken), Handoff("billing", tool=False)],
    )
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        result = await invoke(graph)
    assert result["active_agent"] == "support"
    assert "the line of the handoff to support failed" in caplog.text


@pytest.mark.parametrize("fails", [True, False])
async def test_on_exit_may_change_the_userdata_and_its_failure_undoes_nothing(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(ctx: RunContext[Caller]) -> None:
        ctx.userdata.name = "left"
        if fails:
            raise KeyError("secret")

    model = ScriptedModel({"intake": [call("transfer_to_support")], "support": ["Support here."]})
    intake = Agent("intake", instructions="I.", handoffs=[Handoff("support")], on_exit=leave)
    graph = create_voice_graph([intake, Agent("support", instructions="S.")], userdata=Caller, llm=model)
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        result = await invoke(graph)
    assert (result["active_agent"], result["userdata"].name) == ("support", "left")
    assert ("on_exit failed" in caplog.text) is fails


async def test_what_tools_say_becomes_part_of_the_message_that_called_them() -> None:
    @function_tool
    async def greet(ctx: RunContext[Caller]) -> str:
        """Greet."""
        await ctx.say("One moment.")
        return "ok"

    graph, _ = build([say("Let me see.", call("greet")), "Done."], [greet])
    for messages in ((await invoke(graph))["messages"],):
        assert [m.text for m in messages] == ["Hi", "Let me see. One moment.", "ok", "Done."]


# ---- gated


async def until_calls(turn: Turn) -> events.ToolCalls:
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            return event
    raise AssertionError("no calls")


@pytest.mark.virtual_clock
async def test_no_call_runs_before_it_is_allowed_and_each_for_itself() -> None:
    graph, _ = build([say(call("add", {"key": "a"}), call("add", {"key": "b"}), call("add", {"key": "c"})), "Done."])
    conversation: Conversation[Caller] = Conversation(graph)
    turn = conversation.turn("Hi")
    calls = (await until_calls(turn)).calls
    turn.commit()
    await asyncio.sleep(10)
    assert conversation.userdata.added == {}
    turn.allow(calls[1].id)
    turn.resolve(calls[0].id, "mocked")
    turn.deny(calls[2].id, "not today")
    async for event in turn:
        hear(turn, event)
    turn.close()
    assert conversation.userdata.added == {"b": 1}
    assert answers(conversation.messages) == ["mocked", "b", "not done: not today"]


@pytest.mark.virtual_clock
async def test_after_a_barge_in_running_tools_finish_and_no_handoff_happens() -> None:
    @function_tool
    async def slow_move(ctx: RunContext[Caller]) -> Handoff:
        """Move slowly."""
        await asyncio.sleep(5)
        ctx.userdata.name = "moved"
        return ctx.handoff("support")

    calls = [call("slow_move"), call("add", {"key": "a"}), call("add", {"key": "b"})]
    graph, model = build([say(*calls)], [*TOOLS, slow_move])
    conversation: Conversation[Caller] = Conversation(graph)
    turn = conversation.turn("Hi")
    found = (await until_calls(turn)).calls
    turn.commit()
    turn.allow(found[0].id)
    turn.allow(found[1].id)
    await asyncio.sleep(1)
    turn.interrupt()
    async for event in turn:
        hear(turn, event)
    turn.close()
    assert conversation.active_agent == "intake"
    assert conversation.userdata == Caller(name="moved", added={"a": 1})
    told = answers(conversation.messages)
    assert told[:2] == ["The transfer did not take place: the caller interrupted before the transfer.", "a"]
    assert told[2].startswith("not done")
    assert len(model.prompts) == 1


@pytest.mark.virtual_clock
async def test_disallow_interruptions_holds_until_the_call_ends() -> None:
    @function_tool
    async def pay(ctx: RunContext[Caller]) -> str:
        """Pay."""
        ctx.disallow_interruptions()
        ctx.disallow_interruptions()
        await asyncio.sleep(1)
        raise KeyError

    graph, _ = build([say(call("pay"), call("wait", {"seconds": 5})), "Done."], [pay, wait])
    conversation: Conversation[Caller] = Conversation(graph)
    turn = conversation.turn("Hi")
    seen: list[tuple[bool, float]] = []
    began = asyncio.get_running_loop().time()

    class Listener(TurnListener):
        def holds(self, held: bool) -> None:
            seen.append((held, round(asyncio.get_running_loop().time() - began)))

        def happens(self, event: events.Event) -> None:
            hear(turn, event)

    turn.listen(Listener())
    turn.commit()
    await turn.wait_finished()
    turn.close()
    assert seen == [(True, 0), (False, 1)]


async def test_end_call_marks_the_turn() -> None:
    @function_tool
    async def hang_up(ctx: RunContext[Caller]) -> str:
        """Hang up."""
        ctx.end_call()
        return "Bye."

    graph, _ = build([call("hang_up"), "Goodbye."], [hang_up])
    conversation: Conversation[Caller] = Conversation(graph)
    turn = conversation.turn("Hi")
    turn.commit()
    seen = []
    async for event in turn:
        hear(turn, event)
        seen.append(event)
    assert seen[-1] == events.Ended(ends_call=True)


async def test_the_front_ends_context_reaches_the_tool() -> None:
    @function_tool
    async def look(ctx: RunContext[Caller]) -> str:
        """Look."""
        return str(ctx.host)

    graph, _ = build([call("look"), "Done."], [look])
    conversation: Conversation[Caller] = Conversation(graph)
    turn = conversation.turn("Hi")
    turn.commit()
    found = (await until_calls(turn)).calls
    turn.allow(found[0].id, host="livekit")
    async for event in turn:
        hear(turn, event)
    turn.close()
    assert answers(conversation.messages) == ["livekit"]
