"""Handoffs with arguments: what is refused, and how they come to an agent by other ways than a transfer."""

from typing import Any

import pytest
from langchain_core.messages import SystemMessage
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.checks import check_graph
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call


class Reason(BaseModel):
    topic: str


class Odd(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    other: Conversation[Any]


TOPIC = call("transfer_to_b", {"topic": "vat"})
CAME = 'What came with the transfer to you: {"topic": "vat"}'


def agent(name: str, **options: Any) -> Agent:
    return Agent(name, instructions=f"You are {name}.", **options)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Handoff("b", arguments=dict), "write a pydantic model class"),  # type: ignore[arg-type]
        (lambda: Handoff("b", arguments=Reason(topic="x")), "write a pydantic model class"),  # type: ignore[arg-type]
        (lambda: Handoff("b", arguments=Odd), "a field of it has no JSON schema"),
        (
            lambda: agent(
                "a",
                handoffs=[
                    Handoff("b", arguments=Reason),
                    Handoff("c", arguments=type("Reason", (BaseModel,), {"__module__": __name__})),
                ],
            ),
            "two classes named Reason",
        ),
        (lambda: agent("a", on_enter=lambda one, two, three: ""), "on_enter=<function"),
    ],
)
def test_what_can_not_work_is_refused(make: Any, words: str) -> None:
    with pytest.raises(BuildError) as caught:
        make()
    assert words in str(caught.value)


async def test_a_graph_alone_has_them_too() -> None:
    model = ScriptedModel([TOPIC, "Here is b."])
    way = Handoff("b", arguments=Reason)
    graph = create_voice_graph([agent("a", handoffs=[way]), agent("b")], llm=model).compile()
    state = await graph.ainvoke({"messages": ["My VAT."]})
    assert [(h["arguments"], h["arguments_type"]) for h in state["handoffs"]] == [({"topic": "vat"}, "Reason")]
    assert model.prompts[-1].messages[0].text == f"You are b.\n\n{CAME}"


async def test_they_come_through_a_custom_node() -> None:
    model = ScriptedModel([TOPIC, "Here is c."])
    graph = create_voice_graph([agent("a", handoffs=[Handoff("b", arguments=Reason)]), agent("c")], llm=model)
    graph.add_node("b", lambda state: {})
    graph.add_edge("b", "c")
    conversation = Conversation(graph)
    await conversation.run("My VAT.")
    assert conversation.active_agent == "c"
    assert model.prompts[-1].messages[0].text == f"You are c.\n\n{CAME}"
    assert conversation.handoffs[-1]["arguments"] == {"topic": "vat"}


async def test_an_on_enter_method_hands_off_with_them() -> None:
    class Through(Agent):
        name = "b"
        instructions = "You are b."
        handoffs = (Handoff("c", tool=False, arguments=Reason),)

        async def on_enter(self, ctx: RunContext[Any]) -> Handoff:
            return ctx.handoff("c", arguments={"topic": f"{ctx.arguments.topic} again"})

    model = ScriptedModel([TOPIC, "Here is c."])
    agents = [agent("a", handoffs=[Handoff("b", arguments=Reason)]), Through(), agent("c")]
    conversation = Conversation(create_voice_graph(agents, llm=model))
    await conversation.run("My VAT.")
    assert model.prompts[-1].messages[0].text.endswith('{"topic": "vat again"}')


async def test_an_external_agent_is_shown_them() -> None:
    model = ScriptedModel([TOPIC])
    graph = create_voice_graph([agent("a", handoffs=[Handoff("b", arguments=Reason)])], external=["b"], llm=model)
    handed = [e for e in await Conversation(graph).run("My VAT.") if isinstance(e, events.HandedOff)]
    assert [e.arguments for e in handed] == [{"topic": "vat"}]
    assert [m.text for m in handed[0].shown if isinstance(m, SystemMessage)] == [CAME]


async def test_the_program_moves_on_without_them() -> None:
    model = ScriptedModel([TOPIC, "Here is b.", "Here is b again."])
    conversation = Conversation(
        create_voice_graph([agent("a", handoffs=[Handoff("b", arguments=Reason)]), agent("b")], llm=model)
    )
    await conversation.run("My VAT.")
    await conversation.update_agent("a")
    await conversation.update_agent("b")
    await conversation.run("Hello?")
    assert [CAME in prompt.messages[0].text for prompt in model.prompts] == [False, True, False]


@pytest.mark.parametrize(("start", "takes", "found"), [("a", True, 0), ("a", False, 1), ("b", True, 1)])
def test_the_check_finds_an_on_enter_that_nothing_comes_to(start: str, takes: bool, found: int) -> None:
    kind = Reason if takes else None
    agents = [
        agent("a", handoffs=[Handoff("b", "To b.", arguments=kind)]),
        agent("b", on_enter=lambda userdata, reason: f"Ask about {reason.topic}.", handoffs=[Handoff("a", "Back.")]),
    ]
    findings = check_graph(create_voice_graph(agents, llm=ScriptedModel([]), start=start))
    told = [f.problem for f in findings]
    assert len(told) == found, told
    assert not told or ("no handoff to it has any" in told[0]) != takes


async def test_a_class_that_has_changed_since_is_not_forced_on_it() -> None:
    seen: list[Any] = []

    @function_tool
    async def look(ctx: RunContext[Any]) -> str:
        """Look."""
        seen.append(ctx.arguments)
        return "seen"

    model = ScriptedModel([call("look"), "Yes."])
    agents = [agent("a", handoffs=[Handoff("b", arguments=Reason)]), agent("b", tools=[look])]
    graph = create_voice_graph(agents, llm=model).compile()
    record = {"old_agent_id": "a", "new_agent_id": "b", "tool_call_id": "x", "created_at": 1.0}
    old = {**record, "arguments": {"subject": "vat"}, "arguments_type": "Reason"}
    await graph.ainvoke({"messages": ["Hi."], "active_agent": "b", "handoffs": [old]})
    assert seen == [None]
