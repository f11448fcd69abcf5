"""Random batches against the rules that hold for every one of them."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, ToolError, create_voice_graph, events, function_tool
from graph_voice.call.conversation import hear
from graph_voice.testing import ScriptedModel, call, check_prompt, run, say


class Caller(BaseModel):
    done: list[str] = []
    count: int = 0


@dataclass(frozen=True)
class Wanted:
    """One call of a random batch."""

    kind: str
    seconds: int = 0
    questions: int = 1
    target: str = "billing"

    @property
    def may_win(self) -> bool:
        return self.kind in ("move", "transfer", "ask_and_move")

    @property
    def asks(self) -> int:
        return self.questions if self.kind == "ask" else int(self.kind == "ask_and_move")


class World:
    """A graph, the batch that its first agent calls, and what the tools did by call id."""

    def __init__(self) -> None:
        self.finished: Counter[str] = Counter()
        self.wanted: list[Wanted] = []
        self.model = ScriptedModel(self.reply)
        handoffs = [Handoff("billing"), Handoff("support")]
        intake = Agent("intake", instructions="intake", tools=self.tools(), handoffs=handoffs)
        others = [Agent(name, instructions=name) for name in ("billing", "support")]
        self.graph = create_voice_graph([intake, *others], userdata=Caller, llm=self.model)

    def begin(self, wanted: list[Wanted]) -> None:
        self.finished.clear()
        self.model.prompts.clear()
        self.wanted = wanted

    def reply(self, messages: list[Any]) -> Any:
        if messages[0].text == "intake" and len(self.model.prompts) == 1:
            return say(*(as_call(w, f"c{n}") for n, w in enumerate(self.wanted)))
        return f"{messages[0].text} here."

    def tools(self) -> list[Any]:
        def end(ctx: RunContext[Caller]) -> None:
            assert ctx.tool_call_id is not None
            self.finished[ctx.tool_call_id] += 1
            ctx.userdata.done.append(ctx.tool_call_id)
            ctx.userdata.count += 1

        @function_tool
        async def work(ctx: RunContext[Caller], seconds: int) -> str:
            """Work."""
            await asyncio.sleep(seconds)
            end(ctx)
            return "worked"

        @function_tool
        async def refuse(ctx: RunContext[Caller], seconds: int) -> str:
            """Refuse."""
            await asyncio.sleep(seconds)
            end(ctx)
            raise ToolError("refused")

        @function_tool
        async def crash(ctx: RunContext[Caller], seconds: int) -> str:
            """Crash."""
            await asyncio.sleep(seconds)
            end(ctx)
            raise KeyError("secret")

        @function_tool
        async def ask(ctx: RunContext[Caller], seconds: int, questions: int) -> str:
            """Ask."""
            await asyncio.sleep(seconds)
            ctx.userdata.count += 100
            given = [interrupt(f"{ctx.tool_call_id}.{n}") for n in range(questions)]
            ctx.userdata.count -= 100
            end(ctx)
            return "/".join(given)

        @function_tool
        async def move(ctx: RunContext[Caller], seconds: int, to: str) -> Handoff:
            """Move."""
            await asyncio.sleep(seconds)
            end(ctx)
            return ctx.handoff(to)

        @function_tool
        async def ask_and_move(ctx: RunContext[Caller], seconds: int, to: str) -> Handoff:
            """Ask, then move."""
            await asyncio.sleep(seconds)
            interrupt(f"{ctx.tool_call_id}.0")
            end(ctx)
            return ctx.handoff(to)

        return [work, refuse, crash, ask, move, ask_and_move]


def as_call(wanted: Wanted, call_id: str) -> Any:
    if wanted.kind == "transfer":
        return call(f"transfer_to_{wanted.target}", id=call_id)
    if wanted.kind == "unknown":
        return call("nothing", id=call_id, unknown=True)
    if wanted.kind == "broken":
        return call("work", "no json", id=call_id)
    args: dict[str, Any] = {"seconds": wanted.seconds}
    if wanted.kind == "ask":
        args["questions"] = wanted.questions
    if wanted.may_win:
        args["to"] = wanted.target
    return call(wanted.kind, args, id=call_id)


WORLD = World()
"""Made once: building a graph takes longer than running it."""


def build(wanted: list[Wanted]) -> tuple[Any, ScriptedModel, World]:
    WORLD.begin(wanted)
    return WORLD.graph, WORLD.model, WORLD


def ordered(wanted: list[Wanted]) -> list[str]:
    """The call ids in the order of the settled message: calls with broken arguments are put last."""
    ids = [f"c{n}" for n in range(len(wanted))]
    return [i for i, w in zip(ids, wanted, strict=True) if w.kind != "broken"] + [
        i for i, w in zip(ids, wanted, strict=True) if w.kind == "broken"
    ]


def expected_answer(call_id: str, wanted: Wanted, winner: str | None, target: str) -> str:
    match wanted.kind:
        case "work":
            return "worked"
        case "refuse":
            return "refused"
        case "crash":
            return "An internal error occurred."
        case "ask":
            return "/".join(f"answer to {call_id}.{n}" for n in range(wanted.questions))
        case "unknown":
            return "Unknown tool nothing."
        case "broken":
            return "The arguments are not valid JSON"
    if call_id == winner:
        return f"Transferring to {wanted.target}."
    lost = f"the caller is being transferred to {target}."
    return f"not done: {lost}" if wanted.kind == "transfer" else f"The transfer did not take place: {lost}"


def check_answers(messages: list[Any], wanted: list[Wanted]) -> dict[str, ToolMessage]:
    """Every call is answered exactly once, in the calls' order, directly behind the message that calls."""
    asking = next(n for n, m in enumerate(messages) if isinstance(m, AIMessage) and m.tool_calls)
    behind = messages[asking + 1 : asking + 1 + len(wanted)]
    assert [m.tool_call_id for m in behind] == ordered(wanted)
    assert sum(isinstance(m, ToolMessage) for m in messages) == len(wanted)
    check_prompt([*messages, HumanMessage("And?", id="last")], allow=())
    return {m.tool_call_id: m for m in behind}


