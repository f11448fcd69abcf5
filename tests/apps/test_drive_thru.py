"""The drive-thru: what a customer may try, in text and by voice."""

import asyncio
import itertools
import json
import re
from typing import Any

import pytest
from app_call import GRAPHS, app_call
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice import Conversation, events
from graph_voice.agents.tools import as_tool
from graph_voice.drawing import to_svg
from graph_voice.graph.build import definition_of, runtime_of
from graph_voice.launch.loading import load_graph
from graph_voice.testing import Call, ScriptedModel, call, run, say
from graphs.drive_thru.graph import create_drive_thru, graph
from graphs.drive_thru.menu import MENU, Menu
from graphs.drive_thru.order import ComboMeal, KidsMeal, Order, RegularItem, cart
from graphs.drive_thru.tools import tools_of

pytestmark = pytest.mark.virtual_clock

DOCS = GRAPHS.parent / "docs"
HELLO = "Welcome to Paper Kite. What will it be?"
FRONT_ENDS = pytest.mark.parametrize("front", ["core", "livekit"])


def regular(item: str, size: str | None = None, **more: Any) -> Any:
    return call("order_regular_item", {"item": item, "size": size, **more})


def items(line: Any) -> list[Any]:
    return list(line.state.items.values())


def carts(seen: list[events.Custom]) -> list[str]:
    return [event.data["markdown"] for event in seen if event.key == "cart"]


# ---- the menu


def test_the_menu_is_complete() -> None:
    def rows(*categories: Any) -> tuple[int, int]:
        return len(MENU.ids(*categories)), len(MENU.of(*categories))

    assert rows("drink") == (12, 30)
    assert rows("combo") == (12, 12)
    assert rows("kids_meal") == (3, 3)
    assert rows("regular") == (20, 28)
    assert rows("sauce") == (9, 9)
    assert len({(row.id, row.size) for row in MENU.rows}) == len(MENU.rows)
    aliases = [row.alias for row in MENU.of("combo")]
    assert None not in aliases
    assert len(set(aliases)) == 12


def test_the_prompt_has_every_row_and_says_what_is_sold_out() -> None:
    agent = definition_of(graph.compile(), "attendant")
    assert agent is not None
    prompt = str(agent.instructions)
    for row in MENU.rows:
        (line,) = [text for text in prompt.splitlines() if text == str(row)]
        assert f"[{row.id}]" in line
        assert ("UNAVAILABLE" in line) is not row.available
    assert '"4b"' in prompt


def test_a_schema_names_the_ids_of_the_menu_and_another_menu_makes_other_tools() -> None:
    def ids(menu: Menu, tool: str, argument: str) -> Any:
        made = next(t for t in tools_of(menu) if as_tool(t).name == tool)
        schema = convert_to_openai_tool(as_tool(made))["function"]["parameters"]
        return schema["properties"][argument]

    assert ids(MENU, "order_combo_meal", "meal")["enum"] == MENU.ids("combo")
    assert ids(MENU, "order_kids_meal", "drink")["enum"] == MENU.ids("drink")
    assert ids(MENU, "order_regular_item", "item")["enum"] == MENU.ids("regular", "drink", "sauce")
    assert ids(MENU, "order_combo_meal", "sauce")["anyOf"][0]["enum"] == MENU.ids("sauce")
    gone = set(MENU.ids("regular", "drink", "sauce")) - {"milk", "kite_burger"}
    small = Menu(row for row in MENU.rows if row.id not in gone)
    assert ids(small, "order_regular_item", "item")["enum"] == ["milk", "kite_burger"]


# ---- what the specification's tests ask for


