"""What is to be seen of a call: transcript, timeline, terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib.image
import numpy as np
import pytest
from call_support import tone
from rich.console import Console

from graph_voice import Agent, create_voice_graph
from graph_voice.drawing import agents_of, to_svg
from graph_voice.palette import hues
from graph_voice_livekit.inprocess import (
    CALLER,
    CallLog,
    CallRecorder,
    Handoff,
    Latency,
    LivePrinter,
    Note,
    ToolCall,
    Utterance,
    draw_timeline,
    transcript,
)
from graph_voice_livekit.inprocess.palette import colors


def call(repeat: int = 1) -> CallLog:
    """A call of 20 s, or one so many times as long."""
    entries: list[Utterance | Handoff | ToolCall | Latency | Note] = []
    for start in np.arange(repeat) * 20.0:
        start = float(start)
        entries += [
            Utterance("intake", "Hello, who is there?", start + 0.5, start + 2.0),
            Utterance(CALLER, "Sam Carter.", start + 2.5, start + 3.5, said="Sam Carter"),
            Latency("intake", start + 3.5, start + 5.0, 0.5, 0.4, 0.1, 0.3, 0.2, llm_ttft=0.4),
            ToolCall("intake", "record_name", {"name": "Sam"}, start + 4.0, start + 4.5, "Noted."),
            Utterance("intake", "Transferring you.", start + 5.0, start + 6.0),
            Handoff("intake", "billing", start + 6.1),
            Utterance(
                "billing",
                "You owe",
                start + 6.5,
                start + 9.0,
                interrupted=True,
                generated="You owe 40 dollars | more",
            ),
            Utterance(CALLER, "wade", start + 8.5, start + 9.5, said="Wait!"),
            Latency("billing", start + 9.5, start + 11.0, 0.5, 0.4, 0.1, 0.3, 0.2),
            ToolCall("billing", "look_up", {}, start + 9.6, start + 10.9, "no such bill", is_error=True),
            Utterance("billing", "Of course.", start + 11.0, start + 12.0),
            Utterance(CALLER, "hello", start + 15.0, start + 16.0, lost=True),
            Note("error", "TTS: out of breath", start + 17.0),
        ]
    return CallLog(tuple(entries), 20.0 * repeat, "intake", {"seed": 7})


def audio(log: CallLog) -> np.ndarray:
    recorder = CallRecorder()
    for each in log.utterances:
        write = recorder.caller if each.speaker == CALLER else recorder.agents
        write(tone(300, each.ended - each.started), each.started)
    return recorder.samples(log.duration)


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| 0:")]
    return [[cell.strip() for cell in line.strip("|").replace("\\|", "¦").split("|")] for line in lines]


def test_the_transcript_tells_everything_in_its_order() -> None:
    text = transcript(call(), title="Front desk")
    table = [row for row in rows(text) if len(row) == 3]

    assert text.startswith("# Front desk\n")
    assert "20.0 s · agents: intake, billing · seed: 7" in text
    assert [row[0] for row in table] == sorted(row[0] for row in table)
    assert ["0:00.5", "**intake**", "Hello, who is there?"] in table
    assert ["0:02.5", "caller", "Sam Carter"] in table  # recognized but for the full stop: not worth a word
    assert ["0:04.0", "⚙ intake", "`record_name(name='Sam')` → Noted. *(0.5 s)*"] in table
    assert ["0:06.1", "⇒", "*handoff from intake to billing*"] in table
    assert ["0:06.5", "**billing**", "You owe **[interrupted at 0:09.0]** ~~40 dollars ¦ more~~"] in table
    assert ["0:08.5", "caller", "Wait! *(recognized: wade)*"] in table
    assert ["0:09.6", "⚙ billing", "`look_up()` failed: no such bill *(1.3 s)*"] in table
    assert ["0:15.0", "caller", "hello **[lost: nobody answered]**"] in table
    assert ["0:17.0", "⚠", "*error: TTS: out of breath*"] in table


def test_the_transcript_ends_with_latencies_and_a_summary() -> None:
    text = transcript(call())
    table = [row for row in rows(text) if len(row) == 10]

    assert table[0] == ["0:03.5", "intake", "0.50", "0.40", "0.10", "0.00", "0.00", "0.30", "0.20", "**1.50 s**"]
    assert "- 1 interrupted; 1 handoffs; 2 tool calls, 1 of them failed" in text
    assert "- answer after 1.50 s (median of 2; 1.50 to 1.50)" in text
    assert "estimated from its pace" in text


def test_the_transcript_of_nothing_says_so() -> None:
    text = transcript(CallLog((), 3.0, "intake"))
    assert "no speech was recognized" in text
    assert "0 utterances of the caller" in text


def test_the_log_is_json_for_programs() -> None:
    data = json.loads(call().to_json())
    assert (data["duration"], data["first_agent"], data["seed"]) == (20.0, "intake", 7)
    assert data["entries"][0] == {
        "type": "utterance",
        "speaker": "intake",
        "text": "Hello, who is there?",
        "started": 0.5,
        "ended": 2.0,
        "interrupted": False,
        "generated": None,
        "said": None,
        "lost": False,
        "dropped": False,
    }


def rgb(color: str) -> np.ndarray:
    return np.array([int(color[index : index + 2], 16) for index in (1, 3, 5)]) / 255


def where(picture: np.ndarray, color: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of a color."""
    found = np.nonzero(np.abs(picture[:, :, :3] - rgb(color)).max(axis=2) < 0.02)
    return found[0], found[1]


