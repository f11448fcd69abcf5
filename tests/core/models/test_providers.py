"""The real LangChain models against local stand-ins that refuse what the providers document as refused."""

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.types import RetryPolicy, interrupt
from provider_support import PROVIDERS, Anthropic, Gemini, OpenAI, Provider
from pydantic import BaseModel

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    Reply,
    RunContext,
    create_voice_graph,
    events,
    function_tool,
    history,
)
from graph_voice.call.conversation import hear
from graph_voice.testing import call, say

pytestmark = [  # google-genai's own doing, in its client
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'ClientResponse.json' was never awaited:RuntimeWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def _collected_here() -> Iterator[None]:
    """google-genai's error class leaves coroutines behind that nobody awaits; they must not surface in other tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


class Caller(BaseModel):
    name: str | None = None


@function_tool
async def look_up(ctx: RunContext[Caller], number: int) -> str:
    """Look up an order."""
    return f"Order {number} is on its way."


@function_tool
async def ping() -> str:
    """See whether the line is up."""
    return ""


@pytest.fixture(params=PROVIDERS, ids=lambda p: p.name)
def provider(request: pytest.FixtureRequest) -> type[Provider]:
    found: type[Provider] = request.param
    return found


def graph(
    policy: history.Operation, *, say: Any = None, tools: Any = (look_up, ping), model: Any, **options: Any
) -> Any:
    front = Agent(
        "front",
        instructions="You are the front desk.",
        on_enter="Greet the caller.",
        tools=list(tools),
        handoffs=[Handoff("billing", history=policy, say=say)],
    )
    billing = Agent("billing", instructions="You are billing.", handoffs=[Handoff("front", history=policy)], **options)
    return create_voice_graph([front, billing], userdata=Caller, llm=model)


def failures(seen: list[events.Event]) -> list[BaseException]:
    return [event.error for event in seen if isinstance(event, events.Failed)]


async def run(conversation: Conversation[Any], *texts: str | None) -> list[events.Event]:
    seen: list[events.Event] = []
    for text in texts:
        seen += await conversation.run(text)
    await conversation.aclose()
    assert not failures(seen)
    return seen


POLICIES = {
    "fresh": history.fresh(),
    "full": history.full(),
    "last_six": history.exclude_instructions() | history.truncate(max_items=6),
    "one_item": history.truncate(max_items=1),
    "no_tools": history.exclude_tool_calls(),
    "only_pings": history.only_tools("ping"),
    "last_turn": history.last_turns(1),
    "few_tokens": history.trim_tokens(20),
    "facts": history.userdata_summary() | history.truncate(max_items=4),
    "resumed": history.resume() | history.exclude_tool_calls(),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_a_call_with_handoffs_is_accepted(provider: type[Provider], policy: history.Operation) -> None:
    server = provider(
        [
            "Hello, this is the front desk.",
            say("One moment.", call("look_up", {"number": 3}), call("ping")),
            "It is on its way.",
            say("I'll put you through.", call("transfer_to_billing")),
            "Billing here.",
            "You owe nothing.",
            call("transfer_to_front"),
            "The front desk again.",
            call("look_up", {"number": 4}),
            "That one too.",
        ]
    )
    async with server.serve() as model:
        conversation = Conversation(graph(policy, model=model), userdata=Caller(name="Ada"))
        seen = await run(conversation, None, "Where are my orders?", "My bill?", "What do I owe?", "Back.", "And 4?")
    assert server.refused == []
    assert not server.script
    said = [m.text for m in conversation.messages if isinstance(m, AIMessage) and m.text]
    assert "Billing here." in said
    assert said[-1] == "That one too."
    assert [h["new_agent_id"] for h in conversation.handoffs] == ["billing", "front"]
    usage = [event for event in seen if isinstance(event, events.Usage)]
    assert len(usage) == 10
    assert {(u.input_tokens, u.output_tokens) for u in usage} == {(11, 7)}


async def test_calls_are_forbidden_and_not_hidden_where_none_may_be_made(provider: type[Provider]) -> None:
    """The first reply of an agent with `on_enter_tools="none"`, after a conversation with calls in it."""
    server = provider([say("Yes.", call("transfer_to_billing")), "Billing here.", call("ping"), "It is up."])
    async with server.serve() as model:
        voice = create_voice_graph(
            [
                Agent("front", instructions="Front.", handoffs=[Handoff("billing", history=history.full())]),
                Agent("billing", instructions="Billing.", tools=[ping], on_enter_tools="none"),
            ],
            llm=model,
        )
        conversation = Conversation(voice)
        await run(conversation, "My bill?", "Is the line up?")
    assert server.refused == []
    entry = server.requests[1]
    forbidden = {
        "openai": {"tool_choice": "none"},
        "anthropic": {"tool_choice": {"type": "none"}},
        "gemini": {"toolConfig": {"functionCallingConfig": {"mode": "NONE"}}},
    }[server.name]
    assert entry == {**entry, **forbidden}
    assert "ping" in str(entry["tools"])


async def test_an_agent_without_tools_may_see_calls(provider: type[Provider]) -> None:
    """Anthropic and Bedrock refuse calls in a prompt when no tools are defined."""
    server = provider([call("transfer_to_billing"), "Billing here.", "Nothing is due."])
    async with server.serve() as model:
        front = Agent("front", instructions="Front.", handoffs=[Handoff("billing", history=history.full())])
        conversation = Conversation(create_voice_graph([front, Agent("billing", instructions="Billing.")], llm=model))
        await run(conversation, "My bill?", "And?")
    assert server.refused == []
    assert "transfer_to_billing" in str(server.requests[1])


async def test_lines_at_a_handoff_and_in_a_tool_are_accepted(provider: type[Provider]) -> None:
    @function_tool
    async def slow(ctx: RunContext[Caller]) -> str:
        """Take a while."""
        await ctx.say("This takes a while.")
        await ctx.generate_reply("Say that it goes on.")
        return "done"

    server = provider(
        [call("slow"), "It still runs.", "It is done.", call("transfer_to_billing"), "Goodbye then.", "Billing here."]
    )
    async with server.serve() as model:
        voice = graph(history.full(), model=model, tools=[slow], say=Reply("Say goodbye."))
        conversation = Conversation(voice)
        await run(conversation, "Do it.", "Now my bill.")
    assert server.refused == []
    assert not server.script


async def test_a_refused_call_and_what_was_cut_off_are_accepted(provider: type[Provider]) -> None:
    server = provider(
        [
            say("I look.", call("look_up", {"number": 1}), call("ping")),
            "I may not look that up.",
            "This is a long answer that nobody hears to its end.",
            "As I said.",
        ]
    )
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model))
        turn = conversation.turn("Look.")
        turn.commit()
        async for event in turn:
            if isinstance(event, events.ToolCalls):
                turn.deny(event.calls[0].id, "not allowed")
                turn.allow(event.calls[1].id)
            else:
                hear(turn, event)
        turn.close()
        turn = conversation.turn("Then tell me something.")
        turn.commit()
        async for event in turn:
            if isinstance(event, events.Text):
                turn.heard(event.message_id, "This is")
                turn.interrupt()
        turn.close()
        await run(conversation, "What?")
    assert server.refused == []
    assert [m.text for m in conversation.messages if isinstance(m, AIMessage)][-2:] == ["This is", "As I said."]


async def test_a_conversation_that_went_before_is_accepted_whatever_is_in_it(provider: type[Provider]) -> None:
    before = [
        AIMessage("Prior conversation summary: they talked.", additional_kwargs={"is_summary": True}),
        AIMessage("Hello?"),
        AIMessage("", tool_calls=[{"id": "c1", "name": "ping", "args": {}}]),
        ToolMessage("up", name="ping", tool_call_id="c1"),
        SystemMessage("The caller is a guest."),
        HumanMessage(" "),
        AIMessage("", tool_calls=[{"id": "a b/1", "name": "ping", "args": {}}]),
        AIMessage(" \n"),
        SystemMessage(""),
    ]
    server = provider([call("ping"), "It is up.", "Anything else?"])
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model), messages=before)
        turn = conversation.turn(instructions="Ask how the caller is.")
        seen = []
        async for event in turn:
            seen.append(event)
            hear(turn, event)
        turn.close()
        assert not failures(seen)
        await run(conversation, "")
    assert server.refused == []


async def test_calls_with_ids_that_come_again_are_accepted(provider: type[Provider]) -> None:
    again = call("look_up", {"number": 1}, id="call_1")
    server = provider([say(again, again), "Twice.", again, "Thrice."])
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model))
        await run(conversation, "Look.", "Again.")
    assert server.refused == []
    assert not server.script
    ids = [c["id"] for m in conversation.messages if isinstance(m, AIMessage) for c in m.tool_calls]
    assert len(ids) == len(set(ids)) == 3


@pytest.mark.parametrize("kind", [Anthropic, Gemini], ids=["anthropic", "gemini"])
async def test_what_a_provider_needs_back_of_its_reasoning_comes_back(kind: type[Provider]) -> None:
    server = kind(
        [
            say("I look.", call("look_up", {"number": 1}), call("ping")),
            say(call("look_up", {"number": 2})),
            "Both are on their way.",
            "You are welcome.",
        ],
        thinks=True,
    )
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model))
        seen = await run(conversation, "Look.", "Thanks.")
    assert server.refused == []
    assert "I think." not in "".join(e.text for e in seen if isinstance(e, events.Text))
    signed = [s for s in server._signatures if s in str(server.requests[-1])]
    assert signed, "the signatures of earlier turns are part of the history as well"


@pytest.mark.parametrize("kind", [Anthropic, Gemini], ids=["anthropic", "gemini"])
async def test_reasoning_survives_a_line_that_a_tool_says(kind: type[Provider]) -> None:
    @function_tool
    async def slow(ctx: RunContext[Caller]) -> str:
        """Take a while."""
        await ctx.say("This takes a while.")
        return "done"

    server = kind([say("I look.", call("slow")), call("slow"), "It is done."], thinks=True)
    async with server.serve() as model:
        await run(Conversation(graph(history.full(), model=model, tools=[slow])), "Do it.")
    assert server.refused == []


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("kind", [Anthropic, Gemini], ids=["anthropic", "gemini"])
@pytest.mark.parametrize("first", PROVIDERS, ids=lambda p: p.name)
async def test_a_handoff_to_a_model_that_thinks_is_accepted(
    first: type[Provider], kind: type[Provider], policy: history.Operation
) -> None:
    """The transfer's own tool call was made without thinking."""
    front = first([say("Putting you through.", call("transfer_to_billing"))])
    billing = kind(["Billing here."], thinks=True)
    async with front.serve() as asks, billing.serve() as thinks:
        agents = [
            Agent("front", instructions="F", llm=asks, handoffs=[Handoff("billing", history=policy)]),
            Agent("billing", instructions="B", llm=thinks, handoffs=[Handoff("front", history=policy)]),
        ]
        conversation = Conversation(create_voice_graph(agents))
        await run(conversation, "My bill?")
    assert (front.refused, billing.refused) == ([], [])
    assert [m.text for m in conversation.messages if isinstance(m, AIMessage) and m.text] == [
        "Putting you through.",
        "Billing here.",
    ]


@pytest.mark.parametrize("kind", [Anthropic, Gemini], ids=["anthropic", "gemini"])
async def test_a_change_to_a_model_that_thinks_within_a_turn_is_accepted(kind: type[Provider]) -> None:
    """The fallback is asked behind a tool call that the agent's own model has made."""
    plain, thinker = kind([say("I look.", call("ping")), 503, 503]), kind(["It answers."], thinks=True)
    async with plain.serve() as first, thinker.serve() as second:

        @function_tool
        async def ping() -> str:
            """Ping."""
            return "pong"

        agent = Agent("a", instructions="A", llm=first, fallback=second, tools=[ping])
        conversation = Conversation(create_voice_graph([agent], retry_policy=RetryPolicy(max_attempts=1)))
        await run(conversation, "Ping it.")
    assert thinker.refused == []
    assert "ping was called, and answered: pong" in str(thinker.requests[0])
    assert conversation.messages[-1].text == "It answers."


@pytest.mark.parametrize("heard", ["I LOOK", "I look, and", ""], ids=["edited", "more", "unheard"])
@pytest.mark.parametrize("kind", [Anthropic, Gemini], ids=["anthropic", "gemini"])
async def test_reasoning_survives_other_words_while_a_call_waits_for_the_caller(
    kind: type[Provider], heard: str
) -> None:
    """The answer to a tool's `interrupt()` goes on with the message that called it, in the words that were heard."""

    @function_tool
    async def book() -> str:
        """Book a table."""
        return f"booked in {interrupt('Which city?')}"

    server = kind([say("I look.", call("book")), "It is booked.", "You are welcome."], thinks=True)
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model, tools=[book]))
        turn = conversation.turn("Book a table.")
        turn.commit()
        async for event in turn:
            match event:
                case events.ToolCalls(calls=[asked]):
                    turn.allow(asked.id)
                case events.Text(message_id=message_id):
                    turn.heard(message_id, heard, interrupted=False)
                case events.Interrupt(message_id=message_id, text=text):
                    turn.heard(message_id, text)
        turn.close()
        await run(conversation, "Oslo.", "Thanks.")
    assert server.refused == []
    assert [s for s in server._signatures if s in str(server.requests[1])]


