"""`graph-voice check` as it is used: findings on stdout, the exit code, nothing else."""

import json
from pathlib import Path

import pytest

from graph_voice.cli import main

HEAD = """
from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.testing import ScriptedModel
print("loading")
"""
GOOD = "graph = create_voice_graph([Agent('desk', instructions='Help.')], llm=ScriptedModel([]))\n"
WARNS = "graph = create_voice_graph([Agent('desk', instructions='Use transfer_to_sales.')], llm=ScriptedModel([]))\n"
NOTES = """
desk = Agent("desk", instructions="Help.", handoffs=[Handoff("billing", "Bills.")])
graph = create_voice_graph([desk, Agent("billing", instructions="Bill.")], llm=ScriptedModel([]))
"""
BAD = "graph = create_voice_graph([Agent('desk', instructions='Help.'), Agent('desk', instructions='Help.')])\n"


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, text: str) -> str:
    (folder / "agent.py").write_text(HEAD + text)
    return str(folder / "agent.py")


@pytest.mark.parametrize(
    ("text", "code", "strict", "last"),
    [
        (GOOD, 0, 0, "nothing found"),
        (NOTES, 0, 0, "1 info"),
        (WARNS, 0, 1, "1 warning"),
        (BAD, 1, 1, "1 error"),
    ],
)
def test_the_exit_code_tells_whether_it_is_fit(
    tmp_path: Path, text: str, code: int, strict: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(tmp_path, text)
    assert main(["check", spec]) == code
    assert capsys.readouterr().out.splitlines()[-1] == last
    assert main(["check", spec, "--strict"]) == strict


def test_a_finding_is_its_problem_and_below_it_what_to_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", write(tmp_path, WARNS)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        'warning: agent "desk" is told about transfer_to_sales, a tool that it does not have.',
        '  There is no agent "sales". The agent\'s transfers: none.',
        "1 warning",
    ]
    assert err == "loading\n"


def test_what_the_builder_refuses_is_a_finding_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(tmp_path, BAD)
    assert main(["check", spec]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f'error: {spec}:5: two agents are named "desk"; rename one.'
    assert "Traceback" not in out + err


def test_json_is_all_that_stdout_gets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write(tmp_path, WARNS)
    assert main(["check", spec, "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding == {
        "severity": "warning",
        "problem": 'agent "desk" is told about transfer_to_sales, a tool that it does not have.',
        "fix": 'There is no agent "sales". The agent\'s transfers: none.',
        "agent": "desk",
        "tool": "transfer_to_sales",
        "where": None,
    }
    good = tmp_path / "good"
    good.mkdir()
    assert main(["check", write(good, GOOD), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_a_file_that_is_not_there_and_a_wrong_use_are_no_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(tmp_path / "nothing.py")]) == 1
    assert capsys.readouterr().err.startswith("error: there is no file")
    assert main(["check"]) == 2
    assert main(["check", "a.py", "--jsn"]) == 2


@pytest.mark.parametrize("command", ["chat", "check", "draw"])
def test_the_help_of_each_command_has_an_example(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    assert main([command, "--help"]) == 0
    assert f"Example: graph-voice {command} graphs/" in capsys.readouterr().out
