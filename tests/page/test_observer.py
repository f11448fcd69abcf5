"""`serve --watch`: what a page shows of a call in a room, from LiveKit's own messages. The room is a stand-in."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from livekit import api, rtc
from livekit.agents import utils
from livekit.protocol.agent_pb import agent_session as pb
from observed_support import CALLER, CAPTIONS, PAGE, SESSION, WatchedRoom, host_in
from room_support import SECRET

from graph_voice import Agent, Handoff, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from graph_voice_livekit.page.room import SEATS, RoomError
from graph_voice_livekit.page.snapshot import Snapshot
from graph_voice_livekit.testing.rig import voice_rig

pytestmark = pytest.mark.virtual_clock


class Seen:
    """A page that watches, and the room."""

    def __init__(self, room: WatchedRoom, observer: RoomObserver, rooms: dict[str, int]) -> None:
        self.room, self.observer, self.rooms = room, observer, rooms
        self.told: list[Any] = []

    async def read(self, page: asyncio.Queue[Any]) -> None:
        while True:
            self.told.append(await page.get())

    @property
    def turns(self) -> list[Any]:
        return list({message["id"]: message for message in self.told if message["type"] == "turn"}.values())

    @property
    def words(self) -> list[tuple[str, str, str]]:
        """Agent, words, state."""
        return [
            (step["agent"], words["heard"], words["state"])
            for turn in self.turns
            for step in turn["steps"]
            for words in step["words"]
        ]

    def all(self, kind: str) -> list[Any]:
        return [message for message in self.told if message["type"] == kind]


@contextlib.asynccontextmanager
async def watching(**rooms: int) -> AsyncIterator[Seen]:
    """Watch the room `desk`."""
    room, open_rooms = WatchedRoom(), rooms or {"desk": 1}

    async def which() -> dict[str, int]:
        return open_rooms

    room.remote_participants = {}
    observer = RoomObserver(ObserverAccess("ws://live.example", "key", SECRET, which, lambda: room), "desk")
    seen = Seen(room, observer, open_rooms)
    room.seat("agent")
    with observer.page() as page:
        tasks = [asyncio.create_task(observer.run()), asyncio.create_task(seen.read(page))]
        try:
            await asyncio.sleep(0.1)
            yield seen
        finally:
            await utils.aio.cancel_and_wait(*tasks)


@function_tool
async def look_up(number: int) -> str:
    """Look up an invoice."""
    await asyncio.sleep(2)
    return f"Invoice {number} is paid."


def office() -> GraphAgent:
    desk = Agent("desk", instructions="D", handoffs=[Handoff("billing", "Invoices.")])
    billing = Agent("billing", instructions="B", tools=[look_up])
    script = {
        "desk": ["One moment, please, while I think of a very long answer to that.", call("transfer_to_billing")],
        "billing": [call("look_up", {"number": 7}), "It is paid."],
    }
    return GraphAgent(create_voice_graph([desk, billing], llm=ScriptedModel(script)))


# ---- who watches


def test_who_watches_can_say_and_change_nothing_and_is_not_seen() -> None:
    access = ObserverAccess("ws://live.example", "key", SECRET)
    claims = api.TokenVerifier("key", SECRET).verify(access.token("desk", SEATS[0]))
    rights = claims.video
    assert rights is not None
    assert claims.identity == SEATS[0]
    assert (rights.room_join, rights.room, rights.hidden, rights.can_subscribe) == (True, "desk", True, True)
    assert not any((rights.can_publish, rights.can_publish_data, rights.can_update_own_metadata, rights.agent))
    assert not any((rights.room_admin, rights.room_create, rights.room_list, rights.recorder))


def test_what_is_missing_in_the_environment_is_named() -> None:
    with pytest.raises(RoomError, match="--watch: set LIVEKIT_URL, LIVEKIT_API_SECRET"):
        ObserverAccess.of({"LIVEKIT_API_KEY": "key"})


async def test_no_sound_is_asked_for_and_the_secret_stays_here() -> None:
    async with watching() as seen:
        ((url, token, options),) = seen.room.entered
        assert url == "ws://live.example"
        assert not options.auto_subscribe
        assert api.TokenVerifier("key", SECRET).verify(token).identity in SEATS
        assert SECRET not in json.dumps(seen.told)
    assert seen.room.left


# ---- when


async def test_a_room_that_is_not_there_is_waited_for_and_never_made() -> None:
    async with watching(other=2, empty=0) as seen:
        await asyncio.sleep(10)
        assert not seen.room.entered
        (said,) = seen.all("notice")  # once, though it is looked for every second
        assert "Nobody is in the room desk yet. There are people in: other." in said["text"]
        seen.rooms["desk"] = 1
        await asyncio.sleep(2)
        assert len(seen.room.entered) == 1


async def test_who_watches_leaves_when_nobody_else_is_there_and_comes_back_for_the_next_call() -> None:
    async with watching() as seen:
        seen.room.seat("caller", CALLER)
        seen.room.leave("agent")
        await asyncio.sleep(5)
        assert not seen.room.left
        seen.rooms["desk"] = 0
        seen.room.leave("caller")
        await asyncio.sleep(30)
        assert seen.room.left
        assert [message["reason"] for message in seen.all("ended")] == ["nobody is in the room"]
        assert len(seen.room.entered) == 1  # an empty room would not be closed as long as somebody watches
        seen.rooms["desk"] = 1
        seen.room.seat("agent")
        await asyncio.sleep(2)
        assert len(seen.room.entered) == 2
        assert seen.told[-1]["type"] == "started"


async def test_a_server_that_can_not_be_reached_is_tried_again() -> None:
    tried: list[int] = []

    async def rooms() -> dict[str, int]:
        tried.append(1)
        raise ConnectionError("nobody is there")

    observer = RoomObserver(ObserverAccess("ws://live.example", "key", SECRET, rooms), "desk")
    running = asyncio.create_task(observer.run())
    await asyncio.sleep(10)
    await utils.aio.cancel_and_wait(running)
    assert len(tried) > 5
    with observer.page() as page:
        told = [page.get_nowait() for _ in range(page.qsize())]
    assert [m["text"] for m in told if m["type"] == "notice"] == [
        "The LiveKit server can't be reached (ConnectionError). It is tried again."
    ]


async def test_another_observer_with_the_same_seat_does_not_end_the_call() -> None:
    async with watching() as seen:
        seen.room.emit("disconnected", rtc.DisconnectReason.DUPLICATE_IDENTITY)
        await asyncio.sleep(3)
        assert len(seen.room.entered) == 2
        assert not seen.all("ended")


# ---- what LiveKit tells


async def test_a_whole_call_from_livekits_own_messages() -> None:
    async with watching() as seen, voice_rig(office()) as rig:
        host = await host_in(seen.room, rig.session)
        await rig.user_says("Hello, I have a question.", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 1.5)
        await rig.user_says("It is about my invoice.")
        await rig.until_idle(quiet=4.0)
        await host.aclose()
        heard = [text for role, text in rig.messages if role == "assistant"]
    assert [turn["user"] for turn in seen.turns if turn["user"]] == [
        "Hello, I have a question.",
        "It is about my invoice.",
    ]
    assert seen.words == [("desk", heard[0], "cut"), ("billing", "It is paid.", "heard")]
    second = seen.turns[-1]
    assert [(h["old"], h["new"]) for h in second["handoffs"]] == [("desk", "billing")]
    calls = {call["name"]: call for step in second["steps"] for call in step["calls"]}
    assert calls["look_up"]["result"] == "Invoice 7 is paid."
    assert calls["look_up"]["status"] == "done"
    assert json.loads(calls["look_up"]["args"]) == {"number": 7}
    assert seen.all("agent")[-1] == {"type": "agent", "name": "billing", "before": "desk"}
    assert {"thinking", "speaking", "listening"} <= {message["agent"] for message in seen.all("state")}
    kinds = {span["kind"] for turn in seen.turns for span in turn["spans"]}
    assert {"caller", "end_of_turn", "tool", "playback"} <= kinds


async def test_who_comes_in_the_middle_learns_the_agents_name_at_the_next_handoff() -> None:
    async with watching() as seen:
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m1", "Hello.")))
        await asyncio.sleep(1)
        assert seen.words == [("", "Hello.", "heard")]
        item = pb.ChatContext.ChatItem(agent_handoff=pb.AgentHandoff(old_agent_id="desk", new_agent_id="billing"))
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=item))
        await asyncio.sleep(1)
        assert seen.words == [("desk", "Hello.", "heard")]


def line(name: str, text: str, interrupted: bool = False) -> Any:
    content = [pb.ChatMessage.ChatContent(text=text)]
    message = pb.ChatMessage(id=name, role=pb.ASSISTANT, content=content, interrupted=interrupted)
    return pb.ChatContext.ChatItem(message=message)


def say(seen: Seen, added: Any, who: str = "agent") -> None:
    event = pb.AgentSessionEvent(conversation_item_added=added)
    seen.room.send(SESSION, [pb.AgentSessionMessage(event=event).SerializeToString()], who)


async def test_only_an_agent_is_believed_and_what_is_no_message_is_passed_over() -> None:
    async with watching() as seen:
        seen.room.seat("caller", CALLER)
        before = list(seen.told)
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m1", "I am the bank.")), who="caller")
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m2", "So am I.")), who="nobody")
        stream = seen.room.send(PAGE, ['{"type": "notice", "kind": "error", "text": "Pay!"}'], "caller")
        seen.room.send(SESSION, [b"\xff\xff\xff"])
        endless = seen.room.send(SESSION, [b"x" * 600_000] * 5)
        for bad in ("{", "[]", '{"type": "snapshot"}', '{"type": "room", "token": "t"}', "7"):
            seen.room.send(PAGE, [bad])
        await asyncio.sleep(1)
        assert seen.told == before
        assert stream.closed
        assert endless.closed
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m3", "Hello.")))
        await asyncio.sleep(1)
        assert seen.words == [("", "Hello.", "heard")]


# ---- captions


async def test_words_are_shown_as_they_are_heard_and_then_as_the_history_has_them() -> None:
    async with watching() as seen:
        seen.room.send(CAPTIONS, ["One ", "two ", "three"], segment_id="s1", transcription_final="false")
        await asyncio.sleep(1)
        states = [turn["steps"][0]["words"][0] for turn in seen.all("turn")]
        assert [(w["heard"], w["state"]) for w in states] == [
            ("One ", "playing"),
            ("One two ", "playing"),
            ("One two three", "playing"),
            ("One two three", "heard"),
        ]
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m1", "One two", interrupted=True)))
        await asyncio.sleep(1)
        assert seen.words == [("", "One two", "cut")]


async def test_an_agent_that_tells_nothing_but_captions_is_shown_too() -> None:
    """As a worker does whose agents take secrets: LiveKit's session is closed there."""
    async with watching() as seen:
        seen.room.seat("caller", CALLER)
        for text, final in (("I", "false"), ("I need help.", "true")):
            seen.room.send(CAPTIONS, [text], "caller", segment_id="c1", transcription_final=final)
        await asyncio.sleep(1)
        seen.room.send(CAPTIONS, ["Of course."], segment_id="s1")
        await asyncio.sleep(1)
        assert [turn["user"] for turn in seen.turns] == ["I need help."]
        assert seen.words == [("", "Of course.", "heard")]
        assert [m["text"] for m in seen.all("caller")] == ["I"]


