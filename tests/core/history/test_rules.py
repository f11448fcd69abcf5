"""The rules that hold for every history operation, alone or composed, over generated conversations.

Rule numbers are those of docs/history.md. Each property runs 200 examples; `GRAPH_VOICE_EXAMPLES=10000` runs more.
"""

from typing import Any

import pytest
from history_support import (
    EXAMPLES,
    assert_strict,
    conversations,
    done,
    frozen,
    policies,
    pure_policies,
    single_updates,
    texts,
    thorough,
    updates,
)
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage
from pydantic import BaseModel, SecretStr

from graph_voice import history
from graph_voice.errors import HistoryError
from graph_voice.history.context import carry, merge_chat_ctx, resolve, shortened, view
from graph_voice.history.reducers import merge_messages
from graph_voice.messages.pairs import RUNNING


class Caller(BaseModel):
    name: str = "Ann"
    pin: SecretStr = SecretStr("1234")


def applied(policy: history.Operation, messages: list[AnyMessage], earlier: list[AnyMessage] = []) -> list[AnyMessage]:  # noqa: B006
    return done(history.apply(policy, messages, userdata=Caller(), earlier=earlier))


def test_a_property_runs_as_many_examples_as_it_says() -> None:
    seen = []

    @thorough
    @given(st.integers())
    def count(number: int) -> None:
        seen.append(number)

    count()
    assert len(seen) >= EXAMPLES >= 200


# ---- 1: pairs


@thorough
@given(policies, conversations(), conversations())
def test_rule_1_every_result_satisfies_the_strict_pairing_rule(
    policy: history.Operation, messages: list[AnyMessage], earlier: list[AnyMessage]
) -> None:
    assert_strict(applied(policy, messages, earlier))


@thorough
@given(policies, conversations(), conversations(max_groups=3))
def test_rule_1_holds_for_the_view_after_a_handoff_and_whatever_comes_later(
    policy: history.Operation, before: list[AnyMessage], after: list[AnyMessage]
) -> None:
    state: dict[str, Any] = {"messages": merge_messages([], before), "userdata": Caller()}
    state["chat_ctx"] = merge_chat_ctx(None, done(resolve(state, operation=policy)))
    assert_strict(view(state))
    later = [m.model_copy(update={"id": f"later-{i}"}) for i, m in enumerate(after)]
    assert_strict(view({**state, "messages": merge_messages(state["messages"], later)}))


@thorough
@given(conversations(torn=False), texts)
def test_rule_1_a_running_call_is_answered_by_a_placeholder_until_its_result_comes(
    before: list[AnyMessage], result: str
) -> None:
    asking = AIMessage("", id="asking", tool_calls=[{"name": "look_up", "args": {}, "id": "slow"}])
    messages = merge_messages(before, [asking])
    state: dict[str, Any] = {"messages": messages}
    state["chat_ctx"] = done(resolve(state, operation=history.full()))
    assert [m.text for m in view(state)][-1] == RUNNING
    messages = merge_messages(messages, [HumanMessage("Are you there?", id="there")])
    messages = merge_messages(messages, [ToolMessage(result, id="result-slow", tool_call_id="slow")])
    shown = view({**state, "messages": messages})
    assert_strict(shown)
    assert [m.text for m in shown if isinstance(m, ToolMessage) and m.tool_call_id == "slow"] == [result]


@thorough
@given(policies, conversations(), conversations(max_groups=3))
def test_rule_1_holds_for_a_long_stay_and_whatever_comes_later(
    policy: history.Operation, before: list[AnyMessage], after: list[AnyMessage]
) -> None:
    """`Agent(context=policy)`, applied again after more was said."""
    state: dict[str, Any] = {"messages": merge_messages([], before), "userdata": Caller(), "chat_ctx": {}}
    for more in ([], [m.model_copy(update={"id": f"later-{i}"}) for i, m in enumerate(after)]):
        state["messages"] = merge_messages(state["messages"], more)
        expected = applied(policy, view(state))
        update = done(shortened(state, policy, agent="a", model=None))
        state["chat_ctx"] = merge_chat_ctx(state["chat_ctx"], update)
        assert view(state) == expected
        assert_strict(view(state))


@thorough
@given(policies, conversations(), pure_policies)
def test_a_long_stays_update_loses_no_operation_that_waits(
    policy: history.Operation, messages: list[AnyMessage], waiting: history.Operation
) -> None:
    ctx = merge_chat_ctx(None, waiting)
    state: dict[str, Any] = {"messages": merge_messages([], messages), "userdata": Caller(), "chat_ctx": ctx}
    update = done(shortened(state, policy, agent="a", model=None))
    after = merge_chat_ctx(merge_chat_ctx(ctx, history.full()), update)
    assert after["pending"] == [waiting.to_dict(), history.full().to_dict()]


# ---- resume


