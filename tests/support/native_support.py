"""The same call twice, by hand-written LiveKit agents and by a graph; and all that a program can see of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from graph_agent_support import no_accidents, voice
from livekit.agents import (
    DEFAULT_API_CONNECT_OPTIONS,
    Agent,
    AgentSession,
    APIConnectOptions,
    RunContext,
    ToolError,
    function_tool,
    llm,
)
from livekit.agents.llm import ToolResult
from livekit.agents.utils import shortuuid
from livekit.agents.voice.events import EventTypes

import graph_voice
from graph_voice import Handoff, create_voice_graph
from graph_voice.testing import ScriptedModel, call, say
from graph_voice.testing.script import ScriptedReply, ScriptEntry, as_reply
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS, VoiceRig, voice_rig

__all__ = [
    "SCRIPT",
    "SLOW",
    "STEPS",
    "LiveKitModel",
    "Pair",
    "Seen",
    "by_graph",
    "by_hand",
    "in_text",
    "seen_in",
    "speak",
    "spoken_call",
    "write",
]

NAME = "gpt-test"


class LiveKitModel(llm.LLM[Any]):
    """What `ScriptedModel` is to LangChain: it streams a script word by word, counts tokens, and keeps its prompts."""

    def __init__(self, script: Sequence[ScriptEntry]) -> None:
        super().__init__()
        self.left: list[ScriptedReply] = counted(script)
        self.shown: list[llm.ChatContext] = []
        self.tool_choices: list[Any] = []
        self.tools: list[list[str]] = []

    @property
    def model(self) -> str:
        return NAME

    @property
    def provider(self) -> str:
        return "scripted"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        tool_choice: Any = None,
        **_: Any,
    ) -> llm.LLMStream:
        self.shown.append(chat_ctx.copy())
        self.tool_choices.append(tool_choice)
        self.tools.append([tool.id for tool in tools or []])
        return _Stream(self, self.left.pop(0), chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Stream(llm.LLMStream):
    def __init__(self, owner: LiveKitModel, line: ScriptedReply, **options: Any) -> None:
        self._line = line
        super().__init__(owner, **options)

    async def _run(self) -> None:
        reply_id, line = shortuuid("reply_"), self._line
        await asyncio.sleep(line.first_token or 0.0)
        for number, token in enumerate(line.tokens):
            await asyncio.sleep((line.per_token or 0.0) if number else 0.0)
            self._send(reply_id, llm.ChoiceDelta(role="assistant", content=token))
        calls = [
            llm.FunctionToolCall(name=c.name, arguments=c.args, call_id=c.id or shortuuid("call_")) for c in line.calls
        ]
        if calls:
            self._send(reply_id, llm.ChoiceDelta(role="assistant", tool_calls=calls))
        assert line.usage is not None
        given, made = line.usage
        usage = llm.CompletionUsage(completion_tokens=made, prompt_tokens=given, total_tokens=given + made)
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, usage=usage))

    def _send(self, reply_id: str, delta: llm.ChoiceDelta) -> None:
        self._event_ch.send_nowait(llm.ChatChunk(id=reply_id, delta=delta))


def counted(script: Sequence[ScriptEntry]) -> list[ScriptedReply]:
    """The script with its tokens: each side's model has the same."""
    lines = [as_reply(entry) for entry in script]
    return [replace(x, usage=x.usage or (10, len(x.text.split()) + len(x.calls))) for x in lines]


# ---- the same agents, twice


class Support(Agent):
    """A hand-written agent."""

    def __init__(self) -> None:
        super().__init__(id="support", instructions="You are support.", tts=FakeTTS("support"))

    @function_tool
    async def look_up(self, context: RunContext[Any], number: int) -> str:
        """Look up an order.

        Args:
            number: of the order.
        """
        await asyncio.sleep(0.3)
        if number < 0:
            raise ToolError("there is no such order")
        return f"order {number} is on its way"

    @function_tool
    async def transfer_to_billing(self, context: RunContext[Any]) -> Any:
        """Transfer the caller to billing."""
        # As the graph does it: the transfer has an output, and nobody replies to it but the new agent.
        return Billing(), ToolResult("Transferring to billing.", reply_required=False)


class Billing(Agent):
    """Another one."""

    def __init__(self) -> None:
        super().__init__(id="billing", instructions="You are billing.", tts=FakeTTS("billing"))

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Greet.")


@graph_voice.function_tool
async def look_up(number: int) -> str:
    """Look up an order.

    Args:
        number: of the order.
    """
    await asyncio.sleep(0.3)
    if number < 0:
        raise graph_voice.ToolError("there is no such order")
    return f"order {number} is on its way"


def agents() -> list[graph_voice.Agent]:
    """The same as a graph's."""
    return [
        graph_voice.Agent(
            "support",
            instructions="You are support.",
            tools=[look_up],
            handoffs=[Handoff("billing", "Transfer the caller to billing.")],
            voice=voice("support"),
        ),
        graph_voice.Agent("billing", instructions="You are billing.", on_enter="Greet.", voice=voice("billing")),
    ]


# ---- what a program sees


