"""`ctx.update` on both front ends: what the caller hears of a tool's progress, and what later prompts know of it."""

import asyncio
import logging
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt

from graph_voice import Agent, Handoff, RunContext, Task, create_voice_graph, events, function_tool
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing import Call, ScriptedModel, call, fail, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]

Step = float | str | tuple[str]


async def act(ctx: RunContext[Any], *steps: Step) -> None:
    """Go through these steps: a number of seconds, an update, a silent one in a tuple."""
    for step in steps:
        if isinstance(step, str):
            await ctx.update(step)
        elif isinstance(step, tuple):
            await ctx.update(step[0], silent=True)
        else:
            await asyncio.sleep(step)


def search(*steps: Step, name: str = "search", result: Any = "found it", **options: Any) -> Any:
    """A tool that does so."""

    @function_tool(name=name, **options)
    async def searching(ctx: RunContext[Any]) -> Any:
        """Search."""
        await act(ctx, *steps)
        return result

    return searching


def desk(*tools: Any, **options: Any) -> Any:
    return create_voice_graph([Agent("desk", instructions="Desk.", tools=list(tools), **options)])


def results(model: ScriptedModel, number: int = -1) -> list[str]:
    """The results of tool calls in one prompt."""
    return [m.text for m in model.prompts[number].messages if isinstance(m, ToolMessage)]


def told(phone: Call[Any]) -> list[str]:
    return [f"{m.type}: {m.text}" for m in phone.messages]


SEARCH = say("Let me see.", call("search"))


