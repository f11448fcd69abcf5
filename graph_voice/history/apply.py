"""Running a history policy: its operations in order, including those that need a model or the userdata."""

from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage

from graph_voice.history.operation import KINDS, Operation, Setting, Summarize, arguments, run_pure
from graph_voice.history.pure_operations import exceeds
from graph_voice.history.summaries import summarized
from graph_voice.messages.pairs import pair_safe

__all__ = ["apply", "run"]


async def apply(
    op: Operation,
    messages: Sequence[AnyMessage],
    *,
    userdata: Any = None,
    model: BaseChatModel | None = None,
    earlier: Sequence[AnyMessage] = (),
) -> list[AnyMessage]:
    """The result of an operation, for your own nodes: `await history.apply(op, state["messages"], model=model)`.

    Args:
        op: the operation.
        messages: the context it is applied to. Neither the list nor its messages change.
        userdata: for `userdata_summary` and `custom`.
        model: for a `summarize` that names no model.
        earlier: the target agent's own earlier context, for `resume`.

    The result satisfies the pairing rule. Raises what a `custom` function raises, and `HistoryError` when it can't be
    imported.
    """
    return await run(op, messages, userdata=userdata, model=model, earlier=earlier, summarize=summarized)


async def run(
    op: Operation,
    messages: Sequence[AnyMessage],
    *,
    userdata: Any = None,
    model: BaseChatModel | None = None,
    earlier: Sequence[AnyMessage] = (),
    summarize: Summarize,
) -> list[AnyMessage]:
    """As `apply`. `summarize` runs a `summarize` step: context compaction and a handoff do it differently."""
    return list(await _run(op, pair_safe(messages), Setting(userdata, model, earlier, summarize)))


async def _run(op: Operation, result: list[AnyMessage], setting: Setting) -> list[AnyMessage]:
    for step in op.steps:
        kind, args = KINDS[step["op"]], arguments(step)
        if step["op"] == "when":
            then = Operation(args.pop("then"))
            if exceeds(result, **args):
                result = await _run(then, result, setting)
        elif kind.pure is not None:
            result = run_pure(result, step)
        elif kind.run is not None:
            result = await kind.run(result, setting, **args)
        result = pair_safe(result)
    return result
