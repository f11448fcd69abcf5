"""One sample of LiveKit's page, told twice: by LiveKit's own agents, and by ours. And what must be the same then."""

import dataclasses
import importlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from livekit.agents import Agent, AgentSession, RunResult, llm
from page_samples.page_llm import PageLLM, Prompt

from graph_voice.messages.prompt import OPENER
from graph_voice.testing import ScriptedModel, say
from graph_voice.testing.script import ScriptedReply, ScriptedToolCall, as_reply
from graph_voice_livekit import GraphAgent

__all__ = ["OnlyLiveKit", "OnlyOurs", "Told", "same_prompts", "same_story", "sample", "told_by_livekit", "told_by_ours"]

SUMMARY = "The router blinks red."

Entry = str | ScriptedToolCall | ScriptedReply
Event = tuple[Any, ...]
Step = str | Callable[[AgentSession[Any], Agent], Any]
"""What the caller says, or what the program does with the session."""


@dataclass(frozen=True)
class OnlyLiveKit:
    """A reply that LiveKit asks its model for, and we do not."""

    reply: str


@dataclass(frozen=True)
class OnlyOurs:
    """A reply that we ask the model for, and LiveKit does not."""

    reply: str


Script = Sequence[Entry | OnlyLiveKit | OnlyOurs]


@dataclass
class Told:
    """What came of one call."""

    agent: Any
    session: AgentSession[Any]
    events: list[Event] = field(default_factory=list)
    """What `AgentSession.run` reports, the first agent's greeting included."""
    history: list[Event] = field(default_factory=list)
    """`session.history`, but for LiveKit's `agent_config_update`."""
    prompts: dict[int, Prompt] = field(default_factory=dict)
    """What the model was shown for each reply, by the reply's place in the script, as (what, text)."""
    summary_prompts: list[Prompt] = field(default_factory=list)
    """What it was shown when it was asked for a summary."""
    active_agent: str = ""
    userdata: Any = None

    @property
    def said(self) -> list[str]:
        return [event[2] for event in self.events if event[:2] == ("message", "assistant")]

    @property
    def handoffs(self) -> list[Event]:
        return [event[1:] for event in self.history if event[0] == "agent_handoff"]


def sample(name: str) -> Any:
    return importlib.import_module(f"page_samples.{name}")


# ---- the same call, twice


async def told_by_livekit(
    agent: Agent, script: Script, steps: Sequence[Step], make_session: Callable[..., AgentSession[Any]] | None = None
) -> Told:
    next_line, left = _reader(script, OnlyOurs)
    model = PageLLM(next_line)
    told = Told(agent, AgentSession[Any](llm=model, vad=None) if make_session is None else make_session(model))
    await _call(told, steps)
    _sort(told, model.prompts)
    assert not left, f"LiveKit did not ask for {left}"
    return told


async def told_by_ours(graph: Any, script: Script, steps: Sequence[Step], *, userdata: Any = None) -> Told:
    next_line, left = _reader(script, OnlyLiveKit)
    asked: list[tuple[int | None, Prompt]] = []

    def answer(messages: list[BaseMessage]) -> ScriptedReply:
        place, line = next_line(shown_to_ours(messages))
        asked.append((place, shown_to_ours(messages)))
        return line

    model = ScriptedModel(answer)
    agent = GraphAgent(graph, config={"configurable": {"llm": model}})
    given = {} if userdata is None else {"userdata": userdata}
    told = Told(agent, AgentSession[Any](vad=None, **given))
    await _call(told, steps)
    _sort(told, asked)
    assert not model.errors
    assert not left, f"ours did not ask for {left}"
    assert agent.conversation.active_agent == told.active_agent
    records = [(h["old_agent_id"], h["new_agent_id"]) for h in agent.conversation.handoffs]
    assert records == [h for h in told.handoffs if h[0] is not None]
    return told


def _reader(script: Script, left_out: type) -> tuple[Callable[[Prompt], tuple[int | None, ScriptedReply]], list[Any]]:
    """The script as one side plays it. A request for a summary has no place in the order, and one answer always."""
    left = [(place, entry) for place, entry in enumerate(script) if not isinstance(entry, left_out)]

    def next_line(shown: Prompt) -> tuple[int | None, ScriptedReply]:
        if "summar" in shown[0][1].lower():
            return None, say(SUMMARY)
        assert left, f"the model is asked for a reply that the script does not have, and is shown {shown}"
        place, entry = left.pop(0)
        return place, as_reply(entry.reply if isinstance(entry, OnlyLiveKit | OnlyOurs) else entry)

    return next_line, left


def _sort(told: Told, asked: Sequence[tuple[int | None, Prompt]]) -> None:
    for place, prompt in asked:
        if place is None:
            told.summary_prompts.append(prompt)
        else:
            told.prompts[place] = prompt


