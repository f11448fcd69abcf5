"""The command line as it is used: arguments in, exit code, stdout and stderr out."""

import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree as ET

import pytest
import typer

import graph_voice.cli.contributed as contributed
from graph_voice.cli import main
from graph_voice.errors import GraphVoiceError

GRAPH = """
from typing_extensions import TypedDict
from langgraph.graph import END, START, StateGraph

class State(TypedDict):
    text: str

print("loading")
graph = StateGraph(State)
for name in ("triage", "billing"):
    graph.add_node(name, lambda state: {})
    graph.add_node(name + "_tools", lambda state: {})
graph.add_edge(START, "triage")
graph.add_conditional_edges("triage", lambda state: "end", {"tools": "triage_tools", "end": END})
graph.add_conditional_edges("triage_tools", lambda state: "own", {"own": "triage", "to_billing": "billing"})
graph.add_conditional_edges("billing", lambda state: "end", {"tools": "billing_tools", "end": END})
graph.add_conditional_edges("billing_tools", lambda state: "own", {"own": "billing"})
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Help and errors as on a wide screen that knows no colours, so that no line is broken."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def graph(tmp_path: Path) -> str:
    (tmp_path / "agent.py").write_text(GRAPH)
    return str(tmp_path / "agent.py")


class _Entry(metadata.EntryPoint):
    """An entry point that leads to something made by the test."""

    def load(self) -> Any:
        found = _TARGETS[self.value]
        if isinstance(found, Exception):
            raise found
        return found


_TARGETS: dict[str, Any] = {}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Contribute these commands, in place of those that are really installed."""

    def installed(**commands: Any) -> None:
        _TARGETS.update(commands)
        entries = [_Entry(name=name, value=name, group=contributed.GROUP) for name in commands]
        monkeypatch.setattr(metadata, "entry_points", lambda *, group: entries)

    return installed


# draw


