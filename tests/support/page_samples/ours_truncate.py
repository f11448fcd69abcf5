from graph_voice import Agent, Handoff, create_voice_graph, history

technical_support = Agent("technical_support", instructions="You are a technical support specialist.")
to_support = Handoff(
    "technical_support",
    "Transfer the customer to technical support for product issues and troubleshooting.",
    history=history.truncate(max_items=6),
)
customer_service = Agent(
    "customer_service", instructions="You are a friendly customer service representative.", handoffs=[to_support]
)
graph = create_voice_graph([customer_service, technical_support])