async def test_one_item_is_ordered_and_taken_back(front_end: str) -> None:
    script: list[Any] = [HELLO, regular("kite_burger"), "One Kite Burger. Anything else?", call("list_order_items")]

    def remove(messages: list[Any]) -> Any:
        listed = next(m.text for m in reversed(messages) if isinstance(m, ToolMessage))
        return call("remove_order_item", {"order_ids": [json.loads(listed)["order_id"]]})

    replies = iter([*script, remove, "It is off your order.", regular("cookie_swirl"), "A Cookie Swirl."])

    def next_reply(messages: list[Any]) -> Any:
        reply = next(replies)
        return reply(messages) if callable(reply) else reply

    async with app_call("drive_thru", front_end, next_reply) as line:
        await line.says("Just a Kite Burger, no meal.")
        assert line.results[0][0] == "order_regular_item"
        assert line.results[0][1].startswith("The item was added")
        assert items(line) == [RegularItem(item_id="kite_burger")]
        assert line.spoken[-1][1] == "One Kite Burger. Anything else?"
        await line.says("I don't want it any more.")
        assert [name for name, _ in line.results[1:]] == ["list_order_items", "remove_order_item"]
        assert items(line) == []
        assert line.spoken[-1][1] == "It is off your order."
        await line.says("A Cookie Swirl then.")
        assert items(line) == [RegularItem(item_id="cookie_swirl")]


async def test_a_meal_without_a_drink_is_asked_about_and_then_ordered_with_all_five_arguments(front_end: str) -> None:
    combo = {
        "meal": "combo_spicy_chicken",
        "drink": "kite_cola",
        "drink_size": "L",
        "fries_size": "L",
        "sauce": "mayonnaise",
    }
    script = [
        HELLO,
        "Which drink would you like with it?",
        call("order_combo_meal", combo),
        "A large four b. Is that all?",
    ]
    async with app_call("drive_thru", front_end, script) as line:
        await line.says("A large four b with mayonnaise.")
        assert line.results == []
        await line.says("A large cola.")
        assert items(line) == [
            ComboMeal(
                meal_id="combo_spicy_chicken",
                drink_id="kite_cola",
                drink_size="L",
                fries_size="L",
                sauce_id="mayonnaise",
            )
        ]
        assert line.results[0][1].startswith("The item was added")


@FRONT_ENDS
async def test_a_tool_that_fails_is_told_in_other_words(front: str) -> None:
    def fails(**arguments: Any) -> str:
        raise RuntimeError("the till's database is at 10.0.0.7")

    model = ScriptedModel([HELLO, regular("vanilla_shake", "L"), "Something went wrong here. Could you say it again?"])
    mocks = {"attendant": {"order_regular_item": fails}}
    async with Call(graph, llm=model, front_end=front, mocks=mocks) as phone:
        result = await phone.says("A large vanilla shake.")
        result.expect.contains_function_call(
            name="order_regular_item", arguments={"item": "vanilla_shake", "size": "L"}
        )
        assert phone.userdata.items == {}
    shown = "\n".join(m.text for m in model.prompts[-1].messages)
    assert "10.0.0.7" not in shown
    assert "10.0.0.7" not in str([m.text for m in phone.conversation.messages])


async def test_a_size_is_asked_for_and_then_ordered(front_end: str) -> None:
    script = [HELLO, "Small, medium or large?", regular("orange_soda", "S"), "One small Orange Soda."]
    async with app_call("drive_thru", front_end, script) as line:
        await line.says("An orange soda.")
        assert line.results == []
        await line.says("A small one.")
        assert items(line) == [RegularItem(item_id="orange_soda", size="S")]


async def test_two_of_a_kind_are_two_items_and_two_kinds_are_both_ordered(front_end: str) -> None:
    script = [
        HELLO,
        say("", regular("mayonnaise"), regular("mayonnaise")),
        "Two mayonnaise.",
        say("", regular("ketchup"), regular("cookie_swirl")),
        "Ketchup and a Cookie Swirl.",
    ]
    async with app_call("drive_thru", front_end, script) as line:
        await line.says("Two mayonnaise.")
        assert items(line) == [RegularItem(item_id="mayonnaise")] * 2
        await line.says("A keychup and a Cookie Swirl.")
        assert [item.item_id for item in items(line)] == ["mayonnaise", "mayonnaise", "ketchup", "cookie_swirl"]


# ---- the rules of the tools


