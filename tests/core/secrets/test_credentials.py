"""Keys among a voice's arguments are secrets by their name: the plugin gets them, and nothing else shows them."""

import copy
import dataclasses
import functools
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tracers.langchain import LangChainTracer
from langsmith_sink import LangSmithSink
from pydantic import SecretStr
from secrets_support import Watcher

from graph_voice import Agent, Conversation, Handoff, Voice, create_voice_graph
from graph_voice.checks import Severity, check_file, check_graph
from graph_voice.drawing import to_ascii, to_mermaid, to_svg
from graph_voice.errors import BuildError
from graph_voice.secrets.credentials import credentials_in, is_credential, revealed_options, sealed
from graph_voice.secrets.values import MASK
from graph_voice.testing import ScriptedModel

KEY = "qX7-very-own-9"
WAYS: list[Any] = [
    {"api_key": KEY},
    {"apiKey": KEY},
    {"api_secret": KEY},
    {"xi-api-key": KEY},
    {"key": KEY},
    {"token": KEY},
    {"auth_token": KEY},
    {"access_token": KEY},
    {"auth": KEY},
    {"auth": {"user": "me", "value": KEY}},
    {"auth": ("me", KEY)},
    {"password": KEY},
    {"pwd": KEY},
    {"secret": KEY},
    {"client_secret": KEY},
    {"credentials": {"type": "service", "private": [{"deep": KEY}]}},
    {"credentials_info": {"private_key": KEY}},
    {"aws_secret_access_key": KEY},
    {"speech_key": KEY},
    {"subscription_key": KEY},
    {"headers": {"X-Custom": KEY}},
    {"extra_headers": [{"name": "x", "value": KEY}]},
    {"http": {"options": {"Authorization": f"Bearer {KEY}"}}},
    {"cookie": KEY},
    {"api_key": SecretStr(KEY)},
    {"whatever": SecretStr(KEY)},
    {"api_key": KEY.encode()},
    {"base_url": f"wss://me:{KEY}@tts.example/v1"},
    {"base_url": f"wss://tts.example/v1?model=a&api_key={KEY}"},
    {"note": f"sk-{KEY}-0123456789abcdef"},
]
HARMLESS = {
    "model": "cartesia/sonic-3",
    "language": "en",
    "keyterms": ["pizza"],
    "keywords": "pizza",
    "max_tokens": 5,
    "tokenizer": "words",
    "word_tokenizer": "basic",
    "speed": 1.5,
    "base_url": "https://tts.example/v1?model=a",
    "use_auth": True,
    "options": [1, "a"],
}


def nowhere(found: Any) -> None:
    text = found if isinstance(found, str) else repr(found)
    assert KEY not in text, text[max(0, text.find(KEY) - 200) :][:260]


def graph_with(voice: Voice, *answers: str) -> Any:
    agents = [
        Agent("desk", instructions="Help.", voice=voice, handoffs=[Handoff("till", "To pay.")]),
        Agent("till", instructions="Pay.", voice=voice),
    ]
    return create_voice_graph(agents, llm=ScriptedModel(list(answers)))


@pytest.mark.parametrize("options", WAYS, ids=repr)
@pytest.mark.parametrize("part", ["stt", "tts", "vad", "options"])
def test_a_key_is_masked_whatever_it_is_called_and_the_plugin_gets_it(part: str, options: dict[str, Any]) -> None:
    given: Any = {part: {**options, "model": "m"}}
    voice = Voice(**given)
    nowhere(repr(voice))
    nowhere(json.dumps(voice.describe()))
    nowhere(repr(vars(voice)))
    nowhere(repr(dataclasses.asdict(voice)))
    nowhere(repr(copy.deepcopy(voice)))
    assert '"m"' in json.dumps(voice.describe()) or part == "options"
    plain = {k: v.get_secret_value() if isinstance(v, SecretStr) else v for k, v in options.items()}
    plain = {k: v.decode() if isinstance(v, bytes) else v for k, v in plain.items()}
    assert revealed_options(getattr(voice, part)) == {**plain, "model": "m"}


def test_what_is_no_key_stays_as_it_is() -> None:
    assert sealed(HARMLESS) is HARMLESS
    assert Voice(tts=HARMLESS).describe() == {"tts": HARMLESS}
    assert not [name for name in HARMLESS if name != "use_auth" and is_credential(name)]


class Plugin:
    def __init__(self, key: str) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"Plugin({self.key})"

    def __call__(self) -> "Plugin":
        return self


@pytest.mark.parametrize(
    "value",
    [functools.partial(Plugin, key=KEY), Plugin(KEY), Plugin(KEY).__call__],
    ids=["partial", "object", "method"],
)
def test_a_function_that_makes_the_plugin_is_shown_by_its_name_alone(value: Any) -> None:
    voice = Voice(tts=value)
    nowhere(repr(voice))
    assert voice.describe()["tts"] in ("Plugin", "__call__")


@pytest.mark.parametrize("wrong", [{"tts": {"api_key": KEY}}, Plugin(KEY)], ids=["dict", "object"])
def test_an_error_about_a_voice_does_not_show_its_key(wrong: Any) -> None:
    with pytest.raises(BuildError, match=r"voice=.*write voice=Voice\(") as caught:
        Agent("desk", instructions="Help.", voice=wrong)
    nowhere(str(caught.value))


