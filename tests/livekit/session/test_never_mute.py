"""Whatever a graph does, the caller hears something, unless silence is declared."""

import asyncio
from typing import Annotated, Any

import pytest
from graph_agent_support import a_call, handoffs_in_livekit, spoken, told_by_graph, voice
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage
from langchain_core.outputs import ChatGenerationChunk
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from typing_extensions import TypedDict

from graph_voice import Agent, Handoff, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock

USUAL = "I'm sorry, something went wrong on my side. Could you say that again?"


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


def foreign(node: Any, **options: Any) -> GraphAgent:
    """A graph that was not made here, of one node."""
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node").add_edge("node", END)
    return GraphAgent(builder.compile(), speak=["node"], **options)


def behind(node: Any, model: Any = None, *, first: bool = False, **options: Any) -> GraphAgent:
    """A voice graph with a node of the user's own behind the agent, or in its place."""
    builder = create_voice_graph([Agent("host", instructions="Host.", voice=voice("host"))], llm=model)
    builder.add_node("node", node, metadata=options.pop("metadata", None))
    if first:
        builder.branches.pop("__start__")
        builder.add_edge(START, "node")
    else:
        builder.edges.remove(("host", "__end__"))
        builder.add_edge("host", "node")
    builder.add_edge("node", END)
    return GraphAgent(builder, **options)


async def heard(ga: GraphAgent, *texts: str, accident: str | None = None) -> list[str]:
    """A call in which the caller says this, and what they hear."""
    async with a_call(ga, accident=accident) as rig:
        await rig.wait_until(0.5)
        for text in texts:
            await rig.user_says(text)
            await rig.until_idle()
        return [text for _, text in spoken(rig)]


def silent(state: Any) -> Any:
    return {}


def broken(state: Any) -> Any:
    raise RuntimeError("down")


async def test_two_handoffs_in_one_batch_are_one_handoff_and_a_greeting() -> None:
    both = say(call("transfer_to_sales"), call("transfer_to_billing"))
    agents = [Agent(n, instructions=n, voice=voice(n)) for n in ("billing", "sales")]
    desk = Agent("desk", instructions="Desk.", handoffs=[Handoff("billing"), Handoff("sales")], voice=voice("desk"))
    ga = GraphAgent(create_voice_graph([desk, *agents], llm=ScriptedModel({"desk": [both], "sales": ["Sales here."]})))
    async with a_call(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("sales", "Sales here.")]
        assert handoffs_in_livekit(rig.session) == ["sales"]


async def test_a_switch_by_a_conditional_edge_is_followed_by_the_new_agents_words() -> None:
    agents = [Agent(n, instructions=n, voice=voice(n)) for n in ("desk", "billing")]
    with pytest.warns(UserWarning, match="can't be reached"):
        builder = create_voice_graph(agents, llm=ScriptedModel({"desk": ["Desk."], "billing": ["Billing here."]}))
    builder.edges.remove(("desk", "__end__"))
    builder.add_conditional_edges("desk", lambda state: "billing", {"billing": "billing"})
    ga = GraphAgent(builder)
    async with a_call(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("desk", "Desk."), ("billing", "Billing here.")]
        assert rig.session.current_agent.id == "billing"


class Thinking(BaseChatModel):
    """Thinks, and says nothing."""

    @property
    def _llm_type(self) -> str:
        return "thinking"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0}
        yield ChatGenerationChunk(message=AIMessageChunk([thought], id="thought"))


def thinking_node(state: Any) -> Any:
    return {"messages": [AIMessage([{"type": "thinking", "thinking": "Hm.", "signature": "s"}], id="thought")]}


@pytest.mark.parametrize(
    "ga",
    [
        lambda: GraphAgent(create_voice_graph([Agent("host", instructions="Host.")], llm=Thinking())),
        lambda: foreign(thinking_node),
        lambda: GraphAgent(create_voice_graph([Agent("host", instructions="Host.")], llm=ScriptedModel(["", ""]))),
        lambda: foreign(lambda state: {"messages": [AIMessage("", id="empty")]}),
        lambda: foreign(broken),
        lambda: behind(broken, first=True, model=ScriptedModel([])),
        lambda: foreign(silent),
        lambda: behind(silent, first=True, model=ScriptedModel([])),
    ],
    ids=[
        "reasoning only",
        "reasoning only, foreign",
        "empty answer",
        "empty answer, foreign",
        "exception, foreign",
        "exception, voice graph",
        "silent graph, foreign",
        "silent graph, voice graph",
    ],
)
async def test_where_nothing_was_said_the_caller_hears_an_apology(ga: Any) -> None:
    made = ga()
    assert await heard(made, "hello") == [USUAL]
    assert told_by_graph(made) == [("user", "hello"), ("assistant", USUAL)]


