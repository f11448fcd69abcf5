"""Who calls: a chat model that plays a person, or a script."""

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, TypeAlias

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.tools import tool
from pydantic import Field, TypeAdapter, ValidationError

from graph_voice.errors import GraphVoiceError
from graph_voice.testing.simulation.lines import CALLER, Line
from graph_voice.testing.simulation.off_clock import ModelLoop
from graph_voice.testing.simulation.scenario import Scenario, ScenarioError

__all__ = ["Caller", "CallerError", "HangUp", "ModelCaller", "Move", "Say", "ScriptCaller", "Silence", "Tokens"]


class CallerError(GraphVoiceError, RuntimeError):
    """The caller's model did not say what the caller does."""


@dataclass(frozen=True)
class Say:
    """The caller says something, and may cut into the answer."""

    text: str
    cut_in: str | None = None
    """What they say into the answer."""
    after_words: int = 3
    """How many words of the answer they hear before."""


@dataclass(frozen=True)
class Silence:
    """The caller is silent."""

    seconds: float


@dataclass(frozen=True)
class HangUp:
    """The caller ends the call."""

    reason: str = ""


Move: TypeAlias = "Say | Silence | HangUp"


@dataclass
class Tokens:
    """What models have read and written."""

    input: int = 0
    output: int = 0

    def add(self, message: AIMessage) -> None:
        """Count this answer, if its provider counted it."""
        if (used := message.usage_metadata) is not None:
            self.input += used["input_tokens"]
            self.output += used["output_tokens"]


class Caller(Protocol):
    """Who calls. One is made for each call."""

    async def next(self, lines: Sequence[Line]) -> Move:
        """What they do now, after these lines of the call."""


class ScriptCaller:
    """Does what the scenario's `userdata.graph_voice.caller` lists, then hangs up."""

    def __init__(self, scenario: Scenario) -> None:
        moves = scenario.own.caller
        if moves is None:
            raise ScenarioError(
                f"{scenario.name}: the caller has no script. Write userdata: {{graph_voice: {{caller: [...]}}}} in the "
                "scenario, or choose a model for the caller."
            )
        self._moves = list(moves)

    async def next(self, lines: Sequence[Line]) -> Move:
        """The next step of the script."""
        if not self._moves:
            return HangUp("the script is over")
        move = self._moves.pop(0)
        if move.say is not None:
            return Say(move.say, move.cut_in, move.after_words)
        return Silence(move.silence) if move.silence is not None else HangUp(move.hang_up or "")


MANNERS = (
    "",
    "You speak briefly, a few words at a time.",
    "You think aloud, and add small details that nobody asked for.",
    "You are in a hurry, and cut in when an answer gets long.",
    "You hesitate, and correct yourself now and then.",
)
"""How a caller speaks, besides what the scenario says. The seed of the call chooses; the first call has none."""

_TASK = """\
You play a person who calls a company on the phone. A voice agent answers. You are being used to find out how good \
that agent is, so behave as this person really would, and never say that you play a part.

Who you are, and what you want:
{instructions}

Rules:
- You act only by calling the tools: say, cut_in, stay_silent, hang_up. Call say at most once at a time.
- Say what a person says on the phone: one or two short sentences, no lists, no stage directions.
- Give facts (names, numbers, addresses) only as they are written above. If you are asked for one that is not, say \
that you don't know it.
- Do not help the agent: it has to find out what you want, and what is missing.
- You hear only what is in the transcript. What is marked "not heard" was cut off: you do not know it.
- Hang up when you have what you wanted, when you gave it up, or when the call leads nowhere. Say goodbye before, once.
{manner}"""


@tool
def say(text: Annotated[str, Field(min_length=1)]) -> str:
    """Say this to the agent, and listen to the answer."""
    return text


