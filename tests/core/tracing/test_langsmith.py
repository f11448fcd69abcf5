"""What LangSmith is sent of a call, read back from a server that speaks its protocol."""

import asyncio
import uuid
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client, traceable
from langsmith_sink import LangSmithSink, TracedRun
from langsmith_support import langsmith as langsmith
from turn_support import hear, play, rest, until

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    Task,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.call.trace import LINGER
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock


@function_tool
async def look_up(number: int) -> str:
    """Look up an order."""
    return f"Order {number} is on its way."


def desk(script: Any, *tools: Any, **options: Any) -> Conversation[Any]:
    agents = [
        Agent(
            "desk",
            instructions="You are the desk.",
            tools=[look_up, *tools],
            handoffs=[Handoff("billing", history=history.truncate(max_items=2))],
        ),
        Agent("billing", instructions="You are billing."),
    ]
    return Conversation(create_voice_graph(agents, llm=ScriptedModel(script)), thread_id="call-7", **options)


def with_handoff(**options: Any) -> Conversation[Any]:
    asked = [call("look_up", {"number": 3}), say("It is on its way.", call("transfer_to_billing"))]
    return desk({"desk": asked, "billing": ["Billing here."]}, **options)


async def sent(sink: LangSmithSink, conversation: Conversation[Any]) -> TracedRun:
    await conversation.aclose()
    sink.wait()
    (root,) = sink.roots
    return root


def test_the_server_of_the_tests_keeps_what_ended_a_run_whichever_of_its_requests_comes_first() -> None:
    """LangSmith's client sends from several threads when much waits: under load, requests overtake each other."""
    run = {"id": uuid.uuid4(), "trace_id": uuid.uuid4(), "dotted_order": "1", "name": "turn", "run_type": "chain"}
    begun = {**run, "inputs": {"said": "hi"}, "outputs": {}, "start_time": "2026-01-01T00:00:00"}
    ended = {**run, "outputs": {"heard": "Hello."}, "end_time": "2026-01-01T00:00:01"}
    with LangSmithSink() as sink:
        client = sink.client()
        client.multipart_ingest(update=[ended])
        client.multipart_ingest(create=[begun])
        (root,) = sink.roots
    assert (root.inputs, root.outputs, root.ended is not None) == ({"said": "hi"}, {"heard": "Hello."}, True)


# ---- the tree


async def test_a_turn_is_one_tree_of_agents_tools_and_handoffs(langsmith: LangSmithSink) -> None:
    conversation = with_handoff()
    await conversation.run("Where is my order?")
    root = await sent(langsmith, conversation)
    assert root.tree().splitlines() == [
        "turn",
        "  graph",
        "    desk",
        "      scripted (llm)",
        "    desk_tools",
        "      look_up (tool)",
        "    desk",
        "      scripted (llm)",
        "      handoff billing",
        "    billing",
        "      scripted (llm)",
    ]
    runs = [root, *root.below()]
    assert {run.metadata["thread_id"] for run in runs} == {"call-7"}
    assert {run.fields["trace_id"] for run in runs} == {root.id}
    assert {run.fields["session_name"] for run in runs} == {"calls"}
    assert all(run.ended is not None and run.error is None for run in runs)
    for run in runs:
        assert run.ended is not None
        for child in run.children:
            assert child.ended is not None
            assert run.begun <= child.begun <= child.ended <= run.ended
            assert child.fields["dotted_order"].startswith(f"{run.fields['dotted_order']}.")


async def test_the_request_for_words_about_an_update_is_named_for_it(langsmith: LangSmithSink) -> None:
    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        await ctx.update("asking the airline")
        await asyncio.sleep(5)
        return "found"

    conversation = desk({"desk": [call("search"), "I am asking.", "Found."]}, search)
    seen = await conversation.run("Search.")
    assert sum(isinstance(event, events.Usage) for event in seen) == 3
    root = await sent(langsmith, conversation)
    assert root.tree().splitlines() == [
        "turn",
        "  graph",
        "    desk",
        "      scripted (llm)",
        "    desk_tools",
        "      search (tool)",
        "      update: search (llm)",
        "    desk",
        "      scripted (llm)",
    ]
    assert root.outputs is not None
    assert root.outputs["heard"] == "I am asking. Found."


