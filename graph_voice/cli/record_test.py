"""`graph-voice record-test`: a call that took place becomes a pytest file."""

import asyncio
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graph_voice.cli.options import USERDATA, check_file

if TYPE_CHECKING:
    from graph_voice.testing.recorded import RecordedCall


def record_test(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute or package.module:attribute; the attribute `graph` is the default.",
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A call of `graph-voice demo`: calls/NAME.")
    ] = None,
    thread: Annotated[str | None, typer.Option(metavar="ID", help="The name of the call in --store.")] = None,
    store: Annotated[
        str | None,
        typer.Option(metavar="PLACE", help="The thread's store: a SQLite file, or postgresql://..."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Runs that were exported from LangSmith: a JSON list.")
    ] = None,
    userdata: Annotated[str | None, typer.Option(metavar="JSON", help=USERDATA)] = None,
    mock: Annotated[
        list[str] | None,
        typer.Option(metavar="TOOL", help="A tool that answers as it did, instead of running. Repeatable."),
    ] = None,
    prompts: Annotated[bool, typer.Option(help="Whether the test fails when an agent is told something else.")] = True,
    name: Annotated[str | None, typer.Option(help="The test's name. Default: the call's.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.py", help="Where it is written. Default: stdout.")
    ] = None,
) -> None:
    """Make a test of a call: a pytest file that plays it again word for word, and fails when anything is different.

    The call is played once, to see that it goes as it did. The graph's tools run then, and in the test: name those that
    act outside the program with --mock.

    Example: graph-voice record-test graphs/restaurant --folder calls/restaurant-0 -o tests/test_call.py
    """
    # Imported here, so that the command line itself does not need LangGraph.
    from dataclasses import replace

    from graph_voice.launch.loading import load_graph
    from graph_voice.testing.recorded import RecordError, recorded_test

    sources = [folder is not None, store is not None, trace is not None]
    if sum(sources) != 1 or (thread is None and store is not None):
        raise typer.BadParameter("name one call: --folder FOLDER, --thread ID --store PLACE, or --trace FILE.json.")
    if output is not None:
        check_file(output)
    with redirect_stdout(sys.stderr):  # what a user's file prints is not part of the test
        target = load_graph(graph)
        call = _recorded(target, folder, thread, store, trace)
        try:
            given = json.loads(userdata) if userdata is not None else None
        except json.JSONDecodeError as error:
            raise RecordError(f"--userdata is not JSON: {error}.") from error
        if name is not None:
            call = replace(call, name=name)
        made = recorded_test(call, graph=graph, userdata=given, mock=mock or (), prompts=prompts)
    if output is None:
        sys.stdout.write(made)
    else:
        output.write_text(made, encoding="utf-8")
        sys.stderr.write(f"written: {output}\n")


def _recorded(
    graph: Any, folder: Path | None, thread: str | None, store: str | None, trace: Path | None
) -> "RecordedCall":
    from graph_voice.testing.recorded import RecordError, from_folder, from_runs

    if folder is not None:
        return from_folder(folder)
    if trace is not None:
        try:
            return from_runs(json.loads(trace.read_text(encoding="utf-8")), name=thread)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(f"--trace {trace}: not a JSON list of LangSmith's runs: {error}.") from error
    assert thread is not None
    assert store is not None
    return asyncio.run(_stored(graph, thread, store))


async def _stored(graph: Any, thread: str, store: str) -> "RecordedCall":
    from graph_voice.testing.recorded import from_thread
    from graph_voice.testing.recorded.thread import store_at

    async with store_at(store) as saver:
        return await from_thread(graph, saver, thread)
