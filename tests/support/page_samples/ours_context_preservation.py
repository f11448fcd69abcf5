from graph_voice import Agent, Handoff, Reply, create_voice_graph, history

technical_support = Agent(
    "technical_support",
    instructions="""You are a technical support specialist. Help customers troubleshoot
            product issues, setup problems, and technical questions.""",
)

customer_service = Agent(
    "customer_service",
    instructions="You are a friendly customer service representative.",
    handoffs=[
        Handoff(
            "technical_support",
            "Transfer the customer to technical support for product issues and troubleshooting.",
            say=Reply("Inform the customer that you're transferring them to the technical support team."),
            history=history.exclude_instructions(),
        )
    ],
)

graph = create_voice_graph([customer_service, technical_support])
