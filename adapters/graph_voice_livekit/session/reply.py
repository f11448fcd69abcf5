"""The `llm.LLM` of a graph's agents. It drains the turn instead of generating, and gives LiveKit its metrics."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, llm
from livekit.agents.llm import ToolChoice
from livekit.agents.metrics import LLMMetrics
from livekit.agents.types import NotGivenOr
from livekit.agents.utils import shortuuid

from graph_voice import events
from graph_voice_livekit.session.driver import Driver
from graph_voice_livekit.session.failures import Failures
from graph_voice_livekit.session.handoff import LiveHandoff
from graph_voice_livekit.session.tables import Reply
from graph_voice_livekit.session.turns import Pause, Switch, TurnCall

__all__ = ["EXTRA", "FLUSH", "GraphLLM", "ReplyCall"]

EXTRA = "graph_voice"
"""The key in a LiveKit message's `extra` that says which turn and which reply it speaks."""
FLUSH = "graph_voice.flush"
"""The id of an empty chunk that stands for LiveKit's `FlushSentinel`: the voice should not wait for more words."""


class ReplyCall(TurnCall, Protocol):
    """What a reply asks of the call that it belongs to."""

    def driver_for_reply(
        self, chat_ctx: llm.ChatContext, own: llm.ChatContext, *, tools: frozenset[str] | None, tool_choice: str | None
    ) -> Driver | None:
        """The turn that this reply drains; None: it says nothing."""

    @property
    def failures(self) -> Failures: ...

    async def switch_by_edge(self, handoff: LiveHandoff, *, said: bool) -> None:
        """The graph changed agents without a tool. `said`: whether this reply has words."""


class GraphLLM(llm.LLM[Any]):
    """Takes the place of the session's LLM for one agent of a graph."""

    def __init__(
        self,
        call: ReplyCall,
        agent: str,
        on_start: Callable[[], None],
        offered: Callable[[], frozenset[str]],
        missing: Callable[[Sequence[str], Sequence[llm.Tool]], Sequence[llm.Tool]],
    ) -> None:
        super().__init__()
        self.missing = missing
        """The mirrors of called tools that LiveKit does not have yet, since they come and go."""
        self._offered = offered
        """The names of the tools that the agent's model may call."""
        self._times: dict[str, tuple[float, float]] = {}
        """Reply id -> seconds until the model's first token, and until its end."""
        self._on_start = on_start
        self.call = call
        self._agent = agent
        self._label = f"graph_voice.{agent}"
        self.model_name = "graph"

    @property
    def model(self) -> str:
        """The model that answered last, as the graph reports it."""
        return self.model_name

    @property
    def provider(self) -> str:
        return "graph_voice"

    def prewarm(self, *, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Refuse what can't work. LiveKit calls this while the agent starts, before it enters."""
        self._on_start()

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
        own_ctx: llm.ChatContext | None = None,
    ) -> "_Reply":
        """As LiveKit's. `own_ctx`: the agent's own chat context, from which a changed one is told."""
        own = chat_ctx if own_ctx is None else own_ctx
        given = frozenset(tool.id for tool in llm.ToolContext(tools or []).flatten())
        offered = self._offered()
        driver = self.call.driver_for_reply(
            chat_ctx,
            own,
            tools=None if given >= offered else offered & given,
            tool_choice=_chosen(tool_choice),
        )
        if driver is not None and tool_choice == "none":
            driver.turn.withhold_tools(self._agent)
        # The graph retries inside its nodes. A retry here would run the turn twice.
        options = APIConnectOptions(max_retry=0, timeout=conn_options.timeout)
        return _Reply(
            self,
            driver,
            chat_ctx=chat_ctx,
            tools=[] if tools is None else tools,
            conn_options=options,
            tool_calls_allowed=tool_choice != "none",
        )

    def note_usage(self, reply_id: str, used: Sequence[events.Usage]) -> None:
        """Note which models have answered in a reply, and how fast."""
        self.model_name = used[-1].model
        self._times[reply_id] = (used[-1].ttft, sum(u.duration for u in used))

    def emit(self, event: Any, *args: Any) -> None:
        """As LiveKit's, but a reply's metrics have the times of the model, as LiveKit's own plugins report them.

        The graph runs ahead of the voice, so when LiveKit asks for the reply, the model may have answered already, and
        LiveKit would measure no wait.
        """
        if event == "metrics_collected" and isinstance(metrics := args[0], LLMMetrics):
            metrics.ttft, metrics.duration = self._times.pop(metrics.request_id, (metrics.ttft, metrics.duration))
            if metrics.duration > 0:
                metrics.tokens_per_second = metrics.completion_tokens / metrics.duration
        super().emit(event, *args)

    def report(self, driver: Driver, error: BaseException) -> None:
        """Emit LiveKit's `error` event: all attempts of the turn have failed, and the graph apologizes."""
        told = llm.LLMError(
            timestamp=time.time(),
            label=self._label,
            error=error if isinstance(error, Exception) else RuntimeError(str(error)),
            recoverable=False,
        )
        self.call.failures.report(driver, self.call.session, partial(self.emit, "error", told))


