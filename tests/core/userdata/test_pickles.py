"""Pickles of values whose class is in a file that was loaded by its path."""

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_voice.launch.loading import load_module
from graph_voice.userdata.pickles import keep_readable

FILE = """
import datetime
import enum
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, SecretStr

from graph_voice import Agent, VoiceState, create_voice_graph


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Item(BaseModel):
    name: str = ""
    since: datetime.date | None = None


@dataclass
class Caller:
    name: str | None = None
    mood: Mood = Mood.GOOD
    items: list[Item] = field(default_factory=list)
    card: SecretStr | None = None


class Shop(VoiceState[Caller]):
    cart: Annotated[dict[str, Item], lambda a, b: {**a, **b}]


graph = create_voice_graph([Agent("a", instructions="A.")], state_schema=Shop)
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file: Path = tmp_path_factory.mktemp("pickles") / "my_agent.py"
    file.write_text(FILE, encoding="utf-8")
    return load_module(str(file))


class _NotLoaded:
    """A process in which the file is not loaded yet."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __enter__(self) -> None:
        del sys.modules[self._module.__name__]

    def __exit__(self, *_: object) -> None:
        sys.modules[self._module.__name__] = self._module


@given(st.text() | st.none(), st.sampled_from(["GOOD", "BAD"]), st.lists(st.tuples(st.text(), st.dates()), max_size=3))
def test_the_dev_servers_pickle_is_read_with_and_without_the_class_and_every_other_copy_is_as_ever(
    module: Any, name: str | None, mood: str, items: Any
) -> None:
    made = [module.Item(name=item, since=since) for item, since in items]
    caller = module.Caller(name, module.Mood[mood], made, module.SecretStr("4111111111111111"))
    pickled = pickle.dumps({"userdata": caller, "cart": made}, 2)
    assert b"4111111111111111" not in pickled
    found = pickle.loads(pickled)
    assert type(found["userdata"]) is module.Caller
    assert (found["userdata"].items, found["cart"], found["userdata"].mood) == (made, made, module.Mood[mood])
    with _NotLoaded(module):
        found = pickle.loads(pickled)
    plain = [{"name": item, "since": since} for item, since in items]
    assert found["cart"] == plain
    assert {**found["userdata"], "card": None} == {"name": name, "mood": mood.lower(), "items": plain, "card": None}
    for again in (copy.deepcopy(caller), copy.copy(caller), pickle.loads(pickle.dumps(caller))):
        assert again == caller
        assert again.card.get_secret_value() == "4111111111111111"


def test_a_class_that_has_changed_since_is_read_as_plain_data(module: Any) -> None:
    pickled = pickle.dumps(module.Mood.BAD, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(module, "Mood")
        assert pickle.loads(pickled) == "bad"


def test_a_class_that_can_be_imported_stays_as_it_is() -> None:
    before = Path.__reduce_ex__
    keep_readable(Path | None)
    keep_readable(st.SearchStrategy)
    assert Path.__reduce_ex__ is before