async def test_the_turns_of_a_task_share_its_id(langsmith: LangSmithSink) -> None:
    get_city = Task("get_city", instructions="Which city?")

    @function_tool(tasks=[get_city])
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        return await ctx.run_task(get_city)

    agents = [Agent("desk", instructions="Desk.", tools=[travel]), get_city]
    city = ["Which city?", "Pardon?", call("complete_get_city", {"value": "Rome"})]
    model = ScriptedModel({"desk": [call("travel"), "Done.", "Yes?"], "get_city": city})
    conversation: Conversation[Any] = Conversation(create_voice_graph(agents, llm=model))
    for words in ("To Rome.", "Hm.", "Rome.", "Hello?"):
        await conversation.run(words)
    await conversation.aclose()
    langsmith.wait()
    found = [root.metadata for root in sorted(langsmith.roots, key=lambda root: root.fields["start_time"])]
    assert [metadata.get("task") for metadata in found] == [None, "get_city", "get_city", None]
    assert found[1]["task_id"] == found[2]["task_id"]


async def test_the_root_says_what_was_said_generated_and_heard(langsmith: LangSmithSink) -> None:
    conversation = desk(["One two three."])
    turn = conversation.turn("hi")
    await asyncio.sleep(0.1)
    turn.commit("hi there")
    seen = await rest(turn)
    hear(turn, [e for e in seen if isinstance(e, events.Text)][:2])
    turn.close()
    root = await sent(langsmith, conversation)
    assert root.inputs["text"] == "hi"
    assert root.outputs == {
        "text": "hi there",
        "heard": "One two",
        "generated": "One two three.",
        "interrupted": False,
        "discarded": False,
    }
    assert root.metadata["heard"], root.metadata["generated"] == ("One two", "One two three.")


async def test_a_run_looks_as_langchain_s_own_tracer_makes_it(langsmith: LangSmithSink) -> None:
    """Ours notes what it is told and makes the runs later; nothing may be lost by that."""

    class Plain(LangChainTracer):
        """Not noted: by its class it is not LangChain's own."""

    async def runs(sink: LangSmithSink, tracer: LangChainTracer) -> list[TracedRun]:
        conversation = with_handoff(config={"callbacks": [tracer], "tags": ["mine"]})
        await conversation.run("Where is my order?")
        root = await sent(sink, conversation)
        return [root, *root.below()]

    with LangSmithSink() as theirs:
        client = theirs.client()
        plain = await runs(theirs, Plain(client=client, metadata={"shop": "7"}, tags=["also"]))
    noted = await runs(langsmith, LangChainTracer(client=langsmith.client(), metadata={"shop": "7"}, tags=["also"]))
    names = {run.name for run in noted}
    plain = [run for run in plain if run.name in names]
    assert [run.name for run in noted] == [run.name for run in plain]
    for ours, other in zip(noted, plain, strict=True):
        assert ours.kind == other.kind
        assert sorted(ours.tags) == sorted(other.tags)
        extra = {"revision_id", "heard", "generated"}
        assert ours.metadata.keys() | extra == other.metadata.keys() | extra, ours.name
        assert ours.metadata["shop"] == "7"
        assert ours.inputs.keys() == other.inputs.keys()
        assert set(other.outputs) <= set(ours.outputs)
        assert {e["name"] for e in ours.fields["events"]} >= {e["name"] for e in other.fields["events"]}
    (answer,) = [run for run in noted if run.kind == "llm"][-1:]
    (same,) = [run for run in plain if run.kind == "llm"][-1:]
    assert answer.metadata["usage_metadata"] == same.metadata["usage_metadata"]
    assert [e["name"] for e in answer.fields["events"]] == ["start", "new_token", "end"]
    assert answer.fields["serialized"] == same.fields["serialized"]


