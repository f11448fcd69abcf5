"""No secret leaves with a trace: everything that the server got is searched, byte by byte."""

import re
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langsmith_sink import LangSmithSink
from langsmith_support import langsmith as langsmith
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool, tasks
from graph_voice.secrets.values import MASK
from graph_voice.testing import ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock
CARD = "4111222233334444"
PIN = "907"
ID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
WORD = 'zebra "crossing" é'


class Caller(BaseModel):
    card: SecretStr | None = None
    word: SecretStr = SecretStr(WORD)


@function_tool
async def store(ctx: RunContext[Caller], number: SecretStr, pin: SecretStr) -> str:
    """Store a card."""
    ctx.userdata.card = number
    return f"stored {number.get_secret_value()}"


@function_tool
async def fail(ctx: RunContext[Caller]) -> str:
    """Fail."""
    raise OSError(f"no connection for {CARD} and {WORD}")


def desk() -> Any:
    script = [
        say("One moment.", call("store", {"number": CARD, "pin": PIN})),
        call("fail"),
        f"Your card 4111 2222 3333 4444 is stored, the word is {WORD}.",
        "Bye.",
    ]
    agent = Agent("till", instructions="Take cards.", tools=[store, fail])
    return create_voice_graph([agent], userdata=Caller, llm=ScriptedModel(script))


def nowhere(sink: LangSmithSink) -> None:
    received = sink.received.decode()
    assert MASK in received
    # Ids and times are full of digits, so the short one is looked for where words are, and ids are taken out.
    words = [ID.sub("", str([run.inputs, run.outputs, run.error])) for run in sink.runs.values()]
    assert not [text for text in words if PIN in text]
    for secret in (CARD, "4111 2222 3333 4444", "4111-2222", "crossing", "9 0 7"):
        assert secret not in received, secret


async def test_nothing_that_langsmith_gets_holds_a_secret(langsmith: LangSmithSink) -> None:
    conversation: Conversation[Caller] = Conversation(desk())
    await conversation.run("My card is 4111-2222 3333 4444, and the pin is 9 0 7.")
    await conversation.run("Thanks.")
    await conversation.aclose()
    langsmith.wait()
    assert [run.name for run in langsmith.roots] == ["turn", "turn"]
    assert {run.kind for run in langsmith.runs.values()} == {"chain", "llm", "tool"}
    nowhere(langsmith)
    assert "no connection for" in str([run.error for run in langsmith.runs.values()])


async def test_a_secret_in_a_turn_that_was_dropped_does_not_leave_either(langsmith: LangSmithSink) -> None:
    conversation: Conversation[Caller] = Conversation(desk())
    turn = conversation.turn("My card is 4111-2222 3333 4444, and the pin is 9 0 7.")
    async for event in turn:
        if type(event).__name__ == "ToolCalls":
            break
    turn.discard()
    await turn.wait_finished()
    await conversation.aclose()
    langsmith.wait()
    (root,) = langsmith.roots
    assert "discarded" in root.tags
    nowhere(langsmith)


async def test_outside_a_conversation_the_models_own_run_holds_what_it_made(langsmith: LangSmithSink) -> None:
    """Said plainly on the page: nobody stands between LangChain's own tracer and LangSmith there."""
    tracer = LangChainTracer(client=langsmith.client())
    await desk().compile().ainvoke({"messages": ["My card."]}, {"callbacks": [tracer]})
    langsmith.wait()
    assert CARD.encode() in langsmith.received
    stored = [run for run in langsmith.runs.values() if run.name == "store"]
    assert [CARD in str(run.fields) for run in stored] == [False], "ours hold none of it there either"


async def test_a_card_that_a_task_gets_is_in_no_trace(langsmith: LangSmithSink) -> None:
    get_card = tasks.get_credit_card()

    @function_tool(needs={"card": get_card})
    async def pay(card: tasks.CreditCard) -> str:
        """Pay."""
        return f"paid with {card.number.get_secret_value()}"

    script = [
        "Card?",
        call("record_cardholder", {"cardholder": "Ada"}),
        call("record_card_number", {"number": "4242424242424242"}),
        call("record_expiration_date", {"month": 7, "year": 39}),
        "Code?",
        call("record_security_code", {"code": PIN}),
        "Right?",
        call("confirm_card"),
    ]
    model = ScriptedModel({"till": [call("pay"), "Paid."], "get_credit_card": script})
    till = Agent("till", instructions="Take cards.", tools=[pay])
    conversation: Conversation[Any] = Conversation(create_voice_graph([till, get_card], llm=model))
    for words in ("Pay.", "It is 4242 4242 4242 4242, Ada, July 39.", "The code is 9 0 7.", "Yes."):
        await conversation.run(turn=conversation.turn(words, modality="audio"))
    await conversation.aclose()
    langsmith.wait()
    assert conversation.active_agent == "till"
    nowhere(langsmith)
    for secret in ("4242424242424242", "4242 4242"):
        assert secret not in langsmith.received.decode()
