"""Tasks: an agent takes over the conversation for one purpose, and gives it back with a result. Each rule once, on both
front ends."""

import asyncio
import logging
import re
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from graph_voice import (
    Agent,
    Done,
    Handoff,
    RunContext,
    Task,
    TaskFailed,
    TaskGroup,
    ToolError,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]


class Email(BaseModel):
    address: str


class Draft(BaseModel):
    address: str | None = None


class Desk(BaseModel):
    slot: str = ""
    booked: str = ""
    tries: int = 0


@function_tool(on_enter=False)
async def update_email(ctx: RunContext[Desk, Draft], email: str) -> str:
    """Record the address."""
    if not re.match(r"[^@]+@[^@]+$", email):
        raise ToolError(f"Invalid email address: {email}")
    ctx.draft.address = email
    return f"Recorded {email}. Read it back."


@function_tool(available=lambda run: run.draft.address is not None)
async def confirm_email(ctx: RunContext[Desk, Draft]) -> Done:
    """The caller has confirmed the address that was read back."""
    return ctx.complete(Email(address=ctx.draft.address or ""))


def email_task(**options: Any) -> Task[Email]:
    given: dict[str, Any] = {
        "result": Email,
        "draft": Draft,
        "instructions": "Ask for the email address.",
        "tools": [update_email, confirm_email],
        "give_up": "The caller does not want to give it, or wants something else.",
    }
    return Task("get_email", **{**given, **options})


class Booking:
    """A desk that books, once it has an email address."""

    def __init__(self, **options: Any) -> None:
        self.ran: list[str] = []
        self.acted: list[str] = []
        self.get_email = email_task(**options)

        @function_tool
        async def schedule(ctx: RunContext[Desk], slot: str) -> str | None:
            """Book this slot."""
            self.ran.append("schedule")
            ctx.userdata.tries = ctx.userdata.tries + 1
            await ctx.say("One moment.")
            email = await ctx.run_task(self.get_email)
            if ctx.interrupted:
                return "not booked: the caller cut in"
            self.acted.append(f"{slot} {email.address}")
            ctx.userdata.booked = email.address
            return f"Booked {slot} for {email.address}."

        @function_tool
        async def look_up() -> str:
            """Look something up."""
            self.ran.append("look_up")
            return "It is sunny."

        self.tools = [schedule, look_up]

    def graph(self, *more: Any, **options: Any) -> Any:
        desk = Agent("desk", instructions="Desk.", tools=self.tools, tasks=[self.get_email], **options)
        return create_voice_graph([desk, self.get_email, *more], userdata=Desk)


BOOK = call("schedule", {"slot": "noon"})
GIVE = call("update_email", {"email": "ada@x.org"})
EMAIL = ["Your email?", GIVE, "ada@x.org, right?", call("confirm_email")]


def results(phone: Call[Any]) -> dict[str, str]:
    return {m.name or "": m.text for m in phone.messages if isinstance(m, ToolMessage)}


def in_livekit(phone: Call[Any]) -> dict[str, str]:
    """The results in LiveKit's history."""
    items = phone.session.history.items if hasattr(phone, "session") else []
    return {item.name: item.output for item in items if item.type == "function_call_output"}


# ---- running


async def test_a_tool_that_awaits_a_task_runs_again_from_its_start_when_the_result_is_there(front_end: Any) -> None:
    booking = Booking()
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": EMAIL})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
        assert (phone.active_agent, results(phone)) == ("get_email", {"schedule": RUNNING})
        assert phone.userdata.tries == 0, "what it has assigned is undone: it runs again"
        await phone.says("ada at x dot org")
        assert phone.active_agent == "get_email"
        await phone.says("Yes.")
        assert phone.active_agent == "desk"
        assert phone.heard == ["One moment.", "Your email?", "ada@x.org, right?", "All booked."]
        assert (phone.userdata.tries, phone.userdata.booked) == (1, "ada@x.org")
        assert results(phone)["schedule"] == "Booked noon for ada@x.org."
    assert (booking.ran, booking.acted) == (["schedule", "schedule"], ["noon ada@x.org"])
    assert not model.errors


