"""Secrets that a model passes to a tool: `number: SecretStr` in a tool's signature.

The tool gets the value. Everywhere else there is a mask in its place: in what is remembered, in what models are shown
from then on, in traces and in events. The arguments are redacted as soon as the model's message is complete, and
revealed by the tool's own schema.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command
from pydantic import BaseModel, ValidationError, model_validator

from graph_voice.secrets.values import MASK, Redacted, holds_secrets, is_lost, masked, redacted_as

__all__ = [
    "lost_arguments",
    "masked_output",
    "redact_arguments",
    "redact_error",
    "secret_schemas",
    "with_redacted_arguments",
]

T = TypeVar("T", bound=BaseTool)
INVALID = "invalid_arguments"
"""Where an assistant message keeps the arguments that were not JSON: tool call id -> the text that came."""


def with_redacted_arguments(tool: T) -> T:
    """The tool. If one of its parameters is a secret, a copy whose schema accepts redacted arguments."""
    schema = tool.args_schema
    if not _is_model(schema) or not holds_secrets(schema):
        return tool
    return tool.model_copy(update={"args_schema": _opening(schema)})


def _is_model(schema: Any) -> bool:
    return isinstance(schema, type) and issubclass(schema, BaseModel)


def _opening(schema: Any) -> Any:
    """A schema that reveals what is redacted, and whose errors do not show the input."""

    def reveal(cls: Any, data: Any) -> Any:
        return _revealed(data)

    namespace: dict[str, Any] = {
        "__module__": schema.__module__,
        "__doc__": schema.__doc__,
        "model_config": {**schema.model_config, "hide_input_in_errors": True},
        "reveal": model_validator(mode="before")(cast(Any, classmethod(reveal))),
    }
    return type(schema)(schema.__name__, (schema,), namespace)


def _revealed(data: Any) -> Any:
    if isinstance(data, Redacted):
        return data.secret.get_secret_value()
    if type(data) is dict:
        return {k: _revealed(v) for k, v in data.items()}
    return [_revealed(item) for item in data] if type(data) is list else data


def secret_schemas(tools: Iterable[BaseTool]) -> dict[str, Any]:
    """Tool name -> schema, for the tools that take a secret."""
    found = {tool.name: tool.args_schema for tool in tools}
    return {name: schema for name, schema in found.items() if _is_model(schema) and holds_secrets(schema)}


def redact_arguments(message: AIMessage, schemas: Mapping[str, Any]) -> AIMessage:
    """A model's message with the secrets in its tool calls' arguments redacted, also in the provider's copy of them.

    Args:
        message: a complete message, whose tool calls no longer change.
        schemas: those of `secret_schemas`.
    """
    if not any(call["name"] in schemas for call in message.tool_calls):
        return message
    calls = [
        {**call, "args": redacted_as(schemas[call["name"]], call["args"])} if call["name"] in schemas else call
        for call in message.tool_calls
    ]
    known = {call["id"]: call["args"] for call in calls if call["name"] in schemas}
    content: Any = message.content
    if isinstance(content, list):
        content = [_redacted_block(block, known) for block in content]
    extra = {k: v for k, v in message.additional_kwargs.items() if k not in ("tool_calls", "function_call")}
    if broken := extra.get(INVALID):
        extra[INVALID] = {k: MASK if k in known else v for k, v in broken.items()}
    return message.model_copy(update={"content": content, "tool_calls": calls, "additional_kwargs": extra})


def _redacted_block(block: Any, known: Mapping[str | None, Any]) -> Any:
    """A provider's own block of a tool call (Anthropic's `tool_use`, OpenAI's `function_call`), arguments redacted."""
    if not isinstance(block, dict):
        return block
    args = known.get(block.get("call_id") or block.get("id"))
    if args is None:
        return block
    redacted = {k: v for k, v in block.items() if k != "partial_json"}
    for key in ("input", "args"):
        if key in block:
            redacted[key] = args if isinstance(block[key], dict) else json.dumps(args)
    return {**redacted, "arguments": json.dumps(args)} if "arguments" in block else redacted


def lost_arguments(args: Mapping[str, Any], schema: Any) -> list[str]:
    """The arguments whose secret is lost: the call was stored and resumed by another process, or the model repeated the
    mask that it was shown."""
    kinds = {name: info.annotation for name, info in schema.model_fields.items()}
    return [name for name, value in args.items() if name in kinds and is_lost(kinds[name], value)]


# ---- what comes out of a tool


def masked_output(output: Any, secrets: list[str]) -> Any:
    """What a tool returns, without these secrets in its texts."""
    if not secrets:
        return output
    if isinstance(output, str):
        return masked(output, secrets)
    if isinstance(output, ToolMessage):
        return output.model_copy(update={"content": masked_output(output.content, secrets)})
    if isinstance(output, list):
        return [masked_output(item, secrets) for item in output]
    if isinstance(output, dict) and isinstance(output.get("text"), str):
        return {**output, "text": masked(output["text"], secrets)}
    if isinstance(output, Command) and isinstance(output.update, dict) and "messages" in output.update:
        found = output.update["messages"]
        output.update["messages"] = masked_output(found, secrets) if isinstance(found, list) else found
    return output


def redact_error(error: Exception, secrets: list[str]) -> Exception:
    """The same error without these secrets in its text. For pydantic's errors, the input is left out altogether."""
    if not secrets:
        return error
    if isinstance(error, ValidationError):
        return without_input(error)
    error.args = tuple(masked(arg, secrets) if isinstance(arg, str) else arg for arg in error.args)
    if isinstance(message := getattr(error, "message", None), str):
        error.message = masked(message, secrets)  # type: ignore[attr-defined]
    return error


def without_input(error: ValidationError) -> ValidationError:
    """A validation error that does not show the wrong value, only what is wrong with it."""
    details: Any = error.errors(include_url=False)
    return ValidationError.from_exception_data(error.title, details, hide_input=True)
