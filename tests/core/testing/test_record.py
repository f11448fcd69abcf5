"""A real model that was recorded says the same again, without the model."""

import copy
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from provider_support import OpenAI

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.errors import ModelError
from graph_voice.testing import Call, Recorded, ScriptedModel, call, fail, record, say
from graph_voice.testing.script import as_reply


@function_tool
async def book(ctx: RunContext[Any], day: str = "") -> str:
    """Book a table."""
    return f"booked {day}"


def graph() -> Any:
    return create_voice_graph(
        [
            Agent("desk", instructions="D.", tools=[book], handoffs=[Handoff("billing", "To billing.")]),
            Agent("billing", instructions="B."),
        ]
    )


async def played(llm: Any) -> list[Any]:
    async with Call(graph(), llm=llm) as phone:
        for text in ("Friday and Saturday.", "My bill."):
            await phone.says(text)
        return [(m.type, m.text) for m in phone.messages]


@pytest.mark.virtual_clock
async def test_a_call_with_a_recorded_model_is_repeated_by_its_script() -> None:
    script = {
        "desk": [
            say("One moment.", call("book", {"day": "Friday"}), call("book", {"day": "Saturday"})),
            "Both are booked.",
            call("transfer_to_billing"),
        ],
        "billing": ["This is billing, it's 5 dollars."],
    }
    recorded = record(ScriptedModel(script))
    first = await played(recorded)
    assert set(recorded.script) == {"desk", "billing"}
    assert await played(recorded.model()) == first
    source = recorded.source()
    assert "say('One moment.', call('book', {'day': 'Friday'}, id='call_1'), call(" in source
    again = eval(source, {"say": say, "call": call, "fail": fail})
    assert await played(ScriptedModel(again)) == first


@pytest.mark.virtual_clock
async def test_broken_arguments_and_errors_are_recorded() -> None:
    model = ScriptedModel(
        [call("book", '{"day": "Fri'), "Sorry.", fail(TimeoutError("too late"), 2, text="I am on it.")]
    )
    recorded = record(model)
    async with Call(graph(), llm=recorded) as phone:
        await phone.says("Friday.")
        await phone.says("And?")
    assert [line.text for line in recorded.script] == ["", "Sorry.", "I am"]
    assert recorded.script[0].calls[0].args == '{"day": "Fri'
    assert "too late" in str(recorded.script[2].error)
    source = recorded.source()
    assert "fail(RuntimeError('too late'), 2, text='I am')" in source
    assert len(eval(source, {"say": say, "call": call, "fail": fail})) == 3


async def test_a_model_over_http_is_recorded() -> None:
    provider = OpenAI([say("One moment.", call("book", {"day": "Friday"})), "Booked."])
    async with provider.serve() as model:
        recorded = record(model)
        async with Call(graph(), llm=recorded) as phone:
            result = await phone.says("Friday, please.")
            result.expect.contains_function_call(name="book", arguments={"day": "Friday"})
    assert [(line.text, [c.name for c in line.calls]) for line in recorded.script] == [
        ("One moment.", ["book"]),
        ("Booked.", []),
    ]
    async with Call(graph(), llm=recorded.model()) as phone:
        assert (await phone.says("Friday, please.")).heard == "One moment. Booked."


@pytest.mark.parametrize(
    "arguments", ["5", "null", "[]", '"a"', '{"x": NaN}', '{"day": "Fri', '{"day": "it\'s"}', "{}"]
)
def test_the_source_of_any_arguments_gives_them_again(arguments: str) -> None:
    recorded = Recorded(None, {"desk": [say("One moment.", call("book", arguments, id="call_1"))]})
    (line,) = eval(recorded.source(), {"say": say, "call": call, "fail": fail})
    assert line == recorded.script[0]


async def test_parallel_calls_broken_arguments_and_an_error_over_http_are_recorded() -> None:
    both = say("One moment.", call("book", {"day": "Friday"}, id="a"), call("book", {"day": "Saturday"}, id="b"))
    provider = OpenAI([both, "Booked.", call("book", '{"day": "Fri', id="c"), "Sorry.", 503, 503, 503])
    async with provider.serve() as model:
        recorded = record(model)
        async with Call(graph(), llm=recorded) as phone:
            await phone.says("Friday and Saturday.")
            await phone.says("And Friday again.")
            await phone.says("Hello?")
    assert not provider.refused
    assert [(c.name, c.args, c.id) for c in recorded.script[0].calls] == [(c.name, c.args, c.id) for c in both.calls]
    assert recorded.script[2].calls[0].args == '{"day": "Fri'
    assert "status 503" in str(recorded.script[4].error)
    again = eval(recorded.source(), {"say": say, "call": call, "fail": fail})
    assert [repr(as_reply(line)) for line in again] == [repr(line) for line in recorded.script]


def test_a_recorded_model_can_be_copied() -> None:
    recorded = record(ScriptedModel(["Hello."]))
    assert copy.copy(recorded).model().script == recorded.script == {}


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError):
        record("gpt")


@pytest.mark.virtual_clock
async def test_what_a_model_is_asked_without_a_stream_is_recorded_as_well() -> None:
    """A summary is asked for as a whole, in the background and in a handoff."""
    summary = history.summarize(keep_last_turns=1)

    def build() -> Any:
        return create_voice_graph(
            [
                Agent("desk", instructions="D.", handoffs=[Handoff("billing", "To billing.", history=summary)]),
                Agent("billing", instructions="B."),
            ]
        )

    def answer(messages: list[BaseMessage]) -> Any:
        if "summar" in messages[0].text.lower():
            return f"Summary {len(messages)}."
        asked = next(m.text for m in reversed(messages) if m.type == "human")
        leaves = asked == "My bill." and messages[0].text == "D."
        return call("transfer_to_billing") if leaves else f"About {asked}"

    async def heard(llm: Any) -> list[Any]:
        async with Call(build(), llm=llm) as phone:
            for text in ("A table.", "A window.", "My bill.", "And how much?"):
                await phone.says(text)
            return [(m.type, m.text) for m in phone.messages] + [m.text for m in phone.conversation.chat_ctx]

    recorded = record(ScriptedModel(answer))
    first = await heard(recorded)
    assert any("Summary" in str(text) for text in first)
    assert await heard(recorded.model()) == first


def test_a_model_that_is_asked_without_a_loop_is_recorded() -> None:
    recorded = record(ScriptedModel(["Hello."]))
    assert recorded.invoke("hi").text == "Hello."
    assert recorded.source() == "[\n    'Hello.',\n]"