async def test_no_key_reaches_a_trace_a_stream_a_drawing_or_a_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for options in WAYS:
        voice = Voice(tts={"model": "m", **options}, stt=functools.partial(Plugin, key=KEY), options={"x": options})
        watcher = Watcher()
        with LangSmithSink() as langsmith:
            tracer = LangChainTracer(client=langsmith.client())
            builder = graph_with(voice, "Hello.", "Hello.", "Hello.", "Hello.")
            compiled = builder.compile()
            conversation = Conversation(builder, config={"callbacks": [tracer, watcher]})
            nowhere([repr(event) for event in await conversation.run("Hi.")])
            await conversation.aclose()
            await compiled.ainvoke({"messages": ["Hi."]}, {"callbacks": [tracer, watcher]})
            modes: list[Any] = ["messages", "updates", "values", "debug", "tasks", "custom"]
            nowhere([repr(part) async for part in compiled.astream({"messages": ["Hi."]}, stream_mode=modes)])
            nowhere([repr(event) async for event in compiled.astream_events({"messages": ["Hi."]}, version="v2")])
            langsmith.wait()
            nowhere(langsmith.received.decode(errors="replace"))
            assert b'"voice"' in langsmith.received, "the voice is in the metadata"
        nowhere(watcher.seen)
        drawn: list[Callable[[Any], Any]] = [to_svg, to_mermaid, to_ascii, repr]
        for draw in drawn:
            nowhere(draw(compiled))
        nowhere(json.dumps(compiled.get_graph().to_json(), default=repr))
        nowhere(repr(builder.nodes))
        nowhere(repr(check_graph(builder)))
    nowhere(caplog.text)


# ---- check


LITERALS = [
    'Voice(tts={"api_key": "%s"})',
    'Voice(tts={"headers": {"Authorization": "Bearer %s"}})',
    'Voice(stt=lambda: make(token="%s"))',
    'Voice(tts={"api_key": SecretStr("%s")})',
    'Voice(tts={"base_url": "wss://me:%s@tts.example"})',
    "Voice(tts=dict(password='%s'))",
]
FILE = """
import os
from pydantic import SecretStr
from graph_voice import Agent, Voice, create_voice_graph
def make(token): ...
{more}
voice = {voice}
graph = create_voice_graph([Agent("desk", instructions="Help.", voice=voice)])
"""


def keys_found(path: Any, voice: str, more: str = "") -> list[str]:
    path.write_text(FILE.format(voice=voice, more=more), encoding="utf-8")
    found = [f for f in check_file(str(path)) if "key" in f.problem and "model" not in f.problem]
    assert {f.severity for f in found} <= {Severity.WARNING}
    nowhere([str(f) for f in found])
    return [str(f.where or f.problem) for f in found]


@pytest.mark.parametrize("voice", LITERALS)
def test_check_warns_of_a_key_in_a_graph_s_file_with_its_line(tmp_path: Any, voice: str) -> None:
    path = tmp_path / "my_graph.py"
    (where,) = keys_found(path, voice % KEY)
    assert where == f"{path}:7"


@pytest.mark.parametrize(
    "more",
    [
        'API_KEY = "%s"',
        'os.environ["SOME_API_KEY"] = "%s"',
        'os.environ.setdefault("SOME_API_KEY", "%s")',
        "def connect(password: str = '%s') -> None: ...",
        "llm_key: str = 'sk-%s-0123456789abcdef'",
        "class Settings:\n    token = '%s'",
        'KEY = SecretStr("%s")',
    ],
)
def test_check_warns_of_any_other_key_in_the_file(tmp_path: Any, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "")  # so that what the file sets is gone again behind the test
    found = keys_found(tmp_path / "my_graph.py", "None", more % KEY)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("voice", "more"),
    [
        ('Voice(tts={"api_key": os.environ["MY_OWN_KEY"]})', ""),
        ("Voice(stt=lambda: make(token=os.environ['MY_OWN_KEY']))", "API_KEY_VARIABLE = 'MY_OWN_KEY'"),
        ('Voice(tts={"model": "cartesia/sonic-3", "keyterms": ["pizza"]})', "token = 'end'\npassword = ''"),
        ("None", '"""Write api_key=... or a Bearer token."""\nprint(sorted([], key=None))'),
    ],
)
def test_check_is_quiet_about_what_is_no_key_in_the_file(
    tmp_path: Any, voice: str, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN_KEY", KEY)
    assert keys_found(tmp_path / "my_graph.py", voice, more) == []


def test_a_key_that_the_file_gets_from_elsewhere_is_found_in_the_voice() -> None:
    found = [f for f in check_graph(graph_with(Voice(tts={"api_key": KEY}))) if "tts.api_key" in f.problem]
    assert [f.agent for f in found] == ["desk", "till"]
    assert list(credentials_in(Voice(tts={"api_key": KEY}).tts, "tts")) == [("tts.api_key", KEY)]
    assert MASK in repr(Voice(tts={"api_key": KEY}))
