"""What is refused while a graph is built, in words that name the agent, the tool, and what to write instead."""

import warnings
from typing import Any

import pytest
from pydantic import BaseModel

from graph_voice import Agent, Conversation, GraphVoiceError, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def ping() -> str:
    """See whether the line is up."""
    return "up"


@function_tool
async def transfer_to_b(ctx: RunContext[Any]) -> Handoff:
    """Transfer."""
    return ctx.handoff("b")


@function_tool(handoffs=["billing"])
async def pay(ctx: RunContext[Any]) -> Handoff:
    """Pay."""
    return ctx.handoff("billing")


def agent(name: str = "front", **options: Any) -> Agent:
    return Agent(name, **{"instructions": "You are an agent.", **options})


async def _on_enter(userdata: Any, more: Any) -> None: ...


async def _instructions(userdata: Any) -> str:
    return ""


AGENTS: list[tuple[Any, str]] = [
    (lambda: agent(""), "a name is up to 64 letters"),
    (lambda: agent("front desk"), "Agent('front desk')"),
    (lambda: agent("1st"), "starts with a letter"),
    (lambda: agent("x" * 65), "up to 64"),
    (lambda: agent(instructions=""), 'agent "front" has no instructions'),
    (lambda: agent(instructions=" \n"), 'agent "front" has no instructions'),
    (lambda: agent(instructions=42), "instructions=42 is neither text nor a function of the userdata"),
    (lambda: agent(instructions=lambda: "Hi."), "neither text nor a function of the userdata"),
    (lambda: agent(instructions=_instructions), "async function"),
    (lambda: agent(on_enter=42), 'agent "front": on_enter=42'),
    (lambda: agent(on_enter=["Greet."]), "on_enter=['Greet.']"),
    (lambda: agent(on_enter=_on_enter), "on_enter=<function"),
    (lambda: agent(on_exit="Bye."), "on_exit='Bye.'"),
    (lambda: agent(on_enter_tools="some"), 'write "own" or "none"'),
    (lambda: agent(tools=[ping, ping]), 'agent "front" has two tools named "ping"'),
    (lambda: agent(tools=[ping], handoffs=[Handoff("x", name="ping")]), 'two tools named "ping"'),
    (lambda: agent(tools=["ping"]), "'ping' is not a tool"),
    (lambda: agent(handoffs="billing"), 'handoffs=["billing"]'),
    (lambda: agent(handoffs=["b", Handoff("b")]), 'two transfer tools named "transfer_to_b". If one of them is for'),
    (lambda: agent(tools=[transfer_to_b], handoffs=["b"]), 'Handoff("b", tool=False)'),
    (lambda: agent(handoffs=[Handoff("b" * 60)]), f'Handoff("{"b" * 60}", name="...")'),
    (lambda: agent(handoffs=[Handoff("b", name="to b")]), 'the providers refuse the tool name "to b"'),
    (lambda: agent(handoffs=[Handoff("")]), "needs the name"),
]


@pytest.mark.parametrize(("make", "words"), AGENTS, ids=[words for _, words in AGENTS])
def test_an_agent_that_can_not_work_is_refused(make: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        make()
    assert words in str(caught.value)
    assert isinstance(caught.value, GraphVoiceError)


class NeedsArguments(Agent):
    def __init__(self, city: str) -> None:
        super().__init__("shop", instructions=f"You are in {city}.")


GRAPHS: list[tuple[Any, str]] = [
    ([], "has no agents"),
    (agent(), "takes a list of agents"),
    ([agent(), agent()], 'two agents are named "front"'),
    ([agent(), agent("front_tools")], 'agent "front_tools": this name is taken'),
    ([agent(), agent("__end__")], 'agent "__end__": this name is taken'),
    ([agent(), "billing"], "'billing' is not an agent"),
    ([NeedsArguments], "pass an instance, NeedsArguments(...)"),
    ([agent(tools=[pay])], 'tool "pay" hands off to "billing", which the agent does not declare'),
    ([agent(handoffs=[Handoff("front", tool=False)])], 'agent "front" declares a handoff to itself'),
]


@pytest.mark.parametrize(("agents", "words"), GRAPHS, ids=[words for _, words in GRAPHS])
def test_a_graph_that_can_not_work_is_refused(agents: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        create_voice_graph(agents)
    assert words in str(caught.value)


def test_other_arguments_are_checked_as_well() -> None:
    with pytest.raises(BuildError, match='start="back" is not one of the agents: front'):
        create_voice_graph([agent()], start="back")
    with pytest.raises(BuildError, match="write a pydantic model class or a dataclass"):
        create_voice_graph([agent()], userdata=int)
    with pytest.raises(BuildError, match="extend VoiceState"):
        create_voice_graph([agent()], state_schema=Caller)


@pytest.mark.parametrize("handoffs", [["biling"], [Handoff("biling", tool=False)]], ids=["tool", "declared"])
def test_an_unknown_target_is_named_when_the_graph_is_compiled(handoffs: Any) -> None:
    builder = create_voice_graph([agent(handoffs=handoffs, tools=[ping]), agent("billing")])
    with pytest.raises(BuildError) as caught:
        builder.compile()
    said = str(caught.value)
    assert 'agent "front" hands off to "biling"' in said
    assert 'did you mean "billing"?' in said
    assert 'graph.add_node("biling", ...)' in said
    with pytest.raises(BuildError, match="biling"):
        Conversation(builder)


def test_a_target_may_be_added_to_the_graph_later() -> None:
    builder = create_voice_graph([agent(handoffs=[Handoff("router")])])
    builder.add_node("router", lambda state: {})
    assert ("front", "router") in {(e.source, e.target) for e in builder.compile().get_graph().edges}


def test_what_langgraph_checks_is_still_checked() -> None:
    builder = create_voice_graph([agent()])
    builder.add_edge("front", "nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        builder.compile()


def test_an_agent_that_nobody_leads_to_is_warned_of() -> None:
    with pytest.warns(UserWarning, match='agent "billing" can\'t be reached from "front"') as caught:
        create_voice_graph([agent(), agent("billing")])
    assert caught[0].filename == __file__


def test_no_warning_where_a_node_that_comes_later_may_lead_there() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_voice_graph([agent(handoffs=[Handoff("router")]), agent("billing")])


async def test_a_target_that_a_tool_returns_and_that_is_not_declared_is_told_with_the_fix() -> None:
    @function_tool
    async def lost(ctx: RunContext[Any]) -> Handoff:
        """Get lost."""
        return ctx.handoff("billing")

    from graph_voice.testing import call

    conversation = Conversation(
        create_voice_graph([agent(tools=[lost])], llm=ScriptedModel([call("lost"), "I can't."]))
    )
    await conversation.run("Go.")
    answer = next(m for m in conversation.messages if m.type == "tool")
    assert 'Agent("front", ..., handoffs=[Handoff("billing", tool=False)])' in answer.text
