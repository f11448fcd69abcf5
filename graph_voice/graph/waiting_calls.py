"""Tool calls that wait, for the caller or for a task: their placeholders in the state, which say how they go on."""

from typing import Any, TypeGuard

from langchain_core.messages import AnyMessage, ToolMessage

from graph_voice.agents.task_end import Done
from graph_voice.graph.tool_batch import Outcome
from graph_voice.graph.transfers import Transfers
from graph_voice.messages.pairs import ACTED, ENDS, WAITS, placeholder, running

__all__ = ["WaitingCalls", "is_open"]


class WaitingCalls:
    """The tool calls of one agent that wait."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def known(self, message: ToolMessage) -> Outcome | None:
        """The outcome of a tool call from an earlier run of this node; None when it must run."""
        if not message.additional_kwargs.get("placeholder"):
            return Outcome(message)
        waits = message.additional_kwargs.get(WAITS, {})
        if (end := waits.get(ENDS, {}).get("end")) is not None:  # the process ended before the active agent had changed
            done = Done.of(end)
            return Outcome(message.model_copy(update={"content": done.answer, "additional_kwargs": {}}), done=done)
        if (plain := waits.get("handoff")) is None:
            return None
        request = self._transfers.from_plain(plain)
        own = waits.get(ACTED)
        extra = {} if own is None else {ACTED: own}
        decided = message.model_copy(update={"content": request.answer, "additional_kwargs": extra})
        return Outcome(decided, request=request)

    def placeholder(self, outcome: Outcome, userdata: Any) -> ToolMessage:
        """The placeholder in the state for an undecided tool call. It says how to go on."""
        made = placeholder(outcome.message.tool_call_id, outcome.message.name or "", running(outcome.progress))
        known: dict[str, Any] = {"said": outcome.said}
        if outcome.told:
            known["updates"] = outcome.told
        if outcome.approved:
            known["approved"] = True
        if outcome.wants is not None:
            known["task"] = True
        if (request := outcome.request) is not None:
            own = outcome.message.additional_kwargs.get(ACTED)
            known = {"handoff": self._transfers.plain(request, userdata), ACTED: own}
        return made.model_copy(update={"additional_kwargs": {**made.additional_kwargs, WAITS: known}})


def is_open(message: AnyMessage) -> TypeGuard[ToolMessage]:
    """Whether this is the placeholder of a tool call that has to run again: it asks, or wants a task."""
    known = message.additional_kwargs.get(WAITS, {})
    decided = "handoff" in known or known.get(ENDS, {}).get("end") is not None
    return isinstance(message, ToolMessage) and "placeholder" in message.additional_kwargs and not decided
