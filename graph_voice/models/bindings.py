"""Models with tools bound: tools that an agent's model may call, or knows about but must not call."""

import logging
from collections.abc import Hashable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.runnables import Runnable, RunnableBinding

from graph_voice.errors import ModelError

__all__ = ["Bindings"]

logger = logging.getLogger("graph_voice")
_LIMIT = 32


class Bindings:
    """The models of one agent with its tools bound. They are kept, because binding builds every tool's schema."""

    def __init__(self, agent: str = "", provider_tools: Sequence[dict[str, Any]] = ()) -> None:
        self._agent = agent
        self._provider_tools = list(provider_tools)
        self._bound: dict[Hashable, tuple[tuple[BaseChatModel, Sequence[Any]], Runnable[Any, Any]]] = {}

        self._thinkers: dict[int, BaseChatModel] = {}

    def begins_with_thoughts(self, model: BaseChatModel) -> bool:
        """Whether this model has closed a thought that it had not opened, in its text."""
        return id(model) in self._thinkers

    def note_thoughts(self, model: BaseChatModel, *, begins: bool) -> None:
        """Remember it. The model is kept, so that no other object gets its id."""
        if begins:
            self._thinkers[id(model)] = model

    def get(
        self,
        model: BaseChatModel,
        tools: Sequence[Any],
        *,
        may_call: bool = True,
        must_call: str | None = None,
        prompt: Sequence[BaseMessage] = (),
    ) -> Runnable[Any, Any]:
        """The model, with its tools bound, for one model call.

        Args:
            model: the chat model.
            tools: the tools that it knows about.
            may_call: whether it may call them. False binds them with `tool_choice="none"`.
            must_call: "any", or the name of the tool that it must call.
            prompt: the prompt that it will get. Anthropic and Bedrock refuse a prompt with tool calls when no tools are
                defined. So without `tools`, those that the prompt calls are defined, but must not be called.

        Raises `ModelError` when the model takes no tools.
        """
        names = tuple(tool.name for tool in tools)
        named = names or (() if self._provider_tools else _called(prompt))
        if not named and not self._provider_tools:
            return model
        may_call = may_call and bool(names or self._provider_tools)
        key = (id(model), named, may_call and (must_call or True), tuple(map(id, tools)))
        if (found := self._bound.get(key)) is not None:
            return found[1]
        if len(self._bound) >= _LIMIT:
            self._bound.clear()
        try:
            definitions = [*(tools or [_definition(name) for name in named]), *self._provider_tools]
            if not may_call:
                bound = _silenced(model, definitions)
            else:
                bound = model.bind_tools(definitions, **({"tool_choice": must_call} if must_call else {}))
        except NotImplementedError as error:
            if not names and not self._provider_tools:
                return model
            raise ModelError(
                f'agent "{self._agent}" has tools, but its model {type(model).__name__} supports none: it does not '
                "implement bind_tools. Give the agent a model that calls tools."
            ) from error
        self._bound[key] = ((model, list(tools)), bound)  # kept, so that no other object gets one of the ids
        return bound


def _called(prompt: Sequence[BaseMessage]) -> tuple[str, ...]:
    if not any(issubclass(kind, ToolMessage) for kind in set(map(type, prompt))):
        return ()  # each tool call of a prompt is answered, so there is none
    names = (call["name"] for m in prompt if isinstance(m, AIMessage) for call in m.tool_calls)
    return tuple(dict.fromkeys(names))


def _definition(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}}
    about = {"name": name, "description": "Not available any more.", "parameters": parameters}
    return {"type": "function", "function": about}


def _silenced(model: BaseChatModel, tools: Sequence[Any]) -> Runnable[Any, Any]:
    """The model with tools that it must not call.

    LangChain has no common option for it. OpenAI's and Google's models accept "none"; Anthropic's takes that for the
    name of a tool to force, and needs a dict of its own. If a model has no such option, the tools are bound as usual,
    and the agent drops its tool calls.
    """
    for choice in ("none", {"type": "none"}):
        try:
            bound = model.bind_tools(tools, tool_choice=choice)  # type: ignore[arg-type]  # Anthropic's is a dict
        except (TypeError, ValueError):
            continue
        if not _names_a_tool(bound):
            return bound
    logger.debug("%s has no option to forbid tool calls; they are dropped when they come", type(model).__name__)
    return model.bind_tools(tools)


def _names_a_tool(bound: Runnable[Any, Any]) -> bool:
    """Whether "none" was taken for a tool's name: `{"type": "tool", "name": "none"}` and the like."""
    choice = bound.kwargs.get("tool_choice") if isinstance(bound, RunnableBinding) else None
    return isinstance(choice, dict) and any(
        value == "none" if key == "name" else isinstance(value, dict) and value.get("name") == "none"
        for key, value in choice.items()
    )
