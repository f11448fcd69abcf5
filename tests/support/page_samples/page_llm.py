"""A LiveKit `llm.LLM` that plays a script of `graph_voice.testing`, and remembers what it was shown."""

import json
from collections.abc import Callable
from typing import Any

from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions, llm
from livekit.agents.utils import shortuuid

from graph_voice.testing.script import ScriptedReply

__all__ = ["PageLLM", "Prompt", "shown_to_livekit"]

Prompt = list[tuple[str, ...]]
"""What a model was shown, as (what, text)."""


class PageLLM(llm.LLM[Any]):
    """Each call says the line that the reader gives for its prompt, and is remembered with the line's place."""

    def __init__(self, next_line: Callable[[Prompt], tuple[int | None, ScriptedReply]]) -> None:
        super().__init__()
        self._next_line = next_line
        self.prompts: list[tuple[int | None, Prompt]] = []

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        **_: Any,
    ) -> llm.LLMStream:
        shown = shown_to_livekit(chat_ctx)
        place, line = self._next_line(shown)
        self.prompts.append((place, shown))
        return _Stream(self, line, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    def __init__(self, owner: PageLLM, line: ScriptedReply, **options: Any) -> None:
        self._line = line
        super().__init__(owner, **options)

    async def _run(self) -> None:
        reply_id = shortuuid("reply_")
        calls = [
            llm.FunctionToolCall(name=call.name, arguments=call.args, call_id=shortuuid("call_"))
            for call in self._line.calls
        ]
        if self._line.text:
            self._send(reply_id, llm.ChoiceDelta(role="assistant", content=self._line.text))
        if calls:
            self._send(reply_id, llm.ChoiceDelta(role="assistant", tool_calls=calls))

    def _send(self, reply_id: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, delta=delta))


def shown_to_livekit(chat_ctx: llm.ChatContext) -> Prompt:
    """A prompt as (what, text); LiveKit's own bookkeeping items as ("agent_config_update", prompt in it)."""
    shown: Prompt = []
    for item in chat_ctx.items:
        match item:
            case llm.ChatMessage(role="user" | "assistant"):
                shown.append((item.role, item.text_content or ""))
            case llm.ChatMessage():
                shown.append(("instructions" if not shown else "inline", item.text_content or ""))
            case llm.FunctionCall():
                shown.append(("call", item.name, json.dumps(json.loads(item.arguments or "{}"))))
            case llm.FunctionCallOutput():
                shown.append(("output", item.output))
            case llm.AgentConfigUpdate():
                shown.append(("agent_config_update", str(item.instructions or "")))
            case _:
                shown.append((item.type,))
    return shown
