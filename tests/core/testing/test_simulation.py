"""Simulated callers: what they do in a call, how it is graded, and what the report says of it."""

import asyncio
import math
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from pydantic import BaseModel

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say, simulate
from graph_voice.testing.simulation import (
    HangUp,
    Judge,
    Line,
    Report,
    Say,
    Scenario,
    ScenarioError,
    Setup,
    Silence,
    load_scenarios,
)
from graph_voice.testing.simulation.compare import compare
from graph_voice.testing.simulation.results import Rate, Run, wilson

both = pytest.mark.parametrize("front_end", ["core", "livekit"])


class Booking(BaseModel):
    day: str = ""
    guest: dict[str, str] = {}


@function_tool
async def book(ctx: RunContext[Booking], day: str) -> str:
    """Book a table."""
    ctx.userdata.day = day
    return f"Booked for {day}."


def graph() -> Any:
    desk = Agent(
        "desk",
        instructions="You book tables.",
        on_enter="Greet.",
        tools=[book],
        handoffs=[Handoff("billing", "To billing.", say="One moment, I am putting you through to billing.")],
    )
    return create_voice_graph([desk, Agent("billing", instructions="Bills.")], userdata=Booking)


BOOKS = ["Welcome.", call("book", {"day": "Friday"}), "Your table for Friday is booked."]


def model(*replies: Any) -> Callable[[Scenario], ScriptedModel]:
    return lambda scenario: ScriptedModel(list(replies or BOOKS))


def scenario(*caller: Any, expect: Any = None, **own: Any) -> Scenario:
    own = {"caller": list(caller) or ["A table for Friday."], "expect": expect or {}, **own}
    return Scenario(label="Books", instructions="Book a table.", userdata={"graph_voice": own})


def only(report: Report) -> Run:
    (run,) = report.runs
    return run


# ---- what the caller does


@both
def test_a_call_passes_when_the_final_state_is_as_expected(front_end: str) -> None:
    expect = {"userdata": {"day": "Friday"}, "active_agent": "desk", "tools": {"book": 1}}
    report = simulate(graph(), [scenario(expect=expect)], llm=model(), n=3, front_end=front_end)
    assert report.rate == Rate(3, 3), report.markdown()
    assert report.front_end == front_end
    assert report.effects == {"book": 3}
    assert report.tokens["agents"].output > 0
    run = report.runs[0]
    assert run.ended == "the caller hung up"
    assert [(line.who, line.text) for line in run.lines if line.kind == "says"] == [
        ("desk", "Welcome."),
        ("caller", "A table for Friday."),
        ("desk", "Your table for Friday is booked."),
    ]
    assert run.turns == 1
    assert run.userdata == {"day": "Friday"}
    assert {m["role"] for m in run.trajectory} == {"assistant", "user", "tool"}


@both
@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ({"userdata": {"day": "Monday"}}, "userdata.day is 'Friday', not 'Monday'"),
        ({"userdata": {"guest": {"name": "Ada"}}}, "userdata.guest.name is None, not 'Ada'"),
        ({"active_agent": "billing"}, "the active agent is desk, not billing"),
        ({"tools": {"book": 0}}, "the tool book acted 1 times, not 0"),
    ],
)
def test_a_call_fails_when_the_final_state_is_another(front_end: str, expect: Any, problem: str) -> None:
    run = only(simulate(graph(), [scenario(expect=expect)], llm=model(), front_end=front_end))
    assert (run.status, run.problems) == ("failed", [problem])


@both
def test_the_caller_cuts_in_and_the_words_that_were_not_heard_are_told(front_end: str) -> None:
    caller = [{"say": "My bill.", "cut_in": "No, wait.", "after_words": 3}]
    replies = ["Welcome.", "One two three four five six seven eight nine ten.", "I am waiting."]
    run = only(simulate(graph(), [scenario(*caller)], llm=model(*replies), front_end=front_end))
    assert run.passed, run.reasons
    (cut,) = [line for line in run.lines if line.unheard]
    assert cut.text.startswith("One two three")
    assert cut.unheard.endswith("nine ten.")
    assert f"{cut.text} {cut.unheard}" == replies[1]
    assert [line.text for line in run.lines if line.who == "caller"][:2] == ["My bill.", "No, wait."]
    assert "~~" in Report(graph="g", runs=[run.model_copy(update={"status": "failed"})]).markdown()
    assert f"<s>{cut.unheard}</s>" in Report(graph="g", runs=[run]).html()


