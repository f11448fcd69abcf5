"""The chat APIs' pairing rule, case by case. Over generated conversations: tests/core/history/test_rules.py."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from graph_voice.messages.pairs import RUNNING, calls_of, keep_calls, pair_safe, paired, placeholder, stands_alone


def asks(*ids: str, text: str = "", id: str = "asking") -> AIMessage:
    return AIMessage(text, id=id, tool_calls=[{"name": "look_up", "args": {}, "id": i} for i in ids])


def answers(call_id: str, text: str = "42") -> ToolMessage:
    return ToolMessage(text, tool_call_id=call_id, id=f"result-{call_id}", name="look_up")


def texts(messages: Any) -> list[str]:
    return [m.text for m in messages]


def test_a_list_without_tools_is_returned_as_it_is() -> None:
    messages = [HumanMessage("Hello", id="1"), AIMessage("Hi", id="2")]
    assert pair_safe(messages) == messages


def test_results_go_back_behind_their_calls_in_the_calls_order() -> None:
    messages = [asks("a", "b"), HumanMessage("Well?", id="1"), answers("b", "B"), answers("a", "A")]
    assert texts(pair_safe(messages)) == ["", "A", "B", "Well?"]


def test_a_result_without_its_call_is_dropped() -> None:
    assert pair_safe([answers("a"), HumanMessage("Hi", id="1")]) == [HumanMessage("Hi", id="1")]


def test_a_call_without_result_in_the_middle_is_dropped_and_its_text_stays() -> None:
    shown = pair_safe([asks("a", text="One moment."), HumanMessage("Hi", id="1")])
    assert texts(shown) == ["One moment.", "Hi"]
    assert isinstance(shown[0], AIMessage)
    assert not shown[0].tool_calls


def test_the_last_messages_calls_are_still_running() -> None:
    shown = pair_safe([HumanMessage("Hi", id="1"), asks("a", "b"), answers("a")])
    assert texts(shown) == ["Hi", "", "42", RUNNING]


def test_a_real_result_takes_the_place_of_a_placeholder_in_either_order() -> None:
    for results in ([placeholder("a", "look_up"), answers("a")], [answers("a"), placeholder("a", "look_up")]):
        renamed = [r.model_copy(update={"id": f"r{i}"}) for i, r in enumerate(results)]
        assert texts(pair_safe([asks("a"), *renamed])) == ["", "42"]


def test_a_call_whose_arguments_were_not_json_wants_an_answer_too_but_never_runs() -> None:
    broken = AIMessage(
        "Let me see.",
        id="asking",
        invalid_tool_calls=[
            {"name": "look_up", "args": "{", "id": "a", "error": "not JSON", "type": "invalid_tool_call"}
        ],
    )
    assert [c.id for c in calls_of(broken)] == ["a"]
    assert texts(pair_safe([broken, answers("a", "not JSON")])) == ["Let me see.", "not JSON"]
    (alone,) = pair_safe([broken])
    assert isinstance(alone, AIMessage)
    assert not calls_of(alone)


def test_a_call_id_that_two_messages_use_is_the_later_ones() -> None:
    shown = pair_safe([asks("a", text="First.", id="1"), answers("a", "old"), asks("a", id="2"), answers("a", "new")])
    assert texts(shown) == ["First.", "", "new"]


def test_a_message_id_that_comes_twice_has_the_first_ones_place_and_the_last_ones_words() -> None:
    messages = [HumanMessage("a", id="1"), AIMessage("b", id="2"), HumanMessage("c", id="1")]
    assert texts(pair_safe(messages)) == ["c", "b"]


def test_a_message_with_neither_text_nor_calls_is_dropped() -> None:
    assert pair_safe([HumanMessage("Hi", id="1"), AIMessage("", id="2")]) == [HumanMessage("Hi", id="1")]


def test_a_providers_own_data_stays_for_the_calls_that_stay() -> None:
    thinking, said = {"type": "thinking", "thinking": "...", "signature": "s"}, {"type": "text", "text": "So."}
    uses = [{"type": "tool_use", "id": i, "name": "look_up", "input": {}} for i in "ab"]
    message = AIMessage(
        [thinking, said, *uses],
        id="1",
        tool_calls=[{"name": "look_up", "args": {}, "id": i} for i in "ab"],
        additional_kwargs={"tool_calls": [{"id": "a"}, {"id": "b"}], "note": 1, "signatures": {"a": "x", "b": "y"}},
    )
    assert keep_calls(message, ["a", "b"]) is message
    part = keep_calls(message, ["a"])
    assert part.content == [thinking, said, uses[0]]
    assert part.additional_kwargs == {"note": 1, "signatures": {"a": "x"}}
    assert [c["id"] for c in part.tool_calls] == ["a"]
    assert len(message.tool_calls) == 2
    assert len(message.content) == 4
    none = keep_calls(message, [])
    assert none.content == [said]
    assert none.additional_kwargs == {"note": 1, "signatures": {}}


def test_openais_reasoning_stays_with_the_item_behind_it_or_goes_with_all_item_ids() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    calls = [{"type": "function_call", "id": f"fc_{i}", "call_id": i, "name": "look_up"} for i in "ab"]
    message = AIMessage(
        [reasoning, *calls], id="1", tool_calls=[{"name": "look_up", "args": {}, "id": i} for i in "ab"]
    )
    assert keep_calls(message, ["a"]).content == [reasoning, calls[0]]
    assert keep_calls(message, ["b"]).content == [{"type": "function_call", "call_id": "b", "name": "look_up"}]


def test_in_a_state_a_call_waits_for_its_result() -> None:
    waiting = [asks("a", "b"), HumanMessage("Hi", id="1"), answers("b")]
    assert texts(paired(waiting)) == ["", "42", "Hi"]
    assert paired(waiting)[0] is waiting[0]
    assert paired([answers("a"), asks("a")]) == [asks("a")]


def test_a_message_that_stands_alone_leaves_all_others_as_they_are_and_any_other_may_not() -> None:
    pairs = [[HumanMessage("Hi", id="1")], [asks("a"), answers("a")], [AIMessage("Well.", id="2")]]
    unclear = AIMessage("", id="new", invalid_tool_calls=[{"name": "x", "args": "{", "id": "b", "error": "not JSON"}])
    for message, alone in [
        (HumanMessage("And?", id="new"), True),
        (AIMessage("One moment.", id="new"), True),
        (AIMessage("", id="new"), False),
        (asks("b", text="One moment.", id="new"), False),
        (answers("b"), False),
        (unclear, False),
    ]:
        assert stands_alone(message) == alone
        for index in range(1, len(pairs)):
            whole = [m for group in [*pairs[:index], [message], *pairs[index:]] for m in group]
            assert (pair_safe(whole) == whole) == alone
