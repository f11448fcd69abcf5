"""What a test says of moments that are still to come: plans, guesses, a process that dies."""

from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from graph_voice.testing.front_end import Moment, Plan
from graph_voice.testing.result import Result

if TYPE_CHECKING:
    from graph_voice.testing.scripted_call import Call

__all__ = ["Crash", "Planned", "Speculation", "named"]


class Planned:
    """What happens at a moment that is still to come."""

    def __init__(self, plans: list[Plan], moment: Moment) -> None:
        self._plans = plans
        self._moment = moment

    def says(self, text: str) -> None:
        """The caller cuts in with these words."""
        self._plans.append(Plan(self._moment, text))

    def noise(self) -> None:
        """There is a noise, which turns out to be nothing."""
        self._plans.append(Plan(self._moment))

    def crash(self) -> None:
        """The process dies. `says` returns what happened until then; `await call.resume()` goes on."""
        self._plans.append(Plan(self._moment, crashes=True))


class Speculation:
    """A guess of the front end, before the real words."""

    def __init__(self, call: "Call[Any]", guess: str) -> None:
        self._call = call
        self._guess = guess

    async def then_says(self, text: str) -> Result:
        """What the caller really says. The same words: the guess was right, and its run is kept."""
        call = self._call
        playing = await call._open()
        result = call._begin()
        plans = list(call._plans)
        await call._play(playing.speculates(self._guess, text, [p for p in plans if not p.crashes]), plans)
        return result()


class Crash:
    """The end of a process, when it is awaited; or with what the next one does: `await call.crash().resume()`."""

    def __init__(self, call: "Call[Any]", crashing: Coroutine[Any, Any, None]) -> None:
        self._call = call
        self._crashing = crashing  # begun here, so that Python warns of a crash that nobody awaits

    def __await__(self) -> "Generator[Any, Any, Call[Any]]":
        yield from self._crashing.__await__()
        return self._call

    async def resume(self) -> Result:
        """Crash, and let another process take the call up at once: `Call.resume`."""
        await self
        return await self._call.resume()


def named(what: str) -> str:
    """A moment, in the words of a sentence."""
    kind, _, name = what.partition(":")
    return f"during the tool {name}" if kind == "tool" else "during a handoff"
