"""Tasks that the front end runs, in the core: their result comes in, and without a front end they fail."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from graph_voice import Agent, Conversation, RunContext, Task, TaskFailed, create_voice_graph, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call


class Digits(BaseModel):
    digits: str


@dataclass
class Theirs:
    """As LiveKit's tasks return their results."""

    digits: str


@function_tool
async def pay(ctx: RunContext[Any]) -> str:
    """Pay."""
    try:
        found = await ctx.run_task("dtmf", n=4)
    except TaskFailed as failed:
        return f"Not paid: {failed.reason}"
    return f"Paid with {found!r}."


@function_tool(needs={"digits": "dtmf"})
async def unlock(digits: Digits) -> str:
    """Unlock."""
    return f"Unlocked by {digits.digits}."


def desk(*tools: Any, **options: Any) -> Agent:
    return Agent("desk", instructions="You help.", tools=list(tools), **{"tasks": ["dtmf"], **options})


def graph(*tools: Any, **options: Any) -> Any:
    def script(messages: Any) -> Any:
        told = [m.text for m in messages if m.type == "tool"]
        return f"So: {told[-1]}" if told else call(messages[-1].text)

    model = ScriptedModel(script)
    return create_voice_graph([desk(*tools or (pay, unlock))], llm=model, external_tasks={"dtmf": Digits}, **options)


async def ends(tool: str, result: Any = None, **options: Any) -> Conversation[Any]:
    """A call in which the front end has run the task, and gives its result."""
    conversation = Conversation(graph())
    conversation.call.front_end_tasks = frozenset({"dtmf"})
    await conversation.run(tool)
    assert conversation.active_agent == "dtmf"
    turn = conversation.end_task("dtmf", result, **options)
    assert turn is not None
    await conversation.run(turn=turn)
    assert conversation.active_agent == "desk"
    assert conversation.end_task("dtmf", result) is None
    return conversation


@pytest.mark.parametrize(
    "result", [Digits(digits="1234"), Theirs("1234"), {"digits": "1234"}], ids=lambda r: type(r).__name__
)
async def test_the_result_of_the_front_ends_task_is_the_typed_result(result: Any) -> None:
    conversation = await ends("pay", result)
    assert conversation.messages[-1].text == "So: Paid with Digits(digits='1234')."
    assert (await ends("unlock", result)).messages[-1].text == "So: Unlocked by 1234."


async def test_a_task_that_failed_there_has_failed_here() -> None:
    conversation = await ends("pay", error="the caller hung up")
    assert conversation.messages[-1].text == "So: Not paid: the caller hung up"


async def test_a_result_that_does_not_fit_is_a_failure() -> None:
    conversation = await ends("pay", Theirs(digits=5))  # type: ignore[arg-type]
    assert "Not paid: Not the result of dtmf" in conversation.messages[-1].text


async def test_the_task_gets_its_inputs() -> None:
    conversation = Conversation(graph())
    conversation.call.front_end_tasks = frozenset({"dtmf"})
    await conversation.run("pay")
    (frame,) = conversation.state["stack"]
    assert frame["inputs"] == {"n": 4}


@pytest.mark.parametrize(("tool", "said"), [("pay", "So: Not paid: "), ("unlock", "So: ")])
async def test_without_livekit_it_fails_and_says_where_to_run_it(tool: str, said: str) -> None:
    conversation = Conversation(graph())
    await conversation.run(tool)
    assert conversation.active_agent == "desk"
    heard = conversation.messages[-1].text
    assert heard.startswith(said)
    assert 'dtmf is LiveKit\'s; run the call in LiveKit: GraphAgent(graph, tasks={"dtmf": ...}).' in heard


async def test_the_same_in_a_graph_without_a_conversation() -> None:
    found = await graph().compile().ainvoke({"messages": [("user", "pay")]})
    assert "run the call in LiveKit" in found["messages"][-1].text
    assert found["active_agent"] == "desk"
    assert not found["stack"]


async def test_words_while_it_runs_are_not_answered_by_the_graph_and_it_goes_on() -> None:
    conversation = Conversation(graph())
    conversation.call.front_end_tasks = frozenset({"dtmf"})
    await conversation.run("pay")
    await conversation.run("one two")
    assert (conversation.active_agent, conversation.messages[-1].text) == ("dtmf", "one two")
    turn = conversation.end_task("dtmf", Digits(digits="12"))
    assert turn is not None
    await conversation.run(turn=turn)
    assert conversation.messages[-1].text == "So: Paid with Digits(digits='12')."


async def test_a_task_that_somebody_else_has_taken_over_from_goes_on_nowhere() -> None:
    conversation = Conversation(graph())
    conversation.call.front_end_tasks = frozenset({"dtmf"})
    await conversation.run("pay")
    await conversation.update_agent("desk")
    assert conversation.end_task("dtmf", Digits(digits="12")) is None


async def test_what_is_declared_wrong_is_refused_where_it_is_written() -> None:
    with pytest.raises(BuildError, match=r'external_tasks=\{"dtmf": Result\}'):
        create_voice_graph([desk(pay)])
    with pytest.raises(BuildError, match=r'nobody runs the task "dtmf"'):
        create_voice_graph([desk(tasks=[])], external_tasks={"dtmf": Digits})
    with pytest.raises(BuildError, match=r'external_tasks=\["dtmf"\]'.replace('"', "'")):
        create_voice_graph([desk()], external_tasks=["dtmf"])  # type: ignore[arg-type]
    with pytest.raises(BuildError, match='two agents are named "dtmf"'):
        create_voice_graph([desk(), Task("dtmf", instructions="x")], external_tasks={"dtmf": Digits})
    with pytest.raises(BuildError, match=r'tool "unlock" runs the task "dtmf", which the agent does not declare'):
        desk(unlock, tasks=[])


async def test_a_task_that_is_not_declared_is_told() -> None:
    other = desk(pay, tasks=[])
    model = ScriptedModel([call("pay"), "Sorry."])
    conversation = Conversation(create_voice_graph([other], llm=model))
    await conversation.run("go")
    assert 'may not run the task "dtmf"' in conversation.messages[2].text
