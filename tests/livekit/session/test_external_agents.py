"""LiveKit agents of a program's own, before the graph's, between them and after them."""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from graph_agent_support import (
    a_text_call,
    agrees,
    calls_in_graph,
    handoffs_in_livekit,
    no_accidents,
    outputs_in_graph,
    spoken,
    told_by_graph,
    told_by_livekit,
    voice,
)
from langchain_core.messages import AIMessage, HumanMessage
from livekit.agents import Agent as LiveKitAgent
from livekit.agents import AgentSession, AgentTask, mock_tools
from livekit.agents import RunContext as LiveKitContext
from livekit.agents import function_tool as livekit_tool
from native_support import LiveKitModel

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, function_tool, history
from graph_voice.errors import BuildError
from graph_voice.testing import ScriptedModel, call, check_prompt, say
from graph_voice_livekit import GraphAgent
from graph_voice_livekit.testing import FakeTTS, voice_rig

pytestmark = pytest.mark.virtual_clock


@dataclass
class Caller:
    name: str | None = None


@function_tool
async def record_name(ctx: RunContext[Caller], name: str) -> Handoff:
    """Record the caller's name, and put them through to a human."""
    ctx.userdata.name = name
    return ctx.handoff("human_desk")


class Desk(LiveKitAgent):
    """The human desk: a LiveKit agent that knows nothing of graphs."""

    back: Any = None
    entered: Any = None

    def __init__(self, model: Any = None) -> None:
        super().__init__(instructions="You are the desk.", llm=model or LiveKitModel([]), tts=FakeTTS("desk"))

    @livekit_tool
    async def look_up(self, number: int) -> str:
        """Look up an order."""
        return f"order {number} is lost"

    @livekit_tool
    async def give_back(self) -> Any:
        """Give the caller back."""
        return type(self).back()


def desk(script: list[Any], *, back: Any = None, greets: bool = True) -> tuple[type[Desk], LiveKitModel]:
    model = LiveKitModel(script)

    class HumanDesk(Desk):
        def __init__(self) -> None:
            super().__init__(model)

        async def on_enter(self) -> None:
            type(self).entered = self.session.userdata if self.session.userdata else None
            if greets:
                self.session.generate_reply(instructions="Greet.")

    HumanDesk.back = staticmethod(back) if back is not None else None
    return HumanDesk, model


def bank(model: ScriptedModel, **handoff: Any) -> Any:
    return create_voice_graph(
        [
            Agent(
                "support",
                instructions="You are support.",
                tools=[record_name],
                handoffs=[Handoff("human_desk", "Transfer the caller to a human.", **handoff), Handoff("billing")],
                voice=voice("support"),
            ),
            Agent("billing", instructions="You are billing.", on_enter="Greet.", voice=voice("billing")),
        ],
        userdata=Caller,
        llm=model,
        external=["human_desk"],
    )


def shown(model: LiveKitModel, place: int) -> list[tuple[str, str]]:
    return [(i.role, i.text_content or "") for i in model.shown[place].items if i.type == "message"]


async def give_floor(session: AgentSession[Any], agent: LiveKitAgent) -> None:
    """`update_agent`, until the floor has changed."""
    taken = asyncio.Event()
    session.on("conversation_item_added", lambda e: taken.set() if e.item.type == "agent_handoff" else None)
    session.update_agent(agent)
    await taken.wait()


# ---- from the graph to a LiveKit agent


@pytest.mark.parametrize("text", [True, False])
async def test_a_graph_hands_off_to_a_livekit_agent_by_its_name(text: bool) -> None:
    model = ScriptedModel({"support": ["Hello.", say("One moment.", call("transfer_to_human_desk"))]})
    kind, theirs = desk(["Desk speaking.", "I see."])
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    if text:
        async with a_text_call(ga, model, userdata=Caller("Ann")) as session:
            await session.run(user_input="hello")
            result = await session.run(user_input="a human, please")
            result.expect.contains_agent_handoff(new_agent_type=ga.agent_type("human_desk"))
            await session.run(user_input="my order is lost")
            assert type(session.current_agent) is kind
            assert handoffs_in_livekit(session) == ["human_desk"]
    else:
        with no_accidents():
            async with voice_rig(ga, userdata=Caller("Ann")) as rig:
                await rig.user_says("hello", at=0.5)
                await rig.until_idle()
                await rig.user_says("a human, please")
                await rig.until_idle()
                await rig.user_says("my order is lost")
                await rig.until_idle()
                agrees(ga, rig.session)
                assert spoken(rig) == [("support", "Hello. One moment."), ("desk", "Desk speaking. I see.")]
    assert not model.errors
    assert ga.conversation.active_agent == "human_desk"
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in ga.conversation.handoffs] == [("support", "human_desk")]
    assert told_by_graph(ga)[-1] == ("assistant", "I see.")
    assert [m.name for m in ga.conversation.messages if isinstance(m, AIMessage)][-2:] == ["human_desk", "human_desk"]
    # Nothing is carried, as LiveKit does it when nothing is said.
    assert [role for role, _ in shown(theirs, 0)] == ["system", "system"]


