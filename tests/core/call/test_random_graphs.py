"""Random graphs of custom nodes that speak, trim, cache, retry, nest and ask: a call remembers what LangGraph keeps."""

import operator
from collections.abc import Callable
from typing import Annotated, Any
from uuid import uuid4
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, RemoveMessage
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.types import CachePolicy, Command, Overwrite, RetryPolicy, interrupt
from slow_properties import examples

from graph_voice import Agent, Conversation, create_voice_graph, events
from graph_voice.testing import Call, ScriptedModel, run

ALL = RemoveMessage(REMOVE_ALL_MESSAGES)
QUESTION, ANSWER = "Which one?", "The blue one."
"""Said in a call only: in LangGraph alone, a question and its answer are no messages."""
AGAIN = RetryPolicy(max_attempts=2, initial_interval=0.1, retry_on=ValueError)
Plain = list[tuple[str, str]]


class State(MessagesState):
    seen: Annotated[list[str], operator.add]


def own(messages: list[Any]) -> list[AnyMessage]:
    """The messages that a run in LangGraph has too."""
    return [m for m in messages if m.text not in (QUESTION, ANSWER)]


def plain(messages: list[Any]) -> Plain:
    return [(m.type, m.text) for m in own(messages)]


def chosen(message: BaseMessage) -> bool:
    """Whether a node that trims keeps this message: any choice will do that is the same in both runs."""
    return message.text in (QUESTION, ANSWER) or crc32(message.text.encode()) % 3 > 0


