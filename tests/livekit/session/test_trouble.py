"""When something goes wrong: closing in the middle, models that fail, hang, or say nothing."""

import asyncio
import contextlib
from typing import Any

import pytest
from graph_agent_support import (
    Roots,
    a_call,
    a_text_call,
    agrees,
    outputs_in_graph,
    spoken,
    told_by_graph,
    voice,
    words,
)
from livekit.agents import AgentSession
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.agents.voice.events import CloseEvent, CloseReason, ErrorEvent

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.errors import ModelError
from graph_voice.testing import ScriptedModel, call, fail, hang, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import voice_rig

pytestmark = pytest.mark.virtual_clock

APOLOGY = "I'm sorry, something went wrong on my side. Could you say that again?"
STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."


def host(model: ScriptedModel, *tools: Any, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [Agent("host", instructions="You are the host.", tools=tools, voice=voice("host"))], llm=model
    )
    return GraphAgent(graph, **options)


@pytest.mark.parametrize("llm", ["openai:gpt-keyless", None])
async def test_a_session_whose_graph_lacks_its_model_or_key_is_refused_at_its_start(
    llm: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "GRAPH_VOICE_LLM"):
        monkeypatch.delenv(name, raising=False)
    graph = create_voice_graph([Agent("host", instructions="You are the host.")], llm=llm)
    async with AgentSession[Any](vad=None, turn_handling={"turn_detection": "manual"}) as session:
        with pytest.raises(ModelError, match="GRAPH_VOICE_LLM" if llm is None else "OPENAI_API_KEY"):
            await session.start(GraphAgent(graph))
    model = ScriptedModel(["Hello."])
    agent = GraphAgent(graph, config={"configurable": {"llm": model}})
    async with AgentSession[Any](vad=None, turn_handling={"turn_detection": "manual"}) as session:
        await session.start(agent)
        await session.run(user_input="Hello?")
    assert told_by_graph(agent) == [("user", "Hello?"), ("assistant", "Hello.")]


async def test_closing_in_the_middle_of_a_reply_keeps_the_words_heard() -> None:
    model, roots = ScriptedModel([STORY]), Roots()
    ga = host(model, config={"callbacks": [roots]})
    async with voice_rig(ga) as rig:
        await rig.user_says("Tell me a story", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 4 * 0.25 + 0.1)
        await rig.session.aclose()
        await asyncio.sleep(1)
        agrees(ga, rig.session)
    assert told_by_graph(ga)[0] == ("user", "Tell me a story")
    heard = dict(told_by_graph(ga)).get("assistant", "")
    assert heard == words(rig.spoken[0].text)
    assert [words(end["heard"]) for end in roots.ended] == [heard]


@pytest.mark.parametrize("drain", [True, False])
async def test_closing_while_a_tool_runs_keeps_its_result(drain: bool) -> None:
    runs: list[str] = []
    started = asyncio.Event()

    @function_tool
    async def look_up() -> str:
        """Look up."""
        runs.append("started")
        started.set()
        await asyncio.sleep(3)
        runs.append("done")
        return "found"

    model, roots = ScriptedModel([say("One moment.", call("look_up")), "Found it."]), Roots()
    ga = host(model, look_up, config={"callbacks": [roots]})
    async with voice_rig(ga) as rig:
        await rig.user_says("look it up", at=0.5)
        await started.wait()
        if drain:
            rig.session.shutdown(drain=True)
        else:
            await rig.session.aclose()
        await asyncio.sleep(10)
        agrees(ga, rig.session)
    assert runs == ["started", "done"]
    assert outputs_in_graph(ga) == {"call_1": "found"}
    assert len(roots.outputs) == 1


