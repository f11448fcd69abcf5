"""LangGraph's `interrupt()` beside other tool calls, and LangChain's `HumanInTheLoopMiddleware`, on the phone."""

from collections import Counter
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Interrupt, interrupt

from graph_voice import Agent, Conversation, create_voice_graph, function_tool
from graph_voice.call.questions import answer_to, words_of_question
from graph_voice.errors import BuildError
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
FRONT_ENDS = ["core", "livekit"]


def tools_of(kind: str, ran: list[str]) -> list[Any]:
    async def size() -> str:
        """Ask for the size."""
        ran.append("size")
        return f"size {interrupt('Which size?')}"

    async def color() -> str:
        """Ask for the color."""
        ran.append("color")
        return f"color {interrupt('Which color?')}"

    async def both() -> str:
        """Ask twice."""
        ran.append("both")
        return f"{interrupt('How many?')} of {interrupt('Of what?')}"

    async def quick() -> str:
        """Ask nothing."""
        ran.append("quick")
        return "quick done"

    made = function_tool if kind == "ours" else tool
    return [made(one) for one in (size, color, both, quick)]


def model_of(batch: tuple[str, ...]) -> ScriptedModel:
    def brain(messages: Any) -> Any:
        results = [m.text for m in messages if m.type == "tool"]
        return f"Done: {', '.join(results)}." if results else say("", *[call(name) for name in batch])

    return ScriptedModel(brain)


def graph_of(kind: str, batch: tuple[str, ...], ran: list[str]) -> tuple[Any, dict[str, Any]]:
    model, tools = model_of(batch), tools_of(kind, ran)
    if kind == "ours":
        return create_voice_graph([Agent("a", instructions="A", tools=tools, llm=model)]), {}
    if kind == "create_agent":
        return create_agent(model, tools), {"speak": ["model"]}
    if kind == "member":
        return create_voice_graph([create_agent(model, tools, name="a")]), {}

    async def step(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.bind_tools(tools).ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", step)
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(), {"speak": ["model"]}


QUESTIONS = {"size": ["Which size?"], "color": ["Which color?"], "both": ["How many?", "Of what?"], "quick": []}
ANSWERS = {"size": "size A0", "color": "color A0", "both": "A0 of A1", "quick": "quick done"}
BATCHES = [
    ("size",),
    ("both",),
    ("size", "quick"),
    ("quick", "size"),
    ("size", "color"),
    ("quick", "both", "size"),
    ("size", "quick", "color", "both"),
]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("batch", BATCHES, ids="-".join)
@pytest.mark.parametrize("kind", ["ours", "create_agent", "member", "ToolNode"])
async def test_a_batch_with_questions_is_answered_one_by_one(kind: str, batch: tuple[str, ...], front_end: str) -> None:
    ran: list[str] = []
    graph, options = graph_of(kind, batch, ran)
    async with Call(graph, front_end=front_end, **options) as phone:
        heard = (await phone.says("Order.")).heard
        asked: Counter[str] = Counter()
        while heard.endswith("?"):
            name = next(name for name, questions in QUESTIONS.items() if heard in questions)
            heard = (await phone.says(f"A{asked[name]}")).heard
            asked[name] += 1
        assert heard == f"Done: {', '.join(ANSWERS[name] for name in batch)}."
        assert asked == Counter({name: len(QUESTIONS[name]) for name in batch if QUESTIONS[name]})
        assert Counter(run.tool for run in phone.effects if run.outcome == "done") == Counter(batch)
    if kind == "ours":
        assert Counter(ran) == {name: 1 + asked[name] for name in batch}
    elif kind != "ToolNode":  # LangGraph runs each task that waits again, with each answer
        assert all(1 + asked[name] <= ran.count(name) <= 1 + asked.total() for name in batch)
        assert all(ran.count(name) == 1 for name in batch if not QUESTIONS[name])


@pytest.mark.parametrize("kind", ["ours", "create_agent"])
@pytest.mark.parametrize("batch", [("size",), ("both",), ("size", "quick")], ids="-".join)
async def test_code_before_a_question_runs_as_often_as_in_langgraph(kind: str, batch: tuple[str, ...]) -> None:
    alone: list[str] = []
    graph = create_agent(model_of(batch), tools_of("create_agent", alone), checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    state = await graph.ainvoke({"messages": [("user", "Order.")]}, config)
    while found := state.get("__interrupt__"):
        state = await graph.ainvoke(Command(resume={found[0].id: "A"}), config)
    ran: list[str] = []
    spoken, options = graph_of(kind, batch, ran)
    async with Call(spoken, **options) as phone:
        while (await phone.says("A")).heard.endswith("?"):
            pass
    assert Counter(ran) == Counter(alone)


async def test_what_a_node_beside_it_has_written_is_there_once() -> None:
    async def note(state: MessagesState) -> dict[str, Any]:
        return {"messages": [HumanMessage("a note")]}

    async def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [HumanMessage(interrupt("Which one?"))]}

    async def talk(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(", ".join(m.text for m in state["messages"]))]}

    builder = StateGraph(MessagesState)
    for node in (note, ask, talk):
        builder.add_node(node)
    builder.add_edge(START, "note")
    builder.add_edge(START, "ask")
    builder.add_edge(["note", "ask"], "talk")
    async with Call(builder.compile(), speak=["talk", "ask"], check=False) as phone:
        assert (await phone.says("hi")).heard == "Which one?"
        assert (await phone.says("blue")).heard == "hi, a note, Which one?, blue, blue"


