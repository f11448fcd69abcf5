"""What is not redacted, as docs/secrets.md says: each row of its last table is a test here."""

import base64
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from misplaced_support import CARD, found_in
from pydantic import BaseModel, SecretStr
from secrets_support import Watcher

from graph_voice import Agent, Conversation, Handoff, RunContext, VoiceState, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call, say

PAGE = Path(__file__).resolve().parents[3] / "docs" / "secrets.md"
GROUPS = "5273 8491 6038 4756"


class Caller(BaseModel):
    card: SecretStr | None = None
    phone: str = ""


class State(VoiceState[Caller]):
    order: str


@function_tool
async def store_card(ctx: RunContext[Caller], number: SecretStr, code: SecretStr | None = None) -> str:
    """Store the card."""
    ctx.userdata.card = number
    return "Stored."


@function_tool
async def note(ctx: RunContext[Caller], text: str) -> Any:
    """Note something, and repeat it."""
    ctx.userdata.phone = text
    message = {"role": "tool", "content": f"Noted {text}.", "tool_call_id": ctx.tool_call_id}
    return Command(update={"order": text, "messages": [message]})


def graph_of(*script: Any, start: str = "till") -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(list(script))
    till = Agent("till", instructions="Pay.", tools=[store_card, note], handoffs=[Handoff("host")])
    host = Agent("host", instructions="Help.", tools=[note], handoffs=[Handoff("till")])
    return create_voice_graph([till, host], userdata=Caller, state_schema=State, start=start, llm=model), model


async def held(*script: Any, said: list[str], start: str = "till", **options: Any) -> tuple[Any, list[Any]]:
    """A conversation that is over, and its events."""
    conversation: Any = Conversation(graph_of(*script, start=start)[0], **options)
    seen = [event for words in said for event in await conversation.run(words)]
    await conversation.aclose()
    return conversation, seen


async def spoken_words() -> None:
    conversation, seen = await held(say(f"You said {GROUPS}."), said=[f"It is {GROUPS}."])
    assert found_in("".join(event.text for event in seen if isinstance(event, events.Text)))
    assert found_in(repr(conversation.messages)) is None


async def typed_in_a_run() -> None:
    graph, _ = graph_of(call("store_card", {"number": CARD}), "Stored.", "Hello.")
    compiled, config = graph.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "1"}}
    modes: Any = ["updates", "values", "debug", "tasks", "checkpoints", "custom"]
    with_it: set[str] = set()
    async for mode, part in compiled.astream({"messages": [f"It is {GROUPS}."]}, config, stream_mode=modes):
        with_it |= {mode} if found_in(repr(part)) else set()
    assert with_it == {"values", "debug", "tasks", "checkpoints"}
    states = [repr(snapshot.values) async for snapshot in compiled.aget_state_history(config)]
    assert [found_in(state) is not None for state in states] == [False, False, True, True, False], "newest first"
    again = [repr(part) async for part in compiled.astream({"messages": ["Hi."]}, config, stream_mode=modes)]
    assert found_in("\n".join(again)) is None


async def tokens_and_callbacks() -> None:
    watcher = Watcher()
    await held(call("note", {"text": GROUPS}), "Noted.", said=[f"It is {GROUPS}."], config={"callbacks": [watcher]})
    assert found_in("\n".join(watcher.seen)), "the tool's own input, and the prompt"
    graph, _ = graph_of(call("store_card", {"number": CARD}), "Stored.")
    tokens = graph.compile().astream({"messages": ["Hi."]}, stream_mode="messages")
    assert found_in("\n".join([repr(part) async for part in tokens]))


async def short_and_misplaced() -> None:
    conversation, _ = await held(call("note", {"text": "code 907"}), "Noted.", said=["The code is 907."])
    assert "907" not in conversation.messages[0].text
    assert "907" in repr(conversation.messages[1:])


async def groups_apart() -> None:
    conversation, _ = await held(
        call("note", {"text": "the card that ends in 4756"}), "Noted.", said=[f"It's {GROUPS}."]
    )
    assert "4756" in repr(conversation.messages[1:])


async def a_word_before_it_is_taken() -> None:
    take = call("store_card", {"number": "swordfish"})
    conversation, _ = await held(call("note", {"text": "swordfish"}), "Noted.", said=["It is swordfish."])
    assert "swordfish" in repr(conversation.messages)
    conversation, _ = await held(take, "Stored.", said=["It is swordfish."])
    assert "swordfish" not in repr(conversation.messages)


async def told_to_another_agent() -> None:
    code = call("store_card", {"number": CARD, "code": "907155"})
    script = [say("Pardon?"), call("transfer_to_till"), "Hello.", code, "Stored."]
    conversation: Any = Conversation(graph_of(*script, start="host")[0])
    await conversation.run("My code is 907155.")
    await conversation.run("To the till.")
    assert "907155" in repr(conversation.messages), "until a tool takes it"
    await conversation.run("Take it.")
    assert "907155" not in repr(conversation.messages)
    await conversation.aclose()


async def another_form() -> None:
    forms = [CARD[::-1], base64.b64encode(CARD.encode()).decode(), f"{int(CARD):x}", "fünf zwei sieben drei acht vier"]
    for form in forms:
        conversation, _ = await held(call("note", {"text": form}), "Noted.", said=[f"It is {CARD}."])
        assert form in repr(conversation.messages)


async def the_program_s_own_places() -> None:
    conversation, _ = await held(call("note", {"text": GROUPS}), "Noted.", said=[f"It is {GROUPS}."])
    assert conversation.userdata.phone == conversation.state["order"] == GROUPS
    assert found_in(repr(conversation.messages)) is None


ROWS: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
    "what an agent says aloud": spoken_words,
    "what is typed in a run without a `Conversation`": typed_in_a_run,
    "stream mode `messages`, and your own callbacks": tokens_and_callbacks,
    "a number of fewer than 6 digits, misplaced": short_and_misplaced,
    "groups of fewer than 6 digits that stand apart": groups_apart,
    "a password, before a tool takes it": a_word_before_it_is_taken,
    "a number of fewer than 13 digits, said to an agent that takes no secret": told_to_another_agent,
    "a number in another form": another_form,
    "what a tool writes into the userdata, other channels, a store": the_program_s_own_places,
}


@pytest.mark.parametrize("row", ROWS)
async def test_what_the_page_says_is_not_redacted_is_not(row: str) -> None:
    await ROWS[row]()


def test_each_row_of_the_page_is_a_test() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("| not redacted |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| (.+?) \|", table, re.MULTILINE) == list(ROWS)