async def order_one(tool: str, /, **arguments: Any) -> tuple[list[Any], str, bool]:
    """What is in the order after one tool call, what the model is told, and whether it is an error."""
    model = ScriptedModel([call(tool, arguments), "Well."])
    conversation = Conversation[Order](graph, config={"configurable": {"llm": model}})
    await conversation.run("Go.")
    (told,) = [m for m in conversation.messages if isinstance(m, ToolMessage)]
    found = list(conversation.userdata.items.values())
    await conversation.aclose()
    return found, told.text, told.status == "error"


COMBO = {"meal": "combo_kite", "drink": "kite_cola", "drink_size": "M", "fries_size": "M", "sauce": None}
KIDS = {"meal": "kids_nuggets", "drink": "milk", "drink_size": None, "sauce": "ketchup"}


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("order_combo_meal", {**COMBO, "meal": "combo_lobster"}, "not on the menu"),
        ("order_combo_meal", {**COMBO, "drink": "beer"}, "not on the menu"),
        ("order_combo_meal", {**COMBO, "sauce": "vanilla_shake"}, "not on the menu"),
        ("order_combo_meal", {**COMBO, "drink_size": None}, "comes in M, L"),
        ("order_combo_meal", {**COMBO, "drink_size": "null"}, "comes in M, L"),
        ("order_combo_meal", {**COMBO, "drink_size": "S"}, "drink_size"),
        ("order_combo_meal", {**COMBO, "drink": "milk"}, "one size only"),
        ("order_combo_meal", {**COMBO, "fries_size": "S"}, "fries_size"),
        ("order_combo_meal", {**COMBO, "fries_size": "null"}, "fries_size"),
        ("order_combo_meal", {**COMBO, "meal": "combo_melt"}, "not available today"),
        ("order_combo_meal", {**COMBO, "drink": "root_beer"}, "not available today"),
        ("order_combo_meal", {**COMBO, "drink": "peach_lemonade", "drink_size": "L"}, "It is there in M"),
        ("order_combo_meal", {**COMBO, "sauce": "smoky_chili"}, "not available today"),
        ("order_kids_meal", {**KIDS, "meal": "combo_kite"}, "not on the menu"),
        ("order_kids_meal", {**KIDS, "drink": "lemon_fizz"}, "comes in S, M, L"),
        ("order_kids_meal", {**KIDS, "drink": "root_beer", "drink_size": "S"}, "not available today"),
        ("order_kids_meal", {**KIDS, "sauce": "smoky_chili"}, "not available today"),
        ("order_regular_item", {"item": "combo_kite", "size": None}, "not on the menu"),
        ("order_regular_item", {"item": "sushi", "size": None}, "not on the menu"),
        ("order_regular_item", {"item": "fries", "size": None}, "comes in S, M, L"),
        ("order_regular_item", {"item": "fries"}, "comes in S, M, L"),
        ("order_regular_item", {"item": "fries", "size": "XL"}, "size"),
        ("order_regular_item", {"item": "caramel_sundae", "size": None}, "not available today"),
        ("order_regular_item", {"item": "root_beer", "size": None}, "not available today"),
        ("order_regular_item", {"item": "peach_lemonade", "size": "L"}, "It is there in S, M"),
        ("order_regular_item", {"item": "smoky_chili", "size": None}, "not available today"),
        ("remove_order_item", {"order_ids": ["O_NOTHIN"]}, "Nothing was removed"),
    ],
)
async def test_what_cannot_be_ordered_is_an_error_and_changes_nothing(
    tool: str, arguments: dict[str, Any], told: str
) -> None:
    found, text, is_error = await order_one(tool, **arguments)
    assert found == []
    assert is_error
    assert told in text