async def test_a_node_that_fails_behind_words_is_apologised_for_behind_them() -> None:
    assert await heard(behind(broken, ScriptedModel(["Good day."])), "hello") == [f"Good day. {USUAL}"]


@pytest.mark.parametrize("kind", ["voice graph", "foreign"])
async def test_a_graph_in_circles_is_ended_with_an_apology(kind: str) -> None:
    if kind == "foreign":
        builder: Any = StateGraph(State).add_node("node", silent).add_edge(START, "node").add_edge("node", "node")
        ga = GraphAgent(builder.compile(), speak=["node"], config={"recursion_limit": 7})
    else:
        builder = create_voice_graph([Agent("host", instructions="Host.")], llm=ScriptedModel([]))
        builder.branches.pop("__start__")
        builder.add_node("node", silent).add_edge(START, "node").add_edge("node", "node")
        ga = GraphAgent(builder, config={"recursion_limit": 7})
    assert await heard(ga, "hello") == [USUAL]


# ---- declared silence, and the line


@pytest.mark.parametrize(
    "ga",
    [
        lambda: foreign(silent, silent=["node"]),
        lambda: behind(silent, ScriptedModel([]), first=True, silent=["node"]),
        lambda: behind(silent, ScriptedModel([]), first=True, metadata={"silent": True}),
    ],
    ids=["foreign", "voice graph", "metadata"],
)
async def test_silence_is_allowed_where_it_is_declared(ga: Any) -> None:
    assert await heard(ga(), "hello") == []


async def test_a_node_that_is_declared_silent_is_apologised_for_when_it_fails() -> None:
    assert await heard(foreign(broken, silent=["node"]), "hello") == [USUAL]


@pytest.mark.parametrize("kind", ["voice graph", "conversation", "foreign"])
async def test_the_apology_may_be_a_function_of_the_userdata(kind: str) -> None:
    def sorry(userdata: Any) -> str:
        return f"Sorry, {userdata['name']}." if userdata else "Sorry, stranger."

    options: dict[str, Any] = {"apology": sorry}
    if kind == "foreign":
        assert await heard(foreign(silent, **options), "hello") == ["Sorry, stranger."]
        return
    made = {} if kind == "conversation" else options
    graph = create_voice_graph([Agent("host", instructions="Host.")], llm=ScriptedModel(["", ""]), **made)
    ga = GraphAgent(graph, userdata={"name": "Ann"}, **(options if kind == "conversation" else {}))
    assert await heard(ga, "hello") == ["Sorry, Ann."]


async def test_an_apology_that_cannot_be_worded_is_the_usual_one() -> None:
    def sorry(userdata: Any) -> str:
        raise KeyError("name")

    assert await heard(foreign(silent, apology=sorry), "hello") == [USUAL]


# ---- interrupt()


def asks(state: Any) -> Any:
    return {"messages": [AIMessage(f"You said {interrupt('Which city?')}.", id=f"asked-{len(state['messages'])}")]}


def asking_tool() -> GraphAgent:
    @function_tool
    async def book() -> str:
        """Book a table."""
        return f"booked in {interrupt('Which city?')}"

    model = ScriptedModel([("book|Oslo", [call("book"), "You said Oslo."]), ("", "Fine.")])
    return GraphAgent(create_voice_graph([Agent("host", instructions="Host.", tools=[book])], llm=model))


QUESTIONS = {
    "foreign": lambda: foreign(asks),
    "checkpointer": lambda: GraphAgent(
        StateGraph(State).add_node("node", asks).add_edge(START, "node").compile(checkpointer=InMemorySaver()),
        speak=["node"],
    ),
    "voice graph": lambda: behind(asks, ScriptedModel([]), first=True, metadata={"speak": True}),
    "tool": asking_tool,
}


@pytest.mark.parametrize("kind", QUESTIONS)
async def test_a_question_is_spoken_and_the_next_turn_answers_it(kind: str) -> None:
    assert await heard(QUESTIONS[kind](), "book a table", "Oslo") == ["Which city? You said Oslo."]


