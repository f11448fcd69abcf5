"""The page on LangSmith: its tree is that of a real run, and its snippets run."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from langsmith_sink import LangSmithSink
from langsmith_support import langsmith as langsmith

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call, say

PAGE = (Path(__file__).parents[3] / "docs" / "langsmith.md").read_text()


@function_tool
async def look_up(number: int) -> str:
    """Look up an order."""
    return f"Order {number} is on its way."


def desk() -> Any:
    script = {
        "desk": [call("look_up", {"number": 3}), say("It is on its way.", call("transfer_to_billing"))] * 2,
        "billing": ["Billing here."] * 2,
    }
    agents = [
        Agent("desk", instructions="Desk.", tools=[look_up], handoffs=[Handoff("billing")]),
        Agent("billing", instructions="Billing."),
    ]
    return create_voice_graph(agents, llm=ScriptedModel(script, name="gpt-4.1"))


async def test_the_tree_on_the_page_is_the_one_that_is_sent(langsmith: LangSmithSink) -> None:
    conversation: Conversation[Any] = Conversation(desk())
    await conversation.run("Where is my order?")
    await conversation.aclose()
    langsmith.wait()
    (root,) = langsmith.roots
    assert root.tree() in PAGE


async def test_the_snippets_run(monkeypatch: pytest.MonkeyPatch, langsmith: LangSmithSink) -> None:
    from livekit.agents import telemetry
    from opentelemetry import trace

    set_for: list[str] = []
    monkeypatch.setattr(trace, "set_tracer_provider", lambda provider: set_for.append("langsmith"))
    monkeypatch.setattr(telemetry, "set_tracer_provider", lambda provider: set_for.append("livekit"))
    names: dict[str, Any] = {"graph": desk(), "Conversation": Conversation}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE):
        result = eval(compile(code, "langsmith.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if result is not None:
            await result
        if "turn.score" in code:
            await names["conversation"].aclose()
    assert set_for == ["langsmith", "livekit"]
    langsmith.wait()
    assert sorted(one["key"] for one in langsmith.feedback) == ["helpful", "resolved"]
    times = set(re.findall(r"`(\w+_ms)`", PAGE))
    (root,) = [run for run in langsmith.roots if "helpful" not in run.tags][-1:]
    assert {key for key in root.metadata if key.endswith("_ms")} <= times