async def test_a_handoff_s_run_has_the_sizes_of_what_its_policy_was_given_and_made(langsmith: LangSmithSink) -> None:
    conversation = with_handoff()
    await conversation.run("Where is my order?")
    run = (await sent(langsmith, conversation)).find("handoff billing")
    assert run.inputs["from"], run.inputs["to"] == ("desk", "billing")
    assert run.inputs["history"] == {"steps": [{"op": "truncate", "max_items": 2}]}
    assert (run.outputs["items_before"], run.outputs["items_after"]) == (5, 2)
    assert run.outputs["tokens_before"] > run.outputs["tokens_after"] > 0
    assert run.outputs["confirmed"] is True
    assert "rejected" not in run.tags


async def test_a_handoff_that_the_front_end_refuses_is_tagged(langsmith: LangSmithSink) -> None:
    conversation = with_handoff()
    turn = conversation.turn("Billing, please.")
    turn.commit()
    async for event in turn:
        match event:
            case events.ToolCalls(calls=calls):
                for asked in calls:
                    turn.allow(asked.id)
            case events.HandedOff(call_id=call_id):
                turn.reject_handoff(call_id, "nobody is there")
    turn.close()
    run = (await sent(langsmith, conversation)).find("handoff billing")
    assert (run.outputs["confirmed"], "rejected" in run.tags) == (False, True)


async def test_outside_a_turn_a_handoff_has_its_run_too(langsmith: LangSmithSink) -> None:
    graph = with_handoff().graph
    tracer = LangChainTracer(client=langsmith.client())
    await graph.ainvoke({"messages": ["Billing, please."]}, {"callbacks": [tracer]})
    tracer.wait_for_futures()
    (root,) = langsmith.roots
    run = root.find("handoff billing")
    assert (run.outputs["items_before"], run.outputs["items_after"]) == (5, 2)


# ---- how it ends


async def test_a_turn_that_was_interrupted_is_tagged_and_what_was_cut_off_is_no_error(langsmith: LangSmithSink) -> None:
    conversation = desk([say("One two three.", per_token=1.0)])
    turn = conversation.turn("hi")
    turn.commit()
    first = await until(turn, events.Text)
    turn.interrupt()
    await rest(turn)
    hear(turn, [first])
    turn.close()
    root = await sent(langsmith, conversation)
    assert "interrupted" in root.tags
    assert root.outputs["heard"], root.outputs["interrupted"] == ("One", True)
    assert [run.error for run in (root, *root.below())] == [None] * 4
    (model,) = [run for run in root.below() if run.kind == "llm"]
    assert "interrupted" in model.tags
    assert "One" in str(model.outputs), "what the model had made until then"


async def test_a_speculation_that_was_dropped_is_tagged(langsmith: LangSmithSink) -> None:
    conversation = desk([say("One two three.", per_token=1.0)])
    turn = conversation.turn("perhaps")
    await until(turn, events.Text)
    turn.discard()
    await turn.wait_finished()
    root = await sent(langsmith, conversation)
    assert root.tags == ["discarded"]
    assert root.outputs["heard"] == ""
    assert all(run.error is None and run.ended is not None for run in root.below())


async def test_a_result_that_comes_after_close_is_on_the_trace(langsmith: LangSmithSink) -> None:
    @function_tool
    async def slow() -> str:
        """Take your time."""
        await asyncio.sleep(30)
        return "at last"

    conversation = desk([call("slow")], slow)
    turn = conversation.turn("hi")
    turn.commit()
    (asked,) = (await until(turn, events.ToolCalls)).calls
    turn.allow(asked.id)
    await asyncio.sleep(1)
    turn.interrupt()
    turn.close()
    await asyncio.sleep(10)
    langsmith.wait()
    assert langsmith.roots == [], "the root is open while a tool of the turn runs"
    root = await sent(langsmith, conversation)
    assert "at last" in str(root.find("slow").outputs)
    assert "interrupted" in root.tags


