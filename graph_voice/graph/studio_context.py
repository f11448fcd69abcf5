"""What you can edit of a graph in LangGraph Studio before a run: each agent's instructions and model.

They are fields of the graph's context schema, in the form that Studio knows (`langgraph_nodes`, `langgraph_type`). A
run whose context has them uses an edited agent. Any other run is unchanged.
"""

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field, create_model
from typing_extensions import TypedDict, get_type_hints, is_typeddict

from graph_voice.agents.agent import Agent
from graph_voice.errors import BuildError
from graph_voice.graph.agent_runtime import AgentRuntime
from graph_voice.models import model_from

__all__ = ["edited", "is_editable", "studio_context"]

LLM = "llm"
"""The field for the model of every agent whose own field is empty."""
_COMPUTED = (
    "The system prompt. Empty: the agent's own, a function of the userdata. What you write here is fixed text and "
    "replaces it."
)
_EXAMPLES = ["openai:gpt-4.1-mini", "anthropic:claude-haiku-4-5"]


class _Edit:
    """Marks a field with which Studio edits agents."""


def studio_context(agents: Sequence[Any], base: type[Any] | None = None) -> Any:
    """A context schema with which LangGraph Studio edits the agents' instructions and models.

    A graph without a `context_schema` of your own has this one. To add these fields to your own schema:
    `create_voice_graph(agents, context_schema=studio_context(agents, Shop))`.

    Args:
        agents: the graph's agents. Agents that are compiled graphs get no fields.
        base: your schema, a `TypedDict` or a pydantic model. Default: none; the context is then passed on unchanged.

    Raises `BuildError` when `base` is neither, or has a field of one of these names.
    """
    known = [agent() if isinstance(agent, type) else agent for agent in agents]
    fields = _fields([agent for agent in known if isinstance(agent, Agent)])
    if base is None:
        return TypedDict("StudioContext", fields, total=False)  # type: ignore[operator]  # made at run time
    pydantic = isinstance(base, type) and issubclass(base, BaseModel)
    if not pydantic and not is_typeddict(base):
        raise BuildError(f"studio_context(agents, {base!r}): write a TypedDict or a pydantic model.")
    own: Mapping[str, Any] = base.model_fields if pydantic else get_type_hints(base, include_extras=True)
    if taken := sorted(set(own) & set(fields)):
        raise BuildError(f'studio_context(agents, {base.__name__}): it has a field "{taken[0]}" already; rename it.')
    if pydantic:
        return create_model(base.__name__, __base__=base, **cast(Any, fields))
    return TypedDict(base.__name__, {**own, **fields}, total=False)  # type: ignore[operator]


def _fields(agents: Sequence[Agent]) -> dict[str, Any]:
    names = [agent.name for agent in agents]
    fields = {
        LLM: _field(
            "",
            title="Model",
            description='"provider:model", for every agent. Empty: the graph\'s own, or the one in GRAPH_VOICE_LLM.',
            examples=_EXAMPLES,
            extra={"langgraph_nodes": names},
        )
    }
    for agent in agents:
        written = agent.instructions
        here = {"langgraph_nodes": [agent.name]}
        fields[f"{agent.name}_instructions"] = _field(
            written if isinstance(written, str) else "",
            title=f"{agent.name}: instructions",
            description="The system prompt." if isinstance(written, str) else _COMPUTED,
            extra={**here, "langgraph_type": "prompt"},
        )
        fields[f"{agent.name}_llm"] = _field(
            agent.llm if isinstance(agent.llm, str) else "",
            title=f"{agent.name}: model",
            description='"provider:model", for this agent alone. Empty: the one above, or its own.',
            examples=_EXAMPLES,
            extra=here,
        )
    return fields


def _field(default: str, *, extra: dict[str, Any], **about: Any) -> Any:
    return Annotated[str, Field(default=default, json_schema_extra=extra, **about), _Edit()]


def is_editable(schema: Any) -> bool:
    """Whether `studio_context` made this context schema. In another, fields with these names mean something else."""
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        marks = [mark for info in schema.model_fields.values() for mark in info.metadata]
    elif is_typeddict(schema):
        hints = get_type_hints(schema, include_extras=True)
        marks = [mark for hint in hints.values() for mark in getattr(hint, "__metadata__", ())]
    else:
        return False
    return any(isinstance(mark, _Edit) for mark in marks)


async def edited(runtime: AgentRuntime, context: Any) -> AgentRuntime | None:
    """The agent as edited by this run's context; None when it is not edited.

    Raises `ModelError` for a model that can't be used.
    """
    if not runtime.editable:
        return None
    keep = runtime.agent
    text = _given(context, f"{keep.name}_instructions")
    llm = _given(context, f"{keep.name}_llm")
    # A form sends its defaults too: an unchanged value is no edit.
    new_text = text if text and text != keep.instructions else None
    new_llm = (llm if llm != keep.llm else None) or _given(context, LLM) or None
    if new_text is None and new_llm is None:
        return None
    changed = copy.copy(runtime)
    changed.editable = False
    if new_text is not None:
        changed.agent = copy.copy(keep)
        changed.agent.instructions = new_text
    if new_llm is not None:
        # A provider's package is imported here, which reads files.
        changed.override = await asyncio.to_thread(model_from, new_llm)
    return changed


def _given(context: Any, name: str) -> Any:
    return context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)
