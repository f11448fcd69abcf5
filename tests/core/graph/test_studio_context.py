"""A run's context edits an agent's instructions and model: what LangGraph Studio's forms do."""

import dataclasses
from typing import Any

import pytest
from langgraph.types import Command
from pydantic import BaseModel
from typing_extensions import TypedDict

from graph_voice import Agent, Conversation, Handoff, Reply, RunContext, create_voice_graph, function_tool
from graph_voice.errors import BuildError, ModelError
from graph_voice.graph.build import runtime_of
from graph_voice.graph.studio_context import edited, is_editable, studio_context
from graph_voice.testing import ScriptedModel, call

HELLO: Any = {"messages": [("user", "hello")]}


class Caller(BaseModel):
    name: str = "Ada"


FRONT = Agent("front", instructions="You are the front.", handoffs=[Handoff("back", say=Reply("Say goodbye."))])
BACK = Agent("back", instructions=lambda caller: f"You are the back, for {caller.name}.", llm="openai:gpt-4.1")


def graph(llm: Any, **options: Any) -> Any:
    back = Agent("back", instructions=BACK.instructions, handoffs=[Handoff("front")])
    return create_voice_graph([FRONT, back], userdata=Caller, llm=llm, **options)


def prompts(llm: ScriptedModel) -> list[tuple[Any, str]]:
    return [(prompt.agent, prompt.messages[0].text) for prompt in llm.prompts]


def test_each_agent_has_a_prompt_and_a_model_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    schema = create_voice_graph([FRONT, BACK], userdata=Caller, llm=ScriptedModel()).compile().get_context_jsonschema()
    assert schema is not None
    fields = schema["properties"]
    assert list(fields) == ["llm", "front_instructions", "front_llm", "back_instructions", "back_llm"]
    assert fields["front_instructions"] == {
        "title": "front: instructions",
        "description": "The system prompt.",
        "default": "You are the front.",
        "type": "string",
        "langgraph_nodes": ["front"],
        "langgraph_type": "prompt",
    }
    assert fields["back_instructions"]["default"] == ""
    assert "function of the userdata" in fields["back_instructions"]["description"]
    assert (fields["back_llm"]["default"], fields["back_llm"]["langgraph_nodes"]) == ("openai:gpt-4.1", ["back"])
    assert fields["llm"]["langgraph_nodes"] == ["front", "back"]
    assert "required" not in schema


async def test_edited_instructions_are_those_of_the_run_and_of_no_other() -> None:
    llm = ScriptedModel(lambda messages: "Yes.")
    compiled = graph(llm).compile()
    await compiled.ainvoke(HELLO, context={"front_instructions": "You are a pirate.", "back_instructions": "No."})
    await compiled.ainvoke(HELLO, context={"front_instructions": ""})
    await compiled.ainvoke(HELLO)
    assert [text for _, text in prompts(llm)] == ["You are a pirate.", "You are the front.", "You are the front."]


async def test_fixed_text_takes_the_place_of_a_function_of_the_userdata() -> None:
    llm = ScriptedModel(lambda messages: "Yes.")
    for context in ({"back_instructions": "Be brief."}, {"back_instructions": ""}):
        await graph(llm, start="back").compile().ainvoke(HELLO, context=context)
    assert [text for _, text in prompts(llm)] == ["Be brief.", "You are the back, for Ada."]


async def test_the_line_of_a_transfer_is_made_by_the_edited_agent_too() -> None:
    llm = ScriptedModel({"front": [call("transfer_to_back"), "Bye."], "back": ["Hello."]})
    await graph(llm).compile().ainvoke(HELLO, context={"front_instructions": "You are a pirate."})
    assert prompts(llm) == [
        ("front", "You are a pirate."),
        ("front", "You are a pirate."),
        ("back", "You are the back, for Ada."),
    ]


async def test_an_agents_model_comes_before_the_one_for_all_and_both_before_the_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models = {name: ScriptedModel(lambda messages, name=name: name, name=name) for name in ("a:a", "a:all")}
    monkeypatch.setattr("graph_voice.graph.studio_context.model_from", models.__getitem__)
    configured = ScriptedModel(lambda messages: "configured")
    compiled = graph(ScriptedModel(lambda messages: "own")).compile()

    async def says(context: Any) -> str:
        made = await compiled.ainvoke(HELLO, {"configurable": {"llm": configured}}, context=context)
        return str(made["messages"][-1].text)

    assert await says({"front_llm": "a:a", "llm": "a:all"}) == "a:a"
    assert await says({"back_llm": "a:a", "llm": "a:all"}) == "a:all"
    assert await says({"back_llm": "a:a", "llm": ""}) == "configured"


