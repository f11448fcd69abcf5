"""The stack of tasks: who waits for whom, as plain data in the state.

A frame is one tool call (or `on_enter` method) that waits for a task, with the results that it has had so far. While
its task runs, the task's agent is active. When the task has ended, the frame is done: the agent is active again, and
its tool call runs once more, from its start, with the results.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NotRequired

from langchain_core.messages import AnyMessage, HumanMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from typing_extensions import TypedDict

from graph_voice.agents.replay import MAX_DEPTH, Replay, TaskWanted
from graph_voice.agents.task_end import Done
from graph_voice.errors import StateError
from graph_voice.secrets.values import opened

__all__ = [
    "TASKS",
    "StackUpdate",
    "TaskFrame",
    "abandon",
    "answered",
    "asks_caller",
    "begun",
    "ended",
    "frame_of",
    "goes_on_with",
    "going_on",
    "let_go_on",
    "merge_stack",
    "moved_to",
    "node_of",
    "replay_of",
    "returned_to",
    "running_task",
    "stack_of",
    "whole_call",
]


TASKS = "tasks"
"""Marks the result of a tool call that ran tasks: how many since the caller last spoke."""


StackUpdate = dict[str, Any]
"""What a node changes of the stack: see `merge_stack`."""


class TaskFrame(TypedDict):
    """One task that runs, or has just ended."""

    id: str
    task: str
    """The task's name."""
    agent: str | None
    """Who waits for it; None when the task is the whole call."""
    call_id: str | None
    """The tool call that waits; None for an `on_enter` method."""
    asking: str | None
    """The id of the message that made the tool call."""
    chat_ctx: dict[str, Any]
    """What the agent that waits was shown when the task began, with the boundary to what came later."""
    results: list[dict[str, Any]]
    """The results that the tool call has had so far: `{"task": name, "value": ...}`, or `"error"`."""
    inputs: dict[str, Any]
    draft: Any
    done: bool
    """Whether the task has ended, and the tool call can go on."""
    said: list[str]
    """What an `on_enter` method has said so far."""
    begun: list[Any]
    """The id of the caller's last message, and the number of tasks that began since."""
    goes_on: NotRequired[bool]
    """Whether the tool call has gone on after its task had ended: it may have acted."""
    asks: NotRequired[bool]
    """Whether the tool call that has gone on waits for the caller's answer (LangGraph's `interrupt()`)."""
    group: NotRequired[str | None]
    """The group that the task is a step of."""
    earlier: NotRequired[list[str]]
    """The steps of the group that have run."""
    left: NotRequired[bool]
    """Whether the conversation has gone to somebody else: the task is abandoned."""


def merge_stack(current: Sequence[Any] | None, update: Any) -> list[TaskFrame]:
    """The reducer of `stack`. Turns may overlap, so a node says what it changes: `{"push": [frame], "drop": [id],
    "set": {id: {"done": True}}}`, all keys optional. A list replaces the value.

    Raises `StateError` for anything else.
    """
    if update is None:
        return list(current or ())
    if isinstance(update, list | tuple):
        return list(update)
    if not isinstance(update, Mapping) or set(update) - {"push", "drop", "set"}:
        raise StateError(f"stack={update!r:.80}: write a list of frames, or leave it out.")
    changed: Mapping[str, Any] = update.get("set", {})
    kept = [f for f in current or () if f["id"] not in update.get("drop", ())]
    kept = [{**frame, **changed[frame["id"]]} if frame["id"] in changed else frame for frame in kept]
    known = {frame["id"] for frame in kept}
    return [*kept, *(frame for frame in update.get("push", ()) if frame["id"] not in known)]


def stack_of(state: Mapping[str, Any]) -> list[TaskFrame]:
    """The frames, outermost first."""
    return list(state.get("stack") or ())


def frame_of(state: Mapping[str, Any], task: str) -> TaskFrame | None:
    """The frame in which this task runs; None when nobody runs it."""
    running = [frame for frame in stack_of(state) if not frame["done"]]
    return running[-1] if running and running[-1]["task"] == task else None


def running_task(state: Mapping[str, Any]) -> TaskFrame | None:
    """The innermost task that runs; None if none does."""
    return next((frame for frame in reversed(stack_of(state)) if not frame["done"]), None)


def returned_to(state: Mapping[str, Any], agent: str) -> TaskFrame | None:
    """The frame of this agent whose task has ended, so that its tool call goes on now."""
    stack = [frame for frame in stack_of(state) if not frame.get("goes_on")]
    top = stack[-1] if stack else None
    return top if top is not None and top["done"] and top["agent"] == agent else None


def going_on(frame: TaskFrame) -> StackUpdate:
    """The tool call whose task has ended goes on. No other turn lets it go on as well."""
    return {"set": {frame["id"]: {"goes_on": True, "asks": False}}}


def let_go_on(frame: TaskFrame) -> StackUpdate:
    """An earlier turn lets the tool call go on, and may ask the caller for it."""
    return {"set": {frame["id"]: {"goes_on": True}}}


