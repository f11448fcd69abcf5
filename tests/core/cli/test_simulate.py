"""`graph-voice simulate` as it is used: scenarios beside a graph, models at a server, reports, the exit code."""

import gc
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langsmith_sink import LangSmithSink
from openai_server import OpenAIServer, tools_of

from graph_voice.cli import main
from graph_voice.cli import simulate as simulate_command
from graph_voice.testing.simulation import Report, Run, load_scenarios
from graph_voice.testing.simulation.experiment import send_experiment

AGENT = """
from graph_voice import Agent, RunContext, create_voice_graph, function_tool
print("loading")

@function_tool
async def book(ctx: RunContext, day: str) -> str:
    \"\"\"Book a table.\"\"\"
    return f"Booked for {day}."

graph = create_voice_graph([Agent("desk", instructions="You book tables.", on_enter="Greet.", tools=[book])])
"""
SCENARIOS = """
name: Tables
scenarios:
  - label: Books a table
    instructions: You want a table for Friday.
    agent_expectations: A table is booked for Friday.
    tags: {feature: booking}
    userdata:
      graph_voice:
        caller: [A table for Friday.]
        expect: {tools: {book: 1}}
  - label: Says nothing
    instructions: You say nothing, and hang up.
    userdata:
      graph_voice:
        caller: [{silence: 5}]
        expect: {tools: {book: 0}}
"""


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, scenarios: str = SCENARIOS) -> str:
    (folder / "agent.py").write_text(AGENT)
    (folder / "scenarios.yaml").write_text(scenarios)
    return str(folder / "agent.py")


def answer(body: dict[str, Any]) -> Any:
    """All three models: the agent's, the caller's and the judge's."""
    tools, last = tools_of(body), body["messages"][-1]
    shown = str(last["content"])
    if "submit_verdict" in tools:
        booked = "book answers" in shown
        return [("submit_verdict", {"verdict": "pass" if booked else "fail", "reason": "as the record shows"})]
    if "hang_up" in tools:
        if "Agent: It is booked" in shown or "You say nothing" in str(body["messages"][0]["content"]):
            return [("hang_up", {"reason": "done"})]
        return [("say", {"text": "A table for Friday, please."})]
    if last["role"] == "tool":
        return "It is booked for Friday."
    return [("book", {"day": "Friday"})] if "table" in shown else "Welcome to the restaurant."


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as running:
        yield running


def at(server: OpenAIServer, *more: str) -> list[str]:
    return ["--base-url", server.url, "--llm", "agents", *more]


