"""What a caller wants from an agent, as far as the intent router understood it.

1. An exact example is what the file says it is.
2. A pattern that matches counts where nothing is left over that the router does not know: "two pizzas and a burger" is
   no order of two pizzas. What is denied ("not on Friday") or asked ("is it 22 dollars?") is not said.
   What is taken back ("a burger, no wait, a wrap") is not wanted.
3. Otherwise the nearest examples decide. A tool needs more than an answer does: a word that the examples know, a
   distance to what else it could be, and the same yes or no. What is only told is no wish.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graph_voice_livekit.offline.corrections import correction, without_hesitation
from graph_voice_livekit.offline.examples import AgentExamples, Examples, Intent
from graph_voice_livekit.offline.reports import is_report, is_undecided
from graph_voice_livekit.offline.slot_types import ANSWERS, SlotValue
from graph_voice_livekit.offline.slots import literal_words, placeholders
from graph_voice_livekit.offline.words import (
    asks_a_fact,
    clauses,
    content,
    gist,
    is_negated,
    same_key,
    says_more,
    sentences,
    vocabulary,
)

__all__ = ["Match", "Understanding", "Wish"]

# Tuned on sentences that are neither in the example files nor in the tests. See `Index` for the scores.
LEAST_SCORE = 0.15
"""If the best intent scores less, none fits: the router says a `fallback`."""
TOOL_SCORE = 0.22
"""The same for an intent with a tool."""
TOOL_MARGIN = 0.07
"""By how much it must be nearer than what else it could be."""
STRANGE_SCORE = 0.24
"""The score that words need of which no example has any."""
STRANGE_SMALL_TALK_SCORE = 0.4
"""The same for greetings, thanks and the like, which anything short is near to."""
STRANGE_TOOL_SCORE = 0.33
"""The same for an intent with a tool."""
STRANGE_TOOL_MARGIN = 0.15
SURE_SCORE = 0.5
"""The score that a second tool call in one message needs."""

_MARK, _SLOT = "\x00", "5"
_INTRODUCES = re.compile(r"\s*(?:i['’]m|i am|this is|this['’]s)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Match:
    """How well an intent fits some words."""

    intent: str | None
    """The intent's name; None for the file's `outside` sentences."""
    score: float
    """Mean cosine of the nearest examples, -1 to 1. Compare within one file only."""
    nearest: str = ""
    """The example that fits best."""


@dataclass(frozen=True)
class Wish:
    """Something that the caller wants, and the slots that the caller's words fill."""

    intent: Intent
    slots: dict[str, SlotValue]


@dataclass(frozen=True)
class _Found:
    """A place where a pattern of an intent matches."""

    intent: Intent
    pattern: str
    start: int
    end: int
    slots: dict[str, SlotValue]

    @property
    def is_weak(self) -> bool:
        """Whether nothing but the slot says what it is about, or what is counted in it: "{years} years"."""
        return not content(literal_words(self.pattern.partition("{")[0]))