async def test_the_model_speaks_of_it_while_the_tool_works(front_end: Any) -> None:
    model = ScriptedModel({"desk": [SEARCH, "I am asking the airline.", "I found it."]})
    async with Call(desk(search("asking the airline", 10)), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert phone.heard[-1] == "I found it."
    assert told(phone) == [
        "human: Find it.",
        "ai: Let me see. I am asking the airline.",
        "tool: found it",
        "ai: I found it.",
    ]
    assert "`search` has updated, message: asking the airline" in results(model, 1)[0]
    assert model.prompts[1].tool_choice == "none"
    assert [m.text for m in model.prompts[2].messages[-2:]] == ["Let me see. I am asking the airline.", "found it"]


async def test_of_several_while_one_is_played_the_latest_counts(front_end: Any) -> None:
    steps = ["one", 0.1, "two", 0.1, "three", 0.1, "four", 30]
    model = ScriptedModel([SEARCH, "The first.", "The fourth.", "I found it."])
    async with Call(desk(search(*steps)), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert told(phone)[1] == "ai: Let me see. The first. The fourth."
    assert [results(model, n)[0].split("message: ")[1].split("\n")[0] for n in (1, 2)] == ["one", "four"]
    assert model.prompts[2].messages[-2].text == "Let me see. The first."


async def test_a_silent_one_is_for_the_model_alone(front_end: Any) -> None:
    model = ScriptedModel([SEARCH, "Still searching.", "I found it."])
    async with Call(desk(search(("page 3",), 20)), llm=model, front_end=front_end, check=False) as phone:
        phone.during_tool("search").says("Where are you?")
        await phone.says("Find it.")
        assert results(model, 1) == [f"{RUNNING} Its last update: page 3"]
        await phone.silence(60)
    assert phone.heard[-2:] == ["Still searching.", "I found it."]
    assert results(model) == ["found it"]


@pytest.mark.parametrize("steps", [("at it",), ("at it", 0.5, "and more")])
async def test_a_tool_that_ends_before_the_first_word_leaves_it_to_the_reply(front_end: Any, steps: Any) -> None:
    model = ScriptedModel([("", [SEARCH, "I found it."])], first_token=1.0)
    async with Call(desk(search(*steps)), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert phone.heard[-1] == "I found it."
    assert told(phone)[1:] == ["ai: Let me see.", "tool: found it", "ai: I found it."]
    assert [p.outcome for p in model.prompts if p.tool_choice == "none"] in ([], ["cancelled"])


async def test_words_that_have_begun_are_completed_before_the_result(front_end: Any) -> None:
    slow = say("I am asking the airline for you.", per_token=0.3)
    model = ScriptedModel([SEARCH, slow, "I found it."])
    async with Call(desk(search("at it", 0.7)), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert told(phone)[1:] == [
        "ai: Let me see. I am asking the airline for you.",
        "tool: found it",
        "ai: I found it.",
    ]


@pytest.mark.parametrize("after", [0, 2])
async def test_a_model_that_fails_costs_nothing_but_a_line_in_the_log(
    front_end: Any, after: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = ScriptedModel([SEARCH, fail(ValueError("no"), after_tokens=after, text="I am at"), "I found it."])
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        async with Call(desk(search("at it", 10)), llm=model, front_end=front_end) as phone:
            await phone.says("Find it.")
    assert "failed to speak about the update" in caplog.text
    assert phone.heard[-1] == "I found it."
    assert [m.text for m in phone.messages if isinstance(m, ToolMessage)] == ["found it"]


async def test_a_model_that_has_nothing_to_say_is_no_failure(front_end: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = ScriptedModel([SEARCH, "", "", "I found it."])
    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        async with Call(desk(search("at it", 10)), llm=model, front_end=front_end) as phone:
            await phone.says("Find it.")
    assert (told(phone)[1], phone.heard[-1], caplog.text) == ("ai: Let me see.", "I found it.", "")


@pytest.mark.parametrize("words", [4, 6])
async def test_a_barge_in_into_its_words(front_end: Any, words: int) -> None:
    """Nothing more is said of updates; later prompts know the latest, and the result is told when it comes."""
    line = "I am asking every airline that I know of."
    model = ScriptedModel(
        [("^find", [SEARCH, line]), ("^stop", "All right."), ("has ended", "By the way, I found it.")]
    )
    tool = search("airlines", 8, "trains", 20)
    async with Call(desk(tool), llm=model, front_end=front_end) as phone:
        phone.barge_in("Stop it now, please.", after_words=words)
        await phone.says("Find it.")
        await phone.silence(60)
        cut = phone.messages[1].text
        assert cut.startswith("Let me see. I")
        assert cut != f"Let me see. {line}"
        assert phone.heard[-2:] == ["All right.", "By the way, I found it."]
    shown = [results(model, n) for n, p in enumerate(model.prompts) if p.text == "All right."]
    assert shown[0] == [f"{RUNNING} Its last update: airlines"]
    assert len(model.prompts) == 4, "nobody is asked about the second update"


async def test_a_later_prompt_is_shown_the_update_that_came_after_the_barge_in(front_end: Any) -> None:
    model = ScriptedModel([("^find", SEARCH), ("", ["Wait.", "Still trains."]), ("has ended", "I found it.")])
    async with Call(desk(search(6, "trains", 40)), llm=model, front_end=front_end, check=False) as phone:
        phone.during_tool("search").says("Where are you?")
        await phone.says("Find it.")
        assert results(model) == [RUNNING]
        await phone.silence(20)
        await phone.says("And now?")
        assert results(model) == [f"{RUNNING} Its last update: trains"]


async def test_two_tools_share_a_request_and_each_sees_what_the_other_has(front_end: Any) -> None:
    tools = [
        search("flights", 30, name="flights", result="a flight"),
        search(0.1, "trains", 20, name="trains", result="a train"),
        search(0.01, name="buses", result="a bus"),
    ]
    asking = say("Let me see.", call("flights"), call("trains"), call("buses"))
    model = ScriptedModel([asking, "First the flights.", "Now the trains.", "Here they are."])
    async with Call(desk(*tools), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert told(phone)[1] == "ai: Let me see. First the flights. Now the trains."
    assert ["message: flights" in results(model, 1)[0], results(model, 1)[1:]] == [True, [RUNNING, RUNNING]]
    flights, trains, buses = results(model, 2)
    assert (flights, buses) == (f"{RUNNING} Its last update: flights", "a bus")
    assert "message: trains" in trains


async def test_what_the_tool_says_itself_comes_behind_the_words_about_its_update(front_end: Any) -> None:
    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        await ctx.update("asking")
        await ctx.say("Here is the first.")
        await ctx.update("more")
        await asyncio.sleep(20)
        return "all"

    model = ScriptedModel([SEARCH, say("I am asking.", first_token=1.0), "There are more.", "That is all."])
    async with Call(desk(search), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert told(phone)[1] == "ai: Let me see. I am asking. Here is the first. There are more."
    assert model.prompts[2].messages[-2].text == "Let me see. I am asking. Here is the first."


async def test_another_tools_line_that_comes_first_stands_first(front_end: Any) -> None:
    @function_tool
    async def ask(ctx: RunContext[Any]) -> str:
        """Ask."""
        await asyncio.sleep(0.2)
        await ctx.say("I ask.")
        return "asked"

    model = ScriptedModel([say(call("search"), call("ask")), say("I search.", first_token=1.5), "That is all."])
    async with Call(desk(search("at it", 20), ask), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert told(phone)[1] == "ai: I ask. I search."


@pytest.mark.parametrize("silent", [False, True])
async def test_the_filler_waits_anew_and_is_not_dropped(front_end: Any, silent: bool) -> None:
    @function_tool(filler="One moment.", filler_after=3.0)
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        await asyncio.sleep(2.5)
        await ctx.update("at it", silent=silent)
        await asyncio.sleep(20)
        return "found"

    model = ScriptedModel(
        [say(call("search")), *([say("I am at it.", first_token=2.0)] if not silent else []), "Found."]
    )
    async with Call(desk(search), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    said = "One moment." if silent else "I am at it. One moment."
    assert told(phone)[1] == f"ai: {said}"
    assert phone.heard[-1] == "Found."


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_tool_that_returns_nothing_wants_no_reply_if_words_were_said(front_end: Any, speaks: bool) -> None:
    model = ScriptedModel([say(call("search")), "I am at it." if speaks else "Found."])
    update = "at it" if speaks else ("at it",)
    async with Call(desk(search(update, 10, result=None)), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
    assert phone.heard == ["I am at it." if speaks else "Found."]
    assert model.prompts[1].tool_choice == ("none" if speaks else None)


async def test_a_handoff_behind_an_update(front_end: Any) -> None:
    @function_tool(handoffs=["billing"])
    async def search(ctx: RunContext[Any]) -> Handoff:
        """Search."""
        await act(ctx, "asking billing", 5)
        return ctx.handoff("billing")

    agents = [
        Agent("desk", instructions="Desk.", tools=[search], handoffs=["billing"]),
        Agent("billing", instructions="Billing.", on_enter="Greet."),
    ]
    model = ScriptedModel([SEARCH, "I am asking billing.", "Billing here."])
    async with Call(create_voice_graph(agents), llm=model, front_end=front_end) as phone:
        await phone.says("Find it.")
        assert phone.current_agent == "billing"
    assert told(phone)[1] == "ai: Let me see. I am asking billing."
    assert phone.heard[-1] == "Billing here."


@pytest.mark.parametrize("crash", [False, True])
async def test_behind_a_task_it_is_not_told_again(front_end: Any, crash: bool) -> None:
    city = Task("get_city", instructions="Which city?", result=str)
    runs: list[list[str]] = []

    @function_tool(tasks=[city])
    async def travel(ctx: RunContext[Any]) -> str:
        """Travel."""
        runs.append(ctx.updates)
        await act(ctx, "looking for cities", 5)
        found = await ctx.run_task(city)
        await act(ctx, f"flying to {found}", 8)
        return f"To {found}."

    graph = create_voice_graph([Agent("desk", instructions="Desk.", tools=[travel], tasks=[city]), city])

    def script(messages: list[BaseMessage]) -> Any:
        last = messages[-1].text
        if "Which city?" in messages[0].text:
            return call("complete_get_city", {"value": "Rome"}) if last == "Rome." else "Which city?"
        known = " ".join(m.text for m in messages if isinstance(m, ToolMessage))
        said = {"To Rome.": "Booked.", "message: flying": "I book the flight.", "looking": "I look for cities."}
        return next((words for key, words in said.items() if key in known), call("travel"))

    model = ScriptedModel(script)
    async with Call(graph, llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Travel.")
        assert phone.current_agent == "get_city"
        running = f"{RUNNING} Its last update: looking for cities"
        assert [m.text for m in phone.messages if isinstance(m, ToolMessage)] == [running]
        if crash:
            await phone.crash().resume()
        await phone.says("Rome.")
    assert len(runs) == 2
    assert any("message: flying to Rome" in text for n, _ in enumerate(model.prompts) for text in results(model, n))
    heard = " ".join(phone.heard)
    assert [heard.count(words) for words in ("I look for cities.", "I book the flight.", "Booked.")] == [1, 1, 1]


@pytest.mark.parametrize("idempotent", [False, True])
async def test_a_process_that_ends_while_the_tool_works(front_end: Any, idempotent: bool) -> None:
    """What was heard stays; an idempotent tool runs again, and tells it again, as it says again what it says."""

    def script(messages: list[BaseMessage]) -> Any:
        known = " ".join(m.text for m in messages if isinstance(m, ToolMessage))
        if "message: " in known:
            return "I am at it."
        return "That is all I know." if known else SEARCH

    tool = search("at it", 20, idempotent=idempotent)
    model = ScriptedModel(script)
    async with Call(desk(tool), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        phone.during_tool("search").crash()
        await phone.says("Find it.")
        await phone.resume()
        await phone.silence(60)
        assert phone.effects.count("search") == 1 + idempotent
    said = " ".join(m.text for m in phone.messages if m.type == "ai")
    assert said.count("I am at it.") == idempotent
    assert said.endswith("That is all I know.")
    result = next(m.text for m in phone.messages if isinstance(m, ToolMessage))
    assert (result == "found it") == idempotent
    assert RUNNING not in result


async def test_behind_a_question_it_is_not_told_again(front_end: Any) -> None:
    @function_tool
    async def book(ctx: RunContext[Any]) -> str:
        """Book."""
        await act(ctx, "looking", 5)
        await ctx.say("Here it is.")
        answer = interrupt("Really?")
        await act(ctx, "booking", 8)
        return f"booked: {answer}"

    model = ScriptedModel([say(call("book")), "I am looking.", "I am booking.", "It is booked."])
    async with Call(desk(book), llm=model, front_end=front_end) as phone:
        await phone.says("Book it.")
        await phone.says("Yes.")
    heard = " ".join(phone.heard)
    assert [heard.count(words) for words in ("I am looking.", "Here it is.", "Really?", "I am booking.")] == [1] * 4
    assert phone.heard[-1] == "It is booked."


async def test_the_models_list_of_running_tools_shows_it(front_end: Any) -> None:
    model = ScriptedModel([SEARCH, call("lk_agents_get_running_tasks"), "It asks.", "Found it."])
    tool = search(("asking trains",), 30, cancellable=True)
    async with Call(desk(tool), llm=model, front_end=front_end, check=False) as phone:
        phone.during_tool("search").says("What are you doing?")
        await phone.says("Find it.")
        await phone.silence(60)
    listed = [text for number in range(4) for text in results(model, number) if "call_id" in text]
    assert '"update":"asking trains"' in listed[0]


async def test_watchers_get_an_event(front_end: Any) -> None:
    model = ScriptedModel([SEARCH, "I am at it.", "Found."])
    async with Call(desk(search("at it", 5, ("page 2",), 5)), llm=model, front_end=front_end) as phone:
        seen: list[events.Event] = []
        before = phone.conversation.call.on_event

        def watch(turn: Any, event: events.Event) -> None:
            seen.append(event)
            if before is not None:
                before(turn, event)

        phone.conversation.call.on_event = watch
        await phone.says("Find it.")
    assert [e for e in seen if isinstance(e, events.ToolUpdate)] == [
        events.ToolUpdate("desk", "call_1", "search", "at it"),
        events.ToolUpdate("desk", "call_1", "search", "page 2", silent=True),
    ]
    assert "search tells: at it\n" in phone.transcript
    assert "search tells silently: page 2\n" in phone.transcript
