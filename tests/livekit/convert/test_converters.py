"""LangChain messages as LiveKit chat items."""

import json
import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from livekit.agents import llm

from graph_voice_livekit.convert.converters import from_chat_context, to_chat_context

thorough = settings(
    max_examples=int(os.environ.get("GRAPH_VOICE_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

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


# ---- there and back, on generated conversations

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
words = st.text(min_size=1, max_size=8)
arguments = st.dictionaries(st.text(min_size=1, max_size=3), json_values, max_size=2)
extras = st.dictionaries(st.sampled_from(["google", "mark", "x"]), json_values, max_size=2)
addresses = st.sampled_from(["https://x.example/a.png", "https://x.example/b.png", "data:image/png;base64,QUJD"])
blocks = st.lists(
    st.one_of(
        words.map(lambda text: {"type": "text", "text": text}),
        addresses.map(lambda url: {"type": "image_url", "image_url": {"url": url, "detail": "low"}}),
        addresses.map(lambda url: {"type": "image_url", "image_url": {"url": url}}),
        st.just({"type": "image", "base64": "QUJD", "mime_type": "image/png"}),
    ),
    min_size=1,
    max_size=3,
)


@st.composite
def langchain_calls(draw: st.DrawFn) -> list[AnyMessage]:
    """What LangChain can say that LiveKit can say as well; its own besides (metadata, usage, a provider's marks)."""
    messages: list[AnyMessage] = []
    for number in range(draw(st.integers(0, 6))):
        kwargs = draw(extras)
        match draw(st.sampled_from("hsdaab")):
            case "h":
                content: Any = draw(words | blocks)
                messages.append(HumanMessage(content, id=f"h{number}", additional_kwargs=kwargs))
            case "s":
                marks = {"is_summary": True} if draw(st.booleans()) else {}
                messages.append(SystemMessage(draw(words), id=f"s{number}", additional_kwargs={**kwargs, **marks}))
            case "d":
                marks = {"__openai_role__": "developer"}
                messages.append(SystemMessage(draw(words), id=f"d{number}", additional_kwargs={**kwargs, **marks}))
            case kind:
                calls = [
                    {"name": draw(st.sampled_from(["look", "book"])), "args": draw(arguments), "id": f"c{number}-{i}"}
                    for i in range(draw(st.integers(1, 3)) if kind == "b" else 0)
                ]
                text: Any = draw(words | blocks | st.just("")) if calls else draw(words | blocks)
                cut = {"interrupted": True} if text and draw(st.booleans()) else {}
                messages.append(
                    AIMessage(
                        text,
                        id=f"a{number}",
                        name=draw(st.none() | st.just("desk")),
                        tool_calls=calls,
                        additional_kwargs={**kwargs, **cut},
                        response_metadata=draw(st.just({}) | st.just({"model_name": "m"})),
                        usage_metadata=draw(
                            st.none() | st.just({"input_tokens": 1, "output_tokens": 2, "total_tokens": 3})
                        ),
                    )
                )
                for made in draw(st.permutations(calls)):
                    messages.append(
                        ToolMessage(
                            draw(words | st.just("")),
                            id=f"result-{made['id']}",
                            tool_call_id=made["id"],
                            name=made["name"],
                            status=draw(st.sampled_from(["success", "error"])),
                        )
                    )
    return messages


def without_theirs(message: AnyMessage) -> dict[str, Any]:
    """All of a message but what LiveKit keeps in it."""
    plain = message.model_dump()
    plain["additional_kwargs"] = {k: v for k, v in plain["additional_kwargs"].items() if k != "livekit"}
    return plain


@thorough
@given(langchain_calls())
def test_langchains_messages_come_back_as_they_were(messages: list[AnyMessage]) -> None:
    before = [m.model_dump() for m in messages]
    there = to_chat_context(messages)
    back = from_chat_context(there)
    assert [without_theirs(m) for m in back] == before
    assert [m.model_dump() for m in messages] == before, "nothing is changed on the way"
    again = to_chat_context(back)
    assert [i.model_dump() for i in again.items] == [i.model_dump() for i in there.items]


@st.composite
def livekit_calls(draw: st.DrawFn) -> llm.ChatContext:
    """What LiveKit's history may hold, but for its handoff and configuration items."""
    items: list[llm.ChatItem] = []
    at = 0.0
    for number in range(draw(st.integers(0, 6))):
        at += draw(st.integers(1, 50)) / 10
        if draw(st.booleans()):
            images = st.builds(
                llm.ImageContent,
                id=st.just(f"img{number}"),
                image=addresses,
                inference_detail=st.sampled_from(["auto", "high", "low"]),
                inference_width=st.none() | st.just(64),
                mime_type=st.none() | st.just("image/png"),
            )
            items.append(
                llm.ChatMessage(
                    id=f"m{number}",
                    role=draw(st.sampled_from(["user", "assistant", "system", "developer"])),
                    content=draw(st.lists(words | images, min_size=1, max_size=3)),
                    interrupted=draw(st.booleans()),
                    transcript_confidence=draw(st.none() | st.just(0.5)),
                    extra=draw(extras),
                    metrics=draw(st.just({}) | st.just({"stopped_speaking_at": 2.5})),
                    created_at=at,
                )
            )
            continue
        group = draw(st.none() | st.just(f"g{number}"))
        calls = [
            llm.FunctionCall(
                id=f"f{number}-{i}",
                call_id=f"c{number}-{i}",
                name=draw(st.sampled_from(["look", "book"])),
                arguments=draw(st.sampled_from(['{"n":1}', '{ "n" : 1 }', "{}", "", "{not json", "[1]"])),
                group_id=group,
                extra=draw(extras),
                created_at=at + i / 100,
            )
            for i in range(draw(st.integers(1, 3)) if group else 1)
        ]
        outputs = [
            llm.FunctionCallOutput(
                id=f"o-{c.call_id}",
                call_id=c.call_id,
                name=c.name,
                output=draw(words | st.just("")),
                is_error=draw(st.booleans()),
                reply_required=draw(st.booleans()),
                created_at=at + 0.05,
            )
            for c in calls
        ]
        items += [*calls, *draw(st.permutations(outputs))]
    return llm.ChatContext(items)


@thorough
@given(livekit_calls())
def test_livekits_items_come_back_as_they_were(context: llm.ChatContext) -> None:
    before = [i.model_dump() for i in context.items]
    messages = from_chat_context(context)
    assert [i.model_dump() for i in to_chat_context(messages).items] == before
    assert [i.model_dump() for i in context.items] == before, "nothing is changed on the way"
    serde = JsonPlusSerializer()
    read = serde.loads_typed(serde.dumps_typed(messages))
    assert [i.model_dump() for i in to_chat_context(read).items] == before, "also from a checkpoint"
