"""What is left of a provider's own data when its message's words or tool calls change."""

from typing import Any

from langchain_core.messages import AIMessage

from graph_voice.messages.provider_data import with_calls, with_words

CALLS = [{"name": "look_up", "args": {}, "id": i} for i in ("a", "b")]
USE_A, USE_B = ({"type": "tool_use", "id": i, "name": "look_up", "input": {}} for i in ("a", "b"))
THINKING = {"type": "thinking", "thinking": "They ask for the price.", "signature": "s"}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def message(content: Any, calls: list[dict[str, Any]] = CALLS, **extra: Any) -> AIMessage:
    metadata = {"id": "resp_1", "model_provider": "openai"}
    return AIMessage(content, tool_calls=calls, additional_kwargs=extra, response_metadata=metadata)


def test_data_by_call_id_stays_for_the_calls_that_stay() -> None:
    changed = with_calls(message("", signatures={"a": "1", "b": "2"}, tool_calls=["raw"], plan="short"), {"b"})

    assert changed == {"content": "", "additional_kwargs": {"signatures": {"b": "2"}, "plan": "short"}}


def test_thoughts_stay_as_long_as_a_call_that_they_led_to_stays() -> None:
    content = [THINKING, said("One moment."), USE_A, USE_B]

    assert with_calls(message(content), {"b"})["content"] == [THINKING, said("One moment."), USE_B]
    assert with_calls(message(content), ())["content"] == [said("One moment.")]


def test_other_words_without_a_call_keep_nothing_of_the_providers() -> None:
    whole = message([THINKING, said("It is $40.")], [], invalid_arguments=["a"], signatures={"a": "1"})

    assert with_words(whole, "It is") == {
        "content": "It is",
        "additional_kwargs": {"invalid_arguments": ["a"]},
        "response_metadata": {},
    }


def test_other_words_beside_calls_take_the_place_of_the_first_ones() -> None:
    def blocks(content: list[Any], words: str) -> Any:
        return with_words(message(content), words)["content"]

    assert blocks([THINKING, said("One moment."), USE_A, "please"], "One") == [THINKING, said("One"), USE_A]
    assert blocks([THINKING, said("One moment."), USE_A], "") == [THINKING, USE_A]
    assert blocks([THINKING, USE_A], "One") == [THINKING, said("One"), USE_A]
    assert blocks([THINKING], "One") == [THINKING, said("One")]


def test_the_id_of_a_response_goes_with_its_words() -> None:
    for content in ("One moment.", [said("One moment."), USE_A]):
        assert with_words(message(content), "One")["response_metadata"] == {"model_provider": "openai"}


def test_reasoning_beside_a_text_goes_only_if_the_words_are_others() -> None:
    whole = message("One moment.", reasoning={"id": "rs_1"}, plan="short")

    assert with_words(whole, "One moment.")["additional_kwargs"] == {"reasoning": {"id": "rs_1"}, "plan": "short"}
    assert with_words(whole, "One")["additional_kwargs"] == {"plan": "short"}


def test_item_ids_go_with_the_reasoning_that_they_refer_to() -> None:
    old = {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "look_up", "arguments": "{}"}
    new = {"type": "tool_call", "id": "b", "name": "look_up", "args": {}, "extras": {"item_id": "fc_2", "index": 1}}
    bare = {"type": "tool_call", "id": "c", "name": "look_up", "args": {}}
    whole = message([REASONING, said("One moment."), old, new, bare])

    assert with_words(whole, "One moment.")["content"] == whole.content
    assert with_words(whole, "One")["content"] == [
        said("One"),
        {k: v for k, v in old.items() if k != "id"},
        {**new, "extras": {"index": 1}},
        bare,
    ]


def test_reasoning_that_is_not_openais_does_not_stand_for_other_data() -> None:
    foreign = {"type": "reasoning", "reasoning": "They ask for the price."}
    whole = message([foreign, said("One moment."), USE_A], reasoning={"id": "rs_1"})

    changed = with_words(whole, "One")
    assert changed["content"] == [foreign, said("One"), USE_A]
    assert changed["additional_kwargs"] == {"reasoning": {"id": "rs_1"}}