def asks_caller(frame: TaskFrame) -> StackUpdate:
    """The tool call that has gone on asks the caller. It goes on with the answer, and with nothing else."""
    return {"set": {frame["id"]: {"asks": True}}}


def answered(state: Mapping[str, Any], agent: str) -> dict[str, Any]:
    """The state of a run that goes on with the caller's answer: a tool call of this agent that has asked behind its
    task finds its results again."""
    stack = stack_of(state)
    if not stack or not stack[-1].get("asks") or stack[-1]["agent"] != agent:
        return dict(state)
    return {**state, "stack": merge_stack(stack, {"set": {stack[-1]["id"]: {"goes_on": False}}})}


def goes_on_with(frame: TaskFrame, call_id: str) -> StackUpdate:
    """Another tool call of the batch goes on, which has had no task yet."""
    return {"set": {frame["id"]: {"call_id": call_id, "results": [], "goes_on": False}}}


def moved_to(state: Mapping[str, Any], agent: str) -> str | None:
    """The node to go to, when the conversation has gone from this agent to a task, or from a task to who waited."""
    stack = stack_of(state)
    if not stack or state.get("active_agent") == agent:
        return None
    top = stack[-1]
    if not top["done"]:
        return top["task"] if top["agent"] == agent and state.get("active_agent") == top["task"] else None
    if top["task"] != agent or top["agent"] != state.get("active_agent"):
        return None
    return node_of(top)


def node_of(frame: TaskFrame) -> str:
    """The node that goes on when this task has ended."""
    return f"{frame['agent']}_tools" if frame["call_id"] is not None else str(frame["agent"])


def begun(
    state: Mapping[str, Any],
    wanted: TaskWanted,
    *,
    agent: str,
    call_id: str | None,
    asking: str | None,
    chat_ctx: Mapping[str, Any],
    inputs: dict[str, Any],
    draft: Any,
    said: Sequence[str] = (),
) -> StackUpdate:
    """A task begins. A tool call that has had results already keeps them."""
    results, dropped, own = list[dict[str, Any]](), list[str](), 0
    user, _ = _begun_since(state)
    if (before := returned_to(state, agent)) is not None and before["call_id"] == call_id:
        dropped, results = [before["id"]], before["results"]
        own = before["begun"][1] if results and before["begun"][0] == user else 0
    frame = TaskFrame(
        id=f"task-{uuid.uuid4().hex[:12]}",
        task=wanted.task,
        agent=agent,
        call_id=call_id,
        asking=asking,
        chat_ctx=dict(chat_ctx),
        results=results,
        inputs=inputs,
        draft=draft,
        done=False,
        said=list(said),
        begun=[user, own + 1],
        group=wanted.group,
        earlier=wanted.earlier,
    )
    return {"drop": dropped, "push": [frame]}


def ended(frame: TaskFrame, end: Done) -> StackUpdate:
    """Its task has ended."""
    return {"set": {frame["id"]: {"done": True, "draft": None, "results": [*frame["results"], end.result()]}}}


def whole_call(task: str, *, draft: Any = None, end: Done | None = None) -> StackUpdate:
    """A task that nobody waits for, because it is the whole call, has a draft, or has ended."""
    frame = TaskFrame(
        id=f"task-{task}",
        task=task,
        agent=None,
        call_id=None,
        asking=None,
        chat_ctx={},
        results=[] if end is None else [end.result()],
        inputs={},
        draft=draft,
        done=end is not None,
        said=[],
        begun=[None, 0],
    )
    return {"drop": [frame["id"]], "push": [frame]}


def replay_of(
    state: Mapping[str, Any],
    agent: str,
    tasks: Collection[str],
    call_id: str | None,
    secrets: SerializerProtocol | None,
) -> Replay:
    """The tasks of a tool call that runs now, with the results that it has had. `secrets` decrypts those in them."""
    before = returned_to(state, agent)
    own = before is not None and before["call_id"] == call_id
    waiting = [frame["task"] for frame in stack_of(state) if not frame["done"]]
    _, number = _begun_since(state)
    results = before["results"] if own and before is not None else ()
    return Replay(agent, tasks, opened(list(results), secrets), waiting, MAX_DEPTH - number)


def _begun_since(state: Mapping[str, Any]) -> tuple[str | None, int]:
    """The id of the caller's last message, and the number of tasks that have begun since."""
    messages: Sequence[AnyMessage] = state.get("messages") or ()
    number, user = 0, None
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            user = message.id
            break
        number += message.additional_kwargs.get(TASKS, 0)
    return user, number + sum(f["begun"][1] for f in stack_of(state) if f["begun"][0] == user)


def abandon(state: Mapping[str, Any]) -> StackUpdate | None:
    """The conversation goes to somebody else: every task is abandoned. None: there is none."""
    stack = stack_of(state)
    left = {f["id"]: {"left": True} for f in stack if f["agent"] is not None and not f.get("goes_on")}
    dropped = [f["id"] for f in stack if f["agent"] is None and not f["done"]]
    return {"set": left, "drop": dropped} if left or dropped else None
