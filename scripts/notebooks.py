"""Execute the notebooks and write their outputs: `python scripts/notebooks.py [--check] [WORD ...]`.

Each runs in its own kernel, in `notebooks/`, without keys and without network. A file is written only when its outputs
differ in substance: ids, timings, pictures and recordings change each time but mean the same, so they don't count. For
a cell tagged `varies`, only the kinds of output count. Words choose the notebooks whose name contains one of them.

With `--check` nothing is written, and it exits with 1 when outputs are stale.
"""

import copy
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"
TIMEOUT = 300
"""Seconds for one cell."""
VARIES = "varies"
_KEYS = re.compile(r"(OPENAI|ANTHROPIC|GOOGLE|GRAPH_VOICE|LANGSMITH|LANGCHAIN|LANGGRAPH)_")
_NOISE = (
    (re.compile(r"\b(call|lc_run|run|reply|said|item|function_call)[-_]+[0-9a-f-]{8,}"), r"\1-id"),
    (re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"), "uuid"),
    (re.compile(r" at 0x[0-9a-f]+"), ""),
    (re.compile(r"data:(audio|image)/[\w+.-]+;base64,[A-Za-z0-9+/=]+"), r"\1"),
)


def notebooks(words: list[str]) -> list[Path]:
    """The notebooks, in order; with words, those whose name contains one of them."""
    return [path for path in sorted(FOLDER.glob("*.ipynb")) if not words or any(word in path.name for word in words)]


def execute(path: Path, env: dict[str, str] | None = None) -> Any:
    """The notebook with new outputs. Raises `CellExecutionError` when a cell fails.

    Args:
        path: the notebook.
        env: environment variables of the kernel, besides this process's; keys and tracing are left out.
    """
    notebook = nbformat.read(path, as_version=4)
    known = {name: value for name, value in os.environ.items() if not _KEYS.match(name)}
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    with tempfile.TemporaryDirectory(prefix="kernel-") as sockets:
        manager = client.create_kernel_manager()
        # Not over TCP: ports are shared by the whole machine, and may be taken.
        manager.transport, manager.ip = "ipc", f"{sockets}/socket"
        client.execute(env={**known, "LANGSMITH_TRACING": "false", **(env or {})})
    return _tidy(notebook)


def _tidy(notebook: Any) -> Any:
    """Without what changes each time and nobody reads."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key == "tags"}
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Printed pieces joined into one, because where they are split is random."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def substance(notebook: Any) -> list[Any]:
    """What a reader gets from a notebook: sources, and outputs without noise."""
    found: list[Any] = []
    for cell in notebook.cells:
        varies = VARIES in cell.metadata.get("tags", [])
        outputs = [_told(output, varies=varies) for output in cell.get("outputs", [])]
        found.append([cell.cell_type, cell.source, outputs])
    return found


def _told(output: Any, *, varies: bool) -> Any:
    data = copy.deepcopy(dict(output.get("data", {})))
    if output.output_type == "stream":
        data = {output.name: output.text}
    elif output.output_type == "error":
        data = {"error": output.ename}
    kept = {
        kind: "..." if varies or kind.startswith(("image/png", "audio/")) else _quiet(text)
        for kind, text in data.items()
    }
    return [output.output_type, kept]


def _quiet(text: Any) -> str:
    words = text if isinstance(text, str) else json.dumps(text)
    for noise, instead in _NOISE:
        words = noise.sub(instead, words)
    return words


def written(notebook: Any) -> str:
    """The notebook as it is stored."""
    return nbformat.writes(notebook, version=4).rstrip("\n") + "\n"


def main(words: list[str]) -> int:
    check = "--check" in words
    stale = 0
    for path in notebooks([word for word in words if word != "--check"]):
        before = nbformat.read(path, as_version=4)
        after = execute(path)
        changed = substance(before) != substance(after)
        stale += changed
        if changed and not check:
            path.write_text(written(after), encoding="utf-8")
        print(f"{path.name}: {'stale' if changed and check else 'written' if changed else 'as it was'}", flush=True)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
