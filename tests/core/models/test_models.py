"""What `llm=` may be, and when it is told that it can't be used."""

import builtins
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from graph_voice import Agent, Conversation, create_voice_graph, history, models
from graph_voice.checks import Severity, check_graph
from graph_voice.drawing import to_svg
from graph_voice.errors import MissingDependencyError, ModelError
from graph_voice.models import model_from
from graph_voice.testing import Call, ScriptedModel

KEYS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY")
KEYS += ("GRAPH_VOICE_LLM",)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes a package look as if it were not installed."""
    real = builtins.__import__
    missing: set[str] = set()

    def pretend(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", pretend)
    return missing.add


def build(model: Any, **options: Any) -> Any:
    return create_voice_graph([Agent("front", instructions="You are the front desk.", **options)], llm=model)


def refused(llm: Any, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        build(llm)
    return str(caught.value)


def test_an_instance_is_used_as_it_is() -> None:
    model = ScriptedModel(["Hello."])
    assert model_from(model) is model


def test_a_string_of_openai_needs_no_other_package_than_langchain_openai(
    monkeypatch: pytest.MonkeyPatch, without: Any
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    without("langchain")
    model = model_from("openai:gpt-by-string")
    assert isinstance(model, ChatOpenAI)
    assert model.model_name == "gpt-by-string"
    assert str(model.root_async_client.base_url).startswith("http://127.0.0.1:9/v1")
    assert model.stream_usage
    assert model_from("openai:gpt-by-string") is model


def test_other_strings_are_made_by_langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    assert isinstance(model_from("anthropic:claude-by-string"), ChatAnthropic)


@pytest.mark.parametrize(
    ("llm", "words"),
    [
        ("gpt-4.1", 'write "provider:model"'),
        ("openai:", 'write "provider:model"'),
        (":gpt-4.1", 'write "provider:model"'),
        ("", 'write "provider:model"'),
        ("nobody:model-1", "LangChain knows no such provider"),
        ("core:model-1", "LangChain knows no such provider"),  # there is a package langchain_core
        ("opnai:gpt-4.1", 'did you mean "openai:gpt-4.1"?'),
        ("antropic:claude:1", 'did you mean "anthropic:claude:1"?'),
        (42, "is not a chat model"),
        (ScriptedModel, "is not a chat model"),
    ],
)
def test_a_wrong_model_is_refused_where_it_is_written(llm: Any, words: str) -> None:
    assert words in refused(llm, ModelError)
    for options in ({"llm": llm}, {"fallback": llm}):
        with pytest.raises(ModelError):
            build(ScriptedModel([]), **options)
    with pytest.raises(ModelError):
        create_voice_graph([Agent("front", instructions="Hi.")], llm=ScriptedModel([]), fallback=llm)
    with pytest.raises(ModelError):
        history.summarize(model=llm)


KEYLESS = [
    ("openai:gpt-keyless", "OPENAI_API_KEY"),
    ("OpenAI:gpt-keyless", "OPENAI_API_KEY"),
    ("anthropic:claude-keyless", "ANTHROPIC_API_KEY"),
    ("google_genai:gemini-keyless", "GOOGLE_API_KEY"),
    ("google-genai:gemini-keyless", "GOOGLE_API_KEY"),
]


async def opens(graph: Any) -> None:
    async with Conversation(graph):
        pass


async def takes_a_turn(graph: Any) -> None:
    await Conversation(graph).run("Hello?")


async def is_invoked(graph: Any) -> None:
    await graph.compile().ainvoke({"messages": [("user", "Hello?")]})


@pytest.mark.parametrize("begin", [opens, takes_a_turn, is_invoked])
@pytest.mark.parametrize(("llm", "key"), KEYLESS)
async def test_a_missing_key_is_told_when_a_call_opens(llm: str, key: str, begin: Any) -> None:
    with pytest.raises(ModelError, match=key) as caught:
        await begin(build(llm))
    assert "errors.pydantic.dev" not in str(caught.value)


@pytest.mark.parametrize("begin", [opens, takes_a_turn])
async def test_a_fallback_that_can_not_be_used_is_told_when_a_call_opens_too(begin: Any) -> None:
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        await begin(build(ScriptedModel(["Hello."]), fallback="openai:gpt-keyless"))


async def test_a_missing_package_is_named_with_what_installs_it_when_a_call_opens(without: Any) -> None:
    without("langchain_openai")
    with pytest.raises(MissingDependencyError, match="langchain-openai"):
        await opens(build("openai:gpt-unpacked"))
    with pytest.raises(MissingDependencyError, match="langchain-mistralai"):
        await opens(build("mistralai:model-1"))


def test_without_langchain_nobody_knows_whether_there_is_such_a_provider(without: Any) -> None:
    without("langchain")
    said = refused("google_genai:gemini-unpacked", MissingDependencyError)
    assert "pip install langchain langchain-google-genai" in said


KNOWN = ["openai:gpt", "anthropic:claude", "google_genai:gemini", "mistralai:model", "bedrock:model"]


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("llm", KNOWN)
@pytest.mark.virtual_clock
async def test_without_a_key_a_graph_is_built_drawn_and_checked_and_runs_with_another_model(
    llm: str, front_end: Any
) -> None:
    graph = build(llm, fallback=llm)
    assert "front" in to_svg(graph)
    (found,) = check_graph(graph)
    assert found.severity is Severity.WARNING
    assert llm in found.problem
    async with Call(graph, llm=ScriptedModel(["Hello."]), front_end=front_end) as phone:
        await phone.says("Hello?")
        assert phone.heard == ["Hello."]


def test_nothing_of_a_provider_is_imported_to_build_a_graph() -> None:
    program = """