async def test_the_livekit_agent_is_shown_what_the_handoff_s_policy_carries() -> None:
    model = ScriptedModel({"support": ["Hello.", say("One moment.", call("transfer_to_human_desk"))]})
    kind, theirs = desk(["Desk speaking."])
    ga = GraphAgent(bank(model, history=history.exclude_tool_calls()), agents={"human_desk": kind})
    async with a_text_call(ga, model, userdata=Caller("Ann")) as session:
        await session.run(user_input="hello")
        await session.run(user_input="a human, please")
    assert shown(theirs, 0) == [
        ("system", "You are the desk."),
        ("user", "hello"),
        ("assistant", "Hello."),
        ("user", "a human, please"),
        ("assistant", "One moment."),
        ("system", "Greet."),
    ]


async def test_what_the_tools_wrote_is_in_the_session_s_userdata_when_the_livekit_agent_enters() -> None:
    left: list[str] = []

    async def on_exit(ctx: RunContext[Caller]) -> None:
        await asyncio.sleep(0.5)
        left.append(f"{ctx.userdata.name} goes")

    model = ScriptedModel({"support": [call("record_name", {"name": "Ann"})]})
    kind, _ = desk(["Desk speaking."])
    graph = create_voice_graph(
        [
            Agent(
                "support",
                instructions="S.",
                tools=[record_name],
                handoffs=[Handoff("human_desk", tool=False)],
                on_exit=on_exit,
            )
        ],
        userdata=Caller,
        llm=model,
        external=["human_desk"],
    )
    ga = GraphAgent(graph, agents={"human_desk": kind})
    async with a_text_call(ga, model) as session:
        await session.run(user_input="I am Ann")
        assert type(session.current_agent) is kind
    assert kind.entered == Caller("Ann")
    assert left == ["Ann goes"]


@pytest.mark.parametrize("policy", ["cancel", "complete"])
async def test_a_caller_who_cuts_in_while_the_summary_for_a_livekit_agent_is_made(policy: Any) -> None:
    # LiveKit has released the tool call by the time at which the graph hands off.
    summaries = ScriptedModel([("", "They talked.")], first_token=4.0)
    line = "I am transferring you to a human at our desk now and it may take a little while."
    script = ["Hello.", say(line, call("transfer_to_human_desk")), "Of course."]
    kind, _ = desk(["Desk speaking.", "I see."] if policy == "complete" else [])
    carried = history.summarize(model=summaries)
    ga = GraphAgent(
        bank(ScriptedModel({"support": script}), history=carried, on_interruption=policy), agents={"human_desk": kind}
    )
    with no_accidents():
        async with voice_rig(ga) as rig:
            await rig.user_says("hello", at=0.5)
            await rig.until_idle()
            await rig.user_says("a human")
            await rig.until_speaking()
            await asyncio.sleep(1.0)
            await rig.user_says("wait, no")
            await rig.until_idle(quiet=6)
            agrees(ga, rig.session)
            moved = policy == "complete"
            assert handoffs_in_livekit(rig.session) == (["human_desk"] if moved else [])
            assert ga.conversation.active_agent == ("human_desk" if moved else "support")
            assert [h["new_agent_id"] for h in ga.conversation.handoffs] == (["human_desk"] if moved else [])


async def test_a_handoff_that_the_caller_cuts_off_leaves_the_floor_with_the_graph() -> None:
    line = "I am transferring you to a human at our desk now and it may take a little while."
    model = ScriptedModel({"support": [say(line, call("transfer_to_human_desk")), "Of course."]})
    kind, _ = desk([])
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    with no_accidents():
        async with voice_rig(ga) as rig:
            await rig.user_says("a human", at=0.5)
            await rig.until_speaking()
            await rig.user_says("no wait please stop", at=rig.now + 1.0)
            await rig.until_idle()
            agrees(ga, rig.session)
            assert rig.session.current_agent is ga
    assert not model.errors
    assert ga.conversation.active_agent == "support"
    assert ga.conversation.handoffs == []
    assert kind.entered is None


