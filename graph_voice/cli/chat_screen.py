"""What a text conversation looks like: who speaks, the words as they come, what is done between them."""

import json
import logging
import traceback
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from rich.console import Console

from graph_voice import events

__all__ = ["LogLines", "Screen"]

_COLORS = ("cyan", "magenta", "green", "yellow", "blue", "bright_red", "bright_cyan", "bright_magenta")
_QUIET = "dim"
_LONGEST = 1000
"""Characters of a tool's result that are shown; `/history` shows all."""
# A model's or a tool's words may not move the cursor, ring the bell or change colors.
_CONTROLS = {code: None for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if chr(code) not in "\n\t"}


class Screen:
    """Writes a conversation to a console, line by line and within a line as the words come.

    Args:
        console: rich decides what it can do: colors only on a terminal, and none with NO_COLOR.
        agents: the agents that may speak. Colors are assigned in this order.
        prompts: whether somebody types, so that a prompt is shown.
    """

    def __init__(self, console: Console, agents: Sequence[str], *, prompts: bool) -> None:
        self.console = console
        self.prompts = prompts
        self._colors = {agent: _COLORS[i % len(_COLORS)] for i, agent in enumerate(agents)}
        self._open: str | None = None
        """The message whose line has not ended yet."""
        self._told: list[BaseException] = []
        """Errors that were shown: the log and the turn both report them."""

    # ---- the conversation

    def prompt(self) -> None:
        """Ask for the next line, if somebody types."""
        self._end_line()
        if self.prompts:
            self._write("you: ", "bold", end="")
            self._open = "prompt"

    def typed(self, line: str) -> None:
        """The newline that was typed has ended the prompt's line. What comes from a pipe is not on the screen yet."""
        self._open = None
        if line and not self.prompts and not line.startswith("/"):
            self._write(f"you: {line}", "bold")

    def words(self, agent: str, message_id: str, text: str) -> None:
        """A piece of what an agent says."""
        if self._open != message_id:
            self._end_line()
            self._write(f"{agent}: ", f"bold {self._color(agent)}", end="")
            self._open = message_id
        self._write(text, self._color(agent), end="")

    def calls(self, event: events.ToolCalls) -> None:
        for call in event.calls:
            self.note(f"  {_call(call.name, call.args)}")

    def result(self, event: events.ToolResult) -> None:
        text = event.output
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]}... ({len(text)} characters)"
        style = "red" if event.is_error else _QUIET
        self._line(f"  {event.name} = {_indented(text)}", style)

    def handed_off(self, event: events.HandedOff) -> None:
        self._end_line()
        self._write(f"  {event.old_agent} -> ", _QUIET, end="")
        self._write(event.new_agent, f"bold {self._color(event.new_agent)}")

    def failed(self, event: events.Failed) -> None:
        """Show that a model or a node raised, unless the log has shown it."""
        if not any(event.error is told for told in self._told):
            self._line(f"error: {_explained(f'agent {event.agent} failed', event.error)}", "red")

    def log(self, record: logging.LogRecord) -> None:
        """Show a warning or an error that the library logs, such as a tool that raised."""
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        if error is not None:
            self._told.append(error)
            text = _explained(text, error)
        severe = record.levelno >= logging.ERROR
        self._line(f"{record.levelname.lower()}: {text}", "red" if severe else "yellow")

    def interrupted(self) -> None:
        self.note("  (interrupted)")

    def timing(self, first: float | None, whole: float, tokens: tuple[int, int] | None) -> None:
        """Seconds to the first word (None: nothing was said) and of the whole turn; tokens in and out, if known."""
        said = f"{first:.2f} s to the first word, " if first is not None else ""
        counted = f", {tokens[0]} tokens in, {tokens[1]} out" if tokens is not None else ""
        self.note(f"  {said}{whole:.2f} s in all{counted}")

    # ---- on request

    def note(self, text: str) -> None:
        """A line that is not speech."""
        self._line(text, _QUIET)

    def plain(self, text: str) -> None:
        """Text as it is, in lines of its own."""
        self._line(text.rstrip("\n"), None)

    def history(self, messages: Sequence[BaseMessage]) -> None:
        """Everything that is remembered: what was heard and done."""
        if not messages:
            self.note("Nothing was said yet.")
        for message in messages:
            match message:
                case HumanMessage():
                    self._line(f"you: {message.text}", "bold")
                case AIMessage():
                    name = message.name or "agent"
                    if message.text:
                        self._line(f"{name}: {message.text}", self._color(name))
                    for call in message.tool_calls:
                        self.note(f"  {_call(call['name'], call['args'])}")
                case ToolMessage():
                    self.note(f"  {message.name} = {_indented(message.text)}")
                case SystemMessage():
                    self.note(f"instructions: {message.text}")
                case _:
                    self.note(f"{message.type}: {message.text}")

    # ---- writing

    def close(self) -> None:
        """End the line that is open, so that the shell's prompt has its own."""
        self._end_line()

    def _end_line(self) -> None:
        if self._open is not None:
            self._open = None
            self._write("", None)

    def _line(self, text: str, style: str | None) -> None:
        self._end_line()
        self._write(text, style)

    def _write(self, text: str, style: str | None, end: str = "\n") -> None:
        # `out`, not `print`: words come in pieces, so nothing may be wrapped, highlighted or read as markup.
        self.console.out(text.translate(_CONTROLS), style=style, end=end, highlight=False)

    def _color(self, agent: str) -> str:
        return self._colors.get(agent, "default")


class LogLines(logging.Handler):
    """Shows what the library logs where it happens in the conversation."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.log(record)


def _call(name: str, args: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False, default=str)}" for key, value in args.items())
    return f"{name}({given})"


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _explained(text: str, error: BaseException) -> str:
    """With the error, and the last line of code that it came from."""
    said = f"{text}: {type(error).__name__}: {error}".rstrip(": ")
    frames = traceback.extract_tb(error.__traceback__)
    return f"{said} ({frames[-1].filename}:{frames[-1].lineno})" if frames else said
