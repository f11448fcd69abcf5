"""A LangSmith to test against: a server on this machine that takes what is sent, and gives it back.

```python
with LangSmithSink() as langsmith:
    conversation = Conversation(graph, config={"callbacks": [LangChainTracer(client=langsmith.client())]})
    await conversation.run("hi")
    await conversation.aclose()
    langsmith.wait()
    assert [run.name for run in langsmith.roots] == ["turn"]
```

It speaks the ingestion protocol: `/runs/multipart`, compressed or not, `/runs/batch`, single runs, feedback. It keeps
datasets, their examples, and projects.
"""

import email
import email.policy
import io
import json
import re
import threading
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from langsmith import Client

from graph_voice.tracing.sender import flush_traces

__all__ = ["LangSmithSink", "TracedRun"]

PROJECT = "00000000-0000-4000-8000-000000000001"
_PROJECT = {
    "id": PROJECT,
    "name": "default",
    "tenant_id": PROJECT,
    "start_time": "2026-01-01T00:00:00",
    "reference_dataset_id": None,
}


@dataclass
class TracedRun:
    """One run, as it was sent."""

    id: str
    fields: dict[str, Any] = field(default_factory=dict)
    children: "list[TracedRun]" = field(default_factory=list)
    """In the order in which they began."""
    patched: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(self.fields.get("name"))

    @property
    def kind(self) -> str:
        """`chain`, `llm`, `tool`."""
        return str(self.fields.get("run_type"))

    @property
    def parent_id(self) -> str | None:
        return self.fields.get("parent_run_id")

    @property
    def inputs(self) -> dict[str, Any]:
        return self.fields.get("inputs") or {}

    @property
    def outputs(self) -> dict[str, Any]:
        return self.fields.get("outputs") or {}

    @property
    def metadata(self) -> dict[str, Any]:
        return (self.fields.get("extra") or {}).get("metadata") or {}

    @property
    def tags(self) -> list[str]:
        return self.fields.get("tags") or []

    @property
    def error(self) -> str | None:
        return self.fields.get("error")

    @property
    def begun(self) -> datetime:
        return datetime.fromisoformat(self.fields["start_time"])

    @property
    def ended(self) -> datetime | None:
        """None: it was never said to have ended."""
        end = self.fields.get("end_time")
        return datetime.fromisoformat(end) if end else None

    def below(self) -> "list[TracedRun]":
        """All runs below this one, depth first."""
        return [run for child in self.children for run in (child, *child.below())]

    def find(self, name: str) -> "TracedRun":
        """The first run of this name at or below this one. Raises `LookupError` when there is none."""
        for run in (self, *self.below()):
            if run.name == name:
                return run
        raise LookupError(f"no run {name!r} in:\n{self.tree()}")

    def tree(self, indent: str = "") -> str:
        """The runs as indented lines: name, kind, tags."""
        tags = "".join(f" [{tag}]" for tag in self.tags if ":" not in tag)
        kind = "" if self.kind == "chain" else f" ({self.kind})"
        return "\n".join([f"{indent}{self.name}{kind}{tags}", *(c.tree(indent + "  ") for c in self.children)])