# ---- and back


@pytest.mark.parametrize("policy", [None, history.full(), history.resume()])
async def test_a_livekit_agent_gives_the_floor_back_and_the_graph_remembers_what_was_said(policy: Any) -> None:
    model = ScriptedModel(
        {"support": ["Hello.", call("transfer_to_human_desk")], "billing": ["Billing speaking.", "Ten euros."]}
    )
    kind, _ = desk(
        ["Desk speaking.", say("Let me see.", call("look_up", {"number": 3})), "It is lost.", call("give_back")],
        back=lambda: ga.agent("billing", history=policy),
    )
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    async with a_text_call(ga, model) as session:
        for text in ("hello", "a human", "where is order 3", "then I want my money", "how much"):
            await session.run(user_input=text)
        assert session.current_agent.id == "billing"
        assert handoffs_in_livekit(session) == ["human_desk", "billing"]
    handoffs = [(h["old_agent_id"], h["new_agent_id"]) for h in ga.conversation.handoffs]
    assert handoffs == [("support", "human_desk"), ("human_desk", "billing")]
    told = [m.text for m in ga.conversation.messages if isinstance(m, HumanMessage)]
    assert told == ["hello", "a human", "where is order 3", "then I want my money", "how much"]
    assert list(outputs_in_graph(ga).values())[1:2] == ["order 3 is lost"]
    greeting = [m.text for m in model.prompts[2].messages]
    assert ("where is order 3" in greeting) == (policy is not None)
    assert ("order 3 is lost" in greeting) == (policy is not None)


async def test_the_graph_s_own_history_policy_counts_for_every_return() -> None:
    model = ScriptedModel({"support": [call("transfer_to_human_desk")], "billing": ["Billing speaking."]})
    kind, _ = desk(["Desk speaking.", call("give_back")], back=lambda: ga.agent("billing"))
    ga = GraphAgent(bank(model), agents={"human_desk": kind}, history=history.exclude_tool_calls())
    async with a_text_call(ga, model) as session:
        for text in ("a human", "billing, please"):
            await session.run(user_input=text)
        said = [i.text_content for i in session.current_agent.chat_ctx.items if i.type == "message"][1:]
        # The desk itself was shown nothing of what went before it, so there is nothing more to carry.
        assert said == ["Desk speaking.", "billing, please", "Billing speaking."]
    assert [m.text for m in model.prompts[1].messages[2:4]] == ["Desk speaking.", "billing, please"]


@pytest.mark.parametrize("text", [True, False])
async def test_the_call_may_go_to_and_fro(text: bool) -> None:
    script = {"support": [call("transfer_to_human_desk", id=f"to{n}") for n in range(3)]}
    for n in range(3):
        script["support"].insert(2 * n, f"Support {n}.")
    model = ScriptedModel(script)
    lines = [entry for n in range(3) for entry in (f"Desk {n}.", call("give_back", id=f"back{n}"))]
    kind, _ = desk(lines, back=lambda: ga)
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    steps = ["hello", *(t for n in range(3) for t in (f"human {n}", f"back {n}"))][:-1]
    if text:
        async with a_text_call(ga, model) as session:
            for said in steps:
                await session.run(user_input=said)
            assert handoffs_in_livekit(session) == ["human_desk", "support"] * 2 + ["human_desk"]
    else:
        with no_accidents():
            async with voice_rig(ga) as rig:
                for said in steps:
                    await rig.user_says(said)
                    await rig.until_idle()
                agrees(ga, rig.session)
                assert [name for name, _ in spoken(rig)] == ["support", "desk", "support", "desk", "support", "desk"]
        assert not model.errors


# ---- from a LiveKit agent to the graph


class Reception(LiveKitAgent):
    """A LiveKit agent that has the floor first."""

    def __init__(self, model: LiveKitModel, ga: GraphAgent) -> None:
        super().__init__(instructions="You are the reception.", llm=model, tts=FakeTTS("reception"))
        self._ga = ga

    @livekit_tool
    async def to_the_bank(self) -> Any:
        """Transfer the caller to the bank."""
        return self._ga


