"""LangSmith's traces of a spoken call have LiveKit's delays; with OpenTelemetry they are one with LiveKit's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langsmith_sink import LangSmithSink
from langsmith_support import langsmith as langsmith
from native_support import SCRIPT, by_graph, in_text, speak, spoken_call, write

SUPPORT = Path(__file__).parents[2] / "support"


@pytest.mark.virtual_clock
async def test_each_turn_of_a_spoken_call_has_livekit_s_delays(langsmith: LangSmithSink) -> None:
    side = by_graph(SCRIPT, thread_id="call-7")
    await spoken_call(side, speak)
    langsmith.wait()
    first, handoff, last = langsmith.roots
    assert [run.metadata["thread_id"] for run in langsmith.runs.values()] == ["call-7"] * len(langsmith.runs)
    assert first.outputs["heard"] == "One moment please. It is on its way."
    assert handoff.outputs["heard"] == "I will transfer you. Billing speaking."
    for root in (first, handoff, last):
        found = root.metadata
        assert found["end_of_turn_delay_ms"] > 0
        assert found["time_to_first_token_ms"] == pytest.approx(400, abs=1)
        assert found["time_to_first_audio_ms"] > found["time_to_first_text_ms"]
        # LiveKit's own: from the caller's last sound, so it holds its wait for the end of the turn as well.
        assert found["response_delay_ms"] > found["end_of_turn_delay_ms"]
    assert {"handoff_gap_ms", "handoff_silence_ms"} <= handoff.metadata.keys()
    assert not {"handoff_gap_ms", "handoff_silence_ms"} & {*first.metadata, *last.metadata}
    assert handoff.find("handoff billing").outputs["confirmed"] is True


@pytest.mark.virtual_clock
async def test_a_call_in_text_has_no_times_of_sound(langsmith: LangSmithSink) -> None:
    await in_text(by_graph(SCRIPT), write)
    langsmith.wait()
    for root in langsmith.roots:
        assert "time_to_first_text_ms" in root.metadata
        assert not [key for key in root.metadata if "audio" in key or "silence" in key or "delay" in key]


@pytest.fixture(scope="module")
def spans() -> list[dict[str, Any]]:
    """Of a call in a process of its own: OpenTelemetry's provider is one per process."""
    paths = os.pathsep.join(str(path) for path in (SUPPORT, SUPPORT.parents[1]))
    environment = {**os.environ, "LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "otel", "PYTHONPATH": paths}
    found = subprocess.run(
        [sys.executable, str(SUPPORT / "otel_call.py")], capture_output=True, text=True, timeout=300, env=environment
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def above(spans: list[dict[str, Any]], span: dict[str, Any]) -> list[str]:
    by_id = {s["id"]: s for s in spans}
    names = []
    while (parent := by_id.get(span["parent"])) is not None:
        names.append(parent["name"])
        span = parent
    return names


def test_in_otel_mode_the_graph_s_spans_are_below_livekit_s_turn_in_one_trace(spans: list[dict[str, Any]]) -> None:
    assert len({span["trace"] for span in spans}) == 1
    turns = [span for span in spans if span["name"] == "turn"]
    assert len(turns) == 3
    for turn in turns:
        assert "agent_turn" in above(spans, turn)
        assert above(spans, turn)[-1] == "agent_session"
    for name, parent in (
        ("graph", "turn"),
        ("support", "graph"),
        ("look_up", "support_tools"),
        ("gpt-test", "support"),
    ):
        found = [span for span in spans if span["name"] == name and parent in above(spans, span)]
        assert found, name
        assert above(spans, found[0])[0] == parent


def test_in_otel_mode_a_span_has_what_was_heard_and_is_ended_once(spans: list[dict[str, Any]]) -> None:
    turns = [span for span in spans if span["name"] == "turn"]
    heard = [json.loads(span["attributes"]["gen_ai.completion"])["heard"] for span in turns]
    assert heard[:2] == ["One moment please. It is on its way.", "I will transfer you. Billing speaking."]
    assert [span["attributes"]["langsmith.metadata.thread_id"] for span in turns] == ["call-7"] * 3
    ours = [span for span in spans if "turn" in (span["name"], *above(spans, span))]
    assert all(span["end"] >= span["start"] for span in ours)
    assert len({span["id"] for span in spans}) == len(spans)
