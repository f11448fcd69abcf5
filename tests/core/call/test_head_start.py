"""A run that begins before the caller has finished: nobody can tell, but for the time."""

import asyncio
import contextvars
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START
from langgraph.types import interrupt
from pydantic import BaseModel
from turn_support import one_agent, play, told

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.messages.prompt import build_prompt, complete_prompt, render_context
from graph_voice.testing import ScriptedModel, call, run, say


class Caller(BaseModel):
    name: str = "nobody"
    visits: int = 0


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_only_the_words_are_missing_when_the_caller_has_spoken() -> None:
    model = ScriptedModel(["One.", "Two."])
    conversation = one_agent(model)
    conversation.expect_turn()
    await settle()
    assert model.prompts == []
    turn = conversation.turn("Hello", message_id="m1")
    assert turn.began_in is not None
    await play(turn)
    assert told(conversation) == ["human: Hello", "ai: One."]
    assert [m.text for m in model.prompts[0].messages] == ["Help.", "Hello"]
    assert conversation.messages[0].id == "m1"
    await play(conversation.turn("And?"))
    assert told(conversation)[2:] == ["human: And?", "ai: Two."]
    await conversation.aclose()


async def test_words_that_come_at_once_are_not_lost() -> None:
    conversation = one_agent(["One."])
    conversation.expect_turn()
    await play(conversation.turn("Hello"))
    assert told(conversation) == ["human: Hello", "ai: One."]


async def test_the_final_words_are_remembered_when_the_guess_was_another() -> None:
    conversation = one_agent(["One."])
    conversation.expect_turn()
    turn = conversation.turn("Hello")
    await settle()
    turn.commit("Hello there")
    await play(turn)
    await settle()
    assert told(conversation) == ["human: Hello there", "ai: One."]


async def test_a_run_that_has_begun_is_begun_once_and_is_no_turn() -> None:
    conversation = one_agent(["One."])
    changes = []
    conversation._live.on_change = lambda: changes.append(1)
    conversation.expect_turn()
    conversation.expect_turn()
    await settle()
    assert len([t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice.turn")]) == 1
    conversation._ahead.drop()
    await settle()
    assert not changes
    assert not conversation._live.turns
    assert conversation.messages == []


def _add(conversation: Conversation[Any]) -> None:
    conversation.add(("ai", "A word from the house."))


def _replace(conversation: Conversation[Any]) -> None:
    conversation.update_userdata(Caller(name="Ann"))


def _in_place(conversation: Conversation[Any]) -> None:
    conversation.userdata.name = "Ann"


def _context(conversation: Conversation[Any]) -> None:
    conversation.update_chat_ctx(history.last_turns(1).to_dict())


@pytest.mark.parametrize("change", [_add, _replace, _in_place, _context])
async def test_what_changes_meanwhile_makes_it_begin_anew(change: Any) -> None:
    model = ScriptedModel(["One.", "Two."])
    agent = Agent("a", instructions=lambda caller: f"You speak with {caller.name}.")
    conversation = Conversation(create_voice_graph([agent], userdata=Caller, llm=model))
    await play(conversation.turn("First"))
    conversation.expect_turn()
    await settle()
    change(conversation)
    turn = conversation.turn("Hello")
    assert turn.began_in is None
    await play(turn)
    seen = [m.text for m in model.prompts[-1].messages]
    known = "Ann" if change in (_replace, _in_place) else "nobody"
    before = {_add: ["First", "One.\nA word from the house."], _context: []}.get(change, ["First", "One."])
    assert seen == [f"You speak with {known}.", *before, "Hello"]


async def test_instructions_are_those_of_the_moment_in_which_the_caller_has_spoken() -> None:
    now = ["morning"]
    model = ScriptedModel(["One."])
    agent = Agent("a", instructions=lambda caller: f"It is {now[0]}.")
    conversation = Conversation(create_voice_graph([agent], userdata=Caller, llm=model))
    conversation.expect_turn()
    await settle()
    now[0] = "evening"
    await play(conversation.turn("Hello"))
    assert model.prompts[0].messages[0].text == "It is evening."


async def test_a_guess_that_is_discarded_leaves_nothing_and_the_next_run_may_begin_early_again() -> None:
    conversation = one_agent(["Guess.", "One."])
    conversation.expect_turn()
    guess = conversation.turn("Hel")
    await settle()
    guess.discard()
    await settle()
    assert conversation.messages == []
    conversation.expect_turn()
    turn = conversation.turn("Hello")
    assert turn.began_in is not None
    await play(turn)
    assert told(conversation) == ["human: Hello", "ai: One."]


async def test_the_run_goes_on_in_the_context_of_who_began_the_turn() -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="unset")
    seen: dict[str, tuple[str, str]] = {}

    @function_tool
    async def look(ctx: RunContext[Any]) -> str:
        """Look."""
        seen["tool"] = (who.get(), own.get())
        return "seen"

    def prompt(_: Any) -> str:
        seen.setdefault("step", (who.get(), own.get()))
        return "Help."

    agent = Agent("a", instructions=prompt, tools=[look])
    conversation = Conversation(create_voice_graph([agent], llm=ScriptedModel([call("look"), "Done."])))
    own.set("both")
    conversation.expect_turn()
    await settle()
    who.set("the caller's speech")
    turn = conversation.turn("Hello")
    assert turn.began_in is not None
    await play(turn)
    assert seen == dict.fromkeys(("step", "tool"), ("the caller's speech", "both"))


async def test_it_ends_with_the_call() -> None:
    conversation = one_agent(["One."])
    conversation.expect_turn()
    await settle()
    await conversation.aclose()
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]
    conversation.expect_turn()
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]


