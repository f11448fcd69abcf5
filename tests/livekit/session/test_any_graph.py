"""Graphs that `create_voice_graph` did not make: what they may do in a call, and what of them is spoken."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest
from graph_agent_support import Roots, a_call, a_text_call, handoffs_in_livekit, spoken, told_by_graph, voice
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from typing_extensions import TypedDict

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.drawing import to_svg
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.console.state_file import write_state

pytestmark = pytest.mark.virtual_clock


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@tool
async def weather(city: str) -> str:
    """Look up the weather of a city."""
    await asyncio.sleep(0.5)
    return f"sunny in {city}"


async def test_a_create_agent_graph_speaks_and_its_tool_results_do_not() -> None:
    model, roots = ScriptedModel([say("Let me see.", call("weather", {"city": "Oslo"})), "It is sunny."]), Roots()
    graph = create_agent(model, tools=[weather], system_prompt="You know the weather.")
    ga = GraphAgent(graph, speak=["model"], config={"callbacks": [roots]})
    async with a_call(ga) as rig:
        await rig.user_says("how is the weather in Oslo", at=0.5, preflight="how is the weather in Rome")
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["Let me see. It is sunny."]
    assert len(model.prompts) == 2  # it may act, so it did not start before the turn was certain
    assert [end["heard"] for end in roots.ended if not end["discarded"]] == ["Let me see. It is sunny."]
    assert not model.errors


async def test_the_words_of_a_router_are_never_spoken() -> None:
    router = ScriptedModel(['{"route": "billing"}', '{"route": "billing"}'])
    billing = ScriptedModel(["Your bill is paid.", "It is still paid."])

    async def route(state: State) -> dict[str, Any]:
        await router.ainvoke(state["messages"])
        return {}

    async def answer(state: State) -> dict[str, Any]:
        chunks = [chunk async for chunk in billing.astream(state["messages"])]
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        return {"messages": [AIMessage(whole.text, id=whole.id)]}

    builder = StateGraph(State)
    builder.add_node("router", route)
    builder.add_node("agent", answer)
    builder.add_edge(START, "router")
    builder.add_edge("router", "agent")
    builder.add_edge("agent", END)
    ga = GraphAgent(builder.compile(), speak=["agent"])
    async with a_call(ga) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        await rig.user_says("really")
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["Your bill is paid. It is still paid."]
    assert told_by_graph(ga)[-1] == ("assistant", "It is still paid.")
    assert not router.errors
    assert not billing.errors


async def test_a_foreign_speaker_that_is_cut_off_is_remembered_as_heard() -> None:
    story = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
    model = ScriptedModel([("story", story), ("", "Fine.")])
    ga = GraphAgent(create_agent(model, tools=[], system_prompt="Tell."), speak=["model"])
    async with a_call(ga) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.user_says("No thank you stop", at=5.0)
        await rig.until_idle()
        assert rig.spoken[0].interrupted
    assert story.startswith(told_by_graph(ga)[1][1])
    assert told_by_graph(ga)[1][1] != story
    assert not model.errors


async def test_a_subgraph_among_the_agents_is_spoken_in_its_turn() -> None:
    model = ScriptedModel({"support": [call("transfer_to_meteorologist")], "meteorologist": ["It is sunny."]})
    expert = create_agent(model, tools=[weather], system_prompt="You know the weather.", name="meteorologist")
    from graph_voice import Handoff

    graph = create_voice_graph(
        [
            Agent("support", instructions="Support.", handoffs=[Handoff("meteorologist")], voice=voice("support")),
            expert,
        ],
        llm=model,
    )
    ga = GraphAgent(graph)
    async with a_call(ga) as rig:
        await rig.user_says("the weather please", at=0.5)
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["It is sunny."]
        assert handoffs_in_livekit(rig.session) == ["meteorologist"]
    assert not model.errors


async def test_a_node_of_the_users_own_speaks_when_it_is_declared_to() -> None:
    async def disclaimer(state: dict[str, Any]) -> dict[str, Any]:
        return {"messages": [AIMessage("This is no legal advice.", id=f"disclaimer-{len(state['messages'])}")]}

    model = ScriptedModel(["You may sue.", "You may."])
    graph = create_voice_graph([Agent("lawyer", instructions="Lawyer.", voice=voice("lawyer"))], llm=model)
    graph.add_node("disclaimer", disclaimer, metadata={"speak": True, "speculative": True})
    graph.edges.remove(("lawyer", "__end__"))
    graph.add_edge("lawyer", "disclaimer")
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("may I sue", at=0.5)
        await rig.until_idle()
        await rig.user_says("really")
        await rig.until_idle()
        assert spoken(rig) == [("lawyer", "You may sue. This is no legal advice. You may. This is no legal advice.")]


async def test_in_text_a_foreign_graph_is_one_message_per_turn() -> None:
    model = ScriptedModel([call("weather", {"city": "Oslo"}), "It is sunny."])
    ga = GraphAgent(create_agent(model, tools=[weather], system_prompt="You know."), speak=["model"])
    async with a_text_call(ga) as session:
        result = await session.run(user_input="weather")
        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()


def test_a_graph_in_which_nobody_speaks_is_refused() -> None:
    with pytest.raises(BuildError, match=r"Nobody speaks in this graph.*speak=\['model'\]"):
        GraphAgent(create_agent(ScriptedModel([]), tools=[]))


def two_speakers(**options: Any) -> GraphAgent:
    builder = StateGraph(State)
    for name in ("greeter", "adviser"):
        builder.add_node(name, lambda state, name=name: {"messages": [AIMessage(f"I am the {name}.")]})
    builder.add_edge(START, "greeter").add_edge("greeter", "adviser")
    return GraphAgent(builder.compile(), speak=["adviser", "greeter"], **options)


async def test_several_speakers_are_one_agent_named_by_the_first_with_the_voice_that_it_is_given() -> None:
    ga = two_speakers(voices={"greeter": voice("warm")})
    assert ga.id == "greeter"
    async with a_call(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("warm", "I am the greeter. I am the adviser.")]
    with pytest.raises(BuildError, match="adviser"):
        two_speakers(voices={"adviser": voice("cold")})


async def test_the_files_of_a_call_can_be_written_without_agents_and_userdata(tmp_path: Path) -> None:
    ga = two_speakers()
    async with a_text_call(ga) as session:
        await session.run(user_input="hello")
    conversation = ga.conversation
    write_state(conversation, tmp_path / "state.json")
    assert "I am the greeter." in (tmp_path / "state.json").read_text()
    assert "greeter" in to_svg(conversation.graph, active=conversation.active_agent or None)


async def test_the_graphs_own_checkpointer_is_neither_read_nor_written_by_a_call() -> None:
    saver, model = InMemorySaver(), ScriptedModel(["Before.", "Hello."])
    graph = create_agent(model, tools=[], checkpointer=saver)
    thread: Any = {"configurable": {"thread_id": "call"}}
    await graph.ainvoke({"messages": [("user", "earlier")]}, thread)
    ga = GraphAgent(graph, speak=["model"], thread_id="call")
    async with a_call(ga, model) as rig:
        await rig.user_says("hi", at=0.5)
        await rig.until_idle()
    assert [m.text for m in model.prompts[-1].messages] == ["hi"]
    assert [m.text for m in (await graph.aget_state(thread)).values["messages"]] == ["earlier", "Before."]


async def test_a_subgraph_gives_the_floor_back_by_writing_who_has_it() -> None:
    """The shop: the desk hands over to a clerk that is a graph of its own, which answers and gives the floor back."""
    desk = ScriptedModel([say(call("transfer_to_clerk")), "Anything else?"])
    clerk = ScriptedModel(["There are twelve kettles."])

    class Clerk(TypedDict, total=False):
        messages: Annotated[list[AnyMessage], add_messages]
        active_agent: str

    async def tell(state: Clerk) -> dict[str, Any]:
        return {"messages": [await clerk.ainvoke(state["messages"])], "active_agent": "desk"}

    inner = StateGraph(Clerk).add_node("tell", tell).add_edge(START, "tell").add_edge("tell", END)
    graph = create_voice_graph(
        [
            Agent("desk", instructions="You are the desk.", handoffs=[Handoff("clerk")], llm=desk, voice=voice("desk")),
            inner.compile(name="clerk"),
        ]
    )
    ga = GraphAgent(graph)
    async with a_call(ga) as rig:
        await rig.user_says("do you have kettles", at=0.5)
        await rig.until_idle()
        assert ga.conversation.active_agent == "desk"
        assert rig.session.current_agent.id == "desk"
        await rig.user_says("thank you", at=rig.now + 1)
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["There are twelve kettles.", "Anything else?"]
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in ga.conversation.handoffs] == [
        ("desk", "clerk"),
        ("clerk", "desk"),
    ]
    assert not desk.errors
