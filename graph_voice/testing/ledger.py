"""What the tools of a call really did: which ran, for which call id, how often, and how it ended."""

from collections.abc import Iterator
from typing import Any

from graph_voice.turn.tool_run import ToolRun

__all__ = ["Effects"]


class Effects:
    """The runs of tools, in the order in which they began. A denied, mocked or malformed call has none.

    A process that crashes leaves its runs here: they happened.
    """

    def __init__(self) -> None:
        self._runs: list[ToolRun] = []

    def note(self, run: ToolRun) -> None:
        """`Conversation.on_tool`."""
        if not any(known is run for known in self._runs):
            self._runs.append(run)

    def of(self, tool: str) -> list[ToolRun]:
        """The runs of one tool."""
        return [run for run in self._runs if run.tool == tool]

    def count(self, tool: str) -> int:
        """How often this tool ran."""
        return len(self.of(tool))

    @property
    def call_ids(self) -> list[str]:
        """The call id of each run."""
        return [run.call_id for run in self._runs]

    def __iter__(self) -> Iterator[ToolRun]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    def __repr__(self) -> str:
        return "\n".join(f"{r.agent}.{r.tool}({r.args}) {r.call_id}: {r.outcome}" for r in self._runs) or "no tool ran"
