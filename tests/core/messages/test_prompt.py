"""What a model is shown: what the strictest provider takes, for whatever a conversation holds."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice.graph.generate import normalize_tool_calls, without_calls
from graph_voice.messages.prompt import OPENER, add_words, build_prompt
from graph_voice.models.bindings import Bindings
from graph_voice.testing import ScriptedModel, check_prompt

CALL = {"id": "c1", "name": "ping", "args": {}, "type": "tool_call"}


def shown(*context: AnyMessage, reply: str | None = None) -> list[str]:
    prompt = build_prompt("You are x.", context, reply_instructions=reply)
    check_prompt(prompt, allow=())
    return [f"{message.type}: {message.text}" for message in prompt]


def test_the_instructions_come_first_and_alone() -> None:
    assert shown(HumanMessage("Hi.")) == ["system: You are x.", "human: Hi."]


def test_an_empty_context_gets_a_neutral_opener() -> None:
    assert shown() == ["system: You are x.", f"human: {OPENER}"]


def test_instructions_for_the_reply_come_last_as_livekit_places_them() -> None:
    said = shown(HumanMessage("Hi."), AIMessage("Hello."), reply="Ask for the name.")
    assert said[-1] == "human: <instructions>\nAsk for the name.\n</instructions>"


def test_a_later_system_message_becomes_instructions_where_it_stands() -> None:
    said = shown(HumanMessage("Hi."), SystemMessage("Be brief."), AIMessage("Hello."), HumanMessage("Well?"))
    assert said[2] == "human: <instructions>\nBe brief.\n</instructions>"


def test_no_prompt_ends_or_begins_with_the_assistant() -> None:
    said = shown(AIMessage("Hello."))
    assert said == ["system: You are x.", f"human: {OPENER}", "ai: Hello.", f"human: {OPENER}"]


def test_blank_messages_are_left_out() -> None:
    blanks = (HumanMessage(" "), AIMessage("\n"), SystemMessage(""), HumanMessage([{"type": "text", "text": ""}]))
    assert shown(HumanMessage("Hi."), *blanks) == ["system: You are x.", "human: Hi."]


def test_an_image_is_not_blank() -> None:
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}])
    assert build_prompt("You are x.", [image])[1] is image


def test_assistant_messages_in_a_row_are_one_and_keep_the_providers_data() -> None:
    blocks: list[Any] = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Sure."}]
    last = AIMessage(blocks, tool_calls=[CALL], additional_kwargs={"signatures": {"c1": "s"}})
    result = ToolMessage("up", tool_call_id="c1")
    prompt = build_prompt("x", [HumanMessage("Hi."), AIMessage("One moment."), last, result])
    check_prompt(prompt, allow=())
    merged = prompt[2]
    assert isinstance(merged, AIMessage)
    assert merged.content == [{"type": "text", "text": "One moment."}, *blocks]
    assert (merged.tool_calls, merged.additional_kwargs) == ([CALL], {"signatures": {"c1": "s"}})


def test_blocks_of_another_provider_are_merged_as_their_words() -> None:
    first = AIMessage([{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "One."}],
                      response_metadata={"model_provider": "anthropic"})  # fmt: skip
    second = AIMessage([{"type": "text", "text": "Two."}], response_metadata={"model_provider": "google_genai"})
    prompt = build_prompt("x", [HumanMessage("Hi."), first, second])
    assert prompt[2].content == [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]


TEXTS = st.sampled_from(["", " ", "\n", "Hello.", "One moment."])


@st.composite
def conversations(draw: st.DrawFn) -> list[AnyMessage]:
    made: list[AnyMessage] = []
    for number in range(draw(st.integers(0, 8))):
        text, kind = draw(TEXTS), draw(st.sampled_from(["human", "ai", "system", "tools", "blocks", "orphan"]))
        ids = [f"c{number}-{index}" for index in range(draw(st.integers(1, 3)))]
        calls = [{**CALL, "id": call_id} for call_id in ids]
        if kind == "human":
            made.append(HumanMessage(text))
        elif kind == "system":
            made.append(SystemMessage(text))
        elif kind == "orphan":
            made.append(ToolMessage(text, tool_call_id="nobody"))
        elif kind == "ai":
            made.append(AIMessage(text))
        elif kind == "blocks":
            made.append(AIMessage([{"type": "text", "text": text}]))
        else:
            made.append(AIMessage(text, tool_calls=calls))
            made.extend(ToolMessage(text, tool_call_id=i) for i in draw(st.permutations(ids)) if draw(st.booleans()))
    return made


@given(conversations(), st.sampled_from([None, "", "Greet."]))
def test_every_prompt_satisfies_every_rule(context: list[AnyMessage], reply: str | None) -> None:
    before = [message.model_copy(deep=True) for message in context]
    prompt = build_prompt("You are x.", context, reply_instructions=reply)
    check_prompt(prompt, allow=())
    kinds = [message.type for message in prompt]
    assert kinds[0] == "system"
    assert "system" not in kinds[1:]
    assert ("ai", "ai") not in itertools.pairwise(kinds)
    assert all(m.text.strip() for m in prompt if m.type == "human")
    assert context == before


def test_words_are_added_before_the_calls_and_behind_the_reasoning() -> None:
    blocks: list[Any] = [{"type": "thinking", "thinking": "Hm."}, {"type": "tool_use", "id": "c1"}]
    content = add_words(AIMessage(blocks, tool_calls=[CALL]), "A while.").content
    assert content == [blocks[0], {"type": "text", "text": "A while."}, blocks[1]]
    assert add_words(AIMessage("I look."), "A while.").content == "I look. A while."


def test_a_call_id_that_was_used_is_renamed_in_the_providers_data_too() -> None:
    blocks: list[Any] = [
        {"type": "function_call", "call_id": "c1", "id": "fc_1"},
        {"type": "tool_use", "id": "c2"},
    ]
    message = AIMessage(
        blocks, tool_calls=[CALL, {**CALL, "id": "c2"}], additional_kwargs={"signatures": {"c1": "s"}, "other": 1}
    )
    settled = normalize_tool_calls(message, {"c1"})
    new, kept = (call["id"] for call in settled.tool_calls)
    assert (new, kept) not in [("c1", "c2")]
    assert kept == "c2"
    assert settled.content == [{**blocks[0], "call_id": new}, blocks[1]]
    assert settled.additional_kwargs == {"signatures": {new: "s"}, "other": 1}
    assert message.additional_kwargs["signatures"] == {"c1": "s"}


def test_without_its_calls_a_message_keeps_no_trace_of_them() -> None:
    blocks: list[Any] = [{"type": "text", "text": "Hi."}, {"type": "tool_use", "id": "c1"}]
    bare = without_calls(AIMessage(blocks, tool_calls=[CALL]))
    assert (bare.content, bare.tool_calls) == ([blocks[0]], [])
    broken = {"id": "c1", "name": "ping", "args": "{", "error": None, "type": "invalid_tool_call"}
    bare = without_calls(AIMessage(blocks, invalid_tool_calls=[broken]))
    assert (bare.content, bare.invalid_tool_calls) == ([blocks[0]], [])


class _Words(ScriptedModel):
    """A model whose class, as Anthropic's, takes any word for the name of a tool to be forced."""

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        if isinstance(tool_choice, str):
            tool_choice = {"type": "tool", "name": tool_choice}
        return super().bind_tools(tools, tool_choice=tool_choice)


class _Deaf(ScriptedModel):
    """A model that has no way to forbid calls."""

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        if tool_choice is not None:
            raise ValueError("no tool_choice")
        return super().bind_tools(tools)


@pytest.mark.parametrize(
    ("kind", "choice"), [(ScriptedModel, "none"), (_Words, {"type": "none"}), (_Deaf, None)], ids=lambda v: str(v)
)
async def test_calls_are_forbidden_in_the_words_that_the_model_takes(kind: Any, choice: Any) -> None:
    from langchain_core.tools import tool

    @tool
    def ping() -> str:
        """Ping."""
        return ""

    model = kind(["Hello."])
    bound = Bindings().get(model, [ping], may_call=False)
    await bound.ainvoke([HumanMessage("Hi.")])
    assert (model.prompts[0].tools, model.prompts[0].tool_choice) == (("ping",), choice)
