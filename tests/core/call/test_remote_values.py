"""What makes a thread on a server hold what is remembered, whatever it holds."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph.message import add_messages
from langgraph.types import Interrupt

from graph_voice.call.remote import as_json, thread_of
from graph_voice.call.remote_values import interrupts_of, messages_of, part_of, reconciled, update_to

WORDS = st.sampled_from(["", "One.", "One. Two."])


@st.composite
def message(draw: st.DrawFn, message_id: str) -> AnyMessage:
    match draw(st.integers(0, 3)):
        case 0:
            return HumanMessage(draw(WORDS), id=message_id)
        case 1:
            calls = [{"name": "pay", "args": {"amount": draw(st.integers(0, 2))}, "id": "call-1"}]
            return AIMessage(draw(WORDS), id=message_id, tool_calls=calls)
        case 2:
            return ToolMessage(draw(WORDS), id=message_id, tool_call_id=draw(st.sampled_from(["call-1", "call-2"])))
        case _:
            return AIMessage(draw(WORDS), id=message_id)


@st.composite
def history(draw: st.DrawFn) -> list[AnyMessage]:
    ids = draw(st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6))
    return [draw(message(message_id)) for message_id in ids]


def shown(messages: Any) -> list[Any]:
    """What a model is shown of them."""
    return [
        (m.type, m.id, m.content, getattr(m, "tool_calls", None), getattr(m, "tool_call_id", None)) for m in messages
    ]


@given(history(), history(), st.sets(st.sampled_from("abcdefg")))
def test_the_servers_reducer_makes_of_what_it_holds_what_it_should_hold(
    held: list[AnyMessage], remembered: list[AnyMessage], spoken: set[str]
) -> None:
    wanted = reconciled(held, remembered, spoken)
    update = [as_json(m) for m in update_to(held, wanted)]
    became: Any = add_messages(list(held), update) if update else held
    assert shown(became) == shown(wanted)
    assert update_to(became, wanted) == []


@given(history(), history(), st.sets(st.sampled_from("abcdefg")))
def test_what_is_remembered_is_there_in_its_order_and_only_what_nobody_was_to_hear_besides(
    held: list[AnyMessage], remembered: list[AnyMessage], spoken: set[str]
) -> None:
    wanted = reconciled(held, remembered, spoken)
    known = {m.id for m in remembered}
    assert [m for m in wanted if m.id in known] == remembered
    dropped = [m for m in held if isinstance(m, AIMessage) and m.id in spoken - known]
    answered = {m.tool_call_id for m in remembered if isinstance(m, ToolMessage)}
    answered |= {str(c["id"]) for m in dropped for c in m.tool_calls}
    others = [m for m in held if m.id not in known | spoken]
    kept = [m for m in others if not isinstance(m, ToolMessage) or m.tool_call_id not in answered]
    assert sorted(str(m.id) for m in wanted if m.id not in known) == sorted(str(m.id) for m in kept)


def test_a_result_that_came_after_its_run_was_cancelled_is_not_there_beside_the_one_that_the_model_was_told() -> None:
    asking = AIMessage("", id="a", tool_calls=[{"name": "pay", "args": {}, "id": "call-1"}])
    told: list[AnyMessage] = [asking, ToolMessage("It is unknown.", id="r", tool_call_id="call-1")]
    assert reconciled([asking, ToolMessage("Paid.", id="b", tool_call_id="call-1")], told, {"a"}) == told


@given(history())
def test_a_message_is_the_same_after_its_way_to_the_server_and_back(messages: list[AnyMessage]) -> None:
    assert shown(messages_of([as_json(m) for m in messages])) == shown(messages)


def test_a_question_is_langgraphs_own_value() -> None:
    told = interrupts_of([{"value": {"action": "pay"}, "id": "i-1", "response_schema": None}])
    assert told == (Interrupt({"action": "pay"}, id="i-1"),)
    part = part_of({"type": "updates", "ns": (), "data": {"__interrupt__": [{"value": "Yes?", "id": "i-2"}]}})
    assert part["data"]["__interrupt__"] == (Interrupt("Yes?", id="i-2"),)


def test_a_message_of_a_graph_inside_the_graph_is_streamed_with_its_place() -> None:
    metadata = {"langgraph_node": "model", "langgraph_checkpoint_ns": "expert:1|model:2"}
    chunk = {"type": "AIMessageChunk", "content": "Hello", "id": "m-1"}
    part = part_of({"type": "messages", "ns": (), "data": (chunk, metadata)})
    assert part["ns"] == ("expert:1",)
    assert (part["data"][0].type, part["data"][0].text) == ("AIMessageChunk", "Hello")


def test_the_thread_of_a_call_is_always_the_same_and_a_uuid_is_its_own() -> None:
    own = "8f9b8f5e-6b0a-4bb1-8f0b-6f7ae6f1c3d2"
    assert thread_of(own) == own
    assert thread_of("room-1") == thread_of("room-1") != thread_of("room-2")
