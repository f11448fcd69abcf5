"""How much a page may send, and how many pages may have a call."""

import asyncio

__all__ = ["Allowance", "Places"]


class Allowance:
    """So much a second, and so much at once.

    Args:
        rate: what is allowed in the long run, per second.
        burst: what is allowed at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left = burst
        self._at: float | None = None

    def take(self, amount: float, now: float) -> bool:
        """Whether so much is allowed now; then it is used up. `now`: seconds of a clock that never goes back."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if amount > self._left:
            return False
        self._left -= amount
        return True


class Places:
    """How many calls a server holds at once.

    Args:
        most: so many.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0
        self._freed = asyncio.Event()

    async def wait(self, patience: float) -> bool:
        """Take one, or wait so many seconds for one: a page that begins anew has just hung up. False: none was free."""
        try:
            async with asyncio.timeout(patience):
                while not self.take():
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> bool:
        """Take the place of one call. False: all are taken."""
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def give_back(self) -> None:
        """A call is over."""
        self.taken -= 1
        self._freed.set()
