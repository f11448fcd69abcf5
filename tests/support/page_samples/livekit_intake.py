from dataclasses import dataclass

from livekit.agents import Agent, AgentSession, RunContext, function_tool


@dataclass
class MySessionInfo:
    user_name: str | None = None
    age: int | None = None


class IntakeAgent(Agent):
    def __init__(self):
        super().__init__(instructions="""You are an intake agent. Learn the user's name and age.""")

    @function_tool()
    async def record_name(self, context: RunContext[MySessionInfo], name: str):
        """Use this tool to record the user's name."""
        context.userdata.user_name = name
        return self._handoff_if_done()

    @function_tool()
    async def record_age(self, context: RunContext[MySessionInfo], age: int):
        """Use this tool to record the user's age."""
        context.userdata.age = age
        return self._handoff_if_done()

    def _handoff_if_done(self):
        if self.session.userdata.user_name and self.session.userdata.age:
            return CustomerServiceAgent()
        else:
            return None


class CustomerServiceAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You are a friendly customer service representative.")

    async def on_enter(self) -> None:
        userdata: MySessionInfo = self.session.userdata
        await self.session.generate_reply(
            instructions=f"Greet {userdata.user_name} personally and offer your assistance."
        )


def make_session(llm):
    session = AgentSession[MySessionInfo](
        userdata=MySessionInfo(),
        llm=llm,
        vad=None,
    )
    return session
