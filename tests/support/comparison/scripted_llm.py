"""A LiveKit LLM plugin over a `ScriptedModel`, so that hand-written LiveKit agents read the same script."""

from typing import Any

from langchain_core.messages import AIMessageChunk, convert_to_messages
from livekit.agents import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, APIConnectionError, APIConnectOptions, llm
from livekit.agents.utils import shortuuid

from graph_voice.testing import ScriptedModel

__all__ = ["ScriptedLLM"]


class ScriptedLLM(llm.LLM[Any]):
    """What LiveKit's OpenAI plugin does, with a script in place of the provider.

    Args:
        model: the script.
    """

    def __init__(self, model: ScriptedModel) -> None:
        super().__init__()
        self.scripted = model

    @property
    def model(self) -> str:
        return self.scripted.name or "scripted"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        tool_choice: Any = NOT_GIVEN,
        **options: Any,
    ) -> llm.LLMStream:
        return _Stream(self, tool_choice, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    def __init__(self, owner: ScriptedLLM, tool_choice: Any, **options: Any) -> None:
        self._owner = owner
        self._tool_choice = tool_choice
        super().__init__(owner, **options)

    async def _run(self) -> None:
        dicts, _ = self._chat_ctx.to_provider_format("openai")
        messages = convert_to_messages([{"content": "", **entry} for entry in dicts])
        asked: dict[str, Any] = {"tools": llm.ToolContext(self._tools).parse_function_tools("openai")}
        if isinstance(self._tool_choice, str):
            asked["tool_choice"] = self._tool_choice
        began, whole = False, AIMessageChunk("")
        reply_id = shortuuid("reply_")
        try:
            async for chunk in self._owner.scripted.bind(**asked).astream(messages):
                whole += chunk
                if chunk.text:
                    began = True
                    self._send(reply_id, llm.ChoiceDelta(role="assistant", content=chunk.text))
        except Exception as error:
            raise APIConnectionError(retryable=not began) from error  # as LiveKit's plugins do
        self._calls(reply_id, whole)
        if (usage := whole.usage_metadata) is not None:
            given, made = usage["input_tokens"], usage["output_tokens"]
            counted = llm.CompletionUsage(prompt_tokens=given, completion_tokens=made, total_tokens=given + made)
            self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, usage=counted))

    def _calls(self, reply_id: str, whole: AIMessageChunk) -> None:
        # As they were streamed: what a model writes may be no JSON.
        for index in sorted({part["index"] or 0 for part in whole.tool_call_chunks}):
            parts = [part for part in whole.tool_call_chunks if (part["index"] or 0) == index]
            name, call_id = "".join(p["name"] or "" for p in parts), "".join(p["id"] or "" for p in parts)
            call = llm.FunctionToolCall(name=name, arguments="".join(p["args"] or "" for p in parts), call_id=call_id)
            self._send(reply_id, llm.ChoiceDelta(role="assistant", tool_calls=[call]))

    def _send(self, reply_id: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, delta=delta))