async def test_closing_while_the_model_hangs_ends_everything() -> None:
    model, roots = ScriptedModel([hang()]), Roots()
    ga = host(model, config={"callbacks": [roots]})
    async with voice_rig(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.wait_until(5)
        await rig.session.aclose()
        await asyncio.sleep(1)
        agrees(ga, rig.session)
    assert model.prompts[0].outcome == "cancelled"
    assert len(roots.outputs) == 1
    assert told_by_graph(ga) == [("user", "hello")]


@pytest.mark.parametrize("after_tokens", [0, 3])
async def test_a_model_that_fails_is_apologised_for_and_the_call_goes_on(after_tokens: int) -> None:
    broken = fail(ConnectionError("no line"), after_tokens, text="I will tell you that")
    model = ScriptedModel([("again", "Fine."), ("", broken)])
    ga = host(model)
    errors: list[ErrorEvent] = []
    async with a_call(ga, model) as rig:
        rig.session.on("error", errors.append)
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        first = "I will tell" if after_tokens else ""
        assert spoken(rig) == [("host", f"{first} {APOLOGY}".strip())]
        await rig.user_says("again")
        await rig.until_idle()
        assert spoken(rig)[-1][1].endswith("Fine.")
    assert len(errors) == 1
    assert isinstance(errors[0].error.error, ConnectionError)
    assert not errors[0].error.recoverable  # as LiveKit's, when its attempts are over


@pytest.mark.parametrize("allowed", [0, 1, 3])
@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("how", ["at once", "after words", "after a tool", "after a handoff"])
async def test_a_model_that_stays_dead_ends_the_session_as_livekits_does(allowed: int, text: bool, how: str) -> None:
    """After as many apologies as LiveKit allows errors in a row. Its own agent says nothing at all."""
    broken = fail(ConnectionError("no line"))
    script: Any = {
        "at once": broken,
        "after words": fail(ConnectionError("no line"), 3, text="I will tell you that"),
        "after a tool": lambda ms: broken if ms[-1].type == "tool" else say("One moment.", call("look_up")),
        "after a handoff": broken,
    }[how]

    @function_tool
    async def look_up() -> str:
        """Look up."""
        return "found"

    model = ScriptedModel(script if callable(script) else [("", script)])
    members = [Agent("host", instructions="H.", tools=[look_up], voice=voice("host"))]
    if how == "after a handoff":
        first = ScriptedModel([("", call("transfer_to_other"))])
        members = [
            Agent("host", instructions="H.", handoffs=["other"], llm=first, voice=voice("host")),
            Agent("other", instructions="O.", voice=voice("other")),
        ]
    left: list[str | None] = []

    async def leave(ctx: RunContext[Any]) -> None:
        left.append(ctx.close_reason)

    for member in members:
        member.on_exit = leave
    ga = GraphAgent(create_voice_graph(members, llm=model, apology="Pardon."))
    errors: list[ErrorEvent] = []
    closed: list[CloseEvent] = []
    options: dict[str, Any] = {"conn_options": SessionConnectOptions(max_unrecoverable_errors=allowed)}
    opened = AgentSession[Any](vad=None, **options) if text else voice_rig(ga, **options)
    async with opened as found:
        session = found if isinstance(found, AgentSession) else found.session
        session.on("error", errors.append)
        session.on("close", closed.append)
        if isinstance(found, AgentSession):
            await session.start(ga)
        for n in range(allowed + 1):
            assert closed == []
            if isinstance(found, AgentSession):
                with contextlib.suppress(RuntimeError):
                    await session.run(user_input=f"hello {n}")
            else:
                await found.user_says(f"hello {n}")
                await asyncio.sleep(10)
        await asyncio.sleep(5)
    assert [event.reason for event in closed] == [CloseReason.ERROR]
    assert isinstance(getattr(closed[0].error, "error", None), ConnectionError)
    assert len(errors) == allowed + 1
    assert session.conn_options.max_unrecoverable_errors == allowed
    assert left[-1] == "error"
    said = [words for role, words in told_by_graph(ga) if role == "assistant"]
    assert sum("Pardon." in words for words in said) in (allowed, allowed + 1)


async def test_a_turn_that_is_answered_begins_the_count_anew() -> None:
    model = ScriptedModel([("now", "Fine."), ("", fail(ConnectionError("no line")))])
    ga = host(model)
    async with a_text_call(ga, model) as session:
        for n in range(4):
            for _ in range(3):
                await session.run(user_input=f"hello {n}")
            await session.run(user_input="and now")
            assert told_by_graph(ga)[-1] == ("assistant", "Fine.")


async def test_a_model_that_fails_after_a_tool_keeps_the_result() -> None:
    @function_tool
    async def look_up() -> str:
        """Look up."""
        return "found"

    model = ScriptedModel([("again", "It was found."), ("", [call("look_up"), fail(ConnectionError("no line"))])])
    ga = host(model, look_up)
    async with a_call(ga, model) as rig:
        await rig.user_says("look it up", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", APOLOGY)]
        await rig.user_says("again")
        await rig.until_idle()
    assert outputs_in_graph(ga) == {"call_1": "found"}


async def test_a_new_agent_whose_model_fails_apologises_and_keeps_the_floor() -> None:
    model = ScriptedModel(
        {"support": [call("transfer_to_billing")], "billing": [("", fail(ConnectionError("no line")))]}
    )
    graph = create_voice_graph(
        [
            Agent("support", instructions="Support.", handoffs=[Handoff("billing")], voice=voice("support")),
            Agent("billing", instructions="Billing.", voice=voice("billing")),
        ],
        llm=model,
    )
    ga = GraphAgent(graph)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("billing", APOLOGY)]
        assert rig.session.current_agent.id == "billing"


@pytest.mark.parametrize("empty", ["", "   "])
async def test_an_empty_answer_is_apologised_for(empty: str) -> None:
    model = ScriptedModel([("again", "Fine."), ("", empty)])
    ga = host(model)
    async with a_call(ga, model) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        assert spoken(rig) == [("host", APOLOGY)]
        await rig.user_says("again")
        await rig.until_idle()
    assert told_by_graph(ga)[1] == ("assistant", APOLOGY)


async def test_a_voice_that_fails_leaves_the_graph_where_the_caller_is() -> None:
    class Broken(Exception):
        pass

    def no_voice() -> Any:
        from graph_voice_livekit.testing import FakeTTS

        class Mute(FakeTTS):
            def stream(self, **options: Any) -> Any:
                raise Broken("no voice")

        return Mute("mute")

    from graph_voice import Voice

    model = ScriptedModel(["Hello."])
    graph = create_voice_graph([Agent("host", instructions="Host.", voice=Voice(tts=no_voice))], llm=model)
    ga = GraphAgent(graph)
    async with voice_rig(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
        agrees(ga, rig.session)
    assert told_by_graph(ga) == [("user", "hello")]
