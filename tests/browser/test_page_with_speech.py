"""The live page in Chromium, spoken: real voices on both sides, the real microphone and loudspeaker of the browser."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hearing import likeness
from livekit import rtc
from livekit.agents import AgentSession
from page_support import served
from speech_support import ALIKE, SEED, STUCK

from graph_voice_livekit.console.setup import CALLER_VOICE, Choices
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples, synthesize
from graph_voice_livekit.offline import OfflineParts, load_all
from graph_voice_livekit.page import connection
from graph_voice_livekit.page.call import PageCall
from graph_voice_livekit.page.parts import Shelf

pytestmark = [pytest.mark.browser, pytest.mark.speech]

GREETING = "Hello, this is Acorn Broadband. How can I help you today?"
SPEAKS = """
const context = new AudioContext();
const room = context.createMediaStreamDestination();
navigator.mediaDevices.getUserMedia = async () => room.stream;
window.speak = async (wav) => {
  const bytes = Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0));
  const source = context.createBufferSource();
  source.buffer = await context.decodeAudioData(bytes.buffer);
  source.connect(room);
  source.start();
};
"""
"""A microphone that is spoken into whenever the test wants."""


@pytest.fixture(scope="module")
def speech() -> OfflineParts:
    return load_all(seed=SEED)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls that pages have begun, each with the sound that was sent to its page."""
    begun: list[Any] = []

    class Watched(PageCall):
        def __init__(self, parts: Any, speech: Any, rate: int, send: Any, *rest: Any) -> None:
            self.sound, self.rate = dict[bytes, bytes](), rate

            def sends(message: Any) -> None:
                if isinstance(message, bytes):
                    self.sound[message[:4]] = self.sound.get(message[:4], b"") + message[4:]
                send(message)

            super().__init__(parts, speech, rate, sends, *rest)
            begun.append(self)

        @property
        def session(self) -> AgentSession[Any]:
            return self._session

        @property
        def remembered(self) -> list[str]:
            return [str(message.text) for message in self.watch.conversation.messages if message.text]

    monkeypatch.setattr(connection, "PageCall", Watched)
    return begun


def shelf() -> Shelf:
    return Shelf(Choices("graphs/customer_service.py", llm="offline", seed=SEED))


def wav(samples: Samples) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV")
    return base64.b64encode(file.getvalue()).decode()


async def recognized(speech: OfflineParts, sound: bytes, rate: int) -> str:
    event = await speech.stt.recognize(rtc.AudioFrame(sound, rate, 1, len(sound) // 2))
    return event.alternatives[0].text


async def opened(browser: Any, client: Any, complaints: list[str], script: str = "") -> Any:
    shown = await (await browser.new_context(viewport={"width": 1280, "height": 800})).new_page()
    shown.set_default_timeout(STUCK * 1000)
    shown.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    shown.on("pageerror", lambda error: complaints.append(str(error)))
    if script:
        await shown.add_init_script(script)
    await shown.goto(str(client.make_url("/")))
    await shown.click("#start-voice")
    return shown


async def test_a_spoken_call(browse: Any, calls: list[Any], speech: OfflineParts, complaints: list[str]) -> None:
    voice = speech.tts(CALLER_VOICE)
    bill = await synthesize(voice, "I have a question about my bill.")
    stop = await synthesize(voice, "How much do I owe?")
    async with served(shelf()) as client, browse() as browser:
        shown = await opened(browser, client, complaints, SPEAKS)
        lines = shown.locator("#lines")
        greeting = lines.locator(".line.heard").first
        await greeting.wait_for()
        assert GREETING in await greeting.inner_text()
        (call,) = calls
        (sound,) = call.sound.values()
        assert likeness(await recognized(speech, sound, call.rate), GREETING) >= ALIKE

        # Spoken words become a turn, and the handoff lights up the graph.
        await shown.evaluate("window.speak", wav(bill))
        await shown.locator("g.active[data-node=billing]").wait_for()

        # The caller cuts in while billing greets: what was not heard is struck, and only what was heard is remembered.
        await lines.locator(".line.playing", has_text="billing").locator(".heard").wait_for()
        await shown.evaluate("window.speak", wav(stop))
        cut = lines.locator(".line.cut").first
        await cut.wait_for()
        heard = await cut.locator(".heard").inner_text()
        unheard = await cut.locator("s").inner_text()
        assert heard in call.remembered
        assert unheard
        assert not any(unheard in text for text in call.remembered)
        await lines.locator(".tool", has_text="look_up_balance").wait_for()
        await lines.locator(".line.heard", has_text="42.50 dollars").wait_for()
        await shown.locator("#times", has_text="transcription").wait_for()
        assert heard in call.remembered

        # What is typed is answered aloud as well.
        await shown.fill("#text", "Please send me back to the front desk.")
        await shown.press("#text", "Enter")
        await shown.locator("g.active[data-node=customer_service]").wait_for()
    assert complaints == []


async def test_the_browsers_own_microphone(
    browse: Any, calls: list[Any], speech: OfflineParts, complaints: list[str], tmp_path: Path
) -> None:
    said = "My internet connection is not working."
    line = await synthesize(speech.tts(CALLER_VOICE), said)
    silence = np.zeros(SAMPLE_RATE, np.int16)
    soundfile.write(tmp_path / "caller.wav", np.concatenate([silence, line, np.tile(silence, 60)]), SAMPLE_RATE)
    async with served(shelf()) as client, browse(tmp_path / "caller.wav") as browser:
        shown = await opened(browser, client, complaints)
        caller = shown.locator(
            "#lines .turn.closed .line.caller .said, #lines .turn.committed .line.caller .said"
        ).first
        await caller.wait_for()
        assert likeness(await caller.inner_text(), said) >= ALIKE
        await shown.locator("g.active[data-node=technical_support]").wait_for()

        # Push to talk: the microphone is open only while the space bar, or the button, is held.
        meter = shown.locator("#meter")
        assert await meter.get_attribute("data-microphone") == "on"
        await shown.click("#hold")
        assert await meter.get_attribute("data-microphone") == "off"
        await shown.keyboard.down("Space")
        assert await meter.get_attribute("data-microphone") == "on"
        await shown.keyboard.up("Space")
        assert await meter.get_attribute("data-microphone") == "off"
        await shown.locator("#talk").hover()
        await shown.mouse.down()
        assert await meter.get_attribute("data-microphone") == "on"
        await shown.mouse.up()
        assert await meter.get_attribute("data-microphone") == "off"
        assert await shown.locator("#hold").get_attribute("aria-pressed") == "true"
    assert complaints == []
