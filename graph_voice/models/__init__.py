"""Public. Chat models: what `llm=` may be, what is missing when it can't be used, which failures are transient."""

import difflib
import os
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from langchain_core.exceptions import ModelError as LangChainModelError
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from pydantic import SecretStr, ValidationError

from graph_voice.errors import MissingDependencyError, ModelError, NoModelError

__all__ = [
    "DEFAULT_MODEL_VARIABLE",
    "SilentModelError",
    "checked",
    "is_loaded",
    "is_transient",
    "model_from",
    "models_named",
    "run_model",
    "run_models",
]

DEFAULT_MODEL_VARIABLE = "GRAPH_VOICE_LLM"
"""The environment variable that names the model of a graph that was given none."""
_OPENAI = "openai"
_LIMIT = 64
_made: dict[str, BaseChatModel] = {}
"""The models that strings name, each made once."""


def checked(llm: BaseChatModel | str | None) -> BaseChatModel | str | None:
    """`llm` as it is, if it can name a model at all. Neither a provider's package nor a key is needed for this.

    Raises:
        MissingDependencyError: LangChain, which knows the providers, is not installed.
        ModelError: the string is not "provider:model", nobody knows the provider, or `llm` is not a model at all.
    """
    if isinstance(llm, str):
        provider, _ = _parts(llm)
        if provider != _OPENAI:
            _check_provider(llm, provider)
    elif isinstance(llm, type) or (llm is not None and not callable(getattr(llm, "astream", None))):
        raise ModelError(
            f"llm={llm!r} is not a chat model: write a LangChain chat model, ChatOpenAI(...), or a string such as "
            '"openai:gpt-4.1". A realtime (speech-to-speech) model can\'t be used: it answers without the graph.'
        )
    return llm


def model_from(llm: BaseChatModel | str | None) -> BaseChatModel | None:
    """The model that `llm` names: an instance as it is, a string such as "openai:gpt-4.1" through LangChain.

    The first time, this imports the provider's package. A graph keeps the string until a call needs the model.

    Raises:
        MissingDependencyError: the provider's package is not installed.
        ModelError: the string names no provider, the provider's key is missing, or `llm` is not a model at all.
    """
    return None if llm is None else _model(llm)


def _model(llm: BaseChatModel | str) -> BaseChatModel:
    known = checked(llm)
    if not isinstance(known, str):
        assert known is not None
        return known
    if (model := _made.get(known)) is None:
        model = _from_string(known)
        if len(_made) >= _LIMIT:
            _made.clear()
        _made[known] = model
    return model


def is_loaded(llm: BaseChatModel | str) -> bool:
    """Whether `model_from(llm)` returns at once: no package is imported, and no file is read."""
    return not isinstance(llm, str) or llm in _made


def models_named(
    llm: BaseChatModel | str | None, fallback: BaseChatModel | str | None, override: BaseChatModel | str | None
) -> list[BaseChatModel | str]:
    """What names the models of one step, the fallback last; empty when nothing does.

    The run's own model (`config={"configurable": {"llm": ...}}`) replaces both, so that a test or Studio uses no other.
    Without it: the agent's, or the one that the environment names.
    """
    if override is not None:
        return [override]
    first = llm or os.environ.get(DEFAULT_MODEL_VARIABLE)
    return [name for name in (first, fallback) if name] if first else []


def run_models(
    who: str,
    llm: BaseChatModel | str | None,
    fallback: BaseChatModel | str | None,
    override: BaseChatModel | str | None,
) -> list[BaseChatModel]:
    """The models of one step, as `models_named` says. Raises `ModelError` when there is none, and as `model_from`."""
    named = models_named(llm, fallback, override)
    if not named:
        raise NoModelError(
            f'{who} has no model. Give the graph one: create_voice_graph(..., llm="openai:gpt-4.1"), '
            f'Agent(..., llm=...), config={{"configurable": {{"llm": model}}}}, or the environment variable '
            f"{DEFAULT_MODEL_VARIABLE}."
        )
    return [_model(name) for name in named]


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


def _parts(name: str) -> tuple[str, str]:
    """The provider and the model. The provider is written as LangChain does: "google-genai" is "google_genai"."""
    provider, colon, model = name.partition(":")
    if not colon or not provider or not model:
        raise ModelError(f'llm="{name}": write "provider:model", such as "openai:gpt-4.1".')
    return provider.replace("-", "_").lower(), model


def _check_provider(name: str, provider: str) -> None:
    known = _providers(_maker(name, provider))
    if known and provider not in known:
        close = difflib.get_close_matches(provider, known, 1)
        meant = f'did you mean "{close[0]}:{_parts(name)[1]}"? ' if close else ""
        raise ModelError(
            f'llm="{name}": LangChain knows no such provider: {meant}The providers are {", ".join(known)}. For any '
            "other model pass an instance."
        )


def _maker(name: str, provider: str) -> Callable[..., Any]:
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        package = f"langchain-{provider.replace('_', '-')}"
        raise MissingDependencyError(
            f'llm="{name}": models of "{provider}" are made by LangChain. pip install langchain {package}'
        ) from error
    return init_chat_model


@lru_cache(maxsize=1)
def _providers(maker: Callable[..., Any]) -> tuple[str, ...]:
    """The providers that LangChain knows. It names them only in the error for one that it doesn't know."""
    try:
        maker("none", model_provider="none")
    except ValueError as error:
        return tuple(re.findall(r"\w+", str(error).partition(" are: ")[2]))
    return ()


def _from_string(name: str) -> BaseChatModel:
    provider, model = _parts(name)
    if provider == _OPENAI:
        return _openai(name, model)
    maker = _maker(name, provider)
    return _from(name, lambda: maker(model, model_provider=provider))


def _openai(name: str, model: str) -> BaseChatModel:
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingDependencyError(
            f'llm="{name}" needs langchain-openai. pip install "graph-voice[openai]"'
        ) from error
    # stream_usage is off by default when a base_url is set, but the token counts belong in the trace.
    return _from(name, lambda: ChatOpenAI(model=model, stream_usage=True))


def _from(name: str, make: Callable[[], Any]) -> BaseChatModel:
    """The model that `make` returns. Each provider's class reports a missing package or key in its own way."""
    try:
        model: BaseChatModel = make()
    except ImportError as error:
        raise MissingDependencyError(f'llm="{name}" needs a package that is not installed. {error}') from error
    except Exception as error:
        said = _first_problem(error)
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
