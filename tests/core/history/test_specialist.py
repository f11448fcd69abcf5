"""graphs/specialist.py, end to end: with scripted models, and with a model behind the OpenAI protocol."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from graph_voice import Agent, Conversation, Handoff, create_voice_graph, history
from graph_voice.testing import ScriptedModel, call, say
from graphs.specialist import graph


@pytest.mark.virtual_clock
async def test_the_specialist_is_told_a_summary_and_what_was_said_since() -> None:
    def answer(messages: list[Any]) -> Any:
        system, last = messages[0].text, messages[-1].text
        if system.startswith("Summarize"):
            return say("The router blinks red since Monday.", first_token=4.0)
        if "specialist for network" in system:
            return "I'm the network specialist. Your router blinks red?"
        if "router" in last:
            return call("record_topic", {"topic": "network"})
        if last.startswith("Noted"):
            return "I see. Shall I get you a specialist?"
        return call("transfer_to_specialist") if "yes" in last else "Hello, what do you need help with?"

    model = ScriptedModel(answer)
    conversation = Conversation(graph, config={"configurable": {"llm": model}})
    await conversation.run()
    await conversation.run("My router blinks red since Monday.")
    await asyncio.sleep(6)
    await conversation.run("yes please")
    assert conversation.active_agent == "specialist"
    assert [m.text for m in conversation.messages] == [
        "Hello, what do you need help with?",
        "My router blinks red since Monday.",
        "",
        "Noted. Transfer the caller once you know enough.",
        "I see. Shall I get you a specialist?",
        "yes please",
        "One moment, I'm getting you a specialist.",
        "Transferring to specialist.",
        "I'm the network specialist. Your router blinks red?",
    ]
    shown = [m.text for m in model.prompts[-1].messages]
    assert (
        shown[1] == "<instructions>\nPrior conversation summary: The router blinks red since Monday.\n</instructions>"
    )
    assert shown[2] == "yes please"
    assert not any("router blinks red since Monday." in text for text in shown[2:])
    assert not model.errors
    await conversation.aclose()


class OpenAI(BaseHTTPRequestHandler):
    """A model behind the OpenAI protocol: answers a summariser, and lets triage hand over at once."""

    asked: ClassVar[list[dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        system = body["messages"][0]["content"]
        if system.startswith("Summarize"):
            delta: dict[str, Any] = {"content": "The bill is wrong."}
        elif system.startswith("You are a specialist"):
            delta = {"content": "Specialist here."}
        else:
            function = {"name": "transfer_to_specialist", "arguments": "{}"}
            delta = {"tool_calls": [{"index": 0, "id": "call_a", "type": "function", "function": function}]}
        if body.get("stream"):
            self._send("text/event-stream", b"".join(self._event(d, body) for d in (delta, None)) + b"data: [DONE]\n\n")
        else:
            choice = {"index": 0, "message": {"role": "assistant", **delta}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            answer = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
            self._send("application/json", json.dumps({**answer, "usage": usage}).encode())

    def _event(self, delta: dict[str, Any] | None, body: dict[str, Any]) -> bytes:
        choice = {"index": 0, "delta": delta or {}, "finish_reason": None if delta else "stop"}
        chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        return b"data: " + json.dumps({**chunk, "choices": [choice]}).encode() + b"\n\n"

    def _send(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    OpenAI.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), OpenAI)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    yield OpenAI.asked
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_model_named_by_a_string_is_asked_over_http(openai: list[dict[str, Any]]) -> None:
    policy = history.summarize(model="openai:gpt-light", prompt="Summarize.", deadline=30)
    at_once = Agent("triage", instructions="Triage.", handoffs=[Handoff("specialist", history=policy)])
    conversation = Conversation(
        create_voice_graph([at_once, Agent("specialist", instructions="You are a specialist.")], llm="openai:gpt-voice")
    )
    await conversation.run("My bill is wrong, get me somebody.")
    await conversation.aclose()
    assert conversation.messages[-1].text == "Specialist here."
    models = [(body["model"], body["messages"][0]["content"].split(".")[0]) for body in openai]
    assert models == [("gpt-voice", "Triage"), ("gpt-light", "Summarize"), ("gpt-voice", "You are a specialist")]
    assert "<user>My bill is wrong, get me somebody.</user>" in openai[1]["messages"][1]["content"]
    assert "Prior conversation summary: The bill is wrong." in json.dumps(openai[2]["messages"])
