"""What is spoken, what is remembered of it, and what happens when a model fails."""

from typing import Any

from graph_agent_support import words
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import interrupt
from livekit.agents import Agent, AgentTask, ModelSettings, StopResponse, function_tool, llm

from comparison.app import App, Member, Script, Way, asked
from comparison.call import a_call, a_voice_call
from comparison.rows import row
from comparison.scripted_llm import ScriptedLLM
from comparison.tools import GROUP as TOOLS
from comparison.tools import Order, looking, shop
from comparison.ways import Built, adapted
from graph_voice.testing import call, fail, say
from graph_voice_livekit import GraphAgent

GROUP = "What is said, and what is remembered"
STORY = "Once upon a time there was a fox. It lived in a wood with nine other foxes and a very old bear."
EVERY = (Way.LIVEKIT, Way.ADAPTER, Way.SAVER, Way.CUSTOM, Way.OURS)


def host(script: Script, **options: Any) -> App:
    return App([Member("host")], {"host": script}, **options)


# ---- graphs with nodes that do not speak


def routed(app: App, way: Way, *, reworded: bool = False) -> Built:
    """A router with structured output before the agent that answers."""
    if way is Way.LIVEKIT:
        return Built(_Routed(app))

    async def router(state: MessagesState) -> dict[str, Any]:
        await app.model.ainvoke([SystemMessage("You are router."), *state["messages"]])
        return {}

    async def answer(state: MessagesState) -> dict[str, Any]:
        whole, write = None, get_stream_writer()
        async for chunk in app.model.astream([SystemMessage("You are host."), *state["messages"]]):
            write(chunk.text)
            whole = chunk if whole is None else whole + chunk
        assert whole is not None
        return {"messages": [AIMessage(whole.text, id=None if reworded else whole.id)]}

    builder = StateGraph(MessagesState).add_sequence([router, answer]).add_edge(START, "router")
    graph: Pregel[Any, Any, Any, Any] = builder.compile(checkpointer=InMemorySaver() if way is Way.SAVER else None)
    if way is Way.OURS:
        return Built(GraphAgent(graph, speak=["answer"]))
    return adapted(graph, **({"stream_mode": "custom"} if way is Way.CUSTOM else {}))


class _Routed(Agent):
    def __init__(self, app: App) -> None:
        super().__init__(instructions="You are host.", llm=ScriptedLLM(app.model))

    async def llm_node(self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings) -> Any:
        asking = chat_ctx.copy(exclude_instructions=True)
        asking.items.insert(0, llm.ChatMessage(role="system", content=["You are router."]))
        await self.llm.chat(chat_ctx=asking).collect()  # type: ignore[union-attr]
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):  # type: ignore[misc]
            yield chunk


@row(
    GROUP,
    "A router's structured output is not spoken",
    lambda o: "yes" if "route" not in o["words"] else f"no: `{o['words']}`",
    ways=EVERY,
    short="a router's structured output is not spoken",
)
async def router_is_silent(way: Way) -> dict[str, Any]:
    app = App(
        [Member("router"), Member("host")],
        {"router": lambda m: '{"route": "billing"}', "host": lambda m: "Your bill is paid."},
    )
    async with a_voice_call(routed(app, way), way) as heard:
        await heard.say("my bill", at=0.5)
        return {"words": heard.words}


@row(
    GROUP,
    "A node that returns what it streamed as a new message is heard once",
    lambda o: "yes" if o["words"].count("Your bill") == 1 else "no: twice",
    ways=EVERY,
)
async def reworded_once(way: Way) -> dict[str, Any]:
    app = App(
        [Member("router"), Member("host")], {"router": lambda m: "billing", "host": lambda m: "Your bill is paid."}
    )
    async with a_voice_call(routed(app, way, reworded=True), way) as heard:
        await heard.say("my bill", at=0.5)
        return {"words": heard.words}


@row(
    GROUP,
    "The words before and after a tool call stay two sentences",
    lambda o: "yes" if ". It" in o["words"] else "no: they are joined, as in `that.It`",
)
async def kept_apart(way: Way) -> dict[str, Any]:
    async with a_call(shop(looking(), Order().tool), way) as heard:
        await heard.say("look it up", at=0.5)
        return {"words": heard.words}


# ---- barge-in


@row(
    GROUP,
    "The caller interrupts: words heard / in LiveKit's history / in the model's next prompt",
    lambda o: f"{o['heard']} / {o['history']} / {o['prompt']}",
    short="barge-in: words heard / in LiveKit's history / in the next prompt",
)
async def cut_in(way: Way) -> dict[str, Any]:
    return await _cut_in(way)


@row(
    GROUP,
    "... in a room, where LiveKit estimates what was heard from the voice's pace",
    lambda o: f"{o['heard']} / {o['history']} / {o['prompt']}",
)
async def cut_in_room(way: Way) -> dict[str, Any]:
    return await _cut_in(way, synchronizer=True)


async def _cut_in(way: Way, **options: Any) -> dict[str, Any]:
    app = host(lambda m: STORY if "story" in asked(m) else "Fine.")
    async with a_call(app, way, **options) as heard:
        await heard.rig.user_says("tell me a story", at=0.5)
        await heard.say("no thank you stop", at=5.0)
        replies = [text for role, text in heard.history if role == "assistant"]
        shown = [m.text for m in app.model.prompts[-1].messages if isinstance(m, AIMessage)]
        return {
            "heard": len(heard.rig.spoken[0].text.split()),
            "history": len(replies[0].split()),
            "prompt": sum(len(text.split()) for text in shown),
        }


