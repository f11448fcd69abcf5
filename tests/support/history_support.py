"""Generated conversations and policies, and what must hold for each: shared by the history tests."""

import copy
import os
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.graph.message import REMOVE_ALL_MESSAGES

from graph_voice import history
from graph_voice.testing import check_prompt
from graph_voice.testing.prompts import RULES

EXAMPLES = int(os.environ.get("GRAPH_VOICE_EXAMPLES", "200"))
"""Per property. `GRAPH_VOICE_EXAMPLES=10000 pytest tests/core/history/test_rules.py` looks harder."""

thorough = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

TOOLS = ("look_up", "book", "transfer_to_billing")
AGENTS = ("triage", "billing", "support")
texts = st.sampled_from(["Hello.", "One moment.", "My bill is wrong.", "I see.", "yes", "It's 42 dollars."])

T = TypeVar("T")


def done(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing, as the operations that ask no model do."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waited for something")


@st.composite
def conversations(draw: st.DrawFn, *, torn: bool = True, max_groups: int = 8) -> list[AnyMessage]:
    """A call with several agents: turns, batches of tool calls (some still running), summaries, instructions.

    With `torn`, as a foreign node or a crash may leave it: results missing, out of place or twice, ids twice.
    """
    messages: list[AnyMessage] = []
    calls = 0
    for number in range(draw(st.integers(0, max_groups))):
        name, kind = draw(st.sampled_from(AGENTS)), draw(st.sampled_from("uuabbbse"))
        if kind == "u":
            messages.append(HumanMessage(draw(texts), id=f"u{number}"))
        elif kind == "a":
            extra = {"interrupted": True} if draw(st.booleans()) else {}
            messages.append(AIMessage(draw(texts), id=f"a{number}", name=name, additional_kwargs=extra))
        elif kind == "s":
            marks: dict[str, Any] = draw(
                st.sampled_from(
                    [{}, {"is_summary": True, "made_by_history": "summary"}, {"made_by_history": "userdata"}]
                )
            )
            messages.append(SystemMessage(draw(texts), id=f"s{number}", additional_kwargs=marks))
        elif kind == "e":
            messages.append(AIMessage("", id=f"e{number}", name=name))
        else:
            size = draw(st.integers(1, 3))
            ids = [f"call_{calls + i}" for i in range(size)]
            calls += size
            if torn and calls > size and draw(st.integers(0, 9)) == 0:
                ids[0] = "call_0"  # some providers count their calls from one in each message
            asked = [{"name": draw(st.sampled_from(TOOLS)), "args": {"n": i}, "id": c} for i, c in enumerate(ids)]
            broken = []
            if torn and draw(st.integers(0, 9)) == 0:
                broken = [{"name": "book", "args": "{", "id": f"broken_{number}", "error": "not JSON"}]
            text = draw(st.sampled_from(["", "One moment."]))
            messages.append(AIMessage(text, id=f"b{number}", name=name, tool_calls=asked, invalid_tool_calls=broken))
            results = [
                ToolMessage(draw(texts), id=f"result-{c}", tool_call_id=c, name=a["name"])
                for c, a in zip(ids, asked, strict=True)
            ]
            for result in draw(st.permutations(results)) if torn else results:
                if draw(st.integers(0, 7)) == 0 and torn:
                    continue
                if draw(st.integers(0, 5)) == 0:
                    result = result.model_copy(update={"additional_kwargs": {"placeholder": True}})
                messages.append(result)
    if torn and messages:
        for _ in range(draw(st.integers(0, 2))):
            at, to = (draw(st.integers(0, len(messages) - 1)) for _ in range(2))
            action = draw(st.sampled_from(["drop", "move", "twice"]))
            moved = messages[at] if action == "twice" else messages.pop(at)
            if action != "drop":
                messages.insert(to, moved)
            if not messages:
                break
    elif messages and draw(st.booleans()):
        # The last batch is still running.
        while messages and isinstance(messages[-1], ToolMessage):
            messages.pop()
    return messages


pure_steps = st.one_of(
    st.just(history.fresh()),
    st.just(history.full()),
    st.just(history.exclude_instructions()),
    st.just(history.exclude_tool_calls()),
    st.just(history.exclude_empty()),
    st.lists(st.sampled_from(TOOLS), max_size=2).map(lambda names: history.only_tools(*names)),
    st.integers(0, 6).map(lambda n: history.truncate(max_items=n)),
    st.integers(0, 4).map(history.last_turns),
    st.integers(1, 60).map(history.trim_tokens),
    st.builds(
        lambda limit, n: history.when(max_items=limit, then=history.exclude_empty() | history.truncate(max_items=n)),
        st.integers(1, 8),
        st.integers(0, 6),
    ),
    st.integers(1, 60).map(lambda limit: history.when(max_tokens=limit, then=history.last_turns(1))),
)
other_steps = st.sampled_from(
    [history.userdata_summary(), history.userdata_summary("json"), history.resume(), history.custom(f"{__name__}:tear")]
)


def _composed(steps: Sequence[history.Operation]) -> history.Operation:
    policy = steps[0]
    for step in steps[1:]:
        policy |= step
    return policy


pure_policies = st.lists(pure_steps, min_size=1, max_size=4).map(_composed)
policies = st.lists(st.one_of(pure_steps, other_steps), min_size=1, max_size=4).map(_composed)


def tear(messages: list[AnyMessage], userdata: Any) -> list[AnyMessage]:
    """A custom operation that does everything wrong: it changes what it gets, splits pairs, repeats messages."""
    for message in messages:
        message.content = "changed"
        message.additional_kwargs["changed"] = True
        if isinstance(message, AIMessage):
            message.tool_calls.clear()
    return [*messages[1::2], *messages[:1]]


def frozen(messages: Sequence[BaseMessage]) -> list[Any]:
    return [(id(m), copy.deepcopy(m.model_dump())) for m in messages]


def assert_strict(messages: Sequence[BaseMessage]) -> None:
    """The pairing rule and unique ids, by the test kit's own reading of them (which shares no code with ours)."""
    spoken = [m for m in messages if not (isinstance(m, HumanMessage) and not m.content)]
    check_prompt([HumanMessage("(begin)", id="begin"), *spoken], allow=tuple(RULES))


# ---- updates of a channel of messages

_known_ids = st.sampled_from([f"{kind}{n}" for kind in "uab" for n in range(5)])
single_updates: st.SearchStrategy[Any] = st.one_of(
    st.builds(lambda i, t: HumanMessage(t, id=i), _known_ids, texts),
    st.builds(lambda i, t: AIMessage(t, id=i), _known_ids, texts),
    st.builds(lambda i: SystemMessage("Be brief.", id=f"s{i}"), st.integers(0, 3)),
    st.builds(
        lambda i, c: AIMessage("", id=f"b{i}", tool_calls=[{"name": TOOLS[c % 3], "args": {}, "id": f"call_{c}"}]),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    st.builds(lambda c, t: ToolMessage(t, id=f"result-call_{c}", tool_call_id=f"call_{c}"), st.integers(0, 5), texts),
    st.builds(HumanMessage, texts),
    st.builds(lambda t: ("user", t), texts),
    st.builds(lambda t: {"role": "assistant", "content": t}, texts),
    texts,
)
removals = st.one_of(_known_ids.map(RemoveMessage), st.just(RemoveMessage(REMOVE_ALL_MESSAGES)))
updates = st.lists(st.one_of(single_updates, single_updates, single_updates, removals), max_size=6)
