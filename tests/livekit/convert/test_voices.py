"""What an agent's `Voice` says reaches LiveKit: plugins, turn handling, and every other setting of its `Agent`."""

import contextlib
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graph_agent_support import a_call, a_text_call, spoken
from livekit.agents import inference, metrics
from pydantic import SecretStr

from graph_voice import Agent, Handoff, Voice, create_voice_graph
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeSTT, FakeTTS, FakeVAD, VoiceRig

pytestmark = pytest.mark.virtual_clock


class CountingSTT(FakeSTT):
    """A recogniser that counts its streams."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = 0

    def stream(self, **options: Any) -> Any:
        self.streams += 1
        return super().stream(**options)


def two(model: Any, support: Voice | None, billing: Voice | None, **options: Any) -> GraphAgent:
    graph = create_voice_graph(
        [
            Agent("support", instructions="S.", handoffs=[Handoff("billing")], voice=support),
            Agent("billing", instructions="B.", voice=billing),
        ],
        llm=model,
    )
    return GraphAgent(graph, **options)


def model() -> ScriptedModel:
    return ScriptedModel({"support": [call("transfer_to_billing")], "billing": ["Billing here.", "Ten euros."]})


@contextlib.asynccontextmanager
async def handed_over(ga: GraphAgent, **options: Any) -> AsyncIterator[VoiceRig]:
    """A call that was handed over, and the caller has spoken to the second agent."""
    async with a_call(ga, **options) as rig:
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        await rig.user_says("how much")
        await rig.until_idle()
        assert rig.session.current_agent.id == "billing"
        assert rig.messages[-1] == ("assistant", "Ten euros.")
        yield rig


# ---- plugins


async def test_the_stt_pipeline_goes_on_across_a_handoff_when_the_agents_share_it() -> None:
    session_stt = CountingSTT()
    async with handed_over(two(model(), None, None), stt=session_stt):
        assert session_stt.streams == 1
    made: list[CountingSTT] = []

    def make() -> CountingSTT:
        made.append(CountingSTT())
        return made[-1]

    async with handed_over(two(model(), Voice(stt=make), Voice(stt=make)), stt=session_stt):
        assert [stt.streams for stt in made] == [1]
    assert session_stt.streams == 1


async def test_another_stt_is_another_pipeline() -> None:
    first, second = CountingSTT(), CountingSTT()
    async with handed_over(two(model(), Voice(stt=lambda: first), Voice(stt=lambda: second))):
        assert (first.streams, second.streams) == (1, 1)
    assert (first.transcripts, second.transcripts) == (["my bill"], ["how much"])


async def test_a_plugin_that_is_made_already_is_used_as_it_is() -> None:
    stt, tts, vad = CountingSTT(), FakeTTS("made"), FakeVAD()
    voice = Voice(stt=stt, tts=tts, vad=vad)
    async with handed_over(two(model(), voice, voice)) as rig:
        assert stt.streams == 1
        assert {name for name, _ in spoken(rig)} == {"made"}
        assert rig.session.current_agent.vad is vad


async def test_each_call_makes_plugins_of_its_own() -> None:
    made: list[FakeTTS] = []

    def make() -> FakeTTS:
        made.append(FakeTTS())
        return made[-1]

    graph = create_voice_graph([Agent("host", instructions="H.", voice=Voice(tts=make))], llm=ScriptedModel([]))
    one, two = GraphAgent(graph), GraphAgent(graph)
    assert (one.tts, two.tts) == tuple(made)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiveKit's inference plugins can be made, and connect nowhere."""
    monkeypatch.setenv("LIVEKIT_API_KEY", "not-used")
    monkeypatch.setenv("LIVEKIT_API_SECRET", "not-used")
    for plugin in (inference.STT, inference.TTS):
        monkeypatch.setattr(plugin, "prewarm", lambda self: None)


@pytest.mark.usefixtures("cloud")
async def test_model_strings_and_dicts_are_livekit_s_inference_plugins_and_equal_ones_are_one() -> None:
    voices = [
        Voice(stt="deepgram/nova-3:en", tts="cartesia/sonic-3:some-voice", vad={"min_silence_duration": 0.7}),
        Voice(stt="deepgram/nova-3:en", tts={"model": "cartesia/sonic-3"}, vad={"min_silence_duration": 0.7}),
    ]
    ga = two(model(), *voices)
    billing = ga.agent("billing")
    assert isinstance(ga.stt, inference.STT)
    assert ga.stt.model == "deepgram/nova-3"
    assert ga.stt is billing.stt
    assert isinstance(ga.tts, inference.TTS)
    assert isinstance(billing.tts, inference.TTS)
    assert ga.tts.model == billing.tts.model == "cartesia/sonic-3"
    assert ga.tts is not billing.tts
    assert isinstance(ga.vad, inference.VAD)
    assert ga.vad is billing.vad


