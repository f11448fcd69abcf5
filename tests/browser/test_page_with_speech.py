"""The live page in Chromium, spoken: real voices on both sides, the real microphone and loudspeaker of the browser."""

import asyncio
import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from browser_support import STUCK, Complaints, opened
from hearing import likeness
from langchain_core.messages import AIMessage
from livekit import rtc
from page_support import served
from speech_support import ALIKE, SEED

from graph_voice_livekit.console.setup import CALLER_VOICE, Choices
from graph_voice_livekit.inprocess.pcm import SAMPLE_RATE, Samples, synthesize
from graph_voice_livekit.offline import OfflineParts, load_all
from graph_voice_livekit.page import connection
from graph_voice_livekit.page.call import PageCall
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.protocol import Played

pytestmark = [pytest.mark.browser, pytest.mark.speech]

GREETING = "Hello, this is Acorn Broadband. How can I help you today?"
SPEAKS = """
const context = new AudioContext();
const room = context.createMediaStreamDestination();
navigator.mediaDevices.getUserMedia = async () => room.stream;
const decoded = (wav) =>
  context.decodeAudioData(Uint8Array.from(atob(wav), (letter) => letter.charCodeAt(0)).buffer);
const say = (buffer) => new Promise((done) => {
  const source = context.createBufferSource();
  source.buffer = buffer;
  source.connect(room);
  source.onended = done;
  source.start();
});
window.speak = async (wav) => say(await decoded(wav));
window.cutIn = async ({ wav, agent }) => {
  const buffer = await decoded(wav);
  let speaks = false;
  const watch = new MutationObserver(async () => {
    const said = [...document.querySelectorAll(".line")];
    const lines = said.filter((line) => line.querySelector(".agent")?.textContent === agent);
    if (lines.some((line) => line.matches(".cut"))) return watch.disconnect();
    if (speaks || !lines.some((line) => line.matches(".playing") && line.querySelector(".heard"))) return;
    speaks = true;
    await say(buffer);
    speaks = false;
  });
  watch.observe(document.body, { childList: true, subtree: true });
};
"""
"""A microphone that is spoken into when the test wants, or whenever this agent is heard, until it was cut off."""
PERMITS = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
const permission = new Promise((permit) => (window.permit = permit));
navigator.mediaDevices.getUserMedia = async (wanted) => {
  await permission;
  return ask(wanted);
};
"""
"""The browser's own microphone, permitted when the test wants: then Chromium begins to speak."""
AT_RATE = """
const Own = AudioContext;
window.AudioContext = class extends Own {
  constructor(options) { super({ ...options, sampleRate: %d }); }
};
"""
"""A machine whose sound has this rate."""


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
            self.reported = dict[int, int]()

            def sends(message: Any) -> None:
                if isinstance(message, bytes):
                    self.sound[message[:4]] = self.sound.get(message[:4], b"") + message[4:]
                send(message)

            super().__init__(parts, speech, rate, sends, *rest)
            begun.append(self)

        def played(self, report: Played) -> None:
            self.reported[report.segment] = report.samples
            super().played(report)

        @property
        def remembered(self) -> list[str]:
            said = [m for m in self.watch.conversation.messages if isinstance(m, AIMessage) and m.text]
            return [" ".join(message.text.split()) for message in said]

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


async def heard_on(shown: Any) -> list[str]:
    """The agents' words that the page shows as heard, line by line."""
    return [" ".join(text.split()) for text in await shown.locator("#lines .line .heard").all_inner_texts()]


async def talking(browser: Any, client: Any, complaints: Complaints, script: str = "") -> Any:
    """Open the page, and begin a call with the microphone."""
    shown = await opened(browser, client, complaints, script=script)
    await shown.click("#start-voice")
    return shown


async def test_a_spoken_call(browse: Any, calls: list[Any], speech: OfflineParts, complaints: Complaints) -> None:
    voice = speech.tts(CALLER_VOICE)
    bill = await synthesize(voice, "I have a question about my bill.")
    stop = await synthesize(voice, "How much do I owe?")
    async with served(shelf()) as client, browse() as browser:
        shown = await talking(browser, client, complaints, SPEAKS)
        lines = shown.locator("#lines")
        greeting = lines.locator(".line.heard").first
        await greeting.wait_for()
        assert GREETING in await greeting.inner_text()
        (call,) = calls
        (sound,) = call.sound.values()
        assert likeness(await recognized(speech, sound, call.rate), GREETING) >= ALIKE

        # Spoken words become a turn, and the handoff lights up the graph.
        await shown.evaluate("window.cutIn", {"wav": wav(stop), "agent": "billing"})
        await shown.evaluate("window.speak", wav(bill))
        await shown.locator("g.active[data-node=billing]").wait_for()

        # The caller cuts in while billing speaks: what was not heard is struck.
        cut = lines.locator(".line.cut", has=shown.locator(".agent", has_text="billing")).first
        assert await cut.locator(".heard").inner_text()
        assert await cut.locator("s").inner_text()
        await lines.locator(".tool", has_text="look_up_balance").wait_for()
        await lines.locator(".line.heard", has_text="42.50 dollars").wait_for()
        await shown.locator("#times", has_text="transcription").wait_for()

        # What is typed is answered aloud as well.
        await shown.fill("#text", "Please send me back to the front desk.")
        await shown.press("#text", "Enter")
        await shown.locator("g.active[data-node=customer_service]").wait_for()

        # What the page shows as heard is what is remembered, and no more.
        async with asyncio.timeout(STUCK):
            while not call.remembered or call.remembered != await heard_on(shown):
                await shown.wait_for_timeout(100)


@pytest.mark.parametrize("rate", [44_100, 48_000])
async def test_the_browsers_own_microphone(
    browse: Any, calls: list[Any], speech: OfflineParts, complaints: Complaints, tmp_path: Path, rate: int
) -> None:
    said = "My internet connection is not working."
    line = await synthesize(speech.tts(CALLER_VOICE), said)
    silence = np.zeros(SAMPLE_RATE, np.int16)
    soundfile.write(tmp_path / "caller.wav", np.concatenate([silence, line, np.tile(silence, 60)]), SAMPLE_RATE)
    async with served(shelf()) as client, browse(tmp_path / "caller.wav") as browser:
        shown = await talking(browser, client, complaints, PERMITS + AT_RATE % rate)
        await shown.locator("#lines .line.heard").first.wait_for()  # the greeting
        (call,) = calls
        ((segment, sound),) = call.sound.items()
        assert call.rate == rate
        assert call.reported == {int.from_bytes(segment, "little"): len(sound) // 2}
        assert likeness(await recognized(speech, sound, rate), GREETING) >= ALIKE
        await shown.evaluate("window.permit()")
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
