"""A stored call, told to the page again."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from page_support import origin, page, served, shelf_of

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.testing import ScriptedModel
from graph_voice_livekit.inprocess.entries import CALLER, CallLog, Latency, Note, ToolCall, Utterance
from graph_voice_livekit.inprocess.entries import Handoff as Handed
from graph_voice_livekit.page.replay import Replay, ReplayError

LOG = CallLog(
    (
        Utterance("desk", "Hello, how can I", 0.5, 2.0, interrupted=True, generated="Hello, how can I help you?"),
        Utterance(CALLER, "My bill.", 1.8, 2.6),
        Latency("desk", 2.6, 3.4, 0.3, 0.2, 0.05, 0.1, 0.05, 0.05, 0.05),
        ToolCall("desk", "transfer_to_billing", {}, 2.9, 3.0, "Transferring to billing.", call_id="call_1"),
        Handed("desk", "billing", 3.1),
        Utterance("billing", "Billing here.", 3.4, 4.4),
        Utterance("billing", "", 4.6, 4.6, dropped=True, generated="One more thing."),
        Note("end", "the end", 5.0),
    ),
    duration=5.5,
    first_agent="desk",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "call.json").write_text(LOG.to_json(), encoding="utf-8")
    (tmp_path / "state.json").write_text(json.dumps({"userdata": {"name": "Ada", "lines": [1, 2]}}), encoding="utf-8")
    (tmp_path / "graph.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    soundfile.write(tmp_path / "call.wav", np.zeros((2400, 2), np.int16), 24000)
    return tmp_path


def at_the_end(replay: Replay) -> dict[int, Any]:
    return {message["number"]: message for _, message in replay.moments if message["type"] == "turn"}


def test_the_call_is_told_in_order(folder: Path) -> None:
    replay = Replay.load(folder)
    times = [at for at, _ in replay.moments]
    assert times == sorted(times)
    assert times[-1] == replay.duration == 5.5
    first, second = at_the_end(replay).values()
    assert first["user"] is None
    assert [(w["heard"], w["unheard"], w["state"]) for s in first["steps"] for w in s["words"]] == [
        ("Hello, how can I", " help you?", "cut")
    ]
    assert second["user"] == "My bill."
    assert [(w["heard"], w["unheard"], w["state"]) for s in second["steps"] for w in s["words"]] == [
        ("Billing here.", "", "heard"),
        ("", "One more thing.", "dropped"),
    ]
    assert [(h["old"], h["new"]) for h in second["handoffs"]] == [("desk", "billing")]
    assert {"caller", "transcription", "end_of_turn", "tool", "model", "voice", "playback"} <= {
        span["kind"] for span in second["spans"]
    }
    told = [message for _, message in replay.moments if message["type"] == "userdata"]
    assert told == [{"type": "userdata", "fields": {"name": "Ada", "lines": "[1, 2]"}}]


def test_words_come_as_they_were_heard(folder: Path) -> None:
    moments = Replay.load(folder).moments
    heard = [m["steps"][0]["words"][0]["heard"] for at, m in moments if m["type"] == "turn" and m["number"] == 1]
    assert heard[0] == ""
    assert heard[-1] == "Hello, how can I"
    assert all(after.startswith(before) for before, after in itertools.pairwise(heard))


async def test_the_page_gets_the_call_and_its_sound_and_holds_none(folder: Path) -> None:
    desk = Agent("desk", instructions="Help.", handoffs=[Handoff("billing")])
    graph = create_voice_graph([desk, Agent("billing", instructions="Bill.")], llm=ScriptedModel([]))
    async with served(shelf_of(graph), replay=Replay.load(folder)) as client:
        shown = await (await client.get("/replay.json")).json()
        assert shown["agents"] == ["desk", "billing"]
        assert "data-node" in shown["svg"]  # the drawing of the graph itself, in which nothing is active yet
        assert (await client.get("/replay.wav")).status == 200
        assert (await client.get("/replay.json", headers={"Origin": "http://evil.example"})).status == 403
        async with page(client) as opened:
            assert opened.last("welcome")["replay"]
            await opened.send("start", mode="text")
            assert await opened.until_closed() == 1008


async def test_without_a_stored_call_there_is_none() -> None:
    graph = create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel([]))
    async with served(shelf_of(graph)) as client:
        for name in ("replay.json", "replay.wav"):
            assert (await client.get(f"/{name}", headers={"Origin": origin(client)})).status == 404


@pytest.mark.parametrize(
    "text", [None, "", "[]", "{}", '{"entries": [{}], "duration": 1}', '{"entries": 7, "duration": 1}']
)
def test_what_is_no_call_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "call.json").write_text(text, encoding="utf-8")
    with pytest.raises(ReplayError, match="demo"):
        Replay.load(tmp_path)
