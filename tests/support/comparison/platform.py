"""Guesses, numbers and state: what the two platforms see of a call."""

from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from livekit.agents import llm, metrics

from comparison.app import App, Member, Way, asked
from comparison.call import a_call, a_text_call, a_voice_call
from comparison.rows import row
from comparison.ways import THREAD, Built, build
from graph_voice import Agent as Definition
from graph_voice import create_voice_graph
from graph_voice.testing import call, say
from graph_voice_livekit import GraphAgent

SPECULATION = "Replies that start before it is certain that the caller has finished (LiveKit's preemptive generation)"
PLATFORM = "What LiveKit and LangGraph see"
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@row(
    SPECULATION,
    "A discarded speculative turn has no effects (the caller says five, the first guess is nine)",
    lambda o: "yes" if o["charged"] == [5] else f"no: the card is charged {' and '.join(map(str, o['charged']))}",
    short="a discarded speculative turn has no effects",
)
async def dropped_guess(way: Way) -> dict[str, Any]:
    return await _charge(way)


@row(
    SPECULATION,
    "... and nothing in the model's memory",
    lambda o: "yes" if not o["remembered"] else "no: what was never said is in the next prompt",
)
async def dropped_guess_memory(way: Way) -> dict[str, Any]:
    return await _charge(way)


async def _charge(way: Way) -> dict[str, Any]:
    charged: list[int] = []

    async def charge(dollars: int) -> str:
        """Charge the caller's card."""
        charged.append(dollars)
        return "charged"

    def script(messages: list[BaseMessage]) -> Any:
        said = asked(messages)
        if messages[-1].type == "tool" or "charge" not in said:
            return "Done."
        return say(call("charge", {"dollars": 9 if "nine" in said else 5}))

    app = App([Member("host", [charge])], {"host": script})
    async with a_call(app, way) as heard:
        await heard.say("charge five", at=0.5, preflight="charge nine")
        await heard.say("thank you")
    shown = [m.text for m in app.model.prompts[-1].messages if isinstance(m, HumanMessage)]
    return {"charged": charged, "remembered": "charge nine" in shown}


@row(
    SPECULATION,
    "A correct guess: from the caller's last word to the first word (model 1 s)",
    lambda o: f"{o['guessed']:.2f} s; without a guess {o['plain']:.2f} s",
)
async def right_guess(way: Way) -> dict[str, Any]:
    found = {}
    for name, preflight in (("guessed", "hello there"), ("plain", None)):
        app = App([Member("host")], {"host": lambda m: "Hello yourself."}, first_token=1.0)
        async with a_call(app, way) as heard:
            ended = await heard.say("hello there", at=0.5, preflight=preflight)
            found[name] = heard.first_word(ended)
    return found


# ---- numbers


@row(
    PLATFORM,
    "Tokens and model in LiveKit's usage (100 in, 7 out, `scripted`)",
    lambda o: (
        "yes"
        if (o["input"], o["output"], o["model"]) == (100, 7, "scripted")
        else f"no: {o['input']} in, {o['output']} out, `{o['model']}`"
    ),
    short="tokens and model in LiveKit's usage",
)
async def usage(way: Way) -> dict[str, Any]:
    app = App([Member("host")], {"host": lambda m: say("Hello there.", usage=(100, 7))})
    async with a_call(app, way) as heard:
        await heard.say("hello", at=0.5)
        used = [m for m in heard.session.usage.model_usage if m.type == "llm_usage"]
        return {
            "input": sum(m.input_tokens for m in used),
            "output": sum(m.output_tokens for m in used),
            "model": used[0].model if used else None,
        }


@row(
    PLATFORM,
    "Time to first token in LiveKit's metrics (model 0.5 s)",
    lambda o: f"{o['ttft']:.2f} s" if o["ttft"] is not None else "none",
)
async def ttft(way: Way) -> dict[str, Any]:
    app = App([Member("host")], {"host": lambda m: "Hello there."}, first_token=0.5)
    async with a_call(app, way) as heard:
        await heard.say("hello", at=0.5)
        seen = [m for m in heard.metrics if isinstance(m, metrics.LLMMetrics)]
        return {"ttft": round(seen[0].ttft, 2) if seen else None}


# ---- input


@row(
    PLATFORM,
    "Text instead of speech (`session.run`)",
    lambda o: "yes" if o["messages"] == ["Hello there."] else f"no: {o['messages']}",
)
async def text_input(way: Way) -> dict[str, Any]:
    app = App([Member("host")], {"host": lambda m: "Hello there."})
    async with a_text_call(app, way) as written:
        result = await written.session.run(user_input="hello")
        said = [e.item.text_content for e in result.events if e.type == "message"]
        return {"messages": said}


@row(
    PLATFORM,
    "A picture in the user's message reaches the model",
    lambda o: "yes" if o["image"] else "no: it is dropped",
)
async def picture(way: Way) -> dict[str, Any]:
    app = App([Member("host")], {"host": lambda m: "A pixel."})
    async with a_call(app, way) as heard:
        await heard.rig.wait_until(0.5)
        shown = llm.ChatMessage(role="user", content=["what is this", llm.ImageContent(image=PIXEL)])
        heard.session.generate_reply(user_input=shown)
        await heard.rig.until_idle()
        blocks = [b for m in app.model.prompts[-1].messages if isinstance(m.content, list) for b in m.content]
        kinds = {b.get("type") for b in blocks if isinstance(b, dict)}
        return {"image": bool(kinds & {"image", "image_url"}), "answered": heard.words == "A pixel."}


# ---- state


@row(
    PLATFORM,
    "The conversation is in LangGraph's checkpointer during the call (`aget_state`)",
    lambda o: "yes" if o["saved"] else "no",
    ways=(Way.LIVEKIT, Way.SAVER, Way.OURS),
    short="the conversation is in LangGraph's checkpointer during the call",
)
async def checkpointed(way: Way) -> dict[str, Any]:
    app = App([Member("host")], {"host": lambda m: "Hello there."})
    saver = InMemorySaver()
    if way is Way.OURS:
        graph = create_voice_graph([Definition("host", instructions="You are host.")], llm=app.model)
        compiled = graph.compile(checkpointer=saver)
        built = Built(GraphAgent(compiled, thread_id="call", saver=saver), {}, compiled)
    else:
        built = build(app, way)
    async with a_voice_call(built, way) as heard:
        await heard.say("hello", at=0.5)
        if built.graph is None:
            return {"saved": []}
        state = await built.graph.aget_state(THREAD)
        return {"saved": [m.text for m in state.values.get("messages") or ()]}
