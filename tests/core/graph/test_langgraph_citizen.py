"""A voice graph is an ordinary LangGraph graph: what LangGraph promises holds for it."""

import ast
import asyncio
import inspect
import operator
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import StateGraph
from langgraph.types import CachePolicy, Command, RetryPolicy
from pydantic import BaseModel

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    RunContext,
    VoiceState,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.launch.loading import load_graph
from graph_voice.testing import ScriptedModel, call, check_prompt, say

ROOT = Path(__file__).parents[3]
HELLO = {"messages": [("user", "hello")]}


class Caller(BaseModel):
    name: str | None = None
    age: int = 0


@function_tool(handoffs=["b"])
async def record(ctx: RunContext[Caller], name: str) -> Handoff:
    """Record the name."""
    ctx.userdata.name = name
    return ctx.handoff("b")


A = Agent("a", instructions="You are a.", tools=[record], handoffs=[Handoff("b", tool=False)])
B = Agent("b", instructions=lambda u: f"You are b, for {u.name}.", handoffs=[Handoff("a", history=history.full())])


def model(*more: Any) -> ScriptedModel:
    return ScriptedModel([say("Moment.", call("record", {"name": "Ada"})), "Hi Ada.", *more])


def config(thread: str = "1") -> Any:
    return {"configurable": {"thread_id": thread}}


async def test_ainvoke_needs_nothing_but_messages() -> None:
    llm = model()
    result = await create_voice_graph([A, B], userdata=Caller, llm=llm).compile().ainvoke(HELLO)
    assert [m.type for m in result["messages"]] == ["human", "ai", "tool", "ai"]
    assert (result["active_agent"], result["userdata"]) == ("b", Caller(name="Ada"))
    assert llm.agents == ["a", "b"]


async def test_the_active_agent_is_remembered_between_invocations_by_a_checkpointer() -> None:
    llm = model("Still b.", "A new call, so a.")
    graph = create_voice_graph([A, B], userdata=Caller, llm=llm).compile(checkpointer=InMemorySaver())
    await graph.ainvoke(HELLO, config())
    result = await graph.ainvoke({"messages": [("user", "and?")]}, config())
    assert result["messages"][-1].text == "Still b."
    assert "for Ada" in llm.prompts[-1].messages[0].text
    await graph.ainvoke(HELLO, config("2"))
    assert llm.agents == ["a", "b", "b", "a"]


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"])
async def test_every_stream_mode_works(mode: Any) -> None:
    graph = create_voice_graph([A, B], userdata=Caller, llm=model()).compile(checkpointer=InMemorySaver())
    parts = [part async for part in graph.astream(HELLO, config(), stream_mode=mode)]
    assert parts or mode == "custom"
    if mode == "messages":
        words = [m.text for m, about in parts if isinstance(m, AIMessage) and about["langgraph_node"] == "b"]
        assert words[:2] == ["Hi", " Ada."]
    assert (await graph.aget_state(config())).next == ()


async def test_time_travel_takes_another_way_from_an_earlier_state() -> None:
    llm = model("Bye.")
    graph = create_voice_graph([A, B], userdata=Caller, llm=llm).compile(checkpointer=InMemorySaver())
    await graph.ainvoke(HELLO, config())
    (past,) = [s async for s in graph.aget_state_history(config()) if s.next == ("a_tools",)]
    fork = await graph.aupdate_state(
        past.config,
        {"messages": [AIMessage("Nothing to record.", id=past.values["messages"][-1].id)]},
        as_node="a",
    )
    result = await graph.ainvoke(None, fork)
    assert [m.text for m in result["messages"]] == ["hello", "Nothing to record."]
    assert result["userdata"] == Caller()


