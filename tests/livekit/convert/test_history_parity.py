"""Each history operation beside the method of LiveKit's `ChatContext` that it follows, on the same conversations.

The conversation is converted, the operation applied on both sides, and the results compared item by item: LiveKit's
context after its method against ours, converted. Where the two differ on purpose, the test says so in its name.
"""

import dataclasses
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from livekit.agents import llm

from graph_voice import history
from graph_voice.history.reducers import merge_messages
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.convert.converters import LIVEKIT, from_chat_context, to_chat_context

Items = list[tuple[Any, ...]]
TOOLS = ("look_up", "book")
texts = st.sampled_from(["Hello.", "One moment.", "My bill is wrong.", "It's 42 dollars."])
thorough = settings(
    max_examples=int(os.environ.get("GRAPH_VOICE_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def items(context: llm.ChatContext) -> Items:
    """What LiveKit itself takes for the essence of an item."""
    found: Items = []
    for item in context.items:
        if item.type == "message":
            found.append(("message", item.id, item.role, tuple(map(str, item.content)), item.interrupted))
        elif item.type == "function_call":
            found.append(("call", item.call_id, item.name, item.arguments))
        elif item.type == "function_call_output":
            found.append(("output", item.call_id, item.output, item.is_error))
    return found


def ours(messages: list[AnyMessage]) -> Items:
    return items(to_chat_context(messages))


def run(policy: history.Operation, messages: list[AnyMessage]) -> list[AnyMessage]:
    work = history.apply(policy, messages)
    try:
        work.send(None)
    except StopIteration as stop:
        result: list[AnyMessage] = stop.value
        return result
    raise AssertionError("it waited for something")


@st.composite
def conversations(draw: st.DrawFn) -> list[AnyMessage]:
    """Well-formed conversations: one system message in front perhaps, turns, batches of calls with their results."""
    messages: list[AnyMessage] = []
    if draw(st.booleans()):
        messages.append(SystemMessage("Be brief.", id="s"))
    for n in range(draw(st.integers(0, 8))):
        match draw(st.sampled_from(["user", "assistant", "batch"])):
            case "user":
                messages.append(HumanMessage(draw(texts), id=f"u{n}"))
            case "assistant":
                extra = {"interrupted": True} if draw(st.booleans()) else {}
                messages.append(AIMessage(draw(texts), id=f"a{n}", additional_kwargs=extra))
            case _:
                names = draw(st.lists(st.sampled_from(TOOLS), min_size=1, max_size=2))
                calls = [{"name": name, "args": {"n": n}, "id": f"c{n}-{i}"} for i, name in enumerate(names)]
                messages.append(AIMessage(draw(st.sampled_from(["", "So."])), id=f"b{n}", tool_calls=calls))
                for call in calls:
                    status: Any = draw(st.sampled_from(["success", "error"]))
                    messages.append(
                        ToolMessage(draw(texts), id=f"r-{call['id']}", tool_call_id=call["id"], status=status)
                    )
    return messages


# ---- the methods of copy()


@thorough
@given(conversations())
def test_exclude_instructions(messages: list[AnyMessage]) -> None:
    theirs = to_chat_context(messages).copy(exclude_instructions=True)
    assert ours(run(history.exclude_instructions(), messages)) == items(theirs)


@thorough
@given(conversations())
def test_exclude_tool_calls(messages: list[AnyMessage]) -> None:
    theirs = to_chat_context(messages).copy(exclude_function_call=True)
    assert ours(run(history.exclude_tool_calls(), messages)) == items(theirs)


@thorough
@given(conversations())
def test_exclude_empty(messages: list[AnyMessage]) -> None:
    context = to_chat_context(messages)
    context.items.insert(0, llm.ChatMessage(id="empty", role="user", content=[]))
    assert ours(run(history.exclude_empty(), from_chat_context(context))) == items(
        context.copy(exclude_empty_message=True)
    )


@thorough
@given(conversations(), st.lists(st.sampled_from(TOOLS), max_size=2))
def test_only_tools(messages: list[AnyMessage], names: list[str]) -> None:
    theirs = to_chat_context(messages).copy(tools=names)
    assert ours(run(history.only_tools(*names), messages)) == items(theirs)


# ---- truncate()


@thorough
@given(conversations(), st.integers(0, 8))
def test_truncate_of_a_conversation_without_tools(messages: list[AnyMessage], max_items: int) -> None:
    spoken = run(history.exclude_tool_calls(), messages)
    theirs = to_chat_context(spoken).truncate(max_items=max_items)
    assert ours(run(history.truncate(max_items=max_items), spoken)) == items(theirs)


@thorough
@given(conversations(), st.integers(0, 8))
def test_unlike_livekit_truncate_keeps_a_batch_that_the_cut_leaves_whole(
    messages: list[AnyMessage], max_items: int
) -> None:
    """Ours counts messages, LiveKit items (a call and its output are two more), and drops every call at the beginning.

    Cut at the same place, and without a batch at the beginning, the two agree.
    """
    assume(len(messages) > max_items)
    shown = run(history.truncate(max_items=max_items), messages)
    mine = ours(shown)
    same_place = len([i for i in mine if i[2] != "system"])
    instructions = [i for i in mine if i[2] == "system"]
    rest = mine[len(instructions) :]
    while rest and rest[0][0] in ("call", "output"):
        rest.pop(0)
    assert [*instructions, *rest] == items(to_chat_context(messages).truncate(max_items=same_place))


def test_truncate_below_zero_is_a_value_error_on_both_sides() -> None:
    with pytest.raises(ValueError, match="non-negative"):
        llm.ChatContext().truncate(max_items=-1)
    with pytest.raises(ValueError, match="negative"):
        history.truncate(max_items=-1)


def test_unlike_livekit_truncate_leaves_no_orphan_behind_a_message() -> None:
    """LiveKit drops leading orphans only."""
    call = llm.FunctionCall(id="a/1", call_id="1", name="book", arguments="{}")
    late = llm.FunctionCallOutput(id="r", call_id="1", output="Booked.", is_error=False)
    user = llm.ChatMessage(id="u", role="user", content=["Well?"])
    context = llm.ChatContext([call, user, late])
    shown = run(history.truncate(max_items=2), from_chat_context(context))
    assert [i[0] for i in items(context.truncate(max_items=2))] == ["message", "output"]
    assert [i[0] for i in ours(shown)] == ["message"]


def test_unlike_livekit_a_call_that_never_ended_is_not_shown() -> None:
    call = llm.FunctionCall(id="a/1", call_id="1", name="book", arguments="{}")
    user = llm.ChatMessage(id="u", role="user", content=["Well?"])
    context = llm.ChatContext([call, user])
    assert len(context.truncate(max_items=2).items) == 2
    assert [i[0] for i in ours(run(history.truncate(max_items=2), from_chat_context(context)))] == ["message"]


def test_unlike_livekit_exclude_instructions_leaks_no_earlier_prompt() -> None:
    """LiveKit keeps `agent_config_update` items, which carry the previous agent's instructions."""
    update = llm.AgentConfigUpdate(instructions="You are billing. The code is 1234.")
    context = llm.ChatContext([update, llm.ChatMessage(id="u", role="user", content=["Hello."])])
    assert "1234" in str(context.copy(exclude_instructions=True).to_dict())
    assert "1234" not in str(to_chat_context(run(history.exclude_instructions(), from_chat_context(context))).to_dict())


def test_unlike_livekit_a_copy_shares_no_list_that_a_policy_changes() -> None:
    """LiveKit's `truncate` works in place, and `copy` shares its items."""
    context = to_chat_context([HumanMessage("a", id="1"), HumanMessage("b", id="2")])
    assert context.copy().items[0] is context.items[0]
    context.truncate(max_items=1)
    assert len(context.items) == 1
    messages: list[AnyMessage] = [HumanMessage("a", id="1"), HumanMessage("b", id="2")]
    run(history.truncate(max_items=1), messages)
    assert len(messages) == 2


def test_unlike_livekit_a_handoff_drops_no_calls_of_tools_that_the_new_agent_lacks() -> None:
    """LiveKit's `Agent(chat_ctx=c)` is `c.copy(tools=self.tools)`; here `only_tools` does it, when asked."""
    calls = [{"name": "book", "args": {}, "id": "1"}]
    messages: list[AnyMessage] = [
        AIMessage("", id="a", tool_calls=calls),
        ToolMessage("Booked.", tool_call_id="1", id="r"),
    ]
    assert items(to_chat_context(messages).copy(tools=["other"])) == []
    assert ours(run(history.full(), messages)) == items(to_chat_context(messages))


# ---- merge()


@thorough
@given(conversations(), conversations())
def test_merge_dedupes_by_id(messages: list[AnyMessage], other: list[AnyMessage]) -> None:
    """LiveKit keeps the item that is there; `messages` takes the newer one, as `add_messages` does. Same ids, once."""
    messages, other = (run(history.exclude_tool_calls(), m) for m in (messages, other))
    theirs = to_chat_context(messages).merge(to_chat_context(other))
    merged = to_chat_context(merge_messages(messages, other))
    assert len({i.id for i in merged.items}) == len(merged.items)
    assert {i.id for i in merged.items} == {i.id for i in theirs.items}


@thorough
@given(conversations(), st.data())
def test_merge_of_what_happened_in_between_is_the_same_in_order_of_time(
    messages: list[AnyMessage], data: st.DataObject
) -> None:
    """Here the conversation orders by time before it merges (`Conversation.add(at=...)`); the result is LiveKit's."""
    spoken = run(history.exclude_tool_calls(), messages)
    timed = [
        m.model_copy(update={"additional_kwargs": {LIVEKIT: {"created_at": float(i)}}}) for i, m in enumerate(spoken)
    ]
    chosen = [data.draw(st.booleans()) for _ in timed]
    here = [m for m, first in zip(timed, chosen, strict=True) if first]
    there = [m for m, first in zip(timed, chosen, strict=True) if not first]
    theirs = to_chat_context(here).merge(to_chat_context(there))
    by_time = sorted([*here, *there], key=lambda m: m.additional_kwargs[LIVEKIT]["created_at"])
    assert items(to_chat_context(merge_messages([], by_time))) == items(theirs)


# ---- _summarize()


class FakeStream:
    def __init__(self, text: str) -> None:
        self.text = text

    async def __aenter__(self) -> "FakeStream":
        return self

    async def __aexit__(self, *args: Any) -> None:
        pass

    async def __aiter__(self) -> Any:
        yield llm.ChatChunk(id="1", delta=llm.ChoiceDelta(role="assistant", content=self.text))


@dataclasses.dataclass
class FakeLLM:
    text: str

    def chat(self, chat_ctx: llm.ChatContext) -> FakeStream:
        return FakeStream(self.text)


@pytest.mark.parametrize("keep", [0, 1, 2])
async def test_summarize_keeps_the_same_turns_and_the_instructions(keep: int) -> None:
    """LiveKit's is an assistant message with XML around it and counts a turn as two messages; ours is a system message,
    as on LiveKit's page on summarizing context, and a turn is what followed the user's words. Neither changes this."""
    messages: list[AnyMessage] = [SystemMessage("Be brief.", id="s")]
    for n in range(3):
        messages += [HumanMessage(f"Question {n}?", id=f"u{n}"), AIMessage(f"Answer {n}.", id=f"a{n}")]
    theirs = await to_chat_context(messages)._summarize(FakeLLM("S"), keep_last_turns=keep)  # type: ignore[arg-type]
    policy = history.summarize(model=ScriptedModel(["S"]), keep_last_turns=keep)
    mine = to_chat_context(await history.apply(policy, messages))
    kept, summaries = [], []
    for context in (theirs, mine):
        said = [i for i in context.items if i.type == "message"]
        kept.append([(i.id, i.text_content) for i in said if not i.extra.get("is_summary")])
        summaries.append([(i.role, i.text_content) for i in said if i.extra.get("is_summary")])
    assert kept[0] == kept[1]
    assert summaries == [
        [("assistant", "<chat_history_summary>\nS\n</chat_history_summary>")],
        [("system", "Prior conversation summary: S")],
    ]


# ---- there and back


@thorough
@given(conversations())
def test_a_conversation_comes_back_from_livekit_as_it_was(messages: list[AnyMessage]) -> None:
    rich = [
        m.model_copy(update={"name": "billing", "response_metadata": {"model_name": "x"}})
        if isinstance(m, AIMessage)
        else m
        for m in messages
    ]
    for back, message in zip(from_chat_context(to_chat_context(rich)), rich, strict=True):
        plain = {k: v for k, v in back.additional_kwargs.items() if k != LIVEKIT}
        back = back.model_copy(update={"additional_kwargs": plain})
        if isinstance(back, ToolMessage):
            back.name = message.name  # LiveKit takes it from the call
        assert back == message


def test_livekits_items_come_back_as_they_were() -> None:
    context = llm.ChatContext(
        [
            llm.ChatMessage(id="s", role="developer", content=["Be brief."], created_at=1.0),
            llm.ChatMessage(
                id="u",
                role="user",
                content=[
                    "Look:",
                    llm.ImageContent(id="i", image="https://x/y.png", inference_detail="low", mime_type="image/png"),
                    "See?",
                ],
                transcript_confidence=0.75,
                metrics={"stopped_speaking_at": 2.5},
                created_at=2.0,
            ),
            llm.ChatMessage(
                id="a", role="assistant", content=["I"], interrupted=True, extra={"mark": [1]}, created_at=3.0
            ),
            llm.FunctionCall(
                id="a/1", call_id="1", name="book", arguments='{"n":1}', created_at=3.5, extra={"google": {"t": "x"}}
            ),
            llm.FunctionCall(id="f2", call_id="2", name="book", arguments="{not json", group_id="g", created_at=4.0),
            llm.FunctionCall(id="f3", call_id="3", name="look_up", arguments="{}", group_id="g", created_at=4.5),
            llm.FunctionCallOutput(id="o1", call_id="1", name="book", output="Booked.", is_error=False, created_at=5.0),
            llm.FunctionCallOutput(
                id="o2", call_id="2", name="book", output="no", is_error=True, reply_required=False, created_at=5.5
            ),
        ]
    )
    messages = from_chat_context(context)
    assert [m.type for m in messages] == ["system", "human", "ai", "ai", "tool", "tool"]
    back = to_chat_context(messages)
    assert [i.model_dump() for i in back.items] == [i.model_dump() for i in context.items]


def test_langchains_content_blocks_come_back_and_edits_on_livekits_side_count() -> None:
    blocks = [{"type": "text", "text": "Look:"}, {"type": "image", "base64": "QUJD", "mime_type": "image/png"}]
    context = to_chat_context([HumanMessage(blocks, id="u")])  # type: ignore[arg-type]
    (item,) = context.items
    assert item.type == "message"
    assert isinstance(item.content[1], llm.ImageContent)
    assert item.content[1].image == "data:image/png;base64,QUJD"
    assert from_chat_context(context)[0].content == blocks
    item.content = ["Edited."]
    assert from_chat_context(context)[0].content == "Edited."