@pytest.mark.usefixtures("cloud")
async def test_a_plugin_gets_its_keys_and_nothing_else_shows_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    given: list[dict[str, Any]] = []
    make = inference.TTS.__init__

    def noted(self: Any, **options: Any) -> None:
        given.append(options)
        make(self, **options)

    monkeypatch.setattr(inference.TTS, "__init__", noted)
    options = {"model": "cartesia/sonic-3", "api_key": "one-key-1", "api_secret": SecretStr("one-secret-1")}
    extra: dict[str, Any] = {"extra_kwargs": {"headers": {"Authorization": "Bearer one-token-1"}}}
    ga = two(model(), Voice(tts={**options, **extra}), Voice(tts={**options, **extra}))
    other = two(model(), Voice(tts={**options, **extra}), Voice(tts={**options, **extra, "api_key": "two-key-2"}))
    assert ga.tts is ga.agent("billing").tts, "equal declarations are one plugin"
    assert other.tts is not other.agent("billing").tts, "another key is another plugin"
    assert [one.pop("api_key") for one in given] == ["one-key-1", "one-key-1", "two-key-2"]
    assert given == 3 * [{"model": "cartesia/sonic-3", "api_secret": "one-secret-1", **extra}]
    shown = caplog.text + "".join(repr(vars(agent)) for agent in (ga, other, ga.agent("billing")))
    assert not [key for key in ("one-key", "one-secret", "one-token", "two-key") if key in shown]


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("why", ["{key} is refused", "no such model"])
async def test_a_plugin_that_can_t_be_made_says_why_without_the_key(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, *, api_key: str, **options: Any) -> None:
        raise ValueError(why.format(key=api_key))

    monkeypatch.setattr(inference.TTS, "__init__", refuse)
    with pytest.raises(ValueError, match=r"is refused|no such model") as caught:
        two(model(), Voice(tts={"api_key": "-".join(["one", "key", "1"])}), None)
    assert "one-key-1" not in "".join(traceback.format_exception(caught.value))


async def test_metrics_say_which_agent_s_model_it_was() -> None:
    seen: list[Any] = []
    async with a_call(ga := two(model(), None, None)) as rig:
        rig.session.on("metrics_collected", lambda event: seen.append(event.metrics))
        await rig.user_says("my bill", at=0.5)
        await rig.until_idle()
        assert ga.agent_type("billing") is type(rig.session.current_agent)
    labels = [m.label for m in seen if isinstance(m, metrics.LLMMetrics)]
    assert labels == ["graph_voice.support", "graph_voice.billing"]


# ---- turn handling


async def answered_after(voice: Voice | None, **options: Any) -> float:
    """Seconds from the caller's last word to the agent's first."""
    ga = GraphAgent(
        create_voice_graph([Agent("host", instructions="H.", voice=voice)], llm=ScriptedModel(["Yes, hello."])),
    )
    async with a_call(ga, **options) as rig:
        await rig.user_says("hello there", at=0.5)
        said = rig.now
        await rig.until_idle(quiet=4.0)
        return rig.spoken[0].started - said


async def test_endpointing_is_the_agent_s_own() -> None:
    slow = Voice(turn_handling={"turn_detection": "vad", "endpointing": {"min_delay": 2.0, "max_delay": 3.0}})
    assert await answered_after(slow) - await answered_after(None) > 1.0


async def test_turn_detection_is_the_agent_s_own() -> None:
    ga = GraphAgent(
        create_voice_graph(
            [Agent("host", instructions="H.", voice=Voice(turn_handling={"turn_detection": "manual"}))],
            llm=ScriptedModel(["Yes?"]),
        )
    )
    async with a_call(ga) as rig:
        await rig.user_says("hello", at=0.5)
        await rig.until_idle(quiet=4.0)
        assert rig.spoken == []
        rig.session.commit_user_turn()
        await rig.until_idle(quiet=4.0)
        assert spoken(rig) == [("voice", "Yes?")]


