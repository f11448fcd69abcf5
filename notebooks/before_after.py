"""A table for notebooks: what the old agent was shown, and what the new one is."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage

WHO = {"human": "caller", "tool": "result", "system": "system"}
KEPT, GONE, NEW = "", "color:#98a2b3;text-decoration:line-through", "background:#d3f2ea"


@dataclass(frozen=True)
class BeforeAfter:
    """One operation, and its effect on one conversation."""

    operation: str
    before: Sequence[AnyMessage]
    after: Sequence[AnyMessage]

    def __repr__(self) -> str:
        return f"<{self.operation}: {len(self.before)} messages before, {len(self.after)} after>"

    def _repr_html_(self) -> str:
        kept = {m.id: m for m in self.after}
        known = {m.id for m in self.before}
        before = "".join(_line(m, KEPT if m.id in kept else GONE) for m in self.before)
        after = "".join(_line(m, KEPT if m.id in known else NEW) for m in self.after) or _line(None, GONE)
        cell = 'style="vertical-align:top;text-align:left;width:50%;padding:6px 10px"'
        return (
            f'<table style="width:100%;font-size:13px"><tr><th colspan="2" style="text-align:left;padding:6px 10px">'
            f"<code>{escape(self.operation)}</code></th></tr>"
            f'<tr><th style="text-align:left">before: {len(self.before)}</th>'
            f'<th style="text-align:left">after: {len(self.after)}</th></tr>'
            f"<tr><td {cell}>{before}</td><td {cell}>{after}</td></tr></table>"
        )


def _line(message: AnyMessage | None, style: str) -> str:
    if message is None:
        return '<div style="color:#98a2b3">nothing</div>'
    who = WHO.get(message.type) or message.name or "agent"
    calls = [f"{call['name']}()" for call in message.tool_calls] if isinstance(message, AIMessage) else []
    words = " ".join([message.text, *calls]).strip()
    weight = "600" if isinstance(message, HumanMessage) else "400"
    mono = ";font-family:monospace;font-size:12px" if isinstance(message, ToolMessage) or calls else ""
    return f'<div style="font-weight:{weight}{mono};{style}"><i>{escape(who)}</i> {escape(words)}</div>'
