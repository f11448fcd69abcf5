"""From LiveKit's dispatch of a job to its entrypoint, and to an agent that could speak, in processes of LiveKit's pool.

A job gets a process that waits for it ("waiting"), or, when all are taken, a new one ("new"): there, earlier imports
make the difference. Compared are `spawn`, the fork server with what LiveKit preloads, and the fork server with what
`create_server` adds. There is no server and no room: it is LiveKit's mock job.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.part import Measuring, Part, Row
from benchmarks.stores import ROOT
from benchmarks.tables import markdown

__all__ = ["PART", "measure"]

NAMES = {
    ("spawn", "none"): "spawn",
    ("forkserver", "none"): "fork server, as LiveKit has it",
    ("forkserver", "ours"): "fork server, with create_server's modules",
}
CONFIGURATIONS = (
    ("spawn", "none", 0),
    ("forkserver", "none", 0),
    ("forkserver", "ours", 0),
    ("forkserver", "none", 1),
    ("forkserver", "ours", 1),
)


def measure(measuring: Measuring) -> list[Row]:
    """One row for each configuration."""
    configurations = measuring.of(CONFIGURATIONS, CONFIGURATIONS[2::2], CONFIGURATIONS[4:])
    rounds = measuring.of(5, 2, 1)
    measuring.progress.begin(len(configurations))
    rows: list[Row] = []
    for method, preloaded, idle in configurations:
        name, process = NAMES[method, preloaded], "waiting" if idle else "new"
        measuring.progress.step(f"job start: {name}, {process}")
        # A fork server is started once per process, so each configuration has its own process.
        command = [sys.executable, "-m", "benchmarks.job_dispatch", method, preloaded, str(idle), str(rounds)]
        told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        began, ready = zip(*json.loads(told.splitlines()[-1]), strict=True)
        rows.append(
            {
                "processes": name,
                "process": process,
                "jobs": len(ready),
                "entrypoint_ms_p50": round(statistics.median(began), 1),
                "agent_ms_p50": round(statistics.median(ready), 1),
                "agent_ms_max": round(max(ready), 1),
            }
        )
    return rows


def table(rows: Sequence[Row]) -> str:
    """For the page."""
    return markdown(
        rows,
        {
            "processes": "processes",
            "process": "process",
            "jobs": "jobs",
            "entrypoint_ms_p50": "entrypoint runs, ms (median)",
            "agent_ms_p50": "agent is there, ms (median)",
            "agent_ms_max": "(longest)",
        },
    )


PART = Part("job_start", "from a job's dispatch to an agent that could speak", measure, table)
