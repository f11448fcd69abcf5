from livekit.agents import Agent, function_tool
from livekit.agents.beta.workflows import GetEmailTask


class HostAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You invite callers.")

    @function_tool()
    async def invite(self) -> str:
        """Send the caller an invitation."""
        email = await GetEmailTask()
        return f"Sent to {email.email_address}."