# ---- what a worker of ours tells


async def test_what_a_worker_tells_itself_replaces_what_livekit_tells() -> None:
    turn = {"type": "turn", "id": "t1", "steps": [], "user": "Hi."}
    ours = [{"type": "started", "graph": "g", "svg": "<svg/>", "agents": ["desk"]}, turn]
    async with watching() as seen:
        seen.room.send(PAGE, [json.dumps({"type": "userdata", "fields": {"name": "Ada"}})])
        await asyncio.sleep(1)
        assert not seen.all("userdata")  # all of it comes at once, soon
        for _ in range(2):
            seen.room.send(PAGE, [json.dumps({"type": "snapshot", "call": "c1", "messages": ours})])
        say(seen, pb.AgentSessionEvent.ConversationItemAdded(item=line("m1", "Hello.")))
        seen.room.send(CAPTIONS, ["Hello."], segment_id="s1")
        seen.room.send(PAGE, [json.dumps({"type": "ended", "reason": "hang up"})])
        await asyncio.sleep(1)
        assert [m for m in seen.told if m["type"] in ("turn", "ended")] == [
            turn,
            {"type": "ended", "reason": "hang up"},
        ]
        seen.room.leave("agent")
        await asyncio.sleep(2)
        assert len(seen.all("ended")) == 1
        with seen.observer.page() as late:
            assert [late.get_nowait() for _ in range(late.qsize())] == [*ours, {"type": "ended", "reason": "hang up"}]


