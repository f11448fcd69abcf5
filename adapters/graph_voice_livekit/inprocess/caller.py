"""A simulated caller: it says the lines of a script when it is its turn, or interrupts the agent with them."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from livekit.agents import tts

from graph_voice_livekit.inprocess.audio_in import LineAudioInput
from graph_voice_livekit.inprocess.clock import CallClock
from graph_voice_livekit.inprocess.entries import Note
from graph_voice_livekit.inprocess.pcm import Samples, synthesize
from graph_voice_livekit.inprocess.result import CallerError
from graph_voice_livekit.inprocess.turn_taking import TurnTaking

__all__ = ["ANYONE", "Script", "ScriptLines", "ScriptStep", "SimulatedCaller"]

ANYONE = "*"
"""Stands for every agent for which a script has no lines of its own."""

_PAUSE = 0.4
"""Seconds of silence that end the agent's turn. A shorter gap is one between two of its speeches."""

_IGNORED = 5.0
"""Seconds after which an unanswered interruption counts as ignored."""


class ScriptStep(Protocol):
    """A line of the caller's script."""

    @property
    def say(self) -> Sequence[str]:
        """The ways to say it; the seed chooses one."""

    @property
    def interrupts(self) -> bool:
        """Said while the agent is speaking."""

    @property
    def expect_handoff(self) -> str | None:
        """The agent that should be active after the answer."""

    @property
    def end(self) -> bool:
        """The call ends once this has been answered."""


class Script(Protocol):
    """What the caller has to say to each agent, in order."""

    @property
    def steps(self) -> Mapping[str, Sequence[ScriptStep]]:
        """The lines by the id of the active agent, or `ANYONE`."""


@dataclass(frozen=True)
class ScriptLine:
    """One line, said in its turn."""

    say: tuple[str, ...]
    end: bool = False
    interrupts: bool = False
    expect_handoff: str | None = None


@dataclass(frozen=True)
class ScriptLines:
    """Lines that are said in order, whichever agent is active; the caller hangs up after the answer to the last."""

    steps: Mapping[str, Sequence[ScriptLine]]

    @classmethod
    def of(cls, lines: Sequence[str]) -> "ScriptLines":
        last = len(lines) - 1
        return cls({ANYONE: tuple(ScriptLine((text,), end=place == last) for place, text in enumerate(lines))})


class SimulatedCaller:
    """Follows a script: its next line is the next one for the agent that is active by then.

    Args:
        script: the lines, by agent.
        voice: any LiveKit TTS; it should sound unlike the agents.
        seed: chooses among the ways to say a line, and the moment of an interruption.
        patience: seconds to wait for an answer.
        greeting: seconds within which an agent that speaks first is expected to begin.
        interrupt_after: seconds of the agent's speech before an interrupting line begins: the least and the most,
            between which the seed chooses.
    """

    def __init__(
        self,
        script: Script,
        *,
        voice: tts.TTS[Any],
        seed: int = 0,
        patience: float = 15.0,
        greeting: float = 1.5,
        interrupt_after: tuple[float, float] = (1.0, 2.5),
    ) -> None:
        self.script = script
        self.voice = voice
        self.seed = seed
        self.patience = patience
        self.greeting = greeting
        self.interrupt_after = interrupt_after

    async def talk(
        self,
        line: LineAudioInput,
        turns: TurnTaking,
        clock: CallClock,
        *,
        note: Callable[[Note], None] = lambda _: None,
    ) -> None:
        """Hold the caller's side of the conversation; returns when its last line has been answered.

        Raises:
            CallerError: no answer came within `patience`, or the script has no line for the agent.
        """
        await _Talk(self, line, turns, clock, note).run()


