"""Chat models: what `llm=` may be, and what is missing when it can't be used."""

import os
from functools import lru_cache
from typing import Any

from langchain_core.language_models import BaseChatModel

from graph_voice.errors import MissingDependencyError, ModelError

__all__ = ["DEFAULT_MODEL_VARIABLE", "model_from", "run_model"]

DEFAULT_MODEL_VARIABLE = "GRAPH_VOICE_LLM"
"""The environment variable that names the model of a graph that was given none."""


def model_from(llm: BaseChatModel | str | None) -> BaseChatModel | None:
    """The model that `llm` names: an instance as it is, a string such as "openai:gpt-4.1" through LangChain.

    Raises:
        MissingDependencyError: the provider's package is not installed.
        ModelError: the string names no provider, or the provider's key is missing.
    """
    return _from_string(llm) if isinstance(llm, str) else llm


def run_model(llm: BaseChatModel | None, override: BaseChatModel | str | None) -> BaseChatModel:
    """The model of one step: the run's own (`config={"configurable": {"llm": ...}}`), else the agent's, else the
    one that the environment names. Raises `ModelError` when there is none."""
    found = model_from(override) or llm or model_from(os.environ.get(DEFAULT_MODEL_VARIABLE) or None)
    if found is None:
        raise ModelError(
            'This graph has no model. Give one: create_voice_graph(..., llm="openai:gpt-4.1"), Agent(..., llm=...), '
            f'config={{"configurable": {{"llm": model}}}}, or the environment variable {DEFAULT_MODEL_VARIABLE}.'
        )
    return found


@lru_cache(maxsize=64)
def _from_string(name: str) -> BaseChatModel:
    provider, colon, model = name.partition(":")
    if not colon or not model:
        raise ModelError(f'llm="{name}": write "provider:model", such as "openai:gpt-4.1".')
    if provider == "openai":
        return _openai(model)
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingDependencyError(
            f'llm="{name}": models of "{provider}" are made by LangChain. pip install langchain langchain-{provider}'
        ) from error
    return _made(name, lambda: init_chat_model(name), f"langchain-{provider}")


def _openai(model: str) -> BaseChatModel:
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise MissingDependencyError(
            f'llm="openai:{model}" needs langchain-openai. pip install "graph-voice[openai]"'
        ) from error
    # stream_usage is off by default when a base_url is set; a call's token counts are part of what is traced.
    return _made(f"openai:{model}", lambda: ChatOpenAI(model=model, stream_usage=True), "langchain-openai")


def _made(name: str, make: Any, package: str) -> BaseChatModel:
    try:
        model: BaseChatModel = make()
    except ImportError as error:
        raise MissingDependencyError(f'llm="{name}" needs a package: pip install {package} ({error})') from error
    except Exception as error:  # each provider's SDK has exceptions of its own for a missing key
        raise ModelError(
            f"llm=\"{name}\" can't be used: {error}. Usually the provider's key is missing: set it in the environment "
            "(OPENAI_API_KEY for OpenAI), or pass a model instance."
        ) from error
    return model
