"""What each history operation costs, in milliseconds: `python benchmarks/history.py`.

One line per operation, and for reading the messages of a call whose last turn has changed. One column per length of the
conversation in messages (user turns, replies, tool calls and results). It is the best of several runs, in the time of
this process, so that other work of the machine hardly counts. The aim is linear time, and under 1 ms for 100 messages.
`--markdown` prints the table of docs/history.md.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice import Agent, Conversation, Turn, create_voice_graph, events, history
from graph_voice.history.context import carry, earlier_context, resolve, shortened, view
from graph_voice.history.reducers import merge_messages
from graph_voice.testing import ScriptedModel

SIZES = (10, 100, 1_000, 5_000)


def conversation(size: int) -> list[AnyMessage]:
    """Turns of five messages: user, a reply that calls two tools, two results, a reply."""
    messages: list[AnyMessage] = [SystemMessage("Never promise a date.", id="s")]
    turn = 0
    while len(messages) < size:
        calls = [{"name": name, "args": {"n": turn}, "id": f"{name}-{turn}"} for name in ("look_up", "book")]
        messages += [
            HumanMessage(f"And what about order number {turn}, please?", id=f"u{turn}"),
            AIMessage("One moment.", id=f"a{turn}", tool_calls=calls),
            *(ToolMessage("It arrives on Monday.", id=f"r-{c['id']}", tool_call_id=c["id"]) for c in calls),
            AIMessage("It arrives on Monday. Is there anything else?", id=f"b{turn}"),
        ]
        turn += 1
    return messages[:size]


def swap(messages: list[AnyMessage], userdata: Any) -> list[AnyMessage]:
    return messages


def cases(messages: list[AnyMessage]) -> dict[str, Callable[[], Any]]:
    policies = {
        "fresh": history.fresh(),
        "full": history.full(),
        "exclude_instructions": history.exclude_instructions(),
        "exclude_tool_calls": history.exclude_tool_calls(),
        "exclude_empty": history.exclude_empty(),
        "only_tools": history.only_tools("book"),
        "truncate": history.truncate(max_items=20),
        "last_turns": history.last_turns(5),
        "trim_tokens": history.trim_tokens(500),
        "userdata_summary": history.userdata_summary(),
        "custom (copies each message)": history.custom(swap),
        "when, within its limit": history.when(max_items=10_000, max_tokens=10_000_000, then=history.fresh()),
        "when, over it: truncate": history.when(max_items=5, then=history.truncate(max_items=4)),
        "exclude_instructions | truncate": history.exclude_instructions() | history.truncate(max_items=6),
    }
    found: dict[str, Callable[[], Any]] = {
        name: partial(history.apply, op, messages, userdata={"name": "Ann"}) for name, op in policies.items()
    }
    found["resume"] = lambda: history.apply(history.resume(), messages[-20:], earlier=messages)
    state: dict[str, Any] = {"messages": messages, "chat_ctx": carry(messages[:-5], messages[:-5])}
    state["contexts"] = {"desk": state["chat_ctx"]}
    found["view"] = lambda: view(state)
    found["earlier_context"] = lambda: earlier_context(state, "desk")
    kept = history.when(max_items=len(messages) - 1, then=history.truncate(max_items=6))
    found["context compaction: truncate"] = lambda: shortened(state, kept, agent="desk", model=None)
    found["handoff with full()"] = lambda: resolve(state, operation=history.full())
    found["merge_messages: append one"] = lambda: merge_messages(messages, [HumanMessage("x", id="new")])
    found["merge_messages: load all"] = lambda: merge_messages([], messages)
    bounded = history.reducer(history.exclude_instructions() | history.truncate(max_items=20))
    found["reducer: load all"] = lambda: bounded([], messages)
    found["reducer: append one"] = lambda: bounded(messages, [HumanMessage("x", id="new")])
    return found


async def calls(messages: list[AnyMessage]) -> dict[str, Callable[[], Any]]:
    """Reading what is remembered of a call when the front end has reported what was heard of its last turn."""
    found: dict[str, Callable[[], Any]] = {}
    for name in ("a call: its messages", "a call: with words from outside", "a call: with words dated back"):
        graph = create_voice_graph([Agent("desk", instructions="A desk.")], llm=ScriptedModel(lambda _: "Yes."))
        call = Conversation(graph, messages=messages)
        for _ in range(4):
            await call.run("And then?")
        turn = call.turn("Is that all?")
        turn.commit(at=time.time() - 3600 if "back" in name else None)
        (said,) = [event async for event in turn if isinstance(event, events.Text)]
        if "outside" in name:
            call.add(AIMessage("The line is recorded."))
        found[name] = partial(_report, call, turn, said)
    return found


def _report(call: Conversation, turn: Turn, said: events.Text) -> None:
    turn.heard(said.message_id, said.text)
    assert call.state["messages"][-1].id is not None


async def once(case: Callable[[], Any]) -> float:
    began = time.process_time()
    result = case()
    if isinstance(result, Coroutine | Awaitable):
        await result
    return (time.process_time() - began) * 1000


async def main() -> None:
    table: dict[str, list[float]] = {}
    for size in SIZES:
        messages = conversation(size)
        for name, case in {**cases(messages), **await calls(messages)}.items():
            await once(case)
            runs = [await once(case) for _ in range(max(5, min(200, 20_000 // size)))]
            table.setdefault(name, []).append(min(runs))
    if "--markdown" in sys.argv:
        print("| operation | " + " | ".join(f"{size:,}" for size in SIZES) + " |")
        print("|---|" + "---|" * len(SIZES))
        for name, row in table.items():
            print(f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in row) + " |")
        return
    print(f"{'operation':<34}" + "".join(f"{size:>10,}" for size in SIZES))
    for name, row in table.items():
        print(f"{name:<34}" + "".join(f"{ms:>10.3f}" for ms in row))


if __name__ == "__main__":
    asyncio.run(main())