class Graph:
    """One random graph, and what its nodes have said when they did not fail."""

    def __init__(self, kinds: list[str]) -> None:
        self.said: list[str] = []
        self.speak: list[str] = []
        self._builder = StateGraph(State)
        last: Any = START
        for number, kind in enumerate([*kinds, "talk"]):
            name = f"{kind}_{number}"
            node = getattr(self, f"_{kind}")(name)
            options: dict[str, Any] = {}
            if kind == "count":
                options["cache_policy"] = CachePolicy(key_func=self._last_words)
            if kind in ("retry", "retry_late"):
                options["retry_policy"] = AGAIN
            self._builder.add_node(name, node, **options)
            self._builder.add_edge(last, name)
            last = name

    def compile(self, **options: Any) -> Any:
        return self._builder.compile(cache=InMemoryCache(), **options)

    @staticmethod
    def _last_words(state: Any) -> str:
        return str(next((m.text for m in reversed(own(state["messages"])) if m.type == "human"), ""))

    async def _ask_model(self, name: str, messages: list[Any]) -> AIMessage:
        shown = plain(messages)
        text = f"{name} was shown {len(shown)} of {crc32(repr(shown).encode()) % 997}."
        prompt = [HumanMessage("go on"), *messages]
        return await ScriptedModel([text], per_token=0.01).ainvoke(prompt)

    # ---- nodes

    def _talk(self, name: str) -> Any:
        self.speak.append(name)

        async def node(state: State) -> dict[str, Any]:
            made = await self._ask_model(name, state["messages"])
            self.said.append(made.text)
            return {"messages": [made]}

        return node

    def _say(self, name: str) -> Any:
        self.speak.append(name)

        async def node(state: State) -> dict[str, Any]:
            self.said.append(f"{name} says {len(own(state['messages']))}.")
            return {"messages": [AIMessage(self.said[-1])]}

        return node

    def _retry(self, name: str, *, late: bool = False) -> Any:
        """Fails every other time: after its model has spoken, or (late) in a graph that it runs."""
        self.speak.append(name)
        times = [0]

        async def node(state: State) -> dict[str, Any]:
            times[0] += 1
            made = [await self._ask_model(f"{name}_{n}", state["messages"]) for n in range(1 + late)]
            if times[0] % 2:
                raise ValueError("not yet")
            self.said += [one.text for one in made]
            return {"messages": made}

        return node

    def _retry_late(self, name: str) -> Any:
        return self._retry(name, late=True)

    def _count(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            return {"seen": [f"{name} {self._last_words(state)}"]}

        return node

    def _note(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            return {"messages": [HumanMessage(f"{name} {len(own(state['messages']))}")], "seen": [name]}

        return node

    def _trim(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            return {"messages": [ALL, *filter(chosen, state["messages"])]}

        return node

    def _overwrite(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            end = HumanMessage(f"{name} end", id=str(uuid4()))  # LangGraph gives none to what is overwritten
            return {"messages": Overwrite([*filter(chosen, state["messages"]), end])}

        return node

    def _remove(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            return {"messages": [RemoveMessage(str(m.id)) for m in state["messages"] if not chosen(m)]}

        return node

    def _summarize(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            shown = plain(state["messages"])
            summary = HumanMessage(f"{name} of {len(shown)}")
            return {"messages": [ALL, summary, *(m.model_copy() for m in state["messages"] if chosen(m))]}

        return node

    def _edit(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            mine = [m for m in own(state["messages"]) if m.type == "human"]
            return {"messages": [m.model_copy(update={"content": f"{m.text}*"}) for m in mine[:1]]}

        return node

    def _ask(self, name: str) -> Any:
        async def node(state: State) -> dict[str, Any]:
            return {"messages": [HumanMessage(f"{name} was told {interrupt(QUESTION)}")]}

        return node

    def _nest(self, name: str) -> Any:
        self.speak.append(name)
        inner = StateGraph(MessagesState)
        for part in ("first", "second"):
            made = self._talk(f"{name}_{part}")
            self.speak.pop()
            inner.add_node(part, made)
        inner.add_edge(START, "first")
        inner.add_edge("first", "second")
        return inner.compile()

    def _nest_voice(self, name: str) -> Any:
        """Asks a voice graph, of which nothing is heard."""
        agent = Agent("lawyer", instructions="L", llm=ScriptedModel(lambda _: "Nobody is to hear this."))
        law = create_voice_graph([agent]).compile()

        async def node(state: State) -> dict[str, Any]:
            found = await law.ainvoke({"messages": [("user", "the law?")]})
            return {"seen": [found["messages"][-1].text]}

        return node


KINDS = sorted(name[1:] for name in vars(Graph) if name[1:] in {
    "talk", "say", "retry", "retry_late", "count", "note", "trim", "overwrite", "remove", "summarize", "edit", "ask",
    "nest", "nest_voice",
})  # fmt: skip
Kinds = st.lists(st.sampled_from(KINDS), min_size=1, max_size=5)
Turns = st.lists(st.sampled_from(["bill", "order", "rent"]), min_size=1, max_size=4)


async def in_langgraph(graph: Graph, turns: list[str]) -> list[tuple[Plain, list[str]]]:
    compiled = graph.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    kept = []
    for text in turns:
        state = await compiled.ainvoke({"messages": [("user", text)]}, config)
        while state.get("__interrupt__"):
            state = await compiled.ainvoke(Command(resume=ANSWER), config)
        kept.append((plain(state["messages"]), state["seen"]))
    return kept


def words(seen: list[events.Event]) -> list[str]:
    """What was said, message by message."""
    found: dict[str, str] = {}
    for event in seen:
        if isinstance(event, events.Text | events.Say):
            found[event.message_id] = found.get(event.message_id, "") + event.text
    return list(found.values())


async def in_a_call(graph: Graph, turns: list[str]) -> tuple[list[tuple[Plain, list[str]]], list[str]]:
    conversation: Conversation[Any] = Conversation(graph.compile(), speak=graph.speak)
    kept, heard = [], list[str]()
    for text in turns:
        heard += words(await conversation.run(text))
        while conversation.interrupts:
            heard += words(await conversation.run(ANSWER))
        kept.append((plain(conversation.messages), list(conversation.state.get("seen") or ())))
    return kept, heard


async def in_livekit(graph: Graph, turns: list[str]) -> tuple[list[tuple[Plain, list[str]]], list[str]]:
    kept, heard = [], list[str]()
    async with Call(graph.compile(), front_end="livekit", speak=graph.speak, check=False) as phone:
        for text in turns:
            turn = await phone.says(text)
            heard.append(turn.heard)
            while phone.conversation.interrupts:
                heard.append((await phone.says(ANSWER)).heard)
            kept.append((plain(phone.messages), list(phone.state.get("seen") or ())))
    said = " ".join(heard).replace(QUESTION, "").split()
    return kept, [" ".join(said)]


def compare(kinds: list[str], turns: list[str], play: Callable[[Graph, list[str]], Any]) -> None:
    async def main() -> None:
        alone, spoken = Graph(kinds), Graph(kinds)
        expected = await in_langgraph(alone, turns)
        kept, heard = await play(spoken, turns)
        assert kept == expected
        assert " ".join(" ".join(heard).split()) == " ".join(alone.said)

    run(main())


@examples(30)
@given(Kinds, Turns)
def test_a_call_remembers_what_langgraph_keeps_and_says_each_word_once(kinds: list[str], turns: list[str]) -> None:
    compare(kinds, turns, in_a_call)


@examples(8)
@given(Kinds, Turns)
def test_so_it_does_in_livekit(kinds: list[str], turns: list[str]) -> None:
    compare(kinds, turns, in_livekit)