async def test_the_task_has_its_own_prompt_and_tools_and_what_is_not_available_is_not_there(front_end: Any) -> None:
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": EMAIL})
    async with Call(Booking().graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        for words in ("Book noon, please.", "ada at x dot org", "Yes."):
            await phone.says(words)
    tools = [sorted(prompt.tools) for prompt in model.prompts]
    assert tools == [
        ["look_up", "schedule"],
        ["give_up"],
        ["give_up", "update_email"],
        ["confirm_email", "give_up", "update_email"],
        ["confirm_email", "give_up", "update_email"],
        ["look_up", "schedule"],
    ]
    assert "Book noon, please." not in model.prompts[1].text


async def test_plain_calls_of_the_batch_are_answered_at_once_and_a_second_task_waits_its_turn(front_end: Any) -> None:
    booking = Booking()
    both = say(BOOK, call("look_up"), call("schedule", {"slot": "one"}))
    model = ScriptedModel(
        {"desk": [both, "Both booked."], "get_email": [*EMAIL, "And for one?", GIVE, "Right?", EMAIL[3]]}
    )
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon and one, and the weather.")
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)] == [RUNNING, "It is sunny.", RUNNING]
        await phone.says("ada at x dot org")
        await phone.says("Yes.")
        assert phone.active_agent == "get_email"
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)][:3] == [
            "Booked noon for ada@x.org.",
            "It is sunny.",
            RUNNING,
        ]
        await phone.says("The same.")
        await phone.says("Yes.")
        assert phone.active_agent == "desk"
        assert phone.heard[-1] == "Both booked."
    assert booking.acted == ["noon ada@x.org", "one ada@x.org"]
    assert booking.ran.count("look_up") == 1
    assert not model.errors


@pytest.mark.parametrize("order", [0, 1])
async def test_the_first_of_a_task_and_a_handoff_in_one_batch_wins(front_end: Any, order: int) -> None:
    booking = Booking()
    calls = [BOOK, call("transfer_to_sales")]
    asked = say(*(calls if order == 0 else reversed(calls)))
    model = ScriptedModel({"desk": [asked, "Desk."], "get_email": ["Your email?"], "sales": ["Sales here."]})
    graph = booking.graph(Agent("sales", instructions="Sales."), handoffs=[Handoff("sales")])
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, and sales.")
        found = results(phone)
        if order == 0:
            assert phone.active_agent == "get_email"
            assert found == {"schedule": RUNNING, "transfer_to_sales": "not done: get_email has taken over."}
        else:
            assert phone.active_agent == "sales"
            assert found["schedule"] == "not done: the caller is being transferred to sales."
    assert booking.acted == []


async def test_other_calls_of_the_completing_batch_run_and_the_tasks_model_is_not_asked_again(
    front_end: Any,
) -> None:
    noted: list[str] = []

    @function_tool
    async def note(text: str) -> str:
        """Note."""
        noted.append(text)
        return "noted"

    booking = Booking(tools=[update_email, confirm_email, note])
    script = [*EMAIL[:3], say(call("confirm_email"), call("note", {"text": "nice"}))]
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": script})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        for words in ("Book noon, please.", "ada at x dot org", "Yes."):
            await phone.says(words)
        assert phone.heard[-1] == "All booked."
        assert results(phone)["note"] == "noted"
    assert (noted, booking.acted) == (["nice"], ["noon ada@x.org"])


async def test_a_result_that_does_not_fit_is_told_to_the_tasks_model_and_the_task_goes_on(front_end: Any) -> None:
    get_city = Task("get_city", result=int, instructions="How many?")
    seen: list[int] = []

    @function_tool
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        seen.append(await ctx.run_task(get_city))
        return f"{seen[-1]} seats"

    desk = Agent("desk", instructions="Desk.", tools=[travel], tasks=[get_city])
    script = [
        "How many?",
        call("complete_get_city", {"value": "some"}),
        "A number?",
        call("complete_get_city", {"value": 3}),
    ]
    model = ScriptedModel({"desk": [call("travel"), "Three seats."], "get_city": script})
    async with Call(create_voice_graph([desk, get_city]), llm=model, front_end=front_end) as phone:
        await phone.says("Seats.")
        await phone.says("Some.")
        assert phone.active_agent == "get_city"
        await phone.says("Three.")
        assert phone.heard[-1] == "Three seats."
    assert seen == [3]


