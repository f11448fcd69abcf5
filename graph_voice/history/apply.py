"""Running a history policy: the operations in order, those that ask a model or the userdata among them."""

import copy
import inspect
import json
from collections.abc import Sequence
from typing import Any, Protocol, cast

import yaml
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, SystemMessage, convert_to_messages

from graph_voice.history.operations import Operation
from graph_voice.history.pure_operations import MADE, PURE, exceeds, import_path
from graph_voice.history.summaries import summarized
from graph_voice.messages.pairs import pair_safe
from graph_voice.userdata import channel as _userdata

__all__ = ["Summarize", "apply", "run"]


class Summarize(Protocol):
    """Does a `summarize` step: see `summaries.summarized`."""

    async def __call__(
        self, messages: Sequence[AnyMessage], step: dict[str, Any], *, model: BaseChatModel | None
    ) -> list[AnyMessage]: ...


async def apply(
    op: Operation,
    messages: Sequence[AnyMessage],
    *,
    userdata: Any = None,
    model: BaseChatModel | None = None,
    earlier: Sequence[AnyMessage] = (),
) -> list[AnyMessage]:
    """The result of an operation, for one's own nodes: `await history.apply(op, state["messages"], model=model)`.

    Args:
        op: the operation.
        messages: the context it is applied to; neither the list nor its messages are changed.
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
    """As `apply`; `summarize` does what a step of that name does: an agent's long stay and a handoff differ in it."""
    result = pair_safe(messages)
    for step in op.steps:
        name, args = step["op"], {k: v for k, v in step.items() if k != "op"}
        if name in PURE:
            result = PURE[name](result, **args)
        elif name == "when":
            then = Operation(args.pop("then"))
            if exceeds(result, **args):
                result = await run(then, result, userdata=userdata, model=model, earlier=earlier, summarize=summarize)
        elif name == "userdata_summary":
            result = _put_first(result, _summary_of_userdata(userdata, **args))
        elif name == "resume":
            result = _resumed(earlier, result)
        elif name == "summarize":
            result = await summarize(result, args, model=model)
        else:
            result = await _custom(result, userdata, **args)
        result = pair_safe(result)
    return list(result)


def _resumed(earlier: Sequence[AnyMessage], result: Sequence[AnyMessage]) -> list[AnyMessage]:
    newer = {m.additional_kwargs[MADE] for m in result if MADE in m.additional_kwargs}
    known = [m for m in earlier if m.additional_kwargs.get(MADE) not in newer]
    ids = {m.id for m in known if m.id is not None}
    return [*known, *(m for m in result if m.id not in ids)]


async def _custom(messages: list[AnyMessage], userdata: Any, fn: str) -> list[AnyMessage]:
    made = import_path(fn)([_own_copy(m) for m in messages], copy.deepcopy(userdata))
    return cast(list[AnyMessage], convert_to_messages(await made if inspect.isawaitable(made) else made))


def _own_copy(message: AnyMessage) -> AnyMessage:
    """A copy that a stranger may change. An artifact is shared: it may be anything, a connection even."""
    own = message.model_copy()
    for name, value in message.__dict__.items():
        if isinstance(value, list | dict) and name != "artifact":
            own.__dict__[name] = _own_data(value)
    return own


def _own_data(value: Any) -> Any:
    """As `copy.deepcopy`, at a fraction of its cost for what a message's fields are made of."""
    kind = type(value)
    if kind is dict:
        return {k: _own_data(v) for k, v in value.items()} if value else {}
    if kind is list:
        return [_own_data(v) for v in value]
    return value if kind in (str, int, float, bool, type(None)) else copy.deepcopy(value)


def _put_first(messages: list[AnyMessage], summary: SystemMessage | None) -> list[AnyMessage]:
    rest = [m for m in messages if m.additional_kwargs.get(MADE) != "userdata"]
    return rest if summary is None else [summary, *rest]


def _summary_of_userdata(
    userdata: Any, format: str = "yaml", include: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> SystemMessage | None:
    fields = _userdata.public_fields(userdata, include=include, exclude=exclude)
    if not fields:
        return None
    if format == "json":
        text = json.dumps(fields, ensure_ascii=False, default=str)
    else:
        text = yaml.safe_dump(fields, allow_unicode=True, sort_keys=False).strip()
    return SystemMessage(f"What is known so far:\n{text}", id="userdata-summary", additional_kwargs={MADE: "userdata"})