@row(
    GROUP,
    "After three turns the model is shown each message once",
    lambda o: "yes" if o["shown"] == o["said"] else f"no: {o['shown']} messages for {o['said']} that were said",
)
async def once_each(way: Way) -> dict[str, Any]:
    app = host(lambda m: f"You said {asked(m)}.")
    async with a_call(app, way) as heard:
        for text in ("one", "two", "three"):
            await heard.say(text)
    shown = [m for m in app.model.prompts[-1].messages if isinstance(m, AIMessage | HumanMessage)]
    return {"shown": len(shown), "said": 5}


@row(
    GROUP,
    "`generate_reply(instructions=...)` counts for one reply only",
    lambda o: (
        "no: the model is not shown them"
        if not o["shown"]
        else "yes"
        if not o["kept"]
        else "no: they are in every later prompt"
    ),
)
async def instructions_once(way: Way) -> dict[str, Any]:
    app = host(lambda m: "Arr.")
    async with a_call(app, way) as heard:
        await heard.rig.wait_until(0.5)
        heard.session.generate_reply(instructions="Greet like a pirate.")
        await heard.rig.until_idle()
        await heard.say("hello")
    shown = [any("pirate" in m.text for m in p.messages) for p in app.model.prompts]
    return {"shown": shown[0], "kept": shown[-1]}


# ---- failures


@row(
    GROUP,
    "The model fails in the middle of its reply: the caller is told so",
    lambda o: "yes" if "sorry" in o["words"] else f"no: the reply ends with {' '.join(o['words'].split()[-3:])!r}",
)
async def fails_in_reply(way: Way) -> dict[str, Any]:
    def script(messages: list[BaseMessage]) -> Any:
        return fail(OSError("gone"), 9, text=STORY) if "story" in asked(messages) else "Fine."

    return await _failing(host(script), way)


@row(
    GROUP,
    "The connection to the model is lost once, before its first word",
    lambda o: f"answered after {o['after']:.2f} s" if "Once" in o["words"] else "no: the caller hears nothing",
)
async def fails_once(way: Way) -> dict[str, Any]:
    failed: list[str] = []

    def script(messages: list[BaseMessage]) -> Any:
        if "story" in asked(messages) and not failed:
            failed.append("once")
            return fail(ConnectionError("gone"))
        return "Once upon a time." if "story" in asked(messages) else "Fine."

    return await _failing(host(script), way)


@row(
    GROUP,
    "The model's answer is empty",
    lambda o: (
        "the caller is told that something went wrong"
        if o["words"]
        else "no: silence"
        if o["next"]
        else "no: silence, and every later prompt is refused"
    ),
)
async def empty_answer(way: Way) -> dict[str, Any]:
    return await _failing(host(lambda m: say("") if "story" in asked(m) else "Fine."), way)


async def _failing(app: App, way: Way) -> dict[str, Any]:
    async with a_call(app, way) as heard:
        ended = await heard.say("tell me a story", at=0.5)
        first, after, count = heard.words, heard.first_word(ended), len(heard.rig.spoken)
        if not heard.closed:
            await heard.say("are you there")
        later = words(" ".join(s.text for s in heard.rig.spoken[count:]))
        return {"words": first, "after": after, "next": "Fine." in later, "closed": bool(heard.closed)}


# ---- a question in the middle of the work


@row(
    TOOLS,
    "The work stops for a question (`interrupt()`; in LiveKit an `AgentTask`) and continues with the answer",
    lambda o: (
        "yes"
        if o["booked"] == ["Oslo"] and "Which city?" in o["words"]
        else f"no: {o['words'] or 'silence, and the work starts over'}"
    ),
    ways=(Way.LIVEKIT, Way.SAVER, Way.OURS),
)
async def question(way: Way) -> dict[str, Any]:
    booked: list[str] = []

    async def book(state: MessagesState) -> dict[str, Any]:
        booked.append(interrupt("Which city?"))
        return {"messages": [AIMessage(f"Booked {booked[-1]}.")]}

    if way is Way.LIVEKIT:
        built = Built(_Booking(booked))
    else:
        builder = StateGraph(MessagesState).add_node("book", book).add_edge(START, "book")
        graph = builder.compile(checkpointer=InMemorySaver() if way is Way.SAVER else None)
        built = Built(GraphAgent(graph, speak=["book"])) if way is Way.OURS else adapted(graph)
    async with a_voice_call(built, way) as heard:
        await heard.say("book a trip", at=0.5)
        await heard.say("Oslo")
        return {"words": heard.words, "booked": booked}


class _AskCity(AgentTask[str]):
    def __init__(self) -> None:
        super().__init__(instructions="Learn the city.")

    async def on_enter(self) -> None:
        self.session.say("Which city?")

    async def on_user_turn_completed(self, turn_ctx: llm.ChatContext, new_message: llm.ChatMessage) -> None:
        self.complete(new_message.text_content or "")
        raise StopResponse


class _Booking(Agent):
    def __init__(self, booked: list[str]) -> None:
        def script(messages: list[BaseMessage]) -> Any:
            return f"Booked {booked[-1]}." if booked else call("book")

        self._booked = booked
        super().__init__(instructions="You are host.", llm=ScriptedLLM(host(script).model))

    @function_tool
    async def book(self) -> str:
        """Book a trip."""
        self._booked.append(await _AskCity())
        return "booked"
