"""What is written wrong is refused where it is written, with what to write instead."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, VoiceState, create_voice_graph, function_tool, history
from graph_voice.errors import BuildError, GraphVoiceError, TurnError, UserdataError
from graph_voice.testing import Call, ScriptedModel


def agent(name: str = "a", **options: Any) -> Agent:
    return Agent(name, instructions="I.", **options)


def graph(*agents: Agent, **options: Any) -> Any:
    return create_voice_graph(agents or [agent()], llm=ScriptedModel(["Hi."]), **options)


@function_tool
async def transfer_to_b() -> str:
    """Transfer."""
    return ""


def remote(**options: Any) -> Any:
    return Conversation(RemoteGraph("x", url="http://127.0.0.1:9"), **options)


def timed(seconds: Any) -> Any:
    @function_tool(timeout=seconds)
    async def slow() -> str:
        """Be slow."""
        return ""

    return slow


@entrypoint()
def workflow(given: Any) -> Any:
    return given


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: Handoff(5), r'write the name of the target, Handoff\("billing"\)'),  # type: ignore[arg-type]
    (lambda: Handoff("b", history=history.full), r"history=history.full\(\)"),  # type: ignore[arg-type]
    (lambda: Handoff("b", history="full"), "write an operation"),  # type: ignore[arg-type]
    (lambda: Handoff("b", say=5), r'Handoff\("b", say=5\): write a text, a function'),  # type: ignore[arg-type]
    (lambda: Handoff("b", 5), r'Handoff\("b", description=5\): write a text'),  # type: ignore[arg-type]
    (lambda: Handoff("b", result=5), "result=5.*write a text"),  # type: ignore[arg-type]
    (lambda: Handoff("b", name=5), "name=5.*write a text"),  # type: ignore[arg-type]
    (lambda: agent(voice={"tts": "x", "stt": "y"}), r"write voice=Voice\(tts=\.\.\., stt=\.\.\.\)"),
    (lambda: agent(voice=5), r'write voice=Voice\(tts="\.\.\."\)'),
    (lambda: agent(tools=5), r"write a list, tools=\[\.\.\.\]"),
    (lambda: agent(tools=[5]), "5 is not a tool"),
    (lambda: agent(handoffs=5), r"write a list, handoffs=\[\.\.\.\]"),
    (
        lambda: Agent(instructions="I."),
        r'give it a name first, Agent\("billing", instructions="\.\.\."\): a name is up to 64',
    ),
    (lambda: Agent("", instructions="I."), "give it a name first"),
    (
        lambda: agent(tools=[transfer_to_b], handoffs=[Handoff("b", "Bills.")]),
        r'two tools named "transfer_to_b": one of its own.*Handoff\("b", tool=False\).*Handoff\("b", name="\.\.\."\)',
    ),
    (lambda: agent(tools=[transfer_to_b, transfer_to_b]), 'two tools named "transfer_to_b"; rename one'),
    (lambda: timed(-1), r"@function_tool\(timeout=-1\): write seconds above 0"),
    (lambda: timed("5"), "write seconds above 0"),
    (lambda: create_voice_graph(None), r"write a list of agents, create_voice_graph\(\[agent\]\)"),  # type: ignore[arg-type]
    (lambda: create_voice_graph("a"), "write a list of agents"),  # type: ignore[arg-type]
    (lambda: create_voice_graph(5), "write a list of agents"),  # type: ignore[arg-type]
    (lambda: create_voice_graph([None]), "None is not an agent"),  # type: ignore[list-item]
    (lambda: graph(first_token_timeout=-1), "first_token_timeout=-1.*seconds above 0, or None for no limit"),
    (lambda: graph(first_token_timeout="1"), "seconds above 0"),
    (lambda: graph(max_hops=-1), "max_hops=-1.*a whole number, 0 or more"),
    (lambda: graph(max_hops="x"), "max_hops='x'.*a whole number"),
    (lambda: graph(max_tool_calls=-1), "max_tool_calls=-1.*a whole number"),
    (lambda: graph(apology=5), "apology=5.*a text, or a function of the userdata"),
    (lambda: graph(retry_policy=5), r"retry_policy=5.*RetryPolicy\(max_attempts=2\)"),
    (lambda: graph(external=5), r'external=5.*external=\["human_desk"\]'),
    (lambda: graph(secrets=5), "secrets=5.*EncryptedSerializer"),
    (lambda: Conversation(None), "write what create_voice_graph"),  # type: ignore[arg-type]
    (lambda: Conversation("my_agent.py:graph"), "from my_agent import graph"),  # type: ignore[arg-type]
    (lambda: Conversation(agent()), r"Conversation\(create_voice_graph\(\[agent\]\)\)"),  # type: ignore[arg-type]
    (lambda: Conversation(Agent), r"Conversation\(create_voice_graph\(\[agent\]\)\)"),  # type: ignore[arg-type]
    (lambda: Conversation([agent()]), r"Conversation\(create_voice_graph\(\[\.\.\.\]\)\)"),  # type: ignore[arg-type]
    (lambda: Conversation(graph), "a function is no graph. Call it"),  # type: ignore[arg-type]
    (lambda: remote(), r"Nobody speaks in this remote graph. Name the nodes that do, speak=\[.model.\]"),
    (lambda: remote(speak="model"), r"write a list, speak=\[.model.\]"),
    (lambda: remote(speak=["model"], saver=InMemorySaver()), "saver=.*the server has its own"),
    (lambda: remote(speak=["model"], store=InMemoryStore()), "store=.*the server has its own"),
    (lambda: Conversation(RemoteGraph("x"), speak=["model"]), r"no async client: give it url="),
    (lambda: Conversation(workflow), "An @entrypoint workflow has no state"),
    (lambda: Conversation(graph(), messages=5), "write a list of messages"),  # type: ignore[arg-type]
    (lambda: Conversation(graph(), messages="hello"), "write a list of messages"),
    (lambda: Conversation(graph(), saver=5), "write a LangGraph checkpointer"),  # type: ignore[arg-type]
    (lambda: Conversation(graph(), config=5), "configurable"),  # type: ignore[arg-type]
    (lambda: Conversation(graph(), apology=5), "a text, or a function of the userdata"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("write", "told"), WRONG)
def test_the_fix_is_told(write: Callable[[], Any], told: str) -> None:
    with pytest.raises(BuildError, match=told):
        write()


def test_what_is_right_is_taken() -> None:
    for made in (
        graph(first_token_timeout=None, max_hops=0, apology=lambda u: "Sorry."),
        graph(
            agent(handoffs=[Handoff("b", "Bills.", say=lambda u: "One moment.", result="Done.", name="to_b")]),
            agent("b"),
        ),
        graph(agent(tools=[transfer_to_b], handoffs=[Handoff("b", tool=False)]), agent("b")),
        graph(agent(tools=[timed(0.5)], voice="cartesia/sonic-3")),
        graph(agent(handoffs=[Handoff(agent("b"))]), agent("b")),  # type: ignore[arg-type]
    ):
        assert Conversation(made).active_agent == "a"


def test_a_graph_is_run_with_await() -> None:
    made = graph().compile()
    for run in (lambda: made.invoke({"messages": ["Hi."]}), lambda: list(made.stream({"messages": ["Hi."]}))):
        with pytest.raises(TurnError, match=r"await graph\.ainvoke\(\.\.\.\)"):
            run()
    assert asyncio.run(made.ainvoke({"messages": ["Hi."]}))["messages"][-1].text == "Hi."


async def test_a_call_of_a_graph_that_has_no_userdata_says_so() -> None:
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(MessagesState)
    builder.add_node("n", lambda state: {"messages": [("ai", "Hi.")]}, metadata={"speak": True})
    builder.add_edge(START, "n")
    builder.add_edge("n", END)
    async with Call(builder.compile()) as phone:
        await phone.says("Hello.")
        with pytest.raises(UserdataError, match="This graph has no userdata"):
            phone.userdata  # noqa: B018
    async with Call(graph()) as phone:
        assert phone.userdata == {}


async def test_a_call_whose_userdata_was_never_given_says_so() -> None:
    class Needed(BaseModel):
        name: str

    conversation = Conversation(graph(userdata=Needed))
    with pytest.raises(UserdataError, match="fields without a default"):
        conversation.userdata  # noqa: B018
    assert Conversation(graph(userdata=Needed), userdata=Needed(name="Ann")).userdata.name == "Ann"


async def test_a_state_of_ones_own_still_has_its_channels() -> None:
    class Shop(VoiceState[dict[str, Any]]):
        cart: list[str]

    assert Conversation(graph(state_schema=Shop)).userdata == {}


def test_every_error_of_the_library_is_one_of_its_tree() -> None:
    for write, _ in WRONG:
        with pytest.raises(GraphVoiceError):
            write()
