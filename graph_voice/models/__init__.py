"""Public. Chat models: what `llm=` may be, what is missing when it can't be used, which failures are transient."""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from langchain_core.exceptions import ModelError as LangChainModelError
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr, ValidationError

from graph_voice.errors import MissingDependencyError, ModelError

__all__ = ["DEFAULT_MODEL_VARIABLE", "SilentModelError", "is_transient", "model_from", "run_model", "run_models"]

DEFAULT_MODEL_VARIABLE = "GRAPH_VOICE_LLM"
"""The environment variable that names the model of a graph that was given none."""


def model_from(llm: BaseChatModel | str | None) -> BaseChatModel | None:
    """The model that `llm` names: an instance as it is, a string such as "openai:gpt-4.1" through LangChain.

    Strings are resolved at once, so that a missing package or key is reported when the graph is built.

    Raises:
        MissingDependencyError: the provider's package is not installed.
        ModelError: the string names no provider, the provider's key is missing, or `llm` is not a model at all.
    """
    if isinstance(llm, str):
        return _from_string(llm)
    if isinstance(llm, type) or (llm is not None and not callable(getattr(llm, "astream", None))):
        raise ModelError(
            f"llm={llm!r} is not a chat model: write a LangChain chat model, ChatOpenAI(...), or a string such as "
            '"openai:gpt-4.1". A realtime (speech-to-speech) model can\'t be used: it answers without the graph.'
        )
    return llm


def run_models(
    who: str, llm: BaseChatModel | None, fallback: BaseChatModel | None, override: BaseChatModel | str | None
) -> list[BaseChatModel]:
    """The models of one step, the fallback last.

    The run's own model (`config={"configurable": {"llm": ...}}`) replaces both, so that a test or Studio uses no other.
    Without it: the agent's, or the one that the environment names. Raises `ModelError` when there is none.
    """
    if override is not None:
        found = model_from(override)
        return [found] if found is not None else []
    first = llm or model_from(os.environ.get(DEFAULT_MODEL_VARIABLE) or None)
    if first is None:
        raise ModelError(
            f'{who} has no model. Give the graph one: create_voice_graph(..., llm="openai:gpt-4.1"), '
            f'Agent(..., llm=...), config={{"configurable": {{"llm": model}}}}, or the environment variable '
            f"{DEFAULT_MODEL_VARIABLE}."
        )
    return [first] if fallback is None else [first, fallback]


def run_model(config: RunnableConfig) -> BaseChatModel:
    """The run's own model, for a custom node or a subgraph that you write: the one of
    `config={"configurable": {"llm": ...}}`, or the one that the environment names.

    Raises `ModelError` when there is none, and as `model_from` does.
    """
    given = config.get("configurable", {}).get("llm")
    return run_models("your own node", None, None, given)[0]


class SilentModelError(RuntimeError):
    """A model answered with neither words nor tool calls."""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a moment later: a rate limit, a server's failure, a lost connection, a
    timeout, an empty answer. For providers' errors, LangChain's `ModelError.is_retryable` decides."""
    if isinstance(error, LangChainModelError):
        return error.is_retryable
    return isinstance(error, ConnectionError | TimeoutError | SilentModelError)


@lru_cache(maxsize=64)
def _from_string(name: str) -> BaseChatModel:
    provider, colon, model = name.partition(":")
    if not colon or not provider or not model:
        raise ModelError(f'llm="{name}": write "provider:model", such as "openai:gpt-4.1".')
    if provider == "openai":
        return _openai(name, model)
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        package = f"langchain-{provider.replace('_', '-')}"
        raise MissingDependencyError(
            f'llm="{name}": models of "{provider}" are made by LangChain. pip install langchain {package}'
        ) from error
    return _made(name, lambda: init_chat_model(model, model_provider=provider))


def _openai(name: str, model: str) -> BaseChatModel:
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingDependencyError(
            f'llm="{name}" needs langchain-openai. pip install "graph-voice[openai]"'
        ) from error
    # stream_usage is off by default when a base_url is set, but the token counts belong in the trace.
    return _made(name, lambda: ChatOpenAI(model=model, stream_usage=True))


def _made(name: str, make: Callable[[], Any]) -> BaseChatModel:
    """The model that `make` returns. Each provider's class reports a missing package or key in its own way."""
    try:
        model: BaseChatModel = make()
    except ImportError as error:
        raise MissingDependencyError(f'llm="{name}" needs a package that is not installed. {error}') from error
    except Exception as error:
        said = _first_problem(error)
        if "nsupported provider" in said or "infer model provider" in said:
            raise ModelError(f'llm="{name}": LangChain knows no such provider. {said}') from error
        raise ModelError(
            f"llm=\"{name}\" can't be used: {said} Set the provider's key in the environment, or pass a model instance."
        ) from error
    if (variable := _missing_key(model)) is not None:
        raise ModelError(
            f'llm="{name}" has no key: set {variable} in the environment (any text works for a local server), or '
            "pass a model instance."
        )
    return model


def _first_problem(error: Exception) -> str:
    """What a provider's class reports, without pydantic's surrounding text and without the values it was given."""
    if isinstance(error, ValidationError):
        said = "; ".join(str(e["msg"]) for e in error.errors(include_url=False, include_input=False))
    else:
        said = str(error)
    said = said.strip().partition("\n\nFor help")[0].removeprefix("Value error, ")
    return said.rstrip(".") + "."


def _missing_key(model: BaseChatModel) -> str | None:
    """The environment variable of a key that the model needs and lacks; None if it has one.

    `lc_secrets` is LangChain's own list of them. Some providers' classes notice only at the first request, which would
    be in the middle of a call.
    """
    missing = None
    for field, variable in model.lc_secrets.items():
        if not isinstance(secret := getattr(model, field, None), SecretStr):
            continue
        if secret.get_secret_value():
            return None
        missing = missing or variable
    return missing
