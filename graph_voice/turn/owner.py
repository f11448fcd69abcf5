"""What a turn needs from the call that it belongs to."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from langchain_core.messages import AnyMessage, BaseMessage
from langchain_core.tools import BaseTool

from graph_voice import events
from graph_voice.tracing.feedback import Score
from graph_voice.turn.late_results import LateResults
from graph_voice.turn.pending import Pending
from graph_voice.turn.running_tools import RunningTools
from graph_voice.turn.tool_run import ToolRun

__all__ = ["TurnOwner"]

T = TypeVar("T")
M = TypeVar("M", bound=BaseMessage)


class TurnOwner(Protocol[T]):
    """The call of a turn. `T` is the turn's type, which this file does not know."""

    late: LateResults
    running_tools: RunningTools
    on_tool: Callable[[ToolRun], None] | None
    modality: events.Modality
    """How the caller's words of the last turn came."""

    def offered(self, agent: str, own: Sequence[BaseTool]) -> Sequence[BaseTool]:
        """The tools that this agent's model may call, if the agent declares `own`."""

    def acts_behind(self, node: str) -> bool:
        """Whether an edge leads from this node to a custom one that may act."""

    def runs_task(self, task: str) -> bool:
        """Whether the front end runs this external task."""

    @property
    def messages(self) -> Sequence[AnyMessage]:
        """What is remembered of the conversation."""

    @property
    def apology(self) -> str:
        """What is said when something failed."""

    def words_of_question(self, question: Any) -> str:
        """What is said for a value that was given to LangGraph's `interrupt()`."""

    @property
    def active_agent(self) -> str | None:
        """The active agent; None if the graph has written none yet, or has no such channel."""

    @property
    def default_speaker(self) -> str:
        """Who speaks in a turn that has handed off to nobody."""

    @property
    def speaker(self) -> T | None:
        """The turn whose speech the front end has not reported yet."""

    def is_library(self, node: str) -> bool:
        """Whether this is a library node, not a custom one."""

    def asks(self, pending: Pending) -> bool:
        """Whether the graph still waits for this answer."""

    def next_order(self) -> int:
        """The next sequence number of the call: the place of what happens now."""

    def goes_on(self, frame: str, call_id: str | None, results: int) -> bool:
        """Whether the tool call that waited for a task goes on now. False: another turn lets it go on already, or the
        task was abandoned meanwhile."""

    def redact(self, message: M) -> M:
        """The caller's message, with the numbers that may be secrets redacted."""

    def add(self, message: Any, at: float | None = None) -> None:
        """Remember what was said outside a turn."""

    def store_now(self) -> int | None:
        """Write what is remembered now. Returns a position: `stored` takes it, to wait for just that much."""

    async def stored(self, upto: int | None = None) -> bool:
        """Return when all that is remembered now is durable. False: the store is late."""

    def turn_event(self, turn: T, event: events.Event) -> None:
        """This event has happened in the turn."""

    def turn_changed(self, turn: T, *, userdata: bool = False) -> None:
        """What is remembered of this turn has changed."""

    def score_turn(self, turn: T, score: Score) -> bool:
        """Give feedback on this turn. False: it is not traced."""

    def tell_late(self) -> None:
        """Ask the front end to announce the late results, if there are any."""
