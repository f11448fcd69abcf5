"""A call of tasks in a process of its own, which is killed while a task is open and taken up by the next one.

Five requests of a caller: a task with a draft, a group in which the caller goes back, two tasks of one tool with a
third one inside the second, a task that is given up, and one of a tool that may act again.
"""

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from crash_support import Fuse, Fused, Ledger, play, unknown
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel, Field

from graph_voice import (
    Agent,
    Conversation,
    Done,
    RunContext,
    Task,
    TaskFailed,
    TaskGroup,
    create_voice_graph,
    function_tool,
)
from graph_voice.messages.pairs import RUNNING
from graph_voice.testing.invariants import check_invariants
from graph_voice.testing.prompts import check_prompt

REQUESTS = ["book", "register", "visit", "cancel", "remind"]
"""The tool that each request of the caller is for, from number 1."""
TURNS = 100
"""So many turns end any call, however often it begins anew."""


class Caller(BaseModel):
    done: list[int] = Field(default_factory=list)


class Draft(BaseModel):
    value: str | None = None


class TaskFuse(Fuse):
    """Counts the moments in which a task is open, or a tool call goes on behind one. It notes in which it killed."""

    conversation: Conversation[Any] | None = None

    def __init__(self, moments: int | None, ledger: Ledger) -> None:
        super().__init__(moments)
        self._ledger = ledger

    def moment(self) -> None:
        stack = self.conversation.state.get("stack") if self.conversation is not None else None
        if not stack:
            return
        if self._left == 0:
            self._ledger.write("killed", str(stack[-1]["task"]))
        super().moment()


# ---- the model and the caller


