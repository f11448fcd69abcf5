from dataclasses import dataclass

from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history


@dataclass
class Case:
    topic: str | None = None


@function_tool
async def transfer_to_specialist(context: RunContext[Case], topic: str) -> Handoff:
    """Hand off to a specialist once triage is complete."""
    context.userdata.topic = topic
    return context.handoff("specialist", history=history.summarize())


triage = Agent(
    "triage",
    instructions="You are a triage agent.",
    tools=[transfer_to_specialist],
    handoffs=[Handoff("specialist", tool=False)],
)

specialist = Agent("specialist", instructions=lambda case: f"You are a specialist for {case.topic}.")

graph = create_voice_graph([triage, specialist], userdata=Case)
