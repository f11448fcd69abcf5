"""`interrupt()` in the calls of a batch: one question at a time, and no finished call runs again."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.errors import is_invalid_resume
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, ToolError, create_voice_graph, function_tool, history
from graph_voice.agents.handoff import Reply
from graph_voice.testing import ScriptedModel, call, check_prompt, say

CONFIG: Any = {"configurable": {"thread_id": "call"}}


class Caller(BaseModel):
    count: int = 0
    notes: list[str] = []
    limits: dict[str, int] = {}


class Log:
    """What ran, in order."""

    def __init__(self) -> None:
        self.ran: list[str] = []


def make_tools(log: Log) -> list[Any]:
    @function_tool
    async def ask(ctx: RunContext[Caller], question: str) -> str:
        """Ask."""
        log.ran.append(f"ask {question}")
        ctx.userdata.count += 1
        answer = interrupt(question)
        ctx.userdata.notes.append(f"{question}={answer}")
        log.ran.append(f"got {question}={answer}")
        return f"{question}: {answer}"

    @function_tool
    async def ask_twice(ctx: RunContext[Caller]) -> str:
        """Ask twice."""
        first = interrupt("first")
        second = interrupt("second")
        log.ran.append(f"{first} {second}")
        return f"{first}, {second}"

    @function_tool
    async def note(ctx: RunContext[Caller], text: str) -> str:
        """Note."""
        log.ran.append(f"note {text}")
        ctx.userdata.notes.append(text)
        return f"noted {text}"

    @function_tool
    async def broken(ctx: RunContext[Caller]) -> str:
        """Fail."""
        log.ran.append("broken")
        raise ToolError("The line is dead.")

    @function_tool
    async def move(ctx: RunContext[Caller], to: str) -> Handoff:
        """Move."""
        log.ran.append(f"move {to}")
        return ctx.handoff(to, result=f"Off to {to}.", history=history.full(), say=lambda u: f"Bye {u.count}.")

    @function_tool
    async def ask_and_move(ctx: RunContext[Caller], to: str) -> Any:
        """Ask, then move."""
        log.ran.append("ask_and_move")
        return ctx.handoff(to) if interrupt("May I?") == "yes" else "Stay."

    @function_tool
    async def greet(ctx: RunContext[Caller]) -> str:
        """Say something, then ask."""
        await ctx.say("One moment.")
        return str(interrupt("Well?"))

    return [ask, ask_twice, note, broken, move, ask_and_move, greet]


def build(*calls: Any, log: Log | None = None, checkpointer: Any = None) -> tuple[Any, ScriptedModel, Log]:
    log = log or Log()
    model = ScriptedModel(
        {"intake": [say(*calls), "Done."], "billing": ["Billing here."], "support": ["Support here."]}
    )
    handoffs = [Handoff("billing", say=Reply("Say goodbye.")), Handoff("support")]
    intake = Agent("intake", instructions="Intake.", tools=make_tools(log), handoffs=handoffs)
    others = [Agent(name, instructions=name) for name in ("billing", "support")]
    graph = create_voice_graph([intake, *others], userdata=Caller, llm=model)
    return graph.compile(checkpointer=checkpointer or InMemorySaver()), model, log


async def start(graph: Any) -> dict[str, Any]:
    result: dict[str, Any] = await graph.ainvoke({"messages": [HumanMessage("Hello.", id="u1")]}, CONFIG)
    return result


async def resume(graph: Any, value: Any) -> dict[str, Any]:
    result: dict[str, Any] = await graph.ainvoke(Command(resume=value), CONFIG)
    return result


def questions(result: dict[str, Any]) -> list[Any]:
    return [i.value for i in result.get("__interrupt__", ())]


def answers(result: dict[str, Any]) -> list[str]:
    return [m.text for m in result["messages"] if isinstance(m, ToolMessage)]


async def test_a_call_that_asks_alone_behaves_as_in_any_langgraph_node() -> None:
    graph, model, log = build(call("ask", {"question": "age"}))
    assert questions(await start(graph)) == ["age"]
    done = await resume(graph, "42")
    assert answers(done) == ["age: 42"]
    assert log.ran == ["ask age", "ask age", "got age=42"]
    assert done["userdata"] == Caller(count=1, notes=["age=42"])
    assert not model.errors


async def test_each_answer_goes_to_the_call_that_asked_and_only_one_asks_at_a_time() -> None:
    graph, model, log = build(
        call("ask", {"question": "a"}), call("ask", {"question": "b"}), call("ask", {"question": "c"})
    )
    assert questions(await start(graph)) == ["a"]
    assert questions(await resume(graph, "1")) == ["b"]
    assert questions(await resume(graph, "2")) == ["c"]
    done = await resume(graph, "3")
    assert answers(done) == ["a: 1", "b: 2", "c: 3"]
    assert [e for e in log.ran if e.startswith("got")] == ["got a=1", "got b=2", "got c=3"]
    assert done["userdata"] == Caller(count=3, notes=["a=1", "b=2", "c=3"])
    assert not model.errors


async def test_a_finished_call_does_not_run_again_when_its_batch_is_resumed() -> None:
    graph, _model, log = build(
        call("note", {"text": "x"}), call("ask", {"question": "a"}), call("broken"), call("ask", {"question": "b"})
    )
    first = await start(graph)
    assert questions(first) == ["a"]
    assert questions(await resume(graph, "1")) == ["b"]
    done = await resume(graph, "2")
    assert log.ran.count("note x") == log.ran.count("broken") == 1
    assert answers(done) == ["noted x", "a: 1", "The line is dead.", "b: 2"]
    assert done["userdata"] == Caller(count=2, notes=["x", "a=1", "b=2"])


async def test_while_a_question_is_open_every_call_has_its_answer_in_the_state() -> None:
    graph, _, _ = build(call("note", {"text": "x"}), call("ask", {"question": "a"}))
    waiting = await start(graph)
    check_prompt([*waiting["messages"], HumanMessage("?")], allow=())
    assert answers(waiting) == ["noted x", "The tool call is still in progress."]


async def test_a_call_that_asks_twice_gets_both_answers_before_anybody_else_is_heard() -> None:
    graph, _, log = build(call("ask", {"question": "z"}), call("ask_twice"), call("ask", {"question": "b"}))
    assert questions(await start(graph)) == ["z"]
    assert questions(await resume(graph, "0")) == ["first"]
    assert questions(await resume(graph, "1")) == ["second"]
    assert questions(await resume(graph, "2")) == ["b"]
    assert answers(await resume(graph, "3")) == ["z: 0", "1, 2", "b: 3"]
    assert log.ran.count("1 2") == 1


async def test_a_handoff_waits_for_the_calls_before_it() -> None:
    graph, model, log = build(call("ask_and_move", {"to": "support"}), call("move", {"to": "billing"}))
    waiting = await start(graph)
    assert waiting.get("active_agent") in (None, "", "intake")
    done = await resume(graph, "yes")
    assert done["active_agent"] == "support"
    not_moved = "Off to billing. The transfer did not take place: the caller is being transferred to support."
    assert answers(done) == ["Transferring to support.", not_moved]
    assert log.ran.count("move billing") == 1
    assert model.agents[-1] == "support"


async def test_a_handoff_that_waited_keeps_what_its_tool_asked_for() -> None:
    graph, model, log = build(call("ask_and_move", {"to": "support"}), call("move", {"to": "billing"}))
    await start(graph)
    done = await resume(graph, "no")
    assert done["active_agent"] == "billing"
    assert answers(done) == ["Stay.", "Off to billing."]
    assert "Bye 0." in done["messages"][1].text
    assert log.ran.count("move billing") == 1
    shown = model.prompts[-1].messages
    assert any("Hello." in m.text for m in shown), "history.full() of the tool, not the declared fresh()"


async def test_a_transfer_tool_waits_with_its_declared_line() -> None:
    log = Log()
    model = ScriptedModel(
        {
            "intake": [say(call("ask", {"question": "a"}), call("transfer_to_billing"))],
            "intake_tools": ["Goodbye then."],
            "billing": ["Billing here."],
        }
    )
    way = Handoff("billing", say=Reply("Say goodbye."))
    intake = Agent("intake", instructions="Intake.", tools=make_tools(log), handoffs=[way])
    graph = create_voice_graph([intake, Agent("billing", instructions="B.")], userdata=Caller, llm=model)
    compiled = graph.compile(checkpointer=InMemorySaver())
    assert questions(await start(compiled)) == ["a"]
    assert len(model.prompts) == 1, "nothing is said before the handoff is certain"
    done = await resume(compiled, "1")
    assert done["active_agent"] == "billing"
    assert done["messages"][1].text == "Goodbye then."


async def test_what_a_tool_said_before_it_asked_is_not_said_again() -> None:
    graph, _, _ = build(call("note", {"text": "x"}), call("greet"))
    await start(graph)
    done = await resume(graph, "fine")
    asking = next(m for m in done["messages"] if isinstance(m, AIMessage) and m.tool_calls)
    assert asking.text == "One moment."


async def test_a_langchain_tool_that_asks_leaves_nothing_assigned_either() -> None:
    @tool
    async def ask_first(runtime: ToolRuntime) -> str:
        """Ask."""
        runtime.state["userdata"].count += 1
        return str(interrupt("Well?"))

    log = Log()
    model = ScriptedModel([say(call("note", {"text": "x"}), call("ask_first")), "Done."])
    intake = Agent(
        "intake",
        instructions="Intake.",
        tools=[*make_tools(log), ask_first],
        handoffs=[Handoff("billing", tool=False), Handoff("support", tool=False)],
    )
    others = [Agent(name, instructions=name) for name in ("billing", "support")]
    graph = create_voice_graph([intake, *others], userdata=Caller, llm=model).compile(checkpointer=InMemorySaver())
    await start(graph)
    assert (await resume(graph, "fine"))["userdata"] == Caller(count=1, notes=["x"])


async def test_a_handoff_waits_from_one_turn_of_a_conversation_to_the_next() -> None:
    graph, _, log = build(call("ask", {"question": "a"}), call("move", {"to": "billing"}))
    conversation: Conversation[Caller] = Conversation(graph)
    await conversation.run("Hello.")
    assert conversation.active_agent == "intake"
    assert conversation.handoffs == []
    waits = [m for m in conversation.messages if isinstance(m, ToolMessage)]
    assert waits[1].additional_kwargs["waits"]["handoff"]["to"] == "billing", "as the graph's own state has it"
    await conversation.run("42")
    assert log.ran.count("move billing") == 1
    assert conversation.active_agent == "billing"
    assert conversation.userdata == Caller(count=1, notes=["a=42"])
    assert answers({"messages": conversation.messages}) == ["a: 42", "Off to billing."]


async def test_a_batch_is_resumed_by_another_process() -> None:
    """Nothing is kept in the graph object: a copy of the graph that has only the checkpoints goes on."""
    saver = InMemorySaver()
    calls = (call("note", {"text": "x"}), call("ask", {"question": "a"}), call("move", {"to": "billing"}))
    graph, _, _ = build(*calls, checkpointer=saver)
    await start(graph)
    other, _, log2 = build(*calls, checkpointer=saver)
    done = await resume(other, "1")
    assert log2.ran == ["ask a", "got a=1"]
    assert done["active_agent"] == "billing"
    assert answers(done) == ["noted x", "a: 1", "Off to billing."]


async def test_an_answer_that_does_not_fit_the_question_fails_the_run_and_can_be_given_again() -> None:
    class Answer(BaseModel):
        age: int

    @function_tool
    async def age(ctx: RunContext[Caller]) -> str:
        """Ask the age."""
        return str(interrupt("How old?", response_schema=Answer).age)

    model = ScriptedModel([say(call("age")), "Done."])
    graph = create_voice_graph([Agent("intake", instructions="I.", tools=[age])], userdata=Caller, llm=model)
    compiled = graph.compile(checkpointer=InMemorySaver())
    await start(compiled)
    with pytest.raises(Exception, match="age") as failure:
        await resume(compiled, {"age": "old"})
    assert is_invalid_resume(failure.value)
    assert answers(await resume(compiled, {"age": 7})) == ["7"]


async def test_the_drawing_has_no_edge_for_the_way_back_to_a_waiting_batch() -> None:
    graph, _, _ = build()
    edges = {(e.source, e.target) for e in graph.get_graph().edges}
    assert ("intake_tools", "intake_tools") not in edges
    assert ("intake_tools", "__end__") not in edges
