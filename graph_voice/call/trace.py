"""The trace of a turn: the turn's own run at the root, with the graph run below it."""

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.callbacks.manager import AsyncCallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.langchain import LangChainTracer
from langsmith.utils import tracing_is_enabled

from graph_voice.call.state import CallState
from graph_voice.graph.build import runtime_of
from graph_voice.graph.frames import running_task
from graph_voice.messages.content import plain_text
from graph_voice.secrets.known import known_of
from graph_voice.secrets.spoken import taken
from graph_voice.secrets.values import secret_texts
from graph_voice.tracing.feedback import Score, Subject, give
from graph_voice.tracing.log import Amendment, NotingTracer, TraceLog
from graph_voice.tracing.redaction import Redaction
from graph_voice.tracing.runs import runs_of
from graph_voice.tracing.sender import leave_no_thread, send_runs, sender
from graph_voice.turn.run import TurnRun
from graph_voice.turn.state import TurnState

__all__ = ["CallTrace", "Trace", "is_traced"]

RECURSION_LIMIT = 100
"""The limit of supersteps in one turn, unless the conversation's config sets another."""
PUNCTUAL = 0.3
"""Seconds that the durable copy may be behind before the trace mentions it."""
LINGER = 1.0
"""Seconds that the trace of a finished turn waits for late reports of the front end, such as what was heard of a line
that ended after its reply. Then the trace is sent, and no longer amended."""


def listening(config: RunnableConfig, metadata: Mapping[str, Any] | None = None) -> AsyncCallbackManager:
    """The callbacks of a run that begins here, with the tracer that the environment asks for."""
    if tracing_is_enabled():
        leave_no_thread()
    return AsyncCallbackManager.configure(
        inheritable_callbacks=config.get("callbacks"),
        inheritable_tags=config.get("tags"),
        inheritable_metadata=dict(metadata or {}),
    )


def is_traced(config: RunnableConfig) -> bool:
    """Whether a run that begins here has callbacks."""
    return bool(listening(config).handlers)


class CallTrace:
    """What the traces of a call share: its secrets, and the last turn, which gets the call's feedback.

    Args:
        state: the call's state.
        lag: returns how many seconds the durable copy is behind now.
    """

    def __init__(self, state: CallState[Any], lag: Callable[[], float]) -> None:
        self._state = state
        self._lag = lag
        runtimes = [runtime_of(state.graph, name) for name in state.roles.agents]
        found = [tool.name for r in runtimes if r is not None for tool in r.agent.all_tools]
        self._tools = frozenset(found)
        self._toolsets = [r.tools for r in runtimes if r is not None and r.agent.toolsets]
        self._schemas: dict[str, Any] = {k: s for r in runtimes if r is not None for k, s in r.secret_schemas.items()}
        self._secrets: set[str] = set()
        self._traces: WeakKeyDictionary[TurnRun, Trace] = WeakKeyDictionary()
        self._early: WeakKeyDictionary[TurnRun, list[Score]] = WeakKeyDictionary()
        """Feedback on turns whose trace has not begun yet."""
        self._lingering: set[Trace] = set()
        self.last: Trace | None = None
        """The trace of the last committed turn that is over."""

    async def begin(self, turn: TurnRun) -> "Trace":
        """Open the root of this turn's trace, and make the config of its graph run."""
        manager, config, log = await self._open(turn)
        trace = self._traces[turn] = Trace(self, manager, config, self._early.pop(turn, []), log)
        return trace

    async def _open(self, turn: TurnRun) -> tuple[Any, RunnableConfig, TraceLog | None]:
        state = self._state
        config: RunnableConfig = {"recursion_limit": RECURSION_LIMIT, **state.config}
        configurable = {**config.get("configurable", {}), "thread_id": state.thread_id}
        metadata = {**config.get("metadata", {}), "thread_id": state.thread_id, "turn_id": turn.id}
        if (frame := running_task(state.live.others)) is not None:
            metadata |= {"task": frame["task"], "task_id": frame["id"]}
        if (behind := self._lag()) > PUNCTUAL:
            metadata["durable_lag_ms"] = round(behind * 1000)
        callbacks = listening(config, metadata)
        config = {**config, "configurable": configurable, "metadata": metadata}
        if not callbacks.handlers:
            return None, config, None
        self.learn(state.value("userdata"))
        log = TraceLog.of(callbacks)
        text = plain_text(turn.record.user) if turn.record.user is not None else None
        manager = await callbacks.on_chain_start(
            {}, {"text": text, "instructions": turn.instructions}, name=config.get("run_name") or "turn"
        )
        config = {**config, "callbacks": manager.get_child(), "run_name": "graph"}
        return manager, config, log

    def config(self, config: RunnableConfig) -> RunnableConfig:
        """The config of a run outside the call's turns, such as the active agent's `on_exit`."""
        callbacks = listening(config, config.get("metadata"))
        if (log := TraceLog.of(callbacks)) is None:
            return config
        log.when_over = functools.partial(self._deliver, log)
        return {**config, "callbacks": callbacks}

    def _deliver(self, log: TraceLog) -> None:
        cover = self.cover()
        sender.put(lambda: log.context.run(send_runs, log.client, runs_of(log, cover)), log.client)

    @property
    def thread_id(self) -> str:
        return self._state.thread_id

    def take_open(self, turn: TurnRun) -> "Trace | None":
        """The trace of this turn, to be finished now. None: it never began, or is being finished already."""
        trace = self._traces.get(turn)
        if trace is None or not trace.is_open:
            return None
        trace.is_open = False
        return trace

    def score(self, turn: TurnRun | None, score: Score) -> bool:
        """Give feedback on this turn; with None, on the last committed turn that is over. False: it is not traced."""
        trace = self._traces.get(turn) if turn is not None else self.last
        if turn is not None and trace is None:
            if (traced := is_traced(self._state.config)) and not turn.task_done:
                self._early.setdefault(turn, []).append(score)  # its run is about to begin
            return traced
        return trace is not None and trace.score(score)

    # ---- secrets

    def learn(self, found: Any) -> None:
        """Collect the secrets in userdata or tool call arguments. All that is sent from now on redacts them."""
        self._secrets.update(secret_texts(found), taken(found))

    def cover(self, turn: TurnRun | None = None) -> Redaction:
        """Redacts everything known to be secret so far."""
        self.learn(self._state.value("userdata"))
        for step in turn.record.steps() if turn is not None else ():
            for call in step.message.tool_calls if step.message is not None else ():
                self.learn(call["args"])
        said = [
            *self._state.messages,
            *([turn.record.user] if turn is not None and turn.record.user is not None else []),
        ]
        known = known_of(said if self._state.roles.takers else ()).and_also(self._secrets)
        tools = self._tools.union(*(table.seen for table in self._toolsets))
        return Redaction(self._schemas, self._state.roles.takers, known, tools)

    # ---- traces that are not sent yet

    def linger(self, trace: "Trace") -> None:
        """Keep this trace until it is sent: in a second, or when the call ends."""
        self._lingering.add(trace)

    def sent(self, trace: "Trace") -> None:
        self._lingering.discard(trace)

    def close(self) -> None:
        """The call is over: send the waiting traces. Returns at once."""
        for trace in list(self._lingering):
            trace.send()


