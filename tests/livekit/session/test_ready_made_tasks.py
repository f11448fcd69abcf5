"""Ready-made tasks: what was spoken is confirmed, what was typed is not; what is secret is nowhere."""

import json
import re
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from pydantic import BaseModel, SecretStr
from secrets_support import Gcm, Watcher

from graph_voice import (
    Agent,
    RunContext,
    Spoken,
    Task,
    TaskFailed,
    TaskGroup,
    create_voice_graph,
    function_tool,
    tasks,
)
from graph_voice.testing import Call, ScriptedModel, call, say

pytestmark = [pytest.mark.virtual_clock, pytest.mark.parametrize("front_end", ["core", "livekit"])]

NUMBER, CODE = "4242424242424242", "737"


class Desk:
    """A desk whose tool runs one task, and keeps what it gets."""

    def __init__(self, task: Any) -> None:
        self.task = task
        self.found: list[Any] = []

        @function_tool
        async def use(ctx: RunContext[Any]) -> str:
            """Use it."""
            self.found.append(await ctx.run_task(task))
            return "used"

        self.agent = Agent("desk", instructions="Desk.", tools=[use], tasks=[task])

    def graph(self, **options: Any) -> Any:
        return create_voice_graph([self.agent, self.task], **options)


def results(phone: Call[Any]) -> list[str]:
    return [m.text for m in phone.messages if isinstance(m, ToolMessage)]


def in_livekit(phone: Call[Any]) -> list[str]:
    """LiveKit's history, if it is there."""
    rig = getattr(phone._front_end, "rig", None)
    return [repr(item) for item in rig.session.history.items] if rig is not None else []


def system(model: ScriptedModel, number: int) -> str:
    """The system message of this prompt."""
    return model.prompts[number].messages[0].text


EACH = [
    (tasks.get_name(), call("record_name", {"first": "Ada", "last": "Lovelace"}), "confirm_name",
     tasks.Name(first="Ada", last="Lovelace")),
    (tasks.get_email(), call("record_email", {"address": "Ada@Example.ORG"}), "confirm_email",
     tasks.Email(address="Ada@example.org")),
    (tasks.get_phone_number(), call("record_phone_number", {"number": "+49 (30) 1234-567"}), "confirm_phone_number",
     tasks.PhoneNumber(number="+49301234567")),
    (tasks.get_address(country="Germany"), call("record_address", {"street": "Am Markt 1", "city": "Bonn"}),
     "confirm_address", tasks.Address(street="Am Markt 1", city="Bonn", country="Germany")),
    (tasks.get_date_of_birth(), call("record_date_of_birth", {"year": 1990, "month": 2, "day": 28}),
     "confirm_date_of_birth", tasks.DateOfBirth.model_validate({"date": "1990-02-28"})),
    (tasks.get_digits(length=4), call("record_digits", {"digits": "0 4-2 1"}), "confirm_digits",
     tasks.Digits(digits="0421")),
]  # fmt: skip
NAMES = [task.name for task, *_ in EACH]


@pytest.mark.parametrize(("task", "record", "confirm", "expected"), EACH, ids=NAMES)
async def test_what_was_spoken_is_confirmed(
    front_end: Any, task: Any, record: Any, confirm: str, expected: Any
) -> None:
    desk = Desk(task)
    model = ScriptedModel(
        {"desk": [call("use"), "Thank you."], task.name: ["Tell me.", record, "Is it right?", call(confirm)]}
    )
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("Go on.")
        await phone.says("Here it is.")
        assert phone.active_agent == task.name
        assert phone.state["stack"][-1]["draft"] is not None
        await phone.says("Yes.")
        assert phone.active_agent == "desk"
    assert desk.found == [expected]
    assert "recognizer" in system(model, 1)
    assert "right" in system(model, 1)
    # The model can confirm only after the caller has spoken again.
    assert [confirm in prompt.tools for prompt in model.prompts[1:5]] == [False, False, False, True]
    assert not model.errors


@pytest.mark.parametrize(("task", "record", "confirm", "expected"), EACH, ids=NAMES)
async def test_what_was_typed_is_not_confirmed(
    front_end: Any, task: Any, record: Any, confirm: str, expected: Any
) -> None:
    desk = Desk(task)
    model = ScriptedModel({"desk": [call("use"), "Thank you."], task.name: ["Tell me.", record]})
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.types("Go on.")
        await phone.types("Here it is.")
        assert phone.active_agent == "desk"
        assert phone.heard == ["Tell me.", "Thank you."]
    assert desk.found == [expected]
    assert confirm not in system(model, 2)
    assert "types" in system(model, 2)


