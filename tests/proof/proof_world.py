"""The graph of a scenario, its model and its tools; and the ledger of what really happened."""

import asyncio
import copy
import math
import operator
import re
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.types import interrupt
from proof_scenario import Scenario
from pydantic import BaseModel, Field
from value_support import deep, same

from graph_voice import (
    Agent,
    Conversation,
    Handoff,
    Reply,
    RunContext,
    StopResponse,
    Task,
    TaskGroup,
    ToolError,
    VoiceState,
    create_voice_graph,
    function_tool,
    history,
)
from graph_voice.messages.pairs import ends_task
from graph_voice.testing import ScriptedModel, call, check_prompt, fail, say

__all__ = ["STORY", "World", "remembered"]

STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
HISTORIES = {
    "fresh": history.fresh(),
    "full": history.full(),
    "truncate": history.truncate(max_items=4),
    "last_turns": history.last_turns(2),
    "resume": history.resume(),
    "summary": history.summarize(keep_last_turns=1),
}
KEEPS_SHORT = history.when(max_items=12, then=history.summarize(keep_last_turns=2))
HOLD = "Please hold the line for a moment."
GENERATED = Reply("Ask the caller to hold.")


class Reason(BaseModel):
    """What some transfers take along."""

    reason: str = Field(min_length=3)


REASON = {"reason": "as the caller wishes"}


class Welcomes(Agent):
    """Says a fixed line when it takes the floor."""

    async def on_enter(self, ctx: RunContext[Any]) -> None:
        await ctx.say("Welcome to this desk.")


class KeepsSilent(Agent):
    """Waits for the caller when it takes the floor."""

    async def on_enter(self, ctx: RunContext[Any]) -> None:
        return None


JSON: dict[str | None, tuple[Any, Any]] = {
    "22 digits": (9400110200881234567890, 9400110200881234567890),
    "not a number": ([math.nan, -math.inf], [math.nan, -math.inf]),
    "half a character": ({"\ud83d": "a\ud83d"}, {"\ufffd": "a\ufffd"}),
    "zero": ("a\x00b", "a\x00b"),
    "a mark of ours": ("graph_voice:int:5", "graph_voice:int:5"),
    "deep": (deep(60), deep(60)),
    "nested": ({"a": [{"b": None}, 1.5, True, ""]}, {"a": [{"b": None}, 1.5, True, ""]}),
}
"""Kind -> what a model passes, and what of it comes back from a store."""
DATA: dict[str | None, Any] = {
    "tuple": (1, ("a", 2)),
    "bytes": b"\xff\x00",
    "set": {1, 2},
    "deque": deque([1, 2], maxlen=2),
    "tuple as a key": {(1, 2): "a"},
}

WISHES = {
    "charge": ["charge"],
    "search": ["search"],
    "fail": ["fails"],
    "both": ["charge", "search", "fails"],
    "twice": ["charge", "charge"],
    "refuse": ["refuses"],
    "stop": ["stops"],
    "narrate": ["narrates"],
    "words": ["words"],
    "hold on": ["holds"],
    "note": ["notes"],
    "send": ["sends"],
    "which": ["asks"],
    "fetch": ["fetches"],
    "pass": ["passes"],
    "goodbye": ["hangs_up"],
    "many": ["narrates", "words", "sends", "search"],
    "forms": ["needs_forms"],
    "form": ["needs_form", "search", "needs_form"],
    "book": ["books"],
    "order": ["orders", "books"],
}
"""What the model calls when the caller's words hold this one."""
_TAKES: dict[str, Any] = {"arguments": Reason}
_TAKES_VALUE = {"charge", "search", "narrates", "words", "holds", "notes", "asks", "fetches"}
KINDS: dict[str | None, Callable[..., Agent]] = {"says": Welcomes, "silent": KeepsSilent}


class Audited(VoiceState):
    """With a channel that custom nodes write."""

    audit: Annotated[list[str], operator.add]


