"""The clinic without a language model: an emergency is told to call 911 and passed on to nobody, anything else is not.

The lines were written without a look at the examples, and none of these was changed because of them."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from graph_voice_livekit.offline.router import IntentRouter
from graphs.medical_triage.graph import billing, support, triage

AGENTS: dict[str, Any] = {"triage": triage, "support": support, "billing": billing}
EMERGENCIES = [
    "I've got terrible chest pains since this morning.",
    "My mother can't breathe properly!",
    "My husband just fell over and he isn't waking up.",
    "He's unconscious, what do I do?",
    "There's so much blood, it won't stop.",
    "I think my dad is having a heart attack.",
    "My little girl drank bleach.",
    "I swallowed a whole bottle of sleeping pills.",
    "I want to end my life.",
    "She's having a seizure right now.",
    "My son is choking.",
    "My left arm is numb and my chest feels tight.",
    "His face is drooping and he can't talk.",
    "Please send an ambulance!",
    "It's an emergency!",
    "I was stung by a bee and my throat is closing up.",
    "I can't breathe, and I also wanted to ask about my bill.",
    "I need a refill, and my chest hurts badly.",
]
OTHERS = [
    "My knee has been a bit sore lately.",
    "I'd like to see the doctor next week.",
    "Could you renew my prescription?",
    "I have run out of my heart pills and need a refill.",
    "Why was I billed twice?",
    "Do you take my insurance?",
    "Can I get a copy of my x-ray?",
    "I have a cold.",
    "Good morning, I have a question.",
    "How much is the copay?",
    "My name is Robert Hill.",
    "Thank you, goodbye.",
]


@pytest.fixture(scope="module")
def router() -> IntentRouter:
    return IntentRouter(Path(__file__).parents[2] / "graphs" / "medical_triage")


def answered(router: IntentRouter, agent: str, words: str) -> AIMessage:
    model = IntentRouter(router.examples, agent=agent).bind_tools(AGENTS[agent].all_tools)
    said = model.invoke([SystemMessage("Clinic."), AIMessage("How can I help you?"), HumanMessage(words)])
    assert isinstance(said, AIMessage)
    return said


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("words", EMERGENCIES)
def test_an_emergency_is_told_to_call_911_and_passed_on_to_nobody(router: IntentRouter, agent: str, words: str) -> None:
    said = answered(router, agent, words)
    assert "911" in said.text
    assert not said.tool_calls


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("words", OTHERS)
def test_what_is_no_emergency_is_not_called_one(router: IntentRouter, agent: str, words: str) -> None:
    assert "911" not in answered(router, agent, words).text