@dataclass
class Seen:
    """One call, as LiveKit showed it."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    items: list[tuple[Any, ...]] = field(default_factory=list)
    """`session.history`."""
    usage: list[tuple[Any, ...]] = field(default_factory=list)
    raw: list[Any] = field(default_factory=list)
    """The events themselves."""

    def of(self, *types: str) -> list[tuple[Any, ...]]:
        return [event for event in self.events if event[0] in types]


def told(event: Any) -> tuple[Any, ...]:
    """An event without its times and ids."""
    match event.type:
        case "agent_state_changed" | "user_state_changed":
            return event.type, event.old_state, event.new_state
        case "user_input_transcribed":
            return event.type, event.transcript, event.is_final
        case "speech_created":
            return event.type, event.source, event.user_initiated
        case "conversation_item_added":
            return event.type, *item(event.item)
        case "function_tools_executed":
            calls = [item(i) for i in event.function_calls]
            outputs = [None if i is None else item(i) for i in event.function_call_outputs]
            return event.type, calls, outputs
        case "metrics_collected":
            metrics = event.metrics.model_dump()
            return event.type, metrics["type"], *tokens(metrics)
        case "session_usage_updated":
            return event.type, *usage_of(event.usage)
        case "tool_execution_updated":
            return event.type, event.update.type
        case "close":
            return event.type, str(event.reason), event.error
    return (event.type,)


def tokens(metrics: dict[str, Any]) -> list[Any]:
    if metrics["type"] != "llm_metrics":
        return []
    return [(k, metrics[k]) for k in ("prompt_tokens", "completion_tokens", "total_tokens", "cancelled")] + [
        ("ttft", round(metrics["ttft"], 2)),
        ("speech", bool(metrics["speech_id"])),
        ("model", (metrics["metadata"] or {}).get("model_name")),
    ]


def usage_of(usage: Any) -> list[tuple[Any, ...]]:
    return [
        (u.type, u.model if u.type == "llm_usage" else "", u.input_tokens, u.output_tokens)
        for u in usage.model_usage
        if u.type == "llm_usage"
    ]


def item(i: Any) -> tuple[Any, ...]:
    """An item of the history without its times and ids."""
    match i.type:
        case "message":
            return i.type, i.role, i.text_content, i.interrupted, tuple(sorted(i.metrics))
        case "function_call":
            return i.type, i.name, json.loads(i.arguments or "{}")
        case "function_call_output":
            return i.type, i.name, i.output, i.is_error, i.reply_required
        case "agent_handoff":
            return i.type, i.old_agent_id, i.new_agent_id
        case "agent_config_update":
            return i.type, sorted(i.tools_added or []), sorted(i.tools_removed or [])
    return (i.type,)


@contextlib.contextmanager
def seen_in(session: AgentSession[Any]) -> Iterator[Seen]:
    """Everything that a session emits, from here until it is closed."""
    seen = Seen()

    def note(event: Any) -> None:
        seen.raw.append(event)
        seen.events.append(told(event))

    for name in get_args(EventTypes):
        if name != "debug_message":
            session.on(name, note)
    yield seen
    seen.items = [item(i) for i in session.history.items]
    seen.usage = usage_of(session.usage)


@dataclass
class Pair:
    """What one side is made of: its first agent, what the session is given, and its model."""

    agent: Any
    options: dict[str, Any]
    model: Any


def by_hand(script: Sequence[ScriptEntry]) -> Pair:
    model = LiveKitModel(script)
    return Pair(Support(), {"llm": model}, model)


def by_graph(script: Sequence[ScriptEntry], **options: Any) -> Pair:
    model = ScriptedModel(counted(script), name=NAME)
    return Pair(GraphAgent(create_voice_graph(agents(), llm=model), **options), {}, model)


async def spoken_call(side: Pair, play: Callable[[VoiceRig], Any], **options: Any) -> Seen:
    """A call by voice."""
    with no_accidents(), contextlib.ExitStack() as watched:
        async with voice_rig(side.agent, **side.options, **options) as rig:
            seen = watched.enter_context(seen_in(rig.session))
            await play(rig)
    if isinstance(side.agent, GraphAgent):
        assert not side.model.errors
    return seen


async def in_text(side: Pair, play: Callable[[AgentSession[Any]], Any], **options: Any) -> Seen:
    """A call in text."""
    with no_accidents():
        session = AgentSession[Any](vad=None, **side.options, **options)
        with seen_in(session) as seen:
            async with session:
                await session.start(side.agent)
                await play(session)
    if isinstance(side.agent, GraphAgent):
        assert not side.model.errors
    return seen


# ---- a call, and what its caller says

SLOW: dict[str, Any] = {"first_token": 0.4, "per_token": 0.02}
SCRIPT = [
    say("One moment please.", call("look_up", {"number": 3}, id="c1"), **SLOW),
    say("It is on its way.", **SLOW),
    say("I will transfer you.", call("transfer_to_billing", id="c2"), **SLOW),
    say("Billing speaking.", **SLOW),
    say("You owe nothing at all.", **SLOW),
]
STEPS = ["where is order three", "my bill is wrong", "what do I owe"]


async def speak(rig: Any) -> None:
    for text in STEPS:
        await rig.user_says(text)
        await rig.until_idle()


async def write(session: Any) -> None:
    for text in STEPS:
        await session.run(user_input=text)
