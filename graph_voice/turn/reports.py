"""Which messages of a turn are complete, and which the front end has reported: nodes wait for both."""

import asyncio

__all__ = ["Reports"]


class Reports:
    """One flag per message id."""

    def __init__(self) -> None:
        self._flags: dict[str, asyncio.Event] = {}

    def came(self, message_id: str) -> None:
        self._of(message_id).set()

    def release(self) -> None:
        """End every wait so far."""
        for flag in self._flags.values():
            flag.set()

    async def wait(self, message_id: str) -> None:
        await self._of(message_id).wait()

    def _of(self, message_id: str) -> asyncio.Event:
        return self._flags.setdefault(message_id, asyncio.Event())
