"""What a callback handler is told of a run."""

from typing import Any
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler


class Recorder(AsyncCallbackHandler):
    """Every chain run, as it begins and ends."""

    def __init__(self) -> None:
        self.runs: dict[UUID, dict[str, Any]] = {}

    async def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: UUID, **more: Any) -> None:
        self.runs[run_id] = {"inputs": inputs, "ended": False, **more}

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **more: Any) -> None:
        self.runs[run_id] |= {"outputs": outputs, "ended": True, "end_tags": more.get("tags")}

    async def on_chain_error(self, error: BaseException, *, run_id: UUID, **more: Any) -> None:
        self.runs[run_id] |= {"ended": True, "error": error}

    @property
    def roots(self) -> list[dict[str, Any]]:
        return [run for run in self.runs.values() if run["parent_run_id"] is None]
