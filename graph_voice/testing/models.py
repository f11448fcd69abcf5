"""A chat model that says what a script says, and refuses prompts that a real provider would refuse.

```python
from graph_voice.testing import ScriptedModel, call, fail, say

ScriptedModel(["Hello.", say("One moment.", call("look_up", {"id": 3})), "It's blue.", fail(TimeoutError())])
ScriptedModel({"support": [call("transfer_to_billing")], "billing": ["Billing here."]})   # a script per agent
# by the human's words
ScriptedModel([("refund", [call("refund"), "Done."]), ("", "Pardon?")])
ScriptedModel(lambda messages: f"You said {messages[-1].text}")
```

A list is used up from the front: each model call takes the next reply, even when that reply is later discarded.
Where replies are speculative (preemptive generation), use rules: the first pattern found in the last human message
wins (`re.search`, ignoring case). Of its replies, the one whose index is the number of assistant messages after that
human message is used. So the same prompt always gets the same reply.

`ScriptedModel([...], summary="Wants a refund.")` says what a summary is (`history.summarize()`), which is asked for in
the background: it takes no reply of the script.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, ensure_config
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field, PrivateAttr

from graph_voice.history.summaries import OWN_MODEL
from graph_voice.testing.prompts import USUAL, PromptError, check_prompt, render_prompt
from graph_voice.testing.script import Reader, ScriptedReply, ScriptError

__all__ = ["SUMMARY", "Prompt", "ScriptedModel"]

LATER = "<instructions>"
"""How instructions begin that a prompt holds behind its first message."""
SUMMARY = "(a summary of the conversation)"
"""What a scripted model answers when it is asked for a summary that it has none for."""


@dataclass
class Prompt:
    """One call of a scripted model: what it was given, and how it ended."""

    messages: list[BaseMessage]
    tools: tuple[str, ...]
    """Names of the tools bound to the model."""
    tool_choice: Any
    agent: str | None
    """The LangGraph node that called the model (`langgraph_node` in its metadata)."""
    at: float
    """`time.time()` when the model call began, in seconds."""
    text: str = ""
    """What has been streamed so far."""
    outcome: Literal["running", "finished", "failed", "cancelled"] = "running"
    options: dict[str, Any] = field(default_factory=dict)
    """Other options that were bound or passed (`stop`, `temperature`, ...)."""

    def __str__(self) -> str:
        prompt = render_prompt(self.messages)
        return f"{self.agent or 'The model'} with the tools {list(self.tools)} was given:\n{prompt}"


class ScriptedModel(BaseChatModel):
    """A chat model that streams what its script says, word by word.

    Args:
        script: replies in order, rules, a function of the messages, or one of these per agent (see the
            module).
        summary: what it answers when a summary is needed: a text, or a script. Default: `SUMMARY`, or what the script
            says if that is a function.
        first_token: seconds before the first token of each reply that doesn't say otherwise.
        per_token: seconds between two tokens. Delays are `asyncio.sleep`, so on the virtual clock they are free.
            The synchronous methods have no delays.
        allow: prompt rules that may be broken, as in `check_prompt`.
        name: shows up in messages' `response_metadata` as the model's name.

    Raises (from the model call, and kept in `errors`, since a graph may turn them into a failed turn):
        PromptError: the prompt breaks a rule of some provider.
        ScriptError: the script has no reply for this model call.
    """

    script: Any = Field(default=(), exclude=True, repr=False)
    summary: Any = Field(default=None, exclude=True, repr=False)
    """What it answers when an agent that it speaks for needs a summary (`history.summarize()`): a text, or a script of
    its own. Default: a function that is the script is asked; any other script is left alone, and the summary is
    `SUMMARY`. So a summary takes no reply of the script, whenever it is made."""
    first_token: float = 0.0
    per_token: float = 0.0
    allow: Collection[str] = USUAL
    prompts: list[Prompt] = Field(default_factory=list, exclude=True, repr=False)
    """Every model call so far, in the order in which they began."""
    errors: list[Exception] = Field(default_factory=list, exclude=True, repr=False)
    """Refused prompts and missing replies. End a test with `assert not model.errors`."""

    _summaries: Reader = PrivateAttr()
    _readers: dict[str | None, Reader] = PrivateAttr(default_factory=dict)
    _call_numbers: Iterator[int] = PrivateAttr(default_factory=lambda: itertools.count(1))

    def __init__(self, script: Any = (), **kwargs: Any) -> None:
        kwargs.setdefault("name", "scripted")
        super().__init__(**{"script": script, **kwargs})
        if isinstance(script, str):
            raise TypeError(f"A script is a list of replies: write ScriptedModel([{script!r}]).")
        asked = script if callable(script) else lambda messages: SUMMARY
        text = self.summary
        chosen = asked if text is None else (lambda messages: text) if isinstance(text, str) else text
        self._summaries = Reader(chosen, f"the summaries of the model {self.name!r}")
        if isinstance(script, Mapping):
            self._readers = {agent: Reader(part, f"agent {agent!r}") for agent, part in script.items()}
        else:
            self._readers = {None: Reader(script, f"the model {self.name!r}")}

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def agents(self) -> list[str | None]:
        """The agent of each model call, in order."""
        return [prompt.agent for prompt in self.prompts]

    @property
    def instructions(self) -> dict[str, list[str]]:
        """Agent -> the instructions that its model was given, each text once: system messages, and later ones."""
        found: dict[str, list[str]] = {}
        for prompt in self.prompts:
            given = found.setdefault(prompt.agent or "", [])
            texts = [m.text for m in prompt.messages if isinstance(m, SystemMessage) or m.text.startswith(LATER)]
            given += [text for text in dict.fromkeys(texts) if text not in given]
        return found

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model bound to tools in OpenAI's form, as LangChain's OpenAI model does."""
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        prompt, line = self._begin(messages, run_manager, stop=stop, **kwargs)
        first = self.first_token if line.first_token is None else line.first_token
        between = self.per_token if line.per_token is None else line.per_token
        try:
            await asyncio.sleep(first)
            for number, chunk in enumerate(self._chunks(prompt, line)):
                if number:
                    await asyncio.sleep(between)
                prompt.text += chunk.text
                yield chunk
            if line.hangs:
                await asyncio.Event().wait()
            if line.error is not None:
                raise line.error
            prompt.outcome = "finished"
        except (asyncio.CancelledError, GeneratorExit):
            prompt.outcome = "cancelled"
            raise
        except BaseException:
            prompt.outcome = "failed"
            raise

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        prompt, line = self._begin(messages, run_manager, stop=stop, **kwargs)
        prompt.outcome = "failed"
        for chunk in self._chunks(prompt, line):
            prompt.text += chunk.text
            yield chunk
        if line.hangs:
            raise self._refuse(ScriptError("hang() needs an async model call: a synchronous one could not be stopped."))
        if line.error is not None:
            raise line.error
        prompt.outcome = "finished"

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _joined([chunk async for chunk in self._astream(messages, stop, run_manager, **kwargs)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _joined(list(self._stream(messages, stop, run_manager, **kwargs)))

    def _begin(
        self,
        messages: list[BaseMessage],
        run_manager: AsyncCallbackManagerForLLMRun | CallbackManagerForLLMRun | None,
        *,
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: Any = None,
        **options: Any,
    ) -> tuple[Prompt, ScriptedReply]:
        # LangChain's `astream` passes no run manager to `_astream`, so the node's own config is read as well.
        metadata = dict(ensure_config().get("metadata") or {})
        metadata.update(run_manager.metadata if run_manager else {})
        names = tuple(tool["function"]["name"] for tool in tools)
        options = {name: value for name, value in options.items() if value is not None}
        agent = metadata.get("langgraph_node")
        prompt = Prompt(list(messages), names, tool_choice, agent, time.time(), options=options)
        self.prompts.append(prompt)
        try:
            check_prompt(messages, allow=self.allow)
            line = self._reader(metadata).next(prompt.messages)
            self._check_calls(line, prompt)
        except (PromptError, ScriptError) as error:
            prompt.outcome = "failed"
            raise self._refuse(error) from None
        return prompt, line

    def _reader(self, metadata: Mapping[str, Any]) -> Reader:
        if metadata.get(OWN_MODEL):
            return self._summaries
        if None in self._readers:
            return self._readers[None]
        # An agent that is a graph of its own runs as a node "model" inside the agent's node.
        outer = [part.split(":")[0] for part in str(metadata.get("langgraph_checkpoint_ns", "")).split("|")]
        node = metadata.get("langgraph_node")
        # What an agent's tools ask its model (`ctx.generate_reply`, `ctx.update`) comes from its tools node.
        for agent in (node, *reversed(outer), str(node).removesuffix("_tools")):
            if agent in self._readers:
                return self._readers[agent]
        raise ScriptError(
            f"There is no script for the node {metadata.get('langgraph_node')!r}; there is one for "
            f"{sorted(map(str, self._readers))}."
        )

    def _check_calls(self, line: ScriptedReply, prompt: Prompt) -> None:
        if line.calls and prompt.tool_choice == "none":
            raise ScriptError(
                f"The script calls {[call.name for call in line.calls]}, but the model was told "
                f"tool_choice='none'. {prompt}"
            )
        # Real models do call tools that don't exist. This finds scripts that do it by mistake.
        unknown = [call.name for call in line.calls if call.name not in prompt.tools and not call.unknown]
        if unknown:
            raise ScriptError(
                f"The script calls {unknown}, which the model was not given. Write call(..., unknown=True) "
                f"if the model is meant to do that. {prompt}"
            )

    def _refuse(self, error: PromptError | ScriptError) -> PromptError | ScriptError:
        self.errors.append(error)
        return error

    def _chunks(self, prompt: Prompt, line: ScriptedReply) -> Iterator[ChatGenerationChunk]:
        for token in line.tokens:
            yield _chunk(content=token)
        if line.error is not None or line.hangs:
            return
        asked = [message for message in prompt.messages if isinstance(message, AIMessage)]
        taken = {call["id"] for message in asked for call in message.tool_calls}
        for index, call in enumerate(line.calls):
            call_id = call.id or next(name for n in self._call_numbers if (name := f"call_{n}") not in taken)
            half = len(call.args) // 2
            yield _chunk(tool_call_chunks=[tool_call_chunk(name=call.name, args="", id=call_id, index=index)])
            for part in (call.args[:half], call.args[half:]):
                yield _chunk(tool_call_chunks=[tool_call_chunk(args=part, index=index)])
        words = sum(len(message.text.split()) for message in prompt.messages)
        given, made = line.usage or (words, len(line.text.split()) + len(line.calls))
        yield _chunk(
            usage_metadata=UsageMetadata(input_tokens=given, output_tokens=made, total_tokens=given + made),
            response_metadata={
                "model_name": self.name,
                "finish_reason": "tool_calls" if line.calls else "stop",
            },
            chunk_position="last",
        )


def _chunk(content: str = "", **fields: Any) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=AIMessageChunk(content=content, **fields))


def _joined(chunks: list[ChatGenerationChunk]) -> ChatResult:
    whole = AIMessageChunk(content="")
    for chunk in chunks:
        whole = cast(AIMessageChunk, whole + chunk.message)
    message = AIMessage(
        content=whole.content,
        tool_calls=whole.tool_calls,
        invalid_tool_calls=whole.invalid_tool_calls,
        usage_metadata=whole.usage_metadata,
        response_metadata=whole.response_metadata,
    )
    return ChatResult(generations=[ChatGeneration(message=message)])