@pytest.mark.parametrize(
    ("tool", "arguments", "item"),
    [
        (
            "order_combo_meal",
            COMBO,
            ComboMeal(meal_id="combo_kite", drink_id="kite_cola", drink_size="M", fries_size="M"),
        ),
        (
            "order_combo_meal",
            {**COMBO, "drink": "milk", "drink_size": "null", "sauce": "null"},
            ComboMeal(meal_id="combo_kite", drink_id="milk", fries_size="M"),
        ),
        (
            "order_combo_meal",
            {**COMBO, "meal": "4b", "drink": "Kite Cola Zero", "drink_size": "large", "fries_size": "l "},
            ComboMeal(meal_id="combo_spicy_chicken", drink_id="kite_cola_zero", drink_size="L", fries_size="L"),
        ),
        ("order_kids_meal", KIDS, KidsMeal(meal_id="kids_nuggets", drink_id="milk", sauce_id="ketchup")),
        (
            "order_kids_meal",
            {**KIDS, "drink_size": "M", "sauce": "null"},
            KidsMeal(meal_id="kids_nuggets", drink_id="milk"),
        ),
        ("order_regular_item", {"item": "nuggets_6", "size": "M"}, RegularItem(item_id="nuggets_6")),
        ("order_regular_item", {"item": "milk", "size": "null"}, RegularItem(item_id="milk")),
        ("order_regular_item", {"item": "ranch"}, RegularItem(item_id="ranch")),
        ("order_regular_item", {"item": "fries", "size": "L"}, RegularItem(item_id="fries", size="L")),
    ],
)
async def test_what_can_be_ordered_is(tool: str, arguments: dict[str, Any], item: Any) -> None:
    found, text, is_error = await order_one(tool, **arguments)
    assert found == [item]
    assert not is_error
    assert re.match(r'The item was added: \{"order_id": "O_[0-9A-Z]{6}"', text)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_row_can_be_ordered_if_and_only_if_it_is_available(data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(MENU.of("regular", "drink", "sauce")))

    async def scenario() -> None:
        found, _, is_error = await order_one("order_regular_item", item=row.id, size=row.size)
        assert (found == [RegularItem(item_id=row.id, size=row.size)]) is row.available
        assert is_error is not row.available

    run(scenario())


async def test_one_unknown_id_removes_nothing(front_end: str) -> None:
    script: list[Any] = [HELLO, say("", regular("milk"), regular("ranch")), "Milk and ranch."]
    replies = iter([*script, None, "I could not find that.", call("list_order_items"), "Milk and ranch."])

    def next_reply(messages: list[Any]) -> Any:
        reply = next(replies)
        if reply is not None:
            return reply
        ids = re.findall(r"O_[0-9A-Z]{6}", str([m.text for m in messages if isinstance(m, ToolMessage)]))
        return call("remove_order_item", {"order_ids": [ids[0], "O_000000"]})

    async with app_call("drive_thru", front_end, next_reply) as line:
        await line.says("Milk and ranch.", "No milk.", "What do I have?")
        assert line.results[-2][1].startswith("Nothing was removed: the order has no O_000000")
        listed = [json.loads(text) for text in line.results[-1][1].splitlines()]
        assert [one["item_id"] for one in listed] == ["milk", "ranch"]
        assert [one["order_id"] for one in listed] == list(line.state.items)


async def test_an_empty_order_is_listed_as_empty() -> None:
    assert await order_one("list_order_items") == ([], "The order is empty", False)


# ---- the cart


async def test_the_cart_has_the_running_total_and_is_hidden_when_it_is_empty(front_end: str) -> None:
    seen: list[events.Custom] = []
    replies = iter(
        [
            HELLO,
            call("order_combo_meal", {**COMBO, "sauce": "ketchup"}),
            "One combo.",
            regular("vanilla_shake", "L"),
            "And a shake.",
            None,
            "It is all gone.",
        ]
    )

    def next_reply(messages: list[Any]) -> Any:
        reply = next(replies)
        if reply is not None:
            return reply
        ids = re.findall(r"O_[0-9A-Z]{6}", str([m.text for m in messages if isinstance(m, ToolMessage)]))
        return call("remove_order_item", {"order_ids": ids})

    async with app_call("drive_thru", front_end, next_reply, on_custom=seen.append) as line:
        await line.says("A number one with a medium cola.", "And a large vanilla shake.", "I want nothing.")
    first, second, third = carts(seen)
    assert "Kite Burger Combo: medium fries, Kite Cola (medium), Ketchup | $8.99 |" in first
    assert "**$8.99**" in first
    assert "Vanilla Shake (large) | $4.49 |" in second
    assert "**$13.48**" in second
    assert third == ""


