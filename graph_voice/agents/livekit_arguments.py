"""What LiveKit's and LangChain's agents have and a graph's agent lacks, and what to write instead.

Whoever comes from there writes them sooner or later. Each is refused where it is written, by its name.
"""

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from graph_voice.errors import BuildError

__all__ = [
    "OF_AGENTS",
    "OF_CALLS",
    "OF_GRAPHS",
    "OF_TOOLS",
    "LiveKitAttributes",
    "refuse_arguments",
    "refuse_hooks",
]

_OF_VOICES = {part: f"write voice=Voice({part}=...)" for part in ("stt", "tts", "vad", "turn_handling")} | {
    part: f'write voice=Voice(options={{"{part}": ...}})'
    for part in (
        *("min_consecutive_speech_delay", "use_tts_aligned_transcript", "expressive", "turn_detection"),
        *("min_endpointing_delay", "max_endpointing_delay", "allow_interruptions"),
    )
}
_INSTRUCTIONS = "write instructions=..."
_MODEL = 'write llm=..., a LangChain chat model or "openai:gpt-4.1-mini"'
_MIDDLEWARE = 'a create_agent(..., middleware=[...], name="expert") may stand in the list of agents as it is'
_SERVERS = 'write tools=[McpServer({"url": ...})], or AgentSession(mcp_servers=[...]) for tools that run past the graph'
_SAVER = "write Conversation(graph, saver=...) or GraphAgent(graph, saver=...)"
OF_AGENTS = _OF_VOICES | {
    "id": 'its name is the first argument, Agent("billing", ...)',
    "label": 'its name is the first argument, Agent("billing", ...)',
    "chat_ctx": (
        'what a handoff carries is Handoff("billing", history=history.full()), and an earlier conversation is '
        "Conversation(graph, messages=[...])"
    ),
    "mcp_servers": _SERVERS,
    "tool_handling": "write @function_tool(on_duplicate=..., cancellable=...) on the tools",
    "userdata": "write create_voice_graph(..., userdata=MyClass)",
    "system_prompt": _INSTRUCTIONS,
    "prompt": _INSTRUCTIONS,
    "description": 'a handoff describes where it leads, Handoff("billing", "For questions about an invoice.")',
    "model": _MODEL,
    "middleware": _MIDDLEWARE,
    "response_format": "a typed result is a task's, Task(..., result=MyClass)",
    "output_type": "a typed result is a task's, Task(..., result=MyClass)",
    "checkpointer": _SAVER,
    "store": "write Conversation(graph, store=...) or GraphAgent(graph, store=...)",
    "state_schema": "write create_voice_graph(..., state_schema=MyState)",
    "context_schema": "write create_voice_graph(..., context_schema=MyContext)",
}
"""What `Agent` lacks -> what to write instead."""
OF_GRAPHS = {
    part: f"write AgentSession({part}=...), or for one agent Agent(..., {hint.removeprefix('write ')})"
    for part, hint in _OF_VOICES.items()
} | {
    "mcp_servers": _SERVERS,
    "max_tool_steps": "write AgentSession(max_tool_steps=...)",
    "user_away_timeout": "write AgentSession(user_away_timeout=...), or idle=Idle(after=10, say=...)",
    "preemptive_generation": "write AgentSession(preemptive_generation=...)",
    "instructions": 'they are an agent\'s, Agent("desk", instructions=...)',
    "model": _MODEL,
    "middleware": _MIDDLEWARE,
    "checkpointer": f"{_SAVER}, or create_voice_graph(...).compile(checkpointer=...)",
    "saver": _SAVER,
    "store": "write create_voice_graph(...).compile(store=...), Conversation(graph, store=...)",
    "handoffs": 'they are an agent\'s, Agent("desk", handoffs=["billing"])',
    "tasks": "list the tasks among the agents, create_voice_graph([desk, get_email])",
    "default_active_agent": 'write start="desk"',
}
"""What `create_voice_graph` lacks -> what to write instead."""
OF_CALLS = {
    part: f"write AgentSession({part}=...), or for one agent voices={{name: {hint.removeprefix('write voice=')}}}"
    for part, hint in _OF_VOICES.items()
} | {
    "llm": 'write create_voice_graph(..., llm=...), or for this call config={"configurable": {"llm": model}}',
    "instructions": 'they are the agents\' own, Agent("desk", instructions=...)',
    "tools": "write create_voice_graph(..., tools=[...]), or AgentSession(tools=[...])",
    "chat_ctx": "write messages=[...], LangChain's messages of an earlier conversation",
    "mcp_servers": _SERVERS,
    "checkpointer": "write saver=...",
    "id": "its id is the active agent's name",
}
"""What `GraphAgent` lacks -> what to write instead."""
OF_TOOLS = {
    "raw_schema": "write LangChain's StructuredTool.from_function(..., args_schema={...})",
    "args_schema": "write LangChain's StructuredTool.from_function(..., args_schema=...)",
    "flags": "write on_enter=False (IGNORE_ON_ENTER), cancellable=True (CANCELLABLE)",
    "return_direct": "write LangChain's @tool(return_direct=True), which an agent takes as it is",
    "response_format": "write LangChain's @tool(response_format=...), which an agent takes as it is",
    "infer_schema": "the annotations are the schema",
    "parse_docstring": "the arguments' descriptions are read from the docstring in any case",
    "desc": "write description=...",
    "confirm": 'write approve="Shall I?"',
    "agent": 'write handoffs=["billing"]',
}
"""What `@function_tool` lacks -> what to write instead."""
_BASES = "Put it into a class of LiveKit's, and write GraphAgent(graph, bases={{{name!r}: MyLiveKitAgent}})."
_HOOKS = {
    "llm_node": "The model is asked by the graph: llm=..., instructions= as a function of the userdata, or a node of "
    "your own.",
    "stt_node": _BASES,
    "tts_node": _BASES,
    "transcription_node": _BASES,
    "realtime_audio_output_node": _BASES,
    "on_user_turn_completed": _BASES,
    "on_user_turn_exceeded": _BASES,
}
_ATTRIBUTES = {
    "session": "a tool and a hook speak with `await ctx.say(...)` and `await ctx.generate_reply(...)`; the userdata is "
    "ctx.userdata; LiveKit's session is ctx.host.session.",
    "chat_ctx": "it is ctx.chat_ctx in a tool, conversation.chat_ctx outside.",
    "id": "its name is agent.name.",
    "label": "its name is agent.name.",
    "update_instructions": "make the instructions a function of the userdata, instructions=lambda userdata: ..., and "
    "change the userdata.",
    "update_tools": "declare when a tool is there, @function_tool(available=lambda ctx: ...).",
    "update_chat_ctx": 'return Command(update={"chat_ctx": ...}) from a tool, or hand off with history=....',
    "realtime_llm_session": "a realtime model can't be used: it answers without the graph.",
} | dict.fromkeys(("stt", "tts", "vad", "turn_detection", "allow_interruptions"), "LiveKit's is agent.voice.")