async def test_what_is_heard_within_a_second_of_the_end_is_on_the_root_and_later_words_are_not(
    langsmith: LangSmithSink,
) -> None:
    conversation = desk(["One two three."])
    turn = conversation.turn("hi")
    turn.commit()
    first = next(e for e in await rest(turn) if isinstance(e, events.Text))
    turn.close()
    await asyncio.sleep(LINGER / 2)
    turn.heard(first.message_id, "One two")
    await asyncio.sleep(LINGER)
    langsmith.wait()
    (root,) = langsmith.roots
    assert root.outputs["heard"] == "One two"
    turn.heard(first.message_id, "One two three.")
    assert (await sent(langsmith, conversation)).outputs["heard"] == "One two"
    assert conversation.messages[-1].text == "One two three.", "the conversation itself knows better"


async def test_an_agent_s_on_exit_is_a_run_of_the_call(langsmith: LangSmithSink) -> None:
    async def leave(ctx: RunContext[Any]) -> None:
        ctx.userdata["left"] = True

    agent = Agent("a", instructions="A", on_exit=leave)
    conversation = Conversation(create_voice_graph([agent], llm=ScriptedModel([])), thread_id="call-7")
    root = await sent(langsmith, conversation)
    assert (root.name, root.metadata["thread_id"]) == ("a.on_exit", "call-7")


async def test_a_failing_tool_is_an_error_on_its_run(langsmith: LangSmithSink) -> None:
    @function_tool
    async def broken() -> str:
        """Break."""
        raise OSError("the cable")

    conversation = desk([call("broken"), "Sorry."], broken)
    await conversation.run("hi")
    root = await sent(langsmith, conversation)
    assert "the cable" in (root.find("broken").error or "")
    assert root.error is None


# ---- what is measured


async def test_the_root_has_the_times_in_milliseconds(langsmith: LangSmithSink) -> None:
    asked = [say("One moment.", call("transfer_to_billing"), first_token=0.4)]
    conversation = desk({"desk": asked, "billing": [say("Billing here.", first_token=0.25)]})
    turn = conversation.turn("hi")
    turn.measured(end_of_turn_delay=0.31)
    turn.measured(time_to_first_audio=0.8, response_delay=1.11)
    turn.measured(end_of_turn_delay=9.0)
    await play(turn)
    found = (await sent(langsmith, conversation)).metadata
    times = {key: value for key, value in found.items() if key.endswith("_ms")}
    assert times == pytest.approx(
        {
            "time_to_first_token_ms": 400,
            "time_to_first_text_ms": 400,
            "handoff_gap_ms": 250,
            "end_of_turn_delay_ms": 310,
            "time_to_first_audio_ms": 800,
            "response_delay_ms": 1110,
        },
        abs=0.2,
    )


# ---- feedback


async def test_feedback_goes_to_the_turn_s_root_behind_its_trace(langsmith: LangSmithSink) -> None:
    conversation = desk(["One.", "Two."])
    first, second = conversation.turn("hi"), None
    assert first.score("early", 0.5)
    await play(first)
    await asyncio.sleep(2 * LINGER)
    second = conversation.turn("and?")
    await play(second)
    assert first.score("csat", 1, comment="quick")
    assert conversation.score("resolved", value="yes")
    await conversation.aclose()
    langsmith.wait()
    roots = {run.outputs["text"]: run.id for run in langsmith.roots}
    given = {one["key"]: one for one in langsmith.feedback}
    assert {key: one["run_id"] for key, one in given.items()} == {
        "early": roots["hi"],
        "csat": roots["hi"],
        "resolved": roots["and?"],
    }
    assert (given["csat"]["score"], given["csat"]["comment"], given["resolved"]["value"]) == (1, "quick", "yes")
    assert {one["feedback_source"]["metadata"]["thread_id"] for one in given.values()} == {"call-7"}
    assert all(one["session_id"] for one in given.values())


async def test_feedback_on_a_call_that_is_over_and_on_one_that_is_not_traced(langsmith: LangSmithSink) -> None:
    conversation = desk(["One."])
    assert conversation.score("too soon", 1) is False
    await conversation.run("hi")
    await conversation.aclose()
    assert conversation.score("afterwards", 0)
    langsmith.wait()
    assert [one["key"] for one in langsmith.feedback] == ["afterwards"]