class Understanding:
    """Understands one message of a caller.

    Args:
        examples: the file.
        section: its section of the active agent.
        question: the agent's last words.
        nearest: how well each intent fits some words, the best first.
    """

    def __init__(
        self, examples: Examples, section: AgentExamples, question: str, nearest: Callable[[str], list[Match]]
    ) -> None:
        self._examples, self._section, self._nearest = examples, section, nearest
        self._asked = set(re.findall(r"\w+", question.lower()))
        self._intents = [one for one in section.intents if not one.asked or self._asked & _lower(one.asked)]

    def wishes(self, words: str, unanswered: str) -> list[Wish]:
        """Return what the caller wants: nothing, if that was not understood.

        Args:
            words: the caller's last words.
            unanswered: all that the caller said since the last answer.
        """
        for courteous in (False, True):
            key = same_key(words, courteous=courteous)
            for intent in self._intents if key else ():
                if key in [same_key(example, courteous=courteous) for example in intent.examples]:
                    return [Wish(intent, found.slots) for found in self._readings(intent, unanswered)] or [
                        Wish(intent, {})
                    ]
            if key and key in [same_key(example, courteous=courteous) for example in self._examples.outside]:
                return []
        return self._corrected(without_hesitation(words), without_hesitation(unanswered))

    def _corrected(self, words: str, unanswered: str) -> list[Wish]:
        """What is wanted when what was taken back is left out; nothing, if that is not plain."""
        taken_back = correction(unanswered)
        if taken_back is None:
            return self._understood(words, unanswered)
        first = self._corrected(taken_back.first, taken_back.first)
        instead = self._understood(taken_back.instead, taken_back.instead) if taken_back.instead else []
        acted = [wish for wish in first if wish.intent.tool]
        acts_instead = any(wish.intent.tool for wish in instead)
        if not acted and not acts_instead:
            return instead or first
        is_plain = acts_instead and len(acted) < 2 and not (acted and taken_back.adds)
        is_plain &= not is_negated(taken_back.first)
        return instead if is_plain else []

    def _understood(self, words: str, unanswered: str) -> list[Wish]:
        found, rest = self._by_patterns(unanswered)
        if not found:
            return self._by_examples(words)
        first = min(found, key=lambda one: self._intents.index(one.intent))
        if not first.intent.tool:
            return [Wish(first.intent, first.slots)]
        known = [Wish(one.intent, one.slots) for one in found]
        for sentence in sentences(rest):
            wish = self._nearest_intent(sentence, TOOL_SCORE) if content(sentence) else None
            known += [wish] if wish and wish.intent.tool and _may_join(wish, known) else []
        return known

    # ---- patterns

    def _readings(self, intent: Intent, text: str) -> list[_Found]:
        """All places that its patterns match, the longest first, none over another."""
        found = [
            _Found(intent, pattern, one.start, one.end, one.slots)
            for pattern in intent.patterns
            for one in self._examples.find(pattern, text)
            if self._is_answer(pattern)
        ]
        return _apart(found)

    def _is_answer(self, pattern: str) -> bool:
        """Whether a pattern that is hardly more than a slot may count: its words say what they are, or answer."""
        types = {name: self._examples.slots[name].type for name in placeholders(pattern)}
        if content(literal_words(pattern)) or _INTRODUCES.match(pattern):
            return True
        asked = {name: self._examples.slots[name].asked for name in types}
        return any(
            self._asked & _lower(asked[name] or (name,)) or (not asked[name] and kind in ANSWERS)
            for name, kind in types.items()
        )

    def _by_patterns(self, text: str) -> tuple[list[_Found], str]:
        """What patterns say, and the sentences in which none matches."""
        every = _apart([found for intent in self._intents for found in self._readings(intent, text)])
        masked, start = _masked(text, every), 0
        kept: list[_Found] = []
        rest: list[str] = []
        for sentence in sentences(masked):
            start = masked.index(sentence, start)
            inside = [one for one in every if start <= one.start < start + len(sentence)]
            kept += self._that_count(sentence, start, inside)
            rest += [] if inside else [sentence]
            start += len(sentence)
        return sorted(kept, key=lambda one: one.start), " ".join(rest)

    def _that_count(self, sentence: str, start: int, inside: Sequence[_Found]) -> list[_Found]:
        """Those of a sentence's matches that say what they seem to say."""
        parts, place = [], 0
        for clause in clauses(sentence):
            place = sentence.index(clause, place)
            marked = [one for one in inside if start + place <= one.start < start + place + len(clause)]
            parts.append((re.sub(f"{_MARK}+", _SLOT, clause), marked))
            place += len(clause)
        values = vocabulary(str(value) for one in inside for value in one.slots.values())
        strange = is_undecided(sentence.replace(_MARK, _SLOT)) or any(
            self._is_left_over(clause, marked, values) for clause, marked in parts
        )
        question = asks_a_fact(sentence.replace(_MARK, _SLOT))
        counted = []
        for clause, marked in parts:
            for one in marked:
                if not one.intent.tool and not one.is_weak:
                    counted.append(one)  # an answer does no harm: "Am I having a heart attack?"
                    continue
                if (question and not asks_a_fact(f"{one.pattern} ?")) or is_negated(clause, one.pattern):
                    continue
                if not one.is_weak or not (strange or self._is_no_name(one, clause, sentence)):
                    counted.append(one)
        return counted

    def _is_no_name(self, found: _Found, clause: str, sentence: str) -> bool:
        """Whether words stand where a name would, that are none: "My age?", "Whenever you like"."""
        names = [found.slots[name] for name in placeholders(found.pattern) if self._examples.slots[name].type == "name"]
        if not names:
            return False
        known = vocabulary(self._texts_of(self._section.intents))
        return sentence.endswith("?") or says_more(clause) or bool(vocabulary(map(str, names)) & known)

    def _is_left_over(self, clause: str, marked: Sequence[_Found], values: frozenset[str]) -> bool:
        """Whether a clause says something that is not understood, beside its matches if it has any."""
        if not marked:
            return self._is_strange(clause, values)
        known = vocabulary(self._texts_of([one.intent for one in marked]))
        return any(one.is_weak and one.intent.tool for one in marked) and bool(content(clause) - known - values)

    def _is_strange(self, clause: str, values: frozenset[str]) -> bool:
        return bool(content(clause) - values) and self._nearest_intent(clause, TOOL_SCORE) is None

    def _texts_of(self, intents: Sequence[Intent]) -> list[str]:
        """All that is written of the intents, and the words that ask for their slots."""
        slots = [self._examples.slots[name] for one in intents for name in placeholders(" ".join(one.patterns))]
        patterns = [literal_words(pattern) for one in intents for pattern in one.patterns]
        return [*(text for one in intents for text in one.examples), *patterns, *(" ".join(s.asked) for s in slots)]

    # ---- examples

    def _by_examples(self, words: str) -> list[Wish]:
        parts = sentences(words)
        each = (self._nearest_intent(text, TOOL_SCORE) for text in [gist(words), *(parts if len(parts) > 1 else ())])
        first = next((wish for wish in each if wish), None)
        wishes = [first] if first else []
        for sentence in parts if first and first.intent.tool and len(parts) > 1 else ():
            also = self._nearest_intent(sentence, SURE_SCORE)
            wishes += [also] if also and also.intent.tool and _may_join(also, wishes) else []
        return wishes

    def _nearest_intent(self, words: str, least_of_tool: float) -> Wish | None:
        """The intent that the words mean by the nearest examples, if they mean one."""
        matches, intents = self._nearest(words), {intent.name: intent for intent in self._intents}
        best, intent = matches[0], intents.get(matches[0].intent or "")
        if intent is None:
            return None
        strange = content(words) - vocabulary(intent.examples)
        knows_none = strange == content(words)
        if not intent.tool:
            least = LEAST_SCORE if not knows_none else STRANGE_SCORE
            if knows_none and _is_small_talk(intent):
                least = STRANGE_SMALL_TALK_SCORE
            return Wish(intent, {}) if best.score >= least else None
        others = (m.score for m in matches[1:] if m.intent not in intents or intents[m.intent].tool != intent.tool)
        distance = best.score - next(others, 0.0)
        floor, margin = (STRANGE_TOOL_SCORE, STRANGE_TOOL_MARGIN) if knows_none else (least_of_tool, TOOL_MARGIN)
        if best.score < floor or distance < margin or self._is_no_wish(words, best.nearest):
            return None
        if knows_none and len(words.split()) < 3:
            return None  # "Almost." is near to anything short
        return Wish(intent, {})

    @staticmethod
    def _is_no_wish(words: str, like: str) -> bool:
        return is_negated(words, like) or is_report(words, like)


def _apart(found: Sequence[_Found]) -> list[_Found]:
    """Those that are not over another, the longest first."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda one: one.start - one.end):
        if all(one.end <= other.start or other.end <= one.start for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


def _masked(text: str, found: Sequence[_Found]) -> str:
    for one in found:
        text = text[: one.start] + _MARK * (one.end - one.start) + text[one.end :]
    return text


def _may_join(wish: Wish, others: Sequence[Wish]) -> bool:
    """Whether it is another tool, and not a second transfer."""
    tools = [other.intent.tool or "" for other in others]
    transfers = [tool for tool in [wish.intent.tool or "", *tools] if tool.startswith("transfer_to_")]
    return wish.intent.tool not in tools and len(transfers) < 2


def _is_small_talk(intent: Intent) -> bool:
    """Whether most of its examples say little: "Hello.", "Thanks a lot.", "See you."."""
    return 2 * sum(len(example.split()) <= 3 for example in intent.examples) > len(intent.examples)


def _lower(words: Sequence[str]) -> set[str]:
    return {word.lower() for word in words}
