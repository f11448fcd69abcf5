from livekit.agents import Agent

agent = Agent(instructions="You are a helpful voice AI assistant.")