async def test_of_two_workers_in_a_room_the_first_one_tells_until_it_has_left() -> None:
    def snapshot(call: str) -> list[str]:
        messages = [{"type": "started", "graph": call, "svg": "", "agents": []}]
        return [json.dumps({"type": "snapshot", "call": call, "messages": messages})]

    async with watching() as seen:
        seen.room.seat("other")
        for _ in range(2):
            seen.room.send(PAGE, snapshot("one"), "agent")
            seen.room.send(PAGE, snapshot("two"), "other")
            seen.room.send(PAGE, ['{"type": "notice", "kind": "info", "text": "two"}'], "other")
        await asyncio.sleep(1)
        assert [message["graph"] for message in seen.all("started")] == ["desk", "desk", "one"]
        assert not seen.all("notice")
        seen.room.leave("agent")
        seen.room.send(PAGE, snapshot("two"), "other")
        await asyncio.sleep(1)
        assert seen.all("started")[-1]["graph"] == "two"


# ---- a page that comes late

MESSAGES = st.one_of(
    st.builds(lambda name, n: {"type": "turn", "id": name, "n": n}, st.sampled_from("abc"), st.integers(0, 9)),
    st.builds(lambda kind, n: {"type": kind, "n": n}, st.sampled_from(["agent", "state", "userdata"]), st.integers()),
    st.builds(lambda n: {"type": "line", "n": n}, st.integers()),
    st.builds(lambda n: {"type": "caller", "n": n}, st.integers()),
    st.just({"type": "ended", "reason": "over"}),
    st.just({"type": "started"}),
)


def shown(messages: Any) -> Any:
    """What a page shows at last."""
    turns: dict[str, Any] = {}
    latest: dict[str, Any] = {}
    for message in messages:
        match message["type"]:
            case "started":
                turns, latest = {}, {}
            case "turn":
                turns[message["id"]] = message
            case "line":
                turns[f"line {len(turns)}"] = message
            case "caller":
                pass
            case kind:
                latest[kind] = message
    return turns, latest


@given(st.lists(MESSAGES, max_size=40))
def test_a_page_that_comes_late_shows_what_one_that_was_there_shows(messages: list[Any]) -> None:
    kept = Snapshot()
    kept.keep({"type": "started"})
    for message in messages:
        kept.keep(message)
    turns, latest = shown(kept.messages())
    expected_turns, expected = shown(messages)
    assert list(turns.values()) == list(expected_turns.values())
    assert latest == expected
