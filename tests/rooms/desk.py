"""The worker of these tests, as a user writes one: a desk that hands off to billing, with real speech both ways.

What a call is like is in the dispatch's metadata, JSON: `{"fail": true}` makes `describe_call` raise, `{"thread": "t"}`
names the thread, whose last call's history the next one begins with.
"""

import json
import os
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from livekit.agents import JobContext, cli
from livekit.agents import stt as lk_stt

from graph_voice import Agent, Handoff, Voice, create_voice_graph
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import create_server, tell_observers
from graph_voice_livekit.offline import PiperTTS, WhisperSTT, load_vad

GREETING = "Hello, this is the desk."
TRANSFER = "I will connect you."
BILLING = "Good day, billing here. What is the number of your invoice?"
STORY = (
    "Once upon a time a small boat left the harbor at night. The captain saw a light in the north. "
    "He turned the wheel and followed it for many hours. In the morning he found an island with a hundred birds. "
    "They sang to him until the evening came. Then he sailed back home and told his children everything."
)
SPEECH = os.environ.get("WORKER_SPEECH") != "no"
APOLOGY = "Sorry, nobody can take your call today."


def low_voice() -> Any:
    return PiperTTS(pitch="low", seed=1)


def bright_voice() -> Any:
    return PiperTTS(pitch="bright", seed=1)


def hearing() -> Any:
    recogniser = WhisperSTT()
    recogniser.load()
    return lk_stt.StreamAdapter(stt=recogniser, vad=load_vad())


def said_by_desk(messages: list[BaseMessage]) -> Any:
    words = messages[-1].text.lower()
    if "greet the caller" in words:
        return GREETING
    before = [m.text for m in messages[:-1] if m.type == "ai" and m.text]
    if "billing" in words:
        return call("transfer_to_billing")
    if "story" in words:
        return STORY
    if "repeat" in words:
        return f"I said: {before[-1] if before else 'nothing'}"
    if "remember" in words:
        last = [m.text for m in messages[:-1] if m.type == "human"][-1]
        return f"You told me: {last}"
    if "slow" in words:
        return say("This takes a moment, and here is the answer at last.", first_token=2.0)
    return f"I heard: {messages[-1].text}"


def said_by_billing(messages: list[BaseMessage]) -> Any:
    words = messages[-1].text
    return BILLING if "Greet the caller" in words else f"Billing heard: {words}"


desk = Agent(
    "desk",
    instructions="You are the desk.",
    on_enter="Greet the caller.",
    handoffs=[Handoff("billing", "Connect to billing.", say=TRANSFER)],
)
billing = Agent(
    "billing",
    instructions="You are billing.",
    on_enter="Greet the caller.",
    voice=Voice(tts=bright_voice),
)
graph = create_voice_graph([desk, billing], llm=ScriptedModel({"desk": said_by_desk, "billing": said_by_billing}))


def describe_call(job: JobContext) -> dict[str, Any]:
    facts = json.loads(job.job.metadata or "{}")
    if facts.get("fail"):
        raise LookupError("the customer database does not answer")
    thread = facts.get("thread", job.room.name)
    past = Path(os.environ["WORKER_FOLDER"]) / f"{thread}.json"

    async def keep() -> None:
        items = [i for i in job.primary_session.history.items if i.type == "message" and i.role != "system"]
        past.write_text(json.dumps([[i.role, i.text_content] for i in items]), encoding="utf-8")

    job.add_shutdown_callback(keep)
    lines = json.loads(past.read_text(encoding="utf-8")) if past.exists() else []
    messages = [HumanMessage(text) if role == "user" else AIMessage(text) for role, text in lines]
    return {"thread_id": thread, "messages": messages}


if __name__ == "__main__":
    cli.run_app(
        create_server(
            os.environ.get("WORKER_GRAPH", f"{__file__}:graph"),
            stt=hearing if SPEECH else None,
            tts=low_voice if SPEECH else None,
            vad=load_vad if SPEECH else None,
            call=describe_call,
            apology=APOLOGY,
            observe=tell_observers if os.environ.get("WORKER_OBSERVED") == "yes" else None,
            agent_name=os.environ.get("WORKER_NAME", "desk"),
            session={
                "turn_handling": {"turn_detection": "vad", "interruption": {"mode": "vad"}},
                "aec_warmup_duration": None,  # it ignores barge-ins in the first seconds
            },
            host="127.0.0.1",
            port=int(os.environ["WORKER_PORT"]),
            load_fnc=lambda: 0.0,  # a busy machine would refuse calls
            num_idle_processes=1,
            initialize_process_timeout=90.0,
        )
    )
