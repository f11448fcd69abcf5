"""A long call: what its turns needed is dropped with them. `GRAPH_VOICE_LONG=1` makes it a thousand turns."""

import asyncio
import gc
import logging
import os
import threading
import tracemalloc
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from graph_agent_support import agrees, no_accidents, voice
from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.invariants import check_invariants
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.agent import NodeAgent
from graph_voice_livekit.session.mirrors import Mirrors
from graph_voice_livekit.session.reply import GraphLLM
from graph_voice_livekit.testing import VoiceRig, voice_rig

pytestmark = pytest.mark.virtual_clock(limit=1_000_000)

LONG = bool(os.environ.get("GRAPH_VOICE_LONG"))
TURNS = 6
"""In a round."""
ROUNDS = {"voice": 168 if LONG else 5, "text": 168 if LONG else 15}
WARM_UP = 3
STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
IS_MEMORY = {
    # What was said and done is kept: it is the call's memory.
    "Past.messages",
    "LiveState._values",
    "LiveState._base",
    "LiveState._channels",
}
BYTES_PER_TURN = 3000
"""What may stay of a turn in memory that our own lines have allocated: its words, and the keys around them."""


def answer(messages: list[BaseMessage]) -> Any:
    """A model that does what the caller's last word says."""
    behind = messages[max(i for i, m in enumerate(messages) if isinstance(m, HumanMessage)) :]
    text = behind[0].text
    if any(isinstance(m, ToolMessage) for m in behind):
        return "That is done."
    if "story" in text:
        return STORY
    if "bear" in text:
        return say("A bear.", first_token=0.0)  # said before the guess is dropped
    for wish in ("charge", "fail"):
        if wish in text:
            return say("One moment.", call(wish, id=f"call-{len(messages)}-{wish}"))
    if "transfer" in text:
        other = "b" if "You are a." in messages[0].text else "a"
        return say("Sure.", call(f"transfer_to_{other}", id=f"call-{len(messages)}"))
    return "I hear you."


def a_long_call() -> tuple[GraphAgent, ScriptedModel]:
    @function_tool
    async def charge(ctx: RunContext[Any]) -> str:
        """Charge."""
        await asyncio.sleep(0.5)
        ctx.userdata["charged"] = ctx.userdata.get("charged", 0) + 1
        return "charged"

    @function_tool
    async def fail() -> str:
        """Fail."""
        raise RuntimeError("no line")

    model = ScriptedModel(answer, first_token=0.2)
    agents = [
        Agent(
            name,
            instructions=f"You are {name}.",
            tools=[charge, fail],
            handoffs=[Handoff(other, say="One moment please.")],
            voice=voice(name),
        )
        for name, other in (("a", "b"), ("b", "a"))
    ]
    return GraphAgent(create_voice_graph(agents, llm=model)), model


async def by_voice(rig: VoiceRig) -> None:
    """Six turns: plain, a guess that is dropped, a failing tool, one cut off by the next, a tool, and a handoff."""
    await rig.user_says("hello there", preflight="hello bear")
    await rig.until_idle()
    await rig.user_says("charge me please", preflight="transfer me please")
    await rig.until_idle()
    await rig.user_says("fail for me")
    await rig.until_idle()
    await rig.user_says("tell me a story")
    await rig.until_speaking()
    await asyncio.sleep(1.2)
    await rig.user_says("charge me please now")  # barges in
    await rig.until_idle()
    await rig.user_says("please transfer me")
    await rig.until_idle()


async def in_text(rig: VoiceRig) -> None:
    """The same, typed."""
    for text in ("hello there", "charge me please", "fail for me"):
        await rig.session.generate_reply(user_input=text)
    rig.session.generate_reply(user_input="tell me a story")
    await rig.until_speaking()
    await asyncio.sleep(1.2)
    await rig.session.interrupt()
    await rig.session.generate_reply(user_input="charge me please now")
    await rig.session.generate_reply(user_input="please transfer me")
    await rig.until_idle()


