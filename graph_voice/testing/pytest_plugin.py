"""The marker `virtual_clock` for pytest: `pytest_plugins = ["graph_voice.testing.pytest_plugin"]` in the top
`conftest.py`.

`@pytest.mark.virtual_clock` lets an async test, and its async fixtures, run on a `VirtualClockLoop`; other
tests are untouched. `@pytest.mark.virtual_clock(limit=60)` gives up after that many virtual seconds. It
builds on the hook that pytest-asyncio 1.5 has for loop factories (event loop policies, the older way, are on
their way out of Python).
"""

import asyncio
import functools
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import pytest

from graph_voice.testing.clock import VirtualClockLoop, virtual_time

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "virtual_clock(limit=3600): run the test on an event loop on which waiting costs no time.",
    )


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Generator[None, Mapping[str, LoopFactory] | None, Mapping[str, LoopFactory]]:
    factories = yield
    marker = item.get_closest_marker("virtual_clock")
    if marker is not None:
        return {"virtual_clock": functools.partial(VirtualClockLoop, **_options(marker))}
    return factories or {"asyncio": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _virtual_time(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.node.get_closest_marker("virtual_clock") is None:
        yield
        return
    with virtual_time():
        yield


def _options(marker: pytest.Mark) -> dict[str, Any]:
    if marker.args or set(marker.kwargs) - {"limit", "patience"}:
        raise pytest.UsageError("virtual_clock takes `limit` (virtual seconds) and `patience` (real seconds), by name.")
    return dict(marker.kwargs)