Kinds = st.builds(
    Wanted,
    kind=st.sampled_from(
        ["work", "work", "refuse", "crash", "ask", "ask", "move", "transfer", "ask_and_move", "unknown", "broken"]
    ),
    seconds=st.integers(0, 3),
    questions=st.integers(1, 2),
    target=st.sampled_from(["billing", "support"]),
)
Batches = st.lists(Kinds, min_size=1, max_size=5)


def check_batch(state: Any, wanted: list[Wanted], world: World) -> None:
    by_id = check_answers(state["messages"], wanted)
    kinds = {f"c{n}": w for n, w in enumerate(wanted)}
    winner = next((i for i in ordered(wanted) if kinds[i].may_win), None)
    target = kinds[winner].target if winner is not None else ""
    for call_id, w in kinds.items():
        assert by_id[call_id].text.startswith(expected_answer(call_id, w, winner, target))
    ran = [i for i, w in kinds.items() if w.kind not in ("transfer", "unknown", "broken")]
    assert world.finished == Counter(ran)
    assert sorted(state["userdata"].done) == ran
    assert state["userdata"].count == len(ran)
    assert state["active_agent"] == (target or "intake")
    assert len(state.get("handoffs") or []) == (winner is not None)


@settings(deadline=None, max_examples=40)
@given(Batches)
def test_a_batch_without_a_turn_keeps_the_rules_through_every_question(wanted: list[Wanted]) -> None:
    async def main() -> None:
        graph, model, world = build(wanted)
        compiled = graph.compile(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        state = await compiled.ainvoke({"messages": [HumanMessage("Hi", id="u")]}, config)
        asked = []
        while questions := [i.value for i in state.get("__interrupt__", ())]:
            assert len(questions) == 1
            asked += questions
            state = await compiled.ainvoke(Command(resume=f"answer to {questions[0]}"), config)
        expected = [f"{i}.{q}" for i in ordered(wanted) for q in range(wanted[int(i[1:])].asks)]
        assert asked == expected
        check_batch(state, wanted, world)
        assert not model.errors

    run(main())


Decisions = st.lists(st.sampled_from(["allow", "allow", "allow", "deny", "resolve"]), min_size=5, max_size=5)


@settings(deadline=None, max_examples=40)
@given(
    Batches.filter(lambda batch: not any(w.asks for w in batch)),
    Decisions,
    st.lists(st.integers(0, 3), min_size=5, max_size=5),
    st.one_of(st.none(), st.none(), st.integers(0, 8)),
)
def test_a_batch_of_a_turn_does_what_the_front_end_says(
    wanted: list[Wanted], decisions: list[str], delays: list[int], barge_in: int | None
) -> None:
    async def main() -> None:
        graph, model, world = build(wanted)
        conversation: Conversation[Caller] = Conversation(graph)
        turn = conversation.turn("Hi")
        allowed: set[str] = set()

        async def decide() -> None:
            for n, (decision, delay) in enumerate(zip(decisions, delays, strict=True)):
                await asyncio.sleep(delay)
                if n >= len(wanted):
                    return
                if decision == "allow":
                    if not turn.interrupted:
                        allowed.add(f"c{n}")
                    turn.allow(f"c{n}")
                elif decision == "deny":
                    turn.deny(f"c{n}", "no")
                else:
                    turn.resolve(f"c{n}", "mocked")

        async def speak_up() -> None:
            if barge_in is not None:
                await asyncio.sleep(barge_in + 0.5)
                turn.interrupt()

        helpers = []
        turn.commit()
        async for event in turn:
            if isinstance(event, events.ToolCalls):
                helpers = [asyncio.create_task(decide()), asyncio.create_task(speak_up())]
            else:
                hear(turn, event)
        turn.close()
        await asyncio.gather(*helpers)
        state = conversation.state
        messages = conversation.messages
        check_prompt([*messages, HumanMessage("And?", id="last")], allow=())
        kinds = {f"c{n}": w for n, w in enumerate(wanted)}
        able = [i for i, w in kinds.items() if w.kind not in ("transfer", "unknown", "broken")]
        assert world.finished == Counter(i for i in able if i in allowed)
        assert sorted(conversation.userdata.done) == sorted(world.finished)
        assert conversation.userdata.count == len(world.finished)
        moved = len(state.get("handoffs") or [])
        assert moved <= 1
        assert (conversation.active_agent != "intake") == bool(moved)
        if moved:
            movers = [i for i in ordered(wanted) if kinds[i].may_win and i in allowed]
            assert conversation.handoffs[0]["tool_call_id"] == movers[0]
        if any(isinstance(m, ToolMessage) for m in messages):
            check_answers(messages, wanted)
        assert not model.errors

    run(main())


@settings(deadline=None, max_examples=40)
@given(Batches)
def test_a_batch_of_a_conversation_keeps_the_rules_through_every_question(wanted: list[Wanted]) -> None:
    """The caller answers each question with the next turn."""

    async def main() -> None:
        graph, model, world = build(wanted)
        conversation: Conversation[Caller] = Conversation(graph)
        seen = await conversation.run("Hi")
        asked = []
        while questions := [e.question for e in seen if isinstance(e, events.Interrupt)]:
            assert len(questions) == 1
            asked += questions
            seen = await conversation.run(f"answer to {questions[0]}")
        assert asked == [f"{i}.{q}" for i in ordered(wanted) for q in range(wanted[int(i[1:])].asks)]
        check_batch(conversation.state, wanted, world)
        assert not model.errors

    run(main())