class _Talk:
    """One call of a simulated caller."""

    def __init__(
        self,
        caller: SimulatedCaller,
        line: LineAudioInput,
        turns: TurnTaking,
        clock: CallClock,
        note: Callable[[Note], None],
    ) -> None:
        self._caller = caller
        self._line = line
        self._turns = turns
        self._clock = clock
        self._note = note
        self._random = random.Random(caller.seed)
        self._said: dict[str, int] = {}
        self._last: ScriptStep | None = None
        self._prepared: tuple[ScriptStep, str, Samples] | None = None

    async def run(self) -> None:
        turns = self._turns
        await turns.until(lambda: turns.replies + turns.playbacks > 0, timeout=self._caller.greeting)
        while True:
            interrupting = await self._agents_turn()
            if turns.closed is not None or self._over():
                return
            step = self._step()
            if step is None:
                raise CallerError(
                    f"The caller's script has no line (left) for the agent {turns.agent!r}. Add a step under"
                    f" {turns.agent!r}, or end the call earlier with a step that has `end: true`. The script"
                    f" speaks to: {', '.join(self._caller.script.steps) or 'nobody'}."
                )
            text, samples = await self._prepare(step)
            if not interrupting and not turns.idle:
                continue  # the agent has begun again while the line was synthesized
            self._prepared = None
            listener = self._listener()
            self._said[listener] = self._said.get(listener, 0) + 1
            self._last = step
            await self._say(step, text, samples)

    def _step(self) -> ScriptStep | None:
        """The next line for the active agent."""
        listener = self._listener()
        steps = self._caller.script.steps.get(listener, ())
        said = self._said.get(listener, 0)
        return steps[said] if said < len(steps) else None

    def _listener(self) -> str:
        """The active agent, or `ANYONE` if the script has no lines for it."""
        agent = self._turns.agent or ""
        return agent if agent in self._caller.script.steps else ANYONE

    def _over(self) -> bool:
        """Look back at the last line, now that it has been answered."""
        last, self._last = self._last, None
        if last is None:
            return False
        if last.expect_handoff is not None and last.expect_handoff != self._turns.agent:
            self._tell(f"expected a handoff to {last.expect_handoff!r}, but {self._turns.agent!r} is the active agent")
        return last.end

    async def _agents_turn(self) -> bool:
        """Wait until the agent's turn is over (False), or the moment has come to interrupt it (True)."""
        turns = self._turns
        while turns.closed is None:
            seen = turns.playbacks
            step = None if self._last is not None and self._last.end else self._step()
            if turns.playing and step is not None and step.interrupts:
                await self._prepare(step)
                due = turns.playback_started + self._random.uniform(*self._caller.interrupt_after)
                over = await turns.until(
                    lambda seen=seen: not turns.playing or turns.playbacks != seen,  # type: ignore[misc]
                    timeout=max(0.0, due - self._clock.now()),
                )
                if not over and turns.playing and self._step() is step:
                    return True
            if await turns.until(
                lambda: turns.idle,
                hold=_PAUSE,
                unless=lambda seen=seen: turns.playbacks != seen,  # type: ignore[misc]
            ):
                if step is not None and step.interrupts and self._step() is step:
                    self._tell("the agent had finished before it could be interrupted")
                return False
        return False

    async def _prepare(self, step: ScriptStep) -> tuple[str, Samples]:
        """Choose the words of a step and synthesize them, once."""
        if self._prepared is None or self._prepared[0] is not step:
            text = self._random.choice(list(step.say))
            self._prepared = (step, text, await synthesize(self._caller.voice, text))
        return self._prepared[1], self._prepared[2]

    async def _say(self, step: ScriptStep, text: str, samples: Samples) -> None:
        """Say a line, and wait until the answer begins."""
        turns = self._turns
        await self._line.speak(samples, text=text)
        seen = turns.playbacks

        def answered() -> bool:
            return turns.playbacks > seen

        if step.interrupts and await turns.until(lambda: turns.idle, hold=_IGNORED, unless=answered):
            self._tell("LiveKit did not take it as an interruption: nobody answered it")
            return
        if await turns.until(lambda: not turns.playing, hold=self._caller.patience, unless=answered):
            raise CallerError(
                f"The agent {turns.agent!r} has not answered {text!r} within {self._caller.patience:g} s."
                f" Recognized so far: {turns.recognized[-1:] or 'nothing'}."
            )

    def _tell(self, text: str) -> None:
        self._note(Note("caller", text, self._clock.now()))
