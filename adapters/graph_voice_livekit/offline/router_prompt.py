"""What the intent router reads of a prompt: the caller's words, instructions, tool calls and their results."""

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from graph_voice_livekit.offline.slot_types import SlotValue

__all__ = ["RouterPrompt"]

_INLINE_INSTRUCTIONS = re.compile(r"\s*<instructions>(.*)</instructions>\s*", re.DOTALL)
# What stands for the first user turn of a prompt: "", ".", "(the call begins)".
_NO_WORDS = re.compile(r"\W*|\s*\(.*\)\s*|\s*\[.*\]\s*|\s*<.*>\s*", re.DOTALL)


class RouterPrompt:
    """What the router reads of the messages."""

    def __init__(self, messages: Sequence[BaseMessage]) -> None:
        self.heard: list[str] = []
        """All that the caller said."""
        self.question, self.length = "", 0
        """The last words of an agent; the number of turns."""
        self.args: dict[str, SlotValue] = {}
        """The arguments of all tool calls, the latest of each name."""
        self.last_args: dict[str, dict[str, Any]] = {}
        """The arguments of each tool's last call."""
        self.results: list[ToolMessage] = []
        """The results at the end of the prompt, each with its tool's name."""
        self.listings: dict[str, str] = {}
        """The latest result of each tool."""
        self._asking: str | None = None
        """The agent that made the last tool calls, until it speaks again."""
        self._own_results: list[ToolMessage] = []
        """Their results, whatever was said since."""
        self._others_spoke = False
        """Whether other agents have spoken since: a task that a tool call waited for."""
        since, late = list[str](), list[str]()  # words of the caller, and instructions, since the last answer
        names: dict[str | None, str] = {}
        for place, message in enumerate(messages):
            text = str(message.text)
            inline = _INLINE_INSTRUCTIONS.fullmatch(text) if isinstance(message, HumanMessage) else None
            if isinstance(message, SystemMessage) or inline:
                late += [inline[1] if inline else text] if place else []
            elif isinstance(message, ToolMessage):
                since = []
                result = message.model_copy(update={"name": names.get(message.tool_call_id, message.name)})
                self.results.append(result)
                self.listings[str(result.name)] = text
                self._own_results.append(result)
            elif isinstance(message, AIMessage):
                since, late, self.results = [], [], []
                self.question, self.length = text or self.question, self.length + 1
                if message.tool_calls or message.name == self._asking:
                    self._asking = message.name if message.tool_calls else None
                    self._own_results, self._others_spoke = [], False
                else:
                    self._others_spoke = True
                for call in message.tool_calls:
                    names[call["id"]] = call["name"]
                    self.last_args[call["name"]] = call["args"]
                    self.args |= {key: arg for key, arg in call["args"].items() if isinstance(arg, str | int)}
            elif isinstance(message, HumanMessage):
                self.length += 1
                if not _NO_WORDS.fullmatch(text):
                    self.results = []
                    since.append(text)
                    self.heard.append(text)
        self.words = since[-1] if since else ""
        """The caller's last words, if nobody has answered them yet."""
        self.unanswered = ". ".join(since)
        """All that the caller said since the last answer."""
        self.instructions = " ".join(late)
        """Instructions for this reply: system messages after the first, or user messages that wrap instructions."""

    def hand_back(self, agent: str) -> None:
        """This agent answers. If its last tool call has waited for a task, the caller's last words were for the task,
        and the agent answers the result."""
        if self._asking == agent and self._others_spoke and self._own_results:
            self.words, self.unanswered, self.results = "", "", self._own_results
