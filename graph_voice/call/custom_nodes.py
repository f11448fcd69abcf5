"""What custom nodes say and write: users' own nodes, subgraphs, and whole third-party graphs."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    AnyMessage,
    BaseMessage,
    ToolMessage,
    convert_to_messages,
)
from langgraph.runtime import RunControl

from graph_voice import events
from graph_voice.call.one_by_one import OneByOne
from graph_voice.call.retold import Attempts, Retelling
from graph_voice.graph.roles import Roles
from graph_voice.history.reducers import merge_messages, overwrite_in
from graph_voice.messages.provider_data import with_words
from graph_voice.messages.spoken import StreamedWords, as_spoken, words_of
from graph_voice.turn.nodes_side import NodesSide
from graph_voice.turn.record import Item, ModelStep, Rewrite, ToolCallRecord

__all__ = ["CustomNodes"]


class CustomNodes:
    """Follows the custom nodes of one run.

    Their words and tool calls are recorded as they come. What else they make of `messages` is what LangGraph has made
    of it when their step ends, whatever the channel's reducer does.

    Args:
        turn: the turn whose run it is.
        roles: the graph's roles.
        known: message id -> message, as they were before the run. A subgraph returns the whole conversation, of which
            only its own messages are new.
        attempts: which model calls are of a node that runs again; None in a graph without a `RetryPolicy`.
        thinkers: the nodes whose model closes a thought that it has not opened. More are added.
    """

    def __init__(
        self,
        turn: NodesSide,
        roles: Roles,
        known: Mapping[Any, BaseMessage],
        attempts: Attempts | None,
        thinkers: set[str],
    ) -> None:
        self._turn = turn
        self._roles = roles
        self._known = known
        self._attempts = attempts
        self._streams = StreamedWords(thinkers)
        self._running: dict[str, tuple[str, ...]] = {}
        """Task id -> the names of its node and the nodes around it, outermost first."""
        self._order = OneByOne()
        self._finished: list[tuple[tuple[str, ...], str, Any]] = []
        """Nodes that are over: where, which, and what they wrote to `messages`, until their task has ended."""
        self._said: list[tuple[str, str, int]] = []
        """Which task has said which message, and how often a task around it had failed."""
        self._retold: dict[str, Retelling] = {}
        self._repeated: dict[tuple[str, int], int] = {}
        """How many messages a task that runs again has begun, by how often it has failed."""

        resumed = turn.run.resumes
        self.shown: dict[str, tuple[str, events.ToolCall] | None] = {**resumed.shown} if resumed is not None else {}
        """The tool calls that were shown, and who has made them; None when their result was shown too."""
        self.failed: str | None = None
        """The node that has failed."""
        self.asking: dict[str, str] = {}
        """Which node has asked a question, by LangGraph's id of it."""

        self._list: dict[str, BaseMessage] | None = None
        """The run's `messages` after its last step."""
        self._written: list[tuple[str, Any]] = []
        """What custom nodes have written to it since."""
        self._ids: dict[str, str] = {}
        """The id of a message in the run -> the id under which it is remembered."""
        self._unnamed: list[tuple[AIMessage, str]] = []
        """Messages that a node has returned without an id, and the ids under which they are remembered."""

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

    @property
    def running(self) -> str:
        """The node that runs; "" if several do."""
        names = {path[0] for path in self._running.values()}
        return names.pop() if len(names) == 1 else ""

    def _only_speaking(self) -> bool:
        """Whether only models whose words are spoken are running: then stopping at once loses nothing."""
        paths = set(self._running.values())
        leaves = [p for p in paths if not any(q != p and q[: len(p)] == p for q in paths)]
        return all(self._roles.speaker(path) is not None for path in leaves)

    def follow(self, part: Mapping[str, Any]) -> None:
        """One part of LangGraph's stream: mode "messages" or "tasks", or "updates" of a graph inside the graph."""
        outer = tuple(name.partition(":")[0] for name in part["ns"])
        if part["type"] == "updates":
            cached = part["data"].get("__metadata__", {}).get("cached")
            for node, update in part["data"].items():
                if cached:
                    self._cached_inside((*outer, node), part["ns"], update)
                else:
                    self._finished.append((tuple(part["ns"]), node, update))
        elif part["type"] == "tasks":
            self._task(part["data"], part["ns"], outer)
        else:
            message, metadata = part["data"]
            node = metadata.get("langgraph_node", "")
            path = outer if outer and outer[-1] == node else (*outer, node)
            self._words(path, message, metadata)

    def _task(self, task: Mapping[str, Any], where: Sequence[str], outer: tuple[str, ...]) -> None:
        if "triggers" in task:
            self._running[task["id"]] = (*outer, task["name"])
            return
        path = self._running.pop(task["id"], None)
        speaker = (*where, f"{task['name']}:{task['id']}")
        if not where:
            self.failed = task["name"] if task.get("error") else self.failed
            self.asking.update((found["id"], task["name"]) for found in task.get("interrupts") or ())
        says = self._roles.speaker((*outer, task["name"]))
        for found in [one for one in self._finished if one[:2] == (tuple(where), task["name"])]:
            self._finished.remove(found)
            self._take_finished(says, speaker, found[2])
        if path is not None and says is not None:
            self._order.ended(speaker, self._turn.said)

    def _words(self, path: tuple[str, ...], message: Any, metadata: Mapping[str, Any]) -> None:
        speaker = self._roles.speaker(path)
        if speaker is None or metadata.get("speak") is False or self._roles.is_hook(path):
            return  # an inner node may be declared silent
        if not isinstance(message, AIMessage) or not message.id:
            return
        message_id, text = message.id, self._streams.of(path[-1], message.id, message)
        task = str(metadata.get("langgraph_checkpoint_ns", ""))
        voice = (*task.split("|"), message_id)

        def say() -> None:
            if isinstance(message, AIMessageChunk) or self._is_new(speaker, message):
                self._say(speaker, task, message_id, text)

        if text:
            self._order.speak(voice, say)
        if isinstance(message, AIMessageChunk) and message.chunk_position == "last":
            self._order.ended(voice)

    def _say(self, speaker: str, task: str, message_id: str, delta: str) -> None:
        """Say a piece of a streamed message, without what an earlier attempt of its node has said already."""
        again = self._attempts.again(message_id) if self._attempts is not None else None
        if again is not None and message_id not in self._retold:
            self._begin_again(task, message_id, *again)
        if (retold := self._retold.get(message_id)) is not None:
            delta = retold.more(delta)
            if retold.differs:
                self._ids.pop(message_id, None)
        heard_as = self._ids.get(message_id, message_id)
        if not any(said == heard_as for _, said, _ in self._said):
            self._said.append((task, heard_as, again[1] if again is not None else 0))
        if delta:
            self._turn.say_text(speaker, heard_as, delta)

    def _begin_again(self, task: str, message_id: str, failed: str, times: int) -> None:
        """A message of a node that runs again: it stands for the one that the node said first in its place."""
        place = self._repeated.get((failed, times), 0)
        self._repeated[failed, times] = place + 1
        inside = (failed, f"{failed}|")
        before = [said for t, said, n in self._said if (t == failed or t.startswith(inside[1])) and n < times]
        told = before[place] if place < len(before) else None
        found = self._turn.record.spoken(told) if told is not None else None
        self._retold[message_id] = Retelling(found[1].produced if found is not None else "")
        if told is not None:
            self._ids[message_id] = told

    def _take_finished(self, says: str | None, speaker: tuple[str, ...], update: Any) -> None:
        """A task has ended: take what it has written, behind the words of those who speak before it."""
        if len(speaker) > 1:
            root = speaker[0].partition(":")[0]
            if root in self._roles.subgraphs:
                for message in _messages_in(update):
                    self._show(root, message)
            if says is not None:
                for message in _ai_messages(update):
                    self._order.speak((*speaker, ""), partial(self._say_rest, says, message.id, words_of(message)))
            return
        node = speaker[0].partition(":")[0]
        if says is not None and any(words_of(message) for message in _ai_messages({"messages": update})):
            self._order.speak((*speaker, ""), lambda: self._take(node, update))
        else:
            self._take(node, update)

    def _cached_inside(self, path: tuple[str, ...], where: Sequence[str], update: Any) -> None:
        """LangGraph did not run a node inside, since it had what the node writes: say it as the node would."""
        if (says := self._roles.speaker(path)) is None:
            return
        voice = (*where, f"cached-{uuid.uuid4()}")
        messages = _ai_messages(update)
        self._order.speak(voice, lambda: self._take(says, messages, cached=True))
        self._order.ended(voice, self._turn.said)

    def _say_rest(self, speaker: str, message_id: str | None, text: str) -> None:
        """Say what this text has more than what was said already (a line of a tool), if it begins with that."""
        if message_id is None:
            return
        known = self._turn.record.spoken(message_id)
        said = known[1].produced if known is not None else ""
        if said.strip() and text.startswith(said) and text[len(said) :].strip():
            self._turn.say_text(speaker, message_id, text[len(said) :])

    def _is_new(self, node: str, message: AIMessage) -> bool:
        return (
            not self._was_there(message.id)
            and self._turn.record.spoken(str(message.id)) is None
            and self._streamed(node, message) is None
        )

    def _streamed(self, node: str, message: AIMessage) -> ModelStep | None:
        """The step whose words were streamed, when the node returns them as a message with another id."""
        words = words_of(message).strip()
        for step in self._turn.record.steps():
            if step.agent == node and step.message is None and step.words.produced.strip() == words:
                return step
        return None

    # ---- when a node is done

    def messages(self, node: str, update: Any, *, cached: bool = False) -> None:
        """A custom node has written this to `messages`. From a cache: LangGraph did not run it."""
        self._written.append((node, update))
        if cached or not self._running:
            self._take(node, update, cached=cached)
        else:
            self._finished.append(((), node, update))

    def _take(self, node: str, update: Any, *, cached: bool = False) -> None:
        """Record the words and tool calls of a finished node. Its tool calls have run; its speech still has to be
        heard."""
        messages = convert_to_messages(_listed(update))
        for message in self._anew(messages) if cached else messages:
            self._take_message(node, message)

    def _anew(self, messages: Sequence[BaseMessage]) -> Iterator[BaseMessage]:
        """What a node has written once more, by its cache: its words and tool calls are new ones all the same."""
        new: dict[str | None, str] = {}
        for message in messages:
            if isinstance(message, AIMessage) and self._was_there(message.id):
                new.update((c["id"], f"{c['id']}-{uuid.uuid4().hex[:8]}") for c in message.tool_calls)
                calls = [{**c, "id": new[c["id"]]} for c in message.tool_calls]
                yield message.model_copy(update={"id": f"run-{uuid.uuid4()}", "tool_calls": calls})
            elif isinstance(message, ToolMessage) and message.tool_call_id in new:
                call_id = new[message.tool_call_id]
                yield message.model_copy(update={"id": f"result-{call_id}", "tool_call_id": call_id})
            else:
                yield message

    def _was_there(self, message_id: str | None) -> bool:
        """Whether the node was given this message, and has only returned it."""
        return message_id is not None and (message_id in self._known or message_id in (self._list or ()))

    def _take_message(self, node: str, message: BaseMessage) -> None:
        record = self._turn.record
        self._show(node, message)
        if isinstance(message, ToolMessage):
            if (found := record.call(message.tool_call_id)) is not None and found[1].result is not message:
                found[1].result, found[1].status = message, "done"
            return
        if not isinstance(message, AIMessage) or self._was_there(message.id):
            return
        known = record.spoken(self._ids.get(message.id, message.id)) if message.id is not None else None
        if known is None or known[0].message is None:
            self._finish(node, message)

    def _show(self, node: str, message: BaseMessage) -> None:
        """Tell the front end of this message's tool calls, or that it is the result of one."""
        if self._was_there(message.id):
            return
        if isinstance(message, ToolMessage):
            if (made := self.shown.get(message.tool_call_id)) is not None:
                self.shown[message.tool_call_id] = None
                self._turn.custom_result(*made, message)
        elif isinstance(message, AIMessage):
            calls = [
                events.ToolCall(c["id"], c["name"], dict(c["args"]))
                for c in message.tool_calls
                if c["id"] and c["id"] not in self.shown
            ]
            self.shown.update((call.id, (node, call)) for call in calls)
            if calls:
                self._turn.custom_calls(node, self._ids.get(message.id or "", message.id or ""), calls)

    def _finish(self, node: str, message: AIMessage) -> None:
        speaks = node in self._roles.custom_speakers
        if not speaks and not message.tool_calls:
            return  # its words are not speech
        said = as_spoken(message) if speaks else message
        message_id = self._ids.get(message.id, message.id) if message.id is not None else None
        if message_id is None or self._turn.record.spoken(message_id) is None:
            streamed = self._streamed(node, message) if speaks and said.text else None
            message_id = streamed.words.id if streamed is not None else message_id or f"run-{uuid.uuid4()}"
        self._ids[_key(message)] = message_id
        if message.id is None:
            self._unnamed.append((message, message_id))
        step = self._turn.record.step(node, message_id)
        step.message = said
        step.calls = {c["id"]: ToolCallRecord(c["id"], c["name"], "running") for c in message.tool_calls if c["id"]}
        if step.calls:
            step.at = step.at or time.time()
            if not speaks and message.text:
                # Its tool calls happened; its words were never meant to be heard.
                step.message = message.model_copy(update=with_words(message, ""))
        if speaks and said.text and not step.words.produced:
            self._turn.say_text(node, message_id, said.text)
        elif speaks and message_id == message.id:
            self._say_rest(node, message_id, said.text)

    # ---- when a step is done

    def became(self, messages: Sequence[Any]) -> None:
        """A step has ended, or the run begins: the run's `messages` are these now."""
        before, self._list = self._list, {_key(m): m for m in convert_to_messages(messages)}
        written = self._flush()
        if before is None:
            self._begins(self._list)
        if before is None or not written:
            return
        self._match(before, self._list)
        library = any(self._roles.is_library(node) for node, _ in written)
        self._record(before, self._list, library=library)

    def _begins(self, messages: Mapping[str, BaseMessage]) -> None:
        """The run begins with these messages: a reducer may have dropped some when the caller's words were added."""
        if self._turn.run.resumes is None and not messages.keys() >= self._known.keys():
            kept = [key for key in messages if key in self._known]
            self._turn.remember(Rewrite(frozenset(self._known), kept))

    def over(self) -> None:
        """The run has ended. What was written in a step that has not ended is remembered too."""
        if self._list is not None and self._written:
            updates = [item for _, update in self._written for item in _listed(update, removing=True)]
            messages = merge_messages([*self._list.values()], updates)  # type: ignore[list-item]
            self.became(messages)
        self._flush()

    def library_wrote(self, node: str) -> None:
        """A library node has written to `messages`, and told the turn."""
        self._written.append((node, []))

    def _flush(self) -> Sequence[tuple[str, Any]]:
        """Nobody of this step says anything more. Returns what its nodes have written."""
        for where, node, update in self._finished:
            if not where:
                self._order.speak((node,), partial(self._take, node, update))
        self._finished = []
        self._order.flush()
        written, self._written = self._written, []
        return written if any(not self._roles.is_library(node) for node, _ in written) else ()

    def _match(self, before: Mapping[str, BaseMessage], after: Mapping[str, BaseMessage]) -> None:
        """Find the messages to which LangGraph has given an id, in the node's object or in a copy."""
        for message, remembered in self._unnamed:
            new = (key for key, found in after.items() if key not in {*before, *self._ids} and _same(message, found))
            if (key := message.id or next(new, None)) is not None:
                self._ids[key] = remembered
        self._unnamed = []

    def _record(self, before: Mapping[str, BaseMessage], after: Mapping[str, BaseMessage], *, library: bool) -> None:
        """Record what a step has made of the messages.

        Args:
            before: the run's messages before it.
            after: those after it.
            library: whether a library node was part of the step. It tells the turn itself what it changes.
        """
        record = self._turn.record
        grew = [*after][: len(before)] == [*before] and all(_same(before[key], after[key]) for key in before)
        kept: list[str | AnyMessage] = []
        items: list[Item] = []
        for key, message in after.items():
            changed = key in before and not _same(before[key], message)
            remembered = self._ids.get(key, key)
            step = next((s for s in record.steps() if s.words.id == remembered), None)
            if step is not None and not (changed and not (library and self._roles.is_library(step.agent))):
                items.append(step)
                kept.append(remembered)
            elif (key in before and not changed) or self._is_told(key, message, before):
                kept.append(remembered)
            elif not grew:
                kept.append(self._with_id(key, message))
            elif not isinstance(message, AIMessage):  # words of a node that does not speak are not remembered
                items.append(record.raw([self._with_id(key, message)], time.time()))
        if not grew:
            items.append(record.raw(Rewrite(frozenset(self._ids.get(key, key) for key in before), kept), time.time()))
        record.arrange(self._as_spoken(items))
        self._turn.run.changed()

    def _as_spoken(self, items: Sequence[Item]) -> list[Item]:
        """These items in the graph's order, but what was spoken in the order in which it was: of nodes that ran at the
        same time, the graph knows another one. What is silent stands in front of the words that it led to."""
        pieces: list[list[Item]] = [[]]
        for item in items:
            pieces[-1].append(item)
            if isinstance(item, ModelStep) and item.words.produced:
                pieces.append([])
        place = {id(item): number for number, item in enumerate(self._turn.record.items)}
        *spoken, rest = pieces
        return [item for piece in [*sorted(spoken, key=lambda piece: place[id(piece[-1])]), rest] for item in piece]

    def _is_told(self, key: str, message: BaseMessage, before: Mapping[str, BaseMessage]) -> bool:
        """Whether a new message is remembered already: the result of a recorded tool call, or what a run that is
        resumed had finished before."""
        if key not in before and key in self._known:
            return True
        if not isinstance(message, ToolMessage):
            return False
        found = self._turn.record.call(message.tool_call_id)
        return found is not None and found[1].result is not None and _same(found[1].result, message)

    def _with_id(self, key: str, message: BaseMessage) -> AnyMessage:
        if message.id is not None and key == message.id:
            update = {"id": self._ids.get(key, key)}
        else:
            update = {"id": self._ids.setdefault(key, f"run-{uuid.uuid4()}")}
        copy: Any = message if update["id"] == message.id else message.model_copy(update=update)
        return copy  # type: ignore[no-any-return]


def _key(message: BaseMessage) -> str:
    """What tells a message from the others of the run: its id, or itself while it has none."""
    return message.id if message.id is not None else f"@{id(message)}"


def _listed(update: Any, *, removing: bool = False) -> list[Any]:
    if (overwrite := overwrite_in(update)) is not None:
        return [overwrite] if removing else list(overwrite.value or ())
    return list(update) if isinstance(update, list) else [update]


def _messages_in(update: Any) -> list[BaseMessage]:
    """The messages that a node has written, as far as they are LangChain's."""
    parts = update if isinstance(update, list) else [update]
    found = [part["messages"] for part in parts if isinstance(part, Mapping) and "messages" in part]
    return [message for one in found for message in _listed(one) if isinstance(message, BaseMessage)]


def _ai_messages(update: Any) -> list[AIMessage]:
    return [message for message in _messages_in(update) if isinstance(message, AIMessage)]


def _same(a: BaseMessage, b: BaseMessage) -> bool:
    return a is b or (
        type(a) is type(b)
        and a.content == b.content
        and getattr(a, "tool_calls", None) == getattr(b, "tool_calls", None)
    )
