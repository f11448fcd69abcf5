"""One scenario played and judged: on the core, on LiveKit, or on both, whose results have to agree."""

import logging
import re
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proof_core import CorePlayer
from proof_livekit import LiveKitPlayer
from proof_player import Player
from proof_scenario import Scenario

from graph_voice.testing import run

__all__ = ["KINDS", "Outcome", "agree", "judge"]

KINDS = ("core", "livekit", "both")
PLAYERS: dict[str, type[Player]] = {"core": CorePlayer, "livekit": LiveKitPlayer}
LIMIT = 1_000_000.0
"""Virtual seconds of a call."""


@dataclass
class Outcome:
    """What became of one scenario."""

    kind: str
    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    failure: str | None = None
    log: list[str] = field(default_factory=list)


def judge(scenario: Scenario, kind: str) -> Outcome:
    """Play it; a failure is in the outcome, not raised."""
    outcome = Outcome(kind, scenario["seed"])
    results = {}
    for name in ("core", "livekit") if kind == "both" else (kind,):
        player = PLAYERS[name](scenario)
        try:
            results[name] = run(player.play(), limit=LIMIT)
        except Exception as error:
            outcome.failure = f"{name}: {type(error).__name__}: {str(error) or _asserted(error)}"
        outcome.counts += Counter({f"{name}: {what}": n for what, n in player.world.counts.items()})
        outcome.counts[f"{name}: calls"] += 1
        outcome.counts[f"{name}: turns of the caller"] += len(player.world.said)
        outcome.counts[f"{name}: tools run"] += len(player.world.started)
        outcome.log += [f"-- {name}", *player.world.log]
        if outcome.failure is not None:
            return outcome
    if kind == "both" and (wrong := agree(results["core"], results["livekit"])):
        outcome.failure = "the front ends do not agree: " + "; ".join(wrong)
    return outcome


def _asserted(error: Exception) -> str:
    """The source line of a bare `assert`, and what the names in it stood for."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    held = {n: v for n, v in frame.f_locals.items() if re.search(rf"\b{n}\b", place.line or "")}
    return "\n  ".join([place.line or "", *(f"{name} = {value!r}"[:2_000] for name, value in held.items())])


def agree(core: dict[str, Any], livekit: dict[str, Any]) -> list[str]:
    """In what two playings of one calm scenario differ.

    Only the place where a barge-in cuts an answer depends on the front end's pace: there, the one has to be the
    beginning of the other. All else is the same: who has the floor, the handoffs, which tools ran and in which order,
    their results, the userdata, what the caller said.
    """
    wrong = [
        f"{what}: core {core[what]}, livekit {livekit[what]}"
        for what in ("active_agent", "handoffs", "effects", "userdata", "results")
        if core[what] != livekit[what]
    ]
    if [said for said, _ in core["turns"]] != [said for said, _ in livekit["turns"]]:
        wrong.append(f"turns: core {core['turns']}, livekit {livekit['turns']}")
    for (said, one), (_, other) in zip(core["turns"], livekit["turns"], strict=False):
        if not (one.startswith(other) or other.startswith(one)):
            wrong.append(f"behind {said!r}: core {one!r}, livekit {other!r}")
    return wrong


def quiet() -> None:
    """No log lines: failing tools and models are part of the scenarios. What LiveKit logs as an error is a failure."""
    for name in ("graph_voice", "livekit", "asyncio"):
        logging.getLogger(name).handlers = [logging.NullHandler()]
        logging.getLogger(name).propagate = False