@pytest.mark.parametrize("policy", [None, history.exclude_tool_calls()])
async def test_a_tool_of_a_livekit_agent_returns_a_graph(policy: Any) -> None:
    model = ScriptedModel({"support": ["Support speaking.", "Fine."]})
    ga = GraphAgent(bank(model), agents={"human_desk": Desk}, history=policy)
    first = Reception(LiveKitModel(["Reception.", call("to_the_bank")]), ga)
    with no_accidents():
        async with AgentSession[Any](vad=None, userdata=Caller("Ann")) as session:
            await session.start(first)
            for text in ("hello", "the bank, please", "how are you"):
                await session.run(user_input=text)
            agrees_but_for_the_first(ga, session)
            assert session.userdata is ga.conversation.userdata
    assert not model.errors
    # All of it is remembered, in order and once; the policy says what the agent is shown.
    assert [m.text for m in ga.conversation.messages] == [
        "hello",
        "Reception.",
        "the bank, please",
        "",
        "",
        "Support speaking.",
        "how are you",
        "Fine.",
    ]
    assert [m.name for m in ga.conversation.messages if isinstance(m, AIMessage)] == [
        "reception",
        "reception",
        "support",
        "support",
    ]
    before = ["hello", "Reception.", "the bank, please"] if policy is not None else []
    greeting = [m.text for m in model.prompts[0].messages[1:]]
    assert greeting[: len(before)] == before
    assert ("Reception." in greeting) == (policy is not None)
    assert ga.conversation.userdata == Caller("Ann")


def agrees_but_for_the_first(ga: GraphAgent, session: AgentSession[Any]) -> None:
    """`agrees`, where LiveKit's first agent is not the graph's: the handoff to the graph is one more."""
    assert told_by_graph(ga) == told_by_livekit(session)
    assert [h["new_agent_id"] for h in ga.conversation.handoffs] == handoffs_in_livekit(session)
    check_prompt([HumanMessage("(the call begins)", id="opener"), *ga.conversation.messages])
    livekit = [i.call_id for i in session.history.items if i.type == "function_call"]
    assert sorted(calls_in_graph(ga)) == sorted(livekit)


async def test_an_agent_nobody_registered_may_have_the_floor_for_a_while() -> None:
    model = ScriptedModel({"support": ["Hello.", "Welcome back."]})
    ga = GraphAgent(bank(model), agents={"human_desk": Desk})
    stranger = Reception(LiveKitModel(["I am somebody else.", call("to_the_bank")]), ga)
    with no_accidents():
        async with AgentSession[Any](vad=None) as session:
            await session.start(ga)
            await session.run(user_input="hello")
            await give_floor(session, stranger)
            await session.run(user_input="who are you")
            await session.run(user_input="go back")
            assert session.current_agent is ga
    assert not model.errors
    assert [m.text for m in ga.conversation.messages if m.text] == [
        "hello",
        "Hello.",
        "who are you",
        "I am somebody else.",
        "go back",
        "Welcome back.",
    ]
    assert [(h["old_agent_id"], h["new_agent_id"]) for h in ga.conversation.handoffs] == [("reception", "support")]


async def test_the_program_puts_a_registered_agent_on_the_floor() -> None:
    model = ScriptedModel({"support": ["Hello."]})
    kind, _ = desk(["Desk speaking."], greets=False)
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    async with a_text_call(ga, model) as session:
        await session.run(user_input="hello")
        await give_floor(session, ga.agent("human_desk"))
        await session.run(user_input="are you human")
        assert ga.conversation.active_agent == "human_desk"
    assert told_by_graph(ga)[-1] == ("assistant", "Desk speaking.")


# ---- LiveKit's tasks, and mocks


class AskName(AgentTask[str]):
    """LiveKit's own kind of task: it has the floor until it is complete."""

    def __init__(self) -> None:
        super().__init__(instructions="Ask for the name.")

    async def on_enter(self) -> None:
        self.session.generate_reply(instructions="Ask.")

    @livekit_tool
    async def record(self, name: str) -> None:
        """Record the name."""
        self.complete(name)


async def test_a_task_inside_a_tool_of_the_livekit_agent_breaks_nothing() -> None:
    model = ScriptedModel({"support": [call("transfer_to_human_desk", id="to")], "billing": ["Billing speaking."]})
    theirs = LiveKitModel(
        [
            "Desk speaking.",
            call("identify", id="who"),
            "Your name?",
            call("record", {"name": "Ann"}, id="rec"),
            "Thank you, Ann.",
            call("give_back", id="back"),
        ]
    )

    class HumanDesk(Desk):
        def __init__(self) -> None:
            super().__init__(theirs)

        async def on_enter(self) -> None:
            self.session.generate_reply(instructions="Greet.")

        @livekit_tool
        async def identify(self, context: LiveKitContext[Any]) -> str:
            """Ask who it is."""
            return f"the caller is {await AskName()}"

    ga = GraphAgent(bank(model), agents={"human_desk": HumanDesk})
    HumanDesk.back = staticmethod(lambda: ga.agent("billing"))
    with no_accidents():
        async with AgentSession[Any](vad=None, llm=theirs) as session:
            await session.start(ga)
            for text in ("a human", "who am I", "Ann", "billing"):
                await session.run(user_input=text)
            assert session.current_agent.id == "billing"
            assert told_by_graph(ga) == told_by_livekit(session)
    assert not model.errors
    assert outputs_in_graph(ga)["who"] == "the caller is Ann"
    assert [m.name for m in ga.conversation.messages if m.text == "Your name?"] == ["ask_name"]
    assert ga.conversation.active_agent == "billing"
    check_prompt([*ga.conversation.messages])


