"""A model that fails, stalls, says nothing or calls what it may not: the caller hears something, the call goes on."""

import asyncio
import itertools
from typing import Any

import pytest
from langchain_core.exceptions import ModelAuthenticationError, ModelRateLimitError, ModelRefusalError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from langgraph.types import RetryPolicy

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.models import SilentModelError
from graph_voice.testing import ScriptedModel, call, check_prompt, fail, hang, say

pytestmark = pytest.mark.virtual_clock
SORRY = "Sorry, that went wrong."
PASSING = ModelRateLimitError("slow down")


@function_tool
async def ping(ctx: RunContext[Any]) -> str:
    """See whether the line is up."""
    return "up"


class Chunks(BaseChatModel):
    """A model that streams these chunks, whatever it is told: what a provider may send and a script can't say."""

    replies: list[list[AIMessageChunk]]

    @property
    def _llm_type(self) -> str:
        return "chunks"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        check_prompt(messages, allow=())
        for chunk in self.replies.pop(0):
            yield ChatGenerationChunk(message=chunk)


def calls(name: str, call_id: str | None = "call_1") -> AIMessageChunk:
    chunk = {"name": name, "args": "{}", "id": call_id, "index": 0, "type": "tool_call_chunk"}
    return AIMessageChunk("", tool_call_chunks=[chunk])


def conversation(llm: Any, *, tools: Any = (ping,), **options: Any) -> Conversation[Any]:
    agent = Agent("front", instructions="You are the front desk.", tools=tools)
    return Conversation(create_voice_graph([agent], llm=llm, apology=SORRY, **options))


def spoken(seen: list[events.Event]) -> str:
    return "".join(e.text for e in seen if isinstance(e, events.Text | events.Say))


def errors(seen: list[events.Event]) -> list[type]:
    return [type(e.error) for e in seen if isinstance(e, events.Failed)]


async def test_a_passing_failure_before_the_first_word_is_tried_again_after_a_pause() -> None:
    model = ScriptedModel([fail(PASSING), "Here I am."])
    seen = await conversation(model).run("Hello?")
    assert (spoken(seen), errors(seen)) == ("Here I am.", [])
    assert model.prompts[1].at - model.prompts[0].at == pytest.approx(0.2, abs=0.01)


async def test_a_failure_that_would_come_again_is_not_tried_again() -> None:
    model = ScriptedModel([fail(ModelAuthenticationError("no")), "never"])
    seen = await conversation(model).run("Hello?")
    assert (spoken(seen), errors(seen)) == (SORRY, [ModelAuthenticationError])


async def test_nothing_is_tried_again_after_the_first_word() -> None:
    model, spare = ScriptedModel([fail(PASSING, after_tokens=2, text="I have begun.")]), ScriptedModel(["never"])
    call_ = conversation(model, fallback=spare)
    seen = await call_.run("Hello?")
    assert spoken(seen) == "I have" + SORRY
    assert errors(seen) == [ModelRateLimitError]
    assert spare.prompts == []
    assert [m.text for m in call_.messages if isinstance(m, AIMessage)] == ["I have", SORRY]


async def test_the_fallback_answers_when_the_model_can_not() -> None:
    model, spare = ScriptedModel([fail(PASSING), fail(PASSING)]), ScriptedModel(["I stand in.", "Still here."])
    call_ = conversation(model, fallback=spare)
    seen = await call_.run("Hello?")
    assert (spoken(seen), errors(seen)) == ("I stand in.", [])
    assert spare.prompts[0].tools == ("ping",)


async def test_an_agents_own_fallback_comes_before_the_graphs() -> None:
    own, other = ScriptedModel(["My own."]), ScriptedModel([])
    agent = Agent("front", instructions="Hi.", llm=ScriptedModel([fail(RuntimeError())]), fallback=own)
    seen = await Conversation(create_voice_graph([agent], fallback=other)).run("Hello?")
    assert spoken(seen) == "My own."


