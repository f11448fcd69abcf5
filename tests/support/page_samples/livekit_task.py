from livekit.agents import Agent, AgentTask, function_tool


class CollectConsent(AgentTask[bool]):
    def __init__(self, chat_ctx=None):
        super().__init__(
            instructions="Ask whether the call may be recorded, and get a clear yes or no.",
            chat_ctx=chat_ctx,
        )

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Ask for permission to record the call.")

    @function_tool()
    async def consent_given(self) -> None:
        """The caller agrees to be recorded."""
        self.complete(True)

    @function_tool()
    async def consent_denied(self) -> None:
        """The caller does not want to be recorded."""
        self.complete(False)


class CustomerServiceAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You are a friendly customer service representative.")

    async def on_enter(self) -> None:
        if await CollectConsent(chat_ctx=self.chat_ctx):
            await self.session.generate_reply(instructions="Offer your assistance.")
        else:
            await self.session.generate_reply(instructions="Say that nothing is recorded, and offer your assistance.")