@pytest.mark.parametrize("confirm", [True, False])
async def test_whether_it_is_confirmed_can_be_fixed(front_end: Any, confirm: bool) -> None:
    desk = Desk(tasks.get_email("mail", confirm=confirm, instructions="Mine.", on_enter="Ask.", give_up=None))
    record = call("record_email", {"address": "ada@x.org"})
    model = ScriptedModel(
        {"desk": [call("use"), "Thanks."], "mail": ["Mail?", record, "Right?", call("confirm_email")]}
    )
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("Go on.")
        await (phone.types if confirm else phone.says)("ada at x dot org")
        assert (phone.active_agent == "mail") is confirm
        if confirm:
            await phone.types("yes")
    assert desk.found == [tasks.Email(address="ada@x.org")]
    assert "Mine." in system(model, 1)
    assert "give_up" not in model.prompts[2].tools


async def test_a_value_that_changes_in_the_batch_that_confirms_it_is_not_confirmed(front_end: Any) -> None:
    desk = Desk(tasks.get_email())
    new = call("record_email", {"address": "ada@y.org"})
    script = [
        "Mail?",
        call("record_email", {"address": "ada@x.org"}),
        "x, right?",
        say(new, call("confirm_email")),
        "y, right?",
        call("confirm_email"),
    ]
    model = ScriptedModel({"desk": [call("use"), "Thanks."], "get_email": script})
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        for words in ("Go on.", "ada at x dot org", "No, at y dot org."):
            await phone.says(words)
        assert phone.active_agent == "get_email"
        await phone.says("Yes.")
    assert desk.found == [tasks.Email(address="ada@y.org")]


async def test_what_is_wrong_is_told_to_the_model_and_parts_are_asked_for(front_end: Any) -> None:
    desk = Desk(tasks.get_name(middle=True))
    script = [
        "Name?",
        call("record_name", {"first": "1234"}),
        "Sorry?",
        call("record_name", {"first": "Ada"}),
        "And then?",
        call("record_name", {"middle": "King", "last": "Noel"}),
    ]
    model = ScriptedModel({"desk": [call("use"), "Thanks."], "get_name": script})
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        for words in ("Go on.", "1234", "Ada", "King Noel"):
            await phone.types(words)
        told = results(phone)
    assert told[1:3] == ["Not a name: 1234.", "Recorded. Ask for the middle and the last name."]
    assert desk.found[0].full == "Ada King Noel"


async def test_the_caller_does_not_want_to_give_it(front_end: Any) -> None:
    desk = Desk(tasks.get_phone_number())
    model = ScriptedModel(
        {"desk": [call("use"), "Never mind."], "get_phone_number": ["Phone?", call("give_up", {"reason": "private"})]}
    )
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        await phone.says("Go on.")
        await phone.says("No.")
        assert (phone.active_agent, results(phone)[0]) == ("desk", "private")
    assert desk.found == []


# ---- modality


async def test_instructions_may_differ_by_modality_for_every_agent_and_tools_are_told(front_end: Any) -> None:
    seen: list[str] = []

    @function_tool
    async def look(ctx: RunContext[Any]) -> str:
        """Look."""
        seen.append(ctx.modality)
        return "seen"

    async def enter(ctx: RunContext[Any]) -> None:
        seen.append(ctx.modality)
        await ctx.generate_reply("Greet.")

    desk = Agent(
        "desk",
        instructions=Spoken(audio=lambda userdata: f"Ears, {userdata['who']}.", text="Eyes."),
        on_enter=enter,
        tools=[look],
    )
    model = ScriptedModel(["Hello.", call("look"), "Seen.", call("look"), "Seen.", "Unasked."])
    graph = create_voice_graph([desk])
    async with Call(graph, llm=model, userdata={"who": "Ada"}, front_end=front_end) as phone:
        await phone.silence(1)
        await phone.types("Look.")
        await phone.says("Look.")
        await phone.generate_reply("Say more.")
    assert seen == ["audio", "text", "audio"]
    said = [system(model, number) for number in range(6)]
    assert ["Ears, Ada." in text for text in said] == [True, False, False, True, True, True]
    assert ["Eyes." in text for text in said] == [False, True, True, False, False, False]