class LangSmithSink:
    """The server, from here to the end of the `with` block.

    Args:
        compressed: whether it asks for runs to be compressed, as LangSmith does.
        status: what it answers to runs and feedback: 202, or an error.
    """

    def __init__(self, *, compressed: bool = False, status: int = 202) -> None:
        self.compressed = compressed
        self.status = status
        self.requests: list[tuple[str, str]] = []
        """(method, path) of each request."""
        self.received = b""
        """Everything that came, decompressed."""
        self.feedback: list[dict[str, Any]] = []
        self.datasets: dict[str, dict[str, Any]] = {}
        """Name -> dataset."""
        self.examples: dict[str, dict[str, Any]] = {}
        """Id -> example of a dataset."""
        self.projects: list[dict[str, Any]] = []
        """The projects (and experiments) that were made."""
        self._runs: dict[str, TracedRun] = {}
        self._clients: list[Client] = []
        self._lock = threading.Lock()
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
        return f"http://127.0.0.1:{self._server.server_port}"

    def client(self, **options: Any) -> Client:
        """A LangSmith client that sends to it; its keyword arguments, such as `anonymizer`."""
        made = Client(api_url=self.url, api_key="none", **options)
        self._clients.append(made)
        return made

    def wait(self, timeout: float = 30.0) -> None:
        """Until all that was put to be sent has come. Raises `TimeoutError`."""
        if not flush_traces(timeout):
            raise TimeoutError(f"not all traces were sent within {timeout:g} seconds")
        for client in self._clients:
            client.flush(timeout)

    @property
    def runs(self) -> dict[str, TracedRun]:
        """Id -> run, with their children."""
        with self._lock:
            for run in self._runs.values():
                run.children = []
            for run in sorted(self._runs.values(), key=lambda r: str(r.fields.get("dotted_order"))):
                if run.parent_id in self._runs:
                    self._runs[run.parent_id].children.append(run)
            return dict(self._runs)

    @property
    def roots(self) -> list[TracedRun]:
        """The runs that have no parent, in the order in which they began."""
        found = [run for run in self.runs.values() if run.parent_id is None]
        return sorted(found, key=lambda run: run.begun)

    # ---- the protocol

    def take(self, method: str, path: str, kind: str, body: bytes) -> None:
        with self._lock:
            self.requests.append((method, path))
            self.received += body
            if path.endswith("/runs/multipart"):
                self._take_parts(kind, body)
            elif path.endswith("/runs/batch"):
                found = json.loads(body)
                for what in ("post", "patch"):
                    for run in found.get(what) or ():
                        self._take_run(what, run["id"], run)
            elif path.endswith("/feedback"):
                self.feedback.append(json.loads(body))
            elif "/runs" in path and body:
                found = json.loads(body)
                self._take_run(method.lower(), found.get("id") or path.rsplit("/", 1)[-1], found)

    def make(self, method: str, path: str, body: bytes) -> dict[str, Any] | None:
        """Make a dataset, an example or a project. Returns it; None: this is none of them."""
        kind, _, last = path.partition("?")[0].rpartition("/")
        if last not in ("datasets", "examples", "sessions") and not kind.endswith("/examples"):
            return None
        found = json.loads(body)
        with self._lock:
            self.requests.append((method, path))
            if last == "datasets":
                made = {"id": str(uuid.uuid4()), "created_at": "2026-01-01T00:00:00", **found}
                self.datasets[found["name"]] = made
            elif last == "sessions":
                made = {**_PROJECT, **found}
                self.projects.append(made)
            else:
                made = self.examples.setdefault(found["id"], {})
                made.update(found)
            return made

    def _take_run(self, what: str, run_id: str, fields: dict[str, Any]) -> None:
        """What `patch` says of a run holds, also when it comes first: a client sends from several threads."""
        run = self._runs.setdefault(str(uuid.UUID(run_id)), TracedRun(run_id))
        told = {key for key, value in fields.items() if value is not None}
        if what == "patch":
            run.patched |= told
        else:
            told -= run.patched
        run.fields.update({key: fields[key] for key in told})

    def _take_parts(self, kind: str, body: bytes) -> None:
        whole = email.message_from_bytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
        )
        for part in whole.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            content: Any = part.get_payload(decode=True)
            found = re.fullmatch(r"(post|patch|feedback)\.([0-9a-f-]{36})(?:\.(\w+))?", name)
            if found is None:
                continue
            what, run_id, key = found.groups()
            if what == "feedback":
                self.feedback.append(json.loads(content))
            else:
                self._take_run(what, run_id, json.loads(content) if key is None else {key: json.loads(content)})


def _handler(sink: LangSmithSink) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, found: Any) -> None:
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            sink.requests.append(("GET", self.path))
            if self.path.endswith("/info"):
                flags = {"zstd_compression_enabled": sink.compressed}
                batch = {"use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520}
                scale = ("scale_up_nthreads_limit", "scale_up_qsize_trigger", "scale_down_nempty_trigger")
                config = {**batch, **dict.fromkeys(scale, 4)}
                self._answer(200, {"version": "0.12.0", "instance_flags": flags, "batch_ingest_config": config})
            elif "/datasets" in self.path:
                wanted = parse_qs(urlsplit(self.path).query).get("name", [""])[0]
                self._answer(200, [d for name, d in sink.datasets.items() if name == wanted])
            elif "/examples" in self.path:
                self._answer(200, list(sink.examples.values()))
            elif "/sessions" in self.path:
                self._answer(200, [_PROJECT])
            else:
                self._answer(404, {})

        def do_POST(self) -> None:
            if "chunked" in self.headers.get("transfer-encoding", ""):
                body = self._chunks()
            else:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
            if self.headers.get("content-encoding") == "zstd":
                import zstandard

                body = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read()
            if (made := sink.make(self.command, self.path, body)) is not None:
                self._answer(200, made)
                return
            sink.take(self.command, self.path, self.headers.get("content-type", ""), body)
            self._answer(sink.status, {})

        do_PATCH = do_POST

        def _chunks(self) -> bytes:
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def log_message(self, *args: Any) -> None:
            pass

    return Handler
