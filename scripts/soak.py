"""Try for a long time to break a call: `python scripts/soak.py [--quick]`, or `make soak`.

Random graphs and callers (tests/proof) are played on the core, on a real LiveKit session, or on both, whose results
must then agree. Everything is checked after each round. Each scenario has a number, its seed. One that fails is
minimized and written to tests/regressions, where a test plays it from then on. At the end the report is written:
docs/soak.md, and its data beside it as JSON.

It runs until the requested barge-ins and discarded speculations have been played, or the time is over.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/proof", "tests/support", "adapters", ".")]
REPORT = ROOT / "docs" / "soak.json"
PAGE = ROOT / "docs" / "soak.md"
REGRESSIONS = ROOT / "tests" / "regressions"
CRASHES, CRASHES_IN_TASKS = "tests/core/call/test_crash.py", "tests/core/call/test_task_crash.py"
CALM_EVERY = 4
"""One of this many scenarios is calm, and its results on both front ends are compared."""
LIVEKIT_EVERY = 3
"""Of the others, one of this many is played on LiveKit, the rest on the core."""


def play(seed: int) -> dict[str, Any]:
    """Play one scenario, in a process of the pool."""
    import proof_runs
    from proof_scenario import make

    proof_runs.quiet()
    kind = kind_of(seed)
    began = time.perf_counter()
    outcome = proof_runs.judge(make(seed, calm=kind == "both"), kind)
    return {
        "seed": seed,
        "kind": kind,
        "counts": dict(outcome.counts),
        "failure": outcome.failure,
        "log": outcome.log if outcome.failure else [],
        "seconds": time.perf_counter() - began,
    }


def kind_of(seed: int) -> str:
    if seed % CALM_EVERY == 0:
        return "both"
    return "livekit" if seed % LIVEKIT_EVERY == 0 else "core"


def shrunk(seed: int) -> Path:
    """Write the failing scenario of this seed as a regression, as small as possible."""
    import proof_runs
    from proof_scenario import make
    from proof_shrink import shrink

    proof_runs.quiet()
    kind = kind_of(seed)
    scenario = make(seed, calm=kind == "both")
    first = proof_runs.judge(scenario, kind).failure or ""

    def fails(smaller: dict[str, Any]) -> bool:
        failure = proof_runs.judge(smaller, kind).failure
        return failure is not None and failure.split(":")[:2] == first.split(":")[:2]

    smallest = shrink(scenario, fails)
    REGRESSIONS.mkdir(exist_ok=True)
    path = REGRESSIONS / f"{kind}-{seed}.json"
    failure = proof_runs.judge(smallest, kind).failure
    path.write_text(json.dumps({"kind": kind, "failure": failure, "scenario": smallest}, indent=1) + "\n")
    return path


def main() -> int:
    options = parsed()
    console = Console()
    began, total = time.time(), Counter[str]()
    commit = git("rev-parse", "HEAD")
    changed = bool(git("status", "--porcelain", "--", "graph_voice", "adapters", "tests", "scripts"))
    failures: list[dict[str, Any]] = []
    seeds: list[int] = []
    console.print(f"seeds from {options.seed}; at most {options.seconds:.0f} seconds")
    with (
        ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool,
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
        ) as bars,
    ):
        barge_ins = bars.add_task("barge-ins", total=options.barge_ins)
        discarded = bars.add_task("discarded speculations", total=options.discarded)
        for result in results(pool, options, total, began):
            seeds.append(result["seed"])
            total.update(result["counts"])
            if result["failure"]:
                failures.append(result)
                bars.console.print(f"[red]seed {result['seed']} ({result['kind']}): {result['failure'][:300]}")
            bars.update(barge_ins, completed=summed(total, "barge-ins"))
            bars.update(discarded, completed=summed(total, "speculations discarded"))
    crashes = crash_runs(options.crashes, console) if options.crashes else None
    task_crashes = crash_runs(options.crashes, console, CRASHES_IN_TASKS) if options.crashes else None
    for failure in failures[:3]:
        failure["regression"] = str(shrunk(failure["seed"]).relative_to(ROOT))
        console.print(f"seed {failure['seed']} was minimized: {failure['regression']}")
    report: dict[str, Any] = {
        "runs": [
            {
                "commit": commit,
                "changed": changed,
                "first_seed": min(seeds, default=options.seed),
                "last_seed": max(seeds, default=options.seed),
                "scenarios": len(seeds),
                "seconds": round(time.time() - began, 1),
            }
        ],
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "counts": dict(sorted(total.items())),
        "crashes": crashes,
        "task_crashes": task_crashes,
        "failures": failures,
    }
    if options.add:
        report = added(json.loads(REPORT.read_text()), report)
    good = not failures and all(killed is None or killed["failed"] == 0 for killed in (crashes, task_crashes))
    if not options.no_report:
        REPORT.write_text(json.dumps(report, indent=1) + "\n")
        write_page(report)
    console.print(f"{len(seeds)} scenarios, {summed(total, 'barge-ins')} barge-ins, {len(failures)} failed")
    return 0 if good else 1


def results(
    pool: ProcessPoolExecutor, options: argparse.Namespace, total: Counter[str], began: float
) -> Iterator[dict[str, Any]]:
    """Outcomes, as they come. A few scenarios are always in progress."""
    waiting: set[Future[dict[str, Any]]] = set()
    seed = options.seed

    def enough() -> bool:
        played = summed(total, "barge-ins") >= options.barge_ins
        return (played and summed(total, "speculations discarded") >= options.discarded) or (
            time.time() - began > options.seconds
        )

    while True:
        while not enough() and len(waiting) < 2 * options.processes:
            waiting.add(pool.submit(play, seed))
            seed += 1
        if not waiting:
            return
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()


def added(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The reports of two runs as one."""
    return later | {
        "runs": [*earlier["runs"], *later["runs"]],
        "counts": dict(sorted((Counter(earlier["counts"]) + Counter(later["counts"])).items())),
        **{kind: later.get(kind) or earlier.get(kind) for kind in ("crashes", "task_crashes")},
        "failures": [*earlier["failures"], *later["failures"]],
    }


