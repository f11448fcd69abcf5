"""A rewrite of the history: what the run knew of, by what is remembered of it."""

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AnyMessage, HumanMessage

from graph_voice.turn.record import Rewrite

IDS = st.lists(st.sampled_from("abcdef"), unique=True)


def words(*names: str, of: str = "heard") -> list[AnyMessage]:
    return [HumanMessage(f"{name} {of}", id=name) for name in names]


def test_words_that_were_never_heard_are_not_remembered_in_other_words() -> None:
    rewrite = Rewrite(frozenset("ab"), ["a", *words("b", "c", of="changed")])
    assert [m.text for m in rewrite.apply(words("a"))] == ["a heard", "c changed"]
    assert [m.text for m in rewrite.apply(words("a", "b"))] == ["a heard", "b changed", "c changed"]


@given(IDS, IDS, IDS)
def test_what_is_kept_is_in_the_run_s_order_and_what_it_did_not_know_stays(
    remembered: list[str], known: list[str], kept: list[str]
) -> None:
    after = [str(m.id) for m in Rewrite(frozenset(known), kept).apply(words(*remembered))]
    assert len(after) == len(set(after))
    assert [name for name in after if name in kept] == [name for name in kept if name in remembered]
    unknown = [name for name in remembered if name not in known and name not in kept]
    assert [name for name in after if name not in kept] == unknown
    for here, name in enumerate(remembered):
        if name in unknown and (behind := [n for n in remembered[here:] if n in kept]):
            assert after.index(name) < after.index(behind[0])