@tool
def cut_in(text: Annotated[str, Field(min_length=1)], after_words: Annotated[int, Field(ge=1, le=100)]) -> str:
    """Interrupt the agent's answer to what you say now: after this many words of it, say this. Call it with `say`."""
    return text


@tool
def stay_silent(seconds: Annotated[float, Field(gt=0, le=120)]) -> str:
    """Say nothing for this many seconds, and hear what the agent does."""
    return ""


@tool
def hang_up(reason: str = "") -> str:
    """End the call. The reason is for the report: the agent does not hear it."""
    return reason


_TOOLS = [say, cut_in, stay_silent, hang_up]


@dataclass
class ModelCaller:
    """A chat model that plays the scenario's caller.

    Args:
        model: a LangChain chat model that calls tools.
        scenario: whom it plays.
        models: where it runs.
        manner: how the person speaks.
    """

    model: Any
    scenario: Scenario
    models: ModelLoop
    manner: str = ""
    tokens: Tokens = field(default_factory=Tokens)
    _later: Say | None = None

    @classmethod
    def seeded(cls, model: Any, scenario: Scenario, models: ModelLoop, number: int, seed: int) -> "ModelCaller":
        """The caller of the call of this number: the first one speaks plainly, the seed chooses how the others do."""
        chosen = random.Random(f"{seed}/{scenario.name}/{number}").choice(MANNERS) if number > 1 else ""
        return cls(model, scenario, models, chosen)

    async def next(self, lines: Sequence[Line]) -> Move:
        """Ask the model what the person does now. A second time, if it answered with nothing that can be done."""
        asked: list[Any] = [SystemMessage(self._task()), HumanMessage(_prompt(lines))]
        problem = ""
        for _ in range(2):
            answer = await self.models.run(functools.partial(self._ask, asked))
            self.tokens.add(answer)
            try:
                return _move(answer)
            except (ValidationError, ValueError) as error:
                problem = _short(error)
                asked = [*asked[:2], HumanMessage(f"That was not possible: {problem}. Call one of the tools.")]
        raise CallerError(f"the caller's model did not say what the caller does: {problem}")

    async def _ask(self, asked: list[Any]) -> AIMessage:
        answer: AIMessage = await self.model.bind_tools(_TOOLS, tool_choice="any").ainvoke(asked)
        return answer

    def _task(self) -> str:
        return _TASK.format(instructions=self.scenario.instructions.strip(), manner=self.manner).strip()


def _prompt(lines: Sequence[Line]) -> str:
    heard = [_shown(line) for line in lines if line.kind == "says" and (line.text or line.unheard)]
    return f"The call so far:\n{chr(10).join(heard) or '(the line is open, and nobody has spoken)'}\n\nWhat do you do?"


def _shown(line: Line) -> str:
    cut = " [the rest was cut off: not heard]" if line.unheard else ""
    return f"{'You' if line.who == CALLER else 'Agent'}: {line.text}{cut}"


def _move(answer: AIMessage) -> Move:
    """What the model's tool calls mean. A model that only writes words says them."""
    found: dict[str, Any] = {}
    for call in answer.tool_calls:
        known = next((t for t in _TOOLS if t.name == call["name"]), None)
        if known is None:
            raise ValueError(f"there is no tool {call['name']!r}")
        if call["name"] in found:
            raise ValueError(f"{call['name']} was called twice")
        found[call["name"]] = TypeAdapter(known.get_input_schema()).validate_python(call["args"])
    if "say" in found:
        cut = found.get("cut_in")
        return Say(found["say"].text, cut.text, cut.after_words) if cut else Say(found["say"].text)
    if "hang_up" in found:
        return HangUp(found["hang_up"].reason)
    if "stay_silent" in found:
        return Silence(found["stay_silent"].seconds)
    if "cut_in" in found:
        raise ValueError("cut_in was called without say: it cuts into the answer to what you say now")
    if answer.text.strip():
        return Say(answer.text.strip())
    raise ValueError("no tool was called")


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