async def test_a_page_that_fails_blocks_no_order(front_end: str, caplog: pytest.LogCaptureFixture) -> None:
    async def gone(event: events.Custom) -> None:
        raise ConnectionError("the page is gone")

    async with app_call("drive_thru", front_end, [HELLO, regular("milk"), "Milk."], on_custom=gone) as line:
        await line.says("Milk.")
        assert items(line) == [RegularItem(item_id="milk")]


ORDERABLE = st.sampled_from([row for row in MENU.of("regular", "drink", "sauce") if row.available])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.lists(ORDERABLE, min_size=1, max_size=6), min_size=1, max_size=3), st.sampled_from(["core", "livekit"])
)
def test_all_of_a_batch_survive_and_the_last_cart_shows_the_whole_order(batches: list[Any], front: str) -> None:
    async def scenario() -> None:
        seen: list[events.Custom] = []
        script: list[Any] = [HELLO]
        for batch in batches:
            script += [say("", *(regular(row.id, row.size) for row in batch)), "Fine."]
        async with Call(graph, llm=ScriptedModel(script), front_end=front, on_custom=seen.append) as phone:
            for _ in batches:
                await phone.says("Some more.")
            wanted = [RegularItem(item_id=row.id, size=row.size) for batch in batches for row in batch]
            order = phone.userdata
            assert sorted(map(repr, order.items.values())) == sorted(map(repr, wanted))
            assert carts(seen)[-1] == cart(order, MENU)
            total = sum(row.cents for batch in batches for row in batch)
            assert f"${total / 100:.2f}**" in carts(seen)[-1]

    run(scenario())


async def test_two_cars_at_once_have_each_their_own_order() -> None:
    rows = [row for row in MENU.of("regular", "drink", "sauce") if row.available][:12]

    async def car(part: list[Any]) -> tuple[list[Any], list[str]]:
        seen: list[events.Custom] = []
        script = [say("", *(regular(row.id, row.size) for row in part)), "Fine."]
        conversation = Conversation[Order](
            graph, config={"configurable": {"llm": ScriptedModel(script)}}, on_custom=seen.append
        )
        await conversation.run("All of it.")
        found = list(conversation.userdata.items.values())
        await conversation.aclose()
        return found, carts(seen)

    cars = await asyncio.gather(car(rows[:6]), car(rows[6:]), car(rows))
    for (found, shown), part in zip(cars, (rows[:6], rows[6:], rows), strict=True):
        assert found == [RegularItem(item_id=row.id, size=row.size) for row in part]
        assert f"${sum(row.cents for row in part) / 100:.2f}**" in shown[-1]


# ---- calls that don't go straight


@FRONT_ENDS
async def test_a_barge_in_after_the_tool_keeps_the_item_and_adds_it_once(front: str) -> None:
    long = "One Kite Burger for you, and would you like to make that a combo with fries and a drink of your choice?"
    model = ScriptedModel(
        [HELLO, regular("kite_burger"), long, "No problem. Anything else?", call("list_order_items"), "That."]
    )
    async with Call(graph, llm=model, front_end=front) as phone:
        phone.barge_in("No, thanks.", after_words=4)
        await phone.says("A Kite Burger.")
        await phone.says("What do I have?")
        assert list(phone.userdata.items.values()) == [RegularItem(item_id="kite_burger")]
        heard = [m.text for m in phone.conversation.messages if isinstance(m, AIMessage) and m.text]
        assert long.startswith(heard[1])
        assert len(heard[1]) < len(long)


