"""What `llm=` may be, and what is said at build time when it can't be used."""

import builtins
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from graph_voice import Agent, Conversation, create_voice_graph
from graph_voice.drawing import to_svg
from graph_voice.errors import MissingDependencyError, ModelError
from graph_voice.models import model_from
from graph_voice.testing import ScriptedModel

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
        ("openai:gpt-keyless", "OPENAI_API_KEY"),
        ("anthropic:claude-keyless", "ANTHROPIC_API_KEY"),
        ("google_genai:gemini-keyless", "GOOGLE_API_KEY"),
        ("nobody:model-1", "LangChain knows no such provider"),
        (42, "is not a chat model"),
        (ScriptedModel, "is not a chat model"),
    ],
)
def test_what_can_not_be_used_is_said_when_the_graph_is_built(llm: Any, words: str) -> None:
    said = refused(llm, ModelError)
    assert words in said
    assert "errors.pydantic.dev" not in said


def test_a_missing_package_is_named_with_what_installs_it(without: Any) -> None:
    without("langchain_openai")
    assert 'pip install "graph-voice[openai]"' in refused("openai:gpt-unpacked", MissingDependencyError)
    without("langchain")
    said = refused("google_genai:gemini-unpacked", MissingDependencyError)
    assert "pip install langchain langchain-google-genai" in said


def test_a_missing_provider_package_is_named() -> None:
    assert "langchain-mistralai" in refused("mistralai:model-1", MissingDependencyError)


def test_the_models_of_agents_and_fallbacks_are_resolved_when_the_graph_is_built() -> None:
    model = ScriptedModel(["Hello."])
    for options in ({"llm": "gpt"}, {"fallback": "gpt"}):
        with pytest.raises(ModelError, match="provider:model"):
            build(model, **options)
    with pytest.raises(ModelError, match="provider:model"):
        create_voice_graph([Agent("front", instructions="Hi.")], llm=model, fallback="gpt")


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