async def test_an_open_question_is_answered_by_a_run_of_its_own() -> None:
    @function_tool
    async def book(ctx: RunContext[Any]) -> str:
        """Book."""
        return f"booked for {interrupt('When?')}"

    conversation = one_agent([call("book"), "Done."], book)
    await play(conversation.turn("Book a table"))
    assert conversation.interrupts
    conversation.expect_turn()
    turn = conversation.turn("At eight")
    assert turn.began_in is None
    await play(turn)
    assert told(conversation)[-2:] == ["human: At eight", "ai: Done."]


async def test_a_question_that_is_asked_in_such_a_run_is_answered_in_the_next() -> None:
    @function_tool
    async def book(ctx: RunContext[Any]) -> str:
        """Book."""
        return f"booked for {interrupt('When?')}"

    conversation = one_agent([call("book"), "Done."], book)
    conversation.expect_turn()
    await settle()
    await play(conversation.turn("Book a table"))
    await play(conversation.turn("At eight"))
    assert [m.text for m in conversation.messages if isinstance(m, ToolMessage)] == ["booked for At eight"]


async def test_what_the_call_is_stored_as_is_the_same() -> None:
    stored = []
    for early in (False, True):
        saver = InMemorySaver()
        conversation = one_agent(ScriptedModel(["One.", "Two."]), thread_id="t", saver=saver)
        await conversation.open()
        for text in ("Hello", "And?"):
            if early:
                conversation.expect_turn()
                await settle()
            await play(conversation.turn(text, message_id=text))
        await conversation.aclose()
        graph = conversation.graph.copy(update={"checkpointer": saver})
        found = await graph.aget_state({"configurable": {"thread_id": "t"}})
        stored.append([(m.type, m.text) for m in found.values["messages"]])
        assert found.next == ()
    assert stored[0] == stored[1] == [("human", "Hello"), ("ai", "One."), ("human", "And?"), ("ai", "Two.")]


class Listener(AsyncCallbackHandler):
    async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        pass


async def test_a_run_that_is_traced_begins_with_the_words() -> None:
    conversation = one_agent(["One."], config={"callbacks": [Listener()]})
    conversation.expect_turn()
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("graph_voice")]
    assert conversation.turn("Hello").began_in is None


@pytest.mark.parametrize("where", ["behind", "start"])
async def test_code_of_others_never_runs_for_words_that_nobody_has_said(where: str) -> None:
    ran = []

    async def node(state: dict[str, Any]) -> dict[str, Any]:
        ran.append(state["messages"])
        return {}

    builder = create_voice_graph([Agent("a", instructions="Help.")], llm=ScriptedModel(["One."]))
    builder.add_node("mine", node, metadata={"speculative": True, "silent": True})
    builder.add_edge("mine", END)
    if where == "start":
        builder.add_edge(START, "mine")
    conversation = Conversation(builder)
    conversation.expect_turn()
    await settle()
    assert ran == []
    assert conversation.turn("Hello").began_in is None


