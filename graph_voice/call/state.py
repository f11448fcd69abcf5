"""What is remembered of a call, as read and changed from outside its turns."""

import asyncio
import inspect
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.runnables import RunnableConfig
from langgraph.channels.base import BaseChannel
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.store.base import BaseStore
from langgraph.types import Interrupt
from typing_extensions import TypeVar

from graph_voice import history as _history
from graph_voice.agents.handoff import AgentHandoff, handoff_record
from graph_voice.agents.task import Task
from graph_voice.call.live_state import LiveState
from graph_voice.call.questions import Answer, Ask, answer_to, words_of_question
from graph_voice.call.remote import RemoteThread, stand_in
from graph_voice.errors import BuildError, TurnError, UserdataError
from graph_voice.graph.agent_runtime import USUAL_APOLOGY, Apology
from graph_voice.graph.build import runtime_of
from graph_voice.graph.frames import abandon, merge_stack, stack_of
from graph_voice.graph.given import as_compiled
from graph_voice.graph.roles import Roles
from graph_voice.graph.state import merge_messages
from graph_voice.graph.task_steps import answers_of
from graph_voice.history.context import carry, resolve, view
from graph_voice.messages.content import Content
from graph_voice.messages.pairs import stands_alone
from graph_voice.secrets.known import Known, known_of
from graph_voice.secrets.spoken import redact
from graph_voice.secrets.values import opened
from graph_voice.storage.run_saver import RunSaver
from graph_voice.turn.pending import Pending
from graph_voice.turn.record import ChannelUpdate, Group
from graph_voice.turn.run import TurnRun
from graph_voice.userdata.channel import UserdataChannel, required

__all__ = ["CallState", "pending_after"]

logger = logging.getLogger("graph_voice")
U = TypeVar("U", default=Any)
M = TypeVar("M", bound=BaseMessage)