async def test_an_agent_that_may_not_be_interrupted_speaks_on() -> None:
    story = "This is a rather long story about nothing at all."
    cut = {}
    for enabled in (True, False):
        voice = Voice(turn_handling={"turn_detection": "vad", "interruption": {"enabled": enabled, "mode": "vad"}})
        graph = create_voice_graph(
            [Agent("host", instructions="H.", voice=voice)], llm=ScriptedModel([say(story), "Yes?"])
        )
        async with a_call(GraphAgent(graph)) as rig:
            await rig.user_says("tell me", at=0.5)
            await rig.until_speaking()
            await rig.user_says("stop it now please", at=rig.now + 0.5)
            await rig.until_idle()
            cut[enabled] = rig.spoken[0].interrupted
    assert cut == {True: True, False: False}


@pytest.mark.parametrize("enabled", [True, False])
async def test_preemptive_generation_is_the_agent_s_own(enabled: bool) -> None:
    answer = ScriptedModel(lambda messages: "Hello.")
    voice = Voice(turn_handling={"turn_detection": "vad", "preemptive_generation": {"enabled": enabled}})
    graph = create_voice_graph([Agent("host", instructions="H.", voice=voice)], llm=answer)
    async with a_call(GraphAgent(graph)) as rig:
        await rig.user_says("hello there", at=0.5, preflight="hello", final="hello there")
        await rig.until_idle()
    # The guess is answered as well, before the caller is certain to have finished; nothing of it is remembered.
    assert ([m.messages[-1].text for m in answer.prompts] == ["hello there"]) is not enabled


# ---- everything else


async def test_the_delay_between_two_speeches_is_the_agent_s_own() -> None:
    gaps = []
    for options in ({}, {"min_consecutive_speech_delay": 2.0}):
        graph = create_voice_graph(
            [Agent("host", instructions="H.", voice=Voice(options=options))], llm=ScriptedModel([])
        )
        async with a_call(GraphAgent(graph)) as rig:
            await rig.wait_until(0.5)
            rig.session.say("First.")
            rig.session.say("Second.")
            await rig.until_idle(quiet=4.0)
            gaps.append(rig.spoken[1].started - rig.spoken[0].ended)
    assert gaps[1] - gaps[0] == pytest.approx(2.0, abs=0.3)


async def test_aligned_transcripts_are_the_agent_s_own_setting() -> None:
    options = {"use_tts_aligned_transcript": True}
    voice = Voice(tts=lambda: FakeTTS("aligned", aligned=True), options=options)
    graph = create_voice_graph([Agent("host", instructions="H.", voice=voice)], llm=ScriptedModel(["Well, hello!"]))
    ga = GraphAgent(graph)
    async with a_call(ga) as rig:
        assert ga.use_tts_aligned_transcript is True
        await rig.user_says("hello", at=0.5)
        await rig.until_idle()
    assert ga.conversation.messages[-1].text.split() == ["Well,", "hello!"]


async def test_voices_of_this_call_take_the_place_of_the_graph_s() -> None:
    async with handed_over(
        two(model(), None, Voice(tts=lambda: FakeTTS("old")), voices={"billing": Voice(tts=lambda: FakeTTS("new"))})
    ) as rig:
        assert spoken(rig) == [("new", "Billing here. Ten euros.")]


# ---- what is refused


@pytest.mark.parametrize(
    ("voice", "says"),
    [
        (Voice(options={"sst": "x"}), r'agent "billing": Voice\(options=...\) has no sst; LiveKit knows .*min_consec'),
        (Voice(options={"tools": []}), r"has no tools; LiveKit knows"),
        (Voice(turn_handling={"endpoint": {}}), r"has no endpoint; LiveKit knows endpointing, interruption"),
        (Voice(turn_handling={"endpointing": {"delay": 1}}), r"\): endpointing has no delay; .*min_delay"),
        (Voice(turn_handling={"interruption": True}), r"interruption: True is no dict of options"),
        (Voice(tts=3), r'agent "billing": Voice\(tts=3\) is none of: a model string, a dict'),  # type: ignore[arg-type]
        (Voice(vad="silero"), r"Voice\(vad='silero'\) is none of: a dict"),  # type: ignore[arg-type]
    ],
)
def test_settings_that_livekit_does_not_know_are_refused(voice: Voice, says: str) -> None:
    with pytest.raises(BuildError, match=says):
        two(model(), None, voice)
    with pytest.raises(BuildError, match=says):
        two(model(), None, None, voices={"billing": voice})


async def test_a_voice_is_nothing_to_a_call_in_text() -> None:
    async with a_text_call(two(model(), Voice(tts=FakeTTS), None)) as session:
        await session.run(user_input="my bill")
