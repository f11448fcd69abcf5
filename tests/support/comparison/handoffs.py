"""Handing over: voices, what is carried, how long it takes, what may go wrong."""

import asyncio
from typing import Any

from graph_agent_support import words
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from livekit.agents import Agent

from comparison.app import App, Carry, Member, Script, Way, asked
from comparison.call import a_call, a_text_call, a_voice_call
from comparison.rows import row
from comparison.ways import build
from graph_voice.testing import call, say

GROUP = "Handoffs"
LINE = "I am putting you through now."


def desk(front: Script, *tools: Any, **options: Any) -> App:
    """A front desk that hands over to billing."""
    members = [Member("front", tools, ["billing"]), Member("billing", tools)]
    return App(members, {"front": front, "billing": billing}, **options)


def billing(messages: list[BaseMessage]) -> Any:
    """Billing greets, and answers what it is asked."""
    return "You owe nothing." if "owe" in asked(messages) else "Billing speaking."


def transferring(messages: list[BaseMessage]) -> Any:
    return say(LINE, call("transfer_to_billing")) if "bill" in asked(messages) else "This is the front desk."


@row(
    GROUP,
    "The new agent speaks with its own voice",
    lambda o: "yes" if o["voices"] == ["front", "billing"] else "no: one voice for all",
    short="each agent has its own voice",
)
async def own_voice(way: Way) -> dict[str, Any]:
    async with a_call(desk(transferring), way) as heard:
        await heard.say("my bill please", at=0.5)
        return {"voices": [voice for voice, _ in heard.spoken], "words": heard.words}


@row(
    GROUP,
    "The next turn is answered by the new agent",
    lambda o: "yes" if o["answer"] == "You owe nothing." else "no: by the old one",
)
async def next_turn(way: Way) -> dict[str, Any]:
    async with a_call(desk(transferring), way) as heard:
        await heard.say("my bill please", at=0.5)
        said = len(heard.words)
        await heard.say("how much do I owe")
        return {"answer": heard.words[said:].strip()}


@row(
    GROUP,
    "LiveKit knows the active agent (`is_agent_handoff`)",
    lambda o: "yes" if o["handoffs"] == 1 else "no: LiveKit sees one agent",
)
async def native_handoff(way: Way) -> dict[str, Any]:
    async with a_text_call(desk(transferring), way) as written:
        result = await written.session.run(user_input="my bill please")
        return {"handoffs": sum(event.type == "agent_handoff" for event in result.events)}


@row(
    GROUP,
    "The new agent is shown what the handoff's history says (here: the last two messages)",
    lambda o: "yes" if len(o["shown"]) == 2 else f"no: it is shown {len(o['shown'])} messages",
)
async def policy(way: Way) -> dict[str, Any]:
    return {"shown": await _shown(way, Carry.LAST_TWO, turns=1)}


@row(
    GROUP,
    "... and still so one turn later",
    lambda o: "yes" if not o["early"] else "no: what was cut off is shown again",
)
async def policy_later(way: Way) -> dict[str, Any]:
    shown = await _shown(way, Carry.LAST_TWO, turns=2)
    return {"early": sum(text in ("hello", "is anybody there") for text in shown)}


@row(
    GROUP,
    "The new agent is shown the line that announced it",
    lambda o: "yes" if o["announced"] else "no: it is not in the history yet when the tool copies it",
)
async def announced(way: Way) -> dict[str, Any]:
    return {"announced": LINE in await _shown(way, Carry.FULL, turns=1)}


async def _shown(way: Way, carry: Carry, *, turns: int) -> list[str]:
    """What was said, as the last prompt of a call shows it that was handed over `turns` turns before its end."""
    app = desk(transferring, carry=carry)
    async with a_call(app, way) as heard:
        await heard.say("is anybody there", at=0.5)
        await heard.say("hello")
        await heard.say("my bill please")
        for _ in range(turns - 1):
            await heard.say("how much do I owe")
        said = " ".join(text for _, text in heard.history)
    shown = [m for m in app.model.prompts[-1].messages if isinstance(m, HumanMessage | AIMessage)]
    if way is not Way.OURS and carry is Carry.LAST_TWO:
        # In LangGraph the call that hands over has to stay beside its answer.
        shown = [m for m in shown if not (isinstance(m, AIMessage) and m.tool_calls)]
    return [m.text.strip() for m in shown if m.text.strip() and m.text.strip() in said]


@row(
    GROUP,
    "Silence before the new agent's first word (model 0.4 s, voice 0.2 s)",
    lambda o: f"{o['gap']:.2f} s, and the announcement comes after {o['announced_after']:.2f} s",
)
async def handoff_gap(way: Way) -> dict[str, Any]:
    async with a_call(desk(transferring, first_token=0.4), way) as heard:
        ended = await heard.say("my bill please", at=0.5)
        return {"gap": heard.longest_silence(ended), "announced_after": heard.first_word(ended)}


