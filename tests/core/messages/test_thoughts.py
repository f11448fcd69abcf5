"""Thoughts in a model's text are taken out, however the tags are torn."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field

from graph_voice import Agent, create_voice_graph
from graph_voice.messages.thoughts import ThoughtFilter, without_thoughts
from graph_voice.testing import Call

pytestmark = pytest.mark.virtual_clock
both = pytest.mark.parametrize("front_end", ["core", "livekit"])

pieces = st.lists(st.sampled_from(["Hello ", "a < b ", "<b>", "<", "</", "I <3 you", "thin", "k>", " "]), max_size=6)
thoughts = st.sampled_from(["", "\n", "They want X.", "a < b", "<b>"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[str, str]:
    """A text with thoughts, and the words in it."""
    whole, words = "", ""
    for _ in range(draw(st.integers(0, 4))):
        said = "".join(draw(pieces))
        if re.search(r"</?(think|thinking|thought|reasoning)>", words + said, re.I):
            continue
        whole, words = whole + said, words + (said.lstrip() if whole.endswith(">") and "think" in whole[-12:] else said)
        name = draw(st.sampled_from(["think", "THINK", "thinking", "reasoning"]))
        if draw(st.booleans()):
            whole += f"<{name}>{draw(thoughts)}</{name}>"
    return whole, words


@given(st.lists(st.sampled_from(["Hello", " there", "<think>", "</think>", "x", "\n", "<", "a < b"])), st.data())
def test_how_a_text_is_torn_makes_no_difference_once_its_tags_are_opened(parts: list[str], data: st.DataObject) -> None:
    text = "<think>So.</think>" + "".join(parts).replace("</think>", "<think></think>")
    places = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=8)))
    torn = ThoughtFilter()
    cuts = [0, *places, len(text)]
    said = "".join(torn.feed(text[a:b]) for a, b in itertools.pairwise(cuts)) + torn.end()
    assert said == without_thoughts(text)
    assert "think>" not in said


SPELLINGS = [
    *(f"<{name}>They want X.</{name}>" for name in ("think", "Thinking", "thoughts", "reflection", "scratchpad")),
    *(f"<{name}>They want X.</{name}>" for name in ("seed:think", "antThinking", "chain_of_thought", "analysis")),
    *("<think >They want X.</think >", "< think>They want X.</ think>", '<thinking budget="9">They want X.</thinking>'),
    *("[THINK]They want X.[/THINK]", "\u25c1think\u25b7They want X.\u25c1/think\u25b7", "<think/>", "<thinking />"),
    "<|START_THINKING|>They want X.<|END_THINKING|><|START_RESPONSE|>",
    "<|begin_of_thought|>They want X.<|end_of_thought|>\n\n<|begin_of_solution|>",
    "<|channel|>analysis<|message|>They want X.<|end|><|start|>assistant<|channel|>final<|message|>",
]


@pytest.mark.parametrize("thought", SPELLINGS)
@given(data=st.data())
def test_each_spelling_goes_wherever_it_is_torn(thought: str, data: st.DataObject) -> None:
    text = f"{thought}Hello {thought}there, a < b [sic]."
    places = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=8)))
    torn = ThoughtFilter()
    said = "".join(torn.feed(text[a:b]) for a, b in itertools.pairwise([0, *places, len(text)])) + torn.end()
    assert said == without_thoughts(text) == "Hello there, a < b [sic]."


@given(texts())
def test_only_the_thoughts_go(made: tuple[str, str]) -> None:
    whole, words = made
    if not re.search(r"<(think|thinking|reasoning)>", whole, re.I):
        assert without_thoughts(whole) == whole
    else:
        squeezed = [re.sub(r"\s+", "", text) for text in (without_thoughts(whole), words)]
        assert squeezed[0] == squeezed[1]


@given(st.text(st.characters(exclude_characters="<[\u25c1")), st.integers(1, 5))
def test_a_text_without_tags_is_given_out_at_once(text: str, size: int) -> None:
    given_out = ThoughtFilter()
    for start in range(0, len(text), size):
        assert given_out.feed(text[start : start + size]) == text[start : start + size]
    assert given_out.end() == ""


def test_an_unclosed_thought_says_nothing_and_a_torn_tag_that_is_none_is_said() -> None:
    assert without_thoughts("Well. <think>They want") == "Well. "
    assert without_thoughts("It is <thi") == "It is <thi"


class Thinker(BaseChatModel):
    """A model that answers with these pieces."""

    parts: list[Any] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "thinker"

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        for part in self.parts:
            yield ChatGenerationChunk(message=AIMessageChunk(content=part))


@both
@pytest.mark.parametrize(
    "parts",
    [
        ["<think>", "The user", " wants X.", "</think>", "Hello", " there."],
        ["<thi", "nk>The user wants X.</th", "ink>\n", "\nHello there."],
        ["<think>\n\n</think>\n\nHello there."],
        ["<THINKING>Hm.</THINKING>", "Hello there."],
        ["They want X.</think>Hello there."],
        [[{"type": "text", "text": "<think>Hm.", "index": 0}], [{"type": "text", "text": "</think>Hello there."}]],
    ],
)
async def test_thoughts_are_neither_spoken_nor_remembered_nor_shown_again(front_end: str, parts: list[Any]) -> None:
    graph = create_voice_graph([Agent("a", instructions="A", llm=Thinker(parts=parts))])
    async with Call(graph, front_end=front_end) as phone:
        said = await phone.says("hi")
        assert said.heard.strip() == "Hello there."
        assert phone.messages[-1].text.strip() == "Hello there."
        assert "think" not in str([m.content for m in phone.messages]).lower()


@both
async def test_a_model_that_only_closes_its_thoughts_is_known_after_the_first_time(front_end: str) -> None:
    model = Thinker(parts=["They want X.", "</think>", "Hello."])
    graph = create_voice_graph([Agent("a", instructions="A", llm=model)])
    async with Call(graph, front_end=front_end) as phone:
        await phone.says("hi")
        assert (await phone.says("and?")).heard == "Hello."


@both
async def test_nothing_but_thoughts_is_no_answer(front_end: str) -> None:
    graph = create_voice_graph(
        [Agent("a", instructions="A", llm=Thinker(parts=["<think>They want X."]))], apology="Pardon me."
    )
    async with Call(graph, front_end=front_end, check=False) as phone:
        assert (await phone.says("hi")).heard == "Pardon me."
