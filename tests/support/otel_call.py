"""A spoken call with LiveKit's OpenTelemetry and LangSmith's `otel` mode; prints the spans. Run by a test."""

import json

from livekit.agents.telemetry import set_tracer_provider
from native_support import SCRIPT, by_graph, speak, spoken_call
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from graph_voice.testing import run
from graph_voice.tracing import flush_traces


def main() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)  # LangSmith's, and every other's
    set_tracer_provider(provider)  # LiveKit's
    run(spoken_call(by_graph(SCRIPT, thread_id="call-7"), speak))
    assert flush_traces(60)
    found = [
        {
            "id": span.context.span_id,
            "trace": span.context.trace_id,
            "parent": span.parent.span_id if span.parent is not None else None,
            "name": span.name,
            "start": span.start_time,
            "end": span.end_time,
            "attributes": {k: v for k, v in (span.attributes or {}).items() if isinstance(v, str)},
        }
        for span in exporter.get_finished_spans()
        if span.context is not None
    ]
    print(json.dumps(found))


main()