class _Reply(llm.LLMStream):
    """One reply: what the turn says until its next tool calls, its next handoff or its end."""

    def __init__(
        self,
        owner: GraphLLM,
        driver: Driver | None,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        tool_calls_allowed: bool,
    ) -> None:
        self._owner = owner
        self._driver = driver
        self._tool_calls_allowed = tool_calls_allowed
        self._livekits = tools
        """LiveKit's own list, to which a node may add: it then executes those too."""
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)

    async def _run(self) -> None:
        driver = self._driver
        if driver is None:
            return
        reply_id = shortuuid("graph_")
        reply = Reply(driver)
        spoken = reply.spoken
        used: list[events.Usage] = []
        marks = {"turn": driver.turn.id, "reply": reply_id}
        self._owner.call.tables.replies[reply_id] = reply
        while (event := await driver.next()) is not None:
            match event:
                case (
                    events.Text(message_id=message_id, text=text)
                    | events.Say(message_id=message_id, text=text)
                    | events.Interrupt(message_id=message_id, text=text)
                ):
                    lead = _note(spoken, message_id, text)
                    self._send(reply_id, llm.ChoiceDelta(role="assistant", content=lead + text, extra={EXTRA: marks}))
                case events.ToolCalls(calls=calls):
                    if not self._tool_calls_allowed:
                        # LiveKit drops tool calls here: its step limit, or the agent is leaving. If the graph ran
                        # them nevertheless, the two would disagree.
                        for call in calls:
                            driver.turn.deny(call.id, "tools can't be used now.")
                        continue
                    self._livekits += self._owner.missing([c.name for c in calls], self._livekits)
                    self._send(reply_id, llm.ChoiceDelta(role="assistant", tool_calls=[_tool_call(c) for c in calls]))
                    return
                case events.Usage():
                    # LiveKit counts the last usage of a reply, which may hold several model calls (a tool's lines).
                    used.append(event)
                    self._owner.note_usage(reply_id, used)
                    self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, usage=_counted(used)))
                case Pause():
                    self._event_ch.send_nowait(llm.ChatChunk(id=FLUSH))
                case Switch(handoff=handoff):
                    await self._owner.call.switch_by_edge(handoff, said=bool(spoken))
                    return
                case events.Failed(error=error):
                    driver.when_certain(partial(self._owner.report, driver, error))

    def _send(self, reply_id: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, delta=delta))


def _counted(used: Sequence[events.Usage]) -> llm.CompletionUsage:
    read, written = sum(u.input_tokens for u in used), sum(u.output_tokens for u in used)
    return llm.CompletionUsage(
        completion_tokens=written,
        prompt_tokens=read,
        total_tokens=read + written,
        prompt_cached_tokens=sum(u.cached_tokens for u in used),
        cache_creation_tokens=sum(u.cache_creation_tokens for u in used),
        reasoning_tokens=sum(u.reasoning_tokens for u in used),
    )


def _chosen(choice: NotGivenOr[ToolChoice]) -> str | None:
    if isinstance(choice, dict):
        return choice["function"]["name"]
    return choice if choice in ("none", "required") else None


def _note(spoken: list[tuple[str, str]], message_id: str, text: str) -> str:
    """Add words to what this reply has spoken. Returns the space between two messages of one reply."""
    if spoken and spoken[-1][0] == message_id:
        spoken[-1] = (message_id, spoken[-1][1] + text)
        return ""
    spoken.append((message_id, text))
    return " " if len(spoken) > 1 else ""


def _tool_call(call: events.ToolCall) -> llm.FunctionToolCall:
    return llm.FunctionToolCall(name=call.name, arguments=json.dumps(call.args), call_id=call.id)