# ---- the card


RECORD_NUMBER = call("record_card_number", {"number": NUMBER})
RECORD_CODE = call("record_security_code", {"code": CODE})
RECORD_REST = say(
    call("record_cardholder", {"cardholder": "Ada Lovelace"}),
    call("record_expiration_date", {"month": 7, "year": 39}),
)
SAID = ["Pay.", "Ada Lovelace, July 39.", "It is 4242 4242 4242 4242.", "seven three seven"]
CARD_SCRIPT = ["Name and date?", RECORD_REST, "The number?", RECORD_NUMBER, "The code?", RECORD_CODE, "Ada, 07/39?"]
CARD = tasks.CreditCard(
    cardholder="Ada Lovelace",
    issuer="Visa",
    number=SecretStr(NUMBER),
    security_code=SecretStr(CODE),
    expiration_month=7,
    expiration_year=2039,
)


CODE_SAID = re.compile(rf"(?<![\w.]){CODE}(?![\w.])|xa3{CODE}")  # with a byte of msgpack before it


class Nodes(Watcher):
    """Every run but the model's, which is shown the number until a tool has taken it."""

    async def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        pass


def nowhere(*found: Any) -> None:
    for value in found:
        text = value if isinstance(value, str) else repr(value) + json.dumps(value, default=str)
        for secret in (NUMBER, "4242 4242", "seven three seven"):
            assert secret not in text
        assert not CODE_SAID.search(text)


@pytest.mark.parametrize("encrypted", [False, True], ids=["left out", "encrypted"])
async def test_the_card_is_nowhere_but_in_the_tool_that_waits_for_it(front_end: Any, encrypted: bool) -> None:
    desk = Desk(tasks.get_credit_card())
    watcher, saver, seen = Nodes(), InMemorySaver(), list[Any]()
    secrets = EncryptedSerializer(Gcm()) if encrypted else None
    model = ScriptedModel({"desk": [call("use"), "Paid."], "get_credit_card": [*CARD_SCRIPT, call("confirm_card")]})
    phone = Call(
        desk.graph(secrets=secrets), llm=model, front_end=front_end, saver=saver, config={"callbacks": [watcher]}
    )
    async with phone:
        for words in [*SAID, "Yes."]:
            await phone.says(words)
            happened = [line for line in phone.transcript.splitlines() if "caller says" not in line]
            seen += [phone.messages, phone.state, happened, *in_livekit(phone)]
            await phone.conversation.flush()
            seen += [repr(saver.storage), repr(saver.writes), repr(saver.blobs)]
            if words == SAID[-1]:
                assert phone.state["stack"][-1]["draft"]["cardholder"] == "Ada Lovelace"
        assert phone.active_agent == "desk"
    assert desk.found == [CARD]
    nowhere(*seen, *watcher.seen, *(repr(prompt.messages) for prompt in model.prompts[8:]))
    assert not model.errors


@pytest.mark.parametrize("encrypted", [False, True], ids=["left out", "encrypted"])
async def test_the_next_process_has_the_card_if_it_was_encrypted_and_asks_for_it_again_if_not(
    front_end: Any, encrypted: bool
) -> None:
    desk = Desk(tasks.get_credit_card())
    secrets = EncryptedSerializer(Gcm()) if encrypted else None
    again = [RECORD_NUMBER, "And the code?", RECORD_CODE, "Ada, 07/39?"]
    script = [*CARD_SCRIPT, "Hello again.", *([] if encrypted else again), call("confirm_card")]
    model = ScriptedModel({"desk": [call("use"), "Paid."], "get_credit_card": script})
    call_ = Call(desk.graph(secrets=secrets), llm=model, front_end=front_end, saver=InMemorySaver())
    async with call_ as phone:
        for words in SAID:
            await phone.says(words)
        await phone.crash().resume()
        assert phone.active_agent == "get_credit_card"
        if phone.heard[-1] != "Hello again.":
            await phone.says("Hello?")
        assert phone.state["stack"][-1]["draft"]["cardholder"] == "Ada Lovelace"
        for words in [] if encrypted else SAID[2:]:
            await phone.says(words)
        await phone.says("Yes.")
        assert phone.active_agent == "desk"
    assert desk.found == [CARD]


