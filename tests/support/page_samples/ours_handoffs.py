from graph_voice import Agent, Handoff, create_voice_graph, history

customer_service = Agent(
    "customer_service",
    instructions="""You are a friendly customer service representative. Help customers with
            general inquiries, account questions, and technical support. If a customer needs
            specialized help, transfer them to the appropriate specialist.""",
    on_enter="Greet the user warmly and offer your assistance.",
    handoffs=[
        Handoff(
            "billing",
            "Transfer the customer to a billing specialist for account and payment questions.",
            history=history.full(),
            result="Transferring to billing",
        ),
        Handoff(
            "technical_support",
            "Transfer the customer to technical support for product issues and troubleshooting.",
            history=history.full(),
            result="Transferring to technical support",
        ),
    ],
)

billing = Agent(
    "billing",
    instructions="""You are a billing specialist. Help customers with account questions,
            payments, refunds, and billing inquiries. Be thorough and empathetic.""",
    on_enter="Introduce yourself as a billing specialist and ask how you can help with their account.",
)

technical_support = Agent(
    "technical_support",
    instructions="""You are a technical support specialist. Help customers troubleshoot
            product issues, setup problems, and technical questions. Ask clarifying questions
            to diagnose problems effectively.""",
    on_enter="Introduce yourself as a technical support specialist and offer to help with any technical issues.",
)

graph = create_voice_graph([customer_service, billing, technical_support])