def test_a_caller_who_is_too_late_to_cut_in_says_it_afterwards() -> None:
    caller = [{"say": "Hello?", "cut_in": "A table for Friday.", "after_words": 30}]
    run = only(simulate(graph(), [scenario(*caller)], llm=model("Welcome.", "Yes?", *BOOKS[1:])))
    assert run.passed, run.reasons
    assert [line.text for line in run.lines if line.who == "caller"] == [
        "Hello?",
        "did not get to cut in with: A table for Friday.",
        "A table for Friday.",
        "hangs up: the script is over",
    ]


def test_a_silent_caller_passes_time_on_the_calls_clock() -> None:
    run = only(simulate(graph(), [scenario({"silence": 40}, {"hang_up": "nothing to say"})], llm=model("Welcome.")))
    assert run.passed, run.reasons
    assert run.seconds >= 40
    assert run.lines[-1].text == "hangs up: nothing to say"


def test_a_call_without_an_end_fails() -> None:
    endless = ScriptedModel(lambda messages: "Yes?")
    run = only(simulate(graph(), [scenario(*["Hm."] * 9)], llm=endless, max_turns=4))
    assert (run.status, run.ended, run.turns) == ("failed", "too many turns", 4)


@both
def test_an_agent_ends_the_call(front_end: str) -> None:
    @function_tool
    async def goodbye(ctx: RunContext[Any]) -> str:
        """End the call."""
        ctx.end_call()
        return "Said goodbye."

    ends = create_voice_graph([Agent("desk", instructions="D.", tools=[goodbye])])
    replies = [call("goodbye"), "Goodbye."]
    run = only(simulate(ends, [scenario("Bye.", "Still there?")], llm=model(*replies), front_end=front_end))
    assert (run.status, run.ended, run.turns) == ("passed", "the agents ended the call", 1)


# ---- what it begins with


@both
def test_mocks_of_the_scenario_answer_in_the_tools_place(front_end: str) -> None:
    mocks = {"desk": {"book": {"error": "We are closed."}}}
    spec = scenario(mocks=mocks, expect={"userdata": {"day": ""}, "tools": {"book": 1}})
    run = only(simulate(graph(), [spec], llm=model(), front_end=front_end))
    assert run.passed, run.reasons
    assert [(e.tool, e.args, e.outcome, e.mocked) for e in run.effects] == [("book", {"day": "Friday"}, "failed", True)]
    assert "book fails: We are closed." in [line.text for line in run.lines]


def test_a_mock_of_a_tool_that_there_is_not_is_an_error() -> None:
    run = only(simulate(graph(), [scenario(mocks={"desk": {"bok": "x"}})], llm=model()))
    assert run.status == "error"
    assert "bok" in run.error


def test_userdata_of_the_scenario_is_validated() -> None:
    spec = scenario("Hello.", userdata={"day": "Monday"}, expect={"userdata": {"day": "Monday"}})
    assert only(simulate(graph(), [spec], llm=model("Welcome.", "Hello."))).passed
    for wrong in ({"day": ["no"]}, {"dya": "Monday"}):
        run = only(simulate(graph(), [scenario(userdata=wrong)], llm=model()))
        assert run.status == "error"
        assert "day" in run.error


def test_setup_makes_each_call_its_own_backend_and_checks_it() -> None:
    def setup(scenario: Scenario) -> Setup:
        booked: list[str] = []

        def mock(day: str) -> str:
            booked.append(day)
            return "Booked."

        def check(phone: Any) -> None:
            assert booked == [scenario.userdata["expected_booking"]]
            assert phone.active_agent == "desk"

        return Setup(check=check, mocks={"desk": {"book": mock}})

    good, bad = (scenario().model_copy(update={"label": day}) for day in ("Friday", "Monday"))
    listed = [s.model_copy(update={"userdata": {**s.userdata, "expected_booking": s.label}}) for s in (good, bad)]
    report = simulate(graph(), listed, llm=model(), setup=setup, n=2)
    assert report.scenarios == {"Friday": Rate(2, 2), "Monday": Rate(0, 2)}
    assert "['Friday'] == ['Monday']" in report.failures[0].problems[0]


