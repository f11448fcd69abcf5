"""A recorded call from LangSmith's runs: each model's own answers, and what was heard."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from graph_voice.testing.recorded.call import Output, RecordedCall, RecordedTurn, RecordError, Reply, checked

__all__ = ["from_runs"]


def from_runs(runs: Iterable[Any], *, name: str | None = None) -> RecordedCall:
    """The call of these runs: LangSmith's `Run`s, or the same as dicts, of all turns of one call.

    Raises `RecordError` when there is no turn among them.
    """
    known = [_Run(run) for run in runs]
    roots = sorted((run for run in known if run.is_turn), key=lambda run: run.begun)
    if not roots:
        raise RecordError("there is no turn of a call among these runs: the roots of a call are runs with a turn_id.")
    turns: list[RecordedTurn] = []
    for root in roots:
        if root.outputs.get("discarded"):
            continue
        models = sorted((run for run in known if run.is_model and run.trace_id == root.trace_id), key=lambda r: r.begun)
        replies = tuple(reply for run in models if (reply := run.reply) is not None)
        heard = " ".join(str(root.outputs.get("heard") or "").split())
        said = root.outputs.get("text") or root.inputs.get("text")
        cut = bool(root.outputs.get("interrupted")) and bool(heard) and said is not None
        turns.append(RecordedTurn(said, replies, heard, cut))
    thread = name or str(roots[0].metadata.get("thread_id") or "call")
    outputs: dict[str, list[Output]] = {}
    for run in sorted((run for run in known if run.kind == "tool"), key=lambda run: run.begun):
        if (output := run.tool_output) is not None:
            outputs.setdefault(run.name, []).append(output)
    return checked(RecordedCall(thread, tuple(_joined(turns)), exact=True, outputs=outputs))


def _joined(turns: Sequence[RecordedTurn]) -> Iterable[RecordedTurn]:
    """Words of the caller that nobody answered before others followed are one turn with these."""
    waiting: list[str] = []
    for turn in turns:
        if turn.said is not None and not turn.replies and not turn.heard:
            waiting.append(turn.said)
            continue
        if waiting and turn.said is not None:
            turn = RecordedTurn(" ".join([*waiting, turn.said]), turn.replies, turn.heard, turn.cut)
            waiting = []
        yield turn
    if waiting:
        yield RecordedTurn(" ".join(waiting))


class _Run:
    """One run of LangSmith, as an object or as a dict."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def _get(self, name: str) -> Any:
        return self._run.get(name) if isinstance(self._run, Mapping) else getattr(self._run, name, None)

    @property
    def name(self) -> str:
        return str(self._get("name"))

    @property
    def kind(self) -> str:
        return str(self._get("run_type"))

    @property
    def begun(self) -> datetime:
        found = self._get("start_time")
        made = datetime.fromisoformat(found) if isinstance(found, str) else found
        return made.replace(tzinfo=None) if made is not None else datetime.min

    @property
    def inputs(self) -> Mapping[str, Any]:
        return self._get("inputs") or {}

    @property
    def outputs(self) -> Mapping[str, Any]:
        return self._get("outputs") or {}

    @property
    def metadata(self) -> Mapping[str, Any]:
        return (self._get("extra") or {}).get("metadata") or {}

    @property
    def trace_id(self) -> str:
        return str(self._get("trace_id") or self._get("id"))

    @property
    def is_turn(self) -> bool:
        return self._get("parent_run_id") is None and "turn_id" in self.metadata

    @property
    def is_model(self) -> bool:
        return self.kind == "llm"

    @property
    def reply(self) -> Reply | None:
        """The model's answer; None when it gave none."""
        batches = self.outputs.get("generations") or []
        found = batches[0][0].get("message") if batches and batches[0] else None
        if not isinstance(found, Mapping):
            return None
        about = found.get("kwargs") or found
        content = about.get("content") or ""
        text = content if isinstance(content, str) else _text_of(content)
        calls = tuple({k: call.get(k) for k in ("name", "args", "id")} for call in about.get("tool_calls") or ())
        if not text and not calls:
            return None
        return Reply(str(self.metadata.get("langgraph_node") or ""), text, calls)

    @property
    def tool_output(self) -> Output | None:
        found, failed = self.outputs.get("output"), False
        if isinstance(found, Mapping):
            about = found.get("kwargs") or found
            found, failed = about.get("content"), about.get("status") == "error"
        if not isinstance(found, str):
            return None
        return {"error": found} if failed else found


def _text_of(blocks: Any) -> str:
    return "".join(
        block if isinstance(block, str) else str(block.get("text") or "")
        for block in blocks
        if isinstance(block, str) or block.get("type") == "text"
    )
