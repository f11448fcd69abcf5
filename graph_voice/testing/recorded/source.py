"""A recorded call as a pytest file."""

import pprint
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from graph_voice.call.conversation import Conversation
from graph_voice.launch.loading import load_graph
from graph_voice.testing.happened import AgentHandoff, FunctionCall
from graph_voice.testing.record import source_of
from graph_voice.testing.recorded.call import RecordedCall, from_messages
from graph_voice.testing.recorded.replay import Replay, replay
from graph_voice.testing.scripted_call import Call

__all__ = ["recorded_test"]

_WIDTH = 116


def recorded_test(
    call: "RecordedCall | Conversation[Any] | Call[Any] | Sequence[Any]",
    *,
    graph: str,
    name: str | None = None,
    userdata: dict[str, Any] | None = None,
    mock: Sequence[str] = (),
    prompts: bool = True,
) -> str:
    """A call as a pytest file, which plays it again word for word, and fails when something else happens.

    The call is played once, to see that it goes as it was recorded: the graph's tools run.

    Args:
        call: a recorded call (`from_folder`, `from_thread`, `from_runs`), or a `Conversation`, a `Call`, or
            its messages.
        graph: the graph's path, as for `graph-voice chat`: "graphs/restaurant.py".
        name: of the test. Default: the call's.
        userdata: the userdata at the beginning, as JSON data. Default: the graph's own.
        mock: tools that answer as they did, instead of running.
        prompts: whether the test also fails when an agent is told something else.

    Raises `RecordError` when the call does not go as it was recorded, and `LoadError` for the path.
    """
    recorded = _recorded(call, name).with_userdata(userdata)
    played = replay(recorded, load_graph(graph), mock=mock)
    parts = [_head(recorded, graph, played, mock, prompts), *_tests(recorded, played, mock, prompts)]
    return "\n\n\n".join(parts) + "\n"


def _recorded(call: Any, name: str | None) -> RecordedCall:
    if isinstance(call, RecordedCall):
        return call
    if isinstance(call, Conversation | Call):
        found = call if isinstance(call, Conversation) else call.conversation
        return from_messages(found.messages, name=name or found.thread_id)
    return from_messages(call, name=name or "call")


# ---- the file


def _head(recorded: RecordedCall, graph: str, played: Replay, mock: Sequence[str], prompts: bool) -> str:
    script = source_of(played.script)
    names = ["Call", "ScriptedModel", "load_graph", *(w for w in ("call", "say") if re.search(rf"\b{w}\(", script))]
    helpers = [*(["answers"] if mock else []), *(["userdata_of"] if recorded.userdata is not None else [])]
    lines = [
        "# ruff: noqa: E501",
        f'"""The recorded call {recorded.name}: what the caller said, what the models answered, and what came of it.',
        "",
        "`pytest --graph-voice-live MODEL` lets a real model answer the caller, as after a change of a prompt.",
        '"""',
        "",
        "import pytest",
        "",
        f"from graph_voice.testing import {', '.join(sorted(names))}",
        *([f"from graph_voice.testing.recorded import {', '.join(helpers)}"] if helpers else []),
        "",
        f"GRAPH = {graph!r}",
        f"SCRIPT = {script}",
    ]
    if prompts:
        told = _texts(played.instructions)
        lines += [f"INSTRUCTIONS = {told}", '"""What the agents were told when they answered."""']
    if recorded.userdata is not None:
        lines += [f"USERDATA = {_shown(recorded.userdata)}", '"""With which the call began."""']
    if mock:
        given = {tool: recorded.outputs.get(tool, []) for tool in mock}
        lines += [f"ANSWERS = {_texts(given)}", '"""What these tools answered. They do not run."""']
    return "\n".join(lines)


def _tests(recorded: RecordedCall, played: Replay, mock: Sequence[str], prompts: bool) -> Iterator[str]:
    name = re.sub(r"\W+", "_", recorded.name).strip("_").lower() or "call"
    begin = _begin(recorded, mock)
    yield "\n".join([_signature(f"test_{name}_word_for_word"), *begin, *_exact(played, prompts)])
    yield "\n".join(["@pytest.mark.live", _signature(f"test_{name}_with_a_real_model"), _SKIP, *begin, *_loose(played)])


_SKIP = """\
    if Call.live_model is None:
        pytest.skip("for a real model: pytest --graph-voice-live MODEL")"""


def _signature(test: str) -> str:
    return f"@pytest.mark.virtual_clock\nasync def {test}() -> None:"


def _begin(recorded: RecordedCall, mock: Sequence[str]) -> list[str]:
    options = ["llm=model"]
    if recorded.userdata is not None:
        options.append("userdata=userdata_of(graph, USERDATA)")
    if mock:
        options.append("mocks=answers(graph, ANSWERS)")
    return [
        "    graph, model = load_graph(GRAPH), ScriptedModel(SCRIPT)",
        f"    async with Call(graph, {', '.join(options)}) as phone:",
    ]


def _exact(played: Replay, prompts: bool) -> Iterator[str]:
    """Everything that happened, word for word."""
    if played.greeting.lines:
        yield from _same("phone.greeting.lines", played.greeting.lines)
    for step, result in zip(played.steps, played.results, strict=True):
        yield from (f"        phone.barge_in({cut.text!r}, after_words={cut.after_words})" for cut in step.cuts)
        yield f"        result = await phone.says({step.said!r})"
        yield from _same("result.lines", result.lines)
    yield f"    assert phone.active_agent == {played.active_agent!r}"
    yield f"    assert phone.public_userdata == {_shown(played.userdata, 4)}"
    if prompts:
        yield '    assert model.instructions == INSTRUCTIONS, "the recorded answers were given to other instructions"'


def _same(what: str, lines: Sequence[str]) -> Iterator[str]:
    yield f"        assert {what} == ["
    yield from (f"            {line!r}," for line in lines)
    yield "        ]"


def _loose(played: Replay) -> Iterator[str]:
    """What any good model does when the caller says the same: the same tools are called, the same agents take over."""
    for step in played.steps:
        yield from (f"        await phone.says({said!r})" for said in (step.said, *(cut.text for cut in step.cuts)))
    items = [item for result in (played.greeting, *played.results) for item in result.items]
    called = [item.name for item in items if isinstance(item, FunctionCall)]
    taken = [item.new_agent for item in items if isinstance(item, AgentHandoff)]
    for name in dict.fromkeys(called):
        yield f"    phone.result.expect.contains_function_call(name={name!r})"
    for agent in dict.fromkeys(taken):
        yield f"    phone.result.expect.contains_agent_handoff(new_agent={agent!r})"
    yield f"    assert phone.active_agent == {played.active_agent!r}"


def _texts(named: Mapping[str, Sequence[Any]]) -> str:
    """Lists of texts by name, a text a line."""
    parts = [
        f"    {name!r}: [\n{''.join(f'        {text!r},{chr(10)}' for text in texts)}    ],\n"
        for name, texts in named.items()
    ]
    return "{\n" + "".join(parts) + "}"


def _shown(value: Any, indent: int = 0) -> str:
    shown = pprint.pformat(value, width=_WIDTH - indent, sort_dicts=False)
    return shown.replace("\n", "\n" + " " * indent)
