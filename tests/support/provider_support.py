"""Local stand-ins for OpenAI, Anthropic and Gemini: they check each request against the provider's documented rules,
refuse it as the provider does, and stream a scripted answer in the provider's own protocol."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import web
from langchain_core.language_models import BaseChatModel

from graph_voice.testing.script import ScriptedReply, as_reply

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")


class Refused(Exception):
    """What the provider would answer with status 400."""


class Provider:
    """One provider: its rules, its stream. `requests` holds what arrived, `refused` what was wrong with it."""

    name: ClassVar[str]

    def __init__(self, script: Sequence[Any], *, thinks: bool = False) -> None:
        self.script: list[Any] = list(script)
        self.thinks = thinks
        """Whether answers carry reasoning, which must come back as it was."""
        self.requests: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.url = ""
        self._calls = 0
        self._signatures: set[str] = set()

    def model(self) -> BaseChatModel:
        raise NotImplementedError

    def check(self, body: dict[str, Any]) -> None:
        raise NotImplementedError

    def stream(self, line: ScriptedReply) -> Iterator[str]:
        raise NotImplementedError

    def call_id(self) -> str:
        self._calls += 1
        return f"call_{self._calls}"

    def signature(self) -> str:
        made = base64.b64encode(f"signature {len(self._signatures)}".encode()).decode()
        self._signatures.add(made)
        return made

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[BaseChatModel]:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        app.on_response_prepare.append(_close)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.model()
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        entry = self.script.pop(0) if self.script else "There is nothing more in the script."
        if isinstance(entry, int):
            return web.json_response({"error": {"type": "error", "message": f"status {entry}"}}, status=entry)
        try:
            self.check(body)
        except Refused as error:
            self.refused.append(str(error))
            return web.json_response({"error": {"type": "invalid_request_error", "message": str(error)}}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in self.stream(as_reply(entry)):
            await response.write(piece.encode())
        await response.write_eof()
        return response


async def _close(request: web.Request, response: web.StreamResponse) -> None:
    # The SDKs' clients keep connections for the life of the process, which is longer than a test's event loop.
    response.force_close()


def want(condition: Any, message: str) -> None:
    if not condition:
        raise Refused(message)


def check_tools(tools: Sequence[dict[str, Any]], schema: str) -> set[str]:
    names = [tool["name"] for tool in tools]
    for tool in tools:
        want(NAME.match(tool["name"]), f"tool name {tool['name']!r} does not match {NAME.pattern}")
        want(tool.get("description"), f"tool {tool['name']} has no description")
        parameters = tool.get(schema)
        want(parameters is None or parameters.get("type", "").lower() == "object", f"{schema} must be an object")
    want(len(names) == len(set(names)), f"tool names must be unique: {names}")
    return set(names)


class OpenAI(Provider):
    """Chat Completions."""

    name = "openai"

    def model(self) -> BaseChatModel:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model="gpt-x", base_url=self.url, api_key="key", stream_usage=True, max_retries=0)

    def check(self, body: dict[str, Any]) -> None:
        want(body.get("stream"), "a voice needs a stream")
        want((body.get("stream_options") or {}).get("include_usage"), "no usage was asked for")
        tools = check_tools([tool["function"] for tool in body.get("tools") or ()], "parameters")
        want("tools" not in body or tools, "[] is too short - 'tools'")
        choice = body.get("tool_choice")
        want(choice is None or tools, "'tool_choice' is only allowed when 'tools' are specified")
        want(choice in (None, "none", "auto", "required"), f"tool_choice {choice!r}")
        waiting: list[str] = []
        for index, message in enumerate(body["messages"]):
            role = message["role"]
            if "name" in message:
                want(re.match(r"[^\s<|\\/>]{1,64}\Z", message["name"]), f"messages[{index}].name: {message['name']!r}")
            if role == "tool":
                want(message["tool_call_id"] in waiting, "tool messages must follow the 'tool_calls' they answer")
                waiting.remove(message["tool_call_id"])
                want(isinstance(message["content"], str | list), "a tool message needs content")
                continue
            want(not waiting, f"tool_call_ids did not have response messages: {waiting}")
            want(role != "system" or index == 0, "a later system message: refused by the strictest servers")
            if role == "assistant":
                calls = message.get("tool_calls") or []
                want(calls or message.get("content"), "an assistant message has neither content nor tool_calls")
                for call in calls:
                    json.loads(call["function"]["arguments"])
                waiting = [call["id"] for call in calls]
                want(len(waiting) == len(set(waiting)), "duplicate tool call ids")
            else:
                want(message.get("content"), f"messages[{index}] is empty")
        want(not waiting, f"tool_call_ids did not have response messages: {waiting}")
        want(body["messages"][-1]["role"] != "assistant", "the last message is the assistant's")

    def stream(self, line: ScriptedReply) -> Iterator[str]:
        def chunk(delta: dict[str, Any], finish: str | None = None, **extra: Any) -> str:
            choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
            data = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}
            return f"data: {json.dumps({**data, 'choices': choices, **extra})}\n\n"

        yield chunk({"role": "assistant", "content": ""})
        for token in line.tokens:
            yield chunk({"content": token})
        for index, call in enumerate(line.calls):
            function = {"name": call.name, "arguments": ""}
            yield chunk({"tool_calls": [{"index": index, "id": call.id or self.call_id(), "type": "function",
                                         "function": function}]})  # fmt: skip
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": call.args}}]})
        yield chunk({}, "tool_calls" if line.calls else "stop")
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        yield chunk({}, usage=usage).replace('"choices": [{"index": 0, "delta": {}, "finish_reason": null}]',
                                             '"choices": []')  # fmt: skip
        yield "data: [DONE]\n\n"


class Anthropic(Provider):
    """Messages."""

    name = "anthropic"

    def model(self) -> BaseChatModel:
        from langchain_anthropic import ChatAnthropic

        thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if self.thinks else {}
        return ChatAnthropic(
            model_name="claude-x",
            base_url=self.url,
            api_key="key",
            max_tokens_to_sample=2048,
            max_retries=0,
            **thinking,
        )

    def check(self, body: dict[str, Any]) -> None:
        want(body.get("stream") and body.get("max_tokens"), "stream and max_tokens")
        system = body.get("system")
        want(system is None or _blocks(system), "system: text content blocks must be non-empty")
        tools = check_tools(body.get("tools") or (), "input_schema")
        choice = body.get("tool_choice")
        if choice is not None:
            want(tools, "tool_choice may only be specified while providing tools")
            want(choice["type"] in ("auto", "any", "tool", "none"), f"tool_choice.type: {choice['type']}")
            want(choice["type"] != "tool" or choice["name"] in tools, f"Tool '{choice.get('name')}' not found")
        messages = body["messages"]
        want(messages and messages[0]["role"] == "user", "first message must use the user role")
        want(messages[-1]["role"] == "user", "this model does not support assistant message prefill")
        seen: set[str] = set()
        asked: list[str] = []
        loop_start = max(
            (i for i, m in enumerate(messages) if m["role"] == "user"
             and any(b["type"] != "tool_result" for b in _blocks(m["content"]))), default=0)  # fmt: skip
        for index, message in enumerate(messages):
            want(message["role"] in ("user", "assistant"), f"messages.{index}.role: {message['role']}")
            blocks = _blocks(message["content"])
            want(blocks, f"messages.{index}: all messages must have non-empty content")
            for block in blocks:
                if block["type"] == "text":
                    want(block["text"].strip(), "text content blocks must contain non-whitespace text")
                if block["type"] == "thinking":
                    want(block["signature"] in self._signatures, "Invalid `signature` in `thinking` block")
            results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
            if message["role"] == "user":
                want(sorted(results) == sorted(asked),
                     f"`tool_use` ids were found without `tool_result` blocks immediately after, or the other way "
                     f"round: {asked} and {results}")  # fmt: skip
                kinds = [block["type"] for block in blocks]
                want(kinds[: len(results)] == ["tool_result"] * len(results), "tool_result blocks come first")
                asked = []
                continue
            want(not asked, f"`tool_use` ids were found without `tool_result` blocks: {asked}")
            asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
            want(all(re.match(r"[a-zA-Z0-9_-]+\Z", use) for use in asked), "tool_use.id: pattern")
            want(len(asked) == len(set(asked)) and seen.isdisjoint(asked), "`tool_use` ids must be unique")
            seen.update(asked)
            want(not asked or tools, "Requests which include `tool_use` or `tool_result` blocks must define tools")
            if self.thinks and asked and index > loop_start:
                want(blocks[0]["type"] in ("thinking", "redacted_thinking"),
                     "Expected `thinking`, but found another block first in the current tool use loop")  # fmt: skip

    def stream(self, line: ScriptedReply) -> Iterator[str]:
        def event(kind: str, **data: Any) -> str:
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n"

        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": []}
        message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 1}}
        yield event("message_start", message=message)
        index = 0

        def block(start: dict[str, Any], deltas: list[dict[str, Any]]) -> Iterator[str]:
            nonlocal index
            yield event("content_block_start", index=index, content_block=start)
            for delta in deltas:
                yield event("content_block_delta", index=index, delta=delta)
            yield event("content_block_stop", index=index)
            index += 1

        if self.thinks:
            yield from block(
                {"type": "thinking", "thinking": "", "signature": ""},
                [{"type": "thinking_delta", "thinking": "I think."},
                 {"type": "signature_delta", "signature": self.signature()}],
            )  # fmt: skip
        if line.tokens:
            deltas = [{"type": "text_delta", "text": token} for token in line.tokens]
            yield from block({"type": "text", "text": ""}, deltas)
        for call in line.calls:
            use = {"type": "tool_use", "id": call.id or self.call_id(), "name": call.name, "input": {}}
            yield from block(use, [{"type": "input_json_delta", "partial_json": call.args}])
        stop = "tool_use" if line.calls else "end_turn"
        usage = {"input_tokens": 11, "output_tokens": 7}
        yield event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage)
        yield event("message_stop")


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


class Gemini(Provider):
    """streamGenerateContent."""

    name = "gemini"

    def model(self) -> BaseChatModel:
        from langchain_google_genai import ChatGoogleGenerativeAI

        model = "gemini-3-x" if self.thinks else "gemini-2.5-x"
        return ChatGoogleGenerativeAI(model=model, base_url=self.url, google_api_key="key", max_retries=0)

    def check(self, body: dict[str, Any]) -> None:
        instruction = body.get("systemInstruction")
        want(instruction is None or any(part.get("text") for part in instruction["parts"]), "empty systemInstruction")
        declared = [d for tool in body.get("tools") or () for d in tool.get("functionDeclarations") or ()]
        tools = check_tools(declared, "parameters")
        for tool in declared:
            parameters = tool.get("parameters")
            want(parameters is None or parameters.get("properties"), "properties: should be non-empty for OBJECT type")
        config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        want(config.get("mode", "AUTO") in ("AUTO", "ANY", "NONE"), f"mode {config.get('mode')}")
        want("allowedFunctionNames" not in config or config["mode"] == "ANY", "allowed_function_names only with ANY")
        want(not config or tools, "Function calling config is set without function_declarations")
        contents = body["contents"]
        want(contents and contents[0]["role"] == "user", "contents must begin with a user turn")
        want(contents[-1]["role"] == "user", "Please ensure that multiturn requests end with a user role")
        asked: list[str] = []
        before = None
        turn_start = max(
            (i for i, c in enumerate(contents) if c["role"] == "user" and any("text" in p for p in c["parts"])),
            default=0,
        )
        for index, content in enumerate(contents):
            want(content["role"] in ("user", "model"), f"contents[{index}].role {content['role']}")
            parts = content.get("parts") or []
            want(parts, f"contents[{index}].parts must not be empty")
            for part in parts:
                kinds = {"text", "functionCall", "functionResponse", "inlineData"} & set(part)
                want(len(kinds) == 1, f"contents[{index}].parts: required oneof field 'data' must have one value")
                want(part.get("text", "x").strip(), f"contents[{index}]: Unable to submit request: empty text")
            calls = [part["functionCall"] for part in parts if "functionCall" in part]
            answers = [part["functionResponse"]["name"] for part in parts if "functionResponse" in part]
            want(sorted(answers) == sorted(asked),
                 f"the number of function response parts must equal the number of function call parts of the function "
                 f"call turn, directly after it: {asked} and {answers}")  # fmt: skip
            asked = [call["name"] for call in calls]
            want(not asked or before == "user", "a function call turn must follow a user turn or a function response")
            if self.thinks and calls and index > turn_start:
                first = next(part for part in parts if "functionCall" in part)
                signature = str(first.get("thoughtSignature", "")).replace("-", "+").replace("_", "/")
                want(signature in self._signatures, f"Function call is missing a thought_signature: {signature!r}")
            before = content["role"]

    def stream(self, line: ScriptedReply) -> Iterator[str]:
        def chunk(parts: list[dict[str, Any]], **extra: Any) -> str:
            candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **extra.pop("candidate", {})}
            return f"data: {json.dumps({'candidates': [candidate], 'modelVersion': 'gemini', **extra})}\r\n\r\n"

        for token in line.tokens:
            yield chunk([{"text": token}])
        for index, call in enumerate(line.calls):
            part: dict[str, Any] = {"functionCall": {"name": call.name, "args": json.loads(call.args)}}
            if self.thinks and index == 0:
                part["thoughtSignature"] = self.signature()
            yield chunk([part])
        usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
        yield chunk([{"text": ""}], candidate={"finishReason": "STOP"}, usageMetadata=usage)


PROVIDERS = (OpenAI, Anthropic, Gemini)