class CallState(Generic[U]):
    """The remembered state of one call. It comes from the turns, which `Conversation` runs.

    The arguments are those of `Conversation`.

    Args:
        graph: the graph.
        thread_id: the call's name.
        userdata: the initial userdata.
        messages: an earlier conversation to continue.
        context: LangGraph's run context.
        store: LangGraph's store.
        config: a LangChain `RunnableConfig`.
        speak: nodes that speak.
        silent: nodes with which a turn may end without speech.
        apology: what is said when something failed.
        ask: what is said for a value that was given to `interrupt()`.
        answer: what `interrupt()` returns for the caller's words.

    Raises `BuildError` when the graph has no `messages` channel, or no node in it speaks.
    """

    def __init__(
        self,
        graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph,
        *,
        thread_id: str | None,
        userdata: U | None,
        messages: Sequence[Any] | None,
        context: Any,
        store: BaseStore | None,
        config: RunnableConfig | None,
        speak: Sequence[str],
        silent: Sequence[str],
        apology: Apology | None,
        ask: Ask | None = None,
        answer: Answer | None = None,
    ) -> None:
        given = as_compiled(graph, "Conversation")
        self.graph = stand_in(speak, silent) if isinstance(given, RemoteGraph) else given
        self.on_answered: Callable[[ToolMessage], None] | None = None
        """Called when a tool call gets its result outside a turn: its task was abandoned."""
        self.thread_id = thread_id or f"call-{uuid.uuid4().hex[:12]}"
        self.remote: RemoteThread | None = None
        """Where the graph runs, if that is not here."""
        if isinstance(given, RemoteGraph):
            self.remote = RemoteThread(given, self.thread_id, speak, silent)
        self.config: RunnableConfig = config or {}
        self.context = context
        self.store = store
        channels = {k: c for k, c in self.graph.channels.items() if isinstance(c, BaseChannel)}
        if "messages" not in channels:
            named = ", ".join(name for name in channels if not name.startswith("__") and ":" not in name)
            if not isinstance(getattr(self.graph, "builder", None), StateGraph):
                raise BuildError(
                    "An @entrypoint workflow has no state, so a conversation has no place in it. Let a node or a tool "
                    "of a graph call it: a StateGraph whose state extends LangGraph's MessagesState."
                )
            raise BuildError(
                "This graph has no `messages` channel, so a conversation has no place in it. Let its state extend "
                f"LangGraph's MessagesState, or rename the key that holds the conversation. Its keys are: {named}."
            )
        self.messages_channel = channels["messages"]
        self.roles = Roles(self.graph, speak, silent)
        self._apology = apology if apology is not None else self.roles.apology
        self._ask = ask
        self._answer = answer
        self.thinkers: set[str] = set()
        """Custom nodes whose model has closed a thought that it had not opened."""
        self._order = itertools.count(1)
        self.live = LiveState(channels, merge_messages([], _as_messages(messages)))
        if userdata is not None:
            self.update_userdata(userdata)
        self.pending: tuple[Pending, ...] = ()
        """The runs of the past that wait in `interrupt()`."""
        """What the graph waited for before the turns that are live."""

    @property
    def state(self) -> dict[str, Any]:
        """The state as remembered now: what the graph produced, as far as the front end acknowledged it."""
        return self.live.values

    def value(self, channel: str) -> Any:
        """The value of one channel, or None. Cheaper than `state`, except for `messages`."""
        return self.live.others.get(channel) if channel != "messages" else self.messages

    @property
    def messages(self) -> list[AnyMessage]:
        """Everything said (as heard) and done. LiveKit's `session.history`."""
        return list(self.state.get("messages") or ())

    @property
    def chat_ctx(self) -> list[AnyMessage]:
        """What the active agent's model is shown of the messages. LiveKit's `agent.chat_ctx`."""
        return view(self.state)

    @property
    def userdata(self) -> U:
        """The caller's facts. LiveKit's `session.userdata`."""
        if not isinstance(self.graph.channels.get("userdata"), UserdataChannel):
            raise UserdataError(
                "This graph has no userdata: its state extends another class than VoiceState. What its own channels "
                "hold is in `state`."
            )
        found: U = required(self.live.others)
        return found

    @property
    def active_agent(self) -> str:
        """The name of the active agent."""
        return self.live.others.get("active_agent") or self.roles.start or ""

    @property
    def next_active_agent(self) -> str:
        """The agent that a handoff makes active, one that has happened and is not written yet; else the active one."""
        leaving = [turn.leaving for turn in self.live.turns if turn.leaving is not None]
        return max(leaving, key=lambda handoff: handoff.order).event.new_agent if leaving else self.active_agent

    @property
    def default_speaker(self) -> str:
        """Who speaks in a turn that has handed off to nobody: the active agent, else the first custom node that may."""
        return self.active_agent or next((name for name in self.roles.nodes if name in self.roles.custom_speakers), "")

    def is_library(self, node: str) -> bool:
        """Whether this is a library node, not a custom one."""
        return self.roles.is_library(node)

    @property
    def handoffs(self) -> list[AgentHandoff]:
        """Every handoff that happened."""
        return list(self.live.others.get("handoffs") or ())

    @property
    def interrupts(self) -> tuple[Interrupt, ...]:
        """What the graph waits for (LangGraph's `interrupt()`); the next `turn(text)` answers the first one."""
        waiting = sorted(self.all_waiting(), key=lambda pending: not pending.asked)
        if not waiting or not waiting[0].asked:
            return ()  # nothing has been asked, so nothing is answered
        return tuple(found for pending in waiting for found in pending.interrupts)

    def waiting(self) -> Pending | None:
        """The run whose question has been asked (LangGraph's `interrupt()`): the caller's next words answer it."""
        return next((pending for pending in self.all_waiting() if pending.asked), None)

    def all_waiting(self, but: TurnRun | None = None) -> tuple[Pending, ...]:
        """All runs that wait for an answer, also those whose question has not been asked yet.

        Args:
            but: without what this turn's run waits for, or resumes.
        """
        found = self.pending
        for turn in self.live.turns:
            if turn is not but:
                found = pending_after(found, turn)
        if but is not None and but.resumes is not None:
            found = tuple(pending for pending in found if pending.saver is not but.resumes.saver)
        return found

    def asks(self, pending: Pending) -> bool:
        """Whether the graph still waits for this answer."""
        return any(found.saver is pending.saver for found in self.all_waiting())

    @property
    def apology(self) -> str:
        """What is said when something failed. If its function fails, that is logged and the default is used."""
        if not callable(self._apology):
            return self._apology
        try:
            return self._apology(self.value("userdata"))
        except Exception:
            logger.exception("the function that makes the apology failed; the default apology is used")
            return USUAL_APOLOGY

    def words_of_question(self, question: Any) -> str:
        """What is said for a value that was given to `interrupt()`. If the call's own function for it fails, that is
        logged and the default is used."""
        if self._ask is not None:
            try:
                return self._ask(question)
            except Exception:
                logger.exception("ask(...) failed; the default words are used")
        return words_of_question(question)

    async def answer_to(self, asked: Interrupt, text: str) -> Any:
        """What `interrupt()` returns for the caller's words. If the call's own function for it fails, that is logged
        and the default is used."""
        if self._answer is not None:
            try:
                made = self._answer(asked.value, text)
                return await made if inspect.isawaitable(made) else made
            except Exception:
                logger.exception("answer(...) failed; the default answer is used")
        return answer_to(asked, text)

    async def open_remote(self, patience: float | None) -> None:
        """Go on with what the server's thread holds, if the graph runs on a server and nothing was said here yet.

        Args:
            patience: seconds to wait for the server. Then the failure is logged, and the first turn asks it again.

        Raises `BuildError` for a node that the graph does not have.
        """
        if self.remote is None or self.live.turns:
            return
        try:
            async with asyncio.timeout(patience):
                held = await self.remote.open()
        except Exception as error:
            if patience is None:
                raise
            logger.error(f"the remote graph can't be asked: {error!r}")
            return
        if held and not self.messages:
            self.live.restore({"messages": held}, {})
        if self.remote.questions and not self.pending:
            self.pending = (Pending(self.remote.questions, RunSaver({}), {}, None),)

    # ---- what happens outside a turn

    def add(self, message: Any, at: float | None = None) -> BaseMessage:
        """Remember what was said outside a turn (LiveKit's `session.say`).

        Args:
            message: a LangChain message, or what `convert_to_messages` takes.
            at: when it was said, in seconds since the epoch. Default: now.
        """
        # The same words may be said twice: an id made from the words would turn them into one message.
        (said,) = (self.redact(m) for m in convert_to_messages([message]))
        if isinstance(said, AIMessage):
            said = self._known.message(said)
        if said.id is None:
            said = said.model_copy(update={"id": f"said-{uuid.uuid4()}"})
        when = time.time() if at is None else at
        group = Group(when, merge_messages([], [said]), self.next_order(), unpaired=not stands_alone(said))
        self.live.add(group)
        return said

    def user_message(self, text: Content, message_id: str | None = None) -> HumanMessage:
        """What the caller says in a turn, as a message."""
        said: Any = text if isinstance(text, str) else list(text)
        return self.redact(HumanMessage(said, id=message_id or f"user-{uuid.uuid4().hex[:12]}"))

    def redact(self, message: M) -> M:
        """The caller's message, with the numbers that may be secrets redacted: see `graph_voice.secrets.spoken`."""
        if not self.roles.takers or not isinstance(message, HumanMessage):
            return message
        # During a handoff it is not certain yet which agent will answer.
        hearers = {self.active_agent, *(turn.record.handoffs.new_agent for turn in self.live.turns)}
        return redact(message, self.roles.takers & hearers)

    def without_secrets(self, text: str) -> str:
        """An agent's words as they are remembered: without what is known to be secret."""
        return self._known.text(text)

    @property
    def _known(self) -> Known:
        return known_of(self.messages if self.roles.takers else (), self.value("userdata"))

    async def update_agent(
        self, name: str, history: _history.Operation | None = None, *, old: str | None = None
    ) -> None:
        """Make another agent active from outside a turn. LiveKit's `session.update_agent`.

        Args:
            name: the agent.
            history: what it is shown. Default: `fresh()`, and what the caller has said that nobody has answered yet.
            old: the agent that was active, when the graph does not know it. Default: the active agent.

        Raises `TurnError` for a name that is not an agent of the graph.
        """
        known = self.roles.agents | self.roles.external
        if name not in known:
            raise TurnError(f'update_agent("{name}"): the agents are {", ".join(sorted(known))}.')
        self.abandon_tasks()
        state = self.state
        messages = state.get("messages") or []
        active = self.active_agent
        runtime = runtime_of(self.graph, active) or runtime_of(self.graph, name)
        ctx = await resolve(
            state,
            model=lambda: runtime.model(self.config) if runtime is not None else None,
            operation=history or _history.fresh(),
            agent=name,
        )
        if history is None and (unanswered := _unanswered(messages)):
            ctx = carry(unanswered, messages)
        self.apply(
            {
                "active_agent": name,
                "handoffs": [handoff_record(old or active, name, None)],
                "chat_ctx": {**(ctx or {}), "entering": True},
                "contexts": {active: carry(view(state), messages)},
            },
            changes_active_agent=old is None,
        )

    def abandon_tasks(self) -> None:
        """No task goes on: the tool calls that wait for them are answered as not done."""
        if (left := abandon(self.live.others)) is None:
            return
        for told in answers_of(merge_stack(stack_of(self.live.others), left), self.messages):
            self.add(told)
            if self.on_answered is not None:
                self.on_answered(told)
        self.apply({"stack": {"drop": [*left["set"], *left["drop"]]}})

    @property
    def result(self) -> Any:
        """The result of the task that is the whole call (`create_voice_graph([task])`); None while it has none."""
        stack = stack_of(self.live.others)
        if not stack or stack[0]["agent"] is not None or not stack[0]["done"]:
            return None
        runtime = runtime_of(self.graph, stack[0]["task"])
        assert runtime is not None
        assert isinstance(runtime.agent, Task)
        return runtime.agent.read(opened(stack[0]["results"][-1], runtime.settings.secrets))

    def update_userdata(self, userdata: U) -> None:
        """Replace the userdata from outside a turn (LiveKit's `session.userdata = ...`).

        Raises `UserdataError` for a value that is no userdata of this graph, or holds a live object.
        """
        channel = self.graph.channels.get("userdata")
        if isinstance(channel, UserdataChannel):
            channel.require(userdata)
        self.apply({"userdata": userdata})

    def update_chat_ctx(self, update: Mapping[str, Any]) -> None:
        """Change what the active agent is shown (LiveKit's `agent.update_chat_ctx`), by a history operation."""
        self.apply({"chat_ctx": update})

    def show(self, messages: Sequence[AnyMessage]) -> None:
        """Show the active agent these messages from now on, and what is said later. What waits to be applied to what it
        was shown before is dropped."""
        kept = {k: v for k, v in (self.live.others.get("chat_ctx") or {}).items() if k == "entering"}
        self.apply({"chat_ctx": {**carry(messages, self.messages), **kept}})

    def apply(self, values: Mapping[str, Any], *, changes_active_agent: bool = False) -> None:
        """Write these channels from outside a turn."""
        # After what the live turns have written so far, so that it is the newest.
        self.live.write(ChannelUpdate(self.next_order(), dict(values), changes_active_agent=changes_active_agent))

    def freeze(self) -> None:
        """Let go of the turns that can no longer change."""
        for over in self.live.freeze():
            self.pending = pending_after(self.pending, over)

    def next_order(self) -> int:
        """The next sequence number of the call: the place of what happens now."""
        return next(self._order)