async def test_a_scripted_call_is_scored_as_the_conversation_in_it(langsmith: LangSmithSink) -> None:
    agent = Agent("a", instructions="A", on_enter="Greet.")
    async with Call(create_voice_graph([agent], llm=ScriptedModel(["Hello.", "One."]))) as phone:
        await phone.says("hi")
        assert phone.score("passed", True, comment="as it should be")
    langsmith.wait()
    (given,) = langsmith.feedback
    roots = {run.id: run.outputs["text"] for run in langsmith.roots}
    assert (given["key"], given["score"], given["comment"]) == ("passed", True, "as it should be")
    assert roots[given["run_id"]] == "hi"


async def test_nothing_is_scored_where_nothing_is_traced() -> None:
    conversation = desk(["One."])
    await conversation.run("hi")
    assert conversation.score("resolved", 1) is False
    await conversation.aclose()


# ---- with LangSmith's own tools


async def test_traceable_code_in_a_tool_is_below_it(langsmith: LangSmithSink) -> None:
    @traceable(name="ask the warehouse")
    async def ask(number: int) -> str:
        return "soon"

    @function_tool
    async def find(number: int) -> str:
        """Find."""
        return str(await ask(number))

    conversation = desk([call("find", {"number": 3}), "Soon."], find)
    await conversation.run("hi")
    root = await sent(langsmith, conversation)
    assert root.find("ask the warehouse").parent_id == root.find("find").id
    assert root.find("ask the warehouse").fields["trace_id"] == root.id


async def test_a_call_within_traceable_code_is_below_that(langsmith: LangSmithSink) -> None:
    @traceable(name="evaluation")
    async def evaluate() -> str:
        conversation = desk(["One."])
        await conversation.run("hi")
        await conversation.aclose()
        return "done"

    await evaluate()
    langsmith.wait()
    (root,) = langsmith.roots
    assert root.name == "evaluation"
    assert [run.name for run in root.children] == ["turn"]
    assert root.find("graph").fields["trace_id"] == root.id


@pytest.mark.parametrize("compressed", [False, True])
async def test_both_ways_to_send_arrive(compressed: bool) -> None:
    with LangSmithSink(compressed=compressed) as sink:
        conversation = desk(["One."], config={"callbacks": [LangChainTracer(client=sink.client())]})
        await conversation.run("hi")
        conversation.score("resolved", 1)
        root = await sent(sink, conversation)
        assert root.find("desk").children[0].kind == "llm"
        assert [one["run_id"] for one in sink.feedback] == [root.id]


async def test_a_client_s_own_anonymizer_and_sampling_hold(langsmith: LangSmithSink) -> None:
    def hide(found: Any) -> Any:
        return {"hidden": True}

    quiet: Client = langsmith.client(anonymizer=hide)
    conversation = desk(["One."], config={"callbacks": [LangChainTracer(client=quiet)]})
    await conversation.run("a word of mine")
    await sent(langsmith, conversation)
    assert b"a word of mine" not in langsmith.received
    none = desk(["One."], config={"callbacks": [LangChainTracer(client=langsmith.client(tracing_sampling_rate=0.0))]})
    await none.run("hi")
    await none.aclose()
    langsmith.wait()
    assert len(langsmith.roots) == 1


async def test_a_turn_posts_nothing_while_it_runs(langsmith: LangSmithSink) -> None:
    conversation = with_handoff()
    turn = conversation.turn("hi")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            for asked in event.calls:
                turn.allow(asked.id)
        if isinstance(event, events.HandedOff):
            turn.confirm_handoff(event.call_id)
    langsmith.wait()
    assert [path for method, path in langsmith.requests if method == "POST"] == []
    turn.close()
    await sent(langsmith, conversation)
    assert [path for method, path in langsmith.requests if method == "POST"] == ["/runs/multipart"]
