"""Each history operation by example, and where operations may be written. The rules: test_rules.py."""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel, Field, SecretStr

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.errors import HistoryError
from graph_voice.history.context import merge_chat_ctx, resolve
from graph_voice.testing import ScriptedModel, call, say

RULES = SystemMessage("Never promise a date.", id="s1")
HELLO = HumanMessage("Hello.", id="u1")
ASKS = AIMessage(
    "One moment.",
    id="a1",
    tool_calls=[{"name": "look_up", "args": {}, "id": "c1"}, {"name": "book", "args": {}, "id": "c2"}],
)
FOUND = ToolMessage("42", id="r1", tool_call_id="c1", name="look_up")
BOOKED = ToolMessage("Booked.", id="r2", tool_call_id="c2", name="book")
ANSWER = AIMessage("It is booked.", id="a2")
THANKS = HumanMessage("Thanks.", id="u2")
BYE = AIMessage("Bye.", id="a3")
TALK: list[AnyMessage] = [RULES, HELLO, ASKS, FOUND, BOOKED, ANSWER, THANKS, BYE]


def ids(messages: Any) -> list[str | None]:
    return [m.id for m in messages]


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (history.fresh(), []),
        (history.full(), ["s1", "u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.exclude_instructions(), ["u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.exclude_tool_calls(), ["s1", "u1", "a1", "a2", "u2", "a3"]),
        (history.exclude_empty(), ["s1", "u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.only_tools("look_up"), ["s1", "u1", "a1", "r1", "a2", "u2", "a3"]),
        (history.only_tools(), ["s1", "u1", "a1", "a2", "u2", "a3"]),
        (history.truncate(max_items=0), ["s1"]),
        (history.truncate(max_items=3), ["s1", "a2", "u2", "a3"]),
        (history.truncate(max_items=5), ["s1", "a2", "u2", "a3"]),
        (history.truncate(max_items=6), ["s1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.truncate(max_items=8), ["s1", "u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.last_turns(0), []),
        (history.last_turns(1), ["u2", "a3"]),
        (history.last_turns(2), ["s1", "u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.trim_tokens(15), ["u2", "a3"]),
        (history.trim_tokens(1), []),
        (history.trim_tokens(1000), ["s1", "u1", "a1", "r1", "r2", "a2", "u2", "a3"]),
        (history.exclude_instructions() | history.truncate(max_items=4), ["a2", "u2", "a3"]),
        (history.truncate(max_items=4) | history.exclude_tool_calls(), ["s1", "a2", "u2", "a3"]),
    ],
    ids=str,
)
async def test_what_each_operation_keeps(policy: history.Operation, kept: list[str]) -> None:
    assert ids(await history.apply(policy, TALK)) == kept


async def test_of_a_batch_only_the_named_tools_calls_stay_and_the_words() -> None:
    shown = await history.apply(history.only_tools("book"), TALK)
    assert isinstance(shown[2], AIMessage)
    assert (shown[2].text, [c["name"] for c in shown[2].tool_calls]) == ("One moment.", ["book"])
    assert len(ASKS.tool_calls) == 2


async def test_developer_messages_are_instructions_and_summaries_are_not() -> None:
    summary = SystemMessage("Prior conversation summary: x", additional_kwargs={"is_summary": True}, id="m")
    shown = await history.apply(history.exclude_instructions(), [RULES, summary, HELLO])
    assert ids(shown) == ["m", "u1"]


def count_words(messages: list[AnyMessage]) -> int:
    return sum(len(m.text.split()) for m in messages)


async def test_tokens_can_be_counted_by_ones_own_function() -> None:
    policy = history.trim_tokens(2, counter=count_words)
    assert ids(await history.apply(history.from_dict(json.loads(json.dumps(policy))), TALK)) == ["u2", "a3"]


async def test_the_target_agents_own_context_comes_first_each_message_once() -> None:
    old = SystemMessage("known: a", id="k", additional_kwargs={"made_by_history": "userdata"})
    new = SystemMessage("known: b", id="k2", additional_kwargs={"made_by_history": "userdata"})
    policy = history.last_turns(1) | history.resume()
    assert ids(await history.apply(policy, TALK, earlier=[HELLO, THANKS])) == ["u1", "u2", "a3"]
    shown = await history.apply(history.resume(), [new, THANKS], earlier=[old, HELLO])
    assert ids(shown) == ["u1", "k2", "u2"], "of what an operation made, the newer stays"


def shout(messages: list[AnyMessage], userdata: Any) -> list[Any]:
    return [("user", f"{userdata}!"), *messages[-1:]]


async def shout_later(messages: list[AnyMessage], userdata: Any) -> list[Any]:
    return shout(messages, userdata)


@pytest.mark.parametrize("fn", [shout, shout_later])
async def test_ones_own_function_sync_or_async(fn: Any) -> None:
    policy = history.from_dict(history.custom(fn).to_dict())
    assert [m.text for m in await history.apply(policy, TALK, userdata="Ann")] == ["Ann!", "Bye."]


# ---- userdata


class Card(BaseModel):
    number: SecretStr = SecretStr("4242")
    kind: str = "visa"


class Caller(BaseModel):
    name: str = "Ann Müller"
    age: int | None = None
    pin: SecretStr = SecretStr("1234")
    code: str = Field(default="9876", exclude=True)
    card: Card = Card()
    cards: list[Card] = [Card()]
    notes: list[str] = []


@pytest.mark.parametrize("format", ["yaml", "json"])
async def test_userdata_as_one_message_without_secrets_and_without_what_is_not_set(format: Any) -> None:
    summary, *rest = await history.apply(history.userdata_summary(format), [HELLO], userdata=Caller())
    assert ids(rest) == ["u1"]
    assert isinstance(summary, SystemMessage)
    assert "Ann Müller" in summary.text
    for hidden in ("age", "notes", "pin", "1234", "code", "9876", "4242"):
        assert hidden not in summary.text


async def test_userdata_fields_are_chosen_and_a_newer_summary_replaces_the_older() -> None:
    first = await history.apply(
        history.userdata_summary(include=["name", "card"], exclude=["card"]), [HELLO], userdata=Caller()
    )
    assert first[0].text == "What is known so far:\nname: Ann Müller"
    again = history.exclude_instructions() | history.userdata_summary("json", include=["name"])
    second = await history.apply(again, first, userdata=Caller(name="Bo"))
    assert [m.text for m in second] == ['What is known so far:\n{"name": "Bo"}', "Hello."]


# ---- as values


def test_an_operation_reads_as_it_is_written_and_is_plain_data() -> None:
    policy = history.exclude_instructions() | history.truncate(max_items=6)
    assert str(policy) == "exclude_instructions() | truncate(max_items=6)"
    assert json.loads(json.dumps(policy)) == {
        "steps": [{"op": "exclude_instructions"}, {"op": "truncate", "max_items": 6}]
    }
    same = history.exclude_instructions()
    same |= history.truncate(max_items=6)
    assert same == policy
    assert len({same, policy}) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: history.truncate(max_items=-1), "negative"),
        (lambda: history.last_turns(-1), "negative"),
        (lambda: history.trim_tokens(0), "at least one token"),
        (lambda: history.trim_tokens(1, counter=lambda m: 1), "top level of a module"),
        (lambda: history.summarize(keep_last_turns=-1), "negative"),
        (lambda: history.summarize(deadline=-1), "negative"),
        (lambda: history.userdata_summary("xml"), 'write "yaml" or "json"'),  # type: ignore[arg-type]
        (lambda: history.custom(lambda m, u: m), "top level of a module"),
        (lambda: history.from_dict({"steps": [{"op": "shorten"}]}), "The operations are|the operations are"),
        (lambda: history.from_dict({"steps": [{"op": "truncate"}]}), "not a history operation"),
        (lambda: history.from_dict("full"), "not a history operation"),
        (lambda: merge_chat_ctx(None, HELLO), "chat_ctx takes history operations"),
    ],
)
def test_a_mistake_says_what_to_write(make: Any, message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        make()
    with pytest.raises(ValueError, match=message):
        make()


async def test_a_function_that_is_gone_is_named() -> None:
    with pytest.raises(HistoryError, match="no_such_function"):
        await history.apply(history.custom("json:no_such_function"), TALK)


# ---- where operations are written


def prompt_texts(model: ScriptedModel, index: int = -1) -> list[str]:
    return [m.text for m in model.prompts[index].messages[1:]]


async def test_a_node_returns_an_operation_and_the_next_agent_step_obeys() -> None:
    model = ScriptedModel(["One.", "Two.", "Three."])
    builder = create_voice_graph([Agent("a", instructions="Be kind.")], llm=model)
    builder.add_node("shorten", lambda state: {"chat_ctx": history.truncate(max_items=3)})
    builder.add_edge("a", "shorten")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    for text in ("first", "second", "third"):
        result = await graph.ainvoke({"messages": [text]}, config)
    assert prompt_texts(model) == ["second", "Two.", "third"], "truncated when the third step began"
    assert [m.text for m in result["messages"]] == ["first", "One.", "second", "Two.", "third", "Three."]
    assert result["chat_ctx"]["pending"] == [{"steps": [{"op": "truncate", "max_items": 3}]}]
    assert [m.text for m in history.view(result)] == ["second", "Two.", "third", "Three."]


async def test_a_tool_returns_an_operation_and_hands_off_in_one_batch() -> None:
    @function_tool
    async def forget(ctx: RunContext[Any]) -> Command[Any]:
        """Forget."""
        return Command(
            update={
                "chat_ctx": history.exclude_tool_calls(),
                "messages": [ToolMessage("Done.", tool_call_id=ctx.tool_call_id or "")],
            }
        )

    model = ScriptedModel({"a": ["Hi.", say("So.", call("forget"), call("transfer_to_b"))], "b": ["B here."]})
    graph = create_voice_graph(
        [
            Agent("a", instructions="A.", tools=[forget], handoffs=[Handoff("b", history=history.full())]),
            Agent("b", instructions="B."),
        ],
        llm=model,
    )
    conversation = Conversation(graph)
    await conversation.run("Hello.")
    await conversation.run("Forget it.")
    assert prompt_texts(model) == [
        "Hello.",
        "Hi.",
        "Forget it.",
        "So.",
        "(The caller is on the line and waits for you to speak.)",
    ]
    assert len(conversation.messages) == 7
    await conversation.aclose()


async def test_what_waits_is_applied_before_a_handoffs_own_policy() -> None:
    waiting = {"pending": [history.truncate(max_items=3).to_dict()]}
    state = {"messages": TALK, "chat_ctx": waiting}
    made = await resolve(state, operation=history.exclude_instructions())
    after = merge_chat_ctx(merge_chat_ctx(waiting, history.fresh()), made)
    assert ids(history.view({"messages": TALK, "chat_ctx": after})) == ["a2", "u2", "a3"]
    assert after["pending"] == [history.fresh().to_dict()], "what came meanwhile waits on"


async def test_an_agent_takes_up_what_it_knew() -> None:
    model = ScriptedModel(
        {
            "desk": ["Desk.", call("transfer_to_billing"), "Desk again."],
            "billing": ["Billing.", call("transfer_to_desk")],
        }
    )
    graph = create_voice_graph(
        [
            Agent("desk", instructions="D.", handoffs=["billing"]),
            Agent(
                "billing",
                instructions="B.",
                handoffs=[Handoff("desk", history=history.last_turns(1) | history.resume())],
            ),
        ],
        llm=model,
    )
    conversation = Conversation(graph)
    for text in ("one", "two", "three"):
        await conversation.run(text)
    assert prompt_texts(model) == [
        "one",
        "Desk.",
        "two",
        "",
        "Transferring to billing.",
        "Billing.",
        "three",
        "",
        "Transferring to desk.",
    ]
    await conversation.update_agent("billing", history.fresh() | history.resume())
    assert [m.text for m in conversation.chat_ctx] == ["Billing.", "three", "", "Transferring to desk."]
    await conversation.aclose()


@pytest.mark.parametrize(
    "policy",
    [history.fresh(), history.exclude_tool_calls(), history.truncate(max_items=1), history.userdata_summary()],
    ids=str,
)
async def test_messages_lose_nothing_to_a_policy(policy: history.Operation) -> None:
    model = ScriptedModel({"a": ["Hi.", call("transfer_to_b")], "b": ["B here."]})
    graph = create_voice_graph(
        [Agent("a", instructions="A.", handoffs=[Handoff("b", history=policy)]), Agent("b", instructions="B.")],
        llm=model,
    )
    conversation = Conversation(graph, userdata={"name": "Ann"})
    for text in ("Hello.", "Transfer me."):
        await conversation.run(text)
    assert [m.text for m in conversation.messages] == [
        "Hello.",
        "Hi.",
        "Transfer me.",
        "",
        "Transferring to b.",
        "B here.",
    ]
    await conversation.aclose()


async def test_edits_in_studio_and_messages_of_foreign_nodes_are_seen() -> None:
    model = ScriptedModel({"a": ["Hi.", call("transfer_to_b")], "b": ["B here.", "Yes."]})
    builder = create_voice_graph(
        [Agent("a", instructions="A.", handoffs=[Handoff("b", history=history.full())]), Agent("b", instructions="B.")],
        llm=model,
    )
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": [HumanMessage("Hello.", id="u1")]}, config)
    await graph.ainvoke({"messages": ["Transfer me."]}, config)
    await graph.aupdate_state(config, {"messages": [HumanMessage("Good morning.", id="u1")]}, as_node="b")
    await graph.aupdate_state(config, {"messages": [HumanMessage("The caller is a VIP.")]}, as_node="b")
    await graph.ainvoke({"messages": ["Are you there?"]}, config)
    shown = prompt_texts(model)
    assert shown[0] == "Good morning."
    assert shown[-2:] == ["The caller is a VIP.", "Are you there?"]
