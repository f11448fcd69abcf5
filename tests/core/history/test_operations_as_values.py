"""Operations as values: what Studio, LangSmith and a checkpoint show of them, and what another process reads."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START
from langgraph.types import interrupt

from graph_voice import Agent, Handoff, create_voice_graph, history
from graph_voice.testing import ScriptedModel, call

POLICY = history.exclude_instructions() | history.truncate(max_items=1)
PLAIN = {"steps": [{"op": "exclude_instructions"}, {"op": "truncate", "max_items": 1}]}


class Runs(AsyncCallbackHandler):
    """What a trace holds of each node's run, as JSON."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}
        self._names: dict[Any, str] = {}

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._names[kwargs["run_id"]] = kwargs.get("name") or ""

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.outputs[self._names[kwargs["run_id"]]] = outputs


async def test_an_operation_that_a_node_returns_is_shown_as_plain_data_in_stream_state_and_trace() -> None:
    builder = create_voice_graph([Agent("a", instructions="A.")], llm=ScriptedModel(["Hi.", "Hi again."]))
    builder.add_node("shorten", lambda state: {"chat_ctx": POLICY})
    builder.add_edge("a", "shorten")
    graph = builder.compile(checkpointer=InMemorySaver())
    runs = Runs()
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [runs]}
    updates = [part async for part in graph.astream({"messages": ["Hello."]}, config, stream_mode="updates")]
    assert updates[-1] == {"shorten": {"chat_ctx": PLAIN}}
    assert json.loads(json.dumps(updates[-1])) == updates[-1]
    assert runs.outputs["shorten"] == {"chat_ctx": PLAIN}
    assert json.loads(json.dumps(runs.outputs["shorten"])) == {"chat_ctx": PLAIN}
    state = (await graph.aget_state(config)).values
    assert state["chat_ctx"] == {"pending": [PLAIN]}
    assert type(state["chat_ctx"]["pending"][0]) is dict
    # The next agent step resolves it, and says what is carried now: references, no copies.
    updates = [part async for part in graph.astream({"messages": ["Well?"]}, config, stream_mode="updates")]
    made = updates[0]["a"]["chat_ctx"]
    assert made["resolved"] == 1
    assert [m["id"] for m in made["carried"]] == [state_id(await graph.aget_state(config), "Well?")]
    assert (await graph.aget_state(config)).values["chat_ctx"]["pending"] == [PLAIN], "and the node asks anew"


def state_id(snapshot: Any, text: str) -> str:
    return next(str(m.id) for m in snapshot.values["messages"] if m.text == text)


async def test_a_handoff_shows_what_it_carried_in_stream_and_trace() -> None:
    model = ScriptedModel({"a": ["Hi.", call("transfer_to_b")], "b": ["B here."]})
    agents = [Agent("a", instructions="A.", handoffs=[Handoff("b", history=POLICY)]), Agent("b", instructions="B.")]
    graph = create_voice_graph(agents, llm=model).compile(checkpointer=InMemorySaver())
    runs = Runs()
    config: Any = {"configurable": {"thread_id": "1"}, "callbacks": [runs]}
    await graph.ainvoke({"messages": ["Hello."]}, config)
    updates = [part async for part in graph.astream({"messages": ["Go."]}, config, stream_mode="updates")]
    control = updates[0]["a"]
    assert (control["active_agent"], len(control["handoffs"])) == ("b", 1)
    assert json.dumps(control["chat_ctx"]["carried"])
    assert {"a", "handoff b", "b"} <= set(runs.outputs)
    assert json.dumps((await graph.aget_state(config)).values["contexts"]["a"])


@pytest.mark.parametrize("value", [POLICY, [POLICY, history.full()], PLAIN, json.loads(json.dumps(PLAIN))])
async def test_studio_writes_an_operation_as_a_value_or_as_json(value: Any) -> None:
    model = ScriptedModel(["One.", "Two."])
    graph = create_voice_graph([Agent("a", instructions="A.")], llm=model).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": ["Hello."]}, config)
    await graph.aupdate_state(config, {"chat_ctx": value}, as_node="a")
    await graph.ainvoke({"messages": ["Well?"]}, config)
    assert [m.text for m in model.prompts[-1].messages[1:]] == ["Well?"]


PROGRAM = """
import asyncio, sys
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START
from langgraph.types import Command, interrupt
from graph_voice import Agent, create_voice_graph, history
from graph_voice.testing import ScriptedModel

def ask(state):
    interrupt("Go on?")

async def main(path, step):
    model = ScriptedModel(["Hi.", "Hi again."])
    builder = create_voice_graph([Agent("a", instructions="Be kind.")], llm=model)
    policy = history.when(max_items=2, then=history.truncate(max_items=1)) | history.exclude_empty()
    builder.add_node("shorten", lambda state: {"chat_ctx": policy})
    builder.add_node("ask", ask)
    if step != "third":
        builder.add_edge(START, "shorten")
        builder.add_edge(START, "ask")
    config = {"configurable": {"thread_id": "1"}}
    async with AsyncSqliteSaver.from_conn_string(path) as saver:
        graph = builder.compile(checkpointer=saver)
        if step == "first":  # ends with the operation as a pending write
            await graph.ainvoke({"messages": ["Hello"]}, config)
        elif step == "second":
            state = await graph.ainvoke(Command(resume="yes"), config)
            assert state["chat_ctx"]["pending"] == [policy.to_dict()], state["chat_ctx"]
            assert type(state["chat_ctx"]["pending"][0]) is dict
        else:
            state = await graph.ainvoke({"messages": ["Well?"]}, config)
            assert [m.text for m in model.prompts[-1].messages[1:]] == ["Well?"], model.prompts[-1]
            assert [m.text for m in state["messages"]][0] == "Hello", "messages keep everything"
    print("done")

asyncio.run(main(*sys.argv[1:]))
"""


def test_three_strict_processes_hand_an_operation_on_in_a_sqlite_file(tmp_path: Path) -> None:
    """LANGGRAPH_STRICT_MSGPACK is read when langgraph is imported, so it takes processes of their own."""
    environment = {**os.environ, "LANGGRAPH_STRICT_MSGPACK": "true", "LANGSMITH_TRACING": "false"}
    for step in ("first", "second", "third"):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), str(tmp_path / "calls.sqlite"), step],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert run.stdout.strip() == "done", run.stderr
        assert "Blocked" not in run.stderr


async def test_a_pending_operation_outlives_an_interrupt() -> None:
    model = ScriptedModel(["Hi."])
    builder = create_voice_graph([Agent("a", instructions="A.")], llm=model)
    builder.add_node("shorten", lambda state: {"chat_ctx": POLICY})
    builder.add_node("ask", lambda state: interrupt("Go on?"))
    builder.add_edge(START, "shorten")
    builder.add_edge("shorten", "ask")
    graph = builder.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": ["Hello."]}, config)
    assert (await graph.aget_state(config)).values["chat_ctx"]["pending"] == [PLAIN]
