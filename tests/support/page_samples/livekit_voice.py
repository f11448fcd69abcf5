from livekit.agents import Agent, inference


class CustomerServiceManager(Agent):
    def __init__(self):
        super().__init__(
            instructions="You are a customer service manager who can handle escalated issues.",
            tts=inference.TTS(model="cartesia/sonic-3", voice="6f84f4b8-58a2-430c-8c79-688dad597532"),
        )