import sys
from graph_voice import Agent, create_voice_graph, history
from graph_voice.drawing import to_svg
short = history.when(max_items=9, then=history.summarize(model="openai:gpt-4.1-mini"))
front = Agent("front", instructions="You are the front desk.", context=short)
to_svg(create_voice_graph([front], llm="openai:gpt-4.1", fallback="anthropic:claude"))
print([name for name in ("openai", "langchain_openai", "anthropic") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "[]"


async def test_a_model_is_made_in_a_thread_because_a_server_allows_no_reading_of_files_in_its_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = []

    def make(name: str, model: str) -> Any:
        threads.append(threading.current_thread())
        return ScriptedModel([f"I am {model}."] * 2)

    monkeypatch.setattr(models, "_openai", make)
    graph = build(f"openai:{uuid.uuid4()}", context=history.summarize(model=f"openai:{uuid.uuid4()}")).compile()
    for _ in range(2):
        said = await graph.ainvoke({"messages": [("user", "Hello?"), ("ai", "Yes?"), ("user", "Who is it?")]})
        assert said["messages"][-1].text.startswith("I am ")
    assert len(threads) == 2
    assert threading.main_thread() not in threads


async def test_a_key_that_is_set_after_the_graph_was_built_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    conversation = Conversation(build("openai:gpt-late"))
    with pytest.raises(ModelError):
        await conversation.open()
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    await conversation.open()


async def test_a_graph_without_a_model_can_be_built_and_drawn_and_says_at_its_first_turn_what_to_give() -> None:
    graph = build(None)
    assert "front" in to_svg(graph)
    conversation = Conversation(graph)
    with pytest.raises(ModelError, match=r'agent "front" has no model.*create_voice_graph\(..., llm='):
        conversation.turn("Hello?")
    with pytest.raises(ModelError, match="GRAPH_VOICE_LLM"):
        await conversation.run()
    with pytest.raises(ModelError, match="has no model"):
        await graph.compile().ainvoke({"messages": [("user", "Hello?")]})


async def test_the_run_can_name_the_model() -> None:
    own, run = ScriptedModel([]), ScriptedModel(["The run's model."])
    conversation = Conversation(build(own), config={"configurable": {"llm": run}})
    await conversation.run("Hello?")
    assert conversation.messages[-1].text == "The run's model."
    assert own.prompts == []


async def test_the_environment_names_the_model_of_a_graph_that_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPH_VOICE_LLM", "openai:gpt-keyless")
    with pytest.raises(ModelError, match="OPENAI_API_KEY"):
        Conversation(build(None)).turn("Hello?")


async def test_an_agents_own_model_comes_before_the_graphs() -> None:
    graphs, own = ScriptedModel([]), ScriptedModel(["My own."])
    conversation = Conversation(build(graphs, llm=own))
    await conversation.run("Hello?")
    assert conversation.messages[-1].text == "My own."
