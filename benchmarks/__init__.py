"""What graph_voice costs, beside a plain LiveKit agent and `LLMAdapter`: `python -m benchmarks --help`."""
