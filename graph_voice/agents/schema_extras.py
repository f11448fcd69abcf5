"""What a parameter's schema has beside its type: `Field(json_schema_extra={"enum": [...]})`, `Field(examples=[...])`.

LangChain makes a tool's schema anew from the types, the defaults, the descriptions and pydantic's metadata, and drops
the rest. As metadata it reaches the model.
"""

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Annotated, Any, TypeVar, cast

from langchain_core.tools import BaseTool
from pydantic import BaseModel, GetJsonSchemaHandler, create_model
from pydantic.fields import FieldInfo

__all__ = ["with_extras"]

T = TypeVar("T", bound=BaseTool)


class _Extras:
    """Metadata of a field that adds to its JSON schema."""

    def __init__(self, field: FieldInfo) -> None:
        self._extra = field.json_schema_extra
        self._examples = field.examples

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = {**handler(core_schema)}
        if self._examples is not None:
            schema["examples"] = list(self._examples)
        if callable(self._extra):
            self._extra(schema)
        else:
            schema |= self._extra or {}
        return schema


def with_extras(tool: T, function: Callable[..., Any] | None = None) -> T:
    """The tool. If its parameters have such extras, a copy whose schema keeps them for the model.

    `function`: what the tool was made of. Default: what it runs.
    """
    schema = tool.args_schema
    if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        return tool
    found = {name: field for name, field in schema.model_fields.items() if _has_extras(field)}
    for source in (function, getattr(tool, "coroutine", None), getattr(tool, "func", None)):
        if callable(source):
            found = {**dict(_written(source)), **found}
    fields = {
        name: (Annotated[schema.model_fields[name].annotation, _Extras(field)], schema.model_fields[name])
        for name, field in found.items()
        if name in schema.model_fields and not any(isinstance(m, _Extras) for m in schema.model_fields[name].metadata)
    }
    if not fields:
        return tool
    made = create_model(schema.__name__, __base__=schema, __doc__=schema.__doc__, **cast(Any, fields))
    return tool.model_copy(update={"args_schema": made})


def _written(function: Callable[..., Any]) -> Iterator[tuple[str, FieldInfo]]:
    """The parameters of a function that have extras, with the `Field` in their annotation or their default."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        return
    for name, parameter in inspect.signature(function).parameters.items():
        places = [*getattr(hints.get(name), "__metadata__", ()), parameter.default]
        if (field := next((p for p in places if isinstance(p, FieldInfo) and _has_extras(p)), None)) is not None:
            yield name, field


def _has_extras(field: FieldInfo) -> bool:
    return field.json_schema_extra is not None or field.examples is not None
