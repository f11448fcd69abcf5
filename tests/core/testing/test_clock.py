"""The virtual clock: time that jumps, in an order that repeats."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import BaseModel, Field

from graph_voice.testing import ClockStalled, VirtualClockLoop, run

real_time = time.time
real_perf_counter = time.perf_counter


class Stamped(BaseModel):
    at: float = Field(default_factory=time.time)


@pytest.mark.virtual_clock
async def test_an_hour_of_sleep_costs_no_wall_time() -> None:
    loop = asyncio.get_running_loop()
    started, virtual = real_perf_counter(), loop.time()
    await asyncio.sleep(3000)
    assert loop.time() - virtual == pytest.approx(3000)
    assert real_perf_counter() - started < 300


async def test_unmarked_tests_keep_the_real_clock() -> None:
    assert not isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    assert abs(time.time() - real_time()) < 3600


@pytest.fixture
async def a_second_later() -> float:
    await asyncio.sleep(1)
    return asyncio.get_running_loop().time()


@pytest.mark.virtual_clock
async def test_async_fixtures_share_the_clock(a_second_later: float) -> None:
    assert a_second_later == pytest.approx(1)
    assert asyncio.get_running_loop().time() >= a_second_later


def test_run_returns_the_result() -> None:
    async def main() -> float:
        await asyncio.sleep(7)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(7)
    assert abs(time.time() - real_time()) < 3600


@pytest.mark.virtual_clock
async def test_timers_of_one_instant_fire_in_the_order_they_were_set() -> None:
    fired: list[int] = []
    loop = asyncio.get_running_loop()
    at = loop.time() + 1
    for number in range(50):
        loop.call_at(at, fired.append, number)
    await asyncio.sleep(2)
    assert fired == list(range(50))


@pytest.mark.virtual_clock
async def test_timeouts_fire() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(120):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == pytest.approx(120)


@pytest.mark.virtual_clock
async def test_a_delay_of_another_kind_of_number_leaves_the_time_a_float() -> None:
    """Numbers of numpy come from audio, and a time that is one can't be stored in a checkpoint."""

    class Float64(float):
        def __radd__(self, other: float) -> "Float64":
            return Float64(float(other) + float(self))

    await asyncio.sleep(Float64(1.5))
    assert type(asyncio.get_running_loop().time()) is float
    assert type(time.time()) is float


@pytest.mark.virtual_clock
async def test_time_functions_follow_the_clock_and_never_repeat() -> None:
    before = (time.time(), time.perf_counter(), time.monotonic(), time.time_ns())
    await asyncio.sleep(10)
    after = (time.time(), time.perf_counter(), time.monotonic(), time.time_ns())
    assert [b - a for a, b in zip(before[:3], after[:3], strict=True)] == pytest.approx([10] * 3, abs=1e-3)
    assert (after[3] - before[3]) / 1e9 == pytest.approx(10, abs=1e-3)
    stamps = [time.time() for _ in range(100)]
    assert stamps == sorted(set(stamps))


@pytest.mark.virtual_clock
async def test_models_that_captured_the_clock_follow_it() -> None:
    first = Stamped()
    await asyncio.sleep(5)
    second = Stamped.model_validate({})
    assert second.at - first.at == pytest.approx(5, abs=1e-3)
    assert first.at > real_time()  # what is stamped with real time sorts first


def test_models_that_captured_the_clock_have_real_time_afterwards() -> None:
    run(asyncio.sleep(1))
    assert abs(Stamped().at - real_time()) < 3600


@pytest.mark.virtual_clock
async def test_time_stands_still_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    release, seen = threading.Event(), []

    def job() -> str:
        seen.append(time.time())
        assert release.wait(60)
        return threading.current_thread().name

    ticks: list[float] = []
    loop.call_later(0.001, lambda: ticks.append(loop.time()))
    threading.Timer(0.05, release.set).start()
    name = await asyncio.to_thread(job)
    assert name != threading.current_thread().name
    assert loop.time() == 0  # the timer at 0.001 s had to wait for the thread
    assert not ticks
    assert seen[0] > real_time()  # the job lives on the virtual clock as well


@pytest.mark.virtual_clock
async def test_many_threads_deliver_before_the_clock_jumps() -> None:
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(4) as pool:
        for number in range(200):
            before = loop.time()
            heartbeat = loop.call_later(0.5, lambda: None)
            assert await loop.run_in_executor(pool, lambda n: n * 2, number) == number * 2
            heartbeat.cancel()
            assert loop.time() == before


@pytest.mark.virtual_clock
async def test_the_thread_of_a_cancelled_task_still_holds_the_clock() -> None:
    loop = asyncio.get_running_loop()
    entered, release = threading.Event(), threading.Event()

    def job() -> None:
        entered.set()
        assert release.wait(60)

    task = asyncio.create_task(asyncio.to_thread(job))
    await asyncio.sleep(0)
    with loop.hold():  # type: ignore[attr-defined]
        assert await asyncio.to_thread(entered.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    threading.Timer(0.05, release.set).start()
    await asyncio.sleep(1)
    assert release.is_set()


@pytest.mark.virtual_clock
async def test_hold_waits_for_a_thread_the_loop_knows_nothing_of() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    woken = asyncio.Event()
    loop.call_later(5, lambda: None)
    with loop.hold():
        threading.Timer(0.05, loop.call_soon_threadsafe, [woken.set]).start()
        await woken.wait()
    assert loop.time() == 0


def test_waiting_for_nothing_is_an_error_that_names_the_task() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        await asyncio.create_task(never(), name="the waiter")

    with (
        asyncio.Runner(loop_factory=lambda: VirtualClockLoop(patience=0.01)) as runner,
        pytest.raises(ClockStalled, match=r"(?s)No timer, no job.*the waiter.*never"),
    ):
        runner.run(main())


def test_an_endless_heartbeat_meets_the_limit() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(ClockStalled, match="limit of 100 s"):
        run(main(), limit=100)


@pytest.mark.virtual_clock
async def test_many_timers_do_not_make_the_clock_drift() -> None:
    loop = asyncio.get_running_loop()

    async def tick() -> None:
        for _ in range(2000):
            await asyncio.sleep(0.05)

    await asyncio.gather(*(tick() for _ in range(10)))
    assert abs(loop.time() - 100) < 1e-7