async def test_broken_arguments_are_answered(provider: type[Provider]) -> None:
    if provider is Gemini:
        pytest.skip("Gemini sends arguments as objects, so they can't be broken")
    server = provider([call("look_up", '{"number": '), "Which number?"])
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model))
        await run(conversation, "Look.")
    assert server.refused == []
    assert not server.script


async def test_a_server_that_fails_once_is_asked_again(provider: type[Provider]) -> None:
    server = provider([503, "Here I am."])
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model))
        await run(conversation, "Hello?")
    assert len(server.requests) == 2
    assert conversation.messages[-1].text == "Here I am."


async def test_a_request_that_is_refused_goes_to_the_fallback_at_once(provider: type[Provider]) -> None:
    server, other = provider([400]), OpenAI(["I stand in."])
    async with server.serve() as model, other.serve() as fallback:
        agent = Agent("front", instructions="You are the front desk.", tools=[ping])
        conversation = Conversation(create_voice_graph([agent], llm=model, fallback=fallback))
        seen = await run(conversation, "Hello?")
    assert (len(server.requests), len(other.requests)) == (1, 1)
    assert "".join(e.text for e in seen if isinstance(e, events.Text)) == "I stand in."


async def test_the_stand_in_refuses_what_the_provider_refuses(provider: type[Provider]) -> None:
    """The rules work: a prompt that ends with an assistant message, made by hand."""
    server = provider(["never"])
    async with server.serve() as model:
        with pytest.raises(Exception, match=r"400|assistant|user role"):
            await model.ainvoke([HumanMessage("Hello."), AIMessage("Hi.")])
    assert len(server.refused) == 1


