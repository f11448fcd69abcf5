"""The `llm.LLM` behind a graph's agents: it generates nothing, it drains the turn. So LiveKit has its metrics."""

import json
import time
from typing import TYPE_CHECKING, Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectOptions, llm
from livekit.agents.llm import ToolChoice
from livekit.agents.types import NotGivenOr
from livekit.agents.utils import shortuuid

from graph_voice import events
from graph_voice_livekit.driver import TurnDriver

if TYPE_CHECKING:
    from graph_voice_livekit.bridge import Bridge

__all__ = ["EXTRA", "GraphLLM"]

EXTRA = "graph_voice"
"""The key under which a LiveKit message says which turn and messages of the graph it speaks."""


class GraphLLM(llm.LLM[Any]):
    """Stands in the place of the session's LLM for one agent of a graph."""

    def __init__(self, bridge: "Bridge", agent: str) -> None:
        super().__init__()
        self._bridge = bridge
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

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> "_Reply":
        driver = self._bridge.driver_for_reply(self._agent, chat_ctx)
        # The graph retries inside its nodes: a retry here would run the turn twice.
        options = APIConnectOptions(max_retry=0, timeout=conn_options.timeout)
        return _Reply(
            self,
            driver,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=options,
            calls_allowed=tool_choice != "none",
        )

    def report(self, error: BaseException) -> None:
        """LiveKit's `error` event, as recoverable: the graph has said an apology, and the call goes on."""
        self.emit(
            "error",
            llm.LLMError(
                timestamp=time.time(),
                label=self._label,
                error=error if isinstance(error, Exception) else RuntimeError(str(error)),
                recoverable=True,
            ),
        )


class _Reply(llm.LLMStream):
    """One reply: from where the turn is now, to its next tool calls, handoff or end."""

    def __init__(
        self,
        owner: GraphLLM,
        driver: TurnDriver | None,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool],
        conn_options: APIConnectOptions,
        calls_allowed: bool,
    ) -> None:
        self._owner = owner
        self._driver = driver
        self._calls_allowed = calls_allowed
        super().__init__(owner, chat_ctx=chat_ctx, tools=tools, conn_options=conn_options)

    async def _run(self) -> None:
        driver = self._driver
        if driver is None:
            return
        reply_id = shortuuid("graph_")
        spoken: list[tuple[str, str]] = []
        marks = {"turn": driver.turn.id, "reply": reply_id}
        driver.bridge.replies[reply_id] = (driver, spoken)
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
                    if not self._calls_allowed:
                        # LiveKit drops calls here (its step limit, or the agent is leaving): running them in the
                        # graph all the same would part the two.
                        for call in calls:
                            driver.turn.deny(call.id, "tools can't be used now.")
                        continue
                    self._send(reply_id, llm.ChoiceDelta(role="assistant", tool_calls=[_call(c) for c in calls]))
                    return
                case events.Usage(model=model, input_tokens=read, output_tokens=written):
                    self._owner.model_name = model
                    usage = llm.CompletionUsage(
                        completion_tokens=written, prompt_tokens=read, total_tokens=read + written
                    )
                    self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, usage=usage))
                case events.HandedOff():
                    driver.bridge.switch_by_edge(driver, event)
                    return
                case events.Failed(error=error):
                    self._owner.report(error)

    def _send(self, reply_id: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, delta=delta))


def _note(spoken: list[tuple[str, str]], message_id: str, text: str) -> str:
    """Add words to what this reply has spoken. Returns the space that parts two messages of one reply."""
    if spoken and spoken[-1][0] == message_id:
        spoken[-1] = (message_id, spoken[-1][1] + text)
        return ""
    spoken.append((message_id, text))
    return " " if len(spoken) > 1 else ""


def _call(call: events.ToolCall) -> llm.FunctionToolCall:
    return llm.FunctionToolCall(name=call.name, arguments=json.dumps(call.args), call_id=call.id)