def pending_after(waiting: tuple[Pending, ...], turn: TurnRun) -> tuple[Pending, ...]:
    """The runs that wait after this turn, if these waited before."""
    if not turn.state.happened:
        return waiting
    # A question asked after a handoff that did not happen does not count.
    own = (turn.pending,) if turn.pending is not None and turn.record.handoffs.all_happened else ()
    resumed = turn.resumes.saver if turn.resumes is not None else None
    asked = turn.asks_for.saver if turn.asks_for is not None else None
    place = next((i for i, found in enumerate(waiting) if found.saver is resumed), len(waiting))
    found = (*waiting[:place], *own, *waiting[place + 1 :])
    return tuple(replace(one, asked=True) if one.saver is asked else one for one in found)


def _unanswered(messages: Sequence[AnyMessage]) -> list[AnyMessage]:
    """What the caller has said since anyone answered."""
    said = list(itertools.takewhile(lambda message: isinstance(message, HumanMessage), reversed(messages)))
    return said[::-1]


def _as_messages(messages: Sequence[Any] | None) -> list[BaseMessage]:
    """Raises `BuildError` for what is no message of LangChain's."""
    try:
        return convert_to_messages(list(messages or ()))
    except (NotImplementedError, TypeError, ValueError) as error:
        raise BuildError(
            'messages=[...]: write LangChain\'s messages, or pairs such as ("user", "Hello."). Of LiveKit\'s context: '
            f"[(m.role, m.text_content) for m in chat_ctx.messages()]. ({error})"
        ) from error
