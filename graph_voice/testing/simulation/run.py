"""`simulate`: many simulated calls, some at a time, each on a clock of its own."""

import asyncio
import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graph_voice.models import model_from
from graph_voice.testing.clock import VirtualClockLoop, virtual_time
from graph_voice.testing.front_end import CallPlan, FrontEnd
from graph_voice.testing.scripted_call import Call
from graph_voice.testing.simulation.judges import JUDGES, Evaluator, Evidence, Judge, Verdict, judge_call, judges_named
from graph_voice.testing.simulation.off_clock import ModelLoop, off_clock
from graph_voice.testing.simulation.persona import Caller, ModelCaller, ScriptCaller, Tokens
from graph_voice.testing.simulation.play import PlayPlan, play
from graph_voice.testing.simulation.report import Report
from graph_voice.testing.simulation.results import Run
from graph_voice.testing.simulation.scenario import Scenario, ScenarioError, Setup, load_scenarios, named

__all__ = ["SCRIPT", "Progress", "simulate"]

SCRIPT = "script"
"""`caller="script"`: the caller does what the scenario lists."""
LIMIT = 4 * 3600.0
"""Seconds on its own clock after which a call is given up."""
Progress = Callable[[Run, int, int], None]
"""Called with each run that is over, how many are over, and how many there are."""


def simulate(
    graph: Any,
    scenarios: str | Path | Iterable[Scenario],
    *,
    caller: Any = SCRIPT,
    llm: Any = None,
    judge: Any = None,
    judges: Sequence[str | Judge | Evaluator] | None = None,
    setup: Callable[[Scenario], Setup | None] | None = None,
    check: Callable[..., Any] | None = None,
    n: int = 1,
    seed: int = 0,
    concurrency: int = 4,
    front_end: str | Callable[[CallPlan], FrontEnd] = "core",
    clock: Literal["virtual", "real"] | None = None,
    max_turns: int = 30,
    config: Any = None,
    name: str | None = None,
    on_run: Progress | None = None,
) -> Report:
    """Let simulated callers call a graph, and grade the calls. Blocks until all are over.

    ```python
    report = simulate(graph, "scenarios.yaml", llm="openai:gpt-4.1", caller="openai:gpt-4.1-mini", n=5)
    report.require(pass_rate=0.9)
    ```

    Args:
        graph: what `create_voice_graph(...)` returned, compiled or not.
        scenarios: a file in LiveKit's format, or `Scenario`s.
        caller: a chat model that plays the callers, or its name; "script" (each scenario's own list); or a function of
            the scenario that returns a `Caller`.
        llm: the model of every agent, or its name; or a function of the scenario that returns one, for models that hold
            something of a call. Default: the graph's own.
        judge: a chat model that judges, or its name.
        judges: which of the judges (`JUDGES`, "expectations"), other `Judge`s, and evaluators of agentevals and
            openevals. Default: all, when there is a `judge`.
        setup: returns what a scenario's calls begin with (`Setup`). It is called for each call.
        check: called with the scenario and the `Call` when it is over. It raises `AssertionError`, or returns what is
            wrong as a text, or returns None.
        n: how many calls for each scenario.
        seed: chooses how the callers speak, besides what the scenarios say.
        concurrency: how many calls at a time.
        front_end: as for `Call`: "core", "livekit", or another.
        clock: "virtual": waiting costs no time; models answer in real time, and each call's clock follows. "real": for
            tools that use the network. Default: virtual with an `llm`, else real.
        max_turns: after so many turns of the caller, the call is ended, and has failed.
        config: a LangChain `RunnableConfig` for every call.
        name: the graph's name in the report.
        on_run: called when a call is over.

    Raises `ScenarioError` for scenarios or judges that can't be used, and `ModelError` for models.
    """
    listed = load_scenarios(scenarios) if isinstance(scenarios, str | Path) else named(scenarios)
    for what, value in (("n", n), ("concurrency", concurrency), ("max_turns", max_turns)):
        if value < 1:
            raise ScenarioError(f"simulate({what}={value}): write at least 1.")
    if not listed:
        raise ScenarioError("simulate(): there are no scenarios to play.")
    plan = _Simulation(
        graph,
        caller=caller if caller == SCRIPT or _is_function(caller) else model_from(caller),
        llm=llm if _is_function(llm) else model_from(llm),
        judge=model_from(judge),
        judges=_judges(judges, judge),
        setup=setup,
        check=check,
        seed=seed,
        front_end=front_end,
        max_turns=max_turns,
        config=config,
    )
    live = Call.live_model is not None  # pytest --graph-voice-live: it replaces the agents' model, in real time
    virtual = not live and (clock or ("virtual" if llm is not None else "real")) == "virtual"
    began = time.monotonic()
    calls = [(scenario, number) for scenario in listed for number in range(1, n + 1)]
    with ModelLoop() as models, virtual_time() if virtual else nullcontext():
        plays = [functools.partial(plan.play, scenario, number, models) for scenario, number in calls]
        run_all = _in_threads if virtual else _on_one_loop
        runs = run_all(plays, concurrency, _counting(on_run, len(plays)))
    return Report(
        graph=name or str(getattr(graph, "name", None) or "graph"),
        front_end=front_end if isinstance(front_end, str) else getattr(front_end, "__name__", "another"),
        clock="virtual" if virtual else "real",
        seed=seed,
        models={"agents": _called(llm), "caller": _called(caller), "judges": _called(judge)},
        runs=runs,
        seconds=round(time.monotonic() - began, 1),
    )


