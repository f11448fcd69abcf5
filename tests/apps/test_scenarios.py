"""The applications' simulated callers: files that LiveKit reads too, which say nothing that the graph does not have."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from app_call import agents_of
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from livekit.agents.simulation import ScenarioGroup

from graph_voice.launch.loading import load_graph
from graph_voice.testing import ScriptedModel, call, say, simulate
from graph_voice.testing.simulation import Scenario, load_scenarios
from graphs.drive_thru.simulation import what_is_wrong as wrong_order
from graphs.front_desk import simulation as desk
from graphs.front_desk.appointments import Appointment, Slot

GRAPHS = Path(__file__).parents[2] / "graphs"
LEAST = {"front_desk": 10, "restaurant": 8, "medical_triage": 8, "drive_thru": 8}
ALL = [
    pytest.param(app, scenario, id=f"{app}: {scenario.name}")
    for app in LEAST
    for scenario in load_scenarios(GRAPHS / app / "scenarios.yaml")
]
NAMED_DAY = re.compile(r"(Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday), (June|July) (\d+)", re.IGNORECASE)


def graph_of(app: str) -> Any:
    if not (GRAPHS / app / "graph.py").is_file():
        pytest.skip(f"graphs/{app} has no graph")
    return load_graph(str(GRAPHS / app))


@pytest.mark.parametrize("app", LEAST)
def test_the_file_is_one_that_livekit_reads(app: str) -> None:
    written = yaml.safe_load((GRAPHS / app / "scenarios.yaml").read_text("utf-8"))
    for scenario in written["scenarios"]:
        scenario["userdata"] = json.dumps(scenario.get("userdata", {}))  # as LiveKit's command sends it
    group = ParseDict(written, ScenarioGroup())
    assert len(group.scenarios) >= LEAST[app]
    labels = [one.label for one in group.scenarios]
    assert len(set(labels)) == len(labels)
    assert all(one.label and one.instructions and one.agent_expectations and one.tags for one in group.scenarios)


@pytest.mark.parametrize(("app", "scenario"), ALL)
def test_what_is_expected_is_something_that_the_graph_has(app: str, scenario: Scenario) -> None:
    graph, expect = graph_of(app), scenario.own.expect
    agents = agents_of(graph)
    tools = {tool.name for agent in agents.values() for tool in agent.all_tools}
    assert expect.active_agent is None or expect.active_agent in agents
    assert set(expect.tools) <= tools
    userdata = graph.compile().channels["userdata"].ValueType
    assert set(expect.userdata) <= set(userdata.model_fields)


@pytest.mark.parametrize(("app", "scenario"), ALL)
def test_weekdays_and_dates_agree(app: str, scenario: Scenario) -> None:
    for weekday, month, day in NAMED_DAY.findall(f"{scenario.instructions} {scenario.agent_expectations}"):
        assert datetime.strptime(f"{day} {month} 2026", "%d %B %Y").strftime("%A") == weekday


@pytest.mark.parametrize("scenario", [pytest.param(p.values[1], id=p.id) for p in ALL if p.values[0] == "front_desk"])
async def test_what_must_be_booked_at_the_front_desk_is_free(scenario: Scenario) -> None:
    calendar, wanted = desk.calendar_of(scenario.userdata), scenario.userdata
    free = await calendar.list_available_slots(calendar.now(), calendar.now() + timedelta(days=90))
    assert len(free) == len(wanted["available_slots"]), "all of them are ahead"
    assert all(slot.start.weekday() < 5 for slot in free)
    expected = [wanted.get("expected_booking"), *wanted.get("expected_bookings", ())]
    assert {desk.moment(text) for text in expected if text} <= {slot.start for slot in free}
    assert set(wanted.get("contested_slots", ())) <= set(wanted["available_slots"]) - set(expected)
    for address in re.findall(r"[\w.]+@[\w.]+\w", scenario.instructions):
        assert address == wanted.get("expected_email", address)


# ---- the checks of what came of it


def visit(hour: int, email: str = "ada@example.org") -> Appointment:
    return Appointment(slot=Slot(start=datetime(2026, 6, 15, hour, tzinfo=UTC)), email=email)


TEN, ELEVEN = "2026-06-15T10:00:00", "2026-06-15T11:00:00Z"


@pytest.mark.parametrize(
    ("userdata", "booked", "wrong"),
    [
        ({}, [], None),
        ({}, [visit(10)], None),
        ({}, [visit(10), visit(11)], "booked is 2026-06-15 10:00, 2026-06-15 11:00, and one visit was wanted"),
        ({"expected_booking": None}, [], None),
        ({"expected_booking": None}, [visit(10)], "booked is 2026-06-15 10:00, not nothing"),
        ({"expected_booking": TEN}, [visit(10)], None),
        ({"expected_booking": TEN}, [], "booked is nothing, not 2026-06-15 10:00"),
        ({"expected_booking": TEN}, [visit(11)], "booked is 2026-06-15 11:00, not 2026-06-15 10:00"),
        ({"expected_bookings": [ELEVEN, TEN]}, [visit(10), visit(11)], None),
        (
            {"expected_booking": TEN, "expected_email": "bob@example.org"},
            [visit(10)],
            "the visit is booked for ada@example.org, not bob@example.org",
        ),
    ],
)
def test_what_is_booked_is_compared_with_what_is_expected(userdata: Any, booked: Any, wrong: str | None) -> None:
    assert desk.what_is_wrong(userdata, booked) == wrong


ITEMS = st.fixed_dictionaries({"item_id": st.sampled_from("abc"), "size": st.sampled_from(["S", "L", None])})


@given(st.lists(ITEMS, max_size=5), st.randoms(use_true_random=False), st.integers(0, 5))
def test_an_order_is_compared_whatever_its_order(items: list[Any], chance: Any, more: int) -> None:
    shuffled = [dict(item) for item in items]
    chance.shuffle(shuffled)
    assert wrong_order(items, shuffled) is None
    assert wrong_order([{"item_id": item["item_id"]} for item in items], shuffled) is None
    extra = {"item_id": "d", "size": None}
    assert wrong_order(items, [*shuffled, extra]) == "the order is not as wanted: too much is item_id=d"
    assert wrong_order([*items, extra], shuffled) == "the order is not as wanted: missing is item_id=d"


# ---- a call of them


def scenario_of(label: str) -> Scenario:
    return next(p.values[1] for p in ALL if isinstance(p.values[1], Scenario) and p.values[1].label == label)


def a_desk_that_books(slot: datetime) -> Any:
    """A model of the front desk that books this slot, whatever the caller says."""
    address = call("record_email", {"address": "oskar@example.net"})
    later = call("list_available_slots", {"range": "+3month"})
    books = call("schedule_appointment", {"slot_id": Slot(start=slot).id})

    def model(scenario: Scenario) -> ScriptedModel:
        return ScriptedModel(
            {
                "front_desk": [
                    "Good morning.",
                    say("Let me look.", later),
                    "Half past nine, or one.",
                    books,
                    "See you.",
                ],
                "get_email": ["Your address?", address, "oskar@example.net?", call("confirm_email")],
            }
        )

    return model


@pytest.mark.parametrize("front_end", ["core", "livekit"])
@pytest.mark.parametrize("hour", [13, 9], ids=["the right one", "another one"])
def test_a_simulated_call_of_the_front_desk_is_graded_by_its_calendar(front_end: Any, hour: int) -> None:
    slot = datetime(2026, 7, 16, hour, 30 if hour == 9 else 0, tzinfo=UTC)
    report = simulate(
        graph_of("front_desk"),
        [scenario_of("Begins with a date")],
        llm=a_desk_that_books(slot),
        caller="script",
        setup=desk.setup,
        front_end=front_end,
    )
    (run,) = report.runs
    assert run.passed == (hour == 13), run
    if hour == 9:
        assert "booked is 2026-07-16 09:30, not 2026-07-16 13:00" in str(run)
