"""Public. What pytest gets: the virtual clock, calls that are closed and checked, scenarios on a real model.

It is installed as a pytest plugin, and needs no configuration.

- `@pytest.mark.virtual_clock` runs an async test, and its async fixtures, on a `VirtualClockLoop`. Other tests are not
  affected. `@pytest.mark.virtual_clock(limit=60)` gives up after that many virtual seconds. It implies
  pytest-asyncio's mark `asyncio`, and uses its hook for loop factories (since 1.5).
- The fixture `open_call` makes scripted calls (`graph_voice.testing.Call`) that are closed and checked when the test
  ends.
- A test that fails shows the transcript of each of its calls.
- `--graph-voice-live MODEL` runs the tests marked `live` with a real model in place of the scripted ones.
- `@pytest.mark.scenarios("scenarios.yaml")` runs a test once for each scenario of the file, as its argument `scenario`.
- In a test that LangSmith tracks (`@pytest.mark.langsmith`), what was said and heard is logged there.
"""

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from graph_voice.testing import Call

try:  # in strict mode, an async fixture is one of pytest-asyncio's
    from pytest_asyncio import fixture as _async_fixture
except ImportError:
    _async_fixture = pytest.fixture  # type: ignore[assignment]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
LIVE = "graph_voice_live"
_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("graph_voice").addoption(
        "--graph-voice-live",
        dest=LIVE,
        metavar="MODEL",
        help='run the tests marked "live" with this model ("openai:gpt-4.1-mini") in place of scripted ones',
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "virtual_clock(limit=3600): run the test on an event loop on which waiting costs no time.",
    )
    config.addinivalue_line(
        "markers", "scenarios(path): run the test once for each scenario of this file, as its argument `scenario`."
    )
    config.addinivalue_line(
        "markers", "live: the test also passes with a real model (--graph-voice-live): it asserts no scripted words."
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("scenarios")
    if marker is None:
        return
    if len(marker.args) != 1 or marker.kwargs or "scenario" not in metafunc.fixturenames:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: write @pytest.mark.scenarios(path) on a test with an argument `scenario`."
        )
    from graph_voice.testing.simulation import load_scenarios

    beside = metafunc.definition.path.parent / marker.args[0]
    found = load_scenarios(beside if beside.exists() else metafunc.config.rootpath / marker.args[0])
    metafunc.parametrize("scenario", found, ids=[scenario.name for scenario in found])


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """The mark `virtual_clock` means pytest-asyncio's `asyncio` as well: its strict mode, the default, asks for it."""
    if not inspect.iscoroutinefunction(obj):
        return
    function: Any = getattr(obj, "__func__", obj)
    own = {mark.name for mark in getattr(function, "pytestmark", ())}
    if "virtual_clock" not in own and collector.get_closest_marker("virtual_clock") is None:
        return
    if not collector.config.hook.pytest_asyncio_loop_factories.has_spec():  # this plugin's own is there in any case
        raise pytest.UsageError("virtual_clock needs pytest-asyncio 1.5 or later: pip install -U pytest-asyncio.")
    if "asyncio" not in own and collector.get_closest_marker("asyncio") is None:
        pytest.mark.asyncio(function)


@pytest.hookimpl(wrapper=True, optionalhook=True)
def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Generator[None, Mapping[str, LoopFactory] | None, Mapping[str, LoopFactory]]:
    factories = yield
    marker = item.get_closest_marker("virtual_clock")
    # A real model answers in real time.
    if marker is not None and item.config.getoption(LIVE) is None:
        return {"virtual_clock": functools.partial(_virtual_loop(), **_options(marker))}
    return factories or {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption(LIVE) is None:
        return
    skip = pytest.mark.skip(reason="not marked live: its assertions are on scripted words")
    for item in items:
        if item.get_closest_marker("live") is None:
            item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    if (model := item.config.getoption(LIVE)) is not None:
        from graph_voice.testing import Call

        Call.live_model = model
    if (loaded := _loaded()) is not None:
        loaded.opened.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    # Fixtures open calls too: theirs are shown when the test's setup or teardown fails.
    if (call := _loaded()) is not None and call.opened:
        if report.failed:
            shown = "\n\n".join(opened.transcript or "(nothing happened)" for opened in call.opened)
            report.sections.append(("graph_voice calls", shown))
        if report.when == "teardown":
            call.opened.clear()
    return report


@_async_fixture
async def open_call(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., "Call[Any]"]]:
    """Makes scripted calls: `phone = open_call(graph, llm=...)`. Each is closed when the test ends, and checked unless
    the test has failed."""
    from graph_voice.testing import Call

    made: list[Call[Any]] = []

    def open_call(graph: Any, **options: Any) -> Call[Any]:
        made.append(Call(graph, **options))
        return made[-1]

    yield open_call
    # After a failed test the calls are not checked: a call that it left in the middle would only add more failures.
    kind = AssertionError if request.node.stash.get(_FAILED, False) else None
    async with contextlib.AsyncExitStack() as ending:  # ends all of them, even if one of them raises
        for call in reversed(made):
            ending.push_async_callback(call.__aexit__, kind, None, None)


@pytest.fixture(autouse=True)
def _virtual_time(request: pytest.FixtureRequest) -> Iterator[None]:
    node = request.node
    if node.get_closest_marker("virtual_clock") is None or request.config.getoption(LIVE) is not None:
        yield
        return
    from graph_voice.testing.clock import virtual_time

    with virtual_time():
        yield


def _loaded() -> "type[Call[Any]] | None":
    """The class of scripted calls, if it was imported: a plugin must not make every test run slower."""
    import sys

    found = sys.modules.get("graph_voice.testing.scripted_call")
    return getattr(found, "Call", None)


def _virtual_loop() -> Any:
    from graph_voice.testing.clock import VirtualClockLoop

    return VirtualClockLoop


def _options(marker: pytest.Mark) -> dict[str, Any]:
    if marker.args or set(marker.kwargs) - {"limit", "patience"}:
        raise pytest.UsageError("virtual_clock takes `limit` (virtual seconds) and `patience` (real seconds), by name.")
    return dict(marker.kwargs)