IMAGES = {
    "data": {"type": "image", "base64": "QUJD", "mime_type": "image/png"},
    "data_with_detail": {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
    "address": {"type": "image", "url": "https://example.com/cat.png"},
}
"""As `graph_voice_livekit` gives them to the models."""


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
async def test_an_image_that_the_caller_shows_reaches_the_provider(
    provider: type[Provider], image: dict[str, Any]
) -> None:
    if provider is Gemini and "url" in image:
        pytest.skip("LangChain's Gemini model loads an address itself, which a test without network can't")
    server = provider(["A cat.", "It sleeps."])
    async with server.serve() as model:
        conversation = Conversation(graph(history.full(), model=model), userdata=Caller())
        await run(conversation, [{"type": "text", "text": "What is this?"}, image], "And now?")
    assert server.refused == []
    for request in server.requests:  # it is still shown a turn later
        (shown,) = _images(request)
        assert shown in (
            {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD", "detail": "low"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}},
            {"inlineData": {"mime_type": "image/png", "data": "QUJD"}},
        )
        if provider is OpenAI:
            assert shown["image_url"].get("detail") == image.get("image_url", {}).get("detail")


def _images(value: Any) -> list[Any]:
    """The parts of a request that are images."""
    if isinstance(value, list):
        return [found for item in value for found in _images(item)]
    if not isinstance(value, dict):
        return []
    if value.get("type") in ("image", "image_url") or "inlineData" in value:
        return [value]
    return [found for item in value.values() for found in _images(item)]