async def test_the_runs_own_model_has_no_fallback() -> None:
    spare = ScriptedModel(["never"])
    agent = Agent("front", instructions="Hi.", fallback=spare)
    graph = create_voice_graph([agent], apology=SORRY)
    config = {"configurable": {"llm": ScriptedModel([fail(RuntimeError())])}}
    seen = await Conversation(graph, config=config).run("Hello?")
    assert (spoken(seen), spare.prompts) == (SORRY, [])


async def test_the_apology_is_said_when_all_fail_and_the_call_goes_on() -> None:
    model = ScriptedModel([fail(RuntimeError("one")), "Better now."])
    call_ = conversation(model, fallback=ScriptedModel([fail(KeyError("two"))]))
    seen = await call_.run("Hello?")
    assert (spoken(seen), errors(seen)) == (SORRY, [KeyError])
    assert spoken(await call_.run("Again?")) == "Better now."
    assert not model.errors


async def test_the_policy_decides_how_often_and_after_what() -> None:
    model = ScriptedModel([fail(RuntimeError()), fail(RuntimeError()), "Third time."])
    policy = RetryPolicy(initial_interval=1, backoff_factor=3, max_attempts=3, jitter=False, retry_on=RuntimeError)
    assert spoken(await conversation(model, retry_policy=policy).run("Hello?")) == "Third time."
    starts = [prompt.at for prompt in model.prompts]
    assert [b - a for a, b in itertools.pairwise(starts)] == pytest.approx([1, 3], abs=0.01)


@pytest.mark.parametrize(
    "retry_on", [(KeyError, LookupError), lambda error: False, KeyError], ids=["kinds", "function", "kind"]
)
async def test_other_errors_than_the_policys_are_not_tried_again(retry_on: Any) -> None:
    model = ScriptedModel([fail(PASSING), "never"])
    policy = RetryPolicy(max_attempts=5, retry_on=retry_on)
    assert spoken(await conversation(model, retry_policy=policy).run("Hello?")) == SORRY


async def test_a_model_that_does_not_begin_has_failed_after_a_while() -> None:
    model, spare = ScriptedModel([hang(), hang()]), ScriptedModel(["I stand in."])
    started = asyncio.get_running_loop().time()
    seen = await conversation(model, fallback=spare, first_token_timeout=3).run("Hello?")
    assert (spoken(seen), errors(seen)) == ("I stand in.", [])
    assert asyncio.get_running_loop().time() - started == pytest.approx(6.2, abs=0.01)
    assert [prompt.outcome for prompt in model.prompts] == ["cancelled", "cancelled"]


async def test_a_model_that_has_begun_may_take_its_time() -> None:
    model = ScriptedModel([say("Well, let me see.", first_token=2, per_token=60)])
    assert spoken(await conversation(model, first_token_timeout=3).run("Hello?")) == "Well, let me see."


async def test_a_model_that_never_ends_is_ended_by_a_barge_in() -> None:
    model = ScriptedModel([hang(after_tokens=2, text="I go on and on."), "Yes?"])
    call_ = conversation(model)
    turn = call_.turn("Hello?")
    turn.commit()
    async for event in turn:
        if isinstance(event, events.Text):
            turn.heard(event.message_id, "I go")
            if model.prompts[0].text == "I go":
                turn.interrupt()
    turn.close()
    assert model.prompts[0].outcome == "cancelled"
    assert spoken(await call_.run("Stop.")) == "Yes?"
    assert [m.text for m in call_.messages] == ["Hello?", "I go", "Stop.", "Yes?"]


async def test_a_barge_in_before_the_first_word_asks_no_other_model() -> None:
    model, spare = ScriptedModel([fail(PASSING), "never"]), ScriptedModel(["never"])
    call_ = conversation(model, fallback=spare)
    turn = call_.turn("Hello?")
    turn.commit()
    await asyncio.sleep(0.1)  # virtual: between the failure and the second attempt
    assert model.prompts[0].outcome == "failed"
    turn.interrupt()
    seen = [event async for event in turn]
    turn.close()
    assert (spoken(seen), len(model.prompts), spare.prompts) == ("", 1, [])


