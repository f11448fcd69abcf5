"""A scripted call in a process of its own, which is killed on the way and taken up by the next one."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from pydantic import BaseModel, Field

from graph_voice import Agent, Conversation, Handoff, RunContext, Turn, create_voice_graph, events, function_tool
from graph_voice.testing.invariants import check_invariants
from graph_voice.testing.prompts import check_prompt

STEPS = 6


class Caller(BaseModel):
    steps: list[int] = Field(default_factory=list)


class Ledger:
    """What really happened, in a file that no crash takes back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kind: str, what: str) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps([kind, what]) + "\n")

    def all(self) -> list[tuple[str, str]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [(kind, what) for kind, what in map(json.loads, lines)]

    def read(self, kind: str) -> list[str]:
        return [what for found, what in self.all() if found == kind]


class Fuse:
    """Kills this process at the n-th moment: a write to the store, before or after, a word, a result, a tool."""

    def __init__(self, moments: int | None) -> None:
        self._left = moments

    def moment(self) -> None:
        if self._left is None:
            return
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Rules(BaseChatModel):
    """Does what the caller's last words say, one tool call at a time, and then says that it is done."""

    @property
    def _llm_type(self) -> str:
        return "rules"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _reply(self, messages: list[BaseMessage]) -> AIMessage:
        check_prompt(messages)
        asks = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage) and m.text.startswith("do ")]
        if not asks:
            return AIMessage("Hello, this is me.")  # the new agent is shown nothing of what was before
        asked = asks[-1]
        step = int(messages[asked].text.split()[-1])
        results = [m for m in messages[asked:] if isinstance(m, ToolMessage)]
        if results:
            return AIMessage(f"Done {step}: {results[-1].text}")
        if step % 3 == 0:
            name = "transfer_to_b" if "Agent a" in messages[0].text else "transfer_to_a"
            return AIMessage("", tool_calls=[{"name": name, "args": {}, "id": f"move-{step}"}])
        name = "charge" if step % 2 else "note"
        return AIMessage("Working.", tool_calls=[{"name": name, "args": {"step": step}, "id": f"call-{step}"}])

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
        for word in reply.text.split(" "):
            await asyncio.sleep(0)
            yield ChatGenerationChunk(message=AIMessageChunk(word + " "))
        for call in reply.tool_calls:
            chunk = {"name": call["name"], "args": json.dumps(call["args"]), "id": call["id"], "index": 0}
            yield ChatGenerationChunk(
                message=AIMessageChunk("", tool_call_chunks=[{**chunk, "type": "tool_call_chunk"}])
            )  # type: ignore[list-item]


def voice_graph(ledger: Ledger, fuse: Fuse) -> Any:
    @function_tool
    async def charge(ctx: RunContext[Caller], step: int) -> str:
        """Charge: must never act twice."""
        fuse.moment()
        ledger.write("charged", str(step))
        fuse.moment()
        await asyncio.sleep(0.002)
        ctx.userdata.steps = [*ctx.userdata.steps, step]
        return f"charged {step}"

    @function_tool(idempotent=True)
    async def note(ctx: RunContext[Caller], step: int) -> str:
        """Note: may act again, with the same id."""
        ledger.write("noted", str(ctx.tool_call_id))
        fuse.moment()
        await asyncio.sleep(0.002)
        ctx.userdata.steps = [*ctx.userdata.steps, step]
        return f"noted {step}"

    def agent(name: str, other: str) -> Agent:
        to = Handoff(other, f"To {other}.")
        return Agent(name, instructions=f"Agent {name}.", tools=[charge, note], handoffs=[to], on_enter="Say hello.")

    return create_voice_graph([agent("a", "b"), agent("b", "a")], userdata=Caller, llm=Rules())


class Fused(AsyncSqliteSaver):
    fuse: Fuse

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        self.fuse.moment()
        put = await super().aput(*args, **kwargs)
        self.fuse.moment()
        return put

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        self.fuse.moment()
        await super().aput_writes(*args, **kwargs)
        self.fuse.moment()


async def hold(folder: Path, fuse: Fuse) -> None:
    """The call, from where it is to its end. The state at its end is left in `end.json`."""
    ledger = Ledger(folder / "ledger.jsonl")
    async with Fused.from_conn_string(str(folder / "call.db")) as saver:
        saver.fuse = fuse
        async with Conversation(voice_graph(ledger, fuse), thread_id="call", saver=saver) as conversation:
            if conversation.resumed is not None and conversation.resumed.unanswered:
                lost = unknown(conversation)[-len(conversation.resumed.unknown) or STEPS :]
                for call_id in lost:
                    ledger.write("unknown", call_id)
                await play(conversation, conversation.resume("Go on."), ledger, fuse)
                for call_id in lost:
                    ledger.write("settled", call_id)
            done = {int(m.text.split()[-1]) for m in conversation.messages if isinstance(m, HumanMessage)}
            for step in range(1, STEPS + 1):
                if step not in done:
                    await play(conversation, conversation.turn(f"do {step}"), ledger, fuse)
            check_invariants(conversation)
            end = {
                "messages": [[m.type, m.id, m.text] for m in conversation.messages],
                "steps": conversation.userdata.steps,
                "agent": conversation.active_agent,
            }
    (folder / "end.json").write_text(json.dumps(end))


def unknown(conversation: Conversation[Any]) -> list[str]:
    """The calls of which nobody knows whether they took effect, in order."""
    return [m.tool_call_id for m in conversation.messages if isinstance(m, ToolMessage) and "unknown" in m.text]


async def play(conversation: Conversation[Any], turn: Turn, ledger: Ledger, fuse: Fuse) -> None:
    """A front end that plays everything; what it says that the caller heard is in the ledger once it is stored."""
    turn.commit()
    heard: dict[str, str] = {}
    told = set()
    async for event in turn:
        fuse.moment()
        match event:
            case events.Text(message_id=message_id, text=text) | events.Say(message_id=message_id, text=text):
                heard[message_id] = heard.get(message_id, "") + text
                turn.heard(message_id, heard[message_id])
                for result in told - {None}:
                    ledger.write("told", str(result))
                told.clear()
            case events.ToolCalls(calls=calls):
                for call in calls:
                    turn.allow(call.id)
            case events.ToolResult(output=output):
                told.add(output)
            case events.HandedOff(call_id=call_id):
                turn.confirm_handoff(call_id)
    turn.close()
    await conversation.flush()
    for text in heard.values():
        ledger.write("heard", text.strip())
    fuse.moment()


def main(folder: str, moments: int | None) -> None:
    asyncio.run(hold(Path(folder), Fuse(moments)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
