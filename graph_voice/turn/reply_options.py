"""What a front end asks of a turn's replies besides instructions: LiveKit's arguments of `generate_reply`."""

from dataclasses import dataclass

from langchain_core.messages import AnyMessage

__all__ = ["ReplyOptions"]


@dataclass(frozen=True)
class ReplyOptions:
    """How one turn's replies differ from the agent's defaults; never stored."""

    messages: tuple[AnyMessage, ...] | None = None
    """What the agent's model is shown in this turn instead of the agent's context. What the turn adds follows it."""
    tools: frozenset[str] | None = None
    """The only tools that the first reply may use. None: all of the agent's."""
    tool_choice: str | None = None
    """For the first reply: "none", "required", or the name of the tool that must be called. None: the model decides."""
