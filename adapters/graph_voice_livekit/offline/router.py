"""A chat model without a language model: it picks an intent by example, fills slots, and says a sentence.

With `IntentRouter` you can run, show and test a voice graph without a network and without a key. It embeds the
caller's last words (multilingual-e5-small, about 15 ms on one core), compares them with the example sentences
beside the graph, and calls one of the bound tools or answers with a sentence from the file (format: docs/offline.md).

It is not a language model. It follows no instructions, knows only what is in its file, fills only slots that a
pattern describes, and understands each turn without the ones before. It never acts on what it did not understand:
then it says one of the file's `fallback` sentences.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from graph_voice.errors import GraphVoiceError
from graph_voice.history.summaries import REQUEST
from graph_voice.messages.pairs import PROGRESS
from graph_voice_livekit.offline.embedding import Index
from graph_voice_livekit.offline.examples import AgentExamples, Examples, ExamplesError
from graph_voice_livekit.offline.merging import Call, calls_of
from graph_voice_livekit.offline.offers import fitting, spoken
from graph_voice_livekit.offline.router_answer import RESPONSE_METADATA, Said
from graph_voice_livekit.offline.router_prompt import RouterPrompt
from graph_voice_livekit.offline.slot_types import SlotValue
from graph_voice_livekit.offline.slots import fill, literal_words, placeholders
from graph_voice_livekit.offline.wishes import Match, Understanding
from graph_voice_livekit.offline.words import gist, sentences

__all__ = ["IntentRouter", "Match", "ToolChoiceError"]

NEAREST = 3
"""The number of examples whose mean is an intent's score: the nearest ones."""


class ToolChoiceError(GraphVoiceError, ValueError):
    """`tool_choice` names a tool that is not among the bound ones."""


class CannotSummarizeError(GraphVoiceError, NotImplementedError):
    """A summary was asked for. The router picks prepared sentences, so `history.summarize` must fall back."""


