from graph_voice import Agent, create_voice_graph


class HelpfulAssistant(Agent):
    instructions = "You are a helpful voice AI assistant."
    on_enter = "Greet the user and ask how you can help them."


graph = create_voice_graph([HelpfulAssistant()])
