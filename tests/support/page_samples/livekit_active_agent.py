from livekit.agents import Agent, AgentSession


class ReceptionAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You are a receptionist.")


class CustomerServiceAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You are a friendly customer service representative.")

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet the user warmly and offer your assistance.")


def initial():
    session = AgentSession(
        agent=CustomerServiceAgent()
        # ...
    )
    return session


def change(session):
    session.update_agent(CustomerServiceAgent())