@pytest.mark.parametrize("kind", QUESTIONS)
async def test_a_caller_who_is_silent_is_asked_again_once_and_may_still_answer(kind: str) -> None:
    ga = QUESTIONS[kind]()
    async with a_call(ga, user_away_timeout=5.0) as rig:
        await rig.user_says("book a table", at=0.5)
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["Which city?"]
        asked = rig.now
        await rig.wait_until(asked + 8)
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["Which city? Which city?"]
        await rig.wait_until(rig.now + 60)
        assert [text for _, text in spoken(rig)] == ["Which city? Which city?"]
        rig.session.reset_away_timer()  # a sign of life that is no answer
        await rig.wait_until(rig.now + 20)
        assert rig.session.user_state == "away"
        assert [text for _, text in spoken(rig)] == ["Which city? Which city?"]
        await rig.user_says("Oslo")
        await rig.until_idle()
        assert [text for _, text in spoken(rig)] == ["Which city? Which city? You said Oslo."]
        await rig.wait_until(rig.now + 20)  # away again, and nothing is open
        assert len(rig.spoken) == 3
    assert [text for _, text in told_by_graph(ga)] == [
        "book a table",
        "Which city? Which city?",
        "Oslo",
        "You said Oslo.",
    ]


async def test_each_question_is_asked_again_once() -> None:
    def twice(state: Any) -> Any:
        return {"messages": [AIMessage(f"{interrupt('Where?')} at {interrupt('When?')}.", id="both")]}

    ga = foreign(twice)
    async with a_call(ga, user_away_timeout=5.0) as rig:
        await rig.user_says("book a table", at=0.5)
        await rig.until_idle()
        await rig.wait_until(rig.now + 30)
        await rig.user_says("Oslo")
        await rig.until_idle()
        await rig.wait_until(rig.now + 30)
        assert [s.text.strip() for s in rig.spoken] == ["Where?", "Where?", "When?", "When?"]
        await rig.user_says("noon")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Oslo at noon.")


async def test_a_caller_who_is_silent_without_a_question_hears_nothing() -> None:
    ga = foreign(lambda state: {"messages": [AIMessage("Good day.", id=f"a{len(state['messages'])}")]})
    async with a_call(ga, user_away_timeout=5.0) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        await rig.wait_until(rig.now + 20)
        assert len(rig.spoken) == 1


# ---- tools that return nothing


@pytest.mark.parametrize("words", ["Thank you. Your age?", ""])
async def test_a_tool_that_returns_none_ends_the_turn_only_when_something_was_said(words: str) -> None:
    @function_tool
    async def note() -> None:
        """Note it."""

    model = ScriptedModel([say(words, call("note")) if words else call("note"), "And your age?"])
    ga = GraphAgent(create_voice_graph([Agent("host", instructions="Host.", tools=[note])], llm=model))
    assert await heard(ga, "I am Ann") == [words or "And your age?"]
    assert len(model.prompts) == (1 if words else 2)


async def test_none_beside_a_result_leaves_the_reply_to_the_model() -> None:
    @function_tool
    async def note() -> None:
        """Note it."""

    @function_tool
    async def look_up() -> str:
        """Look it up."""
        return "42"

    model = ScriptedModel([say("One moment.", call("note"), call("look_up")), "It is 42."])
    ga = GraphAgent(create_voice_graph([Agent("host", instructions="Host.", tools=[note, look_up])], llm=model))
    assert await heard(ga, "what is it") == ["One moment. It is 42."]


# ---- words in front of a slow step


def slow_graph(kind: str, words: str) -> GraphAgent:
    async def work() -> str:
        """Take five seconds."""
        await asyncio.sleep(5)
        return "found"

    async def node(state: Any) -> Any:
        await work()
        return {"messages": [AIMessage("Found it.", id="found")]}

    if kind == "node":
        return behind(node, ScriptedModel([words]), metadata={"speak": True, "speculative": True})
    model = ScriptedModel([say(words, call("work")), "Found it."])
    if kind == "tool":
        return GraphAgent(
            create_voice_graph([Agent("host", instructions="Host.", tools=[function_tool(work)])], llm=model)
        )
    if kind == "foreign":
        return GraphAgent(create_agent(model, tools=[work], system_prompt="Host."), speak=["model"])
    return GraphAgent(create_voice_graph([create_agent(model, tools=[work], system_prompt="Host.", name="host")]))


@pytest.mark.parametrize("words", ["One moment please", "One moment please."])
@pytest.mark.parametrize("kind", ["tool", "node", "foreign", "subgraph"])
async def test_words_in_front_of_a_slow_step_are_heard_before_it_has_ended(kind: str, words: str) -> None:
    async with a_call(slow_graph(kind, words)) as rig:
        await rig.user_says("find it", at=0.5)
        asked = rig.now
        await rig.until_idle(quiet=7)
        assert [s.text.strip() for s in rig.spoken] == [words, "Found it."]
        # 0.55 s are the silence at the end of a turn, 0.2 s the voice's own.
        assert rig.spoken[0].started - asked < 1
        assert rig.spoken[1].started - asked > 5
