"""A headless Chromium, from Debian's package (scripts/install_services.sh), for the tests of the live page."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from browser_support import Complaints, looks

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",  # containers have no user namespaces
    "--disable-dev-shm-usage",  # nor much of /dev/shm
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]

Browse = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
async def complaints() -> Complaints:
    """What the pages and the server complained about."""
    return Complaints()


@pytest.fixture
def browse(complaints: Complaints) -> Browse:
    """Opens a browser; `microphone` is a WAV file that is spoken into it once. Gives playwright's `Browser`.

    The first complaint ends what is done with it.
    """
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: scripts/install_services.sh, or CHROMIUM=/path/to/chromium")

    @asynccontextmanager
    async def opened(microphone: Path | None = None) -> AsyncIterator[Any]:
        flags = [*FLAGS, *([f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else [])]
        async with complaints.end_the_test(), playwright.async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=flags)
            try:
                yield browser
            except BaseException:
                with suppress(TimeoutError):
                    async with asyncio.timeout(10):
                        complaints.shown = await looks(browser)
                raise
            finally:
                with suppress(TimeoutError):
                    async with asyncio.timeout(30):
                        await browser.close()

    return opened