def test_draw_writes_svg_to_a_pipe_and_nothing_else(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", graph]) == 0
    out, err = capsys.readouterr()
    root = ET.fromstring(out)
    drawn = {(e.get("data-source"), e.get("data-target"), e.get("data-label")) for e in root.iter()}
    assert ("triage_tools", "billing", "to_billing") in drawn
    assert "loading" in err


@pytest.mark.parametrize(
    ("format", "begins"), [("svg", "<svg "), ("mermaid", "flowchart TD\n"), ("ascii", "(start)\n")]
)
def test_draw_writes_the_format_asked_for(
    graph: str, format: str, begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", graph, "--format", format]) == 0
    assert capsys.readouterr().out.startswith(begins)


@pytest.mark.parametrize(("name", "begins"), [("a.svg", "<svg "), ("a.mmd", "flowchart TD\n"), ("a.txt", "(start)\n")])
def test_draw_takes_the_format_from_the_output_s_suffix(
    graph: str, tmp_path: Path, name: str, begins: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", graph, "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"wrote {tmp_path / name}" in err


def test_draw_of_agents_leaves_out_tools(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", f"{graph}:graph", "--agents", "--format", "ascii", "--active", "billing"]) == 0
    out = capsys.readouterr().out
    assert "to_billing --> billing *" in out
    assert "triage_tools" not in out


def test_draw_on_a_terminal_is_text_and_says_so_for_svg(
    graph: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["draw", graph]) == 0
    assert capsys.readouterr().out.startswith("(start)\n")
    assert main(["draw", graph, "--format", "svg"]) == 2
    assert "SVG is not for a terminal: write it to a file with --output graph.svg" in capsys.readouterr().err


def test_an_output_that_tells_no_format_is_a_usage_error(
    graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["draw", graph, "-o", str(tmp_path / "graph.png")]) == 2
    assert "use .svg, .mmd, .mermaid, .txt, or add --format" in capsys.readouterr().err
    assert main(["draw", graph, "-o", str(tmp_path / "README"), "--format", "mermaid"]) == 0


def test_an_output_that_cannot_be_written_is_one_clear_message(
    graph: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "no" / "such" / "a.svg"
    assert main(["draw", graph, "-o", str(file)]) == 1
    assert capsys.readouterr().err.endswith(f"error: can't write {file}: No such file or directory\n")


# errors and exit codes


def test_an_error_is_one_message_without_traceback(graph: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", f"{graph}:nothing"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert f"error: {graph} has no attribute 'nothing'. Its graphs: graph.\n" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("before", [True, False])
def test_debug_shows_the_traceback_wherever_it_stands(
    graph: str, before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["draw", f"{graph}:nothing"]
    assert main(["--debug", *command] if before else [*command, "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "graph_voice.errors.LoadError" in err


def test_a_defect_is_not_hidden(install: Any) -> None:
    def defect() -> None:
        raise ZeroDivisionError

    install(defect=defect)
    with pytest.raises(ZeroDivisionError):
        main(["defect"])


@pytest.mark.parametrize("args", [[], ["draw"], ["nothing"], ["draw", "a.py", "--format", "pdf"], ["--nothing"]])
def test_a_wrong_use_is_code_2(args: list[str]) -> None:
    assert main(args) == 2


def test_ctrl_c_is_code_130(install: Any) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    install(stopped=stopped)
    assert main(["stopped"]) == 130


def test_errors_are_coloured_neither_in_a_pipe_nor_against_the_users_will(
    graph: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main(["draw", f"{graph}:nothing"]) == 1
    assert "\x1b[" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["draw", f"{graph}:nothing"]) == 1
    assert "\x1b[1;31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["draw", f"{graph}:nothing"]) == 1
    assert "31m" not in capsys.readouterr().err


def test_a_message_with_brackets_is_told_as_it_is(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise GraphVoiceError("install graph-voice[livekit], [bold]now[/bold]")

    install(fails=fails)
    assert main(["fails"]) == 1
    assert capsys.readouterr().err == "error: install graph-voice[livekit], [bold]now[/bold]\n"


# the rest


def test_the_version_is_the_distribution_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"graph-voice {metadata.version('graph-voice')}\n"


def test_help_shows_the_adapter_s_commands_without_the_adapter(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install()
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("draw", "talk", "demo"):
        assert name in out


@pytest.mark.parametrize(("name", "extra"), [("talk", "offline"), ("demo", "offline")])
@pytest.mark.parametrize("found", [True, False], ids=["not importable", "not installed"])
def test_an_adapter_s_command_without_its_extra_says_what_to_install(
    name: str, extra: str, found: bool, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install(**({name: ModuleNotFoundError("No module named 'livekit'")} if found else {}))
    assert main([name, "agent.py", "--help"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert f'pip install "graph-voice[{extra}]"' in err
    assert ("No module named 'livekit'" in err) is found


def test_a_contributed_command_gets_its_own_arguments_and_help(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def talk(graph: str, loud: Annotated[bool, typer.Option("--loud", "-l")] = False, times: int = 1) -> None:
        """Speak with it."""
        print(graph, loud, times)

    install(talk=talk)
    assert main(["talk", "a.py", "--times", "3", "-l"]) == 0
    assert capsys.readouterr().out == "a.py True 3\n"
    assert main(["talk", "--loud", "a.py"]) == 0
    assert capsys.readouterr().out == "a.py True 1\n"
    assert main(["talk", "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: graph-voice talk [OPTIONS]" in out
    assert "Speak with it." in out
    assert main(["talk", "a.py", "--times", "many"]) == 2
    assert main(["talk"]) == 2


def test_a_command_of_any_distribution_is_offered_but_takes_no_name_of_ours(
    install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def other() -> None:
        print("other")

    install(other=other, draw=other)
    assert main(["other"]) == 0
    assert capsys.readouterr().out == "other\n"
    assert main(["draw"]) == 2
    assert "other" not in capsys.readouterr().out


def test_a_command_that_exits_with_a_code_keeps_it(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def coded() -> None:
        raise typer.Exit(7)

    def told() -> None:
        sys.exit("no microphone")

    install(coded=coded, told=told)
    assert main(["coded"]) == 7
    assert main(["told"]) == 1
    assert capsys.readouterr().err == "error: no microphone\n"


def test_drawing_and_help_import_no_audio_framework(graph: str) -> None:
    program = f"""
        import sys
        from graph_voice.cli import main
        assert main(["--help"]) == 0
        assert main(["draw", {graph!r}]) == 0
        audio = {{"livekit", "graph_voice_livekit"}}
        print([name for name in sys.modules if name.split(".")[0] in audio], file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"
