"""A failing scenario made small: what can be left out without the failure going away is left out."""

import copy
from collections.abc import Callable, Iterator

from proof_scenario import Scenario

__all__ = ["shrink"]


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], *, tries: int = 300) -> Scenario:
    """The smallest scenario found that still fails.

    Args:
        scenario: one that fails.
        fails: plays one, and says whether it fails in the same way.
        tries: how many playings it may cost.
    """
    smallest = scenario
    again = True
    while again:
        again = False
        for smaller in _smaller(smallest):
            if tries <= 0:
                return smallest
            tries -= 1
            if fails(smaller):
                smallest, again = smaller, True
                break
    return smallest


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """The scenario without one of its parts, large parts first."""
    rounds = scenario["rounds"]
    size = len(rounds)
    while size:
        for start in range(0, len(rounds), size):
            if size < len(rounds):
                yield {**scenario, "rounds": rounds[:start] + rounds[start + size :]}
        size //= 2
    for number, acts in enumerate(rounds):
        for place in range(len(acts)):
            if len(acts) > 1:
                yield {
                    **scenario,
                    "rounds": [*rounds[:number], acts[:place] + acts[place + 1 :], *rounds[number + 1 :]],
                }
    if len(scenario["agents"]) > 1:
        last = scenario["agents"][-1]["name"]
        kept = copy.deepcopy(scenario["agents"][:-1])
        for agent in kept:
            agent["ways"] = [way for way in agent["ways"] if way["to"] != last]
        reached = {way["to"] for agent in kept for way in agent["ways"]} | {kept[0]["name"]}
        if reached >= {agent["name"] for agent in kept}:
            yield {**scenario, "agents": kept}
    for number, agent in enumerate(scenario["agents"]):
        for plainer in ({"on_exit": False}, {"on_enter": None}):
            if agent | plainer != agent:
                yield _with_agent(scenario, number, agent | plainer)
        for place, way in enumerate(agent["ways"]):
            plain = {**way, "say": None, "history": "fresh", "on_interruption": "cancel"}
            if plain != way:
                yield _with_agent(
                    scenario, number, {**agent, "ways": [*agent["ways"][:place], plain, *agent["ways"][place + 1 :]]}
                )
    for number, acts in enumerate(rounds):
        for place, act in enumerate(acts):
            for plainer in ({"guess": None}, {"seconds": None}, {"pause": 1.0}, {"wish": "hello"}):
                if plainer.keys() <= act.keys() and act | plainer != act:
                    changed = [*acts[:place], act | plainer, *acts[place + 1 :]]
                    yield {**scenario, "rounds": [*rounds[:number], changed, *rounds[number + 1 :]]}
    for plainer in ({"closes": None}, {"crashes": None}, {"synchronizer": False}):
        if scenario | plainer != scenario:
            yield scenario | plainer


def _with_agent(scenario: Scenario, number: int, agent: Scenario) -> Scenario:
    agents = scenario["agents"]
    return {**scenario, "agents": [*agents[:number], agent, *agents[number + 1 :]]}
