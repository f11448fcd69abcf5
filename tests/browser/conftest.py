"""A headless Chromium, from Debian's package (scripts/install_services.sh), for the tests of the live page."""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",  # containers have no user namespaces
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]

Browse = Callable[..., AbstractAsyncContextManager[Any]]


@pytest.fixture
def browse() -> Browse:
    """Opens a browser; `microphone` is a WAV file that is spoken into it once. Gives playwright's `Browser`."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: scripts/install_services.sh, or CHROMIUM=/path/to/chromium")

    @asynccontextmanager
    async def opened(microphone: Path | None = None) -> AsyncIterator[Any]:
        flags = [*FLAGS, *([f"--use-file-for-fake-audio-capture={microphone}%noloop"] if microphone else [])]
        async with playwright.async_playwright() as driver:
            browser = await driver.chromium.launch(executable_path=CHROMIUM, args=flags)
            try:
                yield browser
            finally:
                await browser.close()

    return opened


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained about; a test ends with none."""
    return []
