"""What can be checked in prompts without a model: the tools and agents that they name must exist."""

import copy
import difflib
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

from graph_voice.agents.agent import Agent, takes_arguments, texts_of
from graph_voice.checks.findings import Finding, Severity

__all__ = ["check_prompts"]

_TRANSFER = re.compile(r"\btransfer_to_(\w+)")
_CALLED = re.compile(
    r"\b(?:call|use|using|invoke|run)\s+(?:the\s+)?(?:tool\s+|function\s+)?[`\"']?([A-Za-z]\w*_\w+)|\b([A-Za-z]\w*_\w+)\(",
    re.IGNORECASE,
)
_PASS_ON = r"\b(?:transfer|hand|pass|send|forward|connect)\w*\b[^.!?\n]{0,60}?\bto\s+(?:(?:the|our|an?|your)\s+)?"
_TO_AN_AGENT = re.compile(_PASS_ON + r"([\w-]+(?:[ _][\w-]+){0,3}?)\s+agent\b", re.IGNORECASE)
_NOT = re.compile(r"\b(?:never|not|cannot)\b|n't\b", re.IGNORECASE)
# "Transfer the caller to the right agent" names no agent.
_NOBODY = {
    *("another", "different", "first", "next", "other", "same", "second", "that", "this"),
    *("any", "appropriate", "available", "best", "correct", "matching", "proper", "relevant", "right", "suitable"),
    *("human", "live", "real", "specialised", "specialist", "specialized"),
}


def check_prompts(agents: Mapping[str, Agent], tools: Set[str], userdata: Any, start: str | None) -> Iterator[Finding]:
    """Find tools and agents that an agent's instructions or `on_enter` name, but the agent does not have.

    Args:
        agents: by name.
        tools: the names of all known tools, of any agent.
        userdata: what a call begins with, for prompts that are functions. None: not known, so they are skipped.
        start: the agent that is active first.

    Only words are compared, not their meaning: a prompt that describes the billing agent in other words passes.
    """
    for agent in agents.values():
        reported: set[str] = set()
        for text in _texts(agent, userdata):
            if isinstance(text, Exception):
                if agent.name == start:
                    yield _unrendered(agent, text)
                continue
            yield from _transfers(agent, agents, text, reported)
            yield from _tools(agent, agents, tools, text, reported)
            yield from _phrases(agent, agents, text, reported)


def _texts(agent: Agent, userdata: Any) -> Iterator[str | Exception]:
    """The prompts as they are when a call begins, or the errors that they raise."""
    prompts = [agent.instructions] if agent.enters_by_method else [agent.instructions, agent.on_enter]
    for prompt in (text for written in prompts for text in texts_of(written)):
        if isinstance(prompt, str):
            yield prompt
        elif callable(prompt) and userdata is not None:
            try:
                # A copy: a prompt must change nothing, and the channel's own value is shared.
                given = (copy.deepcopy(userdata), None) if takes_arguments(prompt) else (copy.deepcopy(userdata),)
                yield str(prompt(*given))
            except Exception as error:
                yield error


def _unrendered(agent: Agent, error: Exception) -> Finding:
    return Finding(
        Severity.WARNING,
        f'agent "{agent.name}" is active first, and one of its prompts fails on the userdata of a new call: '
        f"{type(error).__name__}: {error}.",
        "Let the function take userdata that is not filled in yet.",
        agent=agent.name,
    )


def _transfers(agent: Agent, agents: Mapping[str, Agent], text: str, reported: set[str]) -> Iterator[Finding]:
    own = [tool.name for tool in agent.all_tools]
    for found in _TRANSFER.finditer(text):
        name, target = found.group(0), found.group(1)
        if name in own or name in reported:
            continue
        reported.add(name)
        reported.add(target)
        renamed = next((t.name for t in agent.transfers if t.handoff.to == target), None)
        if renamed is not None:
            fix = f'Its transfer to "{target}" is named {renamed}: write that, or leave out Handoff(name=...).'
        elif target in agents:
            fix = f"Declare it, {_declared(agent, target)}, or take it out of the prompt."
        else:
            transfers = ", ".join(t.name for t in agent.transfers) or "none"
            fix = f'There is no agent "{target}"{_meant(target, agents)}. The agent\'s transfers: {transfers}.'
        yield Finding(
            Severity.WARNING,
            f'agent "{agent.name}" is told about {name}, a tool that it does not have.',
            fix,
            agent=agent.name,
            tool=name,
        )


def _tools(
    agent: Agent, agents: Mapping[str, Agent], tools: Set[str], text: str, reported: set[str]
) -> Iterator[Finding]:
    if agent.toolsets:
        return  # what their tools are is known in a call
    own = {tool.name for tool in agent.all_tools}
    elsewhere = {name for name in tools - own if _named(name, text)}
    called = {one or other for one, other in _CALLED.findall(text)}
    for name in sorted((elsewhere | called) - own - reported):
        reported.add(name)
        holders = sorted(a.name for a in agents.values() if name in {t.name for t in a.all_tools})
        if holders:
            has = f'agent "{holders[0]}" has it'
            fix = f'Add it, Agent("{agent.name}", ..., tools=[{name}]), or transfer to "{holders[0]}".'
        elif name in tools:
            has = "no agent has it"
            fix = f'Add it: Agent("{agent.name}", ..., tools=[{name}]).'
        else:
            has = "it does not exist"
            fix = f"Its tools are {', '.join(sorted(own)) or 'none'}{_meant(name, own)}."
        yield Finding(
            Severity.WARNING,
            f'agent "{agent.name}" is told about the tool {name}, which it does not have; {has}.',
            fix,
            agent=agent.name,
            tool=name,
        )


def _phrases(agent: Agent, agents: Mapping[str, Agent], text: str, reported: set[str]) -> Iterator[Finding]:
    for sentence in re.split(r"[.!?\n]", text):
        if _NOT.search(sentence):
            continue
        for target in sorted(_targets(sentence, agents) - agent.targets - {agent.name} - reported):
            reported.add(target)
            known = target in agents
            yield Finding(
                Severity.WARNING,
                f'agent "{agent.name}" is told to transfer to "{target}", '
                + ("but has no handoff to it." if known else "but there is no such agent."),
                f"Declare it: {_declared(agent, target)}."
                if known
                else f"The agents are {', '.join(agents)}{_meant(target, agents)}.",
                agent=agent.name,
            )


def _targets(sentence: str, agents: Mapping[str, Agent]) -> set[str]:
    """Agents that a sentence says to transfer to: known ones by name, and what the sentence calls an agent."""
    found = set()
    for name in agents:
        words = r"[ _-]".join(map(re.escape, re.split(r"[_-]", name)))
        if re.search(_PASS_ON + rf"{words}\b", sentence, re.IGNORECASE):
            found.add(name)
    for match in _TO_AN_AGENT.finditer(sentence):
        words = match.group(1).lower()
        if _NOBODY.isdisjoint(words.split()):
            name = words.replace(" ", "_")
            found.add(next((agent for agent in agents if agent.lower() == name), name))
    return found


def _named(name: str, text: str) -> bool:
    """Whether a text names this tool. A name of one word may be an ordinary word, so it counts only in backticks."""
    return re.search(rf"\b{re.escape(name)}\b" if "_" in name else rf"`{re.escape(name)}`", text) is not None


def _declared(agent: Agent, target: str) -> str:
    return f'Agent("{agent.name}", ..., handoffs=[Handoff("{target}", "When to transfer.")])'


def _meant(name: str, known: Mapping[str, Any] | Set[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
