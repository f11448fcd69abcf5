"""Values of any kind, as they turn up in userdata, in a model's arguments and in what tools return."""

import collections
import datetime
import enum
import math
import pathlib
import re
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st
from pydantic import BaseModel

__all__ = ["Card", "Cart", "Case", "Color", "Pet", "Point", "alive", "any_values", "data", "json_values", "same"]


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Point(NamedTuple):
    x: int
    y: Any = None


class Card(BaseModel):
    number: int = 0
    note: Any = None


@dataclass
class Pet:
    name: str
    age: Any = 0


class Cart:
    """A plain class, as people have."""

    def __init__(self, items: Any = ()) -> None:
        self.items = list(items)
        self.version = 0


class Case(dict[str, Any]):
    """A dict with a method."""

    def shout(self) -> str:
        return "yes"


def deep(levels: int) -> Any:
    found: Any = "bottom"
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


def ring() -> Any:
    found: list[Any] = []
    found.append(found)
    return found


texts = st.text(max_size=8) | st.sampled_from(
    ["\x00", "a\x00b", "half \ud83d", "\ud83d\ude00", "\udcff", "graph_voice:int:5", "graph_voice:lost:x"]
)
integers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63) - 1, 9400110200881234567890]),
)
huge = st.integers(4000, 6000).map(lambda digits: 10**digits)
"""Integers that Python writes as text only when it is asked to; JSON has none of them."""
floats = st.floats() | st.sampled_from([math.nan, math.inf, -math.inf])
_json_atoms = st.none() | st.booleans() | integers | floats | texts
json_values = st.recursive(
    _json_atoms, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
) | st.sampled_from([deep(60), deep(300), deep(600)])
"""What a model may pass: any JSON, as Python reads it, so integers of any size, NaN, halves of characters."""

_hashable = st.one_of(
    *(st.none(), st.booleans(), integers, huge, st.floats(allow_nan=False), texts, st.binary(max_size=4)),
    *(st.dates(), st.datetimes(timezones=st.none() | st.just(datetime.UTC)), st.timedeltas(), st.times()),
    *(st.uuids(), st.decimals(allow_nan=False), st.fractions(), st.complex_numbers(allow_nan=False)),
    st.sampled_from([Color.RED, Level.LOW, pathlib.PurePosixPath("a/b"), frozenset({1}), (1, "a"), Point(1, 2)]),
)
_atoms = _hashable | floats | st.just(bytearray(b"\xff")) | st.builds(re.compile, st.just("a+"))


def _containers(inner: Any) -> Any:
    items, pairs = st.lists(inner, max_size=3), st.dictionaries(_hashable, inner, max_size=3)
    named = st.dictionaries(st.text(max_size=3), inner, max_size=3)
    return st.one_of(
        *(items, pairs, named, items.map(tuple), st.sets(_hashable, max_size=3), st.frozensets(_hashable, max_size=3)),
        *(st.builds(deque, items, st.sampled_from([None, 2, 9])), named.map(collections.OrderedDict)),
        st.builds(lambda found: collections.defaultdict(list, found), pairs),
        *(named.map(Case), st.builds(Cart, items), st.builds(Point, st.integers(0, 9), inner)),
        *(st.builds(Card, note=inner), st.builds(Pet, st.text(max_size=3), inner)),
    )


data = st.recursive(_atoms, _containers, max_leaves=6)
"""Data of any kind."""
alive = st.sampled_from([threading.Lock(), threading, len, object(), lambda: 1, Cart, iter([1])]) | st.builds(ring)
any_values = data | json_values | alive | alive.map(lambda one: {"a": [one, "beside"]})
"""What a tool may put into an artifact or a channel of the program's: anything."""


def same(a: Any, b: Any) -> bool:
    """Whether two values are alike, and of the same kind, at any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        factories = [getattr(one, "default_factory", None) for one in (a, b)]
        return factories[0] is factories[1] and len(a) == len(b) and all(k in b and same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple | deque):
        lengths = [getattr(one, "maxlen", None) for one in (a, b)]
        return lengths[0] == lengths[1] and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, BaseModel | Pet | Cart):
        return same(vars(a), vars(b))
    return bool(a == b)
