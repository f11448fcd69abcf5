"""What happened in a call, as plain data. Every time is in call seconds."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["CALLER", "CallLog", "Handoff", "Latency", "LogEntry", "Note", "ToolCall", "Utterance"]

CALLER = "caller"
"""The `speaker` of the caller's utterances."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something that was said."""

    speaker: str
    """`CALLER`, or the id of the LiveKit agent that was active."""
    text: str
    """An agent's words as they were heard, which is what LiveKit remembers; a caller's as they were recognized."""
    started: float
    ended: float
    interrupted: bool = False
    """The agent was cut off; `ended` is the last moment that was heard."""
    generated: str | None = None
    """For an interrupted agent: all the text that was on its way to the caller."""
    said: str | None = None
    """For a simulated caller: the words of its script."""
    lost: bool = False
    """For the caller: it did not become a turn, so nobody answered."""
    dropped: bool = False
    """For the agent: the caller spoke again before the first sound of it, so nothing was heard."""

    @property
    def at(self) -> float:
        return self.started

    @property
    def unheard(self) -> str:
        """What an interrupted agent would have gone on to say; empty if that is not known."""
        if not self.generated or not self.generated.startswith(self.text):
            return ""
        return self.generated[len(self.text) :].strip()


@dataclass(frozen=True, slots=True)
class Handoff:
    """One agent handed off to another."""

    old_agent: str
    new_agent: str
    at: float


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function tool ran."""

    agent: str
    name: str
    arguments: Mapping[str, Any]
    started: float
    ended: float | None = None
    """None if it never ended within the call."""
    output: str | None = None
    is_error: bool = False
    call_id: str = ""

    @property
    def at(self) -> float:
        return self.started


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time went between the end of the caller's words and the first sound of an agent. In seconds."""

    speaker: str
    """The agent that answered."""
    end_of_speech: float
    first_audio: float
    silence: float
    """Until the silence was long enough to count as the end of speech (voice activity detection)."""
    recognition: float
    """From then until the words were recognized (speech to text)."""
    end_of_turn: float
    """From then until LiveKit decided that the turn was over."""
    model: float
    """From then until text reached the synthesizer, without the next two: the model, with handoffs, less what had
    already run before the decision (preemptive generation)."""
    synthesis: float
    """Until the first audio (text to speech)."""
    waiting: float = 0.0
    """While an earlier reply was still heard."""
    tools: float = 0.0
    """While function tools ran."""
    llm_ttft: float | None = None
    """The model's own time to the first token, as LiveKit measured it; None if it is not known."""

    @property
    def at(self) -> float:
        return self.end_of_speech

    @property
    def total(self) -> float:
        return self.first_audio - self.end_of_speech

    @property
    def stages(self) -> dict[str, float]:
        """The parts in order; their sum is `total`."""
        return {
            "silence": self.silence,
            "speech to text": self.recognition,
            "end of turn": self.end_of_turn,
            "earlier reply": self.waiting,
            "tools": self.tools,
            "model": self.model,
            "text to speech": self.synthesis,
        }


@dataclass(frozen=True, slots=True)
class Note:
    """Anything else worth knowing."""

    kind: Literal["error", "false interruption", "caller", "end"]
    text: str
    at: float


LogEntry = Utterance | Handoff | ToolCall | Latency | Note


@dataclass(frozen=True, slots=True)
class CallLog:
    """A whole call."""

    entries: tuple[LogEntry, ...] = ()
    """In the order in which they began."""
    duration: float = 0.0
    """Seconds."""
    first_agent: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What the caller of `run_call` wants kept with the call, such as its seed."""
    graph: tuple[str, ...] = ()
    """The agents of the graph in its order, which is that of their colors; empty if there is no graph."""

    @property
    def utterances(self) -> list[Utterance]:
        return [entry for entry in self.entries if isinstance(entry, Utterance)]

    @property
    def handoffs(self) -> list[Handoff]:
        return [entry for entry in self.entries if isinstance(entry, Handoff)]

    @property
    def tool_calls(self) -> list[ToolCall]:
        return [entry for entry in self.entries if isinstance(entry, ToolCall)]

    @property
    def latencies(self) -> list[Latency]:
        return [entry for entry in self.entries if isinstance(entry, Latency)]

    @property
    def notes(self) -> list[Note]:
        return [entry for entry in self.entries if isinstance(entry, Note)]

    @property
    def agents(self) -> list[str]:
        """The agents that were active or spoke, in order of appearance."""
        names: list[str] = [self.first_agent] if self.first_agent else []
        for entry in self.entries:
            if isinstance(entry, Utterance) and entry.speaker != CALLER:
                names.append(entry.speaker)
            elif isinstance(entry, Handoff):
                names += [entry.old_agent, entry.new_agent]
        return list(dict.fromkeys(names))

    @property
    def order(self) -> list[str]:
        """The agents in the order of their colors."""
        return list(dict.fromkeys([*self.graph, *self.agents]))

    def to_json(self) -> str:
        """The call as JSON: every entry with its fields and a `type`."""
        entries = [{"type": type(entry).__name__.lower(), **asdict(entry)} for entry in self.entries]
        return json.dumps(
            {
                "duration": self.duration,
                "first_agent": self.first_agent,
                "agents": self.order,
                **self.extra,
                "entries": entries,
            },
            indent=2,
            default=str,
            ensure_ascii=False,
        )
