from graph_voice import Agent, Handoff, RunContext, create_voice_graph, function_tool, history


class TechnicalSupportAgent(Agent):
    instructions = """You are a technical support specialist. Help customers troubleshoot
            product issues, setup problems, and technical questions."""


class CustomerServiceAgent(Agent):
    instructions = "You are a friendly customer service representative."
    handoffs = (Handoff("technical_support", tool=False),)

    @function_tool
    async def transfer_to_technical_support(self, context: RunContext) -> Handoff:
        """Transfer the customer to technical support for product issues and troubleshooting."""
        await context.generate_reply("Inform the customer that you're transferring them to the technical support team.")
        return context.handoff("technical_support", history=history.exclude_instructions())


graph = create_voice_graph([CustomerServiceAgent(), TechnicalSupportAgent()])
