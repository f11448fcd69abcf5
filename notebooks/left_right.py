"""LiveKit's samples and graph_voice's, side by side: the sources, and the result of the same call with both."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

SUPPORT = Path(__file__).resolve().parent.parent / "tests" / "support"
sys.path.insert(0, str(SUPPORT))

# The tests run the same samples, and the same call with both.
from page_samples.both_sides import OnlyLiveKit, Told, sample, told_by_livekit, told_by_ours  # noqa: E402

__all__ = ["LeftRight", "OnlyLiveKit", "sample", "sources", "told_by_both"]

# It would warn about a missing voice detector, which a call in text does not need.
logging.getLogger("livekit.agents").setLevel(logging.ERROR)

_PRE = "font-family:ui-monospace,monospace;font-size:11px;line-height:1.35;overflow-x:auto;white-space:pre-wrap"
_CELL = "vertical-align:top;text-align:left;width:50%;padding:6px 10px"


@dataclass(frozen=True)
class LeftRight:
    """Two columns."""

    left: str
    right: str
    heads: tuple[str, str] = ("LiveKit", "graph_voice")

    def __repr__(self) -> str:
        return f"<{self.heads[0]}, left, and {self.heads[1]}, right>"

    def _repr_html_(self) -> str:
        heads = "".join(f'<th style="text-align:left;padding:6px 10px">{escape(head)}</th>' for head in self.heads)
        cells = "".join(f'<td style="{_CELL}">{body}</td>' for body in (self.left, self.right))
        return f'<table style="width:100%;table-layout:fixed"><tr>{heads}</tr><tr>{cells}</tr></table>'


def sources(livekit: str, ours: str) -> LeftRight:
    """The files of two samples."""
    formatter = HtmlFormatter(noclasses=True, nobackground=True, prestyles=_PRE)

    def shown(name: str) -> str:
        text = (SUPPORT / "page_samples" / f"{name}.py").read_text()
        return highlight(text, PythonLexer(), formatter)

    return LeftRight(shown(livekit), shown(ours))


async def told_by_both(
    livekit: Any, ours: Any, script: Sequence[Any], steps: Sequence[str], make_session: Any = None
) -> LeftRight:
    """The same call twice, with one scripted model: what LiveKit's `session.history` contains afterwards.

    Args:
        livekit: LiveKit's first agent.
        ours: the graph.
        script: the model's replies.
        steps: what the caller says.
        make_session: makes LiveKit's session from the model, where the sample does so itself.
    """
    theirs = await told_by_livekit(livekit, script, steps, make_session)
    return LeftRight(_told(theirs), _told(await told_by_ours(ours, script, steps)))


def _told(told: Told) -> str:
    lines = [_event(event) for event in told.history]
    lines.append(f"active agent: <b>{escape(told.active_agent)}</b>")
    if told.userdata:
        lines.append(f"userdata: {escape(str(told.userdata))}")
    return "".join(f'<div style="font-size:13px">{line}</div>' for line in lines)


def _event(event: tuple[Any, ...]) -> str:
    match event:
        case ("message", role, text):
            who = {"user": "caller", "assistant": "agent"}[role]
            return f"<b>{who}</b> {escape(text)}"
        case ("function_call", name, arguments):
            return f"<code>{escape(name)} {escape(str(arguments))}</code>"
        case ("function_call_output", _, output, is_error):
            return f"<code>{'error: ' if is_error else '= '}{escape(output)}</code>"
        case ("agent_handoff", old, new):
            return f"<i>{escape(str(old or 'start'))} &rarr; {escape(new)}</i>"
    raise ValueError(event)