# ---- HumanInTheLoopMiddleware


def paying(mode: str, name: str | None = None, **description: Any) -> tuple[Any, list[Any]]:
    paid: list[Any] = []

    @tool
    def pay(amount: int, to: str) -> str:
        """Pay."""
        paid.append((amount, to))
        return f"{amount} paid to {to}"

    @tool
    def look() -> str:
        """Look."""
        return "3 bills"

    def brain(messages: Any) -> Any:
        answers = [m for m in messages if m.type == "tool" and m.name == "pay"]
        if not answers:
            return say("", call("look"), call("pay", {"amount": 20, "to": "Ada"}))
        if "make it 30" in answers[-1].text:
            return say("", call("pay", {"amount": 30, "to": "Ada"}))
        return "It is paid." if answers[-1].status != "error" else "Then I don't."

    allowed = {"allowed_decisions": ["approve", "edit", "reject"], **description}
    middleware: Any = HumanInTheLoopMiddleware({"pay": allowed}, interrupt_mode=mode)  # type: ignore[arg-type,dict-item]
    return create_agent(ScriptedModel(brain), [pay, look], middleware=[middleware], name=name), paid


PLAIN = "May I pay, with amount 20, to Ada?"


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_yes_approves(mode: str, front_end: str) -> None:
    graph, paid = paying(mode)
    async with Call(graph, front_end=front_end, speak=["model"]) as phone:
        assert (await phone.says("Pay Ada.")).heard == PLAIN
        assert paid == []
        assert (await phone.says("Yes, please do.")).heard == "It is paid."
        assert paid == [(20, "Ada")]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_no_rejects(mode: str, front_end: str) -> None:
    graph, paid = paying(mode)
    async with Call(graph, front_end=front_end, speak=["model"]) as phone:
        await phone.says("Pay Ada.")
        assert (await phone.says("No, don't.")).heard == "Then I don't."
        assert paid == []
        (told,) = [m.text for m in phone.messages if isinstance(m, ToolMessage) and m.name == "pay"]
        assert "No, don't." in told


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_an_edit_is_told_to_the_model_and_asked_again(mode: str, front_end: str) -> None:
    graph, paid = paying(mode)
    async with Call(graph, front_end=front_end, speak=["model"]) as phone:
        await phone.says("Pay Ada.")
        assert (await phone.says("Yes, but make it 30.")).heard == "May I pay, with amount 30, to Ada?"
        assert (await phone.says("Okay.")).heard == "It is paid."
        assert paid == [(30, "Ada")]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("mode", ["batched", "per_call"])
