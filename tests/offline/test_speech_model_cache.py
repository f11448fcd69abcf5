"""One model per process, whoever asks first."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from graph_voice_livekit.offline.model_cache import ModelCache


def test_threads_that_ask_at_once_share_one_load() -> None:
    loads: list[str] = []
    together = threading.Barrier(4, timeout=300)

    def load(key: str) -> object:
        loads.append(key)
        return object()

    cache: ModelCache[str, object] = ModelCache(load)

    def ask() -> object:
        together.wait()
        return cache.get("voice")

    with ThreadPoolExecutor(4) as pool:
        models = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert loads == ["voice"]
    assert len(set(models)) == 1


def test_one_key_does_not_wait_for_another() -> None:
    release = threading.Event()

    def load(key: str) -> str:
        if key == "slow":
            assert release.wait(300)
        return key

    cache: ModelCache[str, str] = ModelCache(load)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(cache.get, "slow")
        assert cache.get("quick") == "quick"
        assert not slow.done()
        release.set()
        assert slow.result(10) == "slow"


def test_a_failed_load_is_tried_again() -> None:
    tries: list[str] = []

    def load(key: str) -> str:
        tries.append(key)
        if len(tries) == 1:
            raise OSError("no such file")
        return "model"

    cache: ModelCache[str, str] = ModelCache(load)
    with pytest.raises(OSError, match="no such file"):
        cache.get("voice")
    assert cache.peek("voice") is None
    assert cache.get("voice") == "model"


def test_prewarming_outside_a_loop_is_done_when_it_returns() -> None:
    cache: ModelCache[str, str] = ModelCache(lambda key: key.upper())
    cache.prewarm("voice")
    assert cache.peek("voice") == "VOICE"


async def test_prewarming_inside_a_loop_does_not_block_it() -> None:
    release = threading.Event()
    loaded_in: list[threading.Thread] = []

    def load(key: str) -> str:
        loaded_in.append(threading.current_thread())
        assert release.wait(300)
        return key

    cache: ModelCache[str, str] = ModelCache(load)
    cache.prewarm("voice")
    assert cache.peek("voice") is None  # it returned, and the load has not ended: it waits for the release
    release.set()
    assert cache.get("voice") == "voice"
    assert len(loaded_in) == 1
    assert loaded_in[0] is not threading.main_thread()


async def test_a_failure_ahead_of_time_is_logged_and_raised_at_the_first_use(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failed = threading.Event()

    def load(key: str) -> str:
        failed.set()
        raise OSError("no such file")

    cache: ModelCache[str, str] = ModelCache(load)
    with caplog.at_level(logging.WARNING):
        cache.prewarm("voice")
        assert failed.wait(300)
        with pytest.raises(OSError, match="no such file"):
            cache.get("voice")
        for thread in threading.enumerate():
            if thread.name == "graph-voice-prewarm":
                thread.join(300)
    assert "no such file" in caplog.text
