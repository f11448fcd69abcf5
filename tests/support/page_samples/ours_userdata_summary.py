from dataclasses import dataclass

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history


@dataclass
class MySessionInfo:
    user_name: str | None = None
    age: int | None = None


class CustomerServiceAgent(Agent):
    instructions = "You are a friendly customer service representative."
    on_enter = "Greet the user and offer your assistance."


class IntakeAgent(Agent):
    instructions = "You are an intake agent. Learn the user's name and age."
    handoffs = (Handoff("customer_service", tool=False),)

    @function_tool
    async def record(self, context: RunContext[MySessionInfo], name: str, age: int) -> Handoff:
        """Use this tool to record the user's name and age."""
        context.userdata.user_name = name
        context.userdata.age = age
        return context.handoff("customer_service", history=history.fresh() | history.userdata_summary())


graph = create_voice_graph([IntakeAgent(), CustomerServiceAgent()], userdata=MySessionInfo)
