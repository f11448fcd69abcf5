from graph_voice import Agent, create_voice_graph, function_tool, tasks

get_email = tasks.get_email()


@function_tool(needs={"email": get_email})
async def invite(email: tasks.Email) -> str:
    """Send the caller an invitation."""
    return f"Sent to {email.address}."


host = Agent("host", instructions="You invite callers.", tools=[invite])
graph = create_voice_graph([host, get_email])
