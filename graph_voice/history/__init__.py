"""Public. Chat history operations: what a handoff carries, as small values that compose with `|`.

`history.exclude_instructions() | history.truncate(max_items=6)` is data: you declare it on a `Handoff`, or return it
from a node as an update of `chat_ctx`. Checkpoints store it as a plain dict, and LangGraph Studio shows it. An *item*
is one LangChain message. Each operation follows the method of LiveKit's `ChatContext` with the same name, with one
difference: its result always satisfies the chat APIs' pairing rule (see `graph_voice.messages.pairs`).
"""

from graph_voice.history.apply import apply
from graph_voice.history.context import view
from graph_voice.history.operation import Operation, from_dict
from graph_voice.history.operations import (
    custom,
    exclude_empty,
    exclude_instructions,
    exclude_tool_calls,
    fresh,
    full,
    last_turns,
    only_tools,
    resume,
    summarize,
    trim_tokens,
    truncate,
    userdata_summary,
    when,
)
from graph_voice.history.pure_operations import is_made
from graph_voice.history.reducers import reducer

__all__ = [
    "Operation",
    "apply",
    "custom",
    "exclude_empty",
    "exclude_instructions",
    "exclude_tool_calls",
    "fresh",
    "from_dict",
    "full",
    "is_made",
    "last_turns",
    "only_tools",
    "reducer",
    "resume",
    "summarize",
    "trim_tokens",
    "truncate",
    "userdata_summary",
    "view",
    "when",
]
