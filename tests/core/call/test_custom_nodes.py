"""Graphs and nodes that are not ours: who speaks, what is remembered, when they may start."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.channels import DeltaChannel, EphemeralValue, Topic, UntrackedValue
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Overwrite
from turn_support import play, rest, told, until
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, Handoff, VoiceState, create_voice_graph, events
from graph_voice.errors import BuildError
from graph_voice.graph.state import merge_messages
from graph_voice.testing import ScriptedModel, call, hang, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock


def words(seen: list[events.Event]) -> str:
    return "".join(e.text for e in seen if isinstance(e, events.Text | events.Say))


def chain(schema: Any, *nodes: tuple[str, Any], speak: list[str], **options: Any) -> Conversation[Any]:
    builder = StateGraph(schema)
    last: Any = START
    for name, node in nodes:
        builder.add_node(name, node)
        builder.add_edge(last, name)
        last = name
    return Conversation(builder.compile(), speak=speak, **options)


async def test_only_the_nodes_that_speak_are_heard_and_remembered() -> None:
    model = ScriptedModel(["route: b", "Hello there."])

    async def router(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def speaker(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([HumanMessage("say hello")])]}

    conversation = chain(MessagesState, ("router", router), ("speaker", speaker), speak=["speaker"])
    seen = await conversation.run("hi")
    assert words(seen) == "Hello there."
    assert told(conversation) == ["human: hi", "ai: Hello there."]
    check_invariants(conversation, heard=["Hello there."])


async def test_of_a_silent_node_that_calls_tools_the_calls_are_remembered_and_not_the_words() -> None:
    model = ScriptedModel([say("I had better look.", call("stock", {"item": "pen"})), "Three."])
    conversation = chain(
        MessagesState,
        ("planner", create_step(model)),
        ("tools", run_stock),
        ("answer", create_step(model)),
        speak=["answer"],
    )
    assert words(await conversation.run("hi")) == "Three."
    assert told(conversation) == ["human: hi", "ai:  +call_1", "tool: 3 left", "ai: Three."]
    check_invariants(conversation, heard=["Three."])


async def test_a_message_that_a_node_words_anew_is_spoken_once() -> None:
    model = ScriptedModel(["Hello there."])

    async def speaker(state: MessagesState) -> dict[str, Any]:
        made = await model.ainvoke(state["messages"])
        return {"messages": [AIMessage(made.text)]}

    conversation = chain(MessagesState, ("speaker", speaker), speak=["speaker"])
    assert words(await conversation.run("hi")) == "Hello there."
    assert told(conversation) == ["human: hi", "ai: Hello there."]


async def test_a_message_without_a_model_is_spoken_too() -> None:
    conversation = chain(
        MessagesState, ("speaker", lambda state: {"messages": [AIMessage("Fixed.")]}), speak=["speaker"]
    )
    turn = conversation.turn("hi")
    turn.commit()
    event = await until(turn, events.Text)
    await rest(turn)
    turn.heard(event.message_id, "Fix")
    turn.close()
    assert told(conversation) == ["human: hi", "ai: Fix"]


async def test_a_foreign_graph_starts_at_commit_unless_its_nodes_are_free_of_effects() -> None:
    ran: list[str] = []

    def node(state: Any) -> dict[str, Any]:
        ran.append(state["messages"][-1].text)
        return {"messages": [AIMessage("Hello.")]}

    conversation = chain(MessagesState, ("node", node), speak=["node"])
    turn = conversation.turn("hel")
    await asyncio.sleep(5)
    assert ran == []
    turn.commit("hello")
    await play(turn)
    assert ran == ["hello"]

    builder = StateGraph(MessagesState)
    builder.add_node("node", node, metadata={"speak": True, "speculative": True})
    builder.add_edge(START, "node")
    eager: Conversation[Any] = Conversation(builder.compile())
    turn = eager.turn("perhaps")
    await rest(turn)
    turn.discard()
    assert (ran, eager.messages) == (["hello", "perhaps"], [])


async def test_a_node_of_the_users_own_delays_a_voice_graph_until_the_commit() -> None:
    model = ScriptedModel(["Hello."])
    builder = create_voice_graph([Agent("a", instructions="A")], llm=model)
    builder.add_node("log", lambda state: {})
    builder.add_edge("a", "log")
    conversation: Conversation[Any] = Conversation(builder)
    turn = conversation.turn("hi")
    await asyncio.sleep(5)
    assert model.prompts == []
    assert words(await play(turn)) == "Hello."


class Counter(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]
    count: Annotated[int, operator.add]
    last: str
    topic: Annotated[list[str], Topic(str, accumulate=True)]
    flash: Annotated[str, EphemeralValue]
    loose: Annotated[Any, UntrackedValue]
    delta: Annotated[list[AnyMessage], DeltaChannel(lambda state, writes: [*state, *(w for ws in writes for w in ws)])]


async def test_writes_of_other_channels_go_through_their_own_reducers() -> None:
    found: list[dict[str, Any]] = []

    def node(state: Any) -> dict[str, Any]:
        found.append(dict(state))
        text = state["messages"][-1].text
        return {
            "messages": [AIMessage(f"Yes {text}.")],
            "log": [text],
            "count": 2,
            "last": text,
            "topic": [text],
            "flash": text,
            "loose": object(),
            "delta": [text],
        }

    conversation = chain(Counter, ("node", node), speak=["node"])
    for text in ("a", "b", "c"):
        await conversation.run(text)
    lost = conversation.turn("lost")
    lost.discard()
    state = conversation.state
    assert (state["log"], state["count"], state["last"]) == (["a", "b", "c"], 6, "c")
    assert (list(state["topic"]), list(state["delta"])) == (["a", "b", "c"], ["a", "b", "c"])
    assert "flash" not in state
    assert "loose" not in state
    assert (found[2]["log"], found[2]["count"], found[2]["delta"]) == (["a", "b"], 4, ["a", "b"])
    assert found[2].get("flash") is None


async def test_overlapping_turns_write_in_the_order_in_which_it_happened() -> None:
    async def node(state: Any) -> dict[str, Any]:
        text = state["messages"][-1].text
        await asyncio.sleep(float(text))
        return {"messages": [AIMessage("Yes.")], "log": [text], "last": text}

    conversation = chain(Counter, ("node", node), speak=["node"])
    slow, quick = conversation.turn("5"), conversation.turn("1")
    await asyncio.gather(play(slow), play(quick))
    assert (conversation.state["log"], conversation.state["last"]) == (["1", "5"], "5")


async def test_overwrite_and_removal_are_remembered() -> None:
    replies: list[Any] = [
        [AIMessage("One.", id="one")],
        [AIMessage("Two.", id="two"), RemoveMessage(id="one")],
        Overwrite([AIMessage("Three.", id="three")]),
    ]

    class State(TypedDict):
        messages: Annotated[list[AnyMessage], merge_messages]
        log: Annotated[list[str], operator.add]

    def node(state: Any) -> dict[str, Any]:
        return {"messages": replies.pop(0), "log": Overwrite([state["messages"][-1].text])}

    conversation = chain(State, ("node", node), speak=["node"])
    await conversation.run("a")
    await conversation.run("b")
    assert told(conversation) == ["human: a", "human: b", "ai: Two."]
    assert conversation.state["log"] == ["b"]


async def test_an_edit_of_an_old_message_is_remembered_in_its_place() -> None:
    def node(state: Any) -> dict[str, Any]:
        first = state["messages"][0]
        return {"messages": [HumanMessage("(number removed)", id=first.id), AIMessage("Thanks.")]}

    conversation = chain(MessagesState, ("node", node), speak=["node"])
    await conversation.run("my card is 1234")
    assert told(conversation) == ["human: (number removed)", "ai: Thanks."]


async def test_removing_a_result_takes_its_call_along() -> None:
    def node(state: Any) -> dict[str, Any]:
        return {"messages": [RemoveMessage(id="r"), AIMessage("Done.")]}

    before = [
        HumanMessage("hi"),
        AIMessage("Let me see.", tool_calls=[{"id": "c", "name": "f", "args": {}}]),
        ToolMessage("x", tool_call_id="c", id="r"),
    ]
    conversation = chain(MessagesState, ("node", node), speak=["node"], messages=before)
    await conversation.run("go on")
    check_invariants(conversation)
    assert told(conversation) == ["human: hi", "ai: Let me see.", "human: go on", "ai: Done."]


@tool
async def stock(item: str) -> str:
    """Look up the stock."""
    await asyncio.sleep(2)
    return "3 left"


def desk(model: ScriptedModel, *tools: Any) -> Conversation[Any]:
    """An agent of ours that hands over to a `create_agent` graph."""
    front = Agent("front", instructions="F", handoffs=[Handoff("desk")])
    member = create_agent(model, [stock, *tools], name="desk")
    return Conversation(create_voice_graph([front, member], llm=model))


async def test_a_create_agent_member_speaks_and_its_tools_do_not() -> None:
    model = ScriptedModel(
        {
            "front": [say("To the desk.", call("transfer_to_desk"))],
            "desk": [say("Let me look.", call("stock", {"item": "pen"})), "Three are left.", "Bye."],
        }
    )
    conversation = desk(model)
    seen = await conversation.run("a pen")
    assert words(seen) == "To the desk.Let me look.Three are left."
    assert conversation.active_agent == "desk"
    assert told(conversation) == [
        "human: a pen",
        "ai: To the desk. +call_1",
        "tool: Transferring to desk.",
        "ai: Let me look. +call_2",
        "tool: 3 left",
        "ai: Three are left.",
    ]
    seen = await conversation.run("thanks")
    assert words(seen) == "Bye."
    check_invariants(
        conversation,
        heard=["To the desk.", "Let me look.", "Three are left.", "Bye."],
        said=["a pen", "thanks"],
        current_agent="desk",
    )


async def test_a_model_inside_a_tool_of_a_member_is_not_spoken() -> None:
    inner = ScriptedModel(["secret thoughts"])

    @tool
    async def think() -> str:
        """Think."""
        return (await inner.ainvoke([HumanMessage("think")])).text

    model = ScriptedModel([say(call("think")), "Done."])
    conversation: Conversation[Any] = Conversation(create_voice_graph([create_agent(model, [think], name="desk")]))
    assert words(await conversation.run("hi")) == "Done."


async def test_a_hand_written_subgraph_speaks_but_for_its_silent_nodes() -> None:
    model = ScriptedModel(["plan", "Hello."])

    async def ask(state: Any) -> dict[str, Any]:
        return {"messages": [await model.ainvoke([HumanMessage("x")])]}

    async def plan(state: Any) -> dict[str, Any]:
        await model.ainvoke([HumanMessage("x")])
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("plan", plan, metadata={"speak": False})
    builder.add_node("answer", ask)
    builder.add_edge(START, "plan")
    builder.add_edge("plan", "answer")
    conversation: Conversation[Any] = Conversation(create_voice_graph([builder.compile(name="sub")]))
    seen = await conversation.run("hi")
    assert words(seen) == "Hello."
    assert told(conversation) == ["human: hi", "ai: Hello."]


async def test_a_barge_in_cuts_a_foreign_model_at_once() -> None:
    model = ScriptedModel([hang(3, text="Well you see there is")])
    conversation: Conversation[Any] = Conversation(create_voice_graph([create_agent(model, [stock], name="desk")]))
    turn = conversation.turn("hi")
    turn.commit()
    event = await until(turn, events.Text)
    turn.heard(event.message_id, "Well")
    await asyncio.sleep(1)
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: Well"]
    assert model.prompts[0].outcome == "cancelled"


async def test_a_barge_in_lets_a_foreign_tool_end() -> None:
    model = ScriptedModel([say("Wait.", call("stock", {"item": "pen"})), "Three."])
    conversation = chain(
        MessagesState,
        ("model", create_step(model)),
        ("tools", run_stock),
        ("answer", create_step(model)),
        speak=["model", "answer"],
    )
    turn = conversation.turn("hi")
    turn.commit()
    event = await until(turn, events.Text)
    await asyncio.sleep(1)
    turn.heard(event.message_id, "Wait.")
    turn.interrupt()
    await rest(turn)
    turn.close()
    assert told(conversation) == ["human: hi", "ai: Wait. +call_1", "tool: 3 left"]
    assert len(model.prompts) == 1


def create_step(model: ScriptedModel) -> Any:
    async def step(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.bind_tools([stock]).ainvoke(state["messages"])]}

    return step


async def run_stock(state: MessagesState) -> dict[str, Any]:
    asked = state["messages"][-1].tool_calls[0]  # type: ignore[union-attr]
    return {"messages": [ToolMessage(await stock.ainvoke(asked["args"]), tool_call_id=asked["id"])]}


async def test_calls_of_a_foreign_model_that_never_ran_are_dropped() -> None:
    model = ScriptedModel([say("Wait.", call("stock", {"item": "pen"}))])
    conversation = chain(MessagesState, ("model", create_step(model)), speak=["model"])
    await play(conversation.turn("hi"))
    assert told(conversation) == ["human: hi", "ai: Wait."]


async def test_a_graph_that_nobody_speaks_for_is_refused() -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("n", lambda state: {})
    builder.add_edge(START, "n")
    with pytest.raises(BuildError, match="Nobody speaks"):
        Conversation(builder.compile())
    with pytest.raises(BuildError, match=r"speak=\['x'\]: the graph's nodes are n"):
        Conversation(builder.compile(), speak=["x"])
    silent = StateGraph(TypedDict("NoMessages", {"x": int}))
    silent.add_node("n", lambda state: {})
    silent.add_edge(START, "n")
    with pytest.raises(BuildError, match="no `messages` channel"):
        Conversation(silent.compile(), speak=["n"])


async def test_a_voice_state_with_channels_of_the_users_own() -> None:
    class State(VoiceState[dict[str, Any]]):
        count: Annotated[int, operator.add]

    builder = create_voice_graph([Agent("a", instructions="A")], llm=ScriptedModel(["x", "y"]), state_schema=State)
    builder.add_node("tally", lambda state: {"count": 1})
    builder.add_edge("a", "tally")
    conversation: Conversation[Any] = Conversation(builder)
    await conversation.run("1")
    await conversation.run("2")
    assert conversation.state["count"] == 2