@row(
    GROUP,
    "... when the handoff carries a summary, which the model takes 2 s to write",
    lambda o: (
        f"{o['gap']:.2f} s, and the announcement comes after {o['announced_after']:.2f} s"
        if o["summarized"]
        else "no summary"
    ),
)
async def summary_gap(way: Way) -> dict[str, Any]:
    def summary(messages: list[BaseMessage]) -> Any:
        return say("They have a bill.", first_token=2.0)

    def front(messages: list[BaseMessage]) -> Any:
        return summary(messages) if "Summarize" in asked(messages) else transferring(messages)

    app = desk(front, carry=Carry.SUMMARY, first_token=0.4, others=summary)
    async with a_call(app, way) as heard:
        await heard.say("is anybody there", at=0.5)
        await heard.say("hello again to you")
        await heard.rig.wait_until(heard.rig.now + 5)
        ended = await heard.say("my bill please")
        shown = app.prompts("billing")[-1]
        return {
            "gap": heard.longest_silence(ended),
            "announced_after": heard.first_word(ended),
            "summarized": any("They have a bill." in m.text for m in shown),
        }


@row(
    GROUP,
    "What the caller says during a handoff is answered",
    lambda o: "yes" if o["remembered"] and o["answers"] == 2 else "no: it is lost, without an event",
    short="what is said during a handoff is answered",
)
async def said_during_handoff(way: Way) -> dict[str, Any]:
    app = desk(transferring)
    built = build(app, way)
    _slow_exit(built.agent)
    async with a_voice_call(built, way) as heard:
        await heard.rig.user_says("my bill please", at=0.5)
        await heard.say("how much do I owe", at=4.5)
        await heard.rig.wait_until(heard.rig.now + 5)
        await heard.rig.until_idle()
        said = [text for role, text in heard.history if role == "user"]
        answers = 1 + ("You owe nothing." in heard.words or "front desk" in heard.words)
        return {"remembered": "how much do I owe" in said, "answers": answers, "words": heard.words}


def _slow_exit(agent: Agent) -> None:
    """The first agent takes four seconds to leave: an `on_exit` that writes to a database, say."""
    leave = agent.on_exit

    async def on_exit() -> None:
        await leave()
        await asyncio.sleep(4)

    agent.on_exit = on_exit  # type: ignore[method-assign]


@row(
    GROUP,
    "Two handoffs in one batch",
    lambda o: "the first happens" if o["spoken"] == "Billing speaking." else "neither happens, and nobody speaks",
    short="two handoffs in one batch",
)
async def two_handoffs(way: Way) -> dict[str, Any]:
    members = [Member("front", (), ["billing", "sales"]), Member("billing"), Member("sales")]
    script = {
        "front": lambda m: say(call("transfer_to_billing"), call("transfer_to_sales")),
        "billing": lambda m: "Billing speaking.",
        "sales": lambda m: "Sales speaking.",
    }
    async with a_call(App(members, script), way) as heard:
        await heard.say("a bill and a sale", at=0.5)
        return {"spoken": heard.words, "errors": len(heard.rig.errors)}


@row(
    GROUP,
    "A handoff and a plain tool in one batch",
    lambda o: (
        f"no: the caller hears {o['spoken']!r}, then nothing"
        if "Billing" not in o["spoken"]
        else "both happen, and the new agent knows the result"
        if o["told"]
        else "both happen, but the new agent is not told the result"
    ),
)
async def handoff_and_tool(way: Way) -> dict[str, Any]:
    ran: list[str] = []

    async def look_up(number: int) -> str:
        """Look up an order."""
        ran.append(str(number))
        return "two kettles"

    def front(messages: list[BaseMessage]) -> Any:
        if messages[-1].type == "tool":
            return "You ordered two kettles."
        return say(call("look_up", {"number": 3}), call("transfer_to_billing"))

    app = desk(front, look_up)
    async with a_call(app, way) as heard:
        await heard.say("my order and my bill", at=0.5)
        shown = [m.text for prompt in app.prompts("billing") for m in prompt]
        return {"spoken": heard.words, "looked_up": len(ran), "told": any("two kettles" in text for text in shown)}


@row(
    GROUP,
    "The caller interrupts the announcement: the active agent after that",
    lambda o: (
        "the old agent, who answers"
        if o["answer"] == "This is the front desk."
        else "the new one, whom the caller has not heard of"
    ),
)
async def cut_announcement(way: Way) -> dict[str, Any]:
    async with a_call(desk(transferring), way) as heard:
        await heard.rig.user_says("my bill please", at=0.5)
        await heard.rig.until_speaking()
        await heard.say("no wait a moment", at=heard.rig.now + 0.3)
        return {"answer": words(heard.rig.spoken[-1].text)}
