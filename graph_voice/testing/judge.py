"""A chat model as a judge of what an agent said."""

from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

from graph_voice.models import model_from

__all__ = ["judged"]

_TASK = (
    "You judge what a voice agent has said. Call check_intent: `success` says whether the message fulfils the intent "
    "that was asked for, `reason` says why in one sentence. Judge the meaning, not the wording."
)


@tool
def check_intent(success: bool, reason: str) -> str:
    """Say whether the message fulfils the intent."""
    return reason


async def judged(llm: Any, words: str, intent: str) -> tuple[bool, str]:
    """Whether the words fulfil the intent, and why.

    Args:
        llm: a LangChain chat model, or a string such as "openai:gpt-4.1-mini".
        words: what the agent said.
        intent: what it should have been, in words.

    Raises `AssertionError` when the model does not judge.
    """
    model = model_from(llm)
    if model is None:
        raise AssertionError("judge(llm=None): give it a chat model.")
    asked = [SystemMessage(_TASK), HumanMessage(f"The intent: {intent}\n\nThe message: {words}")]
    answer = await model.bind_tools([check_intent], tool_choice="any").ainvoke(asked)
    if not answer.tool_calls:
        raise AssertionError(f"the judge gave no judgement: {answer.text[:200]!r}")
    verdict = answer.tool_calls[0]["args"]
    return bool(verdict.get("success")), str(verdict.get("reason", ""))
