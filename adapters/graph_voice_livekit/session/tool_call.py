"""One tool call of the graph in progress, and the batch that it belongs to."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import ToolMessage
from livekit.agents import llm
from livekit.agents.voice import SpeechHandle

from graph_voice import events
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.handoff import LiveHandoff

__all__ = ["Batch", "LiveToolCall"]


@dataclass(eq=False)
class LiveToolCall:
    """A tool call that LiveKit executes through its mirror. It lives until LiveKit's history has its result."""

    id: str
    batch: "Batch | None"
    """None for a tool call of an earlier process."""
    started: bool = False
    """Whether LiveKit has started its mirror, which permits it. It answers unknown and mocked tools itself."""
    result: events.ToolResult | None = None
    released: bool = False
    """Whether the mirror was released before the result came (a barge-in, or a question of the graph)."""
    has_waited: bool = False
    """Whether it has waited for a task."""
    in_task: bool = False
    """Whether its mirror awaits LiveKit's own task."""
    is_livekits: bool = False
    """Whether LiveKit runs a tool of its own for it, past the graph."""
    item: llm.FunctionCallOutput | None = None
    """LiveKit's answer to a released tool call, which gets the real result when it comes."""

    @property
    def waits(self) -> bool:
        """Whether it waits for a task."""
        return self.result is not None and self.result.waits

    @property
    def asks(self) -> bool:
        """Whether its result comes in a later turn: it waits for the caller's answer (LangGraph's `interrupt()`), or
        for a task."""
        asked = (self.batch is None or self.batch.asks or self.batch.asks_later) and self.result is None
        return (asked or self.waits) and self.item is not None

    def answer(self, result: events.ToolResult) -> None:
        """The graph has its result. LiveKit's history and judges have it as well."""
        self.has_waited = self.has_waited or result.waits
        self.result = result
        self.tell(result.output, is_error=result.is_error)

    def answered(self, item: llm.FunctionCallOutput | None) -> None:
        """LiveKit has answered it, with the placeholder, since its mirror was released."""
        self.item = item
        if self.result is not None:
            self.tell(self.result.output, is_error=self.result.is_error)

    def tell(self, output: str, *, is_error: bool) -> None:
        """Put this into LiveKit's item, if it waits for one."""
        if self.item is not None:
            self.item.output, self.item.is_error = output, is_error

    def tell_rejected(self, told: ToolMessage | None) -> None:
        """Its handoff did not happen: LiveKit's item says what the graph tells its model, also if it comes later."""
        if told is None or told.additional_kwargs.get("placeholder"):
            return
        is_error = told.status == "error"
        if self.result is not None:
            self.result = replace(self.result, output=told.text, is_error=is_error)
        self.tell(told.text, is_error=is_error)


@dataclass(eq=False)
class Batch:
    """The tool calls of one model step, which LiveKit executes together."""

    agent: str
    driver: Driver
    calls: dict[str, LiveToolCall] = field(default_factory=dict)
    handoff: LiveHandoff | None = None
    """The one that a tool call of the batch has asked for."""
    done: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its mirrors may return."""
    lines: list[SpeechHandle] = field(default_factory=list)
    """LiveKit's speeches of what the tools of the batch, or its handoff, say."""
    asks: bool = False
    """Whether a tool call asks the caller (LangGraph's `interrupt()`). Missing results come in a later turn."""
    asks_later: bool = False
    """Whether one will ask, when the question that another turn has asked before is answered."""
    speech: SpeechHandle | None = None
    """The speech whose mirrors wait for this batch; None until one has started."""

    @classmethod
    def of(cls, event: events.ToolCalls, driver: Driver) -> "Batch":
        batch = cls(event.agent, driver)
        batch.calls = {call.id: LiveToolCall(call.id, batch) for call in event.calls}
        return batch

    @property
    def is_answered(self) -> bool:
        """Whether each tool call has its result, and no handoff is still to be announced."""
        results = [call.result for call in self.calls.values()]
        return None not in results and (self.handoff is not None or not any(r.hands_off for r in results if r))

    @property
    def said(self) -> bool:
        """Whether the model said something beside the tool calls."""
        found = self.driver.turn.record.call(next(iter(self.calls)))
        return found is not None and bool(found[0].words.produced.strip())

    @property
    def wants_reply(self) -> bool:
        """Whether the agent speaks of the results."""
        reasons = [call.result.no_reply for call in self.calls.values() if call.result is not None]
        return "direct" in reasons or not events.ends_turn(reasons, said=self.said)

    @property
    def ends_turn(self) -> bool:
        """Whether nothing follows it in its turn."""
        answered = all(call.result is not None for call in self.calls.values())
        return answered and self.handoff is None and not self.asks and not self.wants_reply

    def resolve_not_run(self) -> None:
        """Tell the graph about the tool calls that LiveKit answers itself: those of unknown and of mocked tools.

        No mirror starts for such a tool call, while the mirrors of the others wait for the whole batch. LiveKit reports
        its answers with `function_tools_executed` only when the batch is over: the mirrors would wait forever. But an
        answer is among the speech's items before that: for an unknown tool before any mirror starts, because LiveKit
        gets the tool calls of a batch at once, and for a mock when it has ended.
        """
        if self.speech is None or self.done.is_set():
            return
        outputs: dict[str, Any] = {i.call_id: i for i in self.speech.chat_items if i.type == "function_call_output"}
        for call in self.calls.values():
            if not call.started and (output := outputs.get(call.id)) is not None:
                self.driver.turn.resolve(call.id, output.output, is_error=output.is_error, reply=output.reply_required)
