"""LangChain messages as LiveKit chat items."""

import json

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from livekit.agents import llm

from graph_voice_livekit.converters import to_chat_context

CALL = {"id": "call_1", "name": "balance", "args": {"account": 4}, "type": "tool_call"}


def test_a_conversation_keeps_its_ids_order_and_roles() -> None:
    context = to_chat_context(
        [
            SystemMessage("Be brief.", id="s"),
            HumanMessage("Hello.", id="h"),
            AIMessage("One moment.", id="a", tool_calls=[CALL]),
            ToolMessage("40 euros", id="t", tool_call_id="call_1"),
            AIMessage("You have", id="b", additional_kwargs={"interrupted": True}),
        ]
    )
    assert [item.type for item in context.items] == [
        "message",
        "message",
        "message",
        "function_call",
        "function_call_output",
        "message",
    ]
    system, human, asked, made, output, cut = context.items
    assert isinstance(system, llm.ChatMessage)
    assert isinstance(human, llm.ChatMessage)
    assert isinstance(asked, llm.ChatMessage)
    assert isinstance(made, llm.FunctionCall)
    assert isinstance(output, llm.FunctionCallOutput)
    assert isinstance(cut, llm.ChatMessage)
    assert [(m.id, m.role) for m in (system, human, asked, cut)] == [
        ("s", "system"),
        ("h", "user"),
        ("a", "assistant"),
        ("b", "assistant"),
    ]
    assert (made.call_id, made.name, json.loads(made.arguments)) == ("call_1", "balance", {"account": 4})
    assert (output.call_id, output.name, output.output, output.is_error) == ("call_1", "balance", "40 euros", False)
    assert (asked.interrupted, cut.interrupted) == (False, True)


def test_items_stay_in_order_when_livekit_sorts_new_ones_in_by_time() -> None:
    context = to_chat_context([HumanMessage("one", id="1"), AIMessage("two", id="2"), HumanMessage("three", id="3")])
    context.add_message(role="assistant", content="four")
    context.insert(llm.ChatMessage(role="user", content=["five"]))
    assert [i.text_content for i in context.items if isinstance(i, llm.ChatMessage)] == [
        "one",
        "two",
        "three",
        "four",
        "five",
    ]


def test_every_provider_takes_the_calls_with_their_results() -> None:
    context = to_chat_context(
        [
            HumanMessage("Hello.", id="h"),
            AIMessage("", id="a", tool_calls=[CALL]),
            ToolMessage("broken", id="t", tool_call_id="call_1", status="error"),
        ]
    )
    messages, _ = context.to_provider_format("openai")
    assert [m["role"] for m in messages] == ["user", "assistant", "tool"]
    assert messages[2]["content"] == "broken"


def test_a_message_without_text_or_calls_is_no_item() -> None:
    assert to_chat_context([AIMessage("", id="a")]).items == []


def test_content_blocks_are_read_as_their_text() -> None:
    (item,) = to_chat_context([AIMessage([{"type": "text", "text": "Hello."}], id="a")]).items
    assert isinstance(item, llm.ChatMessage)
    assert item.text_content == "Hello."
