"""Under which conditions a part was measured."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.part import Row

__all__ = ["conditions"]

PACKAGES = ("langgraph", "langchain-core", "livekit-agents", "livekit-plugins-langchain", "langgraph-checkpoint-sqlite")


def conditions(seconds: float, load_before: float) -> Row:
    """The conditions of a part that has just been measured.

    Args:
        seconds: how long it took.
        load_before: the load average of the last minute before it began.
    """
    return {
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "graph_voice", "adapters", "benchmarks")),
        "at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds, 1),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(load_before, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
        )
    except (OSError, subprocess.CalledProcessError):
        return ""  # not a clone
    return found.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
