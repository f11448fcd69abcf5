"""Toolsets: tools that come and go while a call runs, on both front ends."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_core.messages import AnyMessage, ToolMessage
from langchain_core.tools import StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice import Agent, Conversation, Toolset, create_voice_graph, function_tool
from graph_voice.agents.toolsets_in_use import PATIENCE
from graph_voice.checks import check_graph
from graph_voice.drawing import to_ascii
from graph_voice.errors import BuildError, MissingDependencyError
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
on_both = pytest.mark.parametrize("front_end", ["core", "livekit"])


@function_tool
async def search(words: str = "") -> str:
    """Search."""
    return f"found {words}"


@function_tool
async def book() -> str:
    """Book."""
    return "booked"


class Shop(Toolset):
    """A toolset that takes some seconds to know its tools, and says what happened to it."""

    def __init__(self, tools: Sequence[Any] = (search,), *, after: float = 0.0, fails: bool = False) -> None:
        super().__init__("shop")
        self.now: list[Any] = []
        self.later, self.after, self.fails = list(tools), after, fails
        self.log: list[str] = []

    async def setup(self) -> None:
        self.log.append("setup")
        await asyncio.sleep(self.after)
        if self.fails:
            raise RuntimeError("no shop")
        self.now = self.later

    @property
    def tools(self) -> Sequence[Any]:
        return self.now

    async def aclose(self) -> None:
        self.now = []
        self.log.append("closed")


def agent(*tools: Any, name: str = "desk", **options: Any) -> Agent:
    return Agent(name, instructions="You are the desk.", tools=tools, **options)


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


@on_both
async def test_a_toolsets_tools_are_offered_and_run(front_end: Any) -> None:
    shop = Shop()
    model = ScriptedModel([call("search", {"words": "tea"}), "Tea it is."])
    async with Call(create_voice_graph([agent(book, shop)]), llm=model, front_end=front_end) as phone:
        await phone.says("Tea, please.")
        assert (results(phone), phone.heard) == (["found tea"], ["Tea it is."])
        assert model.prompts[0].tools == ("book", "search")
    assert shop.log == ["setup", "closed"]


@on_both
async def test_tools_that_come_are_offered_with_the_next_request_and_those_that_go_are_not(front_end: Any) -> None:
    shop = Shop()
    model = ScriptedModel([call("search"), "One.", call("book"), "Two.", "Three."])
    async with Call(create_voice_graph([agent(shop)]), llm=model, front_end=front_end) as phone:
        await phone.says("First.")
        shop.now = [search, book]
        await phone.says("Second.")
        shop.now = [book]
        await phone.says("Third.")
        assert [p.tools for p in model.prompts] == [
            ("search",),
            ("search",),
            ("search", "book"),
            ("search", "book"),
            ("book",),
        ]
        assert results(phone) == ["found ", "booked"]


@on_both
async def test_a_tool_that_goes_between_the_request_and_its_call_is_unknown(front_end: Any) -> None:
    shop = Shop([search, book])

    def answers(messages: Sequence[AnyMessage]) -> Any:
        if isinstance(messages[-1], ToolMessage):
            return "Sorry."
        shop.now = [book]  # while the model answers
        return call("search")

    async with Call(create_voice_graph([agent(shop)]), llm=ScriptedModel(answers), front_end=front_end) as phone:
        await phone.says("Tea, please.")
        assert results(phone) == ["Unknown tool search. Available tools: book."]
        assert phone.heard == ["Sorry."]


@on_both
async def test_two_tool_calls_of_one_message_while_the_list_changes(front_end: Any) -> None:
    entered = asyncio.Event()

    @function_tool
    async def renew() -> str:
        """Changes the tools while the other one runs."""
        await entered.wait()
        shop.now = [book]
        return "renewed"

    @function_tool
    async def slow() -> str:
        """Runs while its toolset loses it."""
        entered.set()
        await asyncio.sleep(1)
        return "done"

    shop = Shop([renew, slow])
    model = ScriptedModel([say("", call("renew"), call("slow")), "Both."])
    async with Call(create_voice_graph([agent(shop)]), llm=model, front_end=front_end) as phone:
        await phone.says("Go.")
        assert sorted(results(phone)) == ["done", "renewed"]


@on_both
async def test_every_agent_has_a_toolset_of_the_graph_which_is_set_up_once(front_end: Any) -> None:
    shop = Shop()
    model = ScriptedModel([call("search"), "One.", call("transfer_to_bills"), "Bills.", call("search"), "Two."])
    desk, bills = agent(shop, handoffs=["bills"]), agent(name="bills")
    async with Call(create_voice_graph([desk, bills], tools=[shop]), llm=model, front_end=front_end) as phone:
        for words in ("First.", "My bill.", "Second."):
            await phone.says(words)
        assert results(phone) == ["found ", "Transferring to bills.", "found "]
    assert shop.log == ["setup", "closed"]


async def test_the_first_request_waits_for_the_first_tools_and_only_so_long(caplog: Any) -> None:
    loop = asyncio.get_running_loop()
    shop = Shop(after=2 * PATIENCE)
    model = ScriptedModel(["One.", "Two.", "Three."])
    async with Conversation(create_voice_graph([agent(shop)], llm=model)) as conversation:
        began = loop.time()
        await conversation.run("Hello.")
        assert loop.time() - began == PATIENCE
        await conversation.run("Hello?")
        assert loop.time() - began == PATIENCE  # nobody waits again
        await asyncio.sleep(2 * PATIENCE)
        await conversation.run("And now?")
    assert [prompt.tools for prompt in model.prompts] == [(), (), ("search",)]
    assert "toolset shop: no tools after 5 seconds" in caplog.text


async def test_a_caller_who_cuts_in_does_not_wait_for_a_toolset() -> None:
    loop = asyncio.get_running_loop()
    shop = Shop(after=3)
    model = ScriptedModel(["Never said.", "Hello."])
    async with Conversation(create_voice_graph([agent(shop)], llm=model)) as conversation:
        turn = conversation.turn("Hel")
        turn.commit()
        await asyncio.sleep(1)
        began = loop.time()
        turn.interrupt()
        async for _ in turn:
            pass
        assert loop.time() == began
        await conversation.run("Hello?")
        assert loop.time() - began == 2
        assert conversation.messages[-1].text == "Never said."
    assert shop.log == ["setup", "closed"]  # the waiting was canceled, the setup was not


async def test_a_known_list_is_read_without_waiting() -> None:
    """Between the caller's words and the model are as many steps as with a tool of the agent's own."""

    async def steps(*tools: Any) -> int:
        model = ScriptedModel(["One.", "Two."])
        async with Conversation(create_voice_graph([agent(*tools)], llm=model)) as conversation:
            await conversation.run("Hello.")
            count = 0
            turn = conversation.turn("Again.")
            turn.commit()
            while len(model.prompts) < 2:
                await asyncio.sleep(0)
                count += 1
            turn.close()
        return count

    assert await steps(Shop()) == await steps(search)


@on_both
async def test_a_toolset_that_fails_is_logged_once_and_the_call_goes_on(front_end: Any, caplog: Any) -> None:
    class Broken(Shop):
        @property
        def tools(self) -> Sequence[Any]:
            raise RuntimeError("no tools")

    model = ScriptedModel(["One.", "Two."])
    with caplog.at_level(logging.ERROR):
        graph = create_voice_graph([agent(Shop(fails=True), Broken())])
        async with Call(graph, llm=model, front_end=front_end) as phone:
            await phone.says("Hello.")
            await phone.says("Hello?")
            assert phone.heard == ["One.", "Two."]
    told = [r.getMessage() for r in caplog.records]
    assert told.count("toolset shop: setup() failed") == 1
    assert told.count("toolset shop: its tools can't be read") == 1


async def test_the_agents_own_tool_and_the_first_toolset_come_first(caplog: Any) -> None:
    def named(what: str) -> Any:
        @function_tool(name="search")
        async def tool() -> str:
            """Search."""
            return what

        return tool

    class Other(Shop):
        pass

    first, second = Shop([named("first"), book]), Other([named("second"), named("third")])
    model = ScriptedModel([call("search"), "Done."])
    async with Conversation(create_voice_graph([agent(first, second)], llm=model)) as conversation:
        await conversation.run("Go.")
        assert next(m.text for m in conversation.messages if isinstance(m, ToolMessage)) == "first"
    assert model.prompts[0].tools == ("search", "book")
    assert caplog.text.count("left out, since that of shop has the same name") == 1
    model = ScriptedModel([call("search"), "Done."])
    async with Conversation(create_voice_graph([agent(search, first)], llm=model)) as conversation:
        await conversation.run("Go.")
        assert next(m.text for m in conversation.messages if isinstance(m, ToolMessage)) == "found "


async def test_calls_share_a_toolset_until_the_last_one_ends() -> None:
    shop = Shop()
    graph = create_voice_graph([agent(shop)], llm=ScriptedModel(lambda _: "Hello.")).compile()
    async with Conversation(graph) as one:
        await one.run("Hello.")
        async with Conversation(graph) as other:
            await other.run("Hello.")
        assert shop.log == ["setup"]
        await one.run("Hello.")
    assert shop.log == ["setup", "closed"]
    async with Conversation(graph) as again:
        await again.run("Hello.")
    assert shop.log == ["setup", "closed", "setup", "closed"]


async def test_outside_of_a_call_a_toolset_works_too() -> None:
    shop = Shop(after=1)
    model = ScriptedModel([call("search", {"words": "tea"}), "Tea."])
    state = await create_voice_graph([agent(shop)], llm=model).compile().ainvoke({"messages": [("user", "Tea.")]})
    assert [m.text for m in state["messages"]][-2:] == ["found tea", "Tea."]


async def test_what_no_provider_takes_is_left_out_and_logged_once(caplog: Any) -> None:
    @function_tool(name="crm.search")
    async def dotted() -> str:
        """Search."""
        return ""

    shop = Shop([dotted, {"type": "web_search"}, search])
    model = ScriptedModel(["One.", "Two."])
    async with Conversation(create_voice_graph([agent(shop)], llm=model)) as conversation:
        await conversation.run("Hello.")
        await conversation.run("Hello.")
    assert [prompt.tools for prompt in model.prompts] == [("search",), ("search",)]
    assert caplog.text.count("crm.search") == 1


@on_both
@pytest.mark.parametrize("hint", ["idempotentHint", "readOnlyHint", "destructiveHint"])
async def test_after_a_crash_a_tool_runs_again_only_if_its_annotations_say_that_it_may(
    front_end: Any, hint: str
) -> None:
    ran: list[str] = []

    async def look() -> str:
        ran.append("began")
        await asyncio.sleep(5)
        ran.append("ended")
        return "looked"

    tool = StructuredTool.from_function(coroutine=look, description="Look.", metadata={hint: True})
    shop = Shop([tool], after=0.5)
    model = ScriptedModel([call("look"), "I am back.", "I am back."])
    async with Call(create_voice_graph([agent(shop)]), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        phone.during_tool("look").crash()
        await phone.says("Look.")
        await phone.resume()
        assert phone.conversation.resumed is not None
        again = hint != "destructiveHint"
        assert (phone.conversation.resumed.again == ("look",)) is again
        assert ran == (["began", "began", "ended"] if again else ["began"])


@on_both
async def test_a_result_that_comes_late_is_told(front_end: Any) -> None:
    async def look() -> str:
        await asyncio.sleep(5)
        return "looked"

    shop = Shop([StructuredTool.from_function(coroutine=look, description="Look.")])
    model = ScriptedModel([call("look"), "One moment.", "I have looked."])
    async with Call(create_voice_graph([agent(shop)]), llm=model, front_end=front_end) as phone:
        phone.during_tool("look").says("Hello?")
        await phone.says("Look.")
        await phone.silence(10)
        assert phone.heard == ["One moment.", "I have looked."]


@on_both
async def test_one_that_the_model_may_cancel_comes_with_the_tools_that_cancel_it(front_end: Any) -> None:
    ended: list[str] = []

    @function_tool(cancellable=True)
    async def fly() -> str:
        """Search for flights."""
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("canceled")
        return "found"

    model = ScriptedModel([call("fly", id="f1"), call("lk_agents_cancel_task", {"call_id": "f1"}), "Canceled."])
    async with Call(create_voice_graph([agent(Shop([fly]))]), llm=model, front_end=front_end) as phone:
        phone.during_tool("fly").says("Never mind.")
        await phone.says("Flights, please.")
        await phone.silence(1)
        assert (phone.heard, ended) == (["Canceled."], ["canceled"])
    assert model.prompts[0].tools == ("fly", "lk_agents_cancel_task", "lk_agents_get_running_tasks")


def test_an_agent_with_nothing_but_a_toolset_has_a_tools_node_and_the_toolset_is_drawn_by_its_name() -> None:
    graph = create_voice_graph([agent(Shop())]).compile()
    assert "desk_tools" in graph.nodes
    assert "shop" in to_ascii(graph, tools=True)


def test_a_check_does_not_set_it_up_and_knows_that_it_does_not_know_its_tools() -> None:
    class Missing(Shop):
        def require(self) -> None:
            raise MissingDependencyError("pip install shop")

    shop = Shop()
    desk = Agent("desk", instructions="Use the tool `search_the_shop`. Call book_a_table().", tools=[shop])
    assert check_graph(create_voice_graph([desk], llm=ScriptedModel([]))) == []
    assert shop.log == []
    (found,) = check_graph(create_voice_graph([agent(Missing())], llm=ScriptedModel([])))
    assert found.problem == "pip install shop"


async def test_what_a_toolset_lacks_is_told_where_a_turn_begins() -> None:
    class Missing(Shop):
        def require(self) -> None:
            raise MissingDependencyError("pip install shop")

    conversation = Conversation(create_voice_graph([agent(Missing())], llm=ScriptedModel([])))
    with pytest.raises(MissingDependencyError, match="pip install shop"):
        conversation.turn("Hello.")


def test_a_toolset_without_a_name_is_refused() -> None:
    class Named(Toolset):
        tools = ()

    with pytest.raises(BuildError, match="write a name"):
        Named(" ")
