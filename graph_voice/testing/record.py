"""Recording a real model, so that a test can replay what it said without it."""

import ast
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig, ensure_config

from graph_voice.history.summaries import OWN_MODEL
from graph_voice.models import model_from
from graph_voice.testing.models import ScriptedModel
from graph_voice.testing.script import ScriptedReply, call, fail, say

__all__ = ["Recorded", "record", "source_of"]


def record(model: BaseChatModel | str) -> "Recorded":
    """Wrap a chat model: it answers as before, and what it says is kept as a script.

    ```python
    recorded = record("openai:gpt-4.1-mini")
    async with Call(graph, llm=recorded) as phone:
        await phone.says("A table for Friday, please.")
    print(recorded.source())  # goes into the test
    ```

    Raises `ModelError` for a string that names no model that can be used.
    """
    found = model_from(model)
    assert found is not None
    return Recorded(found)


class Recorded:
    """A chat model that is recorded. `script`, `source()` and `model()` return what it said.

    Args:
        model: the real model.
    """

    def __init__(
        self,
        model: Any,
        lines: "dict[str, list[ScriptedReply]] | None" = None,
        summaries: "list[ScriptedReply] | None" = None,
    ) -> None:
        self._model = model
        self._lines: dict[str, list[ScriptedReply]] = {} if lines is None else lines
        self._summaries: list[ScriptedReply] = [] if summaries is None else summaries

    def bind_tools(self, tools: Any, **options: Any) -> "Recorded":
        """As the model's own. What the bound model says goes into the same script."""
        return Recorded(self._model.bind_tools(tools, **options), self._lines, self._summaries)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_model":  # copying asks before there is a model
            raise AttributeError(name)
        return getattr(self._model, name)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """As the model's own."""
        with self._recording(config) as said:
            async for chunk in self._model.astream(input, config, **options):
                said(chunk)
                yield chunk

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AIMessage:
        """As the model's own."""
        with self._recording(config) as said:
            message: AIMessage = await self._model.ainvoke(input, config, **options)
            said(message)
            return message

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AIMessage:
        """As the model's own."""
        with self._recording(config) as said:
            message: AIMessage = self._model.invoke(input, config, **options)
            said(message)
            return message

    @contextlib.contextmanager
    def _recording(self, config: RunnableConfig | None) -> Iterator[Callable[[Any], None]]:
        """Record one message of the model. The order of the script is that of the requests."""
        about = ensure_config(config).get("metadata") or {}
        agent = str(about.get("langgraph_node") or "")
        lines = self._summaries if about.get(OWN_MODEL) else self._lines.setdefault(agent, [])
        place, whole = len(lines), list[Any]()
        lines.append(say(""))

        def said(piece: Any) -> None:
            whole[:] = [whole[0] + piece if whole else piece]
            lines[place] = _line(whole[0])

        try:
            yield said
        except Exception as error:
            text = whole[0].text if whole else ""
            lines[place] = fail(RuntimeError(str(error)), len(say(text).tokens), text=text)
            raise

    @property
    def script(self) -> Any:
        """For `ScriptedModel`: a list, or a list for each agent when several have spoken."""
        if len(self._lines) == 1:
            return list(*self._lines.values())
        return {agent: list(lines) for agent, lines in self._lines.items()}

    @property
    def summaries(self) -> list[ScriptedReply]:
        """For `ScriptedModel(summary=...)`: the summaries that were asked for."""
        return list(self._summaries)

    def model(self) -> ScriptedModel:
        """A model that replays the script, and the summaries. More of these may be asked for: the last one repeats."""
        left = self.summaries
        summary = (lambda messages: left.pop(0) if len(left) > 1 else left[0]) if left else None
        return ScriptedModel(self.script, summary=summary)

    def source(self) -> str:
        """The script as Python code that uses `graph_voice.testing`."""
        return source_of(self._lines)


def source_of(script: Mapping[str, Sequence[ScriptedReply]]) -> str:
    """A script for each agent, or one for all, as Python code that uses `graph_voice.testing`."""
    if len(script) == 1:
        (lines,) = script.values()
        return _list(lines, indent="")
    agents = (f"    {agent!r}: {_list(lines, indent='    ')},\n" for agent, lines in script.items())
    return "{\n" + "".join(agents) + "}"


def _line(whole: Any) -> ScriptedReply:
    calls = [
        call(chunk["name"] or "", chunk["args"] or "{}", id=chunk["id"])
        for chunk in getattr(whole, "tool_call_chunks", ())
    ]
    if not calls:
        calls = [call(c["name"], c["args"], id=c["id"]) for c in getattr(whole, "tool_calls", ())]
    return say(*([whole.text] if whole.text else []), *calls)


def _list(lines: Sequence[ScriptedReply], indent: str) -> str:
    return "[\n" + "".join(f"{indent}    {_source(line)},\n" for line in lines) + f"{indent}]"


def _source(line: ScriptedReply) -> str:
    if line.error is not None:
        return f"fail(RuntimeError({str(line.error)!r}), {len(line.tokens)}, text={line.text!r})"
    calls = [_call(c.name, c.args, c.id) for c in line.calls]
    if not calls:
        return repr(line.text)
    if len(calls) == 1 and not line.text:
        return calls[0]
    return f"say({', '.join([*([repr(line.text)] if line.text else []), *calls])})"


def _call(name: str, arguments: str, call_id: str | None) -> str:
    given: Any = arguments
    # As a dict where its Python source evaluates to the same; broken JSON, a list or NaN stay as text.
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(arguments)
        if isinstance(found, dict) and ast.literal_eval(repr(found)) == found:
            given = found
    shown = "" if given == {} else f", {given!r}"
    return f"call({name!r}{shown}, id={call_id!r})"
