"""`graph-voice simulate`: simulated callers call a graph, and the calls are graded."""

import logging
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from graph_voice.cli.options import check_folder

if TYPE_CHECKING:
    from graph_voice.testing.simulation import Report, Run, Scenario

_STYLES = {"passed": "green", "failed": "bold red", "error": "yellow"}


def simulate(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute or package.module:attribute; the attribute `graph` is the default.",
        ),
    ],
    scenarios: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SCENARIOS]",
            help="A file in the format of LiveKit's scenarios.yaml. Default: scenarios.yaml in the graph's folder, or "
            "NAME.scenarios.yaml beside NAME.py.",
        ),
    ] = None,
    caller: Annotated[
        str, typer.Option(help='Who calls: a model ("openai:gpt-4.1-mini"), or "script": what each scenario lists.')
    ] = "script",
    judge: Annotated[str | None, typer.Option(help="The model that judges. Default: nobody judges.")] = None,
    judges: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help='One of the judges, or "expectations". Repeatable. Default: all.'),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="The agents' model, as for `chat`.")] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server; --llm, --caller and --judge name its models."),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many calls for each scenario.", min=1)] = 1,
    scenario: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Only scenarios with this in their label, id or tags. Repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses how the callers speak, besides what the scenarios say.")] = 0,
    concurrency: Annotated[int, typer.Option(help="How many calls at a time.", min=1)] = 4,
    front_end: Annotated[str, typer.Option(help='"core", or "livekit": a real AgentSession.')] = "core",
    clock: Annotated[
        Literal["virtual", "real"] | None,
        typer.Option(help="real: for tools that use the network. Default: virtual; with the graph's own model, real."),
    ] = None,
    max_turns: Annotated[int, typer.Option(help="Of the caller, in one call.", min=1)] = 30,
    setup: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.py",
            help="Functions setup(scenario), check(scenario, call). Default: simulation.py beside scenarios.yaml.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write report.md, report.json and report.html here.")
    ] = None,
    compare: Annotated[
        Path | None, typer.Option(metavar="REPORT.json", help="Show what has changed since this report.")
    ] = None,
    langsmith: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Send the scenarios and the calls to LangSmith, as an experiment."),
    ] = None,
    pass_rate: Annotated[
        float, typer.Option(help="The share of calls that must pass, for the exit code.", min=0, max=1)
    ] = 1.0,
    json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")] = False,
) -> None:
    """Let simulated callers call a graph, and grade the calls: by the final state, and by judges.

    Exit codes: 0 when enough calls passed, 1 when not, or when --compare shows that something became worse beyond
    chance; 2 for wrong usage, 130 for Ctrl-C (the report then has the calls that were over).

    Example: graph-voice simulate graphs/customer_service.py --caller openai:gpt-4.1-mini --judge openai:gpt-4.1 -n 5
    """
    # Imported here, so that the command line itself needs neither LangGraph nor a model's package.
    from graph_voice.launch.loading import load_graph
    from graph_voice.launch.model_choice import choose_model
    from graph_voice.testing.simulation import Report, ScenarioError, load_scenarios
    from graph_voice.testing.simulation.compare import compare as compared
    from graph_voice.testing.simulation.run import simulate as play

    with redirect_stdout(sys.stderr):  # what a user's file prints is not part of the report
        target = load_graph(graph)
        file = scenarios or _scenarios_of(graph)
        chosen_scenarios = _chosen(load_scenarios(file), scenario or (), file)
        functions = _functions(setup, file)
    earlier = Report.read(compare) if compare is not None else None
    if earlier is not None and not earlier.scenarios.keys() & {s.name for s in chosen_scenarios}:
        raise ScenarioError(f"--compare {compare}: a report of {earlier.graph}, which has none of these scenarios.")
    if output is not None:
        check_folder(output)
    at = None if llm == "offline" else base_url
    model = choose_model(target, graph, llm=llm, base_url=at, seed=seed)
    model.warm_up()
    total = n * len(chosen_scenarios)
    stopped = False
    _quiet_when_stopped()
    with _Screen(total) as screen, redirect_stdout(sys.stderr):
        try:
            report = play(
                target,
                chosen_scenarios,
                caller=caller if caller == "script" else _model(caller, base_url),
                llm=model.model,
                judge=_model(judge, base_url) if judge is not None else None,
                judges=judges or None,
                n=n,
                seed=seed,
                concurrency=concurrency,
                front_end=front_end,
                clock=clock,
                max_turns=max_turns,
                name=graph,
                on_run=screen.over,
                **functions,
            )
        except KeyboardInterrupt:
            if not screen.runs:
                raise
            stopped = True
            on = clock or ("virtual" if model.model is not None else "real")
            runs = sorted(
                screen.runs, key=lambda run: ([s.name for s in chosen_scenarios].index(run.scenario), run.number)
            )
            report = Report(graph=graph, front_end=front_end, clock=on, seed=seed, runs=runs, planned=total)
    report.models = {"agents": model.name, "caller": caller, "judges": judge or ""}
    written = report.write(output, earlier) if output is not None else []
    if langsmith is not None and not stopped:
        from graph_voice.testing.simulation.experiment import send_experiment

        written.append(Path(send_experiment(report, chosen_scenarios, langsmith)))
    comparison = compared(earlier, report) if earlier is not None else None
    if json:
        sys.stdout.write(report.json_text())
    else:
        _show(report, comparison)
        for path in written:
            Console(highlight=False).print(f"written: {path}", soft_wrap=True)
    if stopped:
        raise KeyboardInterrupt
    if report.rate.share < pass_rate or (comparison is not None and comparison.worse):
        raise typer.Exit(1)


