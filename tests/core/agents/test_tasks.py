"""Tasks that are written wrong, and the state as plain data: in `ainvoke`, in the drawing, after a crash."""

import asyncio
from dataclasses import field, make_dataclass
from typing import Any

import pytest
from langchain_core.messages import AIMessage, RemoveMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import BaseModel

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    Task,
    TaskFailed,
    TaskGroup,
    create_voice_graph,
    function_tool,
)
from graph_voice.errors import BuildError, TurnError
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock


def city(**options: Any) -> Task[str]:
    return Task("get_city", **{"result": str, "instructions": "Which city?", **options})


def desk_of(task: Task[Any], body: Any = None, **options: Any) -> Agent:
    @function_tool(**options)
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        return str(await ctx.run_task(task)) if body is None else str(await body(ctx))

    return Agent("desk", instructions="Desk.", tools=[travel], tasks=[task])


async def nothing() -> str:
    """Nothing."""
    return ""


SCRIPT: dict[str, Any] = {
    "desk": [call("travel"), "Done."],
    "get_city": ["Which city?", call("complete_get_city", {"value": "Rome"})],
}


# ---- written wrong


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: create_voice_graph([Agent("a", instructions="A."), city()]), "nobody runs the task"),
        (lambda: create_voice_graph([desk_of(city())]), "which is not in the graph: list it"),
        (lambda: Task("t", result=asyncio.Lock, instructions="T."), "can't read and write it as JSON"),
        (lambda: Task("t", draft=Strict, instructions="T."), "made without arguments"),
        (lambda: Task("t", instructions="T.", returns="all"), "write a history operation"),
        (lambda: Agent("a", instructions="A.", tasks=[5]), "Write the task itself"),
        (
            lambda: create_voice_graph([Agent("a", instructions="A.", tasks=["get_city"])]),
            r"an external one: .*external_tasks=.*A Task of the graph's is written itself, tasks=\[get_city\]",
        ),
        (lambda: city(give_up=3), r"give_up=3\): write a text"),
        (lambda: TaskGroup("g", "ab"), "at least two steps"),
        (lambda: TaskGroup("g", [city(), Agent("a", instructions="A.")]), "is no Task"),  # type: ignore[list-item]
        (lambda: function_tool(tasks="get_city")(nothing), "write a list of tasks"),
        (lambda: function_tool(tasks=[3])(nothing), "write a list of tasks"),  # type: ignore[list-item]
        (lambda: function_tool(needs=[city()])(nothing), "write parameter and task"),  # type: ignore[arg-type]
        (lambda: function_tool(needs={"city": 5})(nothing), "write parameter and task"),  # type: ignore[dict-item]
        (lambda: function_tool(available=True)(nothing), "a function of the RunContext"),  # type: ignore[arg-type]
        (
            lambda: Agent("a", instructions="A.", tools=[function_tool(needs={"town": city()})(nothing)]),
            "no such parameter",
        ),
        (lambda: create_voice_graph([desk_of(city()), Agent("get_city", instructions="A."), city()]), "two agents"),
        (
            lambda: create_voice_graph([desk_of(city()), city(result=int)]),
            r"result <class 'str'>.* another one of that name, with the result <class 'int'>: rename one",
        ),
    ],
)
def test_what_is_written_wrong_is_refused_with_words(make: Any, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        make()


class Strict(BaseModel):
    needed: str


def test_a_tool_that_runs_a_task_by_name_needs_it_declared() -> None:
    @function_tool(tasks=["get_city"])
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        return ""

    with pytest.raises(BuildError, match=r'runs the task "get_city", which the agent does not declare'):
        Agent("desk", instructions="Desk.", tools=[travel])
    Agent("desk", instructions="Desk.", tools=[travel], tasks=[city()])


async def test_a_task_that_is_not_declared_and_one_outside_a_tool_are_turn_errors() -> None:
    told: list[str] = []
    other = Task("other", instructions="Other.")

    async def body(ctx: RunContext[Any]) -> str:
        with pytest.raises(TurnError, match=r'may not run the task "other".*tasks=\[other\]'):
            await ctx.run_task(other)
        with pytest.raises(TurnError, match=r'agent "desk" is no task, so there is nothing to end'):
            ctx.complete("x")
        with pytest.raises(TurnError, match=r"ctx.fail"):
            ctx.fail("x")
        told.append("tool")
        return "ok"

    async def leave(ctx: RunContext[Any]) -> None:
        with pytest.raises(TurnError, match="can be run by a tool or an on_enter method"):
            await ctx.run_task(task)
        told.append("on_exit")

    task = city()
    desk = desk_of(task, body)
    desk = Agent("desk", instructions="Desk.", tools=desk.tools, tasks=[task], on_exit=leave)
    conversation = Conversation(create_voice_graph([desk, task], llm=ScriptedModel({"desk": [call("travel"), "Ok."]})))
    await conversation.run("Go.")
    await conversation.aclose()
    assert told == ["tool", "on_exit"]


# ---- plain data


async def test_a_task_is_entered_and_answered_by_ainvoke_as_in_studio() -> None:
    task = city()
    graph = create_voice_graph([desk_of(task), task], llm=ScriptedModel(SCRIPT)).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await graph.ainvoke({"messages": [("user", "To Rome.")]}, config)
    assert (state["active_agent"], state["messages"][-1].text) == ("get_city", "Which city?")
    assert [m.text for m in state["messages"] if isinstance(m, ToolMessage)] == [RUNNING]
    state = await graph.ainvoke({"messages": [("user", "Rome.")]}, config)
    assert (state["active_agent"], state["messages"][-1].text, state["stack"]) == ("desk", "Done.", [])
    assert next(m.text for m in state["messages"] if isinstance(m, ToolMessage)) == "Rome"


async def test_a_frame_that_is_edited_in_studio_gives_another_result() -> None:
    task = city()
    script = {"desk": [call("travel"), "Done."], "get_city": ["Which city?"]}
    graph = create_voice_graph([desk_of(task), task], llm=ScriptedModel(script)).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await graph.ainvoke({"messages": [("user", "To Rome.")]}, config)
    frame = {**state["stack"][-1], "done": True, "results": [{"task": "get_city", "value": "Paris"}]}
    await graph.aupdate_state(config, {"stack": [frame], "active_agent": "desk"}, as_node="get_city")
    state = await graph.ainvoke({"messages": [("user", "Well?")]}, config)
    assert [m.text for m in state["messages"] if isinstance(m, ToolMessage)] == ["Paris"]


@pytest.mark.parametrize("in_a_call", [False, True])
async def test_a_task_ends_whose_tool_call_was_removed_from_the_messages_and_its_agent_answers(in_a_call: bool) -> None:
    task = city()
    script = {"desk": [call("travel"), "Where to?", "Yes?"], "get_city": SCRIPT["get_city"]}
    graph = create_voice_graph([desk_of(task), task], llm=ScriptedModel(script))
    if in_a_call:
        conversation: Conversation[Any] = Conversation(graph)
        await conversation.run("To Rome.")
        asking = next(m for m in conversation.messages if isinstance(m, AIMessage) and m.tool_calls)
        conversation.add(RemoveMessage(id=asking.id or ""))
        for words in ("Rome.", "Hello?"):
            await conversation.run(words)
        state: Any = conversation.state
    else:
        compiled = graph.compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "1"}}
        state = await compiled.ainvoke({"messages": [("user", "To Rome.")]}, config)
        asking = next(m for m in state["messages"] if isinstance(m, AIMessage) and m.tool_calls)
        await compiled.aupdate_state(config, {"messages": [RemoveMessage(id=asking.id or "")]}, as_node="get_city")
        for words in ("Rome.", "Hello?"):
            state = await compiled.ainvoke({"messages": [("user", words)]}, config)
    spoken = [m.text for m in state["messages"] if isinstance(m, AIMessage) and m.text]
    assert spoken == ["Which city?", "Where to?", "Yes?"]
    assert (state["active_agent"], state["stack"]) == ("desk", [])


