"""The real `langgraph dev` over HTTP: what LangGraph Studio asks it, and what it must get."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from graph_voice.drawing.picture import EdgeKind, picture
from graph_voice.launch.loading import load_graph
from tests.studio.studio_server import REMOTE, ROOT, Studio

FILES = [path for path in (ROOT / "graphs").glob("*.py") if path.stem not in ("studio", "__init__")]
FOLDERS = [path.parent for path in (ROOT / "graphs").glob("*/graph.py")]
SPECS = {path.stem: str(path) for path in sorted([*FILES, *FOLDERS], key=lambda path: path.stem)}
GRAPHS = list(SPECS)
BILL = "I have a question about my bill."


def test_every_example_graph_is_in_langgraph_json() -> None:
    assert sorted(json.loads((ROOT / "langgraph.json").read_text())["graphs"]) == GRAPHS
    assert len(GRAPHS) >= 6


def test_all_graphs_are_served(studio: Studio) -> None:
    found = {assistant["graph_id"] for assistant in studio.post("/assistants/search", limit=100)}
    assert found == {*GRAPHS, "asking", *REMOTE}


@pytest.mark.parametrize("name", GRAPHS)
def test_the_graph_shows_each_agent_and_each_labelled_handoff_and_no_false_edge(studio: Studio, name: str) -> None:
    shown = studio.get(f"/assistants/{studio.assistant(name)}/graph", xray="false")
    graph = load_graph(SPECS[name])
    drawn = picture(graph)
    agents = {node["metadata"]["graph_voice"]["agent"]: node for node in shown["nodes"] if _about(node).get("agent")}
    assert set(agents) == {agent["agent"] for node in graph.nodes.values() if (agent := _told(node)).get("agent")}
    handoffs = {(e["source"], e["target"], e.get("data")) for e in shown["edges"] if e.get("data")}
    assert handoffs == {(e.source, e.target, e.label) for e in drawn.edges if e.kind is EdgeKind.HANDOFF}
    assert bool(handoffs) == (len(agents) > 1)
    for edge in shown["edges"]:
        if edge["target"] == "__end__":
            assert edge["source"] in agents, f"a turn can't end at {edge['source']}"
        if edge["source"].endswith("_tools") and not edge.get("data"):
            assert edge["target"] == edge["source"].removesuffix("_tools")


def _about(node: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (node.get("metadata") or {}).get("graph_voice") or {}
    return found


def _told(spec: Any) -> dict[str, Any]:
    found: dict[str, Any] = (spec.metadata or {}).get("graph_voice") or {}
    return found


def test_xray_looks_into_an_agent_that_is_a_graph(studio: Studio) -> None:
    shown = studio.get(f"/assistants/{studio.assistant('with_subgraph')}/graph", xray="true")
    assert {"stock_clerk:check_stock", "stock_clerk:tell"} <= {node["id"] for node in shown["nodes"]}
    (handoff,) = (edge for edge in shown["edges"] if edge["source"] == "front_desk" and edge.get("data"))
    assert (handoff["target"], handoff["data"]) == ("stock_clerk:check_stock", "transfer_to_stock_clerk")


def test_a_nodes_voice_and_tools_are_told(studio: Studio) -> None:
    shown = studio.get(f"/assistants/{studio.assistant('asking')}/graph")
    (waiter,) = (node for node in shown["nodes"] if node["id"] == "waiter")
    assert _about(waiter) == {
        "agent": "waiter",
        "start": True,
        "tools": ["pay", "transfer_to_cook"],
        "voice": {"tts": "cartesia/sonic-3:waiter", "turn_handling": {"interruption": {"enabled": False}}},
    }


@pytest.mark.parametrize("name", [*GRAPHS, "asking"])
def test_the_schemas_are_there_for_forms(studio: Studio, name: str) -> None:
    schemas = studio.get(f"/assistants/{studio.assistant(name)}/schemas")
    for kind in ("input_schema", "output_schema", "state_schema", "context_schema"):
        assert schemas[kind]["properties"], f"no {kind}"
    assert schemas["input_schema"]["properties"]["messages"]["type"] == "array"
    assert "required" not in schemas["input_schema"]


def test_userdata_is_a_form_with_titles_and_defaults(studio: Studio) -> None:
    for graph, kind, fields in (
        ("customer_service", "Account", {"balance": ("Balance", 42.5), "line_checked": ("Line Checked", False)}),
        ("asking", "Order", {"dish": ("What is ordered", None), "paid": ("Paid", False)}),
    ):
        schema = studio.get(f"/assistants/{studio.assistant(graph)}/schemas")["input_schema"]
        assert schema["properties"]["userdata"] == {"$ref": f"#/$defs/{kind}"}
        shown = schema["$defs"][kind]["properties"]
        for name, (title, default) in fields.items():
            assert (shown[name]["title"], shown[name]["default"]) == (title, default)


def test_a_thread_runs_through_a_handoff_and_keeps_its_agent_and_userdata(studio: Studio) -> None:
    thread = studio.thread()
    first = studio.say(thread, "customer_service", BILL)
    assert first["active_agent"] == "billing"
    assert [m["type"] for m in first["messages"]] == ["human", "ai", "tool", "ai"]
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in first["handoffs"]] == [("customer_service", "billing")]
    studio.post(f"/threads/{thread}/state", values={"userdata": {"balance": 17.0}})
    second = studio.say(thread, "customer_service", "How much do I owe?")
    assert second["active_agent"] == "billing"
    assert second["userdata"] == {**first["userdata"], "balance": 17.0}
    assert "17.00 dollars" in next(m for m in reversed(second["messages"]) if m["type"] == "tool")["content"]
    state = studio.get(f"/threads/{thread}/state")
    assert (state["values"]["active_agent"], state["next"]) == ("billing", [])


def test_the_words_are_streamed_by_the_agent_that_says_them(studio: Studio) -> None:
    body = {
        "assistant_id": "customer_service",
        "input": {"messages": [{"type": "human", "content": [{"type": "text", "text": BILL}]}]},
        "stream_mode": ["messages-tuple"],
    }
    said: dict[str, str] = {}
    with studio.http.stream("POST", "/runs/stream", json=body) as answer:
        event = ""
        for line in answer.iter_lines():
            event = line.removeprefix("event: ") if line.startswith("event: ") else event
            if event == "messages" and line.startswith("data: "):
                message, about = json.loads(line.removeprefix("data: "))
                if message["type"].startswith("AI"):
                    said[about["langgraph_node"]] = said.get(about["langgraph_node"], "") + message["content"]
    assert said["billing"].startswith("Hello")


def test_a_question_interrupts_the_run_and_the_answer_resumes_it(studio: Studio) -> None:
    thread = studio.thread()
    asked = studio.say(thread, "asking", "A soup, please.")
    (question,) = asked["__interrupt__"]
    assert question["value"] == "Pay for the soup?"
    state = studio.get(f"/threads/{thread}/state")
    assert state["next"] == ["waiter_tools"]
    assert state["tasks"][0]["interrupts"][0]["value"] == "Pay for the soup?"
    done = studio.run(thread, "asking", command={"resume": "yes"})
    assert [m["content"] for m in done["messages"]][-2:] == ["Paid.", "Done."]
    assert done["userdata"] == {"dish": "soup", "paid": True}
    assert studio.get(f"/threads/{thread}/state")["next"] == []


def test_a_fork_from_an_earlier_checkpoint_takes_another_way(studio: Studio) -> None:
    thread = studio.thread()
    studio.say(thread, "customer_service", "Hello.")
    before = studio.get(f"/threads/{thread}/state")
    assert studio.say(thread, "customer_service", BILL)["active_agent"] == "billing"
    forked = studio.say(
        thread, "customer_service", "My internet connection does not work.", checkpoint=before["checkpoint"]
    )
    assert forked["active_agent"] == "technical_support"
    assert BILL not in [m["content"] for m in forked["messages"]]
    assert studio.get(f"/threads/{thread}/state")["values"]["active_agent"] == "technical_support"
    past = studio.post(f"/threads/{thread}/history", limit=50)
    assert {"billing", "technical_support"} <= {state["values"].get("active_agent") for state in past}


def test_a_fork_may_edit_the_state_first(studio: Studio) -> None:
    thread = studio.thread()
    studio.say(thread, "customer_service", BILL)
    past = studio.post(f"/threads/{thread}/history", limit=50)
    before = next(state for state in past if state["next"] == ["billing"])
    edited = studio.post(
        f"/threads/{thread}/state",
        values={"userdata": {"balance": 3.0}},
        checkpoint=before["checkpoint"],
        as_node="customer_service_tools",
    )
    done = studio.run(thread, "customer_service", input=None, checkpoint=edited["checkpoint"])
    assert (done["active_agent"], done["userdata"]["balance"]) == ("billing", 3.0)


def test_edited_instructions_and_models_take_effect_in_a_run(studio: Studio) -> None:
    form = studio.get(f"/assistants/{studio.assistant('customer_service')}/schemas")["context_schema"]["properties"]
    prompt = form["billing_instructions"]
    assert (prompt["langgraph_type"], prompt["langgraph_nodes"]) == ("prompt", ["billing"])
    assert prompt["default"].startswith("You are a billing specialist")
    studio.provider.script[:] = ["Arr, forty two doubloons."]
    thread = studio.thread()
    studio.say(thread, "customer_service", BILL)
    asked = len(studio.provider.requests)
    context = {"billing_instructions": "You are a pirate.", "billing_llm": "anthropic:claude-x"}
    answer = studio.say(thread, "customer_service", "What do I owe?", context=context)
    assert "Arr, forty two doubloons." in json.dumps(answer["messages"][-1]["content"])
    (request,) = studio.provider.requests[asked:]
    assert request["model"] == "claude-x"
    assert "You are a pirate." in json.dumps(request["system"])
    # An agent that was not edited has its own model, and so has this one in a run that is not edited.
    assert studio.say(thread, "customer_service", "How much do I owe?")["messages"][-1]["content"]
    assert len(studio.provider.requests) == asked + 1
    assert not studio.provider.refused


def test_an_assistant_keeps_what_was_edited(studio: Studio) -> None:
    studio.provider.script[:] = ["Ahoy."]
    made = studio.post(
        "/assistants",
        graph_id="customer_service",
        name="pirates",
        context={"llm": "anthropic:claude-y", "customer_service_instructions": "You are a pirate."},
    )
    try:
        answer = studio.say(studio.thread(), made["assistant_id"], "Hello.")
        assert "Ahoy." in json.dumps(answer["messages"][-1]["content"])
        assert "You are a pirate." in json.dumps(studio.provider.requests[-1]["system"])
        assert studio.provider.requests[-1]["model"] == "claude-y"
    finally:
        studio.http.delete(f"/assistants/{made['assistant_id']}")


def test_a_model_that_cant_be_used_is_told(studio: Studio) -> None:
    answer = studio.say(studio.thread(), "customer_service", "Hello.", context={"llm": "gpt"})
    assert 'write "provider:model"' in json.dumps(answer).replace("\\", "")


@pytest.mark.parametrize(
    "step",
    [
        {"op": "custom", "fn": "pathlib:Path.touch"},
        {"op": "trim_tokens", "max_tokens": 1, "counter": "sys:exit"},
        {"op": "when", "max_tokens": 1, "counter": "os:abort", "then": [{"op": "fresh"}]},
    ],
    ids=lambda step: step["op"],
)
def test_a_client_can_not_make_the_server_call_a_function(studio: Studio, step: dict[str, Any]) -> None:
    message = {"role": "user", "content": "Hello."}
    for update in ({"steps": [step]}, {"pending": [{"steps": [step]}]}):
        thread = studio.thread()
        answer = studio.run(thread, "asking", input={"messages": [message], "chat_ctx": update})
        assert "has not registered" in json.dumps(answer)
    assert studio.say(studio.thread(), "asking", "Hello.")["messages"][-1]["content"] == "Welcome."


def test_nothing_left_this_machine_and_the_servers_files_are_in_its_own_folder(studio: Studio) -> None:
    studio.say(studio.thread(), "intake", "My name is Ada.")
    assert studio.outbound.read_text() == "watching\n"
    assert (studio.folder / ".langgraph_api").is_dir()
    assert not Path(ROOT / ".langgraph_api").exists()


def test_the_file_of_the_examples_names_each_once() -> None:
    tree = ast.parse((ROOT / "graphs" / "studio.py").read_text())
    assigned = [target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets]  # type: ignore[attr-defined]
    assert sorted(name for name in assigned if name.islower()) == GRAPHS