class TaskRules(BaseChatModel):
    """Does what the caller's last words say. A task asks for its value until the caller has said it."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        check_prompt(messages)
        kind, name = messages[0].text.rstrip(".").split()
        return self._desk(messages) if kind == "Agent" else self._task(name, messages)

    def _desk(self, messages: list[BaseMessage]) -> AIMessage:
        asked = max(i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and m.text.startswith("do "))
        step = int(messages[asked].text.split()[-1])
        results = [m for m in messages[asked:] if isinstance(m, ToolMessage) and m.tool_call_id == f"call-{step}"]
        if results:
            return AIMessage(f"Done {step}: {results[-1].text}")
        return asks(REQUESTS[step - 1], {"step": step}, f"call-{step}", "Working.")

    def _task(self, name: str, messages: list[BaseMessage]) -> AIMessage:
        said = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and m.text.startswith("say ")]
        words = messages[said[-1]].text.split() if said else []
        if not words or words[1] != name:
            return AIMessage(f"What is {name}?")
        if any(isinstance(m, ToolMessage) for m in messages[said[-1] :]):
            return AIMessage(f"Then {name} once more?")
        return asks(*made_of(name, words[2]))

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        reply = self._reply(messages)
        for word in reply.text.split():
            await asyncio.sleep(0)
            yield ChatGenerationChunk(message=AIMessageChunk(word + " "))
        if reply.tool_calls:
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_calls=reply.tool_calls))


def asks(tool: str, args: dict[str, Any], call_id: str | None = None, words: str = "") -> AIMessage:
    return AIMessage(words, tool_calls=[{"name": tool, "args": args, "id": call_id or f"t-{uuid.uuid4().hex[:8]}"}])


def made_of(task: str, value: str) -> tuple[str, dict[str, Any]]:
    """The tool call for what the caller says to a task."""
    if task == "get_email":
        return ("confirm", {}) if value == "yes" else ("record", {"value": value})
    if value == "back":
        return "go_back", {"steps": ["get_name"]}
    if value == "never":
        return "give_up", {"reason": "the caller does not want to"}
    return ("find_hour" if task == "get_hour" else f"complete_{task}"), {"value": value}


def says(conversation: Conversation[Any]) -> str | None:
    """What the caller says next; None at the end of the call."""
    messages = conversation.messages
    done = [int(m.text.split()[-1]) for m in messages if isinstance(m, HumanMessage) and m.text.startswith("do ")]
    running = [frame for frame in conversation.state.get("stack") or () if not frame["done"]]
    if not running:
        return f"do {len(done) + 1}" if len(done) < len(REQUESTS) else None
    task, step = running[-1]["task"], done[-1]
    back = any(isinstance(m, HumanMessage) and m.text == "say get_size back" for m in messages)
    if task == "get_email" and (running[-1]["draft"] or {}).get("value"):
        return "say get_email yes"
    if task == "get_size" and not back:
        return "say get_size back"
    if task == "get_reason":
        return "say get_reason never"
    return f"say {task} {task}-{step}" + ("-again" if task == "get_name" and back else "")


# ---- the graph


def voice_graph(ledger: Ledger, fuse: Fuse) -> Any:
    async def act(ctx: RunContext[Caller], step: int, *found: str) -> str:
        """The effect of a tool: it must not happen twice, and only with what the caller has answered."""
        fuse.moment()
        ledger.write("acted", json.dumps([step, ctx.tool_call_id, *found]))
        fuse.moment()
        await asyncio.sleep(0.002)
        return f"did {step} with {' '.join(found)}"

    def task(name: str, **options: Any) -> Task[str]:
        return Task(name, instructions=f"Task {name}.", **options)

    @function_tool
    async def record(ctx: RunContext[Caller, Draft], value: str) -> str:
        """Record the address."""
        ctx.draft.value = value
        fuse.moment()
        return "Recorded. Ask whether it is right."

    @function_tool(available=lambda run: run.draft.value is not None)
    async def confirm(ctx: RunContext[Caller, Draft]) -> Done:
        """The address is right."""
        fuse.moment()
        return ctx.complete(ctx.draft.value)

    zone = task("get_zone")

    @function_tool(idempotent=True)
    async def find_hour(ctx: RunContext[Caller], value: str) -> Done:
        """Record the hour, with the time zone."""
        return ctx.complete(f"{value}/{await ctx.run_task(zone)}")

    email = task("get_email", draft=Draft, tools=[record, confirm])
    day, reason = task("get_day"), task("get_reason", give_up="The caller does not want to.")
    hour = task("get_hour", tools=[find_hour], tasks=[zone])
    form = TaskGroup("form", [task("get_name"), task("get_city"), task("get_size")])

    @function_tool(needs={"email": email})
    async def book(ctx: RunContext[Caller], step: int, email: str) -> str:
        """Book."""
        ctx.userdata.done = [*ctx.userdata.done, step]
        return await act(ctx, step, email)

    @function_tool
    async def register(ctx: RunContext[Caller], step: int) -> str:
        """Register."""
        found = await ctx.run_task(form)
        ctx.userdata.done = [*ctx.userdata.done, step]
        return await act(ctx, step, *found.values())

    @function_tool
    async def visit(ctx: RunContext[Caller], step: int) -> str:
        """Plan a visit."""
        ctx.userdata.done = [*ctx.userdata.done, step]  # undone while it waits, and made again
        return await act(ctx, step, await ctx.run_task(day), await ctx.run_task(hour))

    @function_tool
    async def cancel(ctx: RunContext[Caller], step: int) -> str:
        """Cancel."""
        try:
            return await act(ctx, step, await ctx.run_task(reason))
        except TaskFailed as failed:
            ctx.userdata.done = [*ctx.userdata.done, step]
            return await act(ctx, step, str(failed.reason))

    @function_tool(idempotent=True)
    async def remind(ctx: RunContext[Caller], step: int) -> str:
        """Remind: may act again, with the same id."""
        found = await ctx.run_task(day)
        ctx.userdata.done = [*ctx.userdata.done, step]
        return await act(ctx, step, found)

    desk = Agent(
        "desk",
        instructions="Agent desk.",
        tools=[book, register, visit, cancel, remind],
        tasks=[email, form, day, hour, reason],
    )
    return create_voice_graph([desk, email, form, day, hour, zone, reason], userdata=Caller, llm=TaskRules())


# ---- the process


async def hold(folder: Path, moments: int | None) -> None:
    """The call, from where it is to its end. The state at its end is left in `end.json`."""
    ledger = Ledger(folder / "ledger.jsonl")
    fuse = TaskFuse(moments, ledger)
    async with Fused.from_conn_string(str(folder / "call.db")) as saver:
        saver.fuse = fuse
        async with Conversation(voice_graph(ledger, fuse), thread_id="call", saver=saver) as conversation:
            fuse.conversation = conversation
            if (resumed := conversation.resumed) is not None:
                ledger.write("resumed", resumed.task or "")
                for call_id in unknown(conversation):
                    ledger.write("unknown", call_id)
                if resumed.unanswered:
                    await play(conversation, conversation.resume("Go on."), ledger, fuse)
            for _ in range(TURNS):
                if (words := says(conversation)) is None:
                    break
                await play(conversation, conversation.turn(words), ledger, fuse)
            check_invariants(conversation)
            end = {
                "messages": [[m.type, m.id, m.text] for m in conversation.messages],
                "done": conversation.userdata.done,
                "agent": conversation.active_agent,
                "stack": conversation.state.get("stack") or [],
            }
    (folder / "end.json").write_text(json.dumps(end))


def main(folder: str, moments: int | None) -> None:
    asyncio.run(hold(Path(folder), moments))


def check(folder: Path) -> int:
    """Raise `AssertionError` for an effect that happened twice or an answer that was lost. Returns in how many
    processes a task was open when they were killed."""
    end = json.loads((folder / "end.json").read_text())
    ledger = Ledger(folder / "ledger.jsonl")
    said = [text.strip() for kind, _, text in end["messages"] if kind == "ai"]
    results = {found: text for kind, found, text in end["messages"] if kind == "tool"}

    # What the caller heard and was stored is there; so is each result that a reply has told.
    for words in ledger.read("heard"):
        assert any(words in text for text in said), words
    for told in ledger.read("told"):
        assert told in results.values() or told == RUNNING, told

    # Each effect once, and only with what the caller has answered to this very request.
    acted: dict[int, list[list[str]]] = {}
    for step, call_id, *found in map(json.loads, ledger.read("acted")):
        assert call_id == f"call-{step}"
        acted.setdefault(step, []).append(found)
    for step, tool in enumerate(REQUESTS, 1):
        answer = results[f"result-call-{step}"]
        assert (step in end["done"]) == answer.startswith(f"did {step} with ")
        if answer.startswith("did "):
            assert answer == f"did {step} with {' '.join(acted[step][-1])}"
        else:
            assert "unknown" in answer, answer
            assert tool != "remind"
        for found in acted.get(step, []):
            assert " ".join(found) in answers_to(step), (step, found)
        assert len(acted.get(step, [])) <= 1 or tool == "remind"
    assert len(end["done"]) == len(set(end["done"]))

    # No answer is lost: a task that has ended once is not asked again, but the one that the caller went back to.
    step, ended = 0, []
    for kind, _, text in end["messages"]:
        if kind == "human" and text.startswith("do "):
            step, ended = step + 1, []
            assert text == f"do {step}"
        elif kind == "tool" and text.endswith((" is complete.", " was given up: the caller does not want to")):
            ended.append(text)
            again = text == "get name is complete." and "say get_size back" in [t for _, _, t in end["messages"]]
            assert ended.count(text) == 1 or (again and ended.count(text) == 2), (step, text)
    assert step == len(REQUESTS)
    ids = [found for _, found, _ in end["messages"]]
    assert len(ids) == len(set(ids))
    assert (end["agent"], end["stack"]) == ("desk", [])
    return len(ledger.read("killed"))


def answers_to(step: int) -> list[str]:
    """What the caller answers to a request: the values that its tool may act with."""
    match REQUESTS[step - 1]:
        case "book":
            return [f"get_email-{step}"]
        case "register":
            rest = f"get_city-{step} get_size-{step}"
            return [f"get_name-{step} {rest}", f"get_name-{step}-again {rest}"]
        case "visit":
            return [f"get_day-{step} get_hour-{step}/get_zone-{step}"]
        case "cancel":
            return ["the caller does not want to"]
        case _:
            return [f"get_day-{step}"]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
