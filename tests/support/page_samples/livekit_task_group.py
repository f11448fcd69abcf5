from livekit.agents import Agent, AgentTask, function_tool
from livekit.agents.beta.workflows import TaskGroup


class GetName(AgentTask[str]):
    def __init__(self):
        super().__init__(instructions="Find out the caller's name.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask for the name.")

    @function_tool()
    async def record_name(self, name: str) -> None:
        """Record the caller's name."""
        self.complete(name)


class GetCity(AgentTask[str]):
    def __init__(self):
        super().__init__(instructions="Find out where the caller lives.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask for the city.")

    @function_tool()
    async def record_city(self, city: str) -> None:
        """Record the caller's city."""
        self.complete(city)


class ClerkAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You register callers.")

    @function_tool()
    async def register(self) -> str:
        """Register the caller."""
        intake = TaskGroup(summarize_chat_ctx=False)
        intake.add(lambda: GetName(), id="get_name", description="The caller's name.")
        intake.add(lambda: GetCity(), id="get_city", description="Where the caller lives.")
        found = (await intake).task_results
        return f"Registered {found['get_name']} of {found['get_city']}."
