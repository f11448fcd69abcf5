"""Tools: what may stand in `Agent(tools=[...])`, what the model is shown of it, and what it gets."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import sys
import textwrap
import threading
from contextvars import ContextVar
from typing import Annotated, Any, Literal, Optional

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, RunContext, StopResponse, ToolError, VoiceState, create_voice_graph, function_tool
from graph_voice.agents.tools import as_tool
from graph_voice.errors import BuildError
from graph_voice.graph.tool_call import MAX_OUTPUT
from graph_voice.testing import ScriptedModel, call, say


class Caller(BaseModel):
    name: str | None = None
    seen: list[str] = []


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: int = 0


@dataclasses.dataclass
class Slot:
    day: str
    free: bool = True


MARK: ContextVar[str] = ContextVar("mark", default="none")


class MyState(VoiceState[Caller]):
    topic: str


async def run(
    tools: list[Any], *calls: Any, agent: Agent | None = None, store: BaseStore | None = None, **state: Any
) -> dict[str, Any]:
    """One batch of calls, ungated."""
    model = ScriptedModel([say(*calls), "Done."])
    agent = agent or Agent("intake", instructions="Intake.", tools=tools)
    graph: StateGraph[Any, Any, Any, Any] = create_voice_graph(
        [agent], userdata=Caller, llm=model, state_schema=MyState
    )
    result: dict[str, Any] = await graph.compile(store=store).ainvoke({"messages": [HumanMessage("Hi")], **state})
    assert not model.errors
    return result


def answers(result: dict[str, Any]) -> list[ToolMessage]:
    return [m for m in result["messages"] if isinstance(m, ToolMessage)]


async def told(tools: list[Any], *calls: Any) -> str:
    (message,) = answers(await run(tools, *calls))
    return message.text


def schema(value: Any) -> dict[str, Any]:
    made: dict[str, Any] = convert_to_openai_tool(as_tool(value))["function"]
    return made


# ---- schemas


async def test_annotations_and_docstring_are_the_schema() -> None:
    @function_tool
    async def book(
        ctx: RunContext[Caller],
        day: Literal["monday", "sunday"],
        color: Color,
        at: Point,
        guests: list[str],
        note: Optional[str] = None,  # noqa: UP045  # as many users write it
        seats: int = 2,
    ) -> str:
        """Book a table.

        For one evening.

        Args:
            ctx: not for the model.
            day: the day of the week.
            seats: how many.
        """
        return f"{day} {color} {at} {guests} {note} {seats}"

    made = schema(book)
    assert made["description"] == "Book a table.\n\nFor one evening."
    properties = made["parameters"]["properties"]
    assert set(properties) == {"day", "color", "at", "guests", "note", "seats"}
    assert properties["day"]["description"] == "the day of the week."
    assert properties["day"]["enum"] == ["monday", "sunday"]
    assert properties["seats"]["default"] == 2
    assert set(made["parameters"]["required"]) == {"day", "color", "at", "guests"}
    text = await told([book], call("book", {"day": "sunday", "color": "red", "at": {"x": "1"}, "guests": ["a"]}))
    assert text == "sunday Color.RED x=1 y=0 ['a'] None 2"


def test_a_plain_function_gets_its_argument_descriptions_too() -> None:
    def look_up(number: int) -> str:
        """Look up.

        Args:
            number: of the order.
        """
        return str(number)

    made = schema(look_up)
    assert made["description"] == "Look up."
    assert made["parameters"]["properties"]["number"]["description"] == "of the order."


@function_tool
async def everything(
    ctx: RunContext[Caller],
    text: str,
    runtime: ToolRuntime,
    state: Annotated[dict[str, Any], InjectedState],
    topic: Annotated[str, InjectedState("topic")],
    store: Annotated[Any, InjectedStore()],
    call_id: Annotated[str, InjectedToolCallId],
) -> str:
    """Everything."""
    assert ctx.store is store is runtime.store
    assert ctx.tool_call_id == call_id == runtime.tool_call_id
    assert state["userdata"] is ctx.userdata
    runtime.state["userdata"].seen.append("runtime")
    return f"{text} {topic} {call_id} {len(state['messages'])}"


@tool
async def everything_of_langchain(
    text: str,
    runtime: ToolRuntime,
    state: Annotated[dict[str, Any], InjectedState],
    topic: Annotated[str, InjectedState("topic")],
    store: Annotated[Any, InjectedStore()],
    call_id: Annotated[str, InjectedToolCallId],
) -> str:
    """Everything."""
    state["userdata"].name = "Ann"
    assert store is runtime.store
    return f"{text} {topic} {call_id} {len(runtime.state['messages'])}"


@pytest.mark.parametrize("one", [everything, everything_of_langchain])
async def test_injected_arguments_arrive_and_the_model_never_sees_them(one: Any) -> None:
    assert set(schema(one)["parameters"]["properties"]) == {"text"}
    name = schema(one)["name"]
    forged = {"text": "t", "topic": "forged", "call_id": "forged", "state": {}, "runtime": {}, "store": {}}
    given = Caller()
    result = await run([one], call(name, forged, id="c1"), store=InMemoryStore(), topic="cats", userdata=given)
    assert given == Caller(), "it changes the batch's copy, and so the state, by an update"
    assert answers(result)[0].text == "t cats c1 2"
    assert result["userdata"] == (Caller(seen=["runtime"]) if one is everything else Caller(name="Ann"))


def test_a_tool_keeps_what_its_declaration_says() -> None:
    @function_tool(name="pay", description="Pay.", handoffs=["billing"], timeout=3, idempotent=True)
    async def charge(ctx: RunContext[Caller]) -> str:
        return ""

    made: Any = as_tool(charge)
    assert (made.name, made.description, made.handoffs) == ("pay", "Pay.", ("billing",))
    assert (made.timeout, made.idempotent) == (3, True)


class Unasked:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise AssertionError("pydantic made a schema of what the model is not asked for")


def test_what_the_model_is_not_asked_for_costs_no_schema() -> None:
    """That of a `RunContext` takes pydantic longer than all else about a tool."""

    async def note(ctx: RunContext[Unasked], number: int) -> str:
        """Note."""
        return ""

    assert list(as_tool(function_tool(note)).args) == ["number"]


def test_a_context_may_be_optional_or_annotated() -> None:
    @function_tool
    def one(text: str, ctx: RunContext[Caller] | None = None) -> str:
        """One."""
        return text

    @function_tool
    def two(text: str, ctx: Annotated[RunContext[Caller], "mine"]) -> str:
        """Two."""
        return text

    assert all(set(schema(t)["parameters"]["properties"]) == {"text"} for t in (one, two))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("def bad(text: str) -> str:\n    return text", "docstring"),
        ("def bad(*texts: str) -> str:\n    'Bad.'\n    return ''", r"\*texts has no schema"),
        ("def bad(text: 'Missing') -> str:\n    'Bad.'\n    return ''", "Missing"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason(source: str, what: str) -> None:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    with pytest.raises(BuildError, match=what):
        as_tool(function_tool(namespace["bad"]))


def test_what_is_no_tool_is_refused() -> None:
    with pytest.raises(BuildError, match="not a tool"):
        Agent("intake", instructions="I.", tools=[5])
    with pytest.raises(BuildError, match="already a LangChain tool"):
        function_tool(Adder())  # type: ignore[call-overload]


# ---- kinds


def plain(a: int) -> int:
    """Add one."""
    return a + 1


async def plain_async(a: int) -> int:
    """Add one."""
    return a + 1


class Adder(BaseTool):
    name: str = "adder"
    description: str = "Add one."

    def _run(self, a: int) -> int:
        return a + 1


@pytest.mark.parametrize(
    "one",
    [
        plain,
        plain_async,
        tool("decorated")(plain),
        StructuredTool.from_function(plain, name="structured"),
        StructuredTool.from_function(coroutine=plain_async, name="structured_async"),
        Adder(),
        function_tool(name="marked", description="Add.")(lambda a: plain(a)),
        function_tool(name="marked_async", description="Add.")(lambda a: plain_async(a)),
    ],
    ids=lambda v: getattr(v, "name", getattr(v, "__name__", "?")),
)
async def test_every_kind_of_tool_runs(one: Any) -> None:
    assert await told([one], call(as_tool(one).name, {"a": 1})) == "2"


async def test_methods_of_an_agent_are_tools_and_see_the_agent() -> None:
    class IntakeAgent(Agent):
        instructions = "Intake."
        greeting = "Hello"

        @function_tool
        async def greet(self, ctx: RunContext[Caller], name: str) -> str:
            """Greet."""
            ctx.userdata.name = name
            return f"{self.greeting} {name}"

        @function_tool(name="stay")
        @staticmethod
        def stay_here() -> str:
            """Stay."""
            return "Here."

    result = await run([], call("greet", {"name": "Ann"}), call("stay"), agent=IntakeAgent())
    assert [m.text for m in answers(result)] == ["Hello Ann", "Here."]
    assert result["userdata"].name == "Ann"


async def test_a_sync_tool_runs_in_a_thread_with_the_context_variables_of_the_call() -> None:
    threads = []

    @function_tool
    def where(ctx: RunContext[Caller]) -> str:
        """Where."""
        threads.append(threading.current_thread())
        ctx.userdata.name = MARK.get()
        return RunContext.current().agent

    MARK.set("kept")
    result = await run([where], call("where"))
    assert answers(result)[0].text == "intake"
    assert result["userdata"].name == "kept"
    assert threads[0] is not threading.main_thread()


async def test_a_decorated_async_function_is_awaited() -> None:
    import functools

    def logged(fn: Any) -> Any:
        @functools.wraps(fn)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs)

        return inner

    @function_tool
    @logged
    async def one() -> str:
        """One."""
        return "1"

    assert await told([one], call("one")) == "1"


# ---- results


@dataclasses.dataclass
class Case:
    value: Any
    text: str


CASES = {
    "none": Case(None, ""),
    "text": Case("Hi.", "Hi."),
    "number": Case(3, "3"),
    "bool": Case(True, "True"),
    "dict": Case({"a": "ü", "at": Point(x=1)}, '{"a":"ü","at":{"x":1,"y":0}}'),
    "list": Case(["a", "b"], '["a","b"]'),
    "empty": Case([], "[]"),
    "models": Case([Point(x=1)], '[{"x":1,"y":0}]'),
    "model": Case(Point(x=1, y=2), '{"x":1,"y":2}'),
    "secret": Case({"pin": SecretStr("1234")}, '{"pin":"**********"}'),
    "dataclass": Case(Slot("monday"), '{"day":"monday","free":true}'),
    "blocks": Case([{"type": "text", "text": "Hi."}], "Hi."),
}


@pytest.mark.parametrize("name", CASES)
async def test_what_a_tool_returns_becomes_text(name: str) -> None:
    @function_tool
    async def give() -> Any:
        """Give."""
        return CASES[name].value

    assert await told([give], call("give")) == CASES[name].text


async def test_a_list_of_texts_of_a_langchain_tool_stays_a_list() -> None:
    @tool
    def names() -> list[str]:
        """Names."""
        return ["Ann", "Bob"]

    assert json.loads(await told([names], call("names"))) == ["Ann", "Bob"]


async def test_a_huge_result_is_cut_and_says_so() -> None:
    @tool
    def book() -> str:
        """A book."""
        return "x" * 1_000_000

    text = await told([book], call("book"))
    assert text.startswith("x" * MAX_OUTPUT)
    assert text.endswith(f"[cut: 1000000 characters, the first {MAX_OUTPUT} are shown]")
    assert len(text) < MAX_OUTPUT + 100


async def test_an_artifact_is_kept_and_not_told() -> None:
    @tool(response_format="content_and_artifact")
    def search() -> tuple[str, dict[str, Any]]:
        """Search."""
        return "One hit.", {"goto": "nowhere", "new_agent_id": "nobody"}

    (message,) = answers(await run([search], call("search")))
    assert (message.text, message.artifact) == ("One hit.", {"goto": "nowhere", "new_agent_id": "nobody"})


async def test_return_direct_is_the_answer() -> None:
    @tool(return_direct=True)
    def recite() -> str:
        """Recite."""
        return "To be."

    result = await run([recite], call("recite"))
    assert [m.text for m in result["messages"] if isinstance(m, AIMessage)] == ["", "To be."]


async def test_return_direct_beside_another_call_leaves_the_reply_to_the_model() -> None:
    @tool(return_direct=True)
    def recite() -> str:
        """Recite."""
        return "To be."

    result = await run([recite, plain], call("recite"), call("plain", {"a": 1}))
    assert result["messages"][-1].text == "Done."


async def test_a_failing_return_direct_tool_leaves_the_reply_to_the_model() -> None:
    @tool(return_direct=True)
    def recite() -> str:
        """Recite."""
        raise ToolException("I forgot.")

    result = await run([recite], call("recite"))
    assert result["messages"][-1].text == "Done."


# ---- commands


async def test_a_command_writes_other_channels_and_messages_behind_the_answers() -> None:
    @tool
    def note(call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Note."""
        return Command(
            update={
                "topic": "dogs",
                "messages": [HumanMessage("By the way.", id="h"), ToolMessage("Noted.", tool_call_id=call_id)],
            }
        )

    result = await run([note, plain], call("note"), call("plain", {"a": 1}))
    assert result["topic"] == "dogs"
    assert [m.text for m in result["messages"]] == ["Hi", "", "Noted.", "2", "By the way.", "Done."]


