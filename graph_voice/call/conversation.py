"""One call on a voice graph, as its user sees it: what is remembered, and the turns."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.pregel.remote import RemoteGraph
from langgraph.store.base import BaseStore
from langgraph.types import Interrupt

from graph_voice import events
from graph_voice import history as _history
from graph_voice.agents.handoff import AgentHandoff
from graph_voice.call.call import Call
from graph_voice.call.custom_delivery import OnCustom
from graph_voice.call.durable import RESUME, Resumed
from graph_voice.call.ending import CLOSE_TIMEOUT
from graph_voice.call.questions import Answer, Ask
from graph_voice.call.state import CallState, U
from graph_voice.errors import BuildError
from graph_voice.graph.agent_runtime import Apology
from graph_voice.graph.build import load_models
from graph_voice.graph.frames import running_task
from graph_voice.messages.content import Content
from graph_voice.tracing.feedback import Score
from graph_voice.turn.late_results import announcement
from graph_voice.turn.reply_options import ReplyOptions
from graph_voice.turn.run import TaskResult, TurnRun
from graph_voice.turn.turn import Turn

__all__ = ["Conversation"]


class Conversation(Generic[U]):
    """One call on a voice graph: what was said and done so far, and the turns that are running.

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not, or any compiled graph with a `messages`
            channel (then `speak` names who speaks), or LangGraph's `RemoteGraph`.
        thread_id: the call's name in LangGraph and LangSmith. Default: a new one.
        userdata: the initial userdata. Default: the userdata class without arguments.
        messages: an earlier conversation to continue.
        context: LangGraph's run context, for every turn.
        store: LangGraph's store, for every turn. Default: the compiled graph's.
        config: a LangChain `RunnableConfig` for every turn: callbacks, tags, metadata, `configurable`.
        speak: nodes that speak, besides those whose metadata says so.
        silent: nodes with which a turn may end without speech, as with `metadata={"silent": True}`. When a turn ends
            with another node and nothing was said, the caller hears the apology.
        apology: said when a model or a node fails, and when nothing was said: a text, or a function of the userdata.
            Default: the graph's own.
        ask: what is said for a value that was given to LangGraph's `interrupt()`: a function of the value. Default: a
            text as it is; for LangChain's `HumanInTheLoopMiddleware`, the `description` of its `interrupt_on`, or "May
            I", the tool's name and its arguments; anything else as JSON.
        answer: what `interrupt()` returns: a function, sync or async, of its value and the caller's words. Default:
            the words; for `HumanInTheLoopMiddleware`, "yes" approves, and anything else rejects with the words as the
            reason.
        on_custom: called with each `events.Custom`: what a tool or a node writes with LangGraph's
            `get_stream_writer()`. Sync or async; an async one gets them one by one, and of those that wait with the
            same key only the latest.
        saver: where the call is stored while it goes on: a `LiveSaver`, or any LangGraph checkpointer, which is then
            wrapped in one. The same `thread_id` continues from there, even in another process: `await open()` first.

    Raises `BuildError` for what is no graph, when the graph has no `messages` channel or no node in it speaks, and for
    an argument of another kind.
    """

    def __init__(
        self,
        graph: StateGraph[Any, Any, Any, Any] | Pregel[Any, Any, Any, Any] | RemoteGraph,
        *,
        thread_id: str | None = None,
        userdata: U | None = None,
        messages: Sequence[Any] | None = None,
        context: Any = None,
        store: BaseStore | None = None,
        config: RunnableConfig | None = None,
        speak: Sequence[str] = (),
        silent: Sequence[str] = (),
        apology: Apology | None = None,
        ask: Ask | None = None,
        answer: Answer | None = None,
        on_custom: OnCustom | None = None,
        saver: BaseCheckpointSaver[Any] | None = None,
    ) -> None:
        _check(messages, config, apology, saver)
        for name, function in (("ask", ask), ("answer", answer), ("on_custom", on_custom)):
            if function is not None and not callable(function):
                raise BuildError(f"Conversation({name}={function!r:.60}): write a function.")
        state = CallState[U](
            graph,
            thread_id=thread_id,
            userdata=userdata,
            messages=messages,
            context=context,
            store=store,
            config=config,
            speak=speak,
            silent=silent,
            apology=apology,
            ask=ask,
            answer=answer,
        )
        if state.remote is not None:
            _refuse_stores(saver, store)
        self.call = Call(state, saver, on_custom)
        """The inside of the call, for front ends, logs and tests: `on_event`, `on_tool`, `on_late_result`, `roles`."""
        self._state = state

    def __repr__(self) -> str:
        said, taken = len(self.messages), len(self.handoffs)
        return (
            f"<Conversation {self.thread_id!r}: {self.active_agent or 'nobody'} is active, "
            f"{said} message{'s' * (said != 1)}, {taken} handoff{'s' * (taken != 1)}>"
        )

    # ---- the durable copy

    async def open(self, *, patience: float | None = None) -> Self:
        """Make the models that are named by strings, begin to set up the agents' toolsets, and read what the thread
        already holds, before the first turn.

        Args:
            patience: seconds to wait for a store that fails or does not answer. Then the failure is logged, and the
                call goes on as a new one. Default: wait without a limit, and raise what the saver raises.

        Raises `ModelError` when an agent's model lacks its key, and `MissingDependencyError` when it lacks its package.
        """
        await load_models(self.graph, self._state.config)
        self.call.require_models()
        self.call.toolsets.begin()
        durable = self.call.durable
        if durable is not None and not durable.opened:
            question = await durable.open(patience)
            self._state.pending = () if question is None else (question,)
        await self._state.open_remote(patience)
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def resumed(self) -> Resumed | None:
        """The state in which `open()` found a call that another process had left. None: the call is new."""
        return self.call.durable.resumed if self.call.durable is not None else None

    def resume(self, instructions: str | None = None) -> Turn:
        """Start the turn in which the active agent resumes the call. `resumed` says in which state the call was.

        Idempotent tools that were running run again first, with the same `tool_call_id`.

        Args:
            instructions: for this reply. Default: say that the call is connected again, and go on where it was.
        """
        turn = TurnRun(self.call, instructions=instructions or RESUME)
        if self.call.durable is not None and (batch := self.call.durable.take_batch()) is not None:
            turn.resume(batch)
        return self.call.start(turn)

    @property
    def durable_lag(self) -> float:
        """How many seconds the durable copy is behind; 0 when it is up to date, or there is none."""
        return self.call.durable_lag

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until all that is remembered now is durable.

        Raises `SaverError` after `timeout` seconds, when the store refuses what is remembered, and, once for each, when
        a value was lost: then all else is stored.
        """
        if self.call.durable is not None:
            await self.call.durable.flush(timeout)

    @property
    def closed(self) -> bool:
        """Whether the call is over or ending: `aclose()` has been called."""
        return self.call.closed

    # ---- what is remembered

    @property
    def graph(self) -> Pregel[Any, Any, Any, Any]:
        """The compiled graph."""
        return self._state.graph

    @property
    def thread_id(self) -> str:
        """The call's name in LangGraph and LangSmith."""
        return self._state.thread_id

    @property
    def state(self) -> dict[str, Any]:
        """The state as remembered now: what the graph produced, as far as the front end acknowledged it."""
        return self._state.state

    @property
    def messages(self) -> list[AnyMessage]:
        """Everything said (as heard) and done. LiveKit's `session.history`."""
        return self._state.messages

    @property
    def chat_ctx(self) -> list[AnyMessage]:
        """What the active agent's model is shown of the messages. LiveKit's `agent.chat_ctx`."""
        return self._state.chat_ctx

    @property
    def userdata(self) -> U:
        """The caller's facts. LiveKit's `session.userdata`."""
        return self._state.userdata

    @property
    def active_agent(self) -> str:
        """The name of the active agent."""
        return self._state.active_agent

    @property
    def handoffs(self) -> list[AgentHandoff]:
        """Every handoff that happened."""
        return self._state.handoffs

    @property
    def interrupts(self) -> tuple[Interrupt, ...]:
        """What the graph waits for (LangGraph's `interrupt()`); the next `turn(text)` answers the first one."""
        return self._state.interrupts

    @property
    def result(self) -> Any:
        """The result of the task that is the whole call, `create_voice_graph([task])`; None while it has none.

        Raises `TaskFailed` if the task was given up. LiveKit's `session.run(output_type=...)`.
        """
        return self._state.result

    # ---- what happens outside a turn

    def add(self, message: Any, at: float | None = None) -> None:
        """Remember what was said outside a turn (LiveKit's `session.say`).

        Args:
            message: a LangChain message, or what `convert_to_messages` takes.
            at: when it was said, in seconds since the epoch. Default: now.
        """
        self.call.said_outside_a_turn(self._state.add(message, at))

    async def update_agent(self, name: str, history: _history.Operation | None = None) -> None:
        """Make another agent active from outside a turn. LiveKit's `session.update_agent`.

        Args:
            name: the agent.
            history: what it is shown. Default: `fresh()`, and what the caller has said that nobody has answered yet.

        Raises `TurnError` for a name that is not an agent of the graph.
        """
        await self._state.update_agent(name, history)

    def update_userdata(self, userdata: U) -> None:
        """Replace the userdata from outside a turn (LiveKit's `session.userdata = ...`)."""
        self._state.update_userdata(userdata)

    def update_chat_ctx(self, update: Mapping[str, Any]) -> None:
        """Change what the active agent is shown (LiveKit's `agent.update_chat_ctx`), by a history operation."""
        self._state.update_chat_ctx(update)

    # ---- turns

    def turn(
        self,
        text: Content | None = None,
        *,
        message_id: str | None = None,
        instructions: str | None = None,
        options: ReplyOptions | None = None,
        modality: events.Modality = "text",
    ) -> Turn:
        """Start a turn. Call it from a running event loop.

        Args:
            text: what the caller said, as a string or as LangChain's content blocks (an image is
                `{"type": "image", "url": ...}`). The turn is speculative until `Turn.commit`. If the graph waits in
                `interrupt()`, this is the answer. None: the agent speaks unasked (LiveKit's `generate_reply`), and
                the turn is committed from the start.
            message_id: the id of the caller's message in `messages`.
            instructions: for the first reply of this turn only; never stored.
            options: further options for this turn's replies; never stored.
            modality: how `text` came, "audio" or "text": the tools' `ctx.modality`, and which text of `Spoken` counts.
                A turn that the agent begins has that of the turn before.

        Raises `ModelError` when an agent of the graph has no model or its model lacks its key, and `TurnError` when
        the call is over.
        """
        self.call.require_open()
        user = self._state.user_message(text, message_id) if text is not None else None
        if user is not None:
            self.call.modality = modality
        return self.call.start(TurnRun(self.call, user=user, instructions=instructions, options=options))

    def enter(self) -> Turn:
        """Start the turn with which the active agent enters the call: its `on_enter`."""
        return self.call.start(TurnRun(self.call, entering=True))

    def end_task(self, task: str, result: Any = None, *, error: str | None = None) -> Turn | None:
        """Start the turn that goes on behind an external task, which the front end has run.

        Args:
            task: its name.
            result: what it has returned: the result itself, or what has its fields.
            error: why there is none: whoever runs the task gets `TaskFailed(error)`.

        Returns None when the task is not running any more: somebody else has taken over, or the call is over.
        """
        frame = running_task(self._state.live.others)
        if frame is None or frame["task"] != task or self.closed:
            return None
        run = TurnRun(self.call)
        run.given = TaskResult(result, error)
        return self.call.start(run)

    def announce(self) -> Turn | None:
        """Start a turn in which the active agent reports, unasked, the tool results that came late.

        A result is late when it comes after an interruption: the caller was answered while the tool was still running.
        All late results so far are reported together. Returns None when there is nothing to report: no result is late,
        the caller has heard a reply that knew it, the tool is declared `late="merge"`, or the call is over.

        Call it when `on_late_result` asks for it, as soon as nobody speaks and no reply is being generated.
        """
        due = self.call.late.due()
        if not due or self.closed or self.active_agent not in self.call.roles.agents:
            return None
        run = TurnRun(self.call, instructions=announcement(due, self.chat_ctx))
        for late in due:
            late.announcements.append(run)
        return self.call.start(run)

    def nudge(self) -> Turn | None:
        """Start a turn in which the active agent speaks because the caller is silent (`Idle`).

        Call it when a nudge is due: `conversation.call.silence.begin(on_due)`. Returns None when it is not any more,
        since the caller has begun to speak, and when there is nothing to say.
        """
        return self.call.nudge()

    async def run(
        self, text: Content | None = None, *, instructions: str | None = None, turn: Turn | None = None
    ) -> list[events.Event]:
        """Run one turn in text: commit it, allow every tool call, confirm every handoff, hear everything.

        For notebooks, consoles and tests. Without arguments it runs `enter()`. A cancellation (a time limit) is an
        interruption: a running tool goes on, and its result comes late.

        Args:
            text: what the caller says.
            instructions: for the first reply of this turn only.
            turn: a turn that was already started, such as one from `announce()`.
        """
        if turn is None:
            turn = self.enter() if text is None and instructions is None else self.turn(text, instructions=instructions)
        turn.commit()
        seen = []
        try:
            async for event in turn:
                seen.append(event)
                hear(turn, event)
        finally:
            turn.close()
        return seen

    def score(
        self,
        key: str,
        score: float | bool | None = None,
        *,
        value: str | dict[str, Any] | None = None,
        comment: str | None = None,
    ) -> bool:
        """Give feedback on the call in LangSmith, on its last turn, which stands for the whole call. Returns at once.

        Args:
            key: what is judged, such as "resolved".
            score: a number.
            value: a value that is not a number: a category, a text.
            comment: why.

        Returns False when no turn was traced. Never raises: what LangSmith refuses is logged.
        """
        last = next((turn for turn in reversed(self._state.live.turns) if turn.state.happened), None)
        return self.call.score_turn(last, Score(key, score, value, comment))

    async def aclose(
        self,
        reason: str = "user_initiated",
        *,
        timeout: float | None = CLOSE_TIMEOUT,
        flush_timeout: float | None = CLOSE_TIMEOUT,
    ) -> None:
        """End the call. Running tools finish and are remembered, then the active agent's `on_exit` runs, once.

        `on_exit` gets the reason as `ctx.close_reason`. Nothing it says is spoken, since nobody is on the line. If it
        raises, the error is logged. Its changes to the userdata count. Afterwards nothing of this call runs, and no
        turn can begin. If `aclose` is called twice, the second one waits for the first, whose reason counts.

        Args:
            reason: why the call ends. LiveKit's words (its `CloseReason`) are "user_initiated",
                "participant_disconnected", "job_shutdown", "task_completed" and "error"; a front end may have others.
            timeout: seconds that running tools may take, and then `on_exit`. What takes longer is cancelled; a
                cancelled tool call's outcome is reported as unknown. None: no limit.
            flush_timeout: seconds until the durable copy must be complete. None: no limit.

        Raises `SaverError` when the durable copy is not complete by then.

        Inside a tool, a hook or a node, `aclose` returns at once, since it would wait for them; the call ends after
        them. To end the call after the agent's closing message, use `ctx.end_call()`.
        """
        await self.call.aclose(reason, timeout, flush_timeout)


