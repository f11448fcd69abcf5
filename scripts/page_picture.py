"""The picture of the live page in the README: `python scripts/page_picture.py calls/customer_service-0`.

It plays a call that `graph-voice demo` has written, on a page in Chromium, and takes the picture while a handoff is on
its way. Make the call on a machine that does nothing else: the page shows its times.
"""

import argparse
import asyncio
import os
import shutil
from pathlib import Path

from aiohttp.test_utils import TestServer
from playwright.async_api import async_playwright

from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.replay import Replay
from graph_voice_livekit.page.server import make_app

SIZE = {"width": 1280, "height": 760}
BROWSER = os.environ.get("CHROMIUM") or shutil.which("chromium")


async def main(call: Path, graph: str, picture: Path, dark: bool) -> None:
    shelf = Shelf(Choices(graph, llm="offline"), text_only=True)
    replay = Replay.load(call)
    handoff = [at for at, message in replay.moments if message["type"] == "agent"][-1]
    async with TestServer(make_app(shelf, replay=replay)) as server, async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = await browser.new_page(viewport=SIZE, color_scheme="dark" if dark else "light")
        await page.goto(str(server.make_url("/")))
        await page.locator("#position").fill(f"{handoff - 0.1:.2f}")
        await page.locator("#position").fill(f"{handoff + 1.5:.2f}")
        await page.locator("#position").blur()
        await page.locator("g.edge.moving").wait_for()
        await page.wait_for_timeout(400)  # until the nodes have their new colors
        await page.screenshot(path=picture)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("call", type=Path, help="the folder of the call")
    parser.add_argument("--graph", default="graphs/customer_service.py")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/live_page.png"))
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    asyncio.run(main(options.call, options.graph, options.picture, options.dark))
