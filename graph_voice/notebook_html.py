"""A conversation as the last line of a notebook's cell: the words as heard, what was done, the active agent."""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from graph_voice.call.conversation import Conversation
from graph_voice.drawing import agents_of, to_svg
from graph_voice.errors import GraphVoiceError
from graph_voice.palette import hues
from graph_voice.userdata.channel import public_fields

__all__ = ["conversation_html"]

_LONGEST = 400
"""Characters of a tool's result that are shown."""
_SHEET = (
    "display:flex;flex-wrap:wrap;gap:24px;padding:16px 20px;border:1px solid #e4e7ec;border-radius:12px;"
    "background:#fdfdfe;color:#1f2937;font:14px/1.5 ui-sans-serif,system-ui,sans-serif;text-align:left"
)
_QUIET = "color:#667085;font-size:12px"
_MONO = "font-family:ui-monospace,monospace;font-size:12px"
_HEAD = "margin:0 0 4px;font-weight:600;font-size:12px;color:#667085;text-transform:uppercase;letter-spacing:.04em"


def conversation_html(conversation: Conversation[Any]) -> str:
    """An HTML fragment without scripts. Secrets in the userdata are not shown; all text is escaped."""
    return (
        f'<div class="graph-voice-conversation" style="{_SHEET}">'
        f'<div style="flex:3 1 340px;min-width:0">{_section("Transcript", _transcript(conversation))}</div>'
        f'<div style="flex:2 1 300px;min-width:0">'
        f"{_section('Userdata', _userdata(conversation))}"
        f"{_section('Handoffs', _handoffs(conversation))}"
        f"{_section('Active agent', _active_agent(conversation))}"
        "</div></div>"
    )


def _section(title: str, body: str) -> str:
    return f'<div style="margin-bottom:14px"><p style="{_HEAD}">{title}</p>{body}</div>'


def _line(body: str, style: str = "") -> str:
    return f'<div style="margin:3px 0;overflow-wrap:anywhere;{style}">{body}</div>'


def _named(name: str, colors: Mapping[str, str]) -> str:
    return f'<b style="color:{colors.get(name, "#475467")}">{escape(name)}</b>'


def _transcript(conversation: Conversation[Any]) -> str:
    messages = conversation.messages
    if not messages:
        return _line("Nothing was said yet.", _QUIET)
    return "".join(_said(messages, conversation))


def _said(messages: Sequence[BaseMessage], conversation: Conversation[Any]) -> Iterator[str]:
    colors = _colors(conversation)
    handoffs = {handoff["tool_call_id"]: handoff for handoff in conversation.handoffs}
    for message in messages:
        match message:
            case HumanMessage():
                yield _line(f"<b>caller</b> {escape(message.text) or _not_text(message)}")
            case AIMessage():
                if message.text or _is_cut(message):
                    cut = f' <span style="color:#b42318" title="cut off here">{_CUT}</span>' if _is_cut(message) else ""
                    yield _line(f"{_named(message.name or 'agent', colors)} {escape(message.text)}{cut}")
                for call in message.tool_calls:
                    shown = json.dumps(call["args"], ensure_ascii=False, default=str)
                    yield _line(f"{escape(call['name'])} {escape(shown)}", f"{_QUIET};{_MONO};padding-left:16px")
            case ToolMessage():
                text = message.text if len(message.text) <= _LONGEST else f"{message.text[:_LONGEST]}..."
                color = ";color:#b42318" if message.status == "error" else ""
                yield _line(f"= {escape(text)}", f"{_QUIET};{_MONO};padding-left:16px{color}")
                if (handoff := handoffs.get(message.tool_call_id)) is not None:
                    yield _line(_way(handoff, colors), "padding-left:16px")
            case _:
                yield _line(f"{escape(message.type)}: {escape(message.text)}", _QUIET)


_CUT = "\N{BLACK SCISSORS}\N{VARIATION SELECTOR-15} cut off"


def _is_cut(message: AIMessage) -> bool:
    return bool(message.additional_kwargs.get("interrupted"))


def _not_text(message: BaseMessage) -> str:
    kinds = [str(block.get("type")) for block in message.content if isinstance(block, dict)]
    return f'<span style="{_QUIET}">({escape(", ".join(kinds) or "nothing")})</span>'


def _way(handoff: Mapping[str, Any], colors: Mapping[str, str]) -> str:
    old, new = (_named(str(handoff[end] or "nobody"), colors) for end in ("old_agent_id", "new_agent_id"))
    return f"{old} \N{RIGHTWARDS ARROW} {new}"


def _userdata(conversation: Conversation[Any]) -> str:
    known = public_fields(conversation.state.get("userdata"))
    if not known:
        return _line("Nothing is known, or all of it is secret.", _QUIET)
    return "".join(
        _line(f"{escape(name)}: {escape(json.dumps(value, ensure_ascii=False, default=str))}", _MONO)
        for name, value in known.items()
    )


def _handoffs(conversation: Conversation[Any]) -> str:
    colors = _colors(conversation)
    return "".join(_line(_way(handoff, colors)) for handoff in conversation.handoffs) or _line("None.", _QUIET)


def _active_agent(conversation: Conversation[Any]) -> str:
    active = conversation.active_agent
    waits = "".join(_line(f"waits for an answer: {escape(str(i.value))}", _QUIET) for i in conversation.interrupts)
    try:
        drawn = to_svg(conversation.graph, agents_only=True, active=active or None)
    except GraphVoiceError:
        return _line(escape(active)) + waits
    data = base64.b64encode(drawn.encode()).decode()
    # An image, because the ids of two drawings in one page would clash.
    picture = f'<img alt="the graph, {escape(active)} is active" style="max-width:100%"'
    return f'{_line(_named(active, _colors(conversation)))}{waits}{picture} src="data:image/svg+xml;base64,{data}"/>'


def _colors(conversation: Conversation[Any]) -> dict[str, str]:
    """Agent -> its color in the drawing."""
    return {name: hue.line for name, hue in hues(agents_of(conversation.graph)).items()}