@dataclass
class World:
    """What one playing of a scenario is about, whatever the front end."""

    scenario: Scenario
    started: list[tuple[str, str]] = field(default_factory=list)
    """(call id, tool) of each call that began to run, in order: no crash of ours and no barge-in takes it back."""
    finished: list[str] = field(default_factory=list)
    """Ids of the calls whose tool came to its end."""
    entered: list[str] = field(default_factory=list)
    """What `on_enter` methods have done."""
    looked: list[str] = field(default_factory=list)
    """What custom nodes have done."""
    approved: set[str] = field(default_factory=set)
    """Ids of the tool calls that the caller has said yes to."""
    wrong: list[str] = field(default_factory=list)
    """What was done too early."""
    active: Callable[[], str] = lambda: ""
    """Who is active in the front end."""
    hang_up: Callable[[RunContext[Any]], Awaitable[None]] | None = None
    """Ends the call, from a tool."""
    running: int = 0
    leaving: int = 0
    asked: int = 0
    """Requests to the model."""
    said: list[str] = field(default_factory=list)
    """What the caller said, in order."""
    counts: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    _calls: int = 0

    def __post_init__(self) -> None:
        self.model = ScriptedModel(self._answer, first_token=self.scenario["first_token"])

    @property
    def names(self) -> list[str]:
        return [agent["name"] for agent in self.scenario["agents"]]

    @property
    def effects(self) -> list[str]:
        return [call_id for call_id, _ in self.started]

    def wish(self, text: str) -> str:
        """The caller's next words; no two are the same."""
        self.said.append(f"{text} number {len(self.said)}")
        self.log.append(f"    {self.said[-1]}")
        return self.said[-1]

    def graph(self, voice: Callable[[str], Any] = lambda name: None) -> Any:
        agents: list[Any] = []
        self._tasks = self._make_tasks(voice)
        for data in self.scenario["agents"]:
            ways = [
                Handoff(
                    way["to"],
                    history=HISTORIES[way["history"]],
                    say=GENERATED if way["say"] == "generated" else way["say"],
                    on_interruption=way["on_interruption"],
                    **(_TAKES | {"name": f"transfer_to_{way['to']}_for"} if way.get("takes") else {}),
                )
                for way in data["ways"]
            ]
            kind = KINDS.get(data["on_enter"], Agent)
            enters: dict[str | None, Any] = {"instructions": "Greet the caller.", "acts": self._enter}
            options: dict[str, Any] = {"on_enter": enters[data["on_enter"]]} if data["on_enter"] in enters else {}
            if data["on_exit"]:
                options["on_exit"] = self._leaves(0.8 if data["on_exit"] is True else data["on_exit"])
            if self.scenario.get("custom") == "on the way" and ways:
                first = data["ways"][0]
                ways.append(
                    Handoff(f"look_{first['to']}", history=HISTORIES[first["history"]], say=first["say"] and HOLD)
                )
            agents.append(
                kind(
                    data["name"],
                    instructions=f"You are {data['name']}.",
                    tools=self._tools(data["ways"]),
                    handoffs=ways,
                    voice=voice(data["name"]),
                    context=KEEPS_SHORT if data.get("keeps_short") else None,
                    **options,
                )
            )
        agents += self._tasks[:1]
        agents += [self._group] if self._tasks else []
        if (custom := self.scenario.get("custom")) is None:
            return create_voice_graph(agents, llm=self.model, apology="Pardon me.")
        graph = create_voice_graph(agents, llm=self.model, apology="Pardon me.", state_schema=Audited)
        if custom == "behind":
            graph.add_node("log", self._look)
            for name in self.names:
                graph.add_edge(name, "log")
        else:
            for name in {data["ways"][0]["to"] for data in self.scenario["agents"] if data["ways"]}:
                graph.add_node(f"look_{name}", self._look)
                graph.add_edge(f"look_{name}", name)
        return graph

    def _make_tasks(self, voice: Callable[[str], Any]) -> list[Task[str]]:
        found = []
        for data in self.scenario.get("tasks") or ():
            enters = {"instructions": "Ask the caller.", "says": self._says_first, "acts": self._enter}
            options = {"on_enter": enters[data["on_enter"]]} if data["on_enter"] else {}
            if data["on_exit"]:
                options["on_exit"] = self._leaves(data["on_exit"])
            found.append(
                Task(
                    data["name"],
                    result=str,
                    instructions=f"You are {data['name']}.",
                    tools=[self._fills()],
                    give_up="The caller does not want to.",
                    history=HISTORIES[data["history"]],
                    returns=HISTORIES[data["returns"]],
                    voice=voice(data["name"]),
                    **options,
                )
            )
        if found:
            self._group: TaskGroup[Any] = TaskGroup("forms", found[1:])
        return found

    @property
    def _pause(self) -> float:
        """Seconds that what has to do with a task takes. In a calm call none: a barge-in there would meet a handoff."""
        return 0.0 if self.scenario["calm"] else 0.5

    def _fills(self) -> Any:
        @function_tool
        async def fills(ctx: RunContext[Any]) -> Any:
            """Fill the form in: it acts."""
            return ctx.complete(await self._act(ctx, "fills", self._pause))

        return fills

    async def _says_first(self, ctx: RunContext[Any]) -> None:
        await ctx.say("Welcome to this form.")

    async def _look(self, state: Any) -> dict[str, Any]:
        """A custom node: it acts."""
        self.looked.append(f"look {len(self.looked)}")
        return {"audit": [self.looked[-1]]}

    async def _enter(self, ctx: RunContext[Any]) -> None:
        """An `on_enter` method that acts."""
        key = f"enter {len(self.entered)}"
        self.entered.append(key)
        if self.active() != ctx.agent:
            self.wrong.append(f"{ctx.agent} has entered, while {self.active()} is active")
        await asyncio.sleep(0.3)
        ctx.userdata[key] = True
        await ctx.say("Welcome to this desk.")

    # ---- the tools and hooks

    def _tools(self, ways: list[dict[str, Any]]) -> list[Any]:
        @function_tool
        async def charge(ctx: RunContext[Any], value: Any = None) -> str:
            """Charge."""
            return await self._act(ctx, "charge", 0.0)

        @function_tool
        async def search(ctx: RunContext[Any], value: Any = None) -> str:
            """Search for some time."""
            return await self._act(ctx, "search", 3.0)

        @function_tool
        async def fails(ctx: RunContext[Any]) -> str:
            """Fail."""
            self._starts(ctx, "fails")
            raise RuntimeError("no line")

        @function_tool
        async def refuses(ctx: RunContext[Any]) -> str:
            """Tell the model why not."""
            self._starts(ctx, "refuses")
            raise ToolError("not on a Thursday")

        @function_tool
        async def stops(ctx: RunContext[Any]) -> str:
            """Want no reply."""
            self._starts(ctx, "stops")
            raise StopResponse()

        @function_tool
        async def narrates(ctx: RunContext[Any], value: Any = None) -> str:
            """Say what it does while it does it."""

            async def looks() -> None:
                await ctx.say("I am looking for it.")
                await asyncio.sleep(1.0)
                await ctx.say("Still at it.")

            return await self._act(ctx, "narrates", 0.5, looks)

        @function_tool
        async def words(ctx: RunContext[Any], value: Any = None) -> str:
            """Let the model find words for the wait, and tell it how far the tool is."""

            async def finds() -> None:
                await ctx.update("a third of it is done")
                await ctx.update("the first half is done", silent=True)
                await ctx.generate_reply("Tell the caller that it takes a while.")
                await ctx.update("nearly all of it is done")

            return await self._act(ctx, "words", 0.5, finds)

        @function_tool
        async def holds(ctx: RunContext[Any], value: Any = None) -> str:
            """Must not be interrupted."""
            ctx.disallow_interruptions()
            return await self._act(ctx, "holds", 1.0)

        @function_tool(idempotent=True)
        async def notes(ctx: RunContext[Any], value: Any = None) -> str:
            """Note; twice is as once."""
            return await self._act(ctx, "notes", 1.0)

        @function_tool
        async def sends(ctx: RunContext[Any]) -> Any:
            """Find out who can help."""
            self._starts(ctx, "sends")
            await asyncio.sleep(0.4)
            return ctx.handoff(ways[0]["to"], say=HOLD) if ways else "Nobody else is there."

        @function_tool
        async def passes(ctx: RunContext[Any]) -> Any:
            """Act, and pass the caller on."""
            done = await self._act(ctx, "passes", 1.0)
            return ctx.handoff(ways[0]["to"], done) if ways else done

        @function_tool
        async def hangs_up(ctx: RunContext[Any]) -> str:
            """End the call."""
            done = await self._act(ctx, "hangs_up", 0.2)
            assert self.hang_up is not None
            await self.hang_up(ctx)
            return done

        @function_tool(filler="I am on it.", filler_after=1.0, late="merge")
        async def fetches(ctx: RunContext[Any], value: Any = None) -> str:
            """Take long, with a word in between; what comes late is told with what comes next."""
            return await self._act(ctx, "fetches", 4.0)

        @function_tool
        async def asks(ctx: RunContext[Any], value: Any = None) -> str:
            """Ask the caller, and wait for what they say."""
            interrupt("Which of them do you mean?")
            return await self._act(ctx, "asks", 0.5)

        more: list[Any] = []
        if self._tasks:

            @function_tool(tasks=self._tasks[:1])
            async def needs_form(ctx: RunContext[Any]) -> str:
                """Act, once the form is filled in."""
                await ctx.run_task(self._tasks[0])
                return await self._act(ctx, "needs_form", self._pause)

            @function_tool(tasks=[self._group])
            async def needs_forms(ctx: RunContext[Any]) -> str:
                """Act, once two forms are filled in."""
                await ctx.run_task(self._group)
                return await self._act(ctx, "needs_forms", self._pause)

            @function_tool(needs={"form": self._tasks[0]}, approve=self._shall_i)
            async def orders(ctx: RunContext[Any], form: str) -> str:
                """Act, once the form is filled in and the caller agrees."""
                self._is_approved(ctx)
                return await self._act(ctx, "orders", self._pause)

            more = [needs_form, needs_forms, orders]

        @function_tool(approve=self._shall_i)
        async def books(ctx: RunContext[Any]) -> str:
            """Act, if the caller agrees."""
            self._is_approved(ctx)
            return await self._act(ctx, "books", 0.5)

        more.append(books)
        own = [charge, search, fails, refuses, stops, narrates, words, holds, notes, sends, asks, fetches]
        return [*own, passes, hangs_up, *more]

    def _shall_i(self, ctx: RunContext[Any]) -> str:
        return f"Shall I book {ctx.tool_call_id}?"

    def _is_approved(self, ctx: RunContext[Any]) -> None:
        if ctx.tool_call_id not in self.approved:
            self.wrong.append(f"{ctx.tool_call_id} runs, and nobody has said yes")

    def _reads(self, text: str) -> str:
        """The model that reads what the caller answers: every other answer is a yes."""
        asked, number = re.search(r"book (\S+)\?", text), re.search(r"number (\d+)", text)
        assert asked is not None
        if number is None or int(number[1]) % 2:
            return "other"
        self.approved.add(asked[1])
        return "yes"

    def _starts(self, ctx: RunContext[Any], name: str) -> str:
        call_id = str(ctx.tool_call_id)
        self.started.append((call_id, name))
        return call_id

    async def _act(
        self,
        ctx: RunContext[Any],
        name: str,
        seconds: float,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> str:
        call_id = self._starts(ctx, name)
        self.running += 1
        try:
            if first is not None:
                await first()
            await asyncio.sleep(seconds)
        finally:
            self.running -= 1
        # A key of its own: two turns whose tools end at the same time change different things.
        ctx.userdata[call_id] = copy.deepcopy(self.kept)
        self.finished.append(call_id)
        return f"{name} done"

    def _leaves(self, seconds: float) -> Callable[[RunContext[Any]], Awaitable[None]]:
        """An `on_exit` that takes a while."""

        async def leave(ctx: RunContext[Any]) -> None:
            self.leaving += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                self.leaving -= 1

        return leave

    # ---- the model

    def _id(self) -> str:
        self._calls += 1
        return f"c{self._calls}"

    def _answer(self, messages: list[BaseMessage]) -> Any:
        """Do what the caller's last words say; behind a result, say that it is done."""
        self.asked += 1
        asked = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=0)
        text = messages[asked].text
        if text.startswith("The question:"):
            return self._reads(text)
        if "Ask the caller to hold" in text:
            return HOLD
        if any(isinstance(m, ToolMessage) and "has updated, message:" in m.text for m in messages[asked:]):
            return "I am at it."
        if any(isinstance(m, ToolMessage) for m in messages[asked:]):
            return "That is done now."
        tools = self.model.prompts[-1].tools
        may_call = self.model.prompts[-1].tool_choice != "none"
        if "story" in text:
            return STORY
        if "down" in text:
            return fail(RuntimeError("the provider is down"), after_tokens=2, text="Well, let me see.")
        if "fills" in tools:
            return self._in_a_form(text, may_call)
        wanted = next((tools for word, tools in WISHES.items() if word in text), [])
        if "transfer" in text:
            ways = [name for name in tools if name.startswith("transfer_to_")]
            place = 1 if "transfer 1" in text else 0
            wanted = [ways[place % len(ways)]] if ways else []
        wanted = [name for name in wanted if name in tools]
        if wanted and may_call:
            return say("One moment please.", *(call(name, self._args(name, text), id=self._id()) for name in wanted))
        return "I hear you well."

    def _in_a_form(self, text: str, may_call: bool) -> Any:
        """The model of a task: every other word of the caller fills the form in."""
        number = re.search(r"number (\d+)", text)
        if not may_call or number is None:
            return "What shall I write?"
        if "refuse" in text:
            return say(call("give_up", {"reason": "no wish"}, id=self._id()))
        if "forms" in text and "go_back" in self.model.prompts[-1].tools:
            return say(call("go_back", {"steps": ["form1"]}, id=self._id()))
        if int(number[1]) % 2:
            return "I did not get that."
        line = self.scenario["tasks"][0]["say"]
        return say(*([line] if line else []), call("fills", id=self._id()))

    def _args(self, name: str, text: str) -> dict[str, Any]:
        if name.endswith("_for"):
            number = re.search(r"number (\d+)", text)
            return {"reason": "?"} if number is not None and int(number[1]) % 3 == 0 else REASON
        value = self.scenario.get("value")
        return {"value": JSON[value][0]} if value in JSON and name in _TAKES_VALUE else {}

    @property
    def kept(self) -> Any:
        """What a tool notes in the userdata."""
        value = self.scenario.get("value")
        return JSON[value][0] if value in JSON else DATA.get(value, True)

    def _noted(self, conversation: Conversation[Any]) -> list[Any]:
        """What tools have noted in the userdata."""
        return [found for key, found in conversation.userdata.items() if not key.startswith("enter")]

    def read_again(self, conversation: Conversation[Any], again: Conversation[Any]) -> None:
        """Another process has read the call from its store: values are what they were, but for kinds that are told."""
        value = self.scenario.get("value")
        asked = [[c["args"] for c in m.tool_calls] for m in again.messages if isinstance(m, AIMessage)]
        for args in (one for several in asked for one in several if "value" in one):
            assert value in JSON
            assert same(args["value"], JSON[value][1]), f"{args} came back"
        assert set(again.userdata) == set(conversation.userdata)
        for found in self._noted(again):
            assert value in ("deque", "tuple", "half a character") or same(found, self.kept), f"{found!r} came back"

    def taken_up(self, conversation: Conversation[Any]) -> None:
        """Another process has read the call: what it remembers of the tools is what happened from now on.

        A tool may have ended without anybody knowing, and then this is what the call's answer says; one that is
        declared `idempotent` may run again.
        """
        told = [m for m in conversation.messages if isinstance(m, ToolMessage)]
        results = {m.tool_call_id: m.text for m in told}
        ending = {m.tool_call_id for m in told if ends_task(m)}
        """The tool calls that end a task as soon as this process goes on: their tools have run."""
        for call_id, name in self.started:
            assert call_id in results, f"{call_id} ran, and is not remembered"
            said = results[call_id]
            whole = said.startswith(f"{name} done") or (name == "fills" and _is_of_a_form(said)) or call_id in ending
            assert (call_id in conversation.userdata) == whole, (
                f"{call_id} is remembered as {results[call_id]!r}; userdata knows {list(conversation.userdata)}"
            )
        self.finished = [call_id for call_id in self.finished if call_id in conversation.userdata]
        self.entered = [key for key in self.entered if key in conversation.userdata]
        self.looked = [key for key in self.looked if key in (conversation.state.get("audit") or ())]
        self.started = [(c, name) for c, name in self.started if name != "notes" or c in self.finished]

    # ---- what has to hold

    def check(self, conversation: Conversation[Any]) -> None:
        """What holds at any rest, for any front end, beside the invariants."""
        assert not self.model.errors, self.model.errors
        check_prompt(
            [HumanMessage("(the call begins)", id="opener"), *conversation.messages],
            allow={"ends_with_assistant", "later_system"},
        )
        if not self.counts["crashes"]:
            assert all(same(found, self.kept) for found in self._noted(conversation)), conversation.userdata
        assert not self.wrong, self.wrong
        audit = conversation.state.get("audit") or []
        assert sorted(audit) == sorted(self.looked), f"{audit} is remembered; custom nodes that ran: {self.looked}"
        entered = [key for key in conversation.userdata if key.startswith("enter")]
        assert sorted(entered) == sorted(self.entered), f"userdata knows {entered}; entered: {self.entered}"
        done = [key for key in conversation.userdata if not key.startswith("enter")]
        assert sorted(done) == sorted(self.finished), f"userdata knows {done}; tools that ended: {self.finished}"
        self._check_arguments(conversation)
        results = {m.tool_call_id: m.text for m in conversation.messages if isinstance(m, ToolMessage)}
        for call_id, name in self.started:
            if call_id in self.finished:
                told = results.get(call_id) or ""
                whole = name == "passes" and told.startswith("passes done")
                assert told == f"{name} done" or whole or (name == "fills" and _is_of_a_form(told)), (
                    f"{call_id} ended; remembered: {told}"
                )

    def _check_arguments(self, conversation: Conversation[Any]) -> None:
        """What a transfer takes along is kept with its handoff, and with no other."""
        calls = [call for m in conversation.messages if isinstance(m, AIMessage) for call in m.tool_calls]
        names = {call["id"]: call["name"] for call in calls}
        for handoff in conversation.handoffs:
            if str(handoff["old_agent_id"]).startswith("form") or handoff["tool_call_id"] not in names:
                continue
            takes = names[handoff["tool_call_id"]].endswith("_for")
            assert handoff.get("arguments") == (REASON if takes else None), handoff

    def answered(self, conversation: Conversation[Any]) -> None:
        """The caller's last words were answered."""
        messages = conversation.messages
        last = max((i for i, m in enumerate(messages) if isinstance(m, HumanMessage)), default=-1)
        assert last < 0 or any(isinstance(m, AIMessage | ToolMessage) for m in messages[last + 1 :]), (
            f"nobody answered {messages[last].text!r}"
        )


def _is_of_a_form(told: str) -> bool:
    """Whether this is what a tool is told that has ended a task, or would have."""
    return bool(re.fullmatch(r"form\d is complete\.", told)) or told.startswith("The transfer did not take place")


def _without_ids(text: str) -> str:
    return re.sub(r"book \w+\?", "book?", text)


def remembered(world: World, conversation: Conversation[Any]) -> dict[str, Any]:
    """What two front ends have to agree on: call ids and the ids of messages may differ, nothing else here."""
    names = dict(world.started)
    turns: list[list[str]] = []
    results: list[list[str]] = []
    for message in conversation.messages:
        if isinstance(message, HumanMessage):
            turns.append([message.text, ""])
        elif isinstance(message, ToolMessage):
            results.append([message.name or "", _without_ids(message.text)])
        elif turns:
            turns[-1][1] = " ".join(f"{turns[-1][1]} {_without_ids(message.text)}".split())
    return {
        "active_agent": conversation.active_agent,
        "handoffs": [h["new_agent_id"] for h in conversation.handoffs],
        "effects": [name for _, name in world.started],
        "userdata": sorted(names.get(call_id, "an on_enter method") for call_id in conversation.userdata),
        "results": sorted(results),
        "turns": turns,
    }
