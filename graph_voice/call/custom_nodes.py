"""What custom nodes say and write: users' own nodes, subgraphs, and whole third-party graphs."""

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    RemoveMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.runtime import RunControl
from langgraph.types import Overwrite

from graph_voice.graph.roles import Roles
from graph_voice.messages.provider_data import with_words
from graph_voice.turn.nodes_side import NodesSide
from graph_voice.turn.record import ModelStep, ToolCallRecord

__all__ = ["CustomNodes"]


class CustomNodes:
    """Follows the custom nodes of one run.

    Args:
        turn: the turn whose run it is.
        roles: the graph's roles.
        known: message id -> message, as they were before the run. A subgraph returns the whole conversation, of which
            only its own messages are new.
    """

    def __init__(self, turn: NodesSide, roles: Roles, known: Mapping[Any, BaseMessage]) -> None:
        self._turn = turn
        self._roles = roles
        self._known = known
        self._running: dict[str, tuple[str, ...]] = {}
        """Task id -> the names of its node and the nodes around it, outermost first."""

    # ---- while it runs

    @contextmanager
    def stoppable(self, control: RunControl) -> Iterator[None]:
        """Inside, an interruption cancels a node that is speaking. Any other node ends before the run stops."""
        turn = self._turn

        def stop() -> None:
            control.request_drain("barge-in")

        turn.run.interruption.on_stop = stop
        if turn.interrupted:
            stop()
        with turn.cuttable(self._only_speaking):
            yield

    def _only_speaking(self) -> bool:
        """Whether only models whose words are spoken are running: then stopping at once loses nothing."""
        paths = set(self._running.values())
        leaves = [p for p in paths if not any(q != p and q[: len(p)] == p for q in paths)]
        return all(self._roles.speaker(path) is not None for path in leaves)

    def follow(self, part: Mapping[str, Any]) -> None:
        """One part of LangGraph's stream: mode "messages" or "tasks", or "updates" of a graph inside the graph."""
        outer = tuple(name.partition(":")[0] for name in part["ns"])
        if part["type"] == "updates":
            for node, update in part["data"].items():
                self._added((*outer, node), update)
            return
        if part["type"] == "tasks":
            task = part["data"]
            if "triggers" in task:
                self._running[task["id"]] = (*outer, task["name"])
            elif (path := self._running.pop(task["id"], None)) is not None and self._roles.speaker(path) is not None:
                self._turn.said()
            return
        message, metadata = part["data"]
        node = metadata.get("langgraph_node", "")
        path = outer if outer and outer[-1] == node else (*outer, node)
        self._words(path, message, metadata)

    def _words(self, path: tuple[str, ...], message: Any, metadata: Mapping[str, Any]) -> None:
        speaker = self._roles.speaker(path)
        if speaker is None or metadata.get("speak") is False:
            return  # an inner node may be declared silent
        if not isinstance(message, AIMessage) or not message.id or not message.text:
            return
        if isinstance(message, AIMessageChunk) or self._is_new(speaker, message):
            self._turn.say_text(speaker, message.id, message.text)

    def _added(self, path: tuple[str, ...], update: Any) -> None:
        """A node inside has finished: say what its messages have more than was streamed (a line that a tool said)."""
        if (speaker := self._roles.speaker(path)) is None:
            return
        for part in update if isinstance(update, list) else [update]:
            messages = part.get("messages") if isinstance(part, Mapping) else None
            for message in messages if isinstance(messages, list) else [messages]:
                if isinstance(message, AIMessage) and message.id is not None:
                    self._say_rest(speaker, message.id, message.text)

    def _say_rest(self, speaker: str, message_id: str, text: str) -> None:
        """Say what this text has more than what was said already, if it begins with that."""
        known = self._turn.record.spoken(message_id)
        said = known[1].produced if known is not None else ""
        if said.strip() and text.startswith(said) and text[len(said) :].strip():
            self._turn.say_text(speaker, message_id, text[len(said) :])

    def _is_new(self, node: str, message: AIMessage) -> bool:
        return (
            message.id not in self._known
            and self._turn.record.spoken(str(message.id)) is None
            and self._streamed(node, message) is None
        )

    def _streamed(self, node: str, message: AIMessage) -> ModelStep | None:
        """The step whose words were streamed, when the node returns them as a message with another id."""
        for step in self._turn.record.steps():
            if step.agent == node and step.message is None and step.words.produced.strip() == message.text.strip():
                return step
        return None

    # ---- when it is done

    def messages(self, node: str, update: Any) -> None:
        """Record the messages of a finished node. Its tool calls have run; its speech still has to be heard."""
        if isinstance(update, Overwrite):
            kept = [m for m in convert_to_messages(list(update.value or ())) if not self._take(node, m)]
            self._turn.remember(Overwrite(kept))
            return
        for message in convert_to_messages(update if isinstance(update, list) else [update]):
            if not self._take(node, message):
                self._turn.remember([message])

    def _take(self, node: str, message: BaseMessage) -> bool:
        """Record this message if it can be. Returns whether it is known, so that it is no update of its own."""
        record = self._turn.record
        if isinstance(message, RemoveMessage):
            return False
        if message.id is not None and (before := self._known.get(message.id)) is not None:
            return _same(before, message)
        if isinstance(message, ToolMessage):
            if (found := record.call(message.tool_call_id)) is None:
                return False
            found[1].result, found[1].status = message, "done"
            return True
        if not isinstance(message, AIMessage):
            return False
        known = record.spoken(message.id) if message.id is not None else None
        if known is not None and known[0].message is not None:
            return known[0].message is message or _same(known[0].message, message)
        self._finish(node, message)
        return True

    def _finish(self, node: str, message: AIMessage) -> None:
        speaks = node in self._roles.custom_speakers
        streamed = self._streamed(node, message) if speaks and message.text else None
        if message.id is not None and self._turn.record.spoken(message.id) is not None:
            streamed = None
        message_id = streamed.words.id if streamed is not None else message.id or f"run-{uuid.uuid4()}"
        step = self._turn.record.step(node, message_id)
        step.message = message
        step.calls = {c["id"]: ToolCallRecord(c["id"], c["name"], "running") for c in message.tool_calls if c["id"]}
        if step.calls:
            step.at = step.at or time.time()
            if not speaks and message.text:
                # Its tool calls happened; its words were never meant to be heard.
                step.message = message.model_copy(update=with_words(message, ""))
        if speaks and message.text and not step.words.produced:
            self._turn.say_text(node, message_id, message.text)
        elif speaks:
            self._say_rest(node, message_id, message.text)


def _same(a: BaseMessage, b: BaseMessage) -> bool:
    return (
        type(a) is type(b)
        and a.content == b.content
        and getattr(a, "tool_calls", None) == getattr(b, "tool_calls", None)
    )
