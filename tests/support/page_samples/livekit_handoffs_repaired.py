from livekit.agents import Agent, RunContext, function_tool


class CustomerServiceAgent(Agent):
    def __init__(self, **kwargs):
        super().__init__(
            instructions="""You are a friendly customer service representative. Help customers with
            general inquiries, account questions, and technical support. If a customer needs
            specialized help, transfer them to the appropriate specialist.""",
            **kwargs,
        )

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet the user warmly and offer your assistance.")

    @function_tool()
    async def transfer_to_billing(self, context: RunContext):
        """Transfer the customer to a billing specialist for account and payment questions."""
        return BillingAgent(chat_ctx=self.chat_ctx), "Transferring to billing"

    @function_tool()
    async def transfer_to_technical_support(self, context: RunContext):
        """Transfer the customer to technical support for product issues and troubleshooting."""
        return TechnicalSupportAgent(chat_ctx=self.chat_ctx), "Transferring to technical support"


class BillingAgent(Agent):
    def __init__(self, **kwargs):
        super().__init__(
            instructions="""You are a billing specialist. Help customers with account questions,
            payments, refunds, and billing inquiries. Be thorough and empathetic.""",
            **kwargs,
        )

    async def on_enter(self) -> None:
        await self.session.generate_reply(
            instructions="Introduce yourself as a billing specialist and ask how you can help with their account."
        )


class TechnicalSupportAgent(Agent):
    def __init__(self, **kwargs):
        super().__init__(
            instructions="""You are a technical support specialist. Help customers troubleshoot
            product issues, setup problems, and technical questions. Ask clarifying questions
            to diagnose problems effectively.""",
            **kwargs,
        )

    async def on_enter(self) -> None:
        await self.session.generate_reply(
            instructions="Introduce yourself as a technical support specialist and offer to help with any technical issues."
        )