def test_a_check_may_return_what_is_wrong_and_one_that_breaks_is_an_error() -> None:
    assert only(simulate(graph(), [scenario()], llm=model(), check=lambda s, c: "no")).problems == ["no"]

    def broken(scenario: Scenario, phone: Any) -> None:
        raise KeyError("slot")

    run = only(simulate(graph(), [scenario()], llm=model(), check=broken))
    assert (run.status, "KeyError" in run.error) == ("error", True)


def test_a_script_that_does_not_fit_is_an_error_and_not_a_failure_of_the_agents() -> None:
    run = only(simulate(graph(), [scenario("One.", "Two.", "Three.")], llm=model("Welcome.", "Yes?")))
    assert run.status == "error"
    assert "ScriptError" in run.error


def test_secrets_are_in_no_part_of_the_report() -> None:
    from pydantic import SecretStr

    class Secret(BaseModel):
        card: SecretStr | None = None

    @function_tool
    async def pay(ctx: RunContext[Secret], card: SecretStr) -> str:
        """Pay."""
        ctx.userdata.card = card
        return "Paid."

    shop = create_voice_graph([Agent("desk", instructions="D.", tools=[pay])], userdata=Secret)
    replies = [call("pay", {"card": "4111111111111111"}), "Paid with 4111111111111111."]
    report = simulate(shop, [scenario("My card is 4111 1111 1111 1111.")], llm=model(*replies))
    assert only(report).passed, report.markdown()
    for text in (report.json_text(), report.markdown(), report.html()):
        assert "4111" not in text


# ---- a model that calls


def persona(*moves: Any) -> ScriptedModel:
    return ScriptedModel(list(moves))


def test_a_model_that_calls_speaks_cuts_in_is_silent_and_hangs_up() -> None:
    moves = [
        say(call("say", {"text": "My bill."}), call("cut_in", {"text": "No, wait.", "after_words": 2})),
        call("stay_silent", {"seconds": 5}),
        "A table for Friday.",
        call("hang_up", {"reason": "done"}),
    ]
    caller = persona(*moves)
    replies = ["Welcome.", "One two three four five six.", "Yes?", *BOOKS[1:]]
    run = only(simulate(graph(), [scenario()], llm=model(*replies), caller=caller))
    assert run.passed, run.reasons
    assert [line.text for line in run.lines if line.who == "caller"] == [
        "My bill.",
        "No, wait.",
        "is silent for 5 seconds",
        "A table for Friday.",
        "hangs up: done",
    ]
    assert run.tokens["caller"].output > 0
    first, *_, last = (prompt.messages[-1].text for prompt in caller.prompts)
    assert "Agent: Welcome." in first
    assert "Agent: One two [the rest was cut off: not heard]" in last
    assert "three" not in last
    assert "book(" not in last  # tool calls are not heard
    assert "Booked for" not in last
    assert "Book a table." in caller.prompts[0].messages[0].text


def test_a_caller_that_answers_with_nothing_is_asked_again_then_the_call_is_an_error() -> None:
    moves = [call("dance", unknown=True), call("say", {"text": "A table for Friday."}), call("hang_up")]
    run = only(simulate(graph(), [scenario()], llm=model(), caller=persona(*moves)))
    assert run.passed, run.reasons
    moves = [call("cut_in", {"text": "x", "after_words": 1}), call("say", {"text": ""})]
    run = only(simulate(graph(), [scenario()], llm=model(), caller=persona(*moves)))
    assert (run.status, run.error.startswith("CallerError")) == ("error", True)


def test_the_seed_chooses_how_the_callers_speak() -> None:
    def manners(seed: int) -> list[str]:
        caller = ScriptedModel(lambda messages: call("hang_up"))
        report = simulate(graph(), [scenario()], llm=model("Welcome."), caller=caller, n=8, seed=seed)
        return [run.manner for run in report.runs]

    assert manners(1) == manners(1)
    assert manners(1) != manners(2)
    assert manners(1)[0] == ""


def test_a_caller_may_be_a_program() -> None:
    class Program:
        def __init__(self) -> None:
            self.moves: list[Any] = [Say("A table for Friday."), Silence(1), HangUp()]

        async def next(self, lines: Any) -> Any:
            assert all(isinstance(line, Line) for line in lines)
            return self.moves.pop(0)

    assert only(simulate(graph(), [scenario()], llm=model(), caller=lambda scenario: Program())).passed


