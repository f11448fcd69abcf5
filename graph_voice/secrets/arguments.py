"""Secrets that a model passes to a tool: `number: SecretStr` in a tool's signature.

The tool gets the value. Everywhere else there is a mask in its place: in what is remembered, in what models are shown
from then on, in traces and in events. The arguments are redacted as soon as the model's message is complete, and
revealed by the tool's own schema.
"""

import json
from collections.abc import Iterable, Mapping, Set
from dataclasses import replace
from typing import Any, TypeVar, cast

from langchain_core.messages import AIMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command
from pydantic import BaseModel, ValidationError, model_validator

from graph_voice.secrets.known import NOTHING, Known, everything, without_input
from graph_voice.secrets.spoken import THOUGHTS, taken
from graph_voice.secrets.values import MASK, fields_of_schema, holds_secrets, is_lost, redacted_as, revealed_in

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
        return revealed_in(data)

    namespace: dict[str, Any] = {
        "__module__": schema.__module__,
        "__doc__": schema.__doc__,
        "model_config": {**schema.model_config, "hide_input_in_errors": True},
        "reveal": model_validator(mode="before")(cast(Any, classmethod(reveal))),
    }
    return type(schema)(schema.__name__, (schema,), namespace)


def secret_schemas(tools: Iterable[BaseTool]) -> dict[str, Any]:
    """Tool name -> schema, for the tools that take a secret."""
    found = {tool.name: tool.args_schema for tool in tools}
    return {name: schema for name, schema in found.items() if _is_model(schema) and holds_secrets(schema)}


def redact_arguments(
    message: AIMessage, schemas: Mapping[str, Any], tools: Set[str] | None = None, known: Known = NOTHING
) -> AIMessage:
    """A model's message without secrets, also in the provider's copy of its tool calls.

    The arguments that a tool takes as secrets are redacted, and so is what may be one that the model has misplaced: all
    arguments of a tool that does not exist, those that a tool with secrets does not have, those that are not JSON, and,
    by its value, what is known or stands in a secret argument of the same message.

    Args:
        message: a complete message, whose tool calls no longer change.
        schemas: those of `secret_schemas`. If there are none, nothing is redacted.
        tools: the names of all tools. None: any name may be one.
        known: what is known to be secret.
    """
    if not schemas:
        return message
    args: dict[int, Any] = {
        at: _by_schema(schemas[call["name"]], call["args"])
        for at, call in enumerate(message.tool_calls)
        if call["name"] in schemas
    }
    known = known.and_also(secret for found in args.values() for secret in taken(found))
    for at, call in enumerate(message.tool_calls):
        exists = tools is None or call["name"] in tools
        args[at] = known.value(args.get(at, call["args"]) if exists else everything(call["args"]), keep=True)
    calls = [{**call, "args": args[at]} for at, call in enumerate(message.tool_calls)]
    changed = {
        call["id"]: call["args"]
        for call, old in zip(calls, message.tool_calls, strict=True)
        if call["args"] is not old["args"] or call["name"] in schemas
    }
    hidden = {c["id"] for c in calls if c["name"] in schemas or not (tools is None or c["name"] in tools)}
    content: Any = message.content
    if isinstance(content, list):
        content = [_redacted_block(block, changed) for block in content]
        content = [known.value(block, keep=_is_thought(block)) for block in content]
    else:
        content = known.text(content)
    extra = dict(message.additional_kwargs)
    if changed:
        extra = {k: v for k, v in extra.items() if k not in ("tool_calls", "function_call")}
    if broken := extra.get(INVALID):
        extra[INVALID] = {k: MASK if k in hidden else v for k, v in broken.items()}
    extra = known.value(extra)
    if not changed and content is message.content and extra == message.additional_kwargs:
        return message
    return message.model_copy(update={"content": content, "tool_calls": calls, "additional_kwargs": extra})


def _by_schema(schema: Any, args: Any) -> Any:
    """Arguments with the secrets among them redacted, and all that the schema does not have."""
    redacted = redacted_as(schema, args)
    if not isinstance(redacted, Mapping) or not (names := fields_of_schema(schema)):
        return redacted
    return {name: value if name in names else everything(value) for name, value in redacted.items()}


def _is_thought(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") in THOUGHTS


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


def masked_output(output: Any, known: Known) -> Any:
    """What a tool returns, without what is known to be secret: its text, its artifact, the messages of a `Command`.

    What a `Command` writes to other channels is the program's own, and stays.
    """
    if not isinstance(output, Command):
        return known.value(output)
    if isinstance(output.update, dict) and "messages" in output.update:
        messages = known.value(output.update["messages"])
        if messages is not output.update["messages"]:
            return replace(output, update={**output.update, "messages": messages})
    return output


def redact_error(error: Exception, known: Known) -> Exception:
    """The error without what is known to be secret. For pydantic's errors, the input is left out altogether."""
    return without_input(error) if known and isinstance(error, ValidationError) else known.error(error)