async def test_update_state_edits_messages_userdata_and_the_floor() -> None:
    llm = ScriptedModel({"b": ["Hello Bob.", "Indeed."]})
    graph = create_voice_graph([A, B], userdata=Caller, llm=llm).compile(checkpointer=InMemorySaver())
    await graph.aupdate_state(config(), {"userdata": {"name": "Bob"}, "active_agent": "b"})
    assert (await graph.aget_state(config())).values["userdata"] == Caller(name="Bob")
    first = await graph.ainvoke(HELLO, config())
    assert "for Bob" in llm.prompts[0].messages[0].text
    edited = first["messages"][0].model_copy(update={"content": "good evening"})
    await graph.aupdate_state(config(), {"messages": [edited]}, as_node="b")
    await graph.ainvoke({"messages": [("user", "and?")]}, config())
    assert [m.text for m in llm.prompts[1].messages[1:]] == ["good evening", "Hello Bob.", "and?"]


class Counted(VoiceState[Caller]):
    visits: Annotated[int, operator.add]


@tool
def visit(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Count a visit."""
    return Command(update={"visits": 1, "messages": [ToolMessage("counted", tool_call_id=call_id)]})


async def test_the_state_may_have_channels_and_reducers_of_its_own() -> None:
    llm = ScriptedModel([say(call("visit"), call("visit")), "Twice."])
    agent = Agent("a", instructions="A.", tools=[visit])
    graph = create_voice_graph([agent], state_schema=Counted, llm=llm)
    assert "visits" in graph.compile().get_input_jsonschema()["properties"]
    conversation = Conversation(graph)
    await conversation.run("Count.")
    assert conversation.state["visits"] == 2
    assert conversation.userdata == Caller()


async def test_the_run_context_reaches_the_tools_and_is_not_stored() -> None:
    class Shop(BaseModel):
        city: str

    @function_tool
    async def where(ctx: RunContext[Any]) -> str:
        """Say where the shop is."""
        return str(ctx.context.city)

    llm = ScriptedModel([call("where"), "There."])
    agent = Agent("a", instructions="A.", tools=[where])
    graph = create_voice_graph([agent], llm=llm, context_schema=Shop).compile(checkpointer=InMemorySaver())
    result = await graph.ainvoke(HELLO, config(), context=Shop(city="Graz"))
    assert [m.text for m in result["messages"] if isinstance(m, ToolMessage)] == ["Graz"]
    assert "Graz" not in str((await graph.aget_state(config())).metadata)


@tool
def weather(city: str) -> str:
    """Look up the weather."""
    return f"Sunny in {city}."


async def test_a_create_agent_graph_is_an_agent() -> None:
    llm = ScriptedModel(
        {
            "front": [call("transfer_to_meteo")],
            "meteo": [call("weather", {"city": "Graz"}), "It is sunny in Graz.", "Tomorrow too."],
        }
    )
    meteo = create_agent(llm, [weather], system_prompt="You tell the weather.", name="meteo")
    front = Agent("front", instructions="Front.", handoffs=[Handoff("meteo", say="One moment.")])
    conversation = Conversation(create_voice_graph([front, meteo], llm=llm))
    seen = await conversation.run("What is the weather in Graz?")
    words = "".join(e.text for e in seen if isinstance(e, events.Text | events.Say))
    assert words == "One moment.It is sunny in Graz."
    assert conversation.active_agent == "meteo"
    await conversation.run("And tomorrow?")
    check_prompt(conversation.messages)
    assert conversation.messages[-1].text == "Tomorrow too."


async def test_the_subgraph_of_the_examples_runs_on_the_runs_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    graph = load_graph(str(ROOT / "graphs" / "with_subgraph.py"))
    llm = ScriptedModel(
        {
            "front_desk": ["Welcome.", call("transfer_to_stock_clerk"), "You are welcome."],
            "stock_clerk": ["We have three teapots."],
        }
    )
    conversation = Conversation(graph, config={"configurable": {"llm": llm}})
    seen: list[events.Event] = []
    for text in (None, "Do you have a teapot?", "Thanks."):
        seen += await conversation.run(text)
    words = "".join(e.text for e in seen if isinstance(e, events.Text | events.Say))
    assert words == "Welcome.Let me ask the clerk.We have three teapots.You are welcome."
    (prompt,) = [p for p in llm.prompts if p.agent == "tell"]
    assert "teapot: 3 in stock" in prompt.messages[0].text
    assert conversation.active_agent == "front_desk"
    assert not llm.errors


def routed(router: Any, **options: Any) -> tuple[StateGraph[Any, Any, Any, Any], ScriptedModel]:
    """An agent hands off to a node of the user's own, which chooses the agent; it never says a word."""
    llm = ScriptedModel({"a": [call("ask_around")], "b": ["B here."], "c": ["C here."]})
    a = Agent("a", instructions="A.", handoffs=[Handoff("router", name="ask_around")])
    others = [Agent(name, instructions=name, on_enter="Greet.") for name in "bc"]
    graph = create_voice_graph([a, *others], llm=llm)
    graph.add_node("router", router, **options)
    graph.add_conditional_edges("router", lambda state: "c" if "cash" in state["messages"][0].text else "b", ["b", "c"])
    return graph, llm


async def test_a_router_node_without_a_voice_chooses_the_agent() -> None:
    async def router(state: dict[str, Any]) -> dict[str, Any]:
        return {}

    for text, name in (("cash", "c"), ("cards", "b")):
        graph, llm = routed(router)
        conversation = Conversation(graph)
        seen = await conversation.run(text)
        assert "".join(e.text for e in seen if isinstance(e, events.Text)) == f"{name.upper()} here."
        assert (conversation.active_agent, llm.agents) == (name, ["a", name])
        assert [h["new_agent_id"] for h in conversation.handoffs] == [name]
        graph, _ = routed(router)
        result = await graph.compile().ainvoke({"messages": [("user", text)]})
        assert result["active_agent"] == name


async def test_retry_policies_and_caching_work_on_nodes_of_ones_own() -> None:
    runs: list[str] = []

    async def router(state: dict[str, Any]) -> dict[str, Any]:
        runs.append("run")
        if len(runs) == 1:
            raise ConnectionError("once")
        return {}

    again = RetryPolicy(initial_interval=0.001, jitter=False)
    cache = InMemoryCache[Any]()
    for _ in range(2):
        graph, _ = routed(
            router, retry_policy=again, cache_policy=CachePolicy(key_func=lambda state: state["messages"][0].text)
        )
        result = await graph.compile(cache=cache).ainvoke(HELLO)
        assert result["messages"][-1].text == "B here."
    assert runs == ["run", "run"]


async def test_one_graph_serves_many_conversations_at_once() -> None:
    class Front(Agent):
        instructions = "You are the front desk of {name}."

        @function_tool
        async def remember(self, ctx: RunContext[Caller], name: str) -> str:
            """Remember the name."""
            await asyncio.sleep(0)
            ctx.userdata.name = name
            return f"{self.name} noted {name}"

        async def on_enter(self, ctx: RunContext[Caller]) -> None:
            ctx.userdata.age += 1
            await ctx.say("Welcome.")

    def answer(messages: list[BaseMessage]) -> Any:
        if isinstance(messages[-1], HumanMessage):
            return call("remember", {"name": messages[-1].text}, id=f"call-{messages[-1].text}")
        return messages[-1].text

    graph = create_voice_graph([Front], userdata=Caller, llm=ScriptedModel(answer)).compile()

    async def one(name: str) -> Conversation[Caller]:
        conversation = Conversation[Caller](graph)
        await conversation.run()
        await conversation.run(name)
        return conversation

    calls = await asyncio.gather(*(one(f"n{i}") for i in range(20)))
    for index, conversation in enumerate(calls):
        assert conversation.userdata == Caller(name=f"n{index}", age=1)
        texts = [m.text for m in conversation.messages if m.text]
        assert texts == ["Welcome.", f"n{index}", f"front noted n{index}", f"front noted n{index}"]


@pytest.mark.parametrize("page", ["langgraph.md", "models.md"])
async def test_the_snippets_of_the_page_run(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(snippets) > 3
    given: dict[str, Any] = {"model": ScriptedModel(lambda messages: "Certainly."), "__name__": "page"}
    for number, snippet in enumerate(snippets):
        code = compile(snippet, f"{page}, snippet {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = eval(code, given)
        if inspect.isawaitable(made):
            await made