# ---- judges


def judging(**verdicts: str) -> ScriptedModel:
    """A judge that says "pass", except where a word of the question is named."""

    def answer(messages: list[Any]) -> Any:
        question = messages[-1].text.split("\n\n")[0]
        said = next((v for word, v in verdicts.items() if word in question), "pass")
        return call("submit_verdict", {"verdict": said, "reason": f"because {said}"})

    return ScriptedModel(answer)


def test_all_judges_judge_and_one_that_says_fail_fails_the_call() -> None:
    spec = scenario().model_copy(update={"agent_expectations": "The table is booked."})
    judge = judging(brief="fail", relevancy="pass", hang="maybe")
    report = simulate(graph(), [spec], llm=model(), judge=judge)
    run = only(report)
    said = {v.judge: v.verdict for v in run.verdicts}
    assert said == {
        "expectations": "pass",
        "task_completion": "pass",
        "accuracy": "pass",
        "tool_use": "pass",
        "handoff": "n/a",
        "safety": "pass",
        "relevancy": "pass",
        "coherence": "maybe",
        "conciseness": "fail",
    }
    assert run.status == "failed"
    assert run.reasons == ["conciseness: because fail"]
    assert report.judges["coherence"] == Rate(0, 1)
    assert "handoff" not in report.judges
    assert run.tokens["judges"].output > 0
    shown = judge.prompts[0].messages[-1].text
    assert "[desk calls book(day='Friday')]" in shown
    assert "desk was told:\nYou book tables." in shown


def test_a_judge_that_gives_no_verdict_leaves_the_call_ungraded() -> None:
    for answer in ("Fine.", call("submit_verdict", {"verdict": "great", "reason": ""})):
        judge = ScriptedModel(lambda messages, answer=answer: answer)
        run = only(simulate(graph(), [scenario()], llm=model(), judge=judge, judges=["accuracy"]))
        assert (run.status, run.verdicts[0].verdict) == ("error", "error")


def test_a_judge_of_ones_own_and_evaluators_of_agentevals_and_openevals() -> None:
    from agentevals.trajectory.match import create_trajectory_match_evaluator
    from openevals.exact import exact_match

    own = Judge("politeness", "Was it polite?")
    calls = [{"function": {"name": "book", "arguments": '{"day": "Friday"}'}}]
    reference = [{"role": "user", "content": ""}, {"role": "assistant", "content": "", "tool_calls": calls}]
    spec = scenario()
    spec = spec.model_copy(update={"userdata": {**spec.userdata, "reference_outputs": reference}})
    matches = create_trajectory_match_evaluator(trajectory_match_mode="superset")
    judges = [own, matches, exact_match]
    run = only(simulate(graph(), [spec], llm=model(), judge=judging(polite="maybe"), judges=judges))
    assert [v.verdict for v in run.verdicts] == ["maybe", "pass", "fail"]
    assert run.verdicts[1].judge == "trajectory_superset_match"


def test_judges_that_there_are_not_or_that_have_no_model_are_refused() -> None:
    with pytest.raises(ScenarioError, match="there is no judge 'taste': they are expectations, task_completion"):
        simulate(graph(), [scenario()], llm=model(), judge=judging(), judges=["taste"])
    with pytest.raises(ScenarioError, match="name the model that judges"):
        simulate(graph(), [scenario()], llm=model(), judges=["accuracy"])


# ---- scenarios


LIVEKITS = """
id: SCNG_1
name: Visits
scenarios:
  - id: SCN_1
    label: Flexible
    instructions: |-
      You are Ada.
    agent_expectations: A visit is booked,
      once.
    tags:
      feature: booking
      level: 2
    userdata:
      available_slots:
        - "2026-06-15T10:00:00"
        - 2026-06-16T09:00:00
      expected_booking: null
  - label: Flexible
    instructions: You are Ben.
"""


