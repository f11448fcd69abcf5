from graph_voice import Agent, Voice, create_voice_graph


class CustomerServiceManager(Agent):
    instructions = "You are a customer service manager who can handle escalated issues."
    voice = Voice(tts="cartesia/sonic-3:6f84f4b8-58a2-430c-8c79-688dad597532")


graph = create_voice_graph([CustomerServiceManager()])
