from graph_voice import Agent, Handoff, create_voice_graph

reception = Agent("reception", instructions="You are a receptionist.", handoffs=[Handoff("customer_service")])
customer_service = Agent(
    "customer_service",
    instructions="You are a friendly customer service representative.",
    on_enter="Greet the user warmly and offer your assistance.",
    handoffs=[Handoff("reception")],
)

graph = create_voice_graph([reception, customer_service], start="customer_service")
from_reception = create_voice_graph([reception, customer_service])


def change(session, graph_agent):
    session.update_agent(graph_agent.agent("customer_service"))
