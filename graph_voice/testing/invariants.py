"""What always holds after a turn, however it ended, as functions."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice.agents.tools import is_idempotent
from graph_voice.call.conversation import Conversation
from graph_voice.graph.build import runtime_of
from graph_voice.secrets.values import MASK
from graph_voice.testing.result import PlayedCall

__all__ = ["check_invariants", "invariants"]


def invariants(call: PlayedCall) -> None:
    """Check the six invariants of a turn on a scripted call that is at rest.

    1. Each tool call in `messages` and in the active agent's view has its answer directly after it.
    2. The agents' words in the state are those that the caller heard.
    3. A tool ran at most once for each tool call id; after a crash it runs again only if it is `idempotent`.
    4. The active agent of the state is the current agent of the front end.
    5. None of the caller's turns is lost, and the last one is answered.
    6. Each id appears once, and the agents' words are in the order in which they were heard.

    What a crash may lose (words of the last half second) is allowed.

    Raises `AssertionError` with everything that is wrong, numbered as above, and the transcript.
    """
    conversation, messages, crashed = call.conversation, call.messages, call.crashes > 0
    wrong = [
        *(f"1, in messages: {problem}" for problem in _pairing(messages)),
        *(f"1, in the view: {problem}" for problem in _pairing(conversation.chat_ctx)),
        *(f"2: {problem}" for problem in _words(messages, call.heard, call.heard_since_crash, crashed)),
        *(f"3: {problem}" for problem in _runs(call)),
    ]
    if not call.over and call.current_agent != conversation.active_agent:
        wrong.append(
            f"4: {call.current_agent!r} is the current agent, in the state it is {conversation.active_agent!r}"
        )
    wrong += [f"5: {problem}" for problem in _turns(messages, call.said, crashed)]
    wrong += [f"6: {problem}" for problem in _once(messages)]
    if not crashed:
        wrong += [f"6: {problem}" for problem in _order(messages, call.heard)]
    if wrong:
        listed = "\n- ".join(wrong)
        shown = "\n".join(_line(m) for m in messages)
        raise AssertionError(
            f"The call broke these invariants:\n- {listed}\nThe call:\n{call.transcript}\nWhat is remembered:\n{shown}"
        )


def _words(messages: Sequence[BaseMessage], heard: list[str], since_crash: list[str], crashed: bool) -> Iterable[str]:
    masked = [m for m in messages if isinstance(m, AIMessage) and MASK in m.text]
    rest = list(heard)
    for message in masked:
        found = next((text for text in rest if _are_words(message.text.strip(), text.strip())), None)
        if found is None:
            yield f"remembered, and never heard: {message.text!r}"
        else:
            rest.remove(found)
    others = [m for m in messages if m not in masked]
    problems = list(_heard(others, rest))
    if crashed:
        problems = [p for p in problems if p.startswith("remembered")]
        lost = list(_heard(messages, since_crash))
        problems += [p for p in lost if p.startswith("heard")]
    yield from problems


def _order(messages: Sequence[BaseMessage], heard: list[str]) -> Iterable[str]:
    """Whether the agents' words are in the order in which they were heard. Another rule checks that they are the same
    words."""
    now = [word for m in messages if isinstance(m, AIMessage) for word in m.text.split()]
    was = [word for text in heard for word in text.split()]
    if now != was and Counter(now) == Counter(was):
        at = next(i for i, (one, other) in enumerate(zip(now, was, strict=True)) if one != other)
        yield f"heard was {' '.join(was[at : at + 8])!r} where {' '.join(now[at : at + 8])!r} is remembered"


def _runs(call: PlayedCall) -> Iterable[str]:
    for call_id, times in Counter(call.effects.call_ids).items():
        runs = [run for run in call.effects if run.call_id == call_id]
        # One that waited in `interrupt()` runs again from its beginning: that is LangGraph's rule.
        counted = [run for run in runs if run.outcome != "asking"]
        runtime = runtime_of(call.conversation.graph, runs[0].agent)
        tools = {} if runtime is None else {**runtime.tools.seen, **{t.name: t for t in runtime.agent.own_tools}}
        may_repeat = call.crashes > 0 and is_idempotent(tools.get(runs[0].tool))
        if len(counted) > 1 and not may_repeat:
            yield f"the tool {runs[0].tool} ran {times} times for the tool call {call_id!r}"
    known = {c["id"] for m in call.messages if isinstance(m, AIMessage) for c in m.tool_calls}
    yield from (
        f"the tool {run.tool} ran for the tool call {run.call_id!r}, which is not remembered"
        for run in call.effects
        if run.call_id not in known
    )


def _turns(messages: Sequence[BaseMessage], said: Sequence[str], crashed: bool) -> Iterable[str]:
    found = [m.text for m in messages if isinstance(m, HumanMessage)]
    waiting = list(said)
    for text in found:
        at = next((i for i, words in enumerate(waiting) if _are_words(text, words)), None)
        if at is None:
            yield f"remembered, and never said: {text!r}"
            continue
        if at and not crashed:
            yield f"said, and not remembered: {waiting[:at]}"
        waiting = waiting[at + 1 :]
    if waiting and not crashed:
        yield f"said, and not remembered: {waiting}"
    last = next((i for i in range(len(messages) - 1, -1, -1) if isinstance(messages[i], HumanMessage)), None)
    if last is not None and not any(isinstance(m, AIMessage) for m in messages[last:]):
        yield f"{messages[last].text!r} is not answered"


def check_invariants(
    conversation: Conversation[Any],
    *,
    effects: Iterable[str] | None = None,
    heard: Mapping[str, str] | Iterable[str] | None = None,
    said: Sequence[str] | None = None,
    current_agent: str | None = None,
) -> None:
    """Check that the conversation remembers what happened, and nothing else.

    Always checked: each tool call in `messages` and `chat_ctx` is answered exactly once, directly after its message; no
    answer comes without its tool call; each id appears once.

    Args:
        conversation: at any time.
        effects: the `tool_call_id` of each tool that began to run, in order. Checked: none comes twice, and each one
            is remembered (so it ran in a turn that was committed).
        heard: what the caller heard of the agents, by message id or in any order. Checked: the same words, no more, no
            fewer. Pass it only when nothing is being played.
        said: what the caller said in turns that count, in order. A mask stands for any secret.
        current_agent: the current agent of the front end.

    Raises `AssertionError` with a list of what is wrong, and the conversation.
    """
    messages = conversation.messages
    wrong = [
        *(f"messages: {problem}" for problem in _pairing(messages)),
        *(f"chat_ctx: {problem}" for problem in _pairing(conversation.chat_ctx)),
        *_once(messages),
    ]
    if effects is not None:
        wrong += _effects(messages, list(effects))
    if heard is not None:
        wrong += _heard(messages, heard.values() if isinstance(heard, Mapping) else heard)
    if said is not None:
        found = [m.text for m in messages if isinstance(m, HumanMessage)]
        if len(found) != len(said) or not all(map(_are_words, found, said)):
            wrong.append(f"the caller said {list(said)}; remembered is {found}")
    if current_agent is not None and conversation.active_agent != current_agent:
        wrong.append(f"{current_agent!r} is the current agent, in the state it is {conversation.active_agent!r}")
    if wrong:
        listed = "\n".join(f"- {problem}" for problem in wrong)
        shown = "\n".join(_line(m) for m in messages)
        raise AssertionError(f"What is remembered is not what happened:\n{listed}\nThe conversation:\n{shown}")


def _pairing(messages: Sequence[BaseMessage]) -> Iterable[str]:
    waiting: list[str] = []
    for position, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id in waiting:
                waiting.remove(message.tool_call_id)
            else:
                yield f"message {position} answers {message.tool_call_id!r}, which needs no answer there"
            continue
        if waiting:
            yield f"the tool calls {waiting} are not answered before message {position}"
        calls = [*message.tool_calls, *message.invalid_tool_calls] if isinstance(message, AIMessage) else []
        waiting = [c["id"] or "" for c in calls]
        if isinstance(message, AIMessage) and not calls and not message.content:
            yield f"message {position} says nothing and calls nothing"
    if waiting:
        yield f"the tool calls {waiting} are never answered"


def _once(messages: Sequence[BaseMessage]) -> Iterable[str]:
    calls = [c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls]
    for what, ids in (("message", [m.id for m in messages]), ("tool call", calls)):
        yield from (f"the {what} id {name!r} appears {n} times" for name, n in Counter(ids).items() if n > 1)


def _effects(messages: Sequence[BaseMessage], effects: list[str]) -> Iterable[str]:
    yield from (f"the tool call {name!r} ran {n} times" for name, n in Counter(effects).items() if n > 1)
    known = {c["id"] for m in messages if isinstance(m, AIMessage) for c in m.tool_calls}
    yield from (f"the tool call {name!r} ran, and is not remembered" for name in effects if name not in known)


def _heard(messages: Sequence[BaseMessage], heard: Iterable[str]) -> Iterable[str]:
    was = Counter(word for text in heard for word in text.split())
    now = Counter(word for m in messages if isinstance(m, AIMessage) for word in m.text.split())
    if forgotten := was - now:
        yield f"heard, and not remembered: {' '.join(forgotten.elements())!r}"
    if made_up := now - was:
        yield f"remembered, and never heard: {' '.join(made_up.elements())!r}"


def _are_words(remembered: str, said: str) -> bool:
    """Whether this is what was said, where a mask stands for redacted words."""
    return re.fullmatch(".+".join(map(re.escape, remembered.split(MASK))), said, re.DOTALL) is not None


def _line(message: BaseMessage) -> str:
    calls = [f"{c['name']} id={c['id']}" for c in message.tool_calls] if isinstance(message, AIMessage) else []
    answers = f"answers {message.tool_call_id}" if isinstance(message, ToolMessage) else ""
    return f"  {message.id} {message.type} {message.text!r} {' '.join(calls)}{answers}".rstrip()
