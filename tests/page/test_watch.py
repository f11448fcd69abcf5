"""What a page is told of times: measured by LiveKit, shown with the turn that they are of."""

import asyncio
from typing import Any

import pytest
from livekit.agents.llm import ChatMessage

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool
from graph_voice.testing import ScriptedModel, call
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.page.watch import CallWatch
from graph_voice_livekit.testing.rig import voice_rig
from graph_voice_livekit.testing.voice import FakeTTS

pytestmark = pytest.mark.virtual_clock


class Told:
    def __init__(self) -> None:
        self.turns: dict[str, Any] = {}
        self.kinds: list[str] = []

    def __call__(self, message: Any) -> None:
        self.kinds.append(message["type"])
        if message["type"] == "turn":
            self.turns[message["id"]] = message


def desk(*script: Any) -> GraphAgent:
    return GraphAgent(create_voice_graph([Agent("desk", instructions="Help.")], llm=ScriptedModel(list(script))))


async def test_a_turn_has_the_times_of_the_caller_the_model_and_the_voice() -> None:
    agent, told = desk("The line is up, and the signal is strong.", "Yes."), Told()
    watch = CallWatch(told)
    async with voice_rig(agent) as rig:
        watch.follow(agent.conversation, rig.session)
        await rig.user_says("Is my line up?", at=0.5)
        await rig.until_idle()
        watch.tell()
    (turn,) = (turn for turn in told.turns.values() if turn["state"] == "closed")
    spans = {span["kind"]: span for span in turn["spans"]}
    assert {"caller", "end_of_turn", "voice", "playback"} <= set(spans) | {"transcription"}
    assert spans["caller"]["end"] <= spans["voice"]["start"] <= spans["playback"]["start"] < spans["playback"]["end"]


async def test_a_transfer_line_is_the_first_thing_that_is_heard() -> None:
    front = Agent("front", instructions="Help.", handoffs=[Handoff("billing", say="One moment, please.")])
    billing = Agent("billing", instructions="Bill.", on_enter="Greet.")
    script = {"front": [call("transfer_to_billing")], "billing": ["This is billing. How can I help you?"]}
    agent, told = GraphAgent(create_voice_graph([front, billing], llm=ScriptedModel(script))), Told()
    watch = CallWatch(told)
    async with voice_rig(agent) as rig:
        watch.follow(agent.conversation, rig.session)
        await rig.user_says("My bill, please.", at=0.5)
        await rig.until_idle()
        watch.tell()
        heard = [item for item in rig.session.history.items if item.type == "message" and item.role == "assistant"]
    (turn,) = (turn for turn in told.turns.values() if turn["state"] == "closed")
    played = [(span["start"], span["end"]) for span in turn["spans"] if span["kind"] == "playback"]
    assert [item.text_content for item in heard] == ["One moment, please.", "This is billing. How can I help you?"]
    assert played == [(i.metrics["started_speaking_at"], i.metrics["stopped_speaking_at"]) for i in heard]
    assert len([span for span in turn["spans"] if span["kind"] == "voice"]) == 2


async def test_where_the_caller_cuts_in_the_rest_is_shown_as_unheard() -> None:
    line = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
    agent, told = desk(line, "Yes?"), Told()
    watch = CallWatch(told)
    async with voice_rig(agent) as rig:
        watch.follow(agent.conversation, rig.session)
        await rig.user_says("Count, please.", at=0.5)
        await rig.until_speaking()
        await rig.wait_until(rig.now + 2.0)
        await rig.user_says("Stop, that is enough.")
        await rig.until_idle()
        watch.tell()
        heard = [message.text for message in agent.conversation.messages]
    words = next(step["words"][0] for turn in told.turns.values() for step in turn["steps"])
    assert words["state"] == "cut"
    assert words["heard"] == heard[1]
    assert words["heard"] + words["unheard"] == line
    assert words["unheard"]


async def test_a_user_message_that_is_no_turn_leaves_nothing() -> None:
    agent, told = desk("Hello."), Told()
    watch = CallWatch(told)
    async with voice_rig(agent) as rig:
        watch.follow(agent.conversation, rig.session)
        rig.session.history.insert(ChatMessage(role="user", content=["aside"]))
        watch.tell()
    assert told.turns == {}
    assert {"agent", "state", "nodes"} <= set(told.kinds)


async def test_a_reply_that_is_dropped_before_its_first_sound_leaves_a_mark() -> None:
    agent, told = desk("The first answer.", "The second answer."), Told()
    watch = CallWatch(told)
    async with voice_rig(agent, tts=FakeTTS(first_audio=4.0)) as rig:
        watch.follow(agent.conversation, rig.session)
        await rig.user_says("Hello there.", at=0.5)
        await rig.wait_until(rig.now + 2.5)
        await rig.user_says("I have one more question.", seconds=2.0)
        await rig.until_idle(quiet=5.0)
        watch.tell()
        heard = [message.text for message in agent.conversation.messages if message.type == "ai"]
    words = [word for turn in told.turns.values() for step in turn["steps"] for word in step["words"]]
    happened = [word for word in words if word["state"] != "guess"]
    assert [(word["heard"], word["unheard"], word["state"]) for word in happened] == [
        ("", "The first answer.", "dropped"),
        ("The second answer.", "", "heard"),
    ]
    assert heard == ["The second answer."]


async def test_a_running_tool_shows_its_last_update_until_its_result_is_there() -> None:
    @function_tool
    async def search(ctx: RunContext[Any]) -> str:
        """Search."""
        await ctx.update("asking the airline", silent=True)
        await asyncio.sleep(10)
        return "found"

    model = ScriptedModel([call("search"), "I found it."])
    agent = GraphAgent(create_voice_graph([Agent("desk", instructions="Help.", tools=[search])], llm=model))
    told, shown = Told(), list[tuple[str, str | None]]()
    watch = CallWatch(told)
    async with voice_rig(agent) as rig:
        watch.follow(agent.conversation, rig.session)
        await rig.user_says("Search for it.", at=0.5)
        for at in (5.0, 25.0):
            await rig.wait_until(at)
            watch.tell()
            calls = [c for turn in told.turns.values() for step in turn["steps"] for c in step["calls"]]
            shown += [(c["update"], c["result"]) for c in calls]
    assert shown == [("asking the airline", None), ("", "found")]