class Payment(BaseModel):
    get_credit_card: tasks.CreditCard
    get_email: tasks.Email


@pytest.mark.parametrize("encrypted", [False, True], ids=["left out", "encrypted"])
@pytest.mark.parametrize("grouped", [False, True], ids=["two tasks", "a group"])
async def test_a_result_that_the_store_did_not_keep_is_asked_for_again_in_a_group_and_else_the_task_has_failed(
    front_end: Any, encrypted: bool, grouped: bool
) -> None:
    get_card, get_email = tasks.get_credit_card(), tasks.get_email()
    both = TaskGroup("payment", [get_card, get_email], result=Payment)
    found: list[Any] = []

    @function_tool
    async def pay(ctx: RunContext[Any]) -> str:
        """Pay."""
        if grouped:
            found.append((await ctx.run_task(both)).get_credit_card)
            return "paid"
        try:
            card = await ctx.run_task(get_card)
            await ctx.run_task(get_email)
        except TaskFailed as failed:
            return f"not paid: {failed.reason}"
        found.append(card)
        return "paid"

    desk = Agent("desk", instructions="Desk.", tools=[pay], tasks=[both] if grouped else [get_card, get_email])
    asks_again = grouped and not encrypted
    mail = [call("record_email", {"address": "ada@x.org"}), "Right?", call("confirm_email")]
    script = [*CARD_SCRIPT, call("confirm_card")]
    model = ScriptedModel(
        {
            "desk": [call("pay"), "Well."],
            "get_credit_card": [*script, *(script if asks_again else [])],
            "get_email": ["Mail?", "Hello again. Mail?", *mail],
        }
    )
    graph = create_voice_graph(
        [desk, *([both] if grouped else [get_card, get_email])],
        secrets=EncryptedSerializer(Gcm()) if encrypted else None,
    )
    async with Call(graph, llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        for words in [*SAID, "Yes."]:
            await phone.says(words)
        assert phone.active_agent == "get_email"
        await phone.crash().resume()
        if phone.heard[-1] != "Hello again. Mail?":
            await phone.says("Hello?")
        await phone.says("ada at x dot org")
        await phone.says("Yes.")
        if asks_again:
            assert phone.active_agent == "get_credit_card"
            for words in [*SAID[1:], "Yes."]:
                await phone.says(words)
        assert phone.active_agent == "desk"
        told = results(phone)
    if encrypted or grouped:
        assert (found, told[0]) == ([CARD], "paid")
    else:
        assert found == []
        assert told[0].startswith("not paid: get_credit_card: what it had found is secret, and was not stored")
    assert not model.errors


async def test_a_task_without_tools_of_its_own_may_have_a_secret_result_too(front_end: Any) -> None:
    class Password(BaseModel):
        password: SecretStr
        hint: str = ""

    desk = Desk(Task("get_password", result=Password, instructions="Password?"))
    answer = call("complete_get_password", {"password": "open sesame", "hint": "cave"})
    model = ScriptedModel({"desk": [call("use"), "Thanks."], "get_password": ["Password?", answer]})
    async with Call(desk.graph(), llm=model, front_end=front_end, saver=InMemorySaver()) as phone:
        await phone.says("Go on.")
        await phone.says("Open sesame.")
        assert "open sesame" not in repr(phone.state) + repr(phone.messages[2:])
    assert desk.found == [Password(password=SecretStr("open sesame"), hint="cave")]


async def test_a_pin_is_secret_and_is_not_read_back(front_end: Any) -> None:
    desk = Desk(tasks.get_secret_digits("get_pin", length=4))
    script = [
        "PIN?",
        call("record_digits", {"digits": "12"}),
        "Four digits?",
        call("record_digits", {"digits": "9753"}),
    ]
    model = ScriptedModel({"desk": [call("use"), "Thanks."], "get_pin": script})
    async with Call(desk.graph(), llm=model, front_end=front_end) as phone:
        for words in ("Go on.", "12", "nine seven five three"):
            await phone.says(words)
        assert "9753" not in repr(phone.state) + repr(phone.messages)
        assert "nine seven" not in repr(phone.messages)
    assert desk.found == [tasks.SecretDigits(digits=SecretStr("9753"))]
