"""A recorded call becomes a test, which plays it again word for word, and fails when something else happens."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langsmith_sink import LangSmithSink
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, ToolError, create_voice_graph, function_tool
from graph_voice.cli import main
from graph_voice.testing import Call, PlanError, ScriptedModel, call, recorded_test, run, say
from graph_voice.testing.recorded import RecordError, from_folder, from_messages, from_runs, from_thread

MODULE = "recorded_graph"
GRAPH = f"{MODULE}:graph"


class Booking(BaseModel):
    days: list[str] = []
    guest: str = ""


class Desk(Agent):
    """Speaks by itself when it enters, and while a tool runs."""

    instructions = "You book tables."

    async def on_enter(self, ctx: RunContext[Booking]) -> None:
        await ctx.say("Welcome to the bistro.")

    @function_tool
    async def book(self, ctx: RunContext[Booking], day: str) -> str:
        """Book a table."""
        await ctx.say("I am writing it down.")
        ctx.userdata.days.append(day)
        return f"Booked for {day}."

    @function_tool(handoffs=["kitchen"])
    async def ask_the_kitchen(self, ctx: RunContext[Booking]) -> Any:
        """Ask the kitchen."""
        return ctx.handoff("kitchen", say="Let me ask the kitchen for you.")


def graph(
    *, desk: str = "You book tables.", line: str = "I am putting you through to billing.", answer: str = "5 euros"
) -> Any:
    @function_tool
    async def look_up(ctx: RunContext[Booking]) -> str:
        """Look up what is owed."""
        return answer

    first = Desk("desk", instructions=desk, handoffs=[Handoff("billing", "Billing.", say=line), "kitchen"])
    back = [Handoff("desk", "Back to the desk.")]
    billing = Agent("billing", instructions="Bills.", tools=[look_up], handoffs=back)
    kitchen = Agent("kitchen", instructions="You cook.", on_enter="Say hello.", handoffs=back)
    return create_voice_graph([first, billing, kitchen], userdata=Booking)


@pytest.fixture(autouse=True)
def _module() -> Iterator[None]:
    put(graph())
    yield
    del sys.modules[MODULE]


def put(made: Any) -> None:
    """Make this the graph that the path in the tests leads to."""
    module = ModuleType(MODULE)
    module.graph = made  # type: ignore[attr-defined]
    sys.modules[MODULE] = module


SCRIPT = {
    "desk": [
        say("One moment.", call("book", {"day": "Friday"})),
        "Your table is booked for Friday.",
        say("Of course.", call("transfer_to_billing")),
        call("ask_the_kitchen"),
    ],
    "billing": [
        "This is billing.",
        call("look_up"),
        "You owe five euros, to pay later.",
        call("transfer_to_desk"),
    ],
    "kitchen": ["The kitchen here, hello.", "Fish, with rice."],
}


async def played(front_end: str = "core", **options: Any) -> Call[Any]:
    """A call with a tool that speaks, a transfer with a line, and a caller who cuts in twice."""
    async with Call(graph(), llm=ScriptedModel(SCRIPT), front_end=front_end, check=False, **options) as phone:
        await phone.says("A table for Friday.")
        await phone.says("And my bill?")
        phone.barge_in("Back, please.", after_words=3)
        await phone.says("How much?")
        await phone.says("What is for dinner?")
        await phone.says("With what?")
    return phone


def passes(source: str) -> None:
    """Run the tests of this file."""
    names: dict[str, Any] = {"__name__": "made"}
    exec(compile(source, "made.py", "exec"), names)
    exact, loose = (test for name, test in names.items() if name.startswith("test_"))
    run(exact())
    with pytest.raises(pytest.skip.Exception):
        run(loose())


@pytest.mark.parametrize("front_end", ["core", "livekit"])
def test_a_call_is_played_again_word_for_word(front_end: str) -> None:
    phone = run(played(front_end))
    source = recorded_test(phone, graph=GRAPH, name="Call 7!")
    assert "async def test_call_7_word_for_word() -> None:" in source
    assert "phone.barge_in('Back, please.', after_words=" in source
    assert "'desk: Welcome to the bistro.'" in source
    assert "'desk: I am writing it down.'" in source or "desk: One moment. I am writing it down." in source
    assert "'kitchen: Fish, with rice.'" in source
    assert "assert phone.public_userdata == {'days': ['Friday']}" in source
    passes(source)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"answer": "6 euros"}, "look_up answers: 6 euros"),
        ({"line": "Please hold."}, "Please hold."),
        ({"desk": "You book tables, and nothing else."}, "other instructions"),
    ],
)
def test_the_test_fails_when_the_program_or_a_prompt_changes(change: dict[str, str], seen: str) -> None:
    source = recorded_test(run(played()), graph=GRAPH)
    put(graph(**change))
    with pytest.raises(AssertionError) as error:
        passes(source)
    assert seen in str(error.value) or seen in str(error.traceback[-1].frame.f_locals.get("result"))


def test_a_prompt_may_be_left_out_of_the_test() -> None:
    source = recorded_test(run(played()), graph=GRAPH, prompts=False)
    assert "INSTRUCTIONS" not in source
    put(graph(desk="You book tables, and nothing else."))
    passes(source)


def test_a_tool_that_is_gone_makes_it_fail() -> None:
    source = recorded_test(run(played()), graph=GRAPH)
    put(create_voice_graph([Agent("desk", instructions="You book tables.")], userdata=Booking))
    with pytest.raises(AssertionError):
        passes(source)


def test_a_tool_that_answers_as_it_did_does_not_run() -> None:
    phone = run(played())
    put(graph(answer="another sum"))
    assert "'look_up answers: another sum'" in recorded_test(phone, graph=GRAPH)
    source = recorded_test(phone, graph=GRAPH, mock=["look_up"])
    assert "'look_up answers: 5 euros'" in source
    assert "mocks=answers(graph, ANSWERS)" in source
    passes(source)
    with pytest.raises(RecordError, match="no agent of the graph has the tool 'pay'"):
        recorded_test(phone, graph=GRAPH, mock=["pay"])


@pytest.mark.parametrize("front_end", ["core", "livekit"])
def test_a_mocked_tool_fails_as_it_did(front_end: str) -> None:
    ran: list[str] = []

    def shop() -> Any:
        @function_tool
        async def charge(ctx: RunContext[Any], card: str) -> str:
            """Charge a card."""
            ran.append(card)
            if card == "A":
                raise ToolError("This card was refused.")
            return "Charged."

        return create_voice_graph([Agent("desk", instructions="You sell.", tools=[charge])])

    replies = [call("charge", {"card": "A"}), "It was refused.", call("charge", {"card": "B"}), "Thank you."]

    async def talk() -> Call[Any]:
        async with Call(shop(), llm=ScriptedModel(replies), front_end=front_end) as phone:
            await phone.says("Card A.")
            await phone.says("Then card B.")
        return phone

    put(shop())
    phone = run(talk())
    source = recorded_test(phone, graph=GRAPH, mock=["charge"])
    assert "'charge fails: This card was refused.'" in source
    passes(source)
    assert ran == ["A", "B"]


def test_userdata_at_the_beginning() -> None:
    phone = run(played(userdata=Booking(guest="Ada")))
    source = recorded_test(phone, graph=GRAPH, userdata={"guest": "Ada"})
    assert "'guest': 'Ada', 'days': ['Friday']" in source or "'days': ['Friday'], 'guest': 'Ada'" in source
    passes(source)


def test_what_does_not_go_as_recorded_is_told() -> None:
    talk = [HumanMessage("Hello?"), AIMessage("Hi.", name="desk")]
    with pytest.raises(RecordError, match=r"At the beginning|After 'Hello\?'"):
        recorded_test([AIMessage("Something else.", name="desk"), *talk], graph=GRAPH)
    with pytest.raises(RecordError, match="the caller said nothing"):
        recorded_test([AIMessage("Hi.", name="desk")], graph=GRAPH)


LINES = st.lists(st.sampled_from(["one", "two", "three", "four", "five"]), min_size=1, max_size=8).map(" ".join)

KINDS = st.sampled_from(["words", "book", "bill"])


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(LINES, KINDS, st.integers(0, 4)), min_size=1, max_size=5))
def test_any_call_is_played_again(turns: list[tuple[str, str, int]]) -> None:
    """Random answers, tools, transfers, and callers who cut in."""
    replies: list[Any] = []
    for line, kind, _ in turns:
        book, bill = say(line, call("book", {"day": line})), say(line, call("transfer_to_billing"))
        replies += {"book": [book, line], "bill": [bill], "words": [line]}[kind]

    def answer(messages: list[Any]) -> Any:
        return replies.pop(0) if replies else "That is all."

    async def talk() -> Call[Any]:
        model = ScriptedModel({"desk": answer, "billing": lambda m: "Billing here, what is it?", "kitchen": []})
        async with Call(graph(), llm=model, check=False) as phone:
            for number, (_, _, words) in enumerate(turns):
                if words:
                    phone.barge_in(f"cut {number}", after_words=words)
                with contextlib.suppress(PlanError):  # the answer had fewer words
                    await phone.says(f"say {number}")
        return phone

    source = recorded_test(run(talk()), graph=GRAPH)
    passes(source)


# ---- where calls are recorded


async def conversed(**options: Any) -> Conversation[Any]:
    model = ScriptedModel(SCRIPT)
    conversation = Conversation(graph(), thread_id="call-7", config={"configurable": {"llm": model}}, **options)
    await conversation.open()
    await conversation.run()
    for text in ("A table for Friday.", "And my bill?", "How much?"):
        await conversation.run(text)
    await conversation.aclose()
    return conversation


def test_a_thread_of_a_store_is_read_and_not_taken() -> None:
    saver = InMemorySaver()
    run(conversed(saver=saver))
    before = [c.checkpoint["id"] for c in saver.list(None)]
    found = run(from_thread(graph(), saver, "call-7"))
    assert [c.checkpoint["id"] for c in saver.list(None)] == before
    assert [turn.said for turn in found.turns] == [None, "A table for Friday.", "And my bill?", "How much?"]
    passes(recorded_test(found, graph=GRAPH))
    with pytest.raises(RecordError, match="no call under the thread 'call-8'"):
        run(from_thread(graph(), saver, "call-8"))


def test_a_trace_has_the_models_own_answers() -> None:
    with LangSmithSink() as langsmith:
        tracer = LangChainTracer(client=langsmith.client())

        async def talk() -> Call[Any]:
            return await played(config={"callbacks": [tracer]}, thread_id="call-9")

        run(talk())
        langsmith.wait()
        runs = [found.fields for found in langsmith.runs.values()]
    found = from_runs(json.loads(json.dumps(runs, default=str)))
    assert found.name == "call-9"
    assert found.exact
    assert [turn.said for turn in found.turns if turn.cut] == ["How much?"]
    texts = [reply.text for turn in found.turns for reply in turn.replies]
    assert "You owe five euros, to pay later." in texts  # also what nobody heard
    assert not any("writing it down" in text for text in texts)
    passes(recorded_test(found, graph=GRAPH))
    with pytest.raises(RecordError, match="no turn of a call"):
        from_runs([])


def test_a_folder_of_demo() -> None:
    from graph_voice_livekit.console.state_file import describe_state

    async def talk() -> dict[str, Any]:
        return describe_state((await played()).conversation)

    state = run(talk())
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "bistro-0"
        folder.mkdir()
        (folder / "state.json").write_text(json.dumps(state, default=str))
        found = from_folder(folder)
        assert found.name == "bistro-0"
        passes(recorded_test(found, graph=GRAPH))
        with pytest.raises(RecordError, match="Name one of them"):
            from_folder(made)
        (folder / "state.json").write_text("{}")
        with pytest.raises(RecordError, match="no state of a call"):
            from_folder(folder)


def test_words_that_were_not_answered_are_one_turn_with_the_next() -> None:
    found = from_messages([HumanMessage("Hello."), HumanMessage("Anybody?"), AIMessage("Yes.", name="desk")])
    assert [(turn.said, turn.heard) for turn in found.turns] == [("Hello. Anybody?", "Yes.")]


# ---- the command


def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = str(tmp_path / "calls.db")

    async def talk() -> None:
        async with AsyncSqliteSaver.from_conn_string(store) as saver:
            await conversed(saver=saver)

    import asyncio

    asyncio.run(talk())
    out = tmp_path / "test_call.py"
    assert main(["record-test", GRAPH, "--thread", "call-7", "--store", store, "-o", str(out)]) == 0
    passes(out.read_text())
    assert main(["record-test", GRAPH, "--thread", "call-7", "--store", store, "--name", "x", "--no-prompts"]) == 0
    made = capsys.readouterr().out
    assert "async def test_x_word_for_word" in made
    passes(made)
    for arguments, problem in (
        (["--thread", "call-8", "--store", store], "no call under the thread"),
        (["--thread", "call-7", "--store", str(tmp_path / "none.db")], "there is no file"),
        (["--trace", str(out)], "not a JSON list"),
        (["--folder", str(tmp_path)], "is no call that"),
    ):
        assert main(["record-test", GRAPH, *arguments]) == 1
        assert problem in capsys.readouterr().err
    assert main(["record-test", GRAPH]) == 2
    assert main(["record-test", GRAPH, "--store", store]) == 2