async def test_a_command_without_an_answer_gets_an_empty_one() -> None:
    @function_tool
    async def note() -> Command[Any]:
        """Note."""
        return Command(update={"topic": "dogs", "userdata": {"name": "Ann"}})

    result = await run([note], call("note"))
    assert (answers(result)[0].text, result["topic"], result["userdata"].name) == ("", "dogs", "Ann")


# ---- failures


@pytest.mark.parametrize(
    ("error", "text", "logged"),
    [
        (ToolError("No such order."), "No such order.", False),
        (ToolException("Not today."), "Not today.", True),
        (KeyError("secret-token"), "An internal error occurred.", True),
    ],
)
async def test_the_model_learns_of_a_failure_what_is_meant_for_it(
    error: Exception, text: str, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    @function_tool
    async def fail() -> str:
        """Fail."""
        raise error

    with caplog.at_level(logging.ERROR, logger="graph_voice"):
        (message,) = answers(await run([fail], call("fail")))
    assert (message.text, message.status) == (text, "error")
    assert bool(caplog.records) is logged


@pytest.mark.parametrize("decorate", [function_tool, tool])
async def test_a_validation_error_inside_a_tool_is_not_told(decorate: Any) -> None:
    """LangGraph's ToolNode takes it for one of the arguments, and would tell its text."""

    @decorate
    async def parse(text: str) -> str:
        """Parse."""
        return str(Point.model_validate({"x": "secret-token"}))

    assert await told([parse], call("parse", {"text": "t"})) == "An internal error occurred."


@pytest.mark.parametrize("decorate", [function_tool, tool])
async def test_arguments_that_do_not_fit_are_told_with_what_is_wrong(decorate: Any) -> None:
    @decorate
    async def add(a: int) -> str:
        """Add."""
        return str(a)

    text = await told([add], call("add", {"a": "many"}))
    assert "a: Input should be a valid integer" in text
    assert "Expecting" not in await told([add], call("add", {}))


async def test_stop_response_ends_the_turn_without_a_reply() -> None:
    @function_tool
    async def stop() -> str:
        """Stop."""
        raise StopResponse

    result = await run([stop], call("stop"))
    assert [type(m).__name__ for m in result["messages"]] == ["HumanMessage", "AIMessage", "ToolMessage"]


@pytest.mark.parametrize("order", [["stop", "plain"], ["plain", "stop"]])
async def test_stop_response_beside_a_call_that_wants_a_reply_leaves_it_to_that_one(order: list[str]) -> None:
    """As in LiveKit: each call says for itself whether it wants a reply."""

    @function_tool
    async def stop() -> str:
        """Stop."""
        raise StopResponse

    result = await run([stop, plain], *(call(name, {"a": 1} if name == "plain" else {}) for name in order))
    assert result["messages"][-1].text == "Done."


# ---- MCP


async def test_a_tool_of_an_mcp_server_runs(tmp_path: Any) -> None:
    adapters = pytest.importorskip("langchain_mcp_adapters.client")
    server = tmp_path / "server.py"
    server.write_text(
        textwrap.dedent(
            """
            from mcp.server.fastmcp import FastMCP

            mcp = FastMCP("orders")

            @mcp.tool()
            def order_status(number: int) -> str:
                "The status of an order."
                if number < 0:
                    raise ValueError("No such order.")
                return f"Order {number} is on its way."

            mcp.run()
            """
        )
    )
    client = adapters.MultiServerMCPClient(
        {"orders": {"transport": "stdio", "command": sys.executable, "args": [str(server)]}}
    )
    tools = await client.get_tools()
    result = await run(tools, call("order_status", {"number": 7}), call("order_status", {"number": -1}))
    good, bad = answers(result)
    assert good.text == "Order 7 is on its way."
    assert bad.status == "error"
    assert "No such order." in bad.text
