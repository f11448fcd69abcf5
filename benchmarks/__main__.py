"""The command: `python -m benchmarks`."""

import logging
import os
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.conditions import conditions
from benchmarks.page import Results, filled, merged, written
from benchmarks.part import Effort, Measuring, Part, Silent
from benchmarks.parts import PARTS
from benchmarks.pictures import draw
from benchmarks.stores import ROOT, stores

RESULTS, PAGE, IMAGES = ROOT / "docs" / "benchmarks.json", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "images"
NAMES = ", ".join(part.name for part in PARTS)


class Shown(Silent):
    """A bar in the terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def begin(self, steps: int) -> None:
        self.end()
        self._task = self._progress.add_task("", total=steps)
        self._begun = 0

    def step(self, text: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=text, completed=self._begun)
            self._begun += 1

    def end(self) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None


app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(help=f"Measure what graph_voice costs, compared with a LiveKit agent and LLMAdapter.\n\nParts: {NAMES}.")
def main(
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: under a minute.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Seconds: whether it runs at all.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this part. Repeatable.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the rows to this file, with the conditions.", dir_okay=False)
    ] = None,
    page: Annotated[
        bool | None,
        typer.Option(
            "--page/--no-page",
            help="Write docs/benchmarks.md, its pictures and docs/benchmarks.json. Default: after a full run.",
        ),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="Measure nothing: write the page again from docs/benchmarks.json.")
    ] = False,
    postgres: Annotated[bool, typer.Option(help="Start a Postgres server, if one is installed.")] = True,
) -> None:
    if render:
        write_page({})
        return
    effort = Effort.SMOKE if smoke else Effort.QUICK if quick else Effort.FULL
    chosen = _chosen(only or [])
    quiet()
    console, found = Console(), dict[str, dict[str, Any]]()
    with stores(postgres=postgres) as opened:
        for part in chosen:
            found[part.name] = _measured(part, effort, opened, console)
            console.print(f"\n[bold]{part.what}[/bold] ({found[part.name]['conditions']['seconds']} s)\n")
            console.print(part.table(found[part.name]["rows"]), markup=False, highlight=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(written(found), encoding="utf-8")
    if page if page is not None else effort is Effort.FULL and not only:
        write_page(found)
        console.print(f"\n{PAGE.relative_to(ROOT)}, its pictures and {RESULTS.relative_to(ROOT)} are written.")


def write_page(found: Results) -> None:
    """Put these results into the docs, and keep the existing results of other parts."""
    results = merged(RESULTS, found)
    RESULTS.write_text(written(results), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    draw({name: result["rows"] for name, result in results.items()}, IMAGES)


def quiet() -> None:
    """Keep warnings about how a session is run out of the tables."""
    logging.getLogger("livekit").setLevel(logging.ERROR)
    logging.getLogger("livekit.agents").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name in ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"):
        os.environ.pop(name, None)


def _chosen(names: list[str]) -> list[Part]:
    unknown = set(names) - {part.name for part in PARTS}
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: the parts are {NAMES}.")
    return [part for part in PARTS if not names or part.name in names]


def _measured(part: Part, effort: Effort, opened: Any, console: Console) -> dict[str, Any]:
    bar = Progress(
        TextColumn(part.name), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
        console=console, transient=True,
    )  # fmt: skip
    load, began = os.getloadavg()[0], time.perf_counter()
    with bar:
        shown = Shown(bar)
        rows = part.measure(Measuring(effort, opened, shown))
        shown.end()
    return {
        "effort": effort.value,
        "conditions": conditions(time.perf_counter() - began, load),
        "rows": [dict(row) for row in rows],
    }


if __name__ == "__main__":
    app()
