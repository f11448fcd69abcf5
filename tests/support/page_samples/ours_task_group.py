from graph_voice import Agent, Done, RunContext, Task, TaskGroup, create_voice_graph, function_tool


class GetName(Task[str]):
    instructions = "Find out the caller's name."
    on_enter = "Ask for the name."
    description = "The caller's name."

    @function_tool
    async def record_name(self, context: RunContext, name: str) -> Done:
        """Record the caller's name."""
        return context.complete(name)


class GetCity(Task[str]):
    instructions = "Find out where the caller lives."
    on_enter = "Ask for the city."
    description = "Where the caller lives."

    @function_tool
    async def record_city(self, context: RunContext, city: str) -> Done:
        """Record the caller's city."""
        return context.complete(city)


intake = TaskGroup("intake", [GetName(), GetCity()])


@function_tool(needs={"found": intake})
async def register(found: dict) -> str:
    """Register the caller."""
    return f"Registered {found['get_name']} of {found['get_city']}."


clerk = Agent("clerk", instructions="You register callers.", tools=[register])
graph = create_voice_graph([clerk, intake])
