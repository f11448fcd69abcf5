"""Ways in which a model, a tool or a caller may misplace a number, and a search of everything that leaves a call."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.tools import ToolException
from langchain_core.tools import tool as langchain_tool
from langgraph.types import Command, interrupt
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Handoff, RunContext, ToolError, create_voice_graph, events, function_tool, history
from graph_voice.testing import ScriptedModel, call, fail, say

__all__ = ["CARD", "SPELLINGS", "WAYS", "Way", "found_in", "graph_of", "texts_of_events"]

CARD = "5273849160384756"
"""Long enough that no random id has it."""
_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = ["ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SPELLINGS: dict[str, str] = {
    "plain": CARD,
    "groups": "5273 8491 6038 4756",
    "dashes": "5273-8491-6038-4756",
    "dots": "5273.8491.6038.4756",
    "spaced": " ".join(CARD),
    "words": " ".join(_UNITS[int(digit)] for digit in CARD),
    "pairs": "fifty two seventy three eighty four ninety one sixty thirty eight forty seven fifty six",
    "arabic": "".join(chr(0x660 + int(digit)) for digit in CARD),
}
_WORD_VALUES = {word: str(value) for value, word in enumerate(_UNITS)} | {
    word: f"{value}0" for value, word in enumerate(_TENS, 1)
}


def found_in(text: str) -> str | None:
    """A stretch of the text in which ten digits of the number stand in a row, in any spelling; None if there is none.

    It is not the library's own search: digits and words for digits are read one by one, whatever is between them.
    """
    text = re.sub(r"\\u0?66(\d)|\\\\u0?66(\d)", lambda m: m.group(1) or m.group(2), text)
    digits, places, lower = "", list[int](), text.lower()
    for match in re.finditer(r"\d|[a-z]+", lower):
        word = match.group()
        if word.isdecimal():
            digits += str(int(word))
            places.append(match.start())
        elif word in _WORD_VALUES:
            value = _WORD_VALUES[word]
            following = re.match(r"[\W_]*([a-z]+)", lower[match.end() : match.end() + 12])
            is_tens = len(value) == 2 and following is not None and len(_WORD_VALUES.get(following.group(1), "")) == 1
            value = value[:1] if is_tens else value
            digits += value
            places += [match.start()] * len(value)
        elif len(word) > 3 and not digits.endswith("|"):
            digits += "|"
            places.append(match.start())
    for start in range(len(CARD) - 9):
        if (at := digits.find(CARD[start : start + 10])) >= 0:
            return text[max(0, places[at] - 120) : places[at] + 120]
    return None


class Caller(BaseModel):
    card: SecretStr | None = None
    name: str = ""


class Trouble(Exception):
    def __init__(self, text: str) -> None:
        super().__init__("trouble")
        self.detail = {"sent": [text]}


class Misplacing:
    """The tools of one call. `spelled` is the number as this call spells it."""

    def __init__(self, spelled: str) -> None:
        self.spelled = spelled
        self.got: list[str] = []

    def tools(self) -> list[Any]:
        spelled, got = self.spelled, self.got
        groups = spelled.split() if " " in spelled else [spelled[:4], spelled[4:8], spelled[8:12], spelled[12:]]

        @function_tool
        async def store_card(ctx: RunContext[Caller], number: SecretStr, note: str = "") -> str:
            """Store the card."""
            ctx.userdata.card = number
            got.append(number.get_secret_value())
            return "Stored."

        @function_tool
        async def note(ctx: RunContext[Caller], text: str = "", parts: list[Any] | None = None, n: int = 0) -> str:
            """Note something."""
            got.append(f"{text}{parts or ''}{n or ''}")
            return "Noted."

        @function_tool(handoffs=["host"])
        async def misplace(ctx: RunContext[Caller], how: str) -> Any:
            """Misplace the number."""
            return await self._misplace(ctx, how, groups)

        @langchain_tool(response_format="content_and_artifact")
        async def plain_tool(how: str) -> tuple[str, Any]:
            """A tool of LangChain."""
            if how == "raises":
                raise ToolException(f"refused {spelled}")
            return f"Done: {spelled}", {"sent": spelled, "parts": groups}

        return [store_card, note, misplace, plain_tool]

    async def _misplace(self, ctx: RunContext[Caller], how: str, groups: list[str]) -> Any:
        spelled = self.spelled
        match how:
            case "result":
                return f"Charged {spelled}, thanks."
            case "dict":
                return {"card": {"number": spelled, "of": "Ann"}, spelled: 1}
            case "list":
                return groups
            case "tool error":
                raise ToolError(f"{spelled} was refused")
            case "error":
                raise ValueError(f"no such card: {spelled}")
            case "attribute":
                raise Trouble(spelled)
            case "cause":
                try:
                    raise KeyError(spelled)
                except KeyError as error:
                    raise RuntimeError("the bank is away") from error
            case "group":
                raise ExceptionGroup("several", [ValueError(spelled), OSError(5, spelled)])
            case "artifact":
                made = {"sent": spelled, "parts": groups}
                return ToolMessage("Done.", tool_call_id=ctx.tool_call_id, artifact=made)
            case "command":
                said: list[Any] = [
                    ToolMessage(f"Done: {spelled}", tool_call_id=ctx.tool_call_id),
                    HumanMessage(f"I said {spelled}", id="added-1"),
                    AIMessage(f"It is {spelled}", id="added-2"),
                ]
                return Command(update={"messages": said})
            case "interrupt":
                return str(interrupt(f"Is {spelled} right?"))
            case "interrupt data":
                return str(interrupt({"question": "Right?", "number": spelled, "parts": groups}))
            case "say":
                await ctx.say(f"I have {spelled}.")
                return "Said."
            case "handoff result":
                return ctx.handoff("host", result=f"The card is {spelled}.")
            case "handoff line":
                return ctx.handoff("host", say=f"I pass on {spelled}.")
            case "timeout":
                await asyncio.wait_for(asyncio.sleep(0), 1)
                raise TimeoutError(f"the bank did not answer for {spelled}")
            case _:
                raise AssertionError(how)


class RawModel(BaseChatModel):
    """Streams these chunks: what a provider may send, and a script can't say."""

    replies: list[list[AIMessageChunk]]

    @property
    def _llm_type(self) -> str:
        return "raw"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError

    async def _astream(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
        for chunk in self.replies.pop(0) if self.replies else [AIMessageChunk("Done.")]:
            yield ChatGenerationChunk(message=chunk)


@dataclass(frozen=True)
class Way:
    """A way in which the number is misplaced."""

    model: Callable[[str], Any]
    """Makes the model's script, or a model, from the number as it is spelled."""
    words: Sequence[str] = ("My card is {}.", "Yes.")
    """What the caller says."""
    start: str = "till"


def _script(*entries: Any) -> Callable[[str], list[Any]]:
    def make(spelled: str) -> list[Any]:
        made = [entry(spelled) if callable(entry) else entry for entry in entries]
        return [*made, *["Done."] * 6]

    return make


def _calls(name: str, args: Callable[[str], Any], *, unknown: bool = False) -> Callable[[str], list[Any]]:
    return _script(lambda spelled: call(name, args(spelled), unknown=unknown))


def _tool(how: str) -> Way:
    return Way(_script(call("misplace", {"how": how})))


def _halves(spelled: str) -> list[str]:
    return spelled.split() if " " in spelled else [spelled[:4], spelled[4:8], spelled[8:12], spelled[12:]]


def _raw(chunk: Callable[[str], AIMessageChunk]) -> Callable[[str], Any]:
    return lambda spelled: RawModel(replies=[[chunk(spelled)]])


def _tool_chunk(name: str, args: Any, at: int = 0) -> Any:
    return {"name": name, "args": json.dumps(args), "id": f"c{at}", "index": at, "type": "tool_call_chunk"}


class Rejected(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(f"400: the prompt was refused: {text}")
        self.body = {"error": {"message": text}}


NOTE = {"text": "x"}
WAYS: dict[str, Way] = {
    # what a model writes
    "a misspelled tool": Way(_calls("store_crad", lambda s: {"number": s}, unknown=True)),
    "a misspelled tool, in parts": Way(_calls("store_crad", lambda s: {"parts": _halves(s)}, unknown=True)),
    "a misspelled tool, as a name": Way(_calls("store_crad", lambda s: {s: True}, unknown=True)),
    "a misspelled parameter": Way(_calls("store_card", lambda s: {"card_number": s})),
    "another parameter": Way(_calls("store_card", lambda s: {"number": CARD, "card": {"number": s}})),
    "a nested parameter": Way(_calls("store_card", lambda s: {"args": [{"number": s}]})),
    "broken JSON": Way(_calls("store_card", lambda s: '{"number": "' + s)),
    "broken JSON of a misspelled tool": Way(_calls("store_crad", lambda s: '{"number": "' + s, unknown=True)),
    "broken JSON of another tool": Way(_calls("note", lambda s: '{"text": "' + s)),
    "JSON that is no object": Way(_calls("note", lambda s: json.dumps([s]))),
    "nested too deep": Way(_calls("note", lambda s: '{"parts": ' + "[" * 90 + json.dumps(s) + "]" * 90 + "}")),
    "a second argument": Way(_calls("store_card", lambda s: {"number": CARD, "note": f"It is {s}"})),
    "another tool": Way(_calls("note", lambda s: {"text": s})),
    "another tool, in a sentence": Way(_calls("note", lambda s: {"text": f"Ann has {s}, she says."})),
    "another tool, in parts": Way(_calls("note", lambda s: {"parts": _halves(s)})),
    "another tool, deep": Way(_calls("note", lambda s: {"parts": [{"a": [s, {"b": s}]}]})),
    "another tool, as a name": Way(_calls("note", lambda s: {"parts": [{s: 1}]})),
    "another tool, as a number": Way(_calls("note", lambda s: {"n": int(CARD)})),
    "another tool, in parts that are numbers": Way(_calls("note", lambda s: {"parts": [5273, 8491, 6038, 4756]})),
    "another tool beside it": Way(
        _script(lambda s: say("One moment.", call("store_card", {"number": s}), call("note", {"text": s})))
    ),
    "more tool calls than count": Way(
        _script(lambda s: say("So.", *(call("note", {"text": s}) for _ in range(40))))
    ),
    "an argument of a transfer": Way(_calls("transfer_to_host", lambda s: {"reason": s})),
    "the name of a tool": Way(_calls("misplace", lambda s: {"how": "result"})),
    "words before a tool call": Way(_script(lambda s: say(f"I store {s}.", call("note", NOTE)))),
    "words alone": Way(_script(lambda s: f"You said {s}, right?")),
    "words after it was taken": Way(_script(lambda s: call("store_card", {"number": s}), lambda s: f"I have {s}.")),
    "words behind broken words": Way(_script(lambda s: fail(OSError("gone"), 3, text=f"It is {s}"))),
    "reasoning": Way(
        _raw(
            lambda s: AIMessageChunk(
                [{"type": "thinking", "thinking": f"The card is {s}.", "signature": "abc", "index": 0}],
                tool_call_chunks=[_tool_chunk("note", NOTE)],
            )
        )
    ),
    "reasoning beside the content": Way(
        _raw(
            lambda s: AIMessageChunk(
                "", additional_kwargs={"reasoning_content": f"It is {s}."}, tool_call_chunks=[_tool_chunk("note", NOTE)]
            )
        )
    ),
    "the provider's own block": Way(
        _raw(
            lambda s: AIMessageChunk(
                [{"type": "tool_use", "id": "c0", "name": "note", "input": {"text": s}, "index": 0}],
                tool_call_chunks=[_tool_chunk("note", {"text": s})],
            )
        )
    ),
    # what a tool returns or raises
    **{
        f"a tool's {how}": _tool(how)
        for how in (
            "result", "dict", "list", "tool error", "error", "attribute", "cause", "group", "artifact", "command",
            "interrupt", "interrupt data", "say", "handoff result", "handoff line", "timeout",
        )
    },
    "a LangChain tool's result and artifact": Way(_calls("plain_tool", lambda s: {"how": "x"})),
    "a LangChain tool's error": Way(_calls("plain_tool", lambda s: {"how": "raises"})),
    # what goes wrong
    "an error that echoes the prompt": Way(_script(lambda s: fail(Rejected(f"My card is {s}")))),
    "an error that is tried again": Way(
        _script(lambda s: fail(ConnectionError(f"lost: {s}")), lambda s: fail(ConnectionError(f"lost: {s}")))
    ),
    # what a caller does
    "said in two turns": Way(_script("Go on.", "Thanks."), words=("It is 5273 8491", "6038 4756.", "{}")),
    "said again when it was taken": Way(
        _script(lambda s: call("store_card", {"number": s}), "Yes?"), words=("It is {}", "Did you get {}?")
    ),
    "said to an agent that takes none": Way(_script("I can't take that."), words=("My card is {}.",), start="host"),
    "carried to another agent": Way(
        _script(call("transfer_to_host"), "Hello.", call("transfer_to_till"), "Back."), words=("{} it is.", "Back.")
    ),
}  # fmt: skip


def graph_of(way: Way, spelled: str) -> tuple[Any, Misplacing, Any]:
    """The graph of this way, its tools, and its model."""
    tools = Misplacing(spelled)
    made = way.model(spelled)
    model = made if isinstance(made, BaseChatModel) else ScriptedModel(made)
    till = Agent(
        "till",
        instructions=lambda u: f"Take payments of {u.name}.",
        tools=tools.tools(),
        handoffs=[Handoff("host", "To the host.", history=history.full())],
    )
    host = Agent("host", instructions="Help.", handoffs=[Handoff("till", "To pay.", history=history.full())])
    return create_voice_graph([till, host], userdata=Caller, start=way.start, llm=model), tools, model


def texts_of_events(seen: Sequence[events.Event]) -> list[str]:
    """The events, but for words that are spoken: those can't be hidden from who speaks them."""
    return [repr(event) for event in seen if not isinstance(event, events.Text | events.Say)]
