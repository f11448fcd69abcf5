"""One trace per turn: our own run at the root, open until the turn is closed, the graph run below it."""

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run
from trace_support import Recorder
from turn_support import hear, play, rest, until

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, events
from graph_voice.testing import ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock


def recorded(script: Any, handler: BaseCallbackHandler, **config: Any) -> Conversation[Any]:
    agents = [Agent("a", instructions="A", handoffs=[Handoff("b")]), Agent("b", instructions="B")]
    graph = create_voice_graph(agents, llm=ScriptedModel(script))
    return Conversation(graph, thread_id="call-1", config={"callbacks": [handler], **config})


async def test_the_root_is_our_own_run_and_stays_open_until_close() -> None:
    recorder = Recorder()
    conversation = recorded(["One two."], recorder, tags=["mine"], metadata={"shop": 7})
    turn = conversation.turn("hi")
    turn.commit()
    seen = await rest(turn)
    await asyncio.sleep(1)
    assert [run["ended"] for run in recorder.roots] == [False]
    hear(turn, [e for e in seen if isinstance(e, events.Text)][:1])
    turn.close()
    await conversation.aclose()
    (root,) = recorder.roots
    assert (root["name"], root["inputs"]["text"]) == ("turn", "hi")
    assert root["outputs"] == {
        "text": "hi",
        "heard": "One",
        "generated": "One two.",
        "interrupted": False,
        "discarded": False,
    }
    assert root["metadata"] | {"turn_id": None} == {"thread_id": "call-1", "turn_id": None, "shop": 7}
    assert root["tags"] == ["mine"]
    graph = [run for run in recorder.runs.values() if run["name"] == "graph"]
    assert [recorder.runs[run["parent_run_id"]]["name"] for run in graph] == ["turn"]
    assert all(run["ended"] for run in recorder.runs.values())


async def test_a_turn_with_a_handoff_has_one_root() -> None:
    recorder = Recorder()
    conversation = recorded({"a": [say(call("transfer_to_b"))], "b": ["B here."]}, recorder)
    await conversation.run("hi")
    await conversation.aclose()
    assert [(run["name"], run["outputs"]["heard"]) for run in recorder.roots] == [("turn", "B here.")]


async def test_a_discarded_speculation_is_tagged() -> None:
    recorder = Recorder()
    conversation = recorded(["One."], recorder)
    turn = conversation.turn("perhaps")
    await until(turn, events.Text)
    turn.discard()
    await turn.wait_finished()
    await conversation.aclose()
    (root,) = recorder.roots
    assert (root["outputs"]["discarded"], root["outputs"]["heard"]) == (True, "")
    assert "discarded" in root["end_tags"]


async def test_the_root_of_a_turn_that_waits_for_its_commit_is_open_from_its_start() -> None:
    recorder = Recorder()
    builder = create_voice_graph([Agent("a", instructions="A")], llm=ScriptedModel(["One."]))
    builder.add_node("act", lambda state: {})
    builder.add_edge("a", "act")
    conversation: Conversation[Any] = Conversation(builder, config={"callbacks": [recorder]})
    turn = conversation.turn("hi")
    await asyncio.sleep(1)
    assert [run["name"] for run in recorder.runs.values()] == ["turn"]
    await play(turn)
    await conversation.aclose()
    assert len(recorder.roots) == 1


class Tracer(BaseTracer):
    """A tracer as LangSmith's is: it sees the tree when the root ends."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.trees.append(run)


async def test_a_tracer_finds_the_tags_on_the_run() -> None:
    tracer = Tracer()
    conversation = recorded(["One."], tracer)
    turn = conversation.turn("hi")
    turn.commit()
    await until(turn, events.Text)
    turn.interrupt()
    await rest(turn)
    turn.close()
    await conversation.aclose()
    (tree,) = tracer.trees
    assert (tree.name, tree.tags, [child.name for child in tree.child_runs]) == ("turn", ["interrupted"], ["graph"])


async def test_nothing_is_traced_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    conversation: Conversation[Any] = Conversation(
        create_voice_graph([Agent("a", instructions="A")], llm=ScriptedModel(["One."]))
    )
    turn = conversation.turn("hi")
    trace = await conversation.call.traces.begin(turn._run)
    assert "callbacks" not in trace.config
    assert "run_name" not in trace.config
    await play(turn)
    await conversation.aclose()