# ---- what is to be played


def _scenarios_of(graph: str) -> Path:
    from graph_voice.launch.loading import source_of
    from graph_voice.testing.simulation import ScenarioError

    where = source_of(graph)
    module = sys.modules.get(where)
    file = Path((module.__file__ if module is not None else None) or where)
    tried = [file.with_suffix(".scenarios.yaml"), file.parent / "scenarios.yaml"]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise ScenarioError(
            f"{graph} has no scenarios: there is neither {tried[0]} nor {tried[1]}. Name a file: graph-voice simulate "
            f"{graph} scenarios.yaml"
        )
    return found


def _chosen(scenarios: "list[Scenario]", wanted: Any, file: Path) -> "list[Scenario]":
    from graph_voice.testing.simulation import ScenarioError

    if not wanted:
        return scenarios
    asked = [text.casefold() for text in wanted]
    found = [s for s in scenarios if any(text in _described(s) for text in asked)]
    if not found:
        known = "\n".join(f"  {s.name}" for s in scenarios)
        raise ScenarioError(f"--scenario {wanted[0]!r}: {file} has no such scenario. It has:\n{known}")
    return found


def _described(scenario: "Scenario") -> str:
    tags = (f"{name}={value}" for name, value in scenario.tags.items())
    return " ".join([scenario.name, scenario.id, *tags]).casefold()


def _functions(setup: Path | None, scenarios: Path) -> dict[str, Any]:
    """The functions `setup` and `check` of the file that prepares the scenarios, if there is one."""
    from graph_voice.launch.loading import load_object
    from graph_voice.testing.simulation import ScenarioError

    file = setup or scenarios.parent / "simulation.py"
    if setup is None and not (scenarios.name == "scenarios.yaml" and file.is_file()):
        return {}
    module = load_object(f"{file}:__dict__")
    found = {name: module[name] for name in ("setup", "check") if callable(module.get(name))}
    if not found:
        raise ScenarioError(f"{file} has neither a function setup(scenario) nor check(scenario, call): write one.")
    return found


def _model(name: str, base_url: str | None) -> Any:
    if base_url is None or ":" in name.removeprefix("openai:"):
        return name
    from graph_voice.launch.model_choice import openai_compatible

    return openai_compatible(name, base_url)


# ---- what is shown


def _quiet_when_stopped() -> None:
    """After Ctrl-C, the calls that were not over don't tell how they failed."""
    from graph_voice.testing.simulation.off_clock import STOPPED

    def tells(record: logging.LogRecord) -> bool:
        return not (record.exc_info and str(record.exc_info[1]) == STOPPED)

    for handler in [*logging.getLogger().handlers, logging.lastResort]:
        if handler is not None:
            handler.addFilter(tells)


class _Screen:
    """Shows how far the simulation is: a bar on a terminal, else a line for each call. On stderr."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("calls", total=total)
        self._failed = 0
        self.runs: list[Run] = []

    def __enter__(self) -> "_Screen":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def over(self, run: "Run", done: int, total: int) -> None:
        self.runs.append(run)
        self._failed += not run.passed
        failed = f", {self._failed} not passed" if self._failed else ""
        self._bar.update(self._task, completed=done, description=f"calls{failed}")
        if not run.passed or not self._console.is_terminal:
            why = f": {run.reasons[0]}" if run.reasons else ""
            told = Text.assemble((run.status, _STYLES[run.status]), f" {run.name}{why}")
            self._bar.console.print(told, soft_wrap=True)


def _show(report: "Report", comparison: Any) -> None:
    console = Console(highlight=False)
    for what, rates in (("scenario", report.scenarios), ("judge", report.judges)):
        if rates:
            table = Table(what, "passed", "share", "95% interval", box=None, pad_edge=False)
            for name, rate in rates.items():
                low, high = rate.interval
                row = (f"{rate.passed} of {rate.total}", f"{rate.share:.0%}", f"{low:.0%} to {high:.0%}")
                table.add_row(Text(name), *row, style="" if rate.passed == rate.total else "red")
            console.print(table)
            console.print()
    if comparison is not None:
        table = Table("compared", "before", "now", "difference", "95% interval", "", box=None, pad_edge=False)
        for row in comparison.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        console.print()
    console.print(Text(f"{report.rate} of the calls passed. {report.stopped}".strip()), soft_wrap=True)