class IntentRouter(BaseChatModel):
    """Answers from example sentences and calls bound tools, in place of a language model.

    `IntentRouter("graphs/customer_service.py")` reads the file beside that graph. Give it to
    `create_voice_graph(..., llm=router)`, or use it as any LangChain chat model.

    The agent that speaks is the LangGraph node that calls the model (`langgraph_node` in the run's metadata).
    Outside a graph it is the agent with the most tools among those whose tools are all bound, else the first.

    - The caller's last words: an intent's tools or reply. A tool that is not bound is never called.
    - Results of tools: the agent's `after` reply, or `error`; no further tool call, unless one is forced.
    - Anything else (a first reply, or one asked for by instructions): the agent's `enter`. Instructions are not
      followed, but slots are read from them. If they match the agent's `instructions`, they come first, before the
      caller's last words.

    `tool_choice="none"` gives words only; `"any"`, `"required"`, True or a tool's name gives a tool call if its
    arguments can be filled, else words: arguments are never made up.
    `parallel_tool_calls=False` gives one tool call at most.
    `usage_metadata` counts words and punctuation marks, which is close to the number of tokens in English.

    Raises `ExamplesError` for a file that can't be used, and when no agent of the file fits a node;
    `CannotSummarizeError` when it is asked for a summary (`history.summarize` then falls back);
    `MissingDependencyError` at the first words, if the embedding model is not installed.
    """

    examples: Examples
    """What it says and understands."""
    seed: int = 0
    """Chooses among the sentences: the same seed says the same words in the same conversation."""
    agent: str | None = None
    """The agent of the file that speaks, whatever the node's name is."""

    def __init__(
        self, examples: Examples | str | Path, *, seed: int = 0, agent: str | None = None, **kwargs: Any
    ) -> None:
        """Read `examples` if it is a path: of the file, or of the graph that it is beside."""
        loaded = examples if isinstance(examples, Examples) else Examples.load(examples)
        super().__init__(**{"examples": loaded, "seed": seed, "agent": agent, **kwargs})

    @property
    def _llm_type(self) -> str:
        return "intent-router"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {**RESPONSE_METADATA, "examples": self.examples.source, "seed": self.seed}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools: LangChain tools, functions, pydantic classes, or JSON schemas.

        Raises `ToolChoiceError` if `tool_choice` names a tool that is not in `tools`.
        """
        schemas = [convert_to_openai_tool(tool) for tool in tools]
        _Choice.of(schemas, tool_choice)
        return self.bind(tools=schemas, tool_choice=tool_choice, **kwargs)

    def warm_up(self) -> None:
        """Load the embedding model and embed the examples: about 10 ms per sentence, once in a process.

        Without it, the first answer waits for that. Raises `MissingDependencyError`.
        """
        _ = self._index

    def match(self, text: str, *, agent: str) -> list[Match]:
        """Return how well each intent of `agent` fits `text`, the best first. Takes about 15 ms.

        Patterns are not looked at. Raises `ExamplesError` if the file has no such agent.
        """
        intents = self._section(agent).intents
        groups: list[tuple[str | None, Sequence[str]]] = [(one.name, one.examples) for one in intents if one.examples]
        groups += [(None, self.examples.outside)] if self.examples.outside else []
        if not groups:
            return [Match(None, 0.0)]
        similar = self._index.similar(gist(text))
        nearest = {name: sorted(known, key=similar.__getitem__, reverse=True)[:NEAREST] for name, known in groups}
        matches = [Match(name, sum(similar[one] for one in n) / len(n), n[0]) for name, n in nearest.items()]
        return sorted(matches, key=lambda match: -match.score)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        said = self._decide(messages, _node(run_manager), kwargs)
        return ChatResult(generations=[ChatGeneration(message=said.message())])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        said = await asyncio.to_thread(self._decide, messages, _node(run_manager), kwargs)
        return ChatResult(generations=[ChatGeneration(message=said.message())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._decide(messages, _node(run_manager), kwargs).chunks()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        said = await asyncio.to_thread(self._decide, messages, _node(run_manager), kwargs)
        for chunk in said.chunks():
            yield chunk

    @cached_property
    def _index(self) -> Index:
        intents = (intent for agent in self.examples.agents.values() for intent in agent.intents)
        return Index([*(sentence for intent in intents for sentence in intent.examples), *self.examples.outside])

    def _section(self, agent: str) -> AgentExamples:
        if agent not in self.examples.agents:
            raise ExamplesError(
                f"{self.examples.source}: has no agent {agent!r}. Write a section `agents.{agent}` with "
                f"`enter`, `intents` and `fallback`, or use one of: {', '.join(self.examples.agents)}."
            )
        return self.examples.agents[agent]

    def _speaker(self, node: str | None, tools: frozenset[str]) -> str:
        """Choose the agent of the file: `agent`, else the node, else the one whose tools are bound."""
        if node is not None and node not in self.examples.agents:
            node = node.removesuffix("_tools")  # a line that a tool of the agent generates
        if self.agent is not None or (node is not None and node in self.examples.agents):
            return self.agent or str(node)
        tools_of = {name: agent.tools for name, agent in self.examples.agents.items() if agent.tools <= tools}
        best = max(tools_of, key=lambda name: len(tools_of[name]), default=None)
        if node is not None and not (best and tools_of[best]):
            return node  # which `_section` refuses: nothing tells which agent would speak
        return best or next(iter(self.examples.agents))

    def _decide(self, messages: Sequence[BaseMessage], node: str | None, kwargs: Mapping[str, Any]) -> Said:
        """Choose words and tool calls. It takes milliseconds, but seconds the first time, so not on the event loop."""
        choice = _Choice.of(kwargs.get("tools") or [], kwargs.get("tool_choice"))
        prompt = RouterPrompt(messages)
        if prompt.words.startswith(REQUEST):
            raise CannotSummarizeError("the intent router is no language model, so it can't summarize a conversation.")
        agent = self._speaker(node, choice.bound)
        section = self._section(agent)
        prompt.hand_back(agent)
        instructed = any(self.examples.read(pattern, prompt.instructions) for pattern in section.instructions)
        answering = bool(prompt.words) and not instructed
        examples = self.examples.offering(prompt.listings, prompt.question)
        understanding = Understanding(examples, section, prompt.question, lambda text: self.match(text, agent=agent))
        wishes = understanding.wishes(prompt.words, prompt.unanswered) if answering else []
        calls = calls_of(wishes, choice.callable, prompt.words, prompt.last_args)
        if choice.forced and not calls:
            calls = self._forced_call(prompt, agent, choice.callable)
        if kwargs.get("parallel_tool_calls") is False:
            calls = calls[:1]

        slots = self._known_slots(prompt, section) | _offers(examples, prompt)
        for wish in wishes:
            slots |= wish.slots
        intents = [wish.intent for wish in wishes]
        possible: Sequence[str]
        if calls:
            called = {tool for tool, _ in calls}
            possible = next((intent.say for intent in section.intents if intent.tool in called and intent.say), ())
        elif answering:
            possible = next((intent.reply for intent in intents if intent.reply), section.fallback)
        else:
            updates = [str(told) for result in prompt.results if (told := result.additional_kwargs.get(PROGRESS))]
            possible = ["{output}"] if updates else _after(prompt.results, section) or section.enter
            told = " ".join(map(_as_sentence, updates or (str(result.text) for result in prompt.results)))
            slots["output"] = _without(self.examples.internal_names, told)
        made = [tool_call(name=tool, args=args, id=f"call_{uuid.uuid4().hex}") for tool, args in calls]
        return Said(self._choose(possible, slots, f"{agent}/{prompt.length}"), made, messages)

    def _forced_call(self, prompt: RouterPrompt, agent: str, tools: frozenset[str]) -> list[Call]:
        """Choose the best tool call that needs no slot. Those whose slots are filled were tried before."""
        intents = {intent.name: intent for intent in self._section(agent).intents}
        order = [match.intent for match in self.match(prompt.words, agent=agent)] if prompt.words else list(intents)
        for intent in (intents[name] for name in order if name is not None):
            if intent.tool and intent.tool in tools and (args := intent.call_args({})) is not None:
                return [(intent.tool, args)]
        return []

    def _known_slots(self, prompt: RouterPrompt, section: AgentExamples) -> dict[str, SlotValue]:
        """Collect slots from what the caller said, the instructions, and the arguments of earlier tool calls."""
        said = [p for intent in section.intents for p in reversed(intent.patterns) if literal_words(p)]
        read = [(pattern, words) for words in prompt.heard for pattern in said]
        slots: dict[str, SlotValue] = {}
        for pattern, words in [*read, *((pattern, prompt.instructions) for pattern in section.instructions)]:
            slots |= self.examples.read(pattern, words) or {}
        return slots | prompt.args

    def _choose(self, sentences: Sequence[str], slots: Mapping[str, SlotValue], place: str) -> str:
        """Choose, by seed and place, among the sentences with the most slots that are known; fill them in."""
        possible = [sentence for sentence in sentences if placeholders(sentence) <= slots.keys()]
        most = max((len(placeholders(sentence)) for sentence in possible), default=0)
        possible = [sentence for sentence in possible if len(placeholders(sentence)) == most]
        digest = hashlib.blake2s(f"{self.seed}/{place}".encode(), digest_size=4).digest()
        return str(fill(possible[int.from_bytes(digest) % len(possible)], slots)).strip() if possible else ""


@dataclass(frozen=True)
class _Choice:
    """The tools of one run of the model: those that are bound, and those that may be called."""

    bound: frozenset[str]
    callable: frozenset[str]
    forced: bool

    @classmethod
    def of(cls, schemas: Iterable[Mapping[str, Any]], choice: str | Mapping[str, Any] | bool | None) -> "_Choice":
        bound = frozenset(str(schema["function"]["name"]) for schema in schemas if "function" in schema)
        if isinstance(choice, Mapping):  # {"type": "function", "function": {"name": ...}}, {"type": "any"}, ...
            choice = choice.get("function", choice).get("name") or choice.get("type")
        if choice in (None, False, "auto", "none"):
            return cls(bound, frozenset() if choice == "none" else bound, forced=False)
        if choice not in (True, "any", "required", *bound):
            raise ToolChoiceError(
                f"tool_choice={choice!r} is none of the bound tools ({', '.join(sorted(bound)) or '-'}). "
                f'Name one of them, or write "auto", "none" or "any".'
            )
        return cls(bound, frozenset([str(choice)]) if choice in bound else bound, forced=True)


def _node(run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None) -> str | None:
    """Return the LangGraph node that calls the model."""
    # LangChain gives a run manager to `_generate` only; for streams the node's own config is in the context.
    metadata = run_manager.metadata if run_manager else ensure_config().get("metadata")
    return (metadata or {}).get("langgraph_node")


def _after(results: Sequence[ToolMessage], section: AgentExamples) -> Sequence[str]:
    """Choose the sentences that follow results; none if the results are those of the agent that handed off."""
    own = [result for result in results if result.name in section.tools | section.after.keys()]
    if any(_failed(result) or result.name not in section.after for result in own):
        return section.error  # if the agent is still active after its own transfer, the transfer did not happen
    return section.after[str(own[-1].name)] if own else ()


def _offers(examples: Examples, prompt: RouterPrompt) -> dict[str, SlotValue]:
    """What may be said of what was listed, as the slot `offers`: what fits the caller's last words."""
    offered = [offer for slot in examples.slots.values() for offer in slot.offered]
    return {"offers": spoken(fitting(offered, (prompt.heard or [""])[-1]))} if offered else {}


def _failed(result: ToolMessage) -> bool:
    # graph_voice answers a tool call that it did not run with "not done: " and the reason.
    return result.status == "error" or str(result.text).startswith("not done:")


def _without(names: frozenset[str], text: str) -> str:
    """Leave out the sentences that name an agent or a tool as the graph does: a caller knows none of them."""
    return " ".join(one for one in sentences(text) if not names & set(re.findall(r"[\w@.-]*\w", one)))


def _as_sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."