def crash_runs(count: int, console: Console, test: str = CRASHES) -> dict[str, Any]:
    """Run calls whose process is killed: many more of those that a test in CI plays."""
    console.print(f"{count} calls whose process is killed: {test}")
    began = time.time()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    environment = os.environ | {"GRAPH_VOICE_CRASHES": str(count)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    failed = done.stdout.count("\nFAILED ") if done.returncode == 1 else count if done.returncode else 0
    return {"runs": count, "failed": failed, "seconds": round(time.time() - began, 1), "pytest": last}


def summed(counts: Counter[str] | dict[str, int], what: str) -> int:
    """The sum for both front ends."""
    return counts.get(f"core: {what}", 0) + counts.get(f"livekit: {what}", 0)


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()


def write_page(report: dict[str, Any]) -> None:
    """Replace the part of the page that is made from the report."""
    begin, end = "<!-- report -->\n", "<!-- end of the report -->"
    before, _, rest = PAGE.read_text().partition(begin)
    _, _, after = rest.partition(end)
    PAGE.write_text(before + begin + rendered(report) + end + after)


def rendered(report: dict[str, Any]) -> str:
    counts = report["counts"]
    names = sorted({name.split(": ", 1)[1] for name in counts})
    lines = [
        "",
        f"Python {report['python']}, {report['processors']} processors.",
        "",
        *(
            f"- Commit `{run['commit'][:12]}`{' with local changes' if run['changed'] else ''}: seeds "
            f"{run['first_seed']} to {run['last_seed']}, {run['scenarios']} scenarios in {run['seconds']:.0f} seconds "
            "of wall time."
            for run in report["runs"]
        ),
        "",
        f"- Barge-ins: **{summed(counts, 'barge-ins'):,}**. Discarded speculations: "
        f"**{summed(counts, 'speculations discarded'):,}**.",
        f"- Scenarios that failed: **{len(report['failures'])}**"
        + "".join(f"\n  - seed {f['seed']} ({f['kind']}): {f['failure'].splitlines()[0]}" for f in report["failures"])
        + ("" if report["failures"] else "."),
        killed("Calls whose process was killed", report["crashes"]),
        killed("Calls whose process was killed inside a task", report["task_crashes"]),
        "",
        "| what happened | core | LiveKit |",
        "|---|---|---|",
        *(f"| {name} | {counts.get(f'core: {name}', 0):,} | {counts.get(f'livekit: {name}', 0):,} |" for name in names),
        "",
        "",
    ]
    return "\n".join(lines)


def killed(what: str, crashes: dict[str, Any] | None) -> str:
    if not crashes:
        return f"- {what}: not played in this run."
    return f"- {what}: **{crashes['runs']}**, of which {crashes['failed']} failed ({crashes['seconds']:.0f} seconds)."


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a minute: 500 barge-ins, no crashes, no report")
    parser.add_argument("--barge-ins", type=int, default=10_000, help="how many at least (default: 10,000)")
    parser.add_argument("--discarded", type=int, default=1_000, help="discarded speculations at least (default: 1,000)")
    parser.add_argument(
        "--crashes",
        type=int,
        default=200,
        help="calls whose process is killed, and as many inside a task (default: 200)",
    )
    parser.add_argument("--seconds", type=float, default=3_600, help="of wall time for the scenarios (default: 3,600)")
    parser.add_argument("--seed", type=int, default=0, help="the first one (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per processor")
    parser.add_argument("--add", action="store_true", help="add to the report that is there")
    parser.add_argument("--no-report", action="store_true", help="leave docs/soak.md and docs/soak.json as they are")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes: at least 1")
    if options.quick:
        options.barge_ins, options.discarded, options.crashes, options.no_report = 500, 50, 0, True
        options.seconds = min(options.seconds, 120.0)
    return options


if __name__ == "__main__":
    sys.exit(main())