WAYS = {"voice": by_voice, "text": in_text}


def is_library(value: Any) -> bool:
    module = str(type(value).__module__)
    return module.startswith("graph_voice") and ".testing" not in module


def weight(*roots: Any) -> dict[str, int]:
    """What our objects hold that can be reached from here: how many there are of each class, and how much is in their
    maps, lists and sets. The messages of the call are not counted."""
    seen: set[int] = set()
    found: Counter[str] = Counter()
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, BaseMessage | type | str | bytes):
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | set | frozenset | tuple):
            waiting += value
        elif is_library(value) and hasattr(value, "__dict__"):
            name = type(value).__name__
            found[name] += 1
            for attribute, held in vars(value).items():
                if f"{name}.{attribute}" in IS_MEMORY:
                    continue
                if hasattr(held, "__len__") and not isinstance(held, str):
                    found[f"{name}.{attribute}"] += len(held)
                waiting.append(held)
    return dict(found)


def alive() -> Counter[str]:
    """How many objects of our classes there are at all, held by whomever.

    LiveKit's session keeps each agent that ever had the floor, its own ones too (by the speech handles of its recorded
    events): these, and the mirrors of their tools, are not counted.
    """
    gc.collect()
    found = (o for o in gc.get_objects() if is_library(o) and not isinstance(o, NodeAgent | GraphLLM))
    return Counter(type(o).__name__ for o in found if type(o).__module__ != Mirrors.__module__)


def allocated() -> int:
    """Bytes that lines of ours have allocated and that are still there."""
    gc.collect()
    ours = [tracemalloc.Filter(True, "*/graph_voice/*"), tracemalloc.Filter(True, "*/graph_voice_livekit/*")]
    kit = [tracemalloc.Filter(False, "*/testing/*")]
    return sum(
        s.size for s in tracemalloc.take_snapshot().filter_traces(ours).filter_traces(kit).statistics("filename")
    )


def growth(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    return {k: (before.get(k, 0), n) for k, n in after.items() if n > before.get(k, 0)}


def forget_logs() -> None:
    """pytest keeps each log record, and with the traceback of an error all that was in its frames."""
    for handler in logging.getLogger().handlers:
        if callable(reset := getattr(handler, "reset", None)):
            reset()


@pytest.mark.parametrize("way", WAYS)
async def test_the_turns_of_a_long_call_leave_nothing_but_their_messages(way: str) -> None:
    a_round, rounds = WAYS[way], ROUNDS[way]
    ga, model = a_long_call()

    async def play(count: int) -> None:
        for _ in range(count):
            await a_round(rig)
            forget_logs()
        await asyncio.sleep(10)

    with no_accidents():
        async with voice_rig(ga) as rig:
            await play(WARM_UP)
            roots = (ga.bridge, ga, ga.conversation)
            first, objects, tasks, threads = weight(*roots), alive(), len(asyncio.all_tasks()), threading.active_count()
            tracemalloc.start()
            await play(2)
            before = allocated()
            await play(rounds)
            grown = allocated() - before
            tracemalloc.stop()
            assert growth(first, weight(*roots)) == {}
            assert growth(objects, alive()) == {}
            assert len(asyncio.all_tasks()) <= tasks
            assert threading.active_count() <= threads
            turns = rounds * TURNS
            print(f"{turns} turns in {way}: {grown / turns:.0f} bytes of ours stay of each")
            assert grown / turns < BYTES_PER_TURN
            agrees(ga, rig.session)
    check_invariants(ga.conversation)
    rounds += WARM_UP + 2
    assert len([m for m in ga.conversation.messages if m.type == "human"]) == rounds * TURNS
    assert len(ga.conversation.handoffs) == rounds
    assert sum(bool(m.additional_kwargs.get("interrupted")) for m in ga.conversation.messages) == rounds
    assert not model.errors