async def test_tasks_nest(front_end: Any) -> None:
    get_city = Task("get_city", result=str, instructions="Which city?")

    @function_tool
    async def ask_city(ctx: RunContext[Any]) -> Done:
        """Ask."""
        return ctx.complete({"city": await ctx.run_task(get_city)})

    get_address = Task(
        "get_address", result=dict[str, str], instructions="Address?", tools=[ask_city], tasks=[get_city]
    )

    @function_tool
    async def send(ctx: RunContext[Any]) -> str:
        """Send."""
        found = await ctx.run_task(get_address)
        return f"Sent to {found['city']}."

    desk = Agent("desk", instructions="Desk.", tools=[send], tasks=[get_address])
    model = ScriptedModel(
        {
            "desk": [call("send"), "It is on its way."],
            "get_address": [call("ask_city")],
            "get_city": ["Which city?", call("complete_get_city", {"value": "Rome"})],
        }
    )
    async with Call(create_voice_graph([desk, get_address, get_city]), llm=model, front_end=front_end) as phone:
        await phone.says("Send it.")
        assert phone.active_agent == "get_city"
        assert [frame["task"] for frame in phone.state["stack"]] == ["get_address", "get_city"]
        await phone.says("Rome.")
        assert phone.active_agent == "desk"
        assert phone.heard == ["Which city?", "It is on its way."]
        assert results(phone)["send"] == "Sent to Rome."
        assert phone.state["stack"] == []


async def test_a_task_can_not_be_run_in_itself(front_end: Any) -> None:
    tasks: list[Any] = []

    @function_tool
    async def again(ctx: RunContext[Any]) -> str | Done:
        """Again."""
        return str(await ctx.run_task(tasks[0]))

    @function_tool
    async def begin(ctx: RunContext[Any]) -> str:
        """Begin."""
        return str(await ctx.run_task(tasks[0]))

    class Loop(Task[str]):
        instructions = "Loop."
        tools = (again,)

        def _declared_tasks(self) -> dict[str, Any]:
            return {"loop": self}

    tasks.append(Loop("loop"))
    desk = Agent("desk", instructions="Desk.", tools=[begin], tasks=tasks)
    model = ScriptedModel({"desk": [call("begin")], "loop": [call("again"), "Well."]})
    async with Call(create_voice_graph([desk, *tasks]), llm=model, front_end=front_end) as phone:
        await phone.says("Go.")
        assert results(phone)["again"] == "not done: the task loop can't be run within itself."


async def test_at_most_eight_tasks_begin_before_the_caller_speaks_again(front_end: Any) -> None:
    task = Task("quick", result=str, instructions="Quick.")

    @function_tool
    async def loop(ctx: RunContext[Any]) -> str:
        """Loop."""
        for _ in range(20):
            await ctx.run_task(task)
        return "all of them"

    desk = Agent("desk", instructions="Desk.", tools=[loop], tasks=[task])
    model = ScriptedModel(
        {"desk": [call("loop"), "That is enough."], "quick": lambda m: call("complete_quick", {"value": "x"})}
    )
    async with Call(create_voice_graph([desk, task]), llm=model, front_end=front_end) as phone:
        await phone.says("Go.")
        assert phone.active_agent == "desk"
        assert results(phone)["loop"].startswith("not done: too many tasks were begun")
        assert phone.heard == ["That is enough."]
    assert sum(isinstance(e, events.HandedOff) and e.task == "begin" for e in phone.result.events) == 8


# ---- context


