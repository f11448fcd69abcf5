"""What a test plans for moments that are still to come: barge-ins, guesses, a process that dies."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar

from graph_voice.testing.front_end import Moment, Plan
from graph_voice.testing.result import Result

__all__ = ["Crash", "Planned", "Plans", "Speculation"]

_HANDOFF = "during a handoff"


class Resumable(Protocol):
    """A call whose process may die."""

    async def resume(self) -> Result:
        """Another process resumes the call."""


C = TypeVar("C", bound=Resumable)


class Plans:
    """What is planned in a call for moments that are still to come."""

    def __init__(self) -> None:
        self._plans: list[Plan] = []

    def add(self, plan: Plan) -> None:
        self._plans.append(plan)

    def all(self) -> list[Plan]:
        return list(self._plans)

    def during_tool(self, name: str) -> "Planned":
        return Planned(self, Moment(f"during the tool {name}"))

    def during_handoff(self) -> "Planned":
        return Planned(self, Moment(_HANDOFF))

    def tool_runs(self, name: str) -> None:
        """The code of this tool, or its mock, begins to run."""
        self._come(f"during the tool {name}")

    def handed_off(self) -> None:
        self._come(_HANDOFF)

    def transfer_line(self) -> None:
        """A transfer's line is about to be spoken: the handoff's moment is then when its first word is heard."""
        for plan in self._plans:
            if plan.moment.name == _HANDOFF:
                plan.moment.words = 1

    def take_missed(self) -> list[str]:
        """Clear all plans, and return those whose moment has not come."""
        plans, self._plans = self._plans, []
        return [str(plan) for plan in plans if not plan.moment.came.is_set()]

    def _come(self, moment: str) -> None:
        for plan in self._plans:
            if plan.moment.name == moment and plan.moment.words is None and not plan.moment.came.is_set():
                plan.moment.came.set()
                return


class Planned:
    """What happens at a moment that is still to come."""

    def __init__(self, plans: Plans, moment: Moment) -> None:
        self._plans = plans
        self._moment = moment

    def says(self, text: str) -> None:
        """The caller cuts in with these words."""
        self._plans.add(Plan(self._moment, text))

    def noise(self) -> None:
        """There is a noise, which turns out to be nothing."""
        self._plans.add(Plan(self._moment))

    def crash(self) -> None:
        """The process dies. `says` returns what happened until then; `await call.resume()` resumes the call."""
        self._plans.add(Plan(self._moment, crashes=True))


class Speculation:
    """A guess of the front end, before the real words.

    Args:
        play: plays the turn with the real words.
    """

    def __init__(self, play: Callable[[str], Awaitable[Result]]) -> None:
        self._play = play

    async def then_says(self, text: str) -> Result:
        """What the caller really says. If it is the same, the guess was right and its run is kept."""
        return await self._play(text)


class Crash(Generic[C]):
    """Ends the process when it is awaited. `await call.crash().resume()` also resumes the call in the next one."""

    def __init__(self, call: C, crashing: Coroutine[Any, Any, None]) -> None:
        self._call = call
        self._crashing = crashing  # begun here, so that Python warns of a crash that nobody awaits

    def __await__(self) -> Generator[Any, Any, C]:
        yield from self._crashing.__await__()
        return self._call

    async def resume(self) -> Result:
        """Crash, and let another process resume the call at once: `Call.resume`."""
        await self
        return await self._call.resume()