def hear(turn: Turn, event: events.Event) -> None:
    """Answer one event like a front end that plays everything and allows everything."""
    match event:
        case (
            events.Text(message_id=message_id)
            | events.Say(message_id=message_id)
            | events.Interrupt(message_id=message_id)
        ):
            if (found := turn.record.spoken(message_id)) is not None:
                turn.heard(message_id, found[1].produced)
        case events.ToolCalls(calls=calls, custom=False):
            for call in calls:
                turn.allow(call.id)
        case events.HandedOff(call_id=call_id):
            turn.confirm_handoff(call_id)


def _refuse_stores(saver: Any, store: Any) -> None:
    """Raise `BuildError` for what a graph that runs on a server can't be given."""
    for name, given in (("saver", saver), ("store", store)):
        if given is not None:
            raise BuildError(
                f"Conversation(RemoteGraph(...), {name}=...): the server has its own. Leave {name} out; the same "
                "thread_id goes on with the same thread there."
            )


def _check(messages: Any, config: Any, apology: Any, saver: Any) -> None:
    """Raise `BuildError` for arguments that would fail later, in words that name none of them."""
    if messages is not None and (not isinstance(messages, Sequence) or isinstance(messages, str)):
        raise BuildError(f"Conversation(messages={messages!r:.60}): write a list of messages.")
    if config is not None and not isinstance(config, Mapping):
        raise BuildError(f'Conversation(config={config!r:.60}): write {{"configurable": {{...}}, "tags": [...]}}.')
    if apology is not None and not isinstance(apology, str) and not callable(apology):
        raise BuildError(f"Conversation(apology={apology!r:.60}): write a text, or a function of the userdata.")
    if saver is not None and not isinstance(saver, BaseCheckpointSaver):
        raise BuildError(
            f"Conversation(saver={saver!r:.60}): write a LangGraph checkpointer or a LiveSaver. What "
            "`AsyncSqliteSaver.from_conn_string(...)` gives is opened first: async with ... as saver."
        )
