from graph_voice import Agent, Done, RunContext, Task, create_voice_graph, function_tool


class CollectConsent(Task[bool]):
    result = bool
    instructions = "Ask whether the call may be recorded, and get a clear yes or no."
    on_enter = "Ask for permission to record the call."

    @function_tool
    async def consent_given(self, context: RunContext) -> Done:
        """The caller agrees to be recorded."""
        return context.complete(True)

    @function_tool
    async def consent_denied(self, context: RunContext) -> Done:
        """The caller does not want to be recorded."""
        return context.complete(False)


collect_consent = CollectConsent()


class CustomerServiceAgent(Agent):
    instructions = "You are a friendly customer service representative."
    tasks = (collect_consent,)

    async def on_enter(self, context: RunContext) -> None:
        if await context.run_task(collect_consent):
            await context.generate_reply("Offer your assistance.")
        else:
            await context.generate_reply("Say that nothing is recorded, and offer your assistance.")


graph = create_voice_graph([CustomerServiceAgent(), collect_consent])