def test_livekits_format_is_read_as_it_is(tmp_path: Path) -> None:
    (file := tmp_path / "scenarios.yaml").write_text(LIVEKITS)
    first, second = load_scenarios(file)
    assert first.agent_expectations == "A visit is booked, once."
    assert first.tags == {"feature": "booking", "level": "2"}
    slots = ["2026-06-15T10:00:00", "2026-06-16T09:00:00"]
    assert first.userdata == {"available_slots": slots, "expected_booking": None}
    assert (first.name, second.name) == ("Flexible", "Flexible (2)")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("scenarios: []", "holds no scenarios"),
        ("name: x", "holds no scenarios"),
        ("scenario: [{instructions: x}]\nscenarios: [{instructions: x}]", "'scenario' is not a key"),
        ("scenarios: [{label: a}]", r"scenario 1 \(a\): instructions: Field required"),
        ("scenarios: [{instructions: ' '}]", "instructions are empty"),
        ("scenarios: [{instructions: x, expectations: y}]", "expectations: there is no such key"),
        ("scenarios: [{instructions: x, userdata: 3}]", "write an object"),
        ("scenarios: [{instructions: x, userdata: {graph_voice: {caler: []}}}]", "caler"),
        ("scenarios: [{instructions: x, userdata: {graph_voice: {caller: [{say: a, silence: 3}]}}}]", "write one of"),
        ("scenarios: [{instructions: x, userdata: {graph_voice: {caller: [{silence: 1, cut_in: b}]}}}]", "cut_in"),
        ("scenarios: [{instructions: x, userdata: {graph_voice: {caller: [{sya: a}]}}}]", "sya.*may have: say, cut_in"),
        ("scenarios: [{instructions: x, userdata: {graph_voice: {expect: {agent: a}}}}]", "agent.*have: userdata, act"),
        ("scenarios: [a: b: c]", "is not YAML"),
    ],
)
def test_what_is_written_wrong_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (file := tmp_path / "scenarios.yaml").write_text(text)
    with pytest.raises(ScenarioError, match=problem):
        load_scenarios(file)
    with pytest.raises(ScenarioError, match="can't be read"):
        load_scenarios(tmp_path / "other.yaml")


def test_a_scenario_without_a_script_says_what_to_write() -> None:
    run = only(simulate(graph(), [Scenario(instructions="Call.")], llm=model()))
    assert run.status == "error"
    assert "caller: [...]" in run.error


# ---- the report


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilsons_interval(passed: int, more: int) -> None:
    total = passed + more - 1 or 1
    passed = min(passed, total)
    low, high = wilson(passed, total)
    share = passed / total
    assert 0 <= low <= share <= high <= 1
    mirrored = wilson(total - passed, total)
    assert math.isclose(mirrored[0], 1 - high, abs_tol=1e-9)
    # Its ends are where the share is just as far away as the interval allows, by the ends' own deviation.
    for end in (low, high):
        if 0 < end < 1:
            assert math.isclose((share - end) ** 2, 1.959963984540054**2 * end * (1 - end) / total, abs_tol=1e-9)


def runs(name: str, passed: int, total: int) -> list[Run]:
    return [
        Run(scenario=name, number=i + 1, status="passed" if i < passed else "failed", ended="") for i in range(total)
    ]


def test_a_comparison_tells_chance_from_change() -> None:
    earlier = Report(graph="g", runs=[*runs("a", 20, 20), *runs("b", 10, 20), *runs("gone", 1, 1)])
    now = Report(graph="g", runs=[*runs("a", 8, 20), *runs("b", 9, 20), *runs("new", 0, 20)])
    found = compare(earlier, now)
    said = {change.name: change.verdict for change in found.scenarios}
    assert said == {"a": "worse", "b": "may be chance", "new": "new", "gone": "gone"}
    assert (found.total.before, found.total.now) == (Rate(30, 40), Rate(17, 40))
    assert [change.name for change in found.worse] == ["all calls", "a"]
    assert "| a | 100% of 20 | 40% of 20 | -60% |" in now.markdown(earlier)
    assert ">worse<" in now.html(earlier)
    assert compare(earlier, earlier).worse == []


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_difference_is_within_its_interval_and_turns_its_sign(before: int, now: int) -> None:
    old, new = Report(graph="g", runs=runs("a", before, 40)), Report(graph="g", runs=runs("a", now, 40))
    change, back = compare(old, new).total, compare(new, old).total
    low, high = change.interval
    assert -1 <= low <= change.difference <= high <= 1
    assert math.isclose(back.interval[0], -high, abs_tol=1e-9)


