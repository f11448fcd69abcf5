from dataclasses import asdict, dataclass

import yaml
from livekit.agents import Agent, ChatContext, RunContext, function_tool


@dataclass
class MySessionInfo:
    user_name: str | None = None
    age: int | None = None


class CustomerServiceAgent(Agent):
    def __init__(self, chat_ctx: ChatContext):
        super().__init__(instructions="You are a friendly customer service representative.", chat_ctx=chat_ctx)

    async def on_enter(self) -> None:
        await self.session.generate_reply(instructions="Greet the user and offer your assistance.")


class IntakeAgent(Agent):
    def __init__(self):
        super().__init__(instructions="You are an intake agent. Learn the user's name and age.")

    @function_tool()
    async def record(self, context: RunContext[MySessionInfo], name: str, age: int):
        """Use this tool to record the user's name and age."""
        context.userdata.user_name = name
        context.userdata.age = age
        chat_ctx = ChatContext()
        facts = yaml.safe_dump(asdict(context.userdata), sort_keys=False).strip()
        chat_ctx.add_message(role="system", content=f"What is known so far:\n{facts}")
        return CustomerServiceAgent(chat_ctx=chat_ctx)