async def test_a_form_that_sends_its_defaults_edits_nothing() -> None:
    llm = ScriptedModel(lambda messages: "Yes.")
    compiled = graph(llm).compile()
    schema = compiled.get_context_jsonschema()
    assert schema is not None
    defaults = {name: field["default"] for name, field in schema["properties"].items()}
    await compiled.ainvoke(HELLO, context=defaults)
    assert prompts(llm) == [("front", "You are the front.")]
    runtime = runtime_of(compiled, "front")
    assert runtime is not None
    assert await edited(runtime, defaults) is None


async def test_a_model_that_cant_be_used_is_an_error_that_says_why() -> None:
    with pytest.raises(ModelError, match='write "provider:model"'):
        await graph(ScriptedModel(["Yes."])).compile().ainvoke(HELLO, context={"front_llm": "gpt"})


async def test_a_conversation_is_edited_by_its_context() -> None:
    llm = ScriptedModel(lambda messages: "Yes.")
    conversation = Conversation(graph(llm), context={"front_instructions": "You are a pirate."})
    await conversation.run("Hello?")
    assert prompts(llm) == [("front", "You are a pirate.")]
    assert conversation.messages[-1].text == "Yes."


async def test_an_interrupt_is_resumed_by_the_edited_agent() -> None:
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import interrupt

    @function_tool
    async def order(ctx: RunContext[Caller]) -> str:
        """Order it."""
        return f"The answer was {interrupt('Sure?')}"

    llm = ScriptedModel([call("order"), "Ordered."])
    shop = create_voice_graph([Agent("shop", instructions="Shop.", tools=[order])], llm=llm)
    compiled = shop.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await compiled.ainvoke(HELLO, config, context={"shop_instructions": "Sell."})
    made = await compiled.ainvoke(Command(resume="yes"), config, context={"shop_instructions": "Sell."})
    assert [m.text for m in made["messages"][-2:]] == ["The answer was yes", "Ordered."]
    assert {text for _, text in prompts(llm)} == {"Sell."}


@function_tool
async def where(ctx: RunContext[Any]) -> str:
    """Say where the shop is."""
    return str(ctx.context)


@pytest.mark.parametrize("context", [{"city": "Graz"}, "Graz", {"front_instructions": "Edited.", "city": "Graz"}])
async def test_a_context_without_a_schema_reaches_the_tools_as_it_was_given(context: Any) -> None:
    llm = ScriptedModel([call("where"), "There."])
    agent = Agent("front", instructions="Front.", tools=[where])
    made = await create_voice_graph([agent], llm=llm).compile().ainvoke(HELLO, context=context)
    assert made["messages"][-2].text == str(context)


class Plain(TypedDict, total=False):
    front_instructions: str


class Shop(BaseModel):
    front_instructions: str = "theirs"


@dataclasses.dataclass
class Data:
    front_instructions: str = "theirs"


@pytest.mark.parametrize("schema", [Plain, Shop, Data])
async def test_a_users_own_schema_stays_theirs(schema: Any) -> None:
    llm = ScriptedModel(["Yes."])
    builder = graph(llm, context_schema=schema)
    assert builder.context_schema is schema
    assert not is_editable(schema)
    await builder.compile().ainvoke(HELLO, context=schema(front_instructions="mine"))
    assert prompts(llm) == [("front", "You are the front.")]


class City(BaseModel):
    city: str = "Graz"


class CityDict(TypedDict):
    city: str


@pytest.mark.parametrize("base", [City, CityDict])
async def test_a_schema_of_ones_own_may_have_the_fields_too(base: Any) -> None:
    schema = studio_context([FRONT, BACK], base)
    llm = ScriptedModel([call("where"), "There."])
    front = Agent("front", instructions="Front.", tools=[where])
    compiled = create_voice_graph([front], llm=llm, context_schema=studio_context([front], base)).compile()
    made = await compiled.ainvoke(HELLO, context={"city": "Linz", "front_instructions": "You are a pirate."})
    assert "Linz" in made["messages"][-2].text
    assert {text for _, text in prompts(llm)} == {"You are a pirate."}
    fields = graph(llm, context_schema=schema).compile().get_context_jsonschema()["properties"]
    assert next(iter(fields)) == "city"
    assert fields["front_instructions"]["langgraph_type"] == "prompt"


@pytest.mark.parametrize(("base", "problem"), [(Shop, "has a field"), (Data, "write a TypedDict"), (dict, "write a")])
def test_a_base_that_cant_have_the_fields_is_refused(base: Any, problem: str) -> None:
    with pytest.raises(BuildError, match=problem):
        studio_context([FRONT], base)
