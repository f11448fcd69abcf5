"""What holds for each application, whatever it is about: the same call in text, by voice and without a conversation."""

from typing import Any

import pytest
from app_call import GRAPHS, agents_of, app_call
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from graph_voice import Conversation
from graph_voice.launch.loading import load_graph
from graph_voice.testing import ScriptedModel, call, say

pytestmark = pytest.mark.virtual_clock

CALLS: dict[str, tuple[list[Any], list[str]]] = {
    "restaurant": (
        [
            "Good evening.",
            call("transfer_to_takeaway"),
            "What would you like?",
            call("update_order", {"items": [{"dish": "pizza", "count": 2}, {"dish": "coffee"}]}),
            "Is that all?",
            call("to_checkout"),
            "22 dollars?",
            say("", call("confirm_expense", {"dollars": 22}), call("update_name", {"name": "Ada"})),
            "Your card?",
            call("transfer_to_greeter"),
            "What else can I do?",
        ],
        ["Food.", "Two pizzas and a coffee.", "I'd like to pay.", "Right, I'm Ada.", "When do you open?"],
    ),
    "medical_triage": (
        [
            "How can I help?",
            say("", call("note_caller", {"name": "Ada"}), call("transfer_to_support")),
            "Patient support. Which medicine?",
            call("transfer_to_billing"),
            "Who is calling?",
            call("confirm_identity", {"name": "Ada Byron", "date_of_birth": "1980-05-03"}),
            "Thank you.",
            call("transfer_to_triage"),
            "What else can I do?",
        ],
        ["It's Ada, a refill.", "What does it cost?", "Ada Byron, May 3, 1980.", "Something else."],
    ),
}


def told(messages: list[Any]) -> list[Any]:
    """Everything said and done, but for ids."""
    return [(m.type, m.text, [c["name"] for c in getattr(m, "tool_calls", ())]) for m in messages]


@pytest.mark.parametrize("app", CALLS)
async def test_text_voice_and_a_plain_run_end_in_the_same_state(app: str) -> None:
    script, words = CALLS[app]
    ends = []
    for front_end in ("text", "voice"):
        async with app_call(app, front_end, script) as line:
            await line.says(*words)
        ends.append((line.state, line.handoffs, line.current_agent, told(line.conversation.messages)))
    assert ends[0] == ends[1]
    # As Studio runs it: no conversation, LangGraph's own checkpointer. The caller speaks first.
    graph = load_graph(str(GRAPHS / app)).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"llm": ScriptedModel(script[1:]), "thread_id": "1"}}
    for text in words:
        state = await graph.ainvoke({"messages": [HumanMessage(text)]}, config)
    userdata, handoffs, floor, messages = ends[0]
    assert (state["userdata"], state["active_agent"]) == (userdata, floor)
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in state["handoffs"]] == handoffs
    spoken = [m for m in told(state["messages"]) if m[0] != "human"]
    assert spoken == [m for m in messages if m[0] != "human"][1:]


@pytest.mark.parametrize("app", CALLS)
async def test_only_the_agents_words_are_spoken_and_each_handoff_is_followed_by_one_reply(
    app: str, front_end: str
) -> None:
    script, words = CALLS[app]
    async with app_call(app, front_end, script) as line:
        await line.says(*words)
    lines = {h.say for a in agents_of(load_graph(str(GRAPHS / app))).values() for h in a.declared if h.say}
    texts = [text for _, text in line.spoken]
    assert [text for text in texts if text not in lines] == [text for text in script if isinstance(text, str)]
    changes = [new for (old, _), (new, _) in zip(line.spoken, line.spoken[1:], strict=False) if old != new]
    assert changes == [new for _, new in line.handoffs], "each new agent speaks, at once"


@pytest.mark.parametrize("app", CALLS)
async def test_a_checkpoint_has_each_turn_once(app: str, front_end: str) -> None:
    script, words = CALLS[app]
    saver = InMemorySaver()
    async with app_call(app, front_end, script, saver=saver, thread_id="1") as line:
        await line.says(*words)
        await line.conversation.flush()
        graph = load_graph(str(GRAPHS / app)).compile(checkpointer=saver)
        state = await graph.aget_state({"configurable": {"thread_id": "1"}})
        assert told(state.values["messages"]) == told(line.conversation.messages)
        said = [m.text for m in state.values["messages"] if isinstance(m, AIMessage) and m.text]
        assert len(said) == len(set(said))
        assert state.values["active_agent"] == line.current_agent


@pytest.mark.parametrize("app", CALLS)
async def test_a_guess_that_is_dropped_leaves_the_state_as_it_was(app: str) -> None:
    script, words = CALLS[app]
    model = ScriptedModel([script[0], script[1], *script[1:3]])
    conversation = Conversation[Any](load_graph(str(GRAPHS / app)), config={"configurable": {"llm": model}})
    await conversation.run()
    before = (conversation.userdata.model_copy(deep=True), told(conversation.messages), conversation.active_agent)
    guess = conversation.turn("Wait, I mean")
    async for event in guess:
        if type(event).__name__ == "ToolCalls":
            break
    guess.discard()
    assert (conversation.userdata, told(conversation.messages), conversation.active_agent) == before
    await conversation.run(words[0])
    assert len(conversation.handoffs) == 1
    await conversation.aclose()


@pytest.mark.parametrize("app", CALLS)
async def test_what_is_remembered_of_a_reply_that_was_cut_off_is_what_was_heard(app: str) -> None:
    long = "Well, let me tell you all about it, one after the other, for there is a lot to say about that."
    async with app_call(app, "voice", [CALLS[app][0][0], long, "Of course."]) as line:
        assert line.rig is not None
        for text in ("Tell me more.", "Stop, please."):
            line.said.append(text)
            await line.rig.user_says(text)
            await line.rig.until_speaking()
            if text == "Tell me more.":
                await line.rig.wait_until(line.rig.now + 2)
        await line.rig.until_idle()
        heard = line.spoken[-2][1]
        assert long.startswith(heard)
        assert 0 < len(heard) < len(long)
        assert [m.text for m in line.conversation.messages if isinstance(m, AIMessage)][-2:] == [heard, "Of course."]
