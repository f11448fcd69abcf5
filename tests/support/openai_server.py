"""A stand-in for a server that speaks OpenAI's protocol, in a thread: whole answers and streams, by a function."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = Callable[[dict[str, Any]], "str | list[tuple[str, dict[str, Any]]]"]
"""From the request's body to words, or to tool calls (name, arguments)."""


class OpenAIServer:
    """The server, from here to the end of the `with` block.

    Args:
        answer: what it answers to a request.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"


def tools_of(body: dict[str, Any]) -> set[str]:
    """The names of the tools in a request."""
    return {tool["function"]["name"] for tool in body.get("tools") or ()}


def _message(answer: Any) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"role": "assistant", "content": answer}
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
        for n, (name, args) in enumerate(answer)
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _chunks(message: dict[str, Any], usage: dict[str, int]) -> Iterator[str]:
    delta = dict(message)
    if "tool_calls" in delta:
        delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(delta["tool_calls"])]
    reason = "tool_calls" if "tool_calls" in delta else "stop"
    for choices, counted in (
        ([{"index": 0, "delta": delta, "finish_reason": None}], None),
        ([{"index": 0, "delta": {}, "finish_reason": reason}], None),
        ([], usage),
    ):
        piece = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": choices}
        yield f"data: {json.dumps({**piece, 'usage': counted})}\n\n"
    yield "data: [DONE]\n\n"


def _handler(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            server.requests.append(body)
            message, usage = _message(server.answer(body)), {"prompt_tokens": 7, "completion_tokens": 3}
            usage["total_tokens"] = 10
            if body.get("stream"):
                text, kind = "".join(_chunks(message, usage)), "text/event-stream"
            else:
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                whole = {"id": "c", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
                text, kind = json.dumps({**whole, "usage": usage}), "application/json"
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
