"""A task: from the model's tool call to the task's first words, and from its end to the agent's next words, beside a
handoff in the same conversations.

A handoff is measured in both forms: by a transfer, which needs no tool, and by a tool that returns one. A task begins
by a tool that awaits it. When it ends, that tool runs again with the result, and its agent answers. The model has no
delays, and nothing is said before.
"""

import asyncio
import contextlib
import gc
import statistics
from collections.abc import AsyncIterator, Sequence
from typing import Any

from livekit.agents import Agent, AgentSession

from benchmarks.conversations import INSTRUCTIONS, Talk, history
from benchmarks.fakes import TRANSFER, Brain, FakeModel
from benchmarks.figures import ratio, spread
from benchmarks.handoff import hand_over
from benchmarks.part import Measuring, Part, Row
from benchmarks.stores import Stores
from benchmarks.tables import markdown
from benchmarks.watch import Watch
from benchmarks.ways import Way
from graph_voice import Agent as GraphDefinition
from graph_voice import Done, Handoff, RunContext, Task, create_voice_graph, function_tool
from graph_voice_livekit import GraphAgent

__all__ = ["BEGINS", "BY_TOOL", "PART", "measure"]

BY_TRANSFER, BY_TOOL = "a handoff, by a transfer", "a handoff, by a tool"
BEGINS, ENDS = "a task begins", "a task ends, and its agent answers"
NAMES = ("front", "billing", "get_city")


def measure(measuring: Measuring) -> list[Row]:
    """One row for each store and kind of change."""
    rounds = measuring.of(40, 8, 2)
    ways = [Way.OURS, Way.OURS_SQLITE]
    measuring.progress.begin(len(ways))
    rows: list[Row] = []
    for way in ways:
        measuring.progress.step(f"tasks, {way.value}")
        rows += asyncio.run(_compare(way, rounds, measuring.stores))
    return rows


async def _compare(way: Way, rounds: int, stores: Stores) -> list[Row]:
    took: dict[str, list[tuple[float, float, float]]] = {what: [] for what in (BY_TRANSFER, BY_TOOL, BEGINS, ENDS)}
    async with _a_talk(way, stores) as talk:
        for number in range(rounds + 1):  # the first round is not counted
            if number == 1:
                for measured in took.values():
                    measured.clear()
                gc.collect()
                gc.freeze()  # as in benchmarks/turns.py
            for tool, what in ((None, BY_TRANSFER), ("move", BY_TOOL), ("book", BEGINS), ("finish", ENDS)):
                talk.brain.tool = tool
                took[what].append(await hand_over(talk, TRANSFER if tool is None else "Go on, please."))
        gc.unfreeze()
    beside = statistics.median(used for _, used, _ in took[BY_TOOL])
    return [
        {
            "way": way.value,
            "what": what,
            "times": len(measured),
            **spread("chunk_ms", [chunk for chunk, _, _ in measured]),
            **spread("used_ms", [used for _, used, _ in measured]),
            **spread("text_ms", [text for _, _, text in measured]),
            "used_x_handoff": ratio(statistics.median(used for _, used, _ in measured), beside),
        }
        for what, measured in took.items()
    ]


def _graph(brain: Brain) -> Any:
    @function_tool
    async def finish(ctx: RunContext[Any]) -> Done:
        """Record the city."""
        brain.tool = None
        return ctx.complete("Rome")

    get_city = Task("get_city", instructions=INSTRUCTIONS, tools=[finish])

    @function_tool
    async def book(ctx: RunContext[Any]) -> str:
        """Book the order."""
        brain.tool = None
        return f"Booked for {await ctx.run_task(get_city)}."

    def member(name: str, other: str) -> GraphDefinition:
        @function_tool(handoffs=[other])
        async def move(ctx: RunContext[Any]) -> Handoff:
            """Let the other one take over."""
            brain.tool = None
            return ctx.handoff(other)

        way = Handoff(other, f"Transfer the caller to {other}.")
        return GraphDefinition(name, instructions=INSTRUCTIONS, tools=[move, book], handoffs=[way], tasks=[get_city])

    agents = [member("front", "billing"), member("billing", "front"), get_city]
    return create_voice_graph(agents, llm=FakeModel(brain=brain)).compile()


@contextlib.asynccontextmanager
async def _a_talk(way: Way, stores: Stores) -> AsyncIterator[Talk]:
    brain, watch = Brain(), Watch()
    async with contextlib.AsyncExitStack() as stack:
        saver = await stack.enter_async_context(stores.open(way.store))
        bases = {name: type(name.title(), (Agent,), {}) for name in NAMES}  # so that the classes are this session's own
        agent = GraphAgent(_graph(brain), thread_id=stores.thread_id(), messages=history(10), saver=saver, bases=bases)
        stack.push_async_callback(agent.aclose)
        for name in NAMES:
            watch.listen(agent.agent_type(name))
        session: AgentSession[Any] = AgentSession(vad=None, turn_handling={"turn_detection": "manual"})
        stack.push_async_callback(session.aclose)
        await session.start(agent=agent)
        yield Talk(way, session, watch, brain, agent.conversation)


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "way": "",
            "what": "what happens",
            "chunk_ms_p50": "first chunk p50, ms",
            "chunk_ms_p95": "p95",
            "text_ms_p50": "first words p50, ms",
            "used_ms_p50": "processor until the first chunk, ms",
            "used_x_handoff": "x a handoff by a tool (in processor time)",
        },
    )


PART = Part("tasks", "a task begins and ends, beside a handoff in the same conversations", measure, table)