@dataclass
class _Simulation:
    """What all calls of a simulation share."""

    graph: Any
    caller: Any
    llm: Any
    judge: Any
    judges: list[Judge | Evaluator]
    setup: Callable[[Scenario], Setup | None] | None
    check: Callable[..., Any] | None
    seed: int
    front_end: Any
    max_turns: int
    config: Any

    async def play(self, scenario: Scenario, number: int, models: ModelLoop) -> Run:
        """Play one call. What can't be made for it is its error."""
        try:
            plan = self._plan(scenario, number, models)
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            return Run(scenario=scenario.name, number=number, status="error", ended="", error=told)
        return await play(plan)

    def _plan(self, scenario: Scenario, number: int, models: ModelLoop) -> PlayPlan:
        setup = (self.setup(scenario) if self.setup is not None else None) or Setup()
        llm = self.llm(scenario) if _is_function(self.llm) else self.llm
        if "llm" in setup.options:
            llm = model_from(setup.options["llm"])
        checks = [check for check in (setup.check, self._check(scenario)) if check is not None]
        return PlayPlan(
            scenario,
            number,
            self.graph,
            self._caller(scenario, number, models),
            Setup(check=_all(checks) if checks else None, **{**setup.options, "llm": off_clock(llm, models)}),
            front_end=self.front_end,
            max_turns=self.max_turns,
            config=self.config,
            judge=self._judge(models) if self.judges else None,
        )

    def _caller(self, scenario: Scenario, number: int, models: ModelLoop) -> Caller:
        if self.caller == SCRIPT:
            return ScriptCaller(scenario)
        if _is_function(self.caller):
            made: Caller = self.caller(scenario)
            return made
        return ModelCaller.seeded(self.caller, scenario, models, number, self.seed)

    def _check(self, scenario: Scenario) -> Callable[[Any], Any] | None:
        return None if self.check is None else functools.partial(self.check, scenario)

    def _judge(self, models: ModelLoop) -> Callable[[Evidence, Tokens], Coroutine[Any, Any, list[Verdict]]]:
        async def ask(evidence: Evidence, tokens: Tokens) -> list[Verdict]:
            return await models.run(lambda: judge_call(self.judges, evidence, self.judge, tokens), patience=None)

        return ask


def _all(checks: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Coroutine[Any, Any, str | None]]:
    async def check(call: Any) -> str | None:
        for one in checks:
            made = one(call)
            said = await made if inspect.isawaitable(made) else made
            if isinstance(said, str) and said:
                return said
        return None

    return check


def _judges(named_: Sequence[str | Judge | Evaluator] | None, judge: Any) -> list[Judge | Evaluator]:
    if named_ is None:
        named_ = ["expectations", *JUDGES] if judge is not None else []
    found = judges_named(named_)
    asking = [one.name for one in found if isinstance(one, Judge)]
    if asking and judge is None:
        raise ScenarioError(f"simulate(judges=[{asking[0]!r}]): name the model that judges: judge=...")
    return found


def _is_function(value: Any) -> bool:
    return callable(value) and not hasattr(value, "astream") and not isinstance(value, type)


def _called(model: Any) -> str:
    if model is None:
        return ""
    if isinstance(model, str):
        return model
    found = getattr(model, "model_name", None) or getattr(model, "model", None) or getattr(model, "name", None)
    return str(found or getattr(model, "__name__", type(model).__name__))


def _counting(on_run: Progress | None, total: int) -> Callable[[Run], None]:
    done = 0

    def count(run: Run) -> None:
        nonlocal done
        done += 1
        if on_run is not None:
            on_run(run, done, total)

    return count


Play = Callable[[], Coroutine[Any, Any, Run]]


def _in_threads(plays: Sequence[Play], concurrency: int, over: Callable[[Run], None]) -> list[Run]:
    """Each call in a thread, on a virtual clock of its own: none waits for the models of another."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="graph_voice.simulation")
    try:
        futures = [pool.submit(_on_own_clock, one) for one in plays]
        waiting: set[Future[Run]] = set(futures)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=futures.index):
                over(future.result())
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _on_own_clock(one: Play) -> Run:
    make = functools.partial(VirtualClockLoop, limit=LIMIT, patience=1000.0)
    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(one())


def _on_one_loop(plays: Sequence[Play], concurrency: int, over: Callable[[Run], None]) -> list[Run]:
    """All calls on one loop, in real time. The loop has a thread of its own, so a notebook's may be running."""
    places = asyncio.Semaphore(concurrency)

    async def in_turn(one: Play) -> Run:
        async with places:
            run = await one()
            over(run)
            return run

    begun: Future[Callable[[], object]] = Future()

    async def everything() -> list[Run]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        begun.set_result(lambda: loop.call_soon_threadsafe(task.cancel) if task is not None else None)
        return list(await asyncio.gather(*map(in_turn, plays)))

    with ThreadPoolExecutor(1, thread_name_prefix="graph_voice.simulation") as pool:
        playing = pool.submit(asyncio.run, everything())
        try:
            return playing.result()
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # it has just ended
                begun.result()()  # else the pool would wait here until all calls are over
            raise