@pytest.mark.parametrize("front_end", ["core", "livekit"])
def test_models_at_a_server_play_the_agents_the_callers_and_the_judges(
    tmp_path: Path, server: OpenAIServer, front_end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, out = write(tmp_path), tmp_path / "out"
    options = ["--caller", "person", "--judge", "judge", "--front-end", front_end, "-n", "2", "--output", str(out)]
    code = main(["simulate", graph, *at(server, *options)])
    report = Report.read(out / "report.json")
    assert [(run.scenario, run.status) for run in report.runs] == [
        ("Books a table", "passed"),
        ("Books a table", "passed"),
        ("Says nothing", "failed"),
        ("Says nothing", "failed"),
    ], report.markdown()
    assert code == 1
    assert report.models == {"agents": f"agents at {server.url}", "caller": "person", "judges": "judge"}
    booked = report.runs[0]
    assert [line.text for line in booked.lines if line.kind == "says"] == [
        "Welcome to the restaurant.",
        "A table for Friday, please.",
        "It is booked for Friday.",
    ]
    assert {v.judge for v in booked.verdicts if v.verdict == "pass"} >= {"expectations", "tool_use", "safety"}
    assert all(used.input and used.output for used in booked.tokens.values())
    assert {body["model"] for body in server.requests} == {"agents", "person", "judge"}
    shown = capsys.readouterr()
    assert "Books a table  2 of 2" in shown.out
    assert "50% (2 of 4; 15% to 85%) of the calls passed." in shown.out
    assert "loading" not in shown.out
    assert "failed Says nothing #1: task_completion: as the record shows" in shown.err


def test_scripted_callers_by_label_tag_or_id(tmp_path: Path, server: OpenAIServer, capsys: Any) -> None:
    graph = write(tmp_path)
    assert main(["simulate", graph, *at(server, "--scenario", "NOTHING", "--json")]) == 0
    assert [run["scenario"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["Says nothing"]
    assert main(["simulate", graph, *at(server, "--scenario", "feature=booking")]) == 0
    assert main(["simulate", graph, *at(server, "--scenario", "weather")]) == 1
    assert "It has:\n  Books a table" in capsys.readouterr().err


def test_the_exit_code_follows_the_pass_rate_and_the_comparison(tmp_path: Path, server: OpenAIServer) -> None:
    graph, before = write(tmp_path), tmp_path / "before"
    assert main(["simulate", graph, *at(server, "-n", "9", "--output", str(before))]) == 0
    (tmp_path / "simulation.py").write_text("def check(scenario, call):\n    return 'worse'\n")
    compared = ["--compare", str(before / "report.json"), "--output", str(tmp_path / "now")]
    assert main(["simulate", graph, *at(server, "-n", "9", "--pass-rate", "0", *compared)]) == 1
    assert "| Books a table | 100% of 9 | 0% of 9 |" in (tmp_path / "now" / "report.md").read_text()
    assert main(["simulate", graph, *at(server, "-n", "9", "--pass-rate", "0")]) == 0


def test_a_file_of_functions_prepares_and_checks_each_call(tmp_path: Path, server: OpenAIServer, capsys: Any) -> None:
    graph = write(tmp_path)
    (own := tmp_path / "own.py").write_text(
        "from graph_voice.testing.simulation import Setup\n"
        "def setup(scenario):\n"
        "    return Setup(mocks={'desk': {'book': lambda day: 'We are full.'}})\n"
        "def check(scenario, call):\n"
        "    assert not list(call.effects), 'the real tool ran'\n"
    )
    assert main(["simulate", graph, *at(server, "--setup", str(own))]) == 0
    (other := tmp_path / "other.py").write_text("x = 1\n")
    assert main(["simulate", graph, *at(server, "--setup", str(other))]) == 1
    assert "neither a function setup(scenario) nor check(scenario, call)" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path, server: OpenAIServer, capsys: Any) -> None:
    graph = write(tmp_path)
    (tmp_path / "scenarios.yaml").unlink()
    assert main(["simulate", graph, *at(server)]) == 1
    assert "has no scenarios: there is neither" in capsys.readouterr().err
    (tmp_path / "agent.scenarios.yaml").write_text(SCENARIOS)
    assert main(["simulate", graph, *at(server)]) == 0
    assert main(["simulate", graph, *at(server, "--judges", "taste", "--judge", "j")]) == 1
    assert "there is no judge 'taste'" in capsys.readouterr().err
    assert main(["simulate", graph, *at(server, "--compare", str(tmp_path / "none.json"))]) == 1
    assert main(["simulate", graph, *at(server, "-n", "0")]) == 2


def test_a_report_of_other_scenarios_is_no_comparison(tmp_path: Path, server: OpenAIServer, capsys: Any) -> None:
    graph = write(tmp_path)
    other = Report(graph="other.py", runs=[Run(scenario="Another", number=1, status="passed", ended="")]).write(
        tmp_path
    )
    assert main(["simulate", graph, *at(server, "--compare", str(other[1]))]) == 1
    assert "a report of other.py, which has none of these scenarios" in capsys.readouterr().err


# A connection that Ctrl-C cuts off while it is opened is never awaited (anyio): it is collected here, not in
# the test that comes next.
@pytest.mark.filterwarnings("ignore:.*connect_tcp:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:.*connect_tcp:RuntimeWarning")
def test_ctrl_c_keeps_the_calls_that_are_over(
    tmp_path: Path, server: OpenAIServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, over = write(tmp_path), simulate_command._Screen.over

    def stop(self: Any, run: Run, done: int, total: int) -> None:
        over(self, run, done, total)
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate_command._Screen, "over", stop)
    assert main(["simulate", graph, *at(server, "-n", "5", "--output", str(tmp_path / "report"))]) == 130
    told = capsys.readouterr()
    assert "It was stopped: 1 of 10 calls were over." in told.out
    assert "Traceback" not in told.err
    assert logging.getLogger("graph_voice").isEnabledFor(logging.ERROR)  # what runs next in this process logs
    report = Report.read(tmp_path / "report" / "report.json")
    assert (len(report.runs), report.planned) == (1, 10)
    assert "It was stopped" in report.markdown()
    assert "It was stopped" in report.html()
    gc.collect()


def test_the_samples_scenarios_pass_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    assert main(["simulate", "graphs/customer_service.py", "--llm", "offline"]) == 0


def test_a_report_becomes_an_experiment_in_langsmith(
    tmp_path: Path, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = write(tmp_path)
    with LangSmithSink() as langsmith:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", langsmith.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "none")
        options = ["--judge", "judge", "--judges", "accuracy", "--langsmith", "tables", "-n", "2"]
        assert main(["simulate", graph, *at(server, *options)]) == 1
        assert list(langsmith.datasets) == ["tables"]
        (project,) = langsmith.projects
        assert project["reference_dataset_id"] == langsmith.datasets["tables"]["id"]
        examples = {e["inputs"]["scenario"]: e for e in langsmith.examples.values()}
        assert set(examples) == {"Books a table", "Says nothing"}
        client = langsmith.client()
        client.flush()
        found = {run.name: run for run in langsmith.roots if run.name.startswith(("Books", "Says"))}
        assert set(found) == {f"{name} #{n}" for name in examples for n in (1, 2)}
        one = found["Books a table #1"]
        assert one.fields["reference_example_id"] == examples["Books a table"]["id"]
        assert one.fields["session_name"] == project["name"]
        assert one.outputs["messages"][-1]["content"] == "It is booked for Friday."
        said = {f["key"]: f["score"] for f in langsmith.feedback if f["run_id"] == one.id}
        assert said == {"passed": 1, "accuracy": 1}
        # A second experiment is on the same examples, brought up to date.
        scenarios = load_scenarios(tmp_path / "scenarios.yaml")
        changed = [s.model_copy(update={"agent_expectations": "Another."}) for s in scenarios]
        send_experiment(Report(graph="g"), changed, "tables", client=client)
        assert len(langsmith.examples) == len(langsmith.projects) == 2
        assert {e["outputs"]["agent_expectations"] for e in langsmith.examples.values()} == {"Another."}