def test_the_drawing_shows_where_a_task_begins_and_where_it_ends() -> None:
    task = city()
    drawn = create_voice_graph([desk_of(task), task]).compile().get_graph()
    found = {(e.source, e.target): e.data for e in drawn.edges}
    assert found["desk_tools", "get_city"] == "task begins"
    assert found["get_city_tools", "desk_tools"] == "task ends"
    named = create_voice_graph([desk_of(task, tasks=[task]), task]).compile().get_graph()
    assert {(e.source, e.target): e.data for e in named.edges}["desk_tools", "get_city"] == "travel"


# ---- a crash


async def crashed(saver: Any, conversation: Conversation[Any]) -> None:
    await conversation.call.durable.flush(5)  # type: ignore[union-attr]
    await conversation.call.abandon()


async def test_resumed_names_the_open_task() -> None:
    task, saver = city(), InMemorySaver()
    graph = create_voice_graph([desk_of(task), task], llm=ScriptedModel(SCRIPT))
    first: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await first.open()
    await first.run("To Rome.")
    await crashed(saver, first)
    second: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await second.open()
    resumed = second.resumed
    assert resumed is not None
    assert (resumed.task, resumed.unknown) == ("get_city", ())
    await second.run("Rome.")
    assert next(m.text for m in second.messages if isinstance(m, ToolMessage)) == "Rome"
    await second.aclose()


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_process_that_ends_while_the_waiting_call_goes_on(idempotent: bool) -> None:
    """Rule 3 of the architecture: it may have acted, so it runs again only if it is idempotent."""
    task, saver, acted = city(), InMemorySaver(), list[str]()
    hang, began = asyncio.Event(), asyncio.Event()

    async def body(ctx: RunContext[Any]) -> str:
        found = await ctx.run_task(task)
        acted.append(found)
        began.set()
        if len(acted) == 1:
            await hang.wait()
        return found

    script = {"desk": [call("travel"), "Done."], "get_city": SCRIPT["get_city"]}
    desk = desk_of(task, body, idempotent=idempotent)
    graph = create_voice_graph([desk, task], llm=ScriptedModel(script))
    first: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await first.open()
    await first.run("To Rome.")
    running = asyncio.create_task(first.run("Rome."))
    await began.wait()
    await crashed(saver, first)
    running.cancel()
    second: Conversation[Any] = Conversation(graph, thread_id="1", saver=saver)
    await second.open()
    resumed = second.resumed
    assert resumed is not None
    await second.run("Hello?")
    results = [m.text for m in second.messages if isinstance(m, ToolMessage)]
    if idempotent:
        assert (resumed.again, results[0], acted) == (("travel",), "Rome", ["Rome", "Rome"])
    else:
        assert (resumed.unknown, acted) == (("travel",), ["Rome"])
        assert "unknown" in results[0] or "may" in results[0]
    assert second.state["stack"] == []
    await second.aclose()


