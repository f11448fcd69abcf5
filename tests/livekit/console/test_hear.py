"""`hear`: a spoken call for a notebook, with the offline speech parts."""

import base64
import io
import re

import pytest
import soundfile

from graph_voice import Agent, Handoff, create_voice_graph
from graph_voice.testing import ScriptedModel, call

pytest.importorskip("piper")
pytest.importorskip("faster_whisper")

from graph_voice_livekit import hear

# On the virtual clock, recognition and synthesis take no time of the call.
pytestmark = [pytest.mark.speech, pytest.mark.virtual_clock(limit=120)]


async def test_a_call_is_heard_and_its_recording_can_be_played() -> None:
    front = Agent("front", instructions="F.", on_enter="Greet.", handoffs=[Handoff("bills", say="One moment.")])
    bills = Agent("bills", instructions="B.", on_enter="Greet.")
    script = {"front": ["Hello, how can I help you?", call("transfer_to_bills")], "bills": ["Hello, billing here."]}
    heard = await hear(create_voice_graph([front, bills]), ["I have a question."], llm=ScriptedModel(script))
    assert heard.conversation.active_agent == "bills"
    said = [m.text for m in heard.conversation.messages if m.type == "ai" and m.text]
    assert said == ["Hello, how can I help you?", "One moment.", "Hello, billing here."]
    (data,) = re.findall(r'<audio [^>]*src="data:audio/mpeg;base64,([^"]+)"', heard._repr_html_())
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert abs(len(samples) / rate - heard.result.duration) < 0.5
    assert abs(samples).max() > 0.05
    assert f"<code>{heard.live_page.text}</code>" in heard._repr_html_()
    assert len(heard.mp3()) < 6000 * heard.result.duration
