"""LangGraph's `interrupt()`: a question that the next turn answers, without any durable checkpointer."""

import asyncio
import operator
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import interrupt
from turn_support import one_agent, play, rest, told, until
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, RunContext, VoiceState, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants

pytestmark = pytest.mark.virtual_clock
RUNNING = "tool: The tool call is still in progress."


@function_tool
async def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}: {interrupt(f'Really pay {amount}?')}"


@function_tool
async def send(amount: int) -> str:
    """Send."""
    return f"sent {amount} to {interrupt('To whom?')} on {interrupt({'when': 'day'})}"


async def test_the_next_turn_answers_the_call_that_asked() -> None:
    conversation = one_agent([say("One moment.", call("pay", {"amount": 3})), "Done."], pay)
    seen = await conversation.run("pay")
    asked = next(e for e in seen if isinstance(e, events.Interrupt))
    assert (asked.agent, asked.question, asked.text) == ("a", "Really pay 3?", "Really pay 3?")
    assert [(i.id, i.value) for i in conversation.interrupts] == [(asked.id, "Really pay 3?")]
    assert told(conversation) == ["human: pay", "ai: One moment. Really pay 3? +call_1", RUNNING]
    check_invariants(conversation, heard=["One moment.", "Really pay 3?"])
    await conversation.run("yes")
    assert conversation.interrupts == ()
    assert told(conversation) == [
        "human: pay",
        "ai: One moment. Really pay 3? +call_1",
        "tool: paid 3: yes",
        "human: yes",
        "ai: Done.",
    ]
    check_invariants(conversation, said=["pay", "yes"])


async def test_questions_come_one_after_the_other() -> None:
    conversation = one_agent([say(call("send", {"amount": 3})), "Done."], send)
    await conversation.run("send")
    await conversation.run("Bob")
    assert [i.value for i in conversation.interrupts] == [{"when": "day"}]
    seen = await conversation.run("Monday")
    assert [e.output for e in seen if isinstance(e, events.ToolResult)] == ["sent 3 to Bob on Monday"]
    assert told(conversation) == [
        "human: send",
        "ai: To whom? +call_1",
        "tool: sent 3 to Bob on Monday",
        "human: Bob",
        'ai: {"when": "day"}',
        "human: Monday",
        "ai: Done.",
    ]


async def test_a_speculative_answer_that_is_discarded_leaves_the_question_open() -> None:
    ran: list[str] = []

    @function_tool
    async def act() -> str:
        """Act."""
        answer = interrupt("Sure?")
        ran.append(answer)
        return f"acted: {answer}"

    conversation = one_agent([say(call("act")), "Done."], act)
    await conversation.run("act")
    turn = conversation.turn("y")
    await turn_runs(turn)
    assert (ran, len(conversation.interrupts)) == ([], 1)
    turn.discard()
    assert len(conversation.interrupts) == 1
    await conversation.run("yes")
    assert (ran, conversation.interrupts) == (["yes"], ())
    assert told(conversation)[2:] == ["tool: acted: yes", "human: yes", "ai: Done."]


async def turn_runs(turn: Any) -> None:
    await asyncio.sleep(5)
    assert not turn.finished


async def test_a_question_whose_turn_was_interrupted_is_still_answered_by_the_next() -> None:
    conversation = one_agent([say(call("pay", {"amount": 3})), "Done."], pay)
    turn = conversation.turn("pay")
    turn.commit()
    turn.allow((await until(turn, events.ToolCalls)).calls[0].id)
    asked = await until(turn, events.Interrupt)
    turn.heard(asked.message_id, "Really")
    turn.interrupt()
    await rest(turn)
    turn.close()
    await conversation.run("yes yes")
    assert told(conversation) == [
        "human: pay",
        "ai: Really +call_1",
        "tool: paid 3: yes yes",
        "human: yes yes",
        "ai: Done.",
    ]


async def test_a_turn_without_words_is_no_answer() -> None:
    conversation = one_agent([say(call("pay", {"amount": 3})), "Are you there?", "Done."], pay)
    await conversation.run("pay")
    await conversation.run(instructions="Ask whether the caller is there.")
    assert len(conversation.interrupts) == 1
    assert RUNNING in told(conversation)
    await conversation.run("yes")
    assert told(conversation)[2:] == ["tool: paid 3: yes", "ai: Are you there?", "human: yes", "ai: Done."]


async def test_what_changed_meanwhile_is_seen_by_the_resumed_run() -> None:
    model = ScriptedModel([say(call("pay", {"amount": 3})), "Done."])
    conversation = one_agent(model, pay)
    await conversation.run("pay")
    conversation.add(AIMessage("The line is recorded."))
    conversation.update_userdata({"name": "Ann"})
    await conversation.run("yes")
    assert conversation.userdata == {"name": "Ann"}
    assert "The line is recorded." in [m.text for m in model.prompts[-1].messages]
    check_invariants(conversation)