async def test_a_path_function_of_others_never_decides_without_the_words() -> None:
    asked = []

    async def way(state: dict[str, Any]) -> str:
        asked.append(list(state["messages"]))
        return "a"

    builder = create_voice_graph([Agent("a", instructions="Help.")], llm=ScriptedModel(["One."]))
    builder.add_conditional_edges(START, way, ["a"])
    conversation = Conversation(builder)
    conversation.expect_turn()
    await settle()
    assert asked == []


texts = st.sampled_from(["", " ", "Hi.", "One two."])
messages = st.lists(
    st.one_of(
        st.builds(HumanMessage, texts),
        st.builds(AIMessage, texts),
        st.builds(SystemMessage, texts),
        st.just([AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "c"}]), ToolMessage("r", tool_call_id="c")]),
    ),
    max_size=6,
)


@settings(max_examples=300)
@given(messages, texts, st.none() | texts)
def test_a_prompt_made_ahead_is_the_prompt(parts: list[Any], words: str, reply: str | None) -> None:
    context: list[BaseMessage] = []
    for part in parts:
        context += part if isinstance(part, list) else [part]
    context = [m.model_copy(update={"id": f"m{i}"}) for i, m in enumerate(context)]
    user = HumanMessage(words, id="user")
    ahead = render_context(context)
    if words.strip():
        ahead.append(user)
    made = complete_prompt("You are x.", ahead, reply_instructions=reply)
    assert made == build_prompt("You are x.", [*context, user], reply_instructions=reply)


steps = st.lists(
    st.tuples(st.sampled_from(["talk", "tool", "go", "both", "blank"]), st.sampled_from(["none", "early", "late"])),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60)
@given(steps)
def test_a_call_with_runs_that_begin_early_is_the_same_call(script: list[tuple[str, str]]) -> None:
    plain = run(_played([(what, "none") for what, _ in script]))
    assert run(_played(script)) == plain


async def _played(script: list[tuple[str, str]]) -> Any:
    """A call between two agents. Returns what was remembered, and every prompt."""

    @function_tool
    async def visit(ctx: RunContext[Caller]) -> str:
        """Count."""
        ctx.userdata.visits += 1
        return f"visit {ctx.userdata.visits}"

    def answer(given: list[BaseMessage]) -> Any:
        last = max((i for i, m in enumerate(given) if isinstance(m, HumanMessage)), default=0)
        wish, done = given[last].text, any(isinstance(m, ToolMessage) for m in given[last:])
        if done or not given[last].text.startswith("u"):
            return "Done."
        other = "b" if given[0].text.startswith("a") else "a"
        calls = {"tool": [call("visit")], "go": [call(f"transfer_to_{other}")]}
        calls["both"] = [*calls["tool"], *calls["go"]]
        number, what = wish.split()
        return say("Well.", *(c for c in calls.get(what, []))) if what in calls else f"Yes {number}."

    model = ScriptedModel(answer, first_token=0.1)
    agents = [
        Agent(
            name,
            instructions=lambda caller, name=name: f"{name}: visits {caller.visits}",
            tools=[visit],
            handoffs=[Handoff(other, history=history.last_turns(2))],
        )
        for name, other in (("a", "b"), ("b", "a"))
    ]
    conversation = Conversation(create_voice_graph(agents, userdata=Caller, llm=model))
    for number, (what, when) in enumerate(script):
        if when != "none":
            conversation.expect_turn()
        if when == "early":
            await asyncio.sleep(1)
        await play(conversation.turn(" " if what == "blank" else f"u{number} {what}", message_id=f"u{number}"))
    await conversation.aclose()
    prompts = [(p.agent, p.tools, [(m.type, m.text) for m in p.messages]) for p in model.prompts]
    return told(conversation), conversation.userdata.visits, conversation.active_agent, prompts