async def test_a_member_of_a_voice_graph_asks_too(mode: str, front_end: str) -> None:
    graph, paid = paying(mode, name="desk")
    async with Call(create_voice_graph([graph]), front_end=front_end) as phone:
        assert [(await phone.says(text)).heard for text in ("Pay Ada.", "Yes, but make it 30.", "Yes.")] == [
            PLAIN,
            "May I pay, with amount 30, to Ada?",
            "It is paid.",
        ]
        assert paid == [(30, "Ada")]


async def test_the_words_are_those_of_the_description() -> None:
    def describe(tool_call: Any, state: Any, runtime: Any) -> str:
        return f"Shall I pay {tool_call['args']['amount']} euros?"

    for description, words in (("Shall I pay it?", "Shall I pay it?"), (describe, "Shall I pay 20 euros?")):
        graph, _ = paying("batched", description=description)
        async with Call(graph, speak=["model"]) as phone:
            assert (await phone.says("Pay Ada.")).heard == words
            await phone.says("yes")


@pytest.mark.parametrize("front_end", FRONT_ENDS)
async def test_a_call_may_have_words_and_answers_of_its_own(front_end: str) -> None:
    graph, paid = paying("batched")

    def ask(value: Any) -> str:
        return f"Soll ich {value['action_requests'][0]['args']['amount']} Euro bezahlen?"

    async def answer(value: Any, text: str) -> Any:
        action = value["action_requests"][0]
        edited = {"name": action["name"], "args": {**action["args"], "amount": 25}}
        return {"decisions": [{"type": "approve"} if text == "Ja." else {"type": "edit", "edited_action": edited}]}

    async with Call(graph, front_end=front_end, speak=["model"], ask=ask, answer=answer) as phone:
        assert (await phone.says("Bezahl Ada.")).heard == "Soll ich 20 Euro bezahlen?"
        assert (await phone.says("Nein, 25.")).heard == "It is paid."
        assert paid == [(25, "Ada")]


async def test_functions_that_fail_are_replaced_by_the_default() -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no")

    graph, _ = paying("batched")
    async with Call(graph, speak=["model"], ask=fail, answer=fail) as phone:
        assert (await phone.says("Pay Ada.")).heard == PLAIN
        assert (await phone.says("Yes.")).heard == "It is paid."
    with pytest.raises(BuildError, match=r"Conversation\(ask='Shall I\?'\): write a function"):
        Conversation(graph, speak=["model"], ask="Shall I?")  # type: ignore[arg-type]


def batched(*actions: dict[str, Any], allowed: list[str]) -> dict[str, Any]:
    configs = [{"action_name": action["name"], "allowed_decisions": allowed} for action in actions]
    return {"action_requests": list(actions), "review_configs": configs}


@pytest.mark.parametrize(
    ("text", "approves"),
    [
        *((text, True) for text in ("Yes.", "yeah", "OK, go ahead", "Sure, thank you!", "That's right", "Please do")),
        *((text, False) for text in ("No.", "not yet", "Yes, but tomorrow", "yes no", "What?", "", "the other one")),
    ],
)
def test_what_counts_as_yes(text: str, approves: bool) -> None:
    value = batched({"name": "a", "args": {}}, {"name": "b", "args": {}}, allowed=["approve", "reject"])
    made = {"type": "approve"} if approves else {"type": "reject", "message": text}
    assert answer_to(Interrupt(value=value, id="1"), text) == {"decisions": [made, made]}


def test_a_tool_that_the_caller_answers_gets_the_words() -> None:
    value = batched({"name": "ask_user", "args": {"question": "?"}}, allowed=["respond"])
    found = answer_to(Interrupt(value=value, id="1"), "Yes.")
    assert found == {"decisions": [{"type": "respond", "message": "Yes."}]}


def test_other_questions_are_as_they_were() -> None:
    assert words_of_question("Which one?") == "Which one?"
    assert words_of_question({"options": ["a", "b"]}) == '{"options": ["a", "b"]}'
    assert answer_to(Interrupt(value={"options": ["a", "b"]}, id="1"), "a") == "a"
    two = batched({"name": "pay", "args": {"to": "Ada"}}, {"name": "send_mail", "args": {}}, allowed=["approve"])
    assert words_of_question(two) == "May I pay, with to Ada, and send mail?"