def refuse_arguments(where: str, given: Mapping[str, object], ways: Mapping[str, str]) -> None:
    """Raise `BuildError` for an argument that LiveKit or LangChain has here, and `TypeError` for any other.

    Args:
        where: what was called, such as `Agent("billing")`.
        given: the arguments that it does not have.
        ways: name -> what to write instead.
    """
    for name in given:
        if (way := ways.get(name)) is None:
            raise TypeError(f"{where} got an unexpected keyword argument {name!r}")
        raise BuildError(f"{where} has no argument {name!r}: {way}.")


def refuse_hooks(kind: type[Any], name: str) -> None:
    """Raise `BuildError` when an agent's class has a method or an attribute that only LiveKit would look at."""
    for part in (*_OF_VOICES, "mcp_servers", "chat_ctx"):
        if inspect.getattr_static(kind, part, None) is not None:
            raise BuildError(f"{kind.__name__}.{part}: nobody would look at it here: {OF_AGENTS[part]}.")
    for hook, way in _HOOKS.items():
        if inspect.isroutine(getattr(kind, hook, None)):
            way = way.format(name=name)
            raise BuildError(f"{kind.__name__}.{hook} is LiveKit's hook, and nobody would call it here. {way}")


class LiveKitAttributes:
    """Says what a graph has instead of an attribute of LiveKit's `Agent` that is missing."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = f": {_ATTRIBUTES[name]}" if name in _ATTRIBUTES else ""
            raise AttributeError(f"an agent of a graph ({type(self).__name__}) has no {name!r}{hint}")