class Trace:
    """The turn's own run: the root of its trace, open from the turn's start to its `close()`, with the graph run below.

    So the root can record what was heard, which is known only after the graph has ended.
    """

    def __init__(
        self,
        call: CallTrace,
        manager: Any,
        config: RunnableConfig,
        scores: list[Score],
        log: TraceLog | None = None,
    ) -> None:
        self._call = call
        self._manager = manager
        self._log = log
        self._turn: TurnRun | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._scores = scores
        self._sent = False
        self._later: tuple[Any, Subject] | None = None
        self.is_open = True
        """Whether nothing has begun to close it."""
        self.config = config
        """The config of the graph run."""

    async def finish(self, turn: TurnRun) -> None:
        """Close the root. Call it once, when the turn is over."""
        if self._manager is None:
            return
        if turn.state.happened:
            self._call.last = self
        manager, outcome, tags = self._manager, _outcome(turn), _tags(turn)
        manager.tags = [*manager.tags, *tags]  # handlers read the tags again at the end
        for handler in manager.handlers:
            if isinstance(handler, NotingTracer) or not isinstance(handler, BaseTracer):
                continue
            if (run := handler.run_map.get(str(manager.run_id))) is not None:
                run.add_tags(tags)
                run.add_metadata(_metadata(turn, outcome))
        await manager.on_chain_end(outcome)
        if self._log is not None:
            self._turn = turn
            self._timer = asyncio.get_running_loop().call_later(LINGER, self.send)
            self._call.linger(self)

    def send(self) -> None:
        """Send the trace: nothing more will be known of the turn. Returns at once."""
        turn, log = self._turn, self._log
        if turn is None or log is None or self._sent:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._sent, self._turn, self._log = True, None, None  # so a call of a thousand turns keeps none of them
        self._call.sent(self)
        outcome = _outcome(turn)
        log.amend(self._manager.run_id, Amendment(outcome, _metadata(turn, outcome), _tags(turn)))
        for key, run_id in log.handoffs.items():
            happened = any(handoff.happened for handoff in turn.record.handoffs.asked_by(key))
            log.amend(run_id, Amendment({"confirmed": happened}, tags=() if happened else ("rejected",)))
        cover, cut = self._call.cover(turn), next(iter(_tags(turn)), None)
        client, scores, subject = log.client, self._scores, self._subject(log.project)

        def work() -> None:
            log.context.run(send_runs, client, runs_of(log, cover, cut))
            for score in scores:
                give(client, subject, score)

        sender.put(work, client)
        self._later = (client, subject)
        self._manager = None  # its handlers hold all that was recorded

    def score(self, score: Score) -> bool:
        """Give feedback on the root, after the trace itself. Returns at once. False: there is no LangSmith tracer."""
        if self._later is not None:
            client, subject = self._later
        elif self._manager is None:
            return False
        elif self._log is not None:
            self._scores.append(score)
            return True
        else:
            tracer = next((h for h in self._manager.handlers if isinstance(h, LangChainTracer)), None)
            if tracer is None:
                return False
            client, subject = tracer.client, self._subject(tracer.project_name)
        sender.put(functools.partial(give, client, subject, score), client)
        return True

    def _subject(self, project: str | None) -> Subject:
        return Subject(self._manager.run_id, project, self._call.thread_id)


def _tags(turn: TurnRun) -> list[str]:
    holds = (("interrupted", turn.interrupted), ("discarded", turn.state is TurnState.DISCARDED))
    return [name for name, held in holds if held]


def _outcome(turn: TurnRun) -> dict[str, Any]:
    """The outputs of the root."""
    said = [words for step in turn.record.steps() for words in (step.words, *step.lines)]
    return {
        "text": plain_text(turn.record.user) if turn.record.user is not None else None,
        "heard": " ".join(words.heard for words in said if words.heard),
        "generated": " ".join(words.produced for words in said if words.produced),
        "interrupted": turn.interrupted,
        "discarded": turn.state is TurnState.DISCARDED,
    }


def _metadata(turn: TurnRun, outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The root's metadata at its end. It includes the words, since LangSmith filters by metadata."""
    return {"heard": outcome["heard"], "generated": outcome["generated"], **turn.timings.metadata()}
