"""A finished answer of the intent router for LangChain: a message, or the chunks of a stream."""

import json
import re
from collections.abc import Iterator, Sequence

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCall, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

__all__ = ["RESPONSE_METADATA", "Said"]

RESPONSE_METADATA = {"model_name": "intent-router"}


class Said:
    """A finished answer, as one message or as the chunks of a stream."""

    def __init__(self, text: str, calls: list[ToolCall], prompt: Sequence[BaseMessage]) -> None:
        self.text, self.calls = text, calls
        read = sum(_count(str(message.text)) for message in prompt)
        wrote = _count(text) + sum(_count(f"{call['name']} {json.dumps(call['args'])}") for call in calls)
        self.usage = UsageMetadata(input_tokens=read, output_tokens=wrote, total_tokens=read + wrote)

    def message(self) -> AIMessage:
        return AIMessage(
            content=self.text,
            tool_calls=self.calls,
            usage_metadata=self.usage,
            response_metadata={**RESPONSE_METADATA},
        )

    def chunks(self) -> Iterator[ChatGenerationChunk]:
        """Stream word by word, then each tool call as its name and its arguments, and at last the usage."""
        parts = [AIMessageChunk(content=word) for word in re.findall(r"\s*\S+", self.text)]
        for index, call in enumerate(self.calls):
            name = tool_call_chunk(name=call["name"], args="", id=call["id"], index=index)
            args = tool_call_chunk(args=json.dumps(call["args"]), index=index)
            parts += [AIMessageChunk(content="", tool_call_chunks=[piece]) for piece in (name, args)]
        end = AIMessageChunk(content="", usage_metadata=self.usage, response_metadata={**RESPONSE_METADATA})
        end.chunk_position = "last"
        for part in [*parts, end]:
            yield ChatGenerationChunk(message=part)


def _count(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))
