"""What the tests of the live page in Chromium have in common: pages that are watched, and what ends a test at once."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

STUCK = 240.0
"""Seconds of real time after which what should have happened at once never will."""
LONGEST = 280.0
"""Seconds of real time for all that a test does with a browser: one whose process has died answers nothing any more."""
WIDE = {"width": 1280, "height": 800}


class Complaints:
    """Errors of the pages and of the server behind them. The first one ends the test: nothing is waited for in vain."""

    def __init__(self) -> None:
        self.shown = ""
        """What the pages showed when the test failed."""
        self._made: list[str] = []
        self._expected: tuple[str, ...] = ()
        self._bound = asyncio.timeout(LONGEST)
        self._over = False

    def expect(self, *words: str) -> None:
        """Complaints with one of these words in them are none."""
        self._expected += words

    def add(self, text: str) -> None:
        """Something is wrong."""
        if any(word in text for word in self._expected):
            return
        self._made.append(text)
        if len(self._made) == 1 and not self._over:
            self._bound.reschedule(0)

    @asynccontextmanager
    async def end_the_test(self) -> AsyncIterator[None]:
        """Raises `AssertionError` with the complaints, in the middle of what waits, or at the end."""
        try:
            async with self._bound:
                with _logged(asyncio.get_running_loop(), self.add):
                    yield
                    await asyncio.sleep(0)  # what other threads have logged
                    self._over = True
        except Exception as error:
            self._over = True
            error.add_note(self.shown)
            if not (self._made and isinstance(error, TimeoutError)):
                raise
        assert not self._made, "\n".join([*self._made, self.shown])


class _Handler(logging.Handler):
    def __init__(self, tell: Callable[[str], Any]) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name == "graph_voice.page":
            self._tell(logging.Formatter("%(name)s: %(message)s").format(record))


@contextmanager
def _logged(loop: asyncio.AbstractEventLoop, add: Callable[[str], None]) -> Iterator[None]:
    """Complain of what is logged, from whichever thread."""
    handler = _Handler(lambda text: loop.call_soon_threadsafe(add, text))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


async def opened(
    browser: Any, client: Any, complaints: Complaints, path: str = "/", *, script: str = "", **options: Any
) -> Any:
    """Open the page in a context of its own.

    Args:
        browser: playwright's, of the fixture `browse`.
        client: of the page's server.
        complaints: get what goes wrong in the page.
        path: of the page.
        script: JavaScript that runs before the page's own.
        options: of the context.
    """
    context = await browser.new_context(**{"viewport": WIDE, **options})
    context.set_default_timeout(STUCK * 1000)

    def said(message: Any) -> None:
        if message.type == "error":
            complaints.add(f"console: {message.text} {message.location.get('url')}")

    context.on("console", said)
    context.on("weberror", lambda event: complaints.add(f"page: {event.error}"))
    shown = await context.new_page()
    if script:
        await shown.add_init_script(script)
    await shown.goto(str(client.make_url(path)))
    return shown


async def until(shown: Any, condition: str) -> None:
    """Wait until this holds in the page, whose own rules let no text be run as code there."""
    async with asyncio.timeout(STUCK):
        while not await shown.evaluate(condition):
            await shown.wait_for_timeout(50)


async def looks(browser: Any) -> str:
    """What the pages show now, for the report of a test that has failed."""
    shown = []
    for page in [page for context in browser.contexts for page in context.pages]:
        parts = [page.locator(where).inner_text(timeout=2000) for where in ("#state", "#notices", "#lines")]
        shown.append(f"the page shows: {await asyncio.gather(*parts, return_exceptions=True)}")
    return "\n".join(shown)
