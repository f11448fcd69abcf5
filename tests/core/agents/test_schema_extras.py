"""What a parameter's `Field` says beside its type reaches the model: `json_schema_extra`, `examples`."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.tools import tool as langchain_tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, SecretStr, TypeAdapter

from graph_voice import Agent, Conversation, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call

DRINKS = {"enum": ["cola", "water"]}
Drink = Annotated[str, Field(json_schema_extra={"enum": ["cola", "water"]})]


class Order(BaseModel):
    drink: Drink
    size: str = Field("L", json_schema_extra={"enum": ["S", "L"]}, examples=["S"])


def _marked() -> Any:
    @function_tool
    async def order(ctx: RunContext[Any], drink: Drink, size: str = Order.model_fields["size"]) -> str:  # type: ignore[assignment]
        """Order.

        Args:
            drink: which one.
        """
        return f"{drink} {size}"

    return order


def _plain() -> Any:
    async def order(drink: Drink, size: Annotated[str, Order.model_fields["size"]] = "L") -> str:
        """Order."""
        return f"{drink} {size}"

    return order


def _method() -> Any:
    class Waiter(Agent):
        instructions = "x"

        @function_tool
        async def order(self, drink: Drink, size: Annotated[str, Order.model_fields["size"]] = "L") -> str:
            """Order."""
            return f"{drink} {size}"

    return Waiter().order


KINDS: dict[str, Callable[[], Any]] = {
    "function_tool": _marked,
    "a method": _method,
    "a plain function": _plain,
    "LangChain's tool": lambda: langchain_tool(_plain()),
    "a schema": lambda: StructuredTool.from_function(coroutine=_plain(), name="order", args_schema=Order),
}


def _shown(tool: BaseTool) -> dict[str, Any]:
    parameters: dict[str, Any] = convert_to_openai_tool(tool)["function"]["parameters"]
    return parameters


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked_before", [False, True])
async def test_enums_and_examples_reach_the_model_and_the_tool_works(kind: str, asked_before: bool) -> None:
    tool = KINDS[kind]()
    if asked_before and isinstance(tool, BaseTool):
        _shown(tool)  # LangChain keeps what it has made of the schema
    agent = Agent("a", instructions="x", tools=[tool])
    shown = _shown(agent.own_tools[0])
    assert shown["properties"]["drink"]["enum"] == ["cola", "water"]
    assert shown["properties"]["size"] | {"title": ""} == shown["properties"]["size"] | {
        "enum": ["S", "L"],
        "examples": ["S"],
        "default": "L",
        "title": "",
    }
    assert shown["required"] == ["drink"]
    model = ScriptedModel([call("order", {"drink": "water"}), "Done."])
    conversation = Conversation(create_voice_graph([agent], llm=model))
    await conversation.run("Water.")
    assert [m.text for m in conversation.messages if m.type == "tool"] == ["water L"]


async def test_a_secret_keeps_its_extras() -> None:
    @function_tool
    async def pay(pin: Annotated[SecretStr, Field(json_schema_extra={"pattern": "^[0-9]{4}$"})]) -> str:
        """Pay."""
        return str(len(pin.get_secret_value()))

    (tool,) = Agent("a", instructions="x", tools=[pay]).own_tools
    assert _shown(tool)["properties"]["pin"]["pattern"] == "^[0-9]{4}$"
    assert await tool.ainvoke({"pin": "1234"}) == "4"


NAMES = st.sampled_from(["enum", "format", "pattern", "x-unit"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(NAMES, VALUES, min_size=1), st.sampled_from([str, int, list[str], str | None, Order]))
def test_the_model_is_shown_what_pydantic_shows(extra: dict[str, Any], kind: Any) -> None:
    async def order(it: Any) -> str:
        """Order."""
        return "ok"

    order.__annotations__["it"] = Annotated[kind, Field(json_schema_extra=extra)]
    (tool,) = Agent("a", instructions="x", tools=[function_tool(order)]).own_tools
    expected = TypeAdapter(Annotated[kind, Field(json_schema_extra=extra)]).json_schema()
    shown = _shown(tool)["properties"]["it"]
    assert {key: shown.get(key) for key in extra} == {key: expected.get(key) for key in extra}
