"""Approval of tools that are no functions of the graph's: LangChain tools, tools of toolsets."""

from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, Toolset, approved, create_voice_graph, events, function_tool
from graph_voice.errors import BuildError
from graph_voice.testing import Call, ScriptedModel, call

pytestmark = pytest.mark.virtual_clock
on_both = pytest.mark.parametrize("front_end", ["core", "livekit"])
SENT: list[tuple[str, str]] = []


@tool
async def send_mail(to: str, text: str = "hello") -> str:
    """Send a mail."""
    SENT.append((to, text))
    return f"sent to {to}"


def of_a_schema() -> StructuredTool:
    """As MCP tools are: the parameters are a JSON schema."""

    async def send(**arguments: Any) -> str:
        SENT.append((arguments["to"], arguments.get("text", "hello")))
        return f"sent to {arguments['to']}"

    properties = {"to": {"type": "string"}, "text": {"type": "string", "default": "hello"}}
    schema = {"type": "object", "properties": properties, "required": ["to"]}
    return StructuredTool(name="send_mail", description="Send a mail.", args_schema=schema, coroutine=send)


class Mails(Toolset):
    def __init__(self, mail: Any) -> None:
        super().__init__("mails")
        self.mail = mail

    @property
    def tools(self) -> list[Any]:
        return [self.mail]


QUESTION = "Shall I send {text!r} to {to}?"
ASKED = "Shall I send 'hello' to Ann?"


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    SENT.clear()


@pytest.fixture(params=["langchain", "schema", "toolset"])
def mail(request: Any) -> Any:
    if request.param == "langchain":
        return approved(send_mail, QUESTION)
    made = of_a_schema()
    made.metadata = {"approve": QUESTION}
    return made if request.param == "schema" else Mails(made)


def desk(*tools: Any) -> Any:
    return create_voice_graph([Agent("desk", instructions="You send mails.", tools=tools)])


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


ASK = call("send_mail", {"to": "Ann"})


@on_both
async def test_it_runs_once_after_a_yes(front_end: Any, mail: Any) -> None:
    model = ScriptedModel([ASK, "Done."])
    async with Call(desk(mail), llm=model, front_end=front_end) as phone:
        await phone.says("Write to Ann.")
        assert (phone.heard, SENT) == ([ASKED], [])
        await phone.says("Yes, please.")
        assert (phone.heard, SENT) == ([ASKED, "Done."], [("Ann", "hello")])
        assert results(phone) == ["sent to Ann"]


@on_both
async def test_it_does_not_run_after_a_no_or_other_words(front_end: Any, mail: Any) -> None:
    model = ScriptedModel([ASK, "Not sent.", ASK, "other", "All right."])
    async with Call(desk(mail), llm=model, front_end=front_end) as phone:
        for words in ("Write to Ann.", "No.", "Write to Ann.", "Rather to Bob."):
            await phone.says(words)
        assert SENT == []
        assert [text.startswith(f'Not done. The caller was asked "{ASKED}"') for text in results(phone)] == [True, True]


@on_both
async def test_an_open_question_survives_a_crash(front_end: Any, mail: Any) -> None:
    model = ScriptedModel([ASK, "I am back.", "Sent."])
    async with Call(desk(mail), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Write to Ann.")
        await phone.crash().resume()
        assert SENT == []
        await phone.says("Yes.")
        assert SENT == [("Ann", "hello")]


@on_both
async def test_the_request_that_reads_the_answer_is_told_as_usage(front_end: Any, mail: Any) -> None:
    used: list[events.Usage] = []
    model = ScriptedModel([ASK, "yes", "Done."])
    async with Call(desk(mail), llm=model, front_end=front_end) as phone:
        await phone.says("Write to Ann.")
        phone.conversation.call.on_event = lambda _, e: used.append(e) if isinstance(e, events.Usage) else None
        await phone.says("That would be lovely.")
        assert SENT == [("Ann", "hello")]
    assert len(used) == 2  # the one that reads, and the reply


async def test_arguments_that_the_tool_refuses_are_not_asked_about() -> None:
    model = ScriptedModel([call("send_mail", {"text": "hi"}), "To whom?"])
    async with Call(desk(approved(send_mail, QUESTION)), llm=model) as phone:
        await phone.says("Write a mail.")
        assert phone.heard == ["To whom?"]
        assert "to: Field required" in results(phone)[0] or "to" in results(phone)[0]
        assert SENT == []


async def test_a_secret_is_masked_in_the_question() -> None:
    class Pay(BaseModel):
        card: SecretStr
        amount: int

    async def pay(card: SecretStr, amount: int) -> str:
        SENT.append((card.get_secret_value(), str(amount)))
        return "paid"

    made = StructuredTool(name="pay", description="Pay.", args_schema=Pay, coroutine=pay)
    model = ScriptedModel([call("pay", {"card": "4111", "amount": 5}), "Paid."])
    async with Call(desk(approved(made, "Charge {amount} to {card}?")), llm=model) as phone:
        await phone.says("Pay.")
        assert "4111" not in str(phone.heard)
        await phone.says("Yes.")
        assert SENT == [("4111", "5")]


@pytest.mark.parametrize(
    ("question", "why"), [("To {whom}?", "no parameter of it"), ("", "write the question"), (7, "write the question")]
)
def test_a_question_that_cant_be_asked_is_refused(question: Any, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        approved(send_mail, question)
    made = of_a_schema()
    made.metadata = {"approve": question}
    with pytest.raises(BuildError, match=why):
        desk(made)


async def test_a_toolsets_tool_whose_question_cant_be_asked_is_not_offered(caplog: Any) -> None:
    made = of_a_schema()
    made.metadata = {"approve": "To {whom}?"}
    model = ScriptedModel(["Hello."])
    async with Call(desk(Mails(made)), llm=model) as phone:
        await phone.says("Hello.")
    assert model.prompts[0].tools == ()
    assert "no parameter of it" in caplog.text


def test_a_function_declares_it_itself() -> None:
    @function_tool
    async def book() -> str:
        """Book."""
        return ""

    with pytest.raises(BuildError, match=r"@function_tool\(approve="):
        approved(book, "Shall I?")