async def test_history_says_what_the_task_is_shown_and_returns_what_the_caller_of_it_is(front_end: Any) -> None:
    booking = Booking(history=history.full(), returns=history.exclude_tool_calls() | history.truncate(max_items=1))
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": EMAIL})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        for words in ("Book noon, please.", "ada at x dot org", "Yes."):
            await phone.says(words)
        shown = [(type(m), m.text) for m in model.prompts[-1].messages[1:]]
        assert shown[:3] == [
            (HumanMessage, "Book noon, please."),
            (AIMessage, "One moment."),
            (ToolMessage, "Booked noon for ada@x.org."),
        ]
        assert [text for _, text in shown[3:]] == ["Yes."]
        first = [(type(m), m.text) for m in model.prompts[1].messages[1:4]]
        assert first == [(HumanMessage, "Book noon, please."), (AIMessage, "One moment."), (ToolMessage, RUNNING)]
        assert "ada@x.org, right?" in [m.text for m in phone.messages], "all of it is remembered"


async def test_the_hooks_of_the_parent_do_not_run_for_a_task_and_those_of_the_task_do(front_end: Any) -> None:
    hooks: list[str] = []

    async def enter(ctx: RunContext[Any]) -> None:
        hooks.append(f"{ctx.agent} enters")
        await ctx.say(f"{ctx.agent} here.")

    async def leave(ctx: RunContext[Any]) -> None:
        hooks.append(f"{ctx.agent} leaves")

    booking = Booking(on_enter=enter, on_exit=leave)
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": [GIVE, "Right?", call("confirm_email")]})
    graph = booking.graph(on_enter=enter, on_exit=leave)
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
        await phone.says("ada at x dot org")
        await phone.says("Yes.")
        assert hooks == ["desk enters", "get_email enters", "get_email leaves"]
    assert hooks[-1] == "desk leaves"


# ---- ends


@pytest.mark.parametrize("caught", [False, True])
async def test_a_task_is_given_up_and_the_parent_answers_in_the_same_turn(front_end: Any, caught: bool) -> None:
    get_email = email_task()

    @function_tool
    async def schedule(ctx: RunContext[Desk]) -> str:
        """Book."""
        try:
            await ctx.run_task(get_email)
        except TaskFailed as error:
            if not caught:
                raise
            return f"booked without: {error.reason}"
        return "booked"

    desk = Agent("desk", instructions="Desk.", tools=[schedule], tasks=[get_email])
    model = ScriptedModel(
        {
            "desk": [call("schedule"), "Never mind, then."],
            "get_email": ["Your email?", call("give_up", {"reason": "private"})],
        }
    )
    graph = create_voice_graph([desk, get_email], userdata=Desk)
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book.")
        await phone.says("I won't tell you.")
        assert phone.active_agent == "desk"
        assert phone.heard == ["Your email?", "Never mind, then."]
        assert results(phone)["schedule"] == ("booked without: private" if caught else "private")


async def test_update_agent_away_from_a_task_abandons_it(front_end: Any) -> None:
    booking = Booking()
    model = ScriptedModel({"desk": [BOOK, "Desk."], "get_email": ["Your email?"], "sales": ["Sales here.", "Sales."]})
    with pytest.warns(UserWarning, match="can't be reached"):
        graph = booking.graph(Agent("sales", instructions="Sales."))
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
        await phone.update_agent("sales")
        assert phone.active_agent == "sales"
        assert results(phone)["schedule"] == "not done: the task was abandoned."
        assert phone.state["stack"] == []
        await phone.says("Hello?")
        assert phone.heard[-1] == "Sales."
    assert booking.acted == []


async def test_a_handoff_out_of_a_task_abandons_it(front_end: Any) -> None:
    booking = Booking(handoffs=[Handoff("sales")])
    script = ["Your email?", call("transfer_to_sales")]
    model = ScriptedModel({"desk": [BOOK], "get_email": script, "sales": ["Sales here.", "Sales."]})
    graph = booking.graph(Agent("sales", instructions="Sales."))
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
        await phone.says("Sales, please.")
        assert phone.active_agent == "sales"
        assert results(phone)["schedule"] == "not done: the task was abandoned."
        assert phone.state["stack"] == []
        await phone.says("Hello?")
        assert phone.heard[-1] == "Sales."
    assert booking.acted == []


