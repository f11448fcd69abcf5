"""The snippets of the pages on history, durability and secrets run, each page's in order, in one namespace."""

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import SecretStr
from secrets_support import Gcm

from graph_voice import history
from graph_voice.call.durable import Resumed
from graph_voice.testing import ScriptedModel, call, say

DOCS = Path(__file__).parents[3] / "docs"


async def run_page(name: str, names: dict[str, Any]) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", (DOCS / name).read_text(), re.DOTALL | re.MULTILINE):
        # As a notebook runs it: `await` at the top level.
        result = eval(compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if result is not None:
            await result


async def test_the_snippets_of_the_history_page_run() -> None:
    names: dict[str, Any] = {"model": ScriptedModel(["Hi.", "They said hello."])}
    await run_page("history.md", names)
    assert [m.text for m in names["shown"]] == ["Hello", "Hi."]
    summary = await names["brief"]({"messages": [HumanMessage("Hello")]})
    assert [m.text for m in summary["messages"]] == ["Prior conversation summary: They said hello."]
    assert [t.name for t in names["contracts"].all_tools] == ["check_contract"]


async def test_the_snippet_about_functions_in_data_runs() -> None:
    code = re.findall(r"^  ```python\n(.*?)^  ```", (DOCS / "security.md").read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {"__name__": __name__}
    exec(textwrap.dedent("\n".join(code)), names)
    named = history.from_dict(names["shorten"].to_dict())
    shown = await history.apply(named, [HumanMessage("I am Ann."), HumanMessage("I am 36.")])
    assert [m.text for m in shown] == ["I am Ann."]


async def test_the_snippets_of_the_userdata_page_run() -> None:
    names: dict[str, Any] = {
        "model": ScriptedModel([call("look_up", {"product": "kettle"}), "It is 6 euros."]),
        "__name__": __name__,
    }
    await run_page("userdata.md", names)
    conversation = names["conversation"]
    assert [m.text for m in conversation.messages if m.type == "tool"] == ["6 euros"]
    assert (list(conversation.userdata.recent), dict(conversation.userdata.votes)) == (["kettle"], {"kettle": [1]})
    await conversation.aclose()


async def test_the_snippets_of_the_tasks_page_run() -> None:
    model = ScriptedModel(
        {
            "desk": [call("book", {"slot": "noon"}), "Noon is yours."],
            "get_email": ["Your email?", call("complete_get_email", {"address": "ada@example.org"})],
        }
    )
    names: dict[str, Any] = {"model": model, "__name__": __name__}
    await run_page("tasks.md", names)
    results = [m.text for m in names["conversation"].messages if m.type == "tool"]
    assert results[0] == "Booked noon for ada@example.org."
    assert set(names["intake_graph"].nodes) == {
        "clerk",
        "clerk_tools",
        *(f"{step}{tools}" for step in ("get_name", "get_city") for tools in ("", "_tools")),
    }


async def test_the_snippets_of_the_durability_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for round_ in ("first", "second"):
        names: dict[str, Any] = {"model": ScriptedModel([call("book", {"day": "Friday"}, id=round_), "It is booked."])}
        await run_page("durability.md", names)
        assert (names["conversation"].resumed is None) == (round_ == "first")
        assert names["conversation"].messages[-2].text == f"Booked for Friday, number {round_}."
        assert len(names["conversation"].messages) == (4 if round_ == "first" else 8)
    said = names["on_resume"]
    assert "whether this went through: charge" in said(Resumed(True, (), ("charge",)))
    assert "come back" in said(Resumed(True, seconds=3600))
    assert said(Resumed(True, seconds=5)) is None


async def test_the_snippets_of_the_secrets_page_run() -> None:
    paid = []

    async def pay(number: str, euros: int) -> None:
        paid.append((number, euros))

    model = ScriptedModel([call("store_card", {"number": "4111"}), "Stored.", call("charge", {"euros": 4}), "Charged."])
    # A module of the page's own name, in which the annotations of its functions can be looked up.
    names: dict[str, Any] = {"model": model, "pay": pay, "cipher": Gcm(), "__name__": __name__}
    await run_page("secrets.md", names)
    graph = names["graph"].compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    await graph.ainvoke({"messages": ["My card is 41, 11."]}, config)
    await graph.ainvoke({"messages": ["Charge it."]}, config)
    assert paid == [("4111", 4)]
    assert (await graph.aget_state(config)).values["userdata"].card == SecretStr("4111")


async def test_the_snippets_of_the_page_on_custom_data_run() -> None:
    names: dict[str, Any] = {
        "model": ScriptedModel([say("", *(call("add_item", {"item": i}) for i in ("tea", "cake"))), "Done."]),
        "__name__": __name__,
    }
    await run_page("custom-data.md", names)
    assert names["shown"][-1].data == {"key": "cart", "items": ["tea", "cake"]}
    assert (names["shown"][-1].agent, names["shown"][-1].tool) == ("desk", "add_item")
    await names["conversation"].aclose()


@pytest.mark.virtual_clock
async def test_the_snippets_of_the_page_on_idle_callers_run() -> None:
    names: dict[str, Any] = {"model": ScriptedModel(["Hello."])}
    await run_page("idle.md", names)
    assert [m.text for m in names["conversation"].messages] == ["Hello.", "Are you still there?"]
    await names["conversation"].aclose()


async def test_the_snippets_of_the_tools_page_run() -> None:
    names: dict[str, Any] = {"model": ScriptedModel([]), "__name__": __name__}
    await run_page("tools.md", names)
    tools = [node for node in names["graph"].nodes if node.endswith("_tools")]
    assert tools == ["desk_tools", "billing_tools", "operator_tools"]
