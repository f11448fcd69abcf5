"""What a participant of the room can read over LiveKit's `lk.agent.session`, as docs/secrets.md says."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graph_agent_support import a_call
from livekit.agents.voice.remote_session import SessionHost, SessionTransport
from livekit.protocol.agent_pb import agent_session as agent_pb
from misplaced_support import CARD, WAYS, found_in, graph_of

from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock


class Participant(SessionTransport):
    """One in the same room."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        self._asks: asyncio.Queue[Any] = asyncio.Queue()

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def send_message(self, msg: agent_pb.AgentSessionMessage) -> None:
        self.got.append(msg)

    def __aiter__(self) -> AsyncIterator[agent_pb.AgentSessionMessage]:
        return self

    async def __anext__(self) -> agent_pb.AgentSessionMessage:
        return await self._asks.get()  # type: ignore[no-any-return]

    def ask(self, **what: Any) -> None:
        self._asks.put_nowait(agent_pb.AgentSessionMessage(request=agent_pb.SessionRequest(request_id="1", **what)))


async def test_the_history_is_redacted_and_what_is_recognized_is_not() -> None:
    graph, _, model = graph_of(WAYS["words after it was taken"], CARD)
    ga, participant = GraphAgent(graph), Participant()
    host = SessionHost(participant)
    async with a_call(ga, model) as rig:
        host.register_session(rig.session)
        await host.start()
        await rig.user_says(f"My card is {CARD}.")
        await rig.until_idle()
        heard = "\n".join(map(str, participant.got))
        assert found_in(heard), "the caller's words, as they are recognized"
        participant.got.clear()
        participant.ask(get_chat_history=agent_pb.SessionRequest.GetChatHistory())
        participant.ask(get_agent_info=agent_pb.SessionRequest.GetAgentInfo())
        await rig.until_idle()
        await asyncio.sleep(1)
        await host.aclose()
    answers = "\n".join(map(str, participant.got))
    assert "My card is **********." in answers
    assert "Take payments of" in answers, "the agent's instructions"
    assert "store_card" in answers
    assert found_in(answers) is None