async def test_the_call_ends_in_a_task(front_end: Any) -> None:
    booking = Booking()
    model = ScriptedModel({"desk": [BOOK], "get_email": ["Your email?"]})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
    assert results(phone)["schedule"] == "not done: the task was abandoned."
    assert booking.acted == []


async def test_the_caller_cuts_in_while_the_completing_words_are_said_and_the_task_goes_on(
    front_end: Any, caplog: pytest.LogCaptureFixture
) -> None:
    booking = Booking()
    thanks = say("Thank you very much, I have written it all down for you.", call("confirm_email"))
    script = [*EMAIL[:3], thanks, "Sorry, what was it?", call("confirm_email")]
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": script})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book noon, please.")
        await phone.says("ada at x dot org")
        phone.barge_in("Wait.", after_words=3)
        await phone.says("Yes.")
        assert phone.active_agent == "get_email"
        assert phone.heard[-1] == "Sorry, what was it?"
        assert phone.state["stack"][-1]["draft"] == {"address": "ada@x.org"}
        assert booking.acted == []
        await phone.says("Yes, it is right.")
        assert phone.heard[-1] == "All booked."
    assert booking.acted == ["noon ada@x.org"]
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


# ---- durability


async def test_a_process_that_ends_inside_a_task_loses_nothing(front_end: Any) -> None:
    booking = Booking()
    model = ScriptedModel({"desk": [BOOK, "All booked."], "get_email": [*EMAIL[:3], "Hello again. Right?", EMAIL[3]]})
    async with Call(booking.graph(), llm=model, userdata=Desk(), front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Book noon, please.")
        await phone.says("ada at x dot org")
        await phone.crash().resume()
        assert phone.active_agent == "get_email"
        assert results(phone)["schedule"] == RUNNING
        assert phone.state["stack"][-1]["draft"] == {"address": "ada@x.org"}
        if phone.heard[-1] != "Hello again. Right?":
            await phone.says("Hello?")
        await phone.says("Yes.")
        assert phone.active_agent == "desk"
        assert results(phone)["schedule"] == "Booked noon for ada@x.org."
    assert booking.acted == ["noon ada@x.org"]


# ---- other ways to run one


async def test_needs_runs_the_task_before_the_tool_which_runs_once(front_end: Any) -> None:
    ran: list[str] = []
    get_email = email_task()

    @function_tool(needs={"email": get_email})
    async def book(ctx: RunContext[Desk], slot: str, email: Email) -> str:
        """Book."""
        ran.append(f"{slot} {email.address}")
        return "Booked."

    desk = Agent("desk", instructions="Desk.", tools=[book])
    model = ScriptedModel({"desk": [call("book", {"slot": "noon"}), "All booked."], "get_email": EMAIL})
    graph = create_voice_graph([desk, get_email], userdata=Desk)
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        for words in ("Book noon, please.", "ada at x dot org", "Yes."):
            await phone.says(words)
        assert phone.heard[-1] == "All booked."
    assert ran == ["noon ada@x.org"]
    assert list(desk.own_tools[0].tool_call_schema.model_json_schema()["properties"]) == ["slot"]  # type: ignore[union-attr]


async def test_a_task_is_a_tool_of_an_agent_and_its_model_reads_the_result(front_end: Any) -> None:
    get_email = email_task(description="Ask the caller for their email address.")
    desk = Agent("desk", instructions="Desk.", tools=[get_email])
    model = ScriptedModel({"desk": [call("get_email"), "Thank you."], "get_email": EMAIL})
    graph = create_voice_graph([desk, get_email], userdata=Desk)
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        for words in ("My email.", "ada at x dot org", "Yes."):
            await phone.says(words)
        assert phone.heard[-1] == "Thank you."
        assert results(phone)["get_email"] == '{"address":"ada@x.org"}'


async def test_on_enter_may_run_tasks(front_end: Any) -> None:
    get_city = Task("get_city", result=str, instructions="Which city?")

    async def enter(ctx: RunContext[Any]) -> None:
        await ctx.say("Welcome.")
        ctx.userdata["city"] = await ctx.run_task(get_city)
        await ctx.say(f"{ctx.userdata['city']}, then.")

    desk = Agent("desk", instructions="Desk.", on_enter=enter, tasks=[get_city])
    model = ScriptedModel(
        {"desk": ["Desk."], "get_city": ["Which city?", call("complete_get_city", {"value": "Rome"})]}
    )
    async with Call(create_voice_graph([desk, get_city]), llm=model, userdata={}, front_end=front_end) as phone:
        await phone.silence(3)
        assert phone.active_agent == "get_city"
        await phone.says("Rome.")
        assert phone.heard == ["Welcome.", "Which city?", "Rome, then."]
        assert phone.userdata == {"city": "Rome"}
        assert phone.active_agent == "desk"
        await phone.says("Hello?")
        assert phone.heard[-1] == "Desk."


async def test_a_task_may_be_the_whole_call(front_end: Any) -> None:
    get_city = Task("get_city", result=str, instructions="Which city?")
    model = ScriptedModel({"get_city": ["Which city?", say("Thanks.", call("complete_get_city", {"value": "Rome"}))]})
    async with Call(create_voice_graph([get_city]), llm=model, front_end=front_end) as phone:
        await phone.says("Hello.")
        assert phone.conversation.result is None
        await phone.says("Rome.")
        assert phone.heard == ["Which city?", "Thanks."]
        assert phone.conversation.result == "Rome"


# ---- groups


class Intake:
    """A desk that asks for a name, a city and a color."""

    def __init__(self, **options: Any) -> None:
        self.steps: list[tuple[str, Any]] = []
        names = {"get_name": "the name", "get_city": "the city", "get_color": "the color"}
        tasks = [Task(name, instructions=f"Ask for {what}.", description=what) for name, what in names.items()]
        group: TaskGroup[Any] = TaskGroup("intake", tasks, on_step=self._told, **options)
        self.found: list[Any] = []

        @function_tool(tasks=[group])
        async def register(ctx: RunContext[Any]) -> str:
            """Register the caller."""
            self.found.append(await ctx.run_task(group))
            return f"Registered {self.found[-1]}."

        desk = Agent("desk", instructions="Desk.", tools=[register])
        self.graph = create_voice_graph([desk, group])

    async def _told(self, ctx: RunContext[Any], step: str, value: Any) -> None:
        self.steps.append((step, value))


def record(step: str, value: str) -> Any:
    return call(f"complete_{step}", {"value": value})


async def test_a_group_runs_its_steps_in_order_and_each_is_shown_what_was_said_in_it(front_end: Any) -> None:
    intake = Intake()
    model = ScriptedModel(
        {
            "desk": [call("register"), "You are in."],
            "get_name": ["Your name?", record("get_name", "Ada")],
            "get_city": ["Your city?", record("get_city", "Rome")],
            "get_color": ["Your color?", record("get_color", "red")],
        }
    )
    async with Call(intake.graph, llm=model, front_end=front_end) as phone:
        for words in ("Register me.", "Ada.", "Rome.", "Red."):
            await phone.says(words)
        assert phone.heard == ["Your name?", "Your city?", "Your color?", "You are in."]
        assert phone.active_agent == "desk"
        color = next(p for p in model.prompts if "complete_get_color" in p.tools)
        assert [m.text for m in color.messages[1:] if m.type != "tool"][1:5] == ["Your name?", "Ada.", "", "Your city?"]
        assert "Register me." not in color.text
        last = model.prompts[-1]
        assert [m.text for m in last.messages[1:]] == [
            "Register me.",
            "",
            "Registered {'get_name': 'Ada', 'get_city': 'Rome', 'get_color': 'red'}.",
            *("Your name?", "Ada.", "Your city?", "Rome.", "Your color?", "Red."),
        ], "and of the group's talk what `returns` keeps, once"
    assert intake.found == [{"get_name": "Ada", "get_city": "Rome", "get_color": "red"}]
    assert intake.steps == [("get_name", "Ada"), ("get_city", "Rome"), ("get_color", "red")]
    assert not model.errors


async def test_the_caller_goes_back_to_earlier_steps_and_then_the_current_one_goes_on(front_end: Any) -> None:
    intake = Intake()
    model = ScriptedModel(
        {
            "desk": [call("register"), "You are in."],
            "get_name": ["Your name?", record("get_name", "Ada"), "So, your name?", record("get_name", "Bea")],
            "get_city": ["Your city?", record("get_city", "Rome"), "And the city?", record("get_city", "Oslo")],
            "get_color": [
                "Your color?",
                call("go_back", {"steps": ["nothing"]}),
                call("go_back", {"steps": ["get_city", "get_name"]}),
                "Now the color?",
                record("get_color", "red"),
            ],
        }
    )
    async with Call(intake.graph, llm=model, front_end=front_end) as phone:
        for words in ("Register me.", "Ada.", "Rome.", "No, city and name are wrong.", "Oslo.", "Bea.", "Red."):
            await phone.says(words)
        assert phone.heard == [
            *("Your name?", "Your city?", "Your color?", "And the city?", "So, your name?", "Now the color?"),
            "You are in.",
        ]
    assert intake.found == [{"get_name": "Bea", "get_city": "Oslo", "get_color": "red"}]
    assert [step for step, _ in intake.steps] == ["get_name", "get_city", "get_city", "get_name", "get_color"]
    first = next(p for p in model.prompts if "complete_get_name" in p.tools)
    assert "go_back" not in first.tools, "there is nothing to go back to"


@pytest.mark.parametrize("on_failure", ["raise", "keep"])
async def test_a_step_of_a_group_is_given_up(front_end: Any, on_failure: Any) -> None:
    steps = [
        Task("get_name", instructions="Name.", give_up="The caller does not want to."),
        Task("get_city", instructions="City."),
    ]
    group = TaskGroup("intake", steps, on_failure=on_failure)
    found: list[Any] = []

    @function_tool(tasks=[group])
    async def register(ctx: RunContext[Any]) -> str:
        """Register the caller."""
        found.append(await ctx.run_task(group))
        return "Registered."

    graph = create_voice_graph([Agent("desk", instructions="Desk.", tools=[register]), group])
    model = ScriptedModel(
        {
            "desk": [call("register"), "Well."],
            "get_name": ["Your name?", call("give_up", {"reason": "private"})],
            "get_city": ["Your city?", record("get_city", "Rome")],
        }
    )
    async with Call(graph, llm=model, front_end=front_end) as phone:
        await phone.says("Register me.")
        await phone.says("I'd rather not.")
        if on_failure == "raise":
            assert (phone.active_agent, results(phone)["register"], found) == ("desk", "private", [])
        else:
            await phone.says("Rome.")
            assert isinstance(found[0]["get_name"], TaskFailed)
            assert found[0]["get_city"] == "Rome"
        assert phone.heard[-1] == "Well."


async def test_the_caller_cuts_in_while_the_waiting_call_goes_on_and_it_acts_once(front_end: Any) -> None:
    get_email, acted = email_task(), list[str]()

    @function_tool
    async def schedule(ctx: RunContext[Desk]) -> str:
        """Book."""
        email = await ctx.run_task(get_email)
        await asyncio.sleep(4)
        acted.append(email.address)
        return "booked"

    desk = Agent("desk", instructions="Desk.", tools=[schedule], tasks=[get_email])
    script = [call("schedule"), "I am listening.", "By the way, it is booked."]
    model = ScriptedModel({"desk": script, "get_email": EMAIL})
    graph = create_voice_graph([desk, get_email], userdata=Desk)
    async with Call(graph, llm=model, userdata=Desk(), front_end=front_end) as phone:
        await phone.says("Book.")
        await phone.says("ada at x dot org")
        phone.during_tool("schedule").says("Are you there?")
        await phone.says("Yes.")
        await phone.silence(10)
        assert "I am listening." in phone.heard
        assert results(phone)["schedule"] == "booked"
        assert phone.state["stack"] == []
    assert acted == ["ada@x.org"]