def test_a_report_is_written_and_read_again(tmp_path: Path) -> None:
    hostile = scenario("<b>hi</b> | *x*").model_copy(update={"label": "a|b <script>"})
    replies = ("Welcome.", "</p><script>alert(1)</script>")
    report = simulate(graph(), [hostile], llm=model(*replies), check=lambda s, c: "no")
    written = report.write(tmp_path / "out")
    assert [path.name for path in written] == ["report.md", "report.json", "report.html"]
    assert Report.read(tmp_path / "out" / "report.json") == report
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;b&gt;hi" in page
    assert "a\\|b &lt;script>" in report.markdown()
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ScenarioError, match="is not a report"):
        Report.read(tmp_path / "x.json")
    with pytest.raises(AssertionError, match="is required"):
        report.require()


def test_latencies_are_those_of_the_calls_clock() -> None:
    slow = lambda scenario: ScriptedModel(BOOKS, first_token=0.7)  # noqa: E731
    report = simulate(graph(), [scenario()], llm=slow)
    assert only(report).latencies == [0.7, 1.4]  # the greeting, and an answer after a tool call
    assert report.latency == {"median": pytest.approx(1.05), "p95": 1.4, "longest": 1.4}


def test_calls_are_counted_as_they_end_and_numbers_below_one_are_refused() -> None:
    seen: list[tuple[int, int]] = []
    report = simulate(
        graph(), [scenario()], llm=model(), n=7, concurrency=3, on_run=lambda r, d, t: seen.append((d, t))
    )
    assert seen == [(i, 7) for i in range(1, 8)]
    assert [run.number for run in report.runs] == list(range(1, 8))
    for wrong in ("n", "concurrency", "max_turns"):
        with pytest.raises(ScenarioError, match=f"{wrong}=0"):
            simulate(graph(), [scenario()], llm=model(), **{wrong: 0})
    with pytest.raises(ScenarioError, match="no scenarios"):
        simulate(graph(), [], llm=model())


class NeverAnswers:
    """A model whose provider has stalled."""

    def bind_tools(self, tools: Any, **options: Any) -> "NeverAnswers":
        return self

    async def astream(self, *arguments: Any, **options: Any) -> Any:
        await asyncio.Event().wait()
        yield None


def test_a_simulation_on_the_real_clock_is_stopped_at_once() -> None:
    llms, over = iter([ScriptedModel(["Welcome."]), NeverAnswers()]), []

    def stop(run: Run, done: int, total: int) -> None:
        over.append(run.status)
        os.kill(os.getpid(), signal.SIGINT)

    spec = [scenario({"hang_up": ""})]
    with pytest.raises(KeyboardInterrupt):
        simulate(graph(), spec, llm=lambda s: next(llms), n=2, concurrency=2, clock="real", on_run=stop)
    assert over == ["passed"], "it has not waited for the one that is never over"


def test_a_simulation_that_is_stopped_leaves_no_call_behind() -> None:
    stalled = NeverAnswers()
    llms = iter([ScriptedModel(["Welcome."]), stalled, stalled])

    def stop(run: Run, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(graph(), [scenario({"hang_up": ""})], llm=lambda s: next(llms), n=3, concurrency=3, on_run=stop)
    for thread in [t for t in threading.enumerate() if t.name.startswith("graph_voice.simulation")]:
        thread.join(60)
        assert not thread.is_alive()


def test_a_real_model_takes_its_time_on_the_calls_clock() -> None:
    class Slow(NeverAnswers):
        async def astream(self, *arguments: Any, **options: Any) -> Any:
            await asyncio.sleep(0.05)
            yield AIMessageChunk("Welcome.")

    run = only(simulate(graph(), [scenario({"hang_up": ""})], llm=lambda s: Slow()))
    assert run.passed, run.reasons
    assert [line.text for line in run.lines if line.kind == "says"] == ["Welcome."]
    (latency,) = run.latencies
    assert latency >= 0.05


@both
def test_on_the_real_clock(front_end: str) -> None:
    quick = create_voice_graph([Agent("desk", instructions="D.")], llm=ScriptedModel(lambda messages: "Hi."))
    report = simulate(quick, [scenario("Hi.")], n=2, front_end=front_end)
    assert (report.clock, report.rate) == ("real", Rate(2, 2)), report.markdown()