async def test_a_changed_program_answers_the_call_and_never_gives_another_tasks_result() -> None:
    task, other, saver = city(), Task("get_name", instructions="Name?"), InMemorySaver()
    model = ScriptedModel({**SCRIPT, "desk": [call("travel"), "Well."]})
    before = create_voice_graph([desk_of(task), task], llm=model)
    first: Conversation[Any] = Conversation(before, thread_id="1", saver=saver)
    await first.open()
    await first.run("To Rome.")
    await crashed(saver, first)

    async def body(ctx: RunContext[Any]) -> str:
        return await ctx.run_task(other)

    desk = Agent("desk", instructions="Desk.", tools=desk_of(task, body).tools, tasks=[task, other])
    second: Conversation[Any] = Conversation(
        create_voice_graph([desk, task, other], llm=model), thread_id="1", saver=saver
    )
    await second.open()
    await second.run("Rome.")
    answer = next(m.text for m in second.messages if isinstance(m, ToolMessage))
    assert answer == "not done: the tool asked for get_city before, and now for get_name."
    await second.aclose()


async def test_the_result_of_a_task_that_is_the_whole_call_may_be_that_it_was_given_up() -> None:
    task = city(give_up="The caller does not want to.")
    script = {"get_city": ["Which city?", say(call("give_up", {"reason": "private"}))]}
    conversation: Conversation[Any] = Conversation(create_voice_graph([task], llm=ScriptedModel(script)))
    await conversation.run("Hello.")
    await conversation.run("No.")
    with pytest.raises(TaskFailed, match="private"):
        _ = conversation.result


async def test_the_tool_calls_that_wait_are_answered_when_the_task_does_not_begin() -> None:
    task = city()
    script = {"desk": [say(call("travel"), call("travel")), "Well."]}
    conversation: Conversation[Any] = Conversation(
        create_voice_graph([desk_of(task), task], llm=ScriptedModel({**script, "get_city": lambda m: "Which?"}))
    )
    from graph_voice import events

    turn = conversation.turn("To Rome.")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.ToolCalls):
            for asked in event.calls:
                turn.allow(asked.id)
        if isinstance(event, events.HandedOff):
            turn.reject_handoff(event.call_id, "not done: the caller interrupted.")
            turn.interrupt()
    turn.close()
    assert conversation.active_agent == "desk"
    assert [m.text for m in conversation.messages if isinstance(m, ToolMessage)] == [
        "not done: the caller interrupted."
    ] * 2
    assert conversation.state.get("stack", []) == []


def test_a_handoff_and_a_task_of_one_agent_may_lead_to_the_same_place_once() -> None:
    task = city(handoffs=[Handoff("other")])
    graph = create_voice_graph([desk_of(task), task, Agent("other", instructions="O.")]).compile()
    assert {e.target for e in graph.get_graph().edges if e.source == "get_city"} >= {"other"}