def test_the_timeline_shows_who_spoke_when(tmp_path: Path) -> None:
    log = call()
    picture = matplotlib.image.imread(draw_timeline(log, audio(log), tmp_path / "timeline.png"))
    height, width, _ = picture.shape
    assert width == 1400
    assert 300 < height < 700

    # seconds from pixels: the axis goes from 1.5 to 13.8 inches
    def second(column: float) -> float:
        return (column - 150) / (1380 - 150) * log.duration

    palette = colors(log.agents)
    heights = {}
    for speaker in (CALLER, "intake", "billing"):
        lines, columns = where(picture[: height - 60], palette[speaker])
        inside = columns > 160  # not the label
        spoken = [each for each in log.utterances if each.speaker == speaker]
        assert second(columns[inside].min()) == pytest.approx(spoken[0].started, abs=0.15)
        heights[speaker] = float(np.median(lines[inside]))
        middle = second(float(np.median(columns[inside])))
        assert any(each.started - 0.2 <= middle <= each.ended + 0.2 for each in spoken)
    assert heights[CALLER] < heights["intake"] < heights["billing"]
    # the cut: red, at the end of the interrupted utterance
    lines, columns = where(picture[: height - 60], "#d01c1c")
    cut = columns[np.abs(lines - heights["billing"]) < 10]
    assert second(float(np.median(cut))) == pytest.approx(9.0, abs=0.1)


@pytest.mark.parametrize("repeat", [1, 9])
def test_the_timeline_is_1400_pixels_wide_however_long_the_call(tmp_path: Path, repeat: int) -> None:
    log = call(repeat)
    picture = matplotlib.image.imread(draw_timeline(log, audio(log), tmp_path / "timeline.png"))
    assert picture.shape[1] == 1400
    assert picture.shape[0] < 450 * max(1, repeat * 20 / 30)


def test_the_timeline_of_nothing_is_drawn(tmp_path: Path) -> None:
    path = draw_timeline(CallLog((), 0.0), np.zeros((0, 2), dtype=np.int16), tmp_path / "timeline.png")
    assert path.stat().st_size > 0


def test_a_dollar_is_no_formula(tmp_path: Path) -> None:
    log = CallLog((Utterance("intake", "It was $40, not $ 45_2^.", 0.5, 4.0),), 5.0, "intake")
    assert draw_timeline(log, audio(log), tmp_path / "timeline.png").exists()


def printed(*, terminal: bool) -> str:
    out = io.StringIO()
    system = "truecolor" if terminal else "auto"
    printer = LivePrinter(Console(file=out, force_terminal=terminal, color_system=system, width=200))
    for entry in call().entries:
        printer(entry)
    return out.getvalue()


def test_the_terminal_gets_every_entry_without_colours_where_it_is_none() -> None:
    text = printed(terminal=False)
    lines = text.splitlines()
    assert "\x1b" not in text
    assert len(lines) == len(call().entries)
    assert lines[0].split() == ["0:00.5", "intake", "Hello,", "who", "is", "there?"]
    assert "You owe [interrupted] 40 dollars" in text
    assert "intake ⇒ billing" in text
    assert "Wait! (recognized: wade)" in text


def test_a_terminal_gets_the_colours_of_the_timeline() -> None:
    text = printed(terminal=True)
    for color in list(colors(["intake", "billing"], dark=True).values())[:3]:
        red, green, blue = (int(color[index : index + 2], 16) for index in (1, 3, 5))
        assert f"38;2;{red};{green};{blue}" in text


def test_an_agent_has_one_color_in_graph_timeline_and_terminal() -> None:
    """Whoever speaks first: its place in the graph decides."""
    names = ["billing", "desk", "intake"]
    agents = [Agent(name, instructions="Help.", handoffs=[other for other in names if other != name]) for name in names]
    graph = create_voice_graph(agents, start="intake")
    log = replace(call(), graph=tuple(agents_of(graph)))
    assert log.agents == ["intake", "billing"]
    in_timeline, on_terminal = colors(log.order), colors(log.order, dark=True)
    drawn = ET.fromstring(to_svg(graph))
    for name in names:
        boxes = [each for each in drawn.iter() if each.get("data-node") == name]
        assert in_timeline[name] in {part.get("stroke") for box in boxes for part in box}
        assert on_terminal[name] == hues(agents_of(graph))[name].bright
    assert len({in_timeline[name] for name in names}) == 3
    assert json.loads(log.to_json())["agents"] == names
