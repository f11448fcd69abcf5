"""Agents: instances and subclasses, and what each hook does."""

from typing import Any

import pytest
from pydantic import BaseModel

from graph_voice import Agent, Conversation, Handoff, RunContext, create_voice_graph, events, function_tool
from graph_voice.testing import ScriptedModel, call


class Caller(BaseModel):
    name: str | None = None
    log: list[str] = []


class FrontDeskAgent(Agent):
    instructions = "You are the front desk."
    handoffs = (Handoff("billing", "For bills."),)
    on_enter_tools = "none"

    @function_tool
    async def note(self, ctx: RunContext[Caller], name: str) -> str:
        """Note the caller's name."""
        ctx.userdata.name = name
        return f"noted by {self.name}"

    async def on_exit(self, ctx: RunContext[Caller]) -> None:
        ctx.userdata.log.append(f"{self.name} left")


class Billing(Agent):
    instructions = staticmethod(lambda caller: f"You are billing, for {caller.name}.")

    async def on_enter(self, ctx: RunContext[Caller]) -> None:
        ctx.userdata.log.append(f"{self.name} entered")
        await ctx.say(f"Hello {ctx.userdata.name}.")


async def test_a_subclass_is_an_agent_with_its_methods_as_tools_and_hooks() -> None:
    llm = ScriptedModel([call("note", {"name": "Ada"}), call("transfer_to_billing"), "Nothing is due."])
    conversation = Conversation[Caller](create_voice_graph([FrontDeskAgent, Billing], userdata=Caller, llm=llm))
    seen = await conversation.run("I'm Ada, my bill?")
    assert conversation.active_agent == "billing"
    assert conversation.userdata == Caller(name="Ada", log=["front_desk left", "billing entered"])
    assert "".join(e.text for e in seen if isinstance(e, events.Text | events.Say)) == "Hello Ada."
    assert next(m.text for m in conversation.messages if m.type == "tool") == "noted by front_desk"
    await conversation.run("And?")
    assert llm.prompts[-1].messages[0].text == "You are billing, for Ada."


def test_the_class_gives_the_name_unless_it_or_the_instance_says_otherwise() -> None:
    class Named(Billing):
        name = "accounts"

    assert (FrontDeskAgent().name, Billing().name, Named().name, Billing("x").name) == (
        "front_desk", "billing", "accounts", "x")  # fmt: skip


def test_an_instances_arguments_replace_the_classs_attributes() -> None:
    changed = FrontDeskAgent(instructions="You are another.", handoffs=[])
    assert (changed.render(None), changed.targets) == ("You are another.", frozenset())
    assert FrontDeskAgent().targets == {"billing"}


def test_a_subclass_inherits_tools_and_may_replace_one() -> None:
    class Night(FrontDeskAgent):
        @function_tool
        async def note(self, ctx: RunContext[Caller], name: str) -> str:
            """Note the name at night."""
            return ""

        @function_tool(name="ring")
        async def ring_the_bell(self) -> str:
            """Ring the bell."""
            return "rang"

    tools = {t.name: t.description for t in Night().all_tools}
    assert tools == {"note": "Note the name at night.", "ring": "Ring the bell.", "transfer_to_billing": "For bills."}


@pytest.mark.parametrize(
    ("on_enter", "words"),
    [("Greet.", "Greet."), (lambda caller: f"Greet {caller.name}.", "Greet Ada.")],
    ids=["text", "function"],
)
async def test_on_enter_is_instructions_for_the_first_reply_only(on_enter: Any, words: str) -> None:
    llm = ScriptedModel(["Good day.", "Yes?"])
    agent = Agent("front", instructions="Front.", on_enter=on_enter)
    conversation = Conversation(create_voice_graph([agent], userdata=Caller, llm=llm), userdata=Caller(name="Ada"))
    await conversation.run()
    await conversation.run("Hm.")
    first, second = (prompt.messages for prompt in llm.prompts)
    assert words in first[-1].text
    assert not any("<instructions>" in m.text for m in second)


async def test_without_on_enter_an_agent_replies_at_once_after_a_handoff() -> None:
    a = Agent("a", instructions="A.", handoffs=[Handoff("b")])
    llm = ScriptedModel([call("transfer_to_b"), "B here."])
    conversation = Conversation(create_voice_graph([a, Agent("b", instructions="B.")], llm=llm))
    await conversation.run("Over.")
    assert conversation.messages[-1].text == "B here."


async def test_an_on_enter_method_that_says_nothing_leaves_the_agent_silent() -> None:
    class Quiet(Agent):
        instructions = "You are quiet."

        async def on_enter(self, ctx: RunContext[Any]) -> None: ...

    a = Agent("a", instructions="A.", handoffs=[Handoff("quiet")])
    llm = ScriptedModel([call("transfer_to_quiet"), "Yes?"])
    conversation = Conversation(create_voice_graph([a, Quiet], llm=llm))
    seen = await conversation.run("Over.")
    assert not any(isinstance(e, events.Text | events.Say) for e in seen)
    await conversation.run("Hello?")
    assert conversation.messages[-1].text == "Yes?"


async def test_instructions_are_rendered_for_each_model_call() -> None:
    @function_tool
    async def note(ctx: RunContext[Caller], name: str) -> str:
        """Note the name."""
        ctx.userdata.name = name
        return "noted"

    llm = ScriptedModel([call("note", {"name": "Ada"}), "Hello."])
    agent = Agent("front", instructions=lambda caller: f"For {caller.name}.", tools=[note])
    await Conversation(create_voice_graph([agent], userdata=Caller, llm=llm)).run("I'm Ada.")
    assert [prompt.messages[0].text for prompt in llm.prompts] == ["For None.", "For Ada."]


async def test_instructions_that_fail_are_an_apology_and_the_call_goes_on() -> None:
    llm = ScriptedModel(["Fine."])
    agent = Agent("front", instructions=lambda caller: f"For {caller.name.upper()}.")
    conversation = Conversation(create_voice_graph([agent], userdata=Caller, llm=llm, apology="Sorry."))
    seen = await conversation.run("Hello?")
    assert [type(e.error) for e in seen if isinstance(e, events.Failed)] == [AttributeError]
    assert conversation.messages[-1].text == "Sorry."
    conversation.update_userdata(Caller(name="Ada"))
    await conversation.run("Hello?")
    assert conversation.messages[-1].text == "Fine."


async def test_a_line_that_a_tool_lets_the_model_word_can_call_no_tool() -> None:
    @function_tool
    async def slow(ctx: RunContext[Any]) -> str:
        """Take a while."""
        return await ctx.generate_reply("Say that it takes a while.")

    llm = ScriptedModel([call("slow"), "It takes a while.", "Done."])
    conversation = Conversation(create_voice_graph([Agent("front", instructions="Hi.", tools=[slow])], llm=llm))
    await conversation.run("Do it.")
    assert [(prompt.tools, prompt.tool_choice) for prompt in llm.prompts] == [
        (("slow",), None), (("slow",), "none"), (("slow",), None)]  # fmt: skip
