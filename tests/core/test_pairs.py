"""The chat APIs' pairing rule, case by case. The rule over generated conversations: test_history_rules.py."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from graph_voice.pairs import RUNNING, calls_of, keep_calls, pair_safe, paired, placeholder


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


def test_a_providers_own_data_about_calls_stays_only_when_all_calls_do() -> None:
    message = AIMessage(
        [{"type": "thinking", "thinking": "..."}, {"type": "text", "text": "So."}, {"type": "tool_use", "id": "a"}],
        id="1",
        tool_calls=[{"name": "look_up", "args": {}, "id": i} for i in "ab"],
        additional_kwargs={"tool_calls": [{"id": "a"}, {"id": "b"}], "note": 1},
    )
    assert keep_calls(message, ["a", "b"]) is message
    part = keep_calls(message, ["a"])
    assert part.content == [{"type": "text", "text": "So."}]
    assert part.additional_kwargs == {"note": 1}
    assert [c["id"] for c in part.tool_calls] == ["a"]
    assert len(message.tool_calls) == 2
    assert len(message.content) == 3


def test_in_a_state_a_call_waits_for_its_result() -> None:
    waiting = [asks("a", "b"), HumanMessage("Hi", id="1"), answers("b")]
    assert texts(paired(waiting)) == ["", "42", "Hi"]
    assert paired(waiting)[0] is waiting[0]
    assert paired([answers("a"), asks("a")]) == [asks("a")]
