"""Two turns that change one field of the userdata: neither change is lost."""

import asyncio
import copy
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from graph_voice import Agent, RunContext, create_voice_graph, function_tool
from graph_voice.testing import Call, ScriptedModel, call
from graph_voice.userdata.merging import merged


class Cart(BaseModel):
    items: dict[str, int] = {}
    note: str = ""


class Caller(BaseModel):
    cart: Cart = Cart()
    items: dict[str, int] = {}
    words: list[str] = []
    seen: set[str] = set()
    counts: dict[str, int] = Field(default_factory=lambda: defaultdict(int))
    ordered: list[str] = []
    name: str = ""


@function_tool
async def add(ctx: RunContext[Any], item: str, seconds: float = 0) -> str:
    """Add an item."""
    userdata = ctx.userdata
    if isinstance(userdata, dict):
        userdata["items"][item] = 1
    else:
        userdata.items[item] = userdata.cart.items[item] = 1
        userdata.words.append(item)
        userdata.seen.add(item)
        userdata.counts[item] += 1
        userdata.ordered = [item]
        userdata.name = item
    await asyncio.sleep(seconds)
    return f"{item} added"


def reply(messages: list[Any]) -> Any:
    last = messages[-1].text
    if last == "Tea.":
        return call("add", {"item": "tea", "seconds": 8})
    return call("add", {"item": "milk"}) if last == "And milk." else "Yes."


@pytest.mark.virtual_clock
@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("kind", [Caller, None])
async def test_what_a_tool_behind_a_barge_in_and_the_next_turn_have_put_in_is_all_there(
    front_end: str, kind: Any
) -> None:
    desk = Agent("desk", instructions="D", tools=[add])
    graph = create_voice_graph([desk], llm=ScriptedModel(reply), userdata=kind)
    async with Call(graph, front_end=front_end, userdata=(kind or dict)(items={"cake": 1})) as phone:
        phone.during_tool("add").says("And milk.")
        await phone.says("Tea.")
        await phone.silence(12)
        found: Any = phone.userdata
    if kind is None:
        assert found["items"] == {"cake": 1, "tea": 1, "milk": 1}
        return
    assert found.items == {"cake": 1, "tea": 1, "milk": 1}
    assert found.cart.items == {"tea": 1, "milk": 1}
    assert sorted(found.words) == ["milk", "tea"]
    assert found.seen == {"tea", "milk"}
    assert found.counts == {"tea": 1, "milk": 1}
    assert isinstance(found.counts, defaultdict)
    assert (found.name, found.ordered) == ("tea", ["tea"]), "what is assigned replaces"


VALUES = st.recursive(
    st.integers(0, 3) | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, VALUES, VALUES)
@settings(max_examples=300, deadline=None)
def test_nothing_is_changed_in_place_and_without_another_change_it_is_what_was_made(
    before: Any, after: Any, current: Any
) -> None:
    copies = copy.deepcopy((before, after, current))
    merged(before, after, current)
    assert (before, after, current) == copies
    assert merged(before, after, before) == after
    assert merged(before, after, copy.deepcopy(before)) == after
    assert merged(before, copy.deepcopy(before), current) in (current, before)


KEYED = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=4)


@given(KEYED, KEYED, KEYED)
@settings(max_examples=300, deadline=None)
def test_changes_of_different_keys_commute(before: Any, one: Any, other: Any) -> None:
    touched = {k for k in "abcd" if one.get(k) != before.get(k)}
    other = {k: v for k, v in other.items() if k not in touched} | {k: before[k] for k in touched if k in before}
    assert merged(before, one, other) == merged(before, other, one)
    for key in touched:
        assert merged(before, one, other).get(key) == one.get(key)


def test_a_value_that_was_replaced_by_another_kind_is_replaced() -> None:
    assert merged({"a": 1}, [1], {"a": 2}) == [1]
    assert merged([1, 2], [2], [1, 2, 3]) == [2], "not appended: a new list"
    assert merged(1, 2, 3) == 2


def test_a_removal_and_an_addition_are_both_kept() -> None:
    before = {"tea": 1, "milk": 1}
    assert merged(before, {"milk": 1}, {**before, "cake": 1}) == {"milk": 1, "cake": 1}
    assert merged(before, {**before, "cake": 1}, {"milk": 1}) == {"milk": 1, "cake": 1}
    assert merged({"a": [1]}, {"a": [1, 2]}, {"a": [1, 3]}) == {"a": [1, 2]}, "a list inside is replaced"
