"""By voice: a long stay is kept short between turns, and a secret reaches the tool and nothing that LiveKit keeps."""

import json

import pytest
from graph_agent_support import a_call, agrees
from misplaced_support import SPELLINGS, WAYS, found_in, graph_of
from pydantic import BaseModel, SecretStr

from graph_voice import Agent, RunContext, create_voice_graph, function_tool, history
from graph_voice.testing import ScriptedModel, call, say
from graph_voice_livekit import GraphAgent

pytestmark = pytest.mark.virtual_clock

CARD = "4111222233334444"


async def test_a_long_call_is_shown_in_bounds_and_every_reply_answers_the_newest_words() -> None:
    summaries = ScriptedModel([("", "They talked.")], first_token=2.0)
    model = ScriptedModel([("", "I see, go on.")], first_token=0.3)
    policy = history.when(max_items=8, then=history.summarize(model=summaries, keep_last_turns=1))
    ga = GraphAgent(create_voice_graph([Agent("desk", instructions="Listen.", context=policy)], llm=model))
    async with a_call(ga, model) as rig:
        for number in range(25):
            await rig.user_says(f"story number {number}")
            await rig.until_idle()
        assert len(ga.conversation.messages) == 50
        assert ga.conversation.chat_ctx[0].text == "Prior conversation summary: They talked."
        agrees(ga, rig.session)
    asked = [p for p in model.prompts if p.outcome == "finished"]
    assert len(asked) >= 25
    assert max(len(p.messages) for p in model.prompts) <= 1 + 8 + 6
    assert len(summaries.prompts) >= 4
    # No call of the agent's model is one for a summary, and each answers the newest words.
    assert all(p.messages[-1].text.startswith("story number") for p in asked)


class Caller(BaseModel):
    card: SecretStr | None = None


GOT: list[str] = []


@function_tool
async def store_card(ctx: RunContext[Caller], number: SecretStr) -> str:
    """Store the caller's card."""
    ctx.userdata.card = number
    GOT.append(number.get_secret_value())
    return f"Stored {number.get_secret_value()}."


async def test_a_secret_argument_reaches_the_tool_and_no_item_of_the_sessions_history() -> None:
    GOT.clear()
    model = ScriptedModel([("card", [say("One moment.", call("store_card", {"number": CARD})), "Stored."])])
    agent = Agent("desk", instructions="Help.", tools=[store_card])
    ga = GraphAgent(create_voice_graph([agent], userdata=Caller, llm=model))
    async with a_call(ga, model) as rig:
        await rig.user_says("my card please", at=0.5)
        await rig.until_idle()
        agrees(ga, rig.session)
        items = json.dumps(rig.session.history.to_dict(), default=str)
        assert CARD not in items
        (made,) = [i for i in rig.session.history.items if i.type == "function_call"]
        assert json.loads(made.arguments) == {"number": "**********"}
        (output,) = [i for i in rig.session.history.items if i.type == "function_call_output"]
        assert output.output == "Stored **********."
        assert ga.conversation.userdata.card == SecretStr(CARD)
        assert rig.session.userdata.card == SecretStr(CARD)
    assert GOT == [CARD]


@pytest.mark.parametrize(
    "way",
    [
        "words alone",
        "words before a tool call",
        "words after it was taken",
        "another tool",
        "another tool, in parts",
        "a misspelled parameter",
        "a second argument",
        "a tool's result",
        "a tool's tool error",
        "a tool's artifact",
        "a tool's say",
        "a tool's interrupt",
        "a tool's handoff line",
        "an error that echoes the prompt",
    ],
)
@pytest.mark.parametrize("spelling", ["groups", "words"])
async def test_livekit_keeps_no_number_that_the_graph_redacts_however_it_is_misplaced(way: str, spelling: str) -> None:
    spelled = SPELLINGS[spelling]
    graph, tools, model = graph_of(WAYS[way], spelled)
    ga, told = GraphAgent(graph), list[str]()
    async with a_call(ga, model) as rig:
        for name in ("conversation_item_added", "function_tools_executed", "error"):
            rig.session.on(
                name, lambda event: told.append(repr(event) if event.type != "conversation_item_added" else "")
            )
        for words in WAYS[way].words:
            await rig.user_says(words.format(spelled))
            await rig.until_idle()
        agrees(ga, rig.session)
        kept = [rig.session.history, *(agent.chat_ctx for agent in (ga, ga.agent("host")))]
        found = "\n".join(
            [*(json.dumps(ctx.to_dict(), default=repr) for ctx in kept), *map(repr, ga.conversation.messages)]
        )
        assert found_in(found) is None, found_in(found)
        assert found_in("\n".join(told)) is None
    if way == "another tool":
        assert tools.got == [spelled], "the tool gets what the model has written"