@thorough
@given(
    conversations(torn=False), conversations(torn=False, max_groups=4), st.lists(pure_policies, min_size=2, max_size=2)
)
def test_an_agent_that_comes_back_finds_its_own_context_once_in_order_and_first(
    first: list[AnyMessage], second: list[AnyMessage], ways: list[history.Operation]
) -> None:
    """A -> B -> A: there with one policy, back with another one and `resume()`."""
    second = [m.model_copy(update={"id": f"b-{m.id}"}) for m in _renamed(second)]
    messages = merge_messages([], first)
    state: dict[str, Any] = {"messages": messages, "userdata": Caller(), "active_agent": "a"}
    known = view(state)
    state["contexts"] = {"a": carry(known, messages)}
    state["chat_ctx"] = merge_chat_ctx(None, done(resolve(state, operation=ways[0], agent="b")))
    state["messages"] = merge_messages(messages, second)
    back = done(resolve(state, operation=ways[1] | history.resume(), agent="a"))
    told = applied(ways[1], view(state))
    shown = view({**state, "chat_ctx": merge_chat_ctx(state["chat_ctx"], back)})
    assert_strict(shown)
    ids = [m.id for m in shown]
    assert len(set(ids)) == len(ids)
    made = {m.additional_kwargs.get("made_by_history") for m in told} - {None}
    own = [m.id for m in known if m.additional_kwargs.get("made_by_history") not in made]
    # A call of its own that still ran when it left is answered, or gone, by now: what follows is in order all the same.
    running = {f"result-{c['id']}" for m in known if isinstance(m, AIMessage) for c in m.tool_calls}
    assert [i for i in ids if i in set(own) - running] == [i for i in own if i not in running and i in ids]
    lost = {m.id for m in known if isinstance(m, HumanMessage)} - set(ids)
    assert not lost, "nothing that was said to it is forgotten"
    later = [m.id for m in told if m.id not in {k.id for k in known} and m.id not in running]
    assert [i for i in ids if i in later] == [i for i in later if i in ids]
    places = [ids.index(i) for i in own if i in ids and i not in running]
    assert max(places, default=-1) < min([ids.index(i) for i in later if i in ids], default=len(ids)), (
        "its own is first"
    )


def _renamed(messages: list[AnyMessage]) -> list[AnyMessage]:
    """The same with other call ids, as another agent's are."""
    found: list[AnyMessage] = []
    for m in messages:
        if isinstance(m, AIMessage):
            calls = [{**c, "id": f"b-{c['id']}"} for c in m.tool_calls]
            m = m.model_copy(update={"tool_calls": calls})
        elif isinstance(m, ToolMessage):
            m = m.model_copy(update={"tool_call_id": f"b-{m.tool_call_id}"})
        found.append(m)
    return found


# ---- 2: order, ids, inputs


def _sequence(messages: list[AnyMessage]) -> list[str]:
    """Ids of what no operation moves: results go to their calls, and the first system message may come back."""
    seen: dict[str, None] = {}
    for message in messages:
        if not isinstance(message, ToolMessage | SystemMessage) and message.id is not None:
            seen.setdefault(message.id)
    return list(seen)


@thorough
@given(pure_policies, conversations())
def test_rule_2_order_is_kept_no_id_comes_twice_and_nothing_is_made_up(
    policy: history.Operation, messages: list[AnyMessage]
) -> None:
    result = applied(policy, messages)
    ids = [m.id for m in result]
    assert len(set(ids)) == len(ids)
    place = {found: at for at, found in enumerate(_sequence(messages))}
    order = [place[found] for found in _sequence(result)]
    assert order == sorted(order)
    known = {m.id for m in messages} | {
        f"result-{c['id']}" for m in messages if isinstance(m, AIMessage) for c in m.tool_calls
    }
    assert set(ids) <= known


@thorough
@given(policies, conversations(), conversations())
def test_rule_2_inputs_and_their_messages_are_never_changed(
    policy: history.Operation, messages: list[AnyMessage], earlier: list[AnyMessage]
) -> None:
    before, before_earlier = frozen(messages), frozen(earlier)
    result = applied(policy, messages, earlier)
    result.clear()
    assert (frozen(messages), frozen(earlier)) == (before, before_earlier)


@thorough
@given(policies, conversations())
def test_an_operation_is_the_same_after_a_checkpoint(policy: history.Operation, messages: list[AnyMessage]) -> None:
    again = history.from_dict(policy.to_dict())
    assert again == policy
    assert applied(again, messages) == applied(policy, messages)


# ---- 3: truncate


@thorough
@given(st.integers(0, 8), conversations())
def test_rule_3_truncate_never_returns_more_than_its_items_and_the_first_system_message(
    max_items: int, messages: list[AnyMessage]
) -> None:
    result = applied(history.truncate(max_items=max_items), messages)
    whole = applied(history.full(), messages)
    restored = bool(result) and isinstance(result[0], SystemMessage) and len(whole) > max_items
    assert len(result) <= max_items + restored
    if len(whole) <= max_items:
        assert result == whole
    first = next((m for m in whole if isinstance(m, SystemMessage)), None)
    if first is not None:
        assert first in result