@FRONT_ENDS
@pytest.mark.parametrize("cuts_in", ["And please hurry.", "And a milk."])
async def test_a_barge_in_while_the_tool_runs_keeps_all_items_and_adds_each_once(
    front: str, cuts_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kitchen display that is slow: the tool is still at work when the customer goes on."""
    slow = create_drive_thru()
    attendant = definition_of(slow.compile(), "attendant")
    assert attendant is not None
    tool: Any = next(t for t in attendant.own_tools if t.name == "order_regular_item")
    fast = tool.coroutine

    async def late(*args: Any, **kwargs: Any) -> Any:
        added = await fast(*args, **kwargs)
        await asyncio.sleep(6)
        return added

    monkeypatch.setattr(tool, "coroutine", late)
    model = ScriptedModel(_of_words)
    async with Call(slow, llm=model, front_end=front) as phone:
        phone.during_tool("order_regular_item").says(cuts_in)
        await phone.says("A Kite Burger.")
        await phone.silence(9)
        ordered = ["kite_burger", *(["milk"] if "milk" in cuts_in else [])]
        assert sorted(item.item_id for item in phone.userdata.items.values()) == ordered


def _of_words(messages: list[Any]) -> Any:
    last = messages[-1].text
    if last == "A Kite Burger.":
        return regular("kite_burger")
    if last == "And a milk.":
        return regular("milk")
    return HELLO if "Greet" in last else "Coming up."


@FRONT_ENDS
async def test_a_guess_that_was_wrong_leaves_the_order_as_it_was(front: str) -> None:
    seen: list[events.Custom] = []

    def reply(messages: list[Any]) -> Any:
        last = messages[-1].text
        if "Greet" in last:
            return HELLO
        if isinstance(messages[-1], ToolMessage):
            return "Here you are."
        return regular("fries", "L") if "fries" in last else regular("milk")

    async with Call(graph, llm=ScriptedModel(reply), front_end=front, on_custom=seen.append) as phone:
        await phone.speculates("Large fries").then_says("Large fries, no, sorry, a milk")
        last = [item.item_id for item in phone.userdata.items.values()]
    assert len(last) == 1
    assert len(carts(seen)) == 1


async def test_a_guess_that_is_dropped_changes_neither_the_order_nor_the_cart() -> None:
    seen: list[events.Custom] = []
    model = ScriptedModel([HELLO, regular("fries", "L"), regular("milk"), "Milk."])
    conversation = Conversation[Order](graph, config={"configurable": {"llm": model}}, on_custom=seen.append)
    await conversation.run()
    guess = conversation.turn("Large fries")
    async for event in guess:
        if isinstance(event, events.ToolCalls):
            break
    guess.discard()
    assert (conversation.userdata, seen) == (Order(), [])
    await conversation.run("A milk.")
    assert [item.item_id for item in conversation.userdata.items.values()] == ["milk"]  # type: ignore[union-attr]
    assert len(carts(seen)) == 1
    await conversation.aclose()


@pytest.mark.parametrize("item", ["sushi", "caramel_sundae"])
async def test_the_text_of_an_error_is_for_the_model_and_is_never_spoken(front_end: str, item: str) -> None:
    async with app_call("drive_thru", front_end, [HELLO, regular(item), "I'm sorry, we have none today."]) as line:
        await line.says("One of those.")
        assert line.spoken == [("attendant", HELLO), ("attendant", "I'm sorry, we have none today.")]
        assert item in line.results[-1][1]


@FRONT_ENDS
async def test_a_silent_customer_is_asked_every_ten_seconds_what_fits(front: str) -> None:
    model = ScriptedModel([HELLO, regular("milk"), "One milk."])
    async with Call(graph, llm=model, front_end=front) as phone:
        await phone.silence(30)
        heard = [m.text for m in phone.conversation.messages]
        assert heard[0] == HELLO
        assert set(heard[1:]) == {"Take your time. What can I get you?"}
        assert len(heard) in (3, 4)
        await phone.says("A milk.")
        await phone.silence(13)
        assert phone.conversation.messages[-1].text == "Would you like anything else with that?"


@FRONT_ENDS
async def test_after_a_crash_the_order_is_there_and_nothing_was_added_twice(front: str) -> None:
    def reply(messages: list[Any]) -> Any:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return "Two things. Anything else?"
        return say("", regular("milk"), call("order_combo_meal", COMBO)) if last.text == "A milk and a one." else HELLO

    async with Call(graph, llm=ScriptedModel(reply), front_end=front, saver=InMemorySaver()) as phone:
        await phone.says("A milk and a one.")
        before = phone.userdata
        await phone.crash().resume()
        assert phone.userdata == before
        assert [type(item) for item in phone.userdata.items.values()] == [RegularItem, ComboMeal]


# ---- the judging sheet


SCRIPT: list[Any] = [
    say("", regular("fries", "M"), regular("ketchup"), regular("ketchup")),
    "Fries and two ketchup.",
    call("order_combo_meal", COMBO),
    "And a number one.",
    regular("caramel_sundae"),
    "The sundae is out today.",
]
WORDS = ["Medium fries and two ketchup.", "A number one, medium, with cola.", "A sundae."]


async def test_text_voice_and_studio_end_in_the_same_order() -> None:
    ends = []
    for front in ("text", "voice"):
        async with app_call("drive_thru", front, [HELLO, *SCRIPT]) as line:
            await line.says(*WORDS)
            ends.append(line.state)
    plain = load_graph(str(GRAPHS / "drive_thru")).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"llm": ScriptedModel(SCRIPT), "thread_id": "1"}}
    for text in WORDS:
        state = await plain.ainvoke({"messages": [HumanMessage(text)]}, config)
    ends.append(state["userdata"])
    values = [sorted(map(repr, end.items.values())) for end in ends]
    assert values[0] == values[1] == values[2]
    assert len(ends[0].items) == 4


async def test_only_the_attendants_words_are_spoken_and_the_checkpoint_has_each_once(front_end: str) -> None:
    saver = InMemorySaver()
    async with app_call("drive_thru", front_end, [HELLO, *SCRIPT], saver=saver, thread_id="1") as line:
        await line.says(*WORDS)
        await line.conversation.flush()
        words = [HELLO, *(reply for reply in SCRIPT if isinstance(reply, str))]
        assert [text for _, text in line.spoken] == words
        stored = await graph.compile(checkpointer=saver).aget_state({"configurable": {"thread_id": "1"}})
        messages = stored.values["messages"]
        assert [m.text for m in messages if isinstance(m, AIMessage) and m.text] == words
        asked = [call["id"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls]
        assert asked == [m.tool_call_id for m in messages if isinstance(m, ToolMessage)]
        assert stored.values["userdata"] == line.state


@pytest.mark.parametrize(("cut", "words"), list(itertools.product(range(3), (1, 3))))
@FRONT_ENDS
async def test_cut_anywhere_the_prompts_are_whole_and_what_is_remembered_was_heard(
    front: str, cut: int, words: int
) -> None:
    """The test kit checks the invariants after each call: pairs, heard words, ids, effects."""

    def reply(messages: list[Any]) -> Any:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return "That is on your order now, and what else may I get for you today, my dear customer?"
        turn = sum(m.text in WORDS for m in messages if isinstance(m, HumanMessage))
        if last.text in WORDS:
            return SCRIPT[2 * (turn - 1)]
        return "Of course, I will wait here until you know what you want to have." if turn else HELLO

    async with Call(graph, llm=ScriptedModel(reply), front_end=front) as phone:
        for index, text in enumerate(WORDS):
            if index == cut:
                phone.barge_in("Hold on.", after_words=words)
            await phone.says(text)
        assert len(phone.userdata.items) == 4
        assert phone.current_agent == "attendant"


def test_the_drawing_is_one_agent_without_handoffs() -> None:
    compiled = graph.compile()
    edges = {(edge.source, edge.target) for edge in compiled.get_graph().edges}
    assert set(compiled.nodes) == {"__start__", "attendant", "attendant_tools"}
    assert edges == {
        ("__start__", "attendant"),
        ("attendant", "attendant_tools"),
        ("attendant", "__end__"),
        ("attendant_tools", "attendant"),
    }


# ---- its page


def test_the_page_has_the_drawing_and_its_snippets_run() -> None:
    page = (DOCS / "drive-thru.md").read_text("utf-8")
    names: dict[str, Any] = {}
    for snippet in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(snippet, names)
    assert names["breakfast"].compile().nodes
    runtime = runtime_of(graph.compile(), "attendant")
    assert runtime is not None
    assert names["idle"] == runtime.settings.idle
    assert "images/drive_thru.svg" in page
    assert (DOCS / "images" / "drive_thru.svg").read_text("utf-8") == to_svg(graph)
    assert [tool.name for tool in runtime.agent.all_tools if f"`{tool.name}`" not in page] == []