def test_a_group_that_can_not_work_is_refused() -> None:
    one, two = Task("one", instructions="1."), Task("two", instructions="2.")
    with pytest.raises(BuildError, match="at least two steps"):
        TaskGroup("g", [one])
    with pytest.raises(BuildError, match='two steps are named "one"'):
        TaskGroup("g", [one, one])
    with pytest.raises(BuildError, match="on_failure"):
        TaskGroup("g", [one, two], on_failure="ignore")  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="a step has the group's name"):
        TaskGroup("one", [one, two])
    for result in (Strict, make_dataclass("Row", [("one", str), ("needed", str)])):
        with pytest.raises(BuildError, match=r'no step is named "needed".* The steps: one, two'):
            TaskGroup("g", [one, two], result=result)
    fits = make_dataclass("Row", [("one", str), ("more", str, ""), ("most", list, field(default_factory=list))])
    assert TaskGroup("g", [one, two], result=fits).result is fits


# ---- a tool that catches too much


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("then", ["returns", "raises", "speaks", "runs another", "asks"])
async def test_a_tool_waits_for_its_task_also_when_it_catches_every_exception(
    front_end: str, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    task, other = city(), Task("other", instructions="O.")
    answers: list[Any] = []

    @function_tool
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        try:
            answers.append(await ctx.run_task(task))
        except Exception:
            if then == "raises":
                raise ValueError("no city") from None
            if then == "speaks":
                await ctx.say("I could not ask.")
            if then == "runs another":
                return str(await ctx.run_task(other))
            return str(interrupt("Which one?")) if then == "asks" else "no city"
        return f"To {answers[-1]}."

    desk = Agent("desk", instructions="Desk.", tools=[travel], tasks=[task, other])
    graph = create_voice_graph([desk, task, other])
    async with Call(graph, llm=ScriptedModel(SCRIPT), front_end=front_end) as phone:
        assert (await phone.says("Go.")).heard == "Which city?"
        assert phone.active_agent == "get_city"
        assert (await phone.says("Rome.")).heard == "Done."
        assert next(m.text for m in phone.messages if isinstance(m, ToolMessage)) == "To Rome."
    assert answers == ["Rome"]
    assert then in ("speaks", "runs another") or "Catch TaskFailed, not Exception" in caplog.text


async def test_so_does_an_on_enter_method() -> None:
    task = city()

    class Desk(Agent):
        instructions, tasks = "Desk.", (task,)

        async def on_enter(self, ctx: RunContext[Any]) -> None:
            try:
                found = await ctx.run_task(task)
            except Exception:
                found = "nothing"
            await ctx.say(f"To {found}.")

    async with Call(create_voice_graph([Desk(), task]), llm=ScriptedModel({"get_city": SCRIPT["get_city"]})) as phone:
        assert phone.greeting.heard == "Which city?"
        assert (await phone.says("Rome.")).heard == "To Rome."


async def test_a_sync_tool_that_runs_a_task_is_told_to_be_async() -> None:
    task, told = city(), list[str]()

    @function_tool
    def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        try:
            return f"To {ctx.run_task(task)}."
        except TurnError as error:
            told.append(str(error))
            raise

    desk = Agent("desk", instructions="Desk.", tools=[travel], tasks=[task])
    model = ScriptedModel({"desk": [call("travel"), "Sorry."]})
    await Conversation(create_voice_graph([desk, task], llm=model)).run("Go.")
    assert told == ["run_task(...) in a sync tool: nobody can wait for the task. Write `async def`."]


async def test_a_tool_call_goes_on_behind_its_task_in_one_of_two_turns_that_begin_at_once() -> None:
    """An edited state: the task has ended, and two turns of the caller find it so."""
    task, acted = city(), list[str]()

    async def body(ctx: RunContext[Any]) -> str:
        acted.append(await ctx.run_task(task))
        await asyncio.sleep(2)
        return acted[-1]

    script = {"desk": lambda m: "Yes." if len(m) > 3 else call("travel"), "get_city": ["Which city?"]}
    graph = create_voice_graph([desk_of(task, body), task], llm=ScriptedModel(script))
    conversation: Conversation[Any] = Conversation(graph)
    await conversation.run("To Rome.")
    frame = conversation.state["stack"][-1]
    done = {"done": True, "results": [{"task": "get_city", "value": "Rome"}]}
    conversation.call.state.apply({"stack": {"set": {frame["id"]: done}}, "active_agent": "desk"})
    await asyncio.gather(conversation.run("Well?"), conversation.run("Hello?"))
    assert acted == ["Rome"]
    assert next(m.text for m in conversation.messages if isinstance(m, ToolMessage)) == "Rome"
    assert conversation.state["stack"] == []
