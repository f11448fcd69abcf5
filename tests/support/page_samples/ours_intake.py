from dataclasses import dataclass

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool


@dataclass
class MySessionInfo:
    user_name: str | None = None
    age: int | None = None


class IntakeAgent(Agent):
    instructions = "You are an intake agent. Learn the user's name and age."
    handoffs = (Handoff("customer_service", tool=False),)

    @function_tool
    async def record_name(self, context: RunContext[MySessionInfo], name: str) -> Handoff | None:
        """Use this tool to record the user's name."""
        context.userdata.user_name = name
        return self._handoff_if_done(context)

    @function_tool
    async def record_age(self, context: RunContext[MySessionInfo], age: int) -> Handoff | None:
        """Use this tool to record the user's age."""
        context.userdata.age = age
        return self._handoff_if_done(context)

    def _handoff_if_done(self, context: RunContext[MySessionInfo]) -> Handoff | None:
        if context.userdata.user_name and context.userdata.age:
            return context.handoff("customer_service")
        return None


customer_service = Agent(
    "customer_service",
    instructions="You are a friendly customer service representative.",
    on_enter=lambda userdata: f"Greet {userdata.user_name} personally and offer your assistance.",
)

graph = create_voice_graph([IntakeAgent(), customer_service], userdata=MySessionInfo)