async def _call(told: Told, steps: Sequence[Step]) -> None:
    session = told.session
    async with session:
        greeting = await session.start(told.agent, capture_run=True)
        assert greeting is not None
        told.events += _events(greeting)
        for step in steps:
            if isinstance(step, str):
                told.events += _events(await session.run(user_input=step))
            elif inspect.isawaitable(done := step(session, told.agent)):
                await done
        told.active_agent = _name(session.current_agent.id) or ""
        told.history = [_event(i) for i in session.history.items if i.type != "agent_config_update"]
        try:
            told.userdata = session.userdata
        except ValueError:  # LiveKit's way to say that there is none
            told.userdata = None


def _events(result: RunResult[Any]) -> list[Event]:
    return [_event(event.item) for event in result.events]


def _event(item: Any) -> Event:
    match item:
        case llm.ChatMessage():
            return "message", item.role, item.text_content
        case llm.FunctionCall():
            return "function_call", item.name, json.loads(item.arguments or "{}")
        case llm.FunctionCallOutput():
            return "function_call_output", item.name, item.output, item.is_error
        case llm.AgentHandoff():
            return "agent_handoff", _name(item.old_agent_id), _name(item.new_agent_id)
    raise AssertionError(f"{item.type}: no event of the page")


def _name(agent_id: str | None) -> str | None:
    """LiveKit's id of `BillingAgent` is `billing_agent`, our name is `billing`."""
    return None if agent_id is None else agent_id.removesuffix("_agent")


def shown_to_ours(messages: Sequence[BaseMessage]) -> Prompt:
    """A prompt in the words of `page_llm.shown_to_livekit`."""
    shown: Prompt = []
    for message in messages:
        match message:
            case SystemMessage():
                shown.append(("instructions", message.text))
            case HumanMessage() if message.text == OPENER:
                shown.append(("opener",))
            case HumanMessage() if message.additional_kwargs.get("instructions"):
                inner = message.text.removeprefix("<instructions>\n").removesuffix("\n</instructions>")
                shown.append(("inline", inner))
            case HumanMessage():
                shown.append(("user", message.text))
            case AIMessage():
                if message.text:
                    shown.append(("assistant", message.text))
                shown += [("call", c["name"], json.dumps(c["args"])) for c in message.tool_calls]
            case ToolMessage():
                shown.append(("output", message.text))
    return shown


# ---- what must be the same


def same_story(theirs: Told, ours: Told, script: Script, *, answers: Mapping[str, str] | None = None) -> None:
    """Events, history, userdata and active agent are equal, but for the replies that only one side has.

    `answers`: tool -> what it answers in ours where LiveKit answers nothing: a handoff that gives no result. A model
    that is shown an empty result of a transfer may take it again.
    """
    answers = answers or {}
    for part in ("events", "history"):
        expected = _without(getattr(theirs, part), _texts(script, OnlyLiveKit))
        for at, event in enumerate(expected):
            if event[0] == "function_call_output" and event[1] in answers:
                assert event[2:] == ("", False)
                expected[at] = (*event[:2], answers[event[1]], False)
        assert _without(getattr(ours, part), _texts(script, OnlyOurs)) == expected
    for tool in answers:
        assert ("function_call_output", tool, answers[tool], False) in ours.events
    assert ours.active_agent == theirs.active_agent
    if theirs.userdata is None:
        assert not ours.userdata  # a graph without userdata has an empty dict, LiveKit has none
    else:
        assert dataclasses.asdict(ours.userdata) == dataclasses.asdict(theirs.userdata)


def same_prompts(theirs: Told, ours: Told, script: Script, *, carried: Sequence[tuple[str, ...]] = ()) -> None:
    """Every model that both sides ask is shown the same: instructions, conversation, instructions for the reply.

    Differences on purpose: LiveKit's context holds `agent_config_update` items, with the prompts of other agents in
    them; ours puts a neutral user turn where a prompt would begin with the assistant; what was said on one side only is
    remembered on that side only. `carried`: the transfer's call and result, which ours carries and LiveKit drops.
    """
    for place, entry in enumerate(script):
        if isinstance(entry, OnlyLiveKit | OnlyOurs):
            continue
        expected = [i for i in theirs.prompts[place] if i[0] != "agent_config_update"]
        only_theirs, only_ours = _texts(script[:place], OnlyLiveKit), _texts(script[:place], OnlyOurs)
        expected = [i for i in expected if i[0] != "assistant" or i[1] not in only_theirs]
        found = [i for i in ours.prompts[place] if i[0] != "opener" and (i[0] != "assistant" or i[1] not in only_ours)]
        at = next((at for at in range(len(found)) if carried and found[at : at + len(carried)] == list(carried)), None)
        if at is not None:
            del found[at : at + len(carried)]
        assert found == expected, f"the prompt for {entry}"


def _texts(script: Script, side: type) -> list[str]:
    return [entry.reply for entry in script if isinstance(entry, side)]


def _without(events: Sequence[Event], texts: Collection[str]) -> list[Event]:
    """Without the replies that one side only has. Each must be there, once."""
    extra = [e for e in events if e[:2] == ("message", "assistant") and e[2] in texts]
    assert sorted(e[2] for e in extra) == sorted(texts)
    return [e for e in events if e not in extra]
