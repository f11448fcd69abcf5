from graph_voice import Agent, create_voice_graph

graph = create_voice_graph([Agent("assistant", instructions="You are a helpful voice AI assistant.")])