async def test_a_users_node_asks() -> None:
    class State(VoiceState[dict[str, Any]]):
        log: Annotated[list[str], operator.add]

    def confirm(state: State) -> dict[str, Any]:
        return {"log": [interrupt("Which language?")]}

    builder = create_voice_graph(
        [Agent("a", instructions="A", handoffs=[])], llm=ScriptedModel(["Hello."]), state_schema=State
    )
    builder.add_node("confirm", confirm)
    builder.add_node("thank", lambda state: {"messages": [AIMessage("Merci.")]}, metadata={"speak": True})
    builder.add_edge("a", "confirm")
    builder.add_edge("confirm", "thank")
    conversation: Conversation[Any] = Conversation(builder)
    await conversation.run("hi")
    assert [i.value for i in conversation.interrupts] == ["Which language?"]
    await conversation.run("French")
    assert (conversation.interrupts, conversation.state["log"]) == ((), ["French"])
    assert told(conversation) == ["human: hi", "ai: Hello.", "ai: Which language?", "human: French", "ai: Merci."]


async def test_a_subgraphs_tool_asks() -> None:
    @tool
    def refund(amount: int) -> str:
        """Refund."""
        return f"refunded {amount}: {interrupt('Refund it?')}"

    model = ScriptedModel([say("Wait.", call("refund", {"amount": 5})), "Refunded."])
    member = create_agent(model, [refund], name="desk")
    conversation: Conversation[Any] = Conversation(create_voice_graph([member]))
    await conversation.run("refund me")
    assert [i.value for i in conversation.interrupts] == ["Refund it?"]
    check_invariants(conversation, heard=["Wait.", "Refund it?"])
    await conversation.run("yes")
    assert conversation.interrupts == ()
    check_invariants(conversation, heard=["Wait.", "Refund it?", "Refunded."], said=["refund me", "yes"])
    assert "tool: refunded 5: yes" in told(conversation)


class Log(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[str], operator.add]


async def test_of_several_questions_each_gets_its_own_answer_and_no_write_counts_twice() -> None:
    def ask(name: str) -> Any:
        return lambda state: {"log": [f"{name}: {interrupt(name)}"]}

    def speak(state: Log) -> dict[str, Any]:
        return {"messages": [AIMessage(" ".join(state["log"]))]}

    builder = StateGraph(Log)
    for name in ("x", "y"):
        builder.add_node(name, ask(name))
        builder.add_edge(START, name)
    builder.add_node("free", lambda state: {"log": ["free"]})
    builder.add_edge(START, "free")
    builder.add_node("speak", speak)
    builder.add_edge(["x", "y", "free"], "speak")
    builder.add_edge("speak", END)
    conversation: Conversation[Any] = Conversation(builder.compile(), speak=["speak"])
    seen = await conversation.run("go")
    assert len([e for e in seen if isinstance(e, events.Interrupt)]) == 1
    first = conversation.interrupts[0].value
    assert len(conversation.interrupts) == 2
    await conversation.run("one")
    second = conversation.interrupts[0].value
    assert {first, second} == {"x", "y"}
    await conversation.run("two")
    assert sorted(conversation.state["log"]) == sorted(["free", f"{first}: one", f"{second}: two"])
    assert conversation.interrupts == ()


async def test_two_calls_of_a_batch_ask_in_turn() -> None:
    conversation = one_agent([say(call("pay", {"amount": 3}), call("pay", {"amount": 4})), "Done."], pay)
    await conversation.run("pay both")
    await conversation.run("yes")
    await play(conversation.turn("no"))
    assert conversation.interrupts == ()
    assert [line for line in told(conversation) if line.startswith("tool")] == ["tool: paid 3: yes", "tool: paid 4: no"]
    check_invariants(conversation, said=["pay both", "yes", "no"])


@pytest.mark.parametrize("order", ["the guess first", "the typed words first"])
async def test_a_question_is_answered_once_and_other_words_are_a_turn_of_their_own(order: str) -> None:
    """The recogniser's guess and typed words are begun while the question waits, and both turn out to be turns."""
    acted = []

    @function_tool
    async def refund(ctx: RunContext[Any], euros: int) -> str:
        """Refund."""
        acted.append((ctx.tool_call_id, interrupt(f"Refund {euros} euros?")))
        return f"refunded on {acted[-1][1]}"

    conversation = one_agent([say(call("refund", {"euros": 500})), "Done.", "As I said."], refund)
    await conversation.run("my money")
    guess, typed = conversation.turn("yes"), conversation.turn("yes, please")
    await asyncio.sleep(0.1)
    first, second = (guess, typed) if order == "the guess first" else (typed, guess)
    first.commit()
    second.commit()
    await asyncio.gather(play(first), play(second))
    (answered,) = acted
    assert answered == ("call_1", "yes" if first is guess else "yes, please")
    assert conversation.interrupts == ()
    words = ["yes", "yes, please"] if first is guess else ["yes, please", "yes"]
    check_invariants(conversation, said=["my money", *words])


async def test_a_node_that_asked_is_answered_once_too() -> None:
    acted = []

    async def ask(state: dict[str, Any]) -> dict[str, Any]:
        acted.append(interrupt("Which one?"))
        return {"messages": [AIMessage(f"You said {acted[-1]}.")]}

    builder = StateGraph(VoiceState)
    builder.add_node("ask", ask, metadata={"speak": True})
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    conversation = Conversation(builder.compile())
    await conversation.run("hello")
    guess, typed = conversation.turn("the red"), conversation.turn("the red one")
    await asyncio.sleep(0.1)
    await play(typed)
    await play(guess)
    assert acted == ["the red one"]
    assert [i.value for i in conversation.interrupts] == ["Which one?"], "the other words have begun a run of their own"
