"""The apology of a worker that can hold no call: spoken or written, and never both."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from livekit.agents import AgentSession

from graph_voice_livekit.testing import FakeAudioOutput, FakeCaptions, FakeTTS
from graph_voice_livekit.worker.failed_call import FAILED, tell_caller

pytestmark = pytest.mark.virtual_clock
LONG = ", and ".join(["I am sorry that nobody can take your call"] * 8) + "."
"""Twenty seconds of speech."""


@pytest.mark.parametrize(("first_audio", "spoken"), [(0.2, True), (5.0, True), (20.0, False)])
async def test_who_hears_the_apology_does_not_get_it_in_writing_too(
    first_audio: float, spoken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loudspeaker, written, attributes = FakeAudioOutput(), list[str](), dict[str, str]()
    really_start = AgentSession.start

    async def start(session: AgentSession[Any], agent: Any, **options: Any) -> Any:
        session.output.audio, session.output.transcription = loudspeaker, FakeCaptions()
        return await really_start(session, agent)  # there is no room to start in

    async def send_text(text: str, *, topic: str) -> None:
        written.append(text)

    async def set_attributes(changed: dict[str, str]) -> None:
        attributes.update(changed)

    async def nothing() -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(AgentSession, "start", start)
    who = SimpleNamespace(send_text=send_text, set_attributes=set_attributes)
    room = SimpleNamespace(name="room", local_participant=who)
    job: Any = SimpleNamespace(room=room, connect=nothing, wait_for_participant=nothing)
    await tell_caller(job, LookupError("no"), apology=LONG, tts=FakeTTS(first_audio=first_audio))
    heard = " ".join(line.text for line in loudspeaker.spoken)
    assert (heard, written) == ((LONG, []) if spoken else ("", [LONG]))
    assert attributes == {FAILED: "LookupError"}
