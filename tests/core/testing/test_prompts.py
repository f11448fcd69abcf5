"""The prompt rules of the strictest provider."""

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.testing import PromptError, check_prompt

SYSTEM, HUMAN, SAID = SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello.")


def called(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "t", "args": {}, "id": id} for id in ids])


def answer(id: str) -> ToolMessage:
    return ToolMessage("result", tool_call_id=id)


@pytest.mark.parametrize(
    "messages",
    [
        [HUMAN],
        [SYSTEM, HUMAN, SAID, HumanMessage("and")],
        [SYSTEM, HUMAN, called("a", "b", text="wait"), answer("b"), answer("a")],
        [SYSTEM, HUMAN, called("a"), answer("a"), called("b"), answer("b"), SAID],
        [SYSTEM, SAID, HUMAN],
    ],
)
def test_good_prompts_pass(messages: list[BaseMessage]) -> None:
    check_prompt(messages)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], "no human message"),
        ([SYSTEM, SAID], "no human message"),
        ([SYSTEM, HUMAN, SystemMessage("later")], r"messages \[2\] are system messages after the first message"),
        ([SYSTEM, SystemMessage("second"), HUMAN], r"messages \[1\] are system messages"),
        ([HUMAN, called("a")], "never answered"),
        ([HUMAN, called("a", "b"), answer("a")], r"\['b'\] of message 1 are never answered"),
        ([HUMAN, called("a"), HumanMessage("x"), answer("a")], "not answered before message 2"),
        ([HUMAN, called("a"), answer("a"), answer("a")], "message 3 answers 'a'"),
        ([HUMAN, answer("a")], "message 1 answers 'a'"),
        (
            [HUMAN, called("a"), answer("a"), SAID, called("a"), answer("a")],
            "tool call id 'a' is used 2 times",
        ),
        ([HumanMessage("x", id="m"), AIMessage("y", id="m"), HUMAN], "message id 'm' is used 2 times"),
        ([HUMAN, AIMessage(""), HUMAN], "message 1 is an assistant message without text"),
        ([HumanMessage(""), SAID, HUMAN], "message 0 is an empty human message"),
    ],
)
def test_bad_prompts_are_refused_with_the_reason(messages: list[BaseMessage], problem: str) -> None:
    with pytest.raises(PromptError, match=problem):
        check_prompt(messages)


def test_calls_that_could_not_be_parsed_need_an_answer_too() -> None:
    broken = AIMessage(
        "",
        invalid_tool_calls=[{"name": "t", "args": "{", "id": "a", "error": None, "type": "invalid_tool_call"}],
    )
    with pytest.raises(PromptError, match="never answered"):
        check_prompt([HUMAN, broken])
    check_prompt([HUMAN, broken, answer("a")])


def test_every_problem_and_every_message_is_shown() -> None:
    with pytest.raises(PromptError) as caught:
        check_prompt([HUMAN, called("a"), SystemMessage("later")])
    assert "after the first message" in str(caught.value)
    assert "never answered" not in str(caught.value)
    assert "not answered before message 2" in str(caught.value)
    assert "  2 system    'later'" in str(caught.value)


@pytest.mark.parametrize(
    ("messages", "rule"),
    [
        ([HUMAN, SystemMessage("later")], "later_system"),
        ([SYSTEM, SAID, HUMAN], "opens_with_assistant"),
        ([SYSTEM, HUMAN, SAID], "ends_with_assistant"),
    ],
)
def test_rules_that_providers_differ_in_can_be_chosen(messages: list[BaseMessage], rule: str) -> None:
    check_prompt(messages, allow=[rule])
    with pytest.raises(PromptError):
        check_prompt(messages, allow=())


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="Unknown prompt rules"):
        check_prompt([HUMAN], allow=["typo"])