@pytest.mark.parametrize(
    "nothing",
    [
        [AIMessageChunk("")],
        [AIMessageChunk(" \n")],
        [AIMessageChunk([{"type": "thinking", "thinking": "Hm.", "signature": "s", "index": 0}])],
        [AIMessageChunk("", additional_kwargs={"reasoning_content": "Hm."})],
    ],
    ids=["empty", "blank", "only reasoning", "only reasoning beside the content"],
)
async def test_an_answer_without_words_is_asked_for_again_and_then_apologised_for(nothing: Any) -> None:
    model = Chunks(replies=[nothing, [AIMessageChunk("Hello.")], nothing, nothing])
    call_ = conversation(model, tools=())
    assert spoken(await call_.run("Hello?")) == "Hello."
    seen = await call_.run("And?")
    assert (spoken(seen), errors(seen)) == (SORRY, [SilentModelError])
    assert [m.text for m in call_.messages] == ["Hello?", "Hello.", "And?", SORRY]


async def test_calls_of_a_model_that_was_told_not_to_call_do_not_count() -> None:
    entry = Agent("front", instructions="Hi.", tools=[ping], on_enter="Greet.", on_enter_tools="none")
    model = Chunks(replies=[[AIMessageChunk("Hello."), calls("ping")]])
    call_ = Conversation(create_voice_graph([entry], llm=model))
    seen = await call_.run()
    assert spoken(seen) == "Hello."
    assert not any(isinstance(e, events.ToolCalls) for e in seen)
    assert not any(m.tool_calls for m in call_.messages if isinstance(m, AIMessage))


async def test_calls_of_an_agent_without_tools_do_not_count() -> None:
    model = Chunks(replies=[[AIMessageChunk("Hello."), calls("ping")], [AIMessageChunk("Yes.")]])
    call_ = conversation(model, tools=())
    await call_.run("Hello?")
    assert spoken(await call_.run("There?")) == "Yes."
    graph = create_voice_graph([Agent("front", instructions="Hi.")], llm=model).compile()
    model.replies = [[AIMessageChunk("Hello."), calls("ping")]]
    result = await graph.ainvoke({"messages": [("user", "Hello?")]})
    assert (result["messages"][-1].text, result["messages"][-1].tool_calls) == ("Hello.", [])


async def test_a_transfer_that_the_first_reply_was_not_given_does_not_happen() -> None:
    a = Agent("a", instructions="A.", handoffs=[Handoff("b")], on_enter="Greet.", tools=[ping])
    model = Chunks(replies=[[calls("transfer_to_b")], [AIMessageChunk("Hello."), calls("transfer_to_b")]])
    call_ = Conversation(create_voice_graph([a, Agent("b", instructions="B.")], llm=model))
    assert spoken(await call_.run()) == "Hello."
    assert (call_.active_agent, call_.handoffs) == ("a", [])


async def test_an_unknown_tool_is_answered_and_the_model_goes_on() -> None:
    model = ScriptedModel([call("nothing_like_it", unknown=True), "I can't do that."])
    assert spoken(await conversation(model).run("Do it.")) == "I can't do that."


async def test_calls_without_an_id_or_with_a_used_one_get_one_of_their_own() -> None:
    model = Chunks(replies=[[calls("ping", None)], [calls("ping")], [calls("ping")], [AIMessageChunk("Three times.")]])
    call_ = conversation(model)
    assert spoken(await call_.run("Ping.")) == "Three times."
    ids = [c["id"] for m in call_.messages if isinstance(m, AIMessage) for c in m.tool_calls]
    assert len(set(ids)) == 3
    assert all(ids)


async def test_a_model_that_takes_no_tools_is_named() -> None:
    class Plain(Chunks):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    seen = await conversation(Plain(replies=[])).run("Hello?")
    (failed,) = [e for e in seen if isinstance(e, events.Failed)]
    assert 'agent "front" has tools, but its model Plain supports none' in str(failed.error)


