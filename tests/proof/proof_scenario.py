"""A call as plain data: its graph, what the caller and the program do, and when. Made from a seed; JSON can hold it."""

import random
from typing import Any

__all__ = ["MOMENTS", "VALUES", "Scenario", "make"]

Scenario = dict[str, Any]

MOMENTS = ("thinking", "first word", "mid sentence", "tool", "question", "line", "task", "entry", "exit", "any")
"""When a caller barges in: before the first word, on it, later, between a tool call and its result, while a tool asks
the caller something, while a transfer is announced, on the first words of a task, on the new agent's first words, while
the old agent leaves, after some seconds."""

VALUES = [
    *(None, None, "22 digits", "not a number", "half a character", "zero", "a mark of ours", "deep", "nested"),
    *("tuple", "bytes", "set", "deque", "tuple as a key"),
]
"""What the model passes to a tool, and the tool notes in the userdata: JSON as models write it, then other data."""

_TOOLS = ["search", "both", "narrate", "words", "hold on", "note", "many", "fetch", "pass", "form", "forms", "order"]
_WISHES = ["story", "charge", "fail", "twice", "refuse", "stop", "hello", "down", "send", "which", "book", *_TOOLS]
_TRANSFERS = ["transfer 0", "transfer 1"]
_ASKS = {
    "thinking": ["story", "charge", "transfer 0", "hello"],
    "first word": ["story", "charge"],
    "mid sentence": ["story"],
    "tool": ["search", *_TOOLS],
    "question": ["which", "book", "order"],
    "line": [*_TRANSFERS, "send", "pass"],
    "task": ["form", "forms"],
    "entry": [*_TRANSFERS, "send", "pass"],
    "exit": [*_TRANSFERS, "send", "pass"],
    "any": [*_WISHES, *_TRANSFERS, *_TRANSFERS],
}
_HISTORIES = ["fresh", "full", "truncate", "last_turns", "resume", "summary"]
_LINES = [None, "Please hold the line for a moment.", "Please hold the line for a moment.", "generated"]


def make(seed: int, *, calm: bool = False, rounds: int = 6) -> Scenario:
    """The scenario of this seed.

    Args:
        seed: of all dice.
        calm: whether everything but the caller's barge-ins waits for the call to rest, and barge-ins come at moments
            that do not depend on the front end's pace: then two front ends have to agree.
        rounds: behind each of them the call rests, and is checked.
    """
    dice = random.Random(seed)
    count = dice.randint(1, 6)
    agents = [_agent(dice, number, count) for number in range(count)]
    acts = [_calm_round(dice, agents) if calm else _wild_round(dice) for _ in range(rounds)]
    made: Scenario = {
        "seed": seed,
        "calm": calm,
        "agents": agents,
        "first_token": 0.3 if calm else dice.choice([0.0, 0.2, 0.6]),
        "endpointing": 0.5 if calm else dice.choice([0.3, 0.5, 1.2]),
        "synchronizer": not calm and dice.random() < 0.2,
        "rounds": acts,
        "closes": None if calm else dice.choice([None, None, dice.randint(1, rounds)]),
        "crashes": None if calm else dice.choice([None, None, dice.randrange(rounds)]),
        "custom": dice.choice([None, None, "behind", "on the way"]),
        "hangs_up": not calm and dice.random() < 0.2,
        "value": dice.choice(VALUES),
        "tasks": _tasks(dice) if dice.random() < 0.6 else [],
    }
    return made


def _tasks(dice: random.Random) -> list[dict[str, Any]]:
    """Three tasks; the last two are the steps of a group."""
    return [
        {
            "name": f"form{number}",
            "history": dice.choice(_HISTORIES),
            "returns": dice.choice(["full", "truncate", "last_turns"]),
            "on_enter": dice.choice([None, "instructions", "says", "acts"]),
            "on_exit": dice.choice([None, None, 0.8, 3.0]),
            "say": dice.choice([None, "Thank you, I have it all now."]),
        }
        for number in range(3)
    ]


def _agent(dice: random.Random, number: int, count: int) -> dict[str, Any]:
    others = [n for n in range(count) if n != number]
    # The next one is always among them, so that each agent can be reached.
    to = {(number + 1) % count, *dice.sample(others, dice.randint(0, min(2, len(others))))} - {number}
    ways = [
        {
            "to": f"a{target}",
            "history": dice.choice(_HISTORIES),
            "say": dice.choice(_LINES),
            "on_interruption": dice.choice(["cancel", "cancel", "complete"]),
            "takes": dice.random() < 0.3,
        }
        for target in sorted(to)
    ]
    return {
        "name": f"a{number}",
        "ways": ways,
        "on_enter": dice.choice([None, "instructions", "says", "silent", "acts"]),
        "on_exit": dice.choice([None, None, 0.8, 3.0, 6.0]),
        "keeps_short": dice.random() < 0.2,
    }


def _wild_round(dice: random.Random) -> list[dict[str, Any]]:
    acts = []
    for _ in range(dice.randint(1, 4)):
        kind = dice.choices(
            ["says", "barge", "overlaps", "types", "house", "asks", "moves", "interrupts", "silence"],
            [6, 9, 1, 2, 1, 1, 1, 1, 1],
        )[0]
        act: dict[str, Any] = {"do": kind, "pause": round(dice.uniform(0.0, 4.0), 2)}
        if kind in ("says", "barge", "overlaps", "types"):
            act["wish"] = dice.choice(_ASKS["any"])
        if kind == "barge":
            act["when"] = dice.choice(MOMENTS)
            act["first"] = dice.choice(_ASKS[act["when"]])
            act["after"] = round(dice.uniform(0.0, 5.0), 2) if act["when"] == "any" else dice.choice([0.0, 0.1, 0.4])
        if kind in ("says", "barge"):
            act["guess"] = dice.choice([None, None, "same", "story", "charge", "transfer 0"])
            act["seconds"] = dice.choice([None, 0.6, 3.0])
        if kind == "silence":
            act["pause"] = round(dice.uniform(3.0, 20.0), 2)
        acts.append(act)
    return acts


def _calm_round(dice: random.Random, agents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One request, or one request and a barge-in; guesses are right or wrong."""
    # Behind a task, only the core shows the model the answer to a question: LiveKit's run begins before it is said.
    wish = dice.choice([*(w for w in _WISHES if w not in ("down", "order")), *_TRANSFERS, *_TRANSFERS])
    guess = dice.choice([None, None, "same", "story", "charge"])
    if dice.random() < 0.5:
        return [{"do": "says", "wish": wish, "pause": 0.0, "guess": guess, "seconds": None}]
    when = dice.choice(["mid sentence", "tool"])
    barge = {"do": "barge", "when": when, "first": "story" if when == "mid sentence" else "search", "after": 0.5}
    return [{**barge, "wish": wish, "pause": 0.0, "guess": guess, "seconds": None}]
