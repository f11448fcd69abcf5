"""The tool calls of one message: what they share, and the outcome of each."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt
from langgraph.runtime import Runtime

from graph_voice.agents.handoff import Handoff
from graph_voice.agents.replay import TaskWanted
from graph_voice.agents.slow_tool import SlowTool
from graph_voice.agents.task_end import Done
from graph_voice.graph.filler import BatchFiller
from graph_voice.graph.frames import TASKS
from graph_voice.graph.updates import Updates
from graph_voice.history.context import view
from graph_voice.messages.pairs import NO_REPLY
from graph_voice.secrets.known import NOTHING, Known, known_of
from graph_voice.secrets.spoken import close, taken
from graph_voice.secrets.values import secret_texts
from graph_voice.turn.nodes_side import NodesSide
from graph_voice.turn.running_tools import RunningTools
from graph_voice.userdata.working_copy import WorkingCopy

__all__ = ["Outcome", "ToolBatch"]


@dataclass
class Outcome:
    """The outcome of one tool call."""

    message: ToolMessage
    """Its result; a placeholder while it waits."""
    request: Handoff | None = None
    asked: GraphInterrupt | None = None
    """Set while it waits in `interrupt()`: it runs again from its start when the answer comes."""
    wants: TaskWanted | None = None
    """Set while it waits for a task: it runs again from its start when the result is there."""
    done: Done | None = None
    """Set when it has ended the task that it is a tool of."""
    refused: bool = False
    """Whether the tool has not run: its arguments don't fit the tool's schema, or the caller has not approved it."""
    approved: bool = False
    """Whether the caller has approved it."""
    told: int = 0
    """How many updates (`ctx.update`) it has made."""
    progress: str = ""
    """The last one, as it is remembered."""
    ending: bool = False
    spoken: list[AIMessage] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    """What it has said in all its runs, which it does not say again."""
    updates: list[dict[str, Any]] = field(default_factory=list)
    """What a `Command` of the tool writes to other channels."""
    additions: list[AnyMessage] = field(default_factory=list)
    """Messages that a `Command` of the tool adds after the tool results."""

    @property
    def moves(self) -> bool:
        """Whether the conversation goes to another agent by it."""
        return self.request is not None or self.wants is not None or self.done is not None

    @property
    def where(self) -> str:
        """The end of the sentence that says why another tool call does not move it."""
        if self.request is not None:
            return f"the caller is being transferred to {self.request.to}"
        return f"{self.wants.task} has taken over" if self.wants is not None else "the task has ended"


@dataclass
class ToolBatch:
    """What the tool calls of one message share."""

    state: dict[str, Any]
    config: RunnableConfig
    runtime: Runtime[Any]
    turn: NodesSide | None
    asking: AIMessage
    work: WorkingCopy
    filler: BatchFiller
    node: str
    """The name of the node that runs them."""
    agent: str
    """The name of the agent whose tools they are."""
    slow: Callable[[str], SlowTool | None]
    """What the tool of this name declares for slow calls."""
    takes_secrets: bool = False
    """Whether a tool of the agent takes a secret."""
    draft: Any = None
    """The draft of the task whose tools they are."""
    chat_ctx: dict[str, Any] | None = None
    """What its agent is shown from now on, if a group of tasks has ended."""
    waited: Collection[str] = ()
    """The tool calls that have waited for a task, since an earlier turn or step: they have had their permission."""
    running: RunningTools = field(default_factory=RunningTools)
    """Its tool calls that run now, outside of a call."""
    updates: Updates = field(init=False)
    """What its tools tell of their progress."""
    redacted: dict[str, AnyMessage] = field(default_factory=dict)
    """Message id -> the message without the secrets that tool calls of this batch have taken."""

    @property
    def said(self) -> list[AIMessage]:
        """What was said for its tools, and not by them."""
        return [*self.filler.spoken, *self.updates.spoken]

    @cached_property
    def shown(self) -> list[AnyMessage]:
        """What the agent's model was shown: the same for all, and long to make for a message with many tool calls."""
        return view(self.state)

    @cached_property
    def _heard(self) -> Known:
        """What is secret of all that was said and done before this batch."""
        if not self.takes_secrets:
            return NOTHING
        user = self.turn.record.user if self.turn is not None else None
        said = [*self.state["messages"], *([user] if user is not None else [])]
        return known_of(said, open_words=self.turn is None)

    @property
    def known(self) -> Known:
        """What is known to be secret now: what was said, what was taken, the userdata's own secrets."""
        return self._heard.and_also(secret_texts(self.work.current))

    def spoken(self, ran: Iterable[Outcome]) -> list[AIMessage]:
        """The lines that were said while these tool calls ran."""
        return [*self.said, *(line for outcome in ran for line in outcome.spoken)]

    def ended(self, outcome: Outcome) -> None:
        """Record what a tool call changed, before its result: a crash can't keep the result without the changes."""
        if self.turn is not None:
            self.turn.call_ended(self.node, self.work.changes(), outcome.updates)

    def answer(self, message: ToolMessage) -> None:
        """A tool call has its result. After an interruption no reply of this turn will report it: it is late."""
        turn = self.turn
        if turn is None:
            return
        marks = message.additional_kwargs
        # Behind a task the tool call is of an earlier turn, and has an answer there: that it still runs.
        runs = TASKS in marks or turn.is_running(message.tool_call_id)
        late = turn.interrupted and runs and NO_REPLY not in marks
        turn.result(self.agent, message)
        slow = self.slow(message.name or "")
        if late and slow is not None and slow.late == "announce":
            turn.call.late.came(self.agent, message)
            turn.call.tell_late()

    def redact_taken(self, args: Mapping[str, Any]) -> None:
        """A tool call takes the secrets among these arguments: redact them from what was said."""
        if not (secrets := taken(args)):
            return
        user = self.turn.record.user if self.turn is not None else None
        words: dict[str | None, AnyMessage] = {m.id: m for m in self.state["messages"]}
        if user is not None and user.id in words:
            words[user.id] = user
        words.update(self.redacted)
        closed = close(words.values(), secrets)
        self.redacted.update((m.id, m) for m in closed if m.id is not None)
        if self.turn is not None and closed:
            self.turn.remember(closed)