@thorough
@given(st.integers(0, 4), conversations())
def test_last_turns_begin_with_a_user_turn_and_lack_none_of_what_followed(n: int, messages: list[AnyMessage]) -> None:
    whole = applied(history.full(), messages)
    result = applied(history.last_turns(n), messages)
    turns = [m for m in whole if isinstance(m, HumanMessage)]
    if n == 0:
        assert result == []
    elif len(turns) > n:
        assert [m for m in result if isinstance(m, HumanMessage)] == turns[len(turns) - n :]
        assert result == whole[whole.index(turns[-n]) :]
    else:
        assert result == whole


# ---- 4: batches


@thorough
@given(updates, updates, updates)
def test_rule_4_messages_are_the_same_whether_updates_come_at_once_or_one_by_one(
    first: list[Any], x: list[Any], y: list[Any]
) -> None:
    state = merge_messages([], first)
    one_by_one = merge_messages(merge_messages(state, x), y)
    assert one_by_one == merge_messages(state, [*x, *y])
    assert one_by_one == merge_messages(state, [x, y]), "as DeltaChannel hands over several writes"


@thorough
@given(
    st.one_of(st.none(), pure_policies),
    updates,
    st.lists(st.one_of(single_updates, updates, pure_policies), max_size=6),
    st.lists(st.one_of(single_updates, updates, pure_policies), max_size=6),
)
def test_rule_4_holds_for_a_reducer_with_any_pure_policy(
    policy: history.Operation | None, first: list[Any], x: list[Any], y: list[Any]
) -> None:
    reduce = history.reducer(policy)
    state = reduce([], first)
    assert reduce(reduce(state, x), y) == reduce(state, [*x, *y])


@thorough
@given(conversations(torn=False, max_groups=6), pure_policies, st.data())
def test_rule_4_a_reducer_cuts_whole_conversations_the_same_in_any_batches(
    messages: list[AnyMessage], policy: history.Operation, data: st.DataObject
) -> None:
    reduce = history.reducer(policy)
    at_once, state, rest = reduce([], messages), [], list(messages)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        state, rest = reduce(state, rest[:size]), rest[size:]
    assert state == at_once


@thorough
@given(
    st.lists(st.one_of(policies, st.lists(policies, max_size=2), st.just({"carried": [], "resolved": 1})), max_size=6),
    st.data(),
)
def test_rule_4_chat_ctx_is_the_same_in_any_batches(written: list[Any], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(written)))
    assert merge_chat_ctx(merge_chat_ctx(None, written[:cut]), written[cut:]) == merge_chat_ctx(None, written)


@thorough
@given(updates, updates)
def test_reducers_never_change_what_they_are_given(first: list[Any], update: list[Any]) -> None:
    state = merge_messages([], first)
    objects = [m for m in update if not isinstance(m, tuple | dict | str)]
    before = frozen(state), frozen(objects)
    merge_messages(state, update)
    history.reducer(history.truncate(max_items=2))(state, update)
    assert (frozen(state), frozen(objects)) == before


# ---- 6: `messages` keeps everything


@thorough
@given(policies, conversations(), texts)
def test_rule_6_policies_shape_what_is_shown_and_nothing_dropped_comes_back(
    policy: history.Operation, before: list[AnyMessage], edit: str
) -> None:
    messages = merge_messages([], before)
    state: dict[str, Any] = {"messages": messages, "userdata": Caller()}
    everything = frozen(messages)
    ctx = merge_chat_ctx(None, done(resolve(state, operation=policy)))
    assert frozen(messages) == everything
    shown = {m.id for m in view({**state, "chat_ctx": ctx})}
    dropped = {m.id for m in messages} - shown
    # Somebody edits every message in Studio, removes the boundary, and the call goes on.
    edited = [m.model_copy(update={"content": edit}) if isinstance(m, HumanMessage) else m for m in messages]
    later = HumanMessage("And then?", id="later")
    now = merge_messages(messages, [*edited, later])
    if messages:
        now = merge_messages(now, RemoveMessage(str(messages[-1].id)))
    after = view({**state, "messages": now, "chat_ctx": ctx})
    assert not dropped & {m.id for m in after}
    assert after[-1] is later
    referenced = {item["id"] for item in ctx["carried"] if "id" in item}
    assert all(m.text == edit for m in after if isinstance(m, HumanMessage) and m.id in referenced)


@thorough
@given(pure_policies)
def test_rule_6_messages_refuse_an_operation(policy: history.Operation) -> None:
    with pytest.raises(HistoryError, match="chat_ctx"):
        merge_messages([], [policy])


@thorough
@given(conversations())
def test_carrying_what_is_shown_shows_it(messages: list[AnyMessage]) -> None:
    messages = merge_messages([], messages)
    shown = view({"messages": messages})
    assert view({"messages": messages, "chat_ctx": carry(shown, messages)}) == shown
