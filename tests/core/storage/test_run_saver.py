"""The checkpointer of one run: what a run does to its fork is not seen by another fork."""

from typing import Any

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from graph_voice.storage.run_saver import RunSaver


class State(TypedDict, total=False):
    answer: str


async def test_a_run_that_waits_can_be_answered_again_and_again() -> None:
    async def ask(state: State) -> dict[str, Any]:
        return {"answer": interrupt("sure?")}

    builder = StateGraph(State)
    builder.add_node("ask", ask)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", END)
    config: Any = {"configurable": {"thread_id": "t"}}

    asked = RunSaver({})
    await builder.compile(checkpointer=asked).ainvoke({}, config)
    for answer in ("yes", "no, wait", "yes after all"):
        graph = builder.compile(checkpointer=RunSaver({}, asked))
        assert (await graph.ainvoke(Command(resume=answer), config))["answer"] == answer