async def test_mocks_by_class_reach_the_livekit_agent_s_tools() -> None:
    model = ScriptedModel({"support": [call("transfer_to_human_desk")]})
    kind, _ = desk([call("look_up", {"number": 3}), "Found."], greets=False)
    ga = GraphAgent(bank(model), agents={"human_desk": kind})
    async with a_text_call(ga, model) as session:
        await session.run(user_input="a human")
        with mock_tools(ga.agent_type("human_desk"), {"look_up": lambda number: f"order {number} is here"}):
            await session.run(user_input="where is order 3")
    assert list(outputs_in_graph(ga).values())[-1] == "order 3 is here"


# ---- what is refused


def test_every_external_agent_is_named_and_no_other() -> None:
    graph = bank(ScriptedModel([]))
    with pytest.raises(
        BuildError, match=r'external agent "human_desk" has no LiveKit agent. .*agents=\{"human_desk": MyAgent\}'
    ):
        GraphAgent(graph)
    with pytest.raises(BuildError, match=r'create_voice_graph\(\.\.\., external=\["desk"\]\)'):
        GraphAgent(graph, agents={"human_desk": Desk, "desk": Desk})
    with pytest.raises(BuildError, match="a function that returns an agent"):
        GraphAgent(graph, agents={"human_desk": Desk()})  # type: ignore[dict-item]
    ga = GraphAgent(graph, agents={"human_desk": lambda: "me"})  # type: ignore[dict-item,return-value]
    with pytest.raises(BuildError, match="'me', which is no LiveKit agent"):
        ga.agent("human_desk")
    with pytest.raises(BuildError, match="name its class itself"):
        ga.agent_type("human_desk")
    with pytest.raises(BuildError, match="gets its context from the code that makes it"):
        ga.agent("human_desk", history=history.full())


def test_an_external_name_is_no_agent_s() -> None:
    agent = Agent("support", instructions="S.", handoffs=[Handoff("human_desk")])
    with pytest.raises(BuildError, match="the graph has an agent of that name"):
        create_voice_graph([agent], external=["support"])
    with pytest.raises(BuildError, match=r'external=\["human_desk"\]'):
        create_voice_graph([agent]).compile()
    with pytest.raises(BuildError, match='two agents are named "desk"'):
        create_voice_graph([agent], external=["desk", "desk"])


async def test_without_livekit_the_graph_is_silent_while_an_external_agent_has_the_floor() -> None:
    model = ScriptedModel({"support": [call("transfer_to_human_desk")]})
    conversation = Conversation(bank(model))
    await conversation.run("a human")
    assert conversation.active_agent == "human_desk"
    events = await conversation.run("hello?")
    assert [type(event).__name__ for event in events] == ["Ended"]
    assert not model.errors


# ---- the guide

PAGE = Path(__file__).parents[3] / "docs" / "livekit.md"


async def test_the_guide_s_human_desk_takes_the_caller_and_gives_them_back() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    [snippet] = [text for text in snippets if "HumanDesk" in text]
    model = ScriptedModel(["Hello.", call("transfer_to_human_desk", id="to"), "Back at support."])
    names: dict[str, Any] = {"model": model, "desk_model": LiveKitModel(["Desk.", call("give_back", id="back")])}
    snippet = snippet.replace("([support], ", "([support], llm=model, ")
    exec(snippet.replace('llm="openai/gpt-4.1-mini"', "llm=desk_model"), names)
    ga = names["ga"]
    async with a_text_call(ga, model) as session:
        for text in ("hello", "a human, please", "thank you, back to support"):
            await session.run(user_input=text)
        assert handoffs_in_livekit(session) == ["human_desk", "support"]
    assert {"hello", "a human, please", "Desk.", "thank you, back to support"} <= {
        m.text for m in model.prompts[2].messages
    }