async def test_outside_a_turn_the_error_is_the_callers() -> None:
    agent = Agent("front", instructions="Hi.")
    graph = create_voice_graph([agent], llm=ScriptedModel([fail(PASSING), fail(PASSING)])).compile()
    with pytest.raises(ModelRateLimitError):
        await graph.ainvoke({"messages": [("user", "Hello?")]})


NO = "I can't help with that."


def refused(**metadata: Any) -> list[AIMessageChunk]:
    return [AIMessageChunk("", response_metadata=metadata)]


@pytest.mark.parametrize(
    "chunks",
    [
        [AIMessageChunk([{"type": "refusal", "refusal": NO, "index": 0}])],
        [
            AIMessageChunk("", additional_kwargs={"refusal": "I can't help "}),
            AIMessageChunk("", additional_kwargs={"refusal": "with that."}),
        ],
        [
            AIMessageChunk([{"type": "text", "text": "I can't ", "index": 0}]),
            AIMessageChunk([{"type": "refusal", "refusal": "help with that.", "index": 1}]),
        ],
    ],
    ids=["a block of the Responses API", "beside the content", "behind words"],
)
async def test_a_model_that_declines_in_words_is_heard_and_later_prompts_hold_them_as_text(
    chunks: list[AIMessageChunk],
) -> None:
    model = Chunks(replies=[chunks, [AIMessageChunk("Gladly.")]])
    phone = conversation(model)
    seen = await phone.run("Say something rude.")
    assert (spoken(seen), errors(seen)) == (NO, [])
    said = phone.messages[-1]
    assert (said.text, "refusal" in str(said.content), said.additional_kwargs.get("refusal")) == (NO, False, None)
    assert spoken(await phone.run("Then something kind.")) == "Gladly."


async def test_a_response_that_its_provider_ends_as_refused_is_not_asked_for_again() -> None:
    ended = refused(stop_reason="refusal", model_provider="anthropic")
    model = Chunks(replies=[ended, [AIMessageChunk("never")]])
    seen = await conversation(model).run("Say something rude.")
    assert (spoken(seen), errors(seen)) == (SORRY, [ModelRefusalError])


async def test_the_fallback_model_answers_what_the_first_one_refuses() -> None:
    blocked = refused(finish_reason="SAFETY", model_provider="google_genai")
    seen = await conversation(Chunks(replies=[blocked]), fallback=ScriptedModel(["Of course."])).run("My bill?")
    assert (spoken(seen), errors(seen)) == ("Of course.", [])


async def test_a_refusal_in_the_middle_of_an_answer_is_apologised_for_behind_the_words_that_were_heard() -> None:
    chunks = [AIMessageChunk("You take "), *refused(stop_reason="refusal", model_provider="anthropic")]
    phone = conversation(Chunks(replies=[chunks]))
    seen = await phone.run("How do I break in?")
    assert (spoken(seen), errors(seen)) == (f"You take {SORRY}", [ModelRefusalError])
    assert [m.text for m in phone.messages if isinstance(m, AIMessage)] == ["You take ", SORRY]


async def test_the_calls_of_a_refused_response_do_not_run() -> None:
    ran = []

    @function_tool
    async def act() -> str:
        """Act."""
        ran.append("act")
        return "done"

    chunks = [calls("act"), *refused(stop_reason="refusal", model_provider="anthropic")]
    seen = await conversation(Chunks(replies=[chunks]), tools=[act]).run("Do it.")
    assert (spoken(seen), ran) == (SORRY, [])


async def test_a_message_keeps_the_id_under_which_its_first_words_were_spoken() -> None:
    """LangChain prefers the id of the provider for the whole, which may come behind the first words."""
    chunks = [AIMessageChunk("One ", id="lc_run--1"), AIMessageChunk("moment.", id="msg_of_the_provider")]
    phone = conversation(Chunks(replies=[chunks]))
    seen = await phone.run("Hello?")
    ids = {event.message_id for event in seen if isinstance(event, events.Text)}
    assert ids == {phone.messages[-1].id} == {"lc_run--1"}
