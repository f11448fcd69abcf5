"""What comes with a handoff: an agent that takes it, and handoffs that bring nothing."""

from collections.abc import Iterator, Mapping

from graph_voice.agents.agent import Agent, takes_arguments, texts_of
from graph_voice.checks.findings import Finding, Severity

__all__ = ["check_arguments"]


def check_arguments(agents: Mapping[str, Agent]) -> Iterator[Finding]:
    """Agents whose `on_enter` takes the arguments of a handoff, which no handoff has."""
    for agent in agents.values():
        ways = [way for other in agents.values() for way in other.declared if way.to == agent.name]
        if any(map(takes_arguments, texts_of(agent.on_enter))) and not any(way.arguments for way in ways):
            yield Finding(
                Severity.WARNING,
                f'agent "{agent.name}": its on_enter takes what comes with a handoff, but no handoff to it has any.',
                f'Write Handoff("{agent.name}", ..., arguments=Reason) with a pydantic model, or a function of the '
                "userdata alone.",
                agent=agent.name,
            )
