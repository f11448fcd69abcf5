"""`graph-voice chat`: a conversation with a graph, in text."""

import asyncio
import codecs
import io
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from graph_voice.cli.options import SPEAK, USERDATA, userdata_of

if TYPE_CHECKING:
    from graph_voice.cli.chat_loop import Chat


def chat(
    graph: Annotated[
        str,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute or package.module:attribute; the attribute `graph` is the default.",
        ),
    ],
    llm: Annotated[
        str | None,
        typer.Option(
            help='The model: "openai:gpt-4.1-mini", or "offline" for the intent router. Default: GRAPH_VOICE_LLM, the '
            "graph's own, OpenAI with OPENAI_API_KEY, else the intent router over the example sentences beside the "
            "graph."
        ),
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server; --llm names its model.")] = None,
    thread_id: Annotated[
        str | None, typer.Option(metavar="ID", help="The call's name in LangGraph and LangSmith. Default: a new one.")
    ] = None,
    userdata: Annotated[
        str | None,
        typer.Option(metavar="JSON", help=USERDATA),
    ] = None,
    speak: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE", help=SPEAK),
    ] = None,
    timings: Annotated[
        bool | None, typer.Option(help="Show how long each turn took, and its tokens. Default: on a terminal.")
    ] = None,
) -> None:
    """Talk to a graph in text. Ctrl-C interrupts an answer; /help lists the commands.

    Each line from a pipe is one of the caller's turns, and is printed too. Exit codes: 0 at the end, 1 for an error,
    130 for Ctrl-C.

    Example: graph-voice chat graphs/customer_service.py --llm offline
    """
    # Imported here, so that the command line itself needs neither LangGraph nor a model's package.
    from graph_voice.call.conversation import Conversation
    from graph_voice.cli.chat_loop import Chat
    from graph_voice.cli.chat_screen import Screen
    from graph_voice.graph.speakers import speakers_of
    from graph_voice.launch.loading import load_graph
    from graph_voice.launch.model_choice import choose_model

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal lacks must not end the call
    console = Console(highlight=False)
    typing = sys.stdin.isatty()
    with redirect_stdout(sys.stderr):  # what a user's file prints is not part of the conversation
        target = load_graph(graph)
    chosen = choose_model(target, graph, llm=llm, base_url=base_url)
    known: Any = userdata_of(target, userdata)
    heard = speakers_of(target, speak or ())
    with Console(stderr=True).status("Loading the model..."):
        chosen.warm_up()

    async def talk() -> int:
        conversation: Conversation[Any] = Conversation(
            target, thread_id=thread_id, userdata=known, config=chosen.config, speak=heard
        )
        speakers = [name for name, node in conversation.call.roles.nodes.items() if node.speaks]
        screen = Screen(console, speakers, prompts=typing)
        if typing:
            who = f", {', '.join(heard)} speaks" if heard and not speak else ""
            screen.note(f"{graph}{who}, model: {chosen.name}. /help lists the commands, Ctrl-D ends.")
        return await _with_interrupts(
            Chat(conversation, screen, timings=console.is_terminal if timings is None else timings)
        )

    if code := asyncio.run(talk()):
        raise typer.Exit(code)


async def _with_interrupts(chat: "Chat") -> int:
    """Run the chat so that Ctrl-C calls `Chat.interrupt`, instead of raising `KeyboardInterrupt` anywhere."""
    loop = asyncio.get_running_loop()
    before = signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(chat.interrupt))
    try:
        return await chat.run(_stdin_lines())
    finally:
        signal.signal(signal.SIGINT, before)


async def _stdin_lines() -> AsyncIterator[str]:
    """Each line of standard input without its newline, as it comes. Ends with the input (Ctrl-D on a terminal).

    The thread that reads can't be stopped while it waits. So it is a daemon, and holds nothing that the interpreter
    needs when it exits: it reads the file descriptor, not `sys.stdin`, which has a lock.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()
    source, encoding = sys.stdin.fileno(), sys.stdin.encoding or "utf-8"

    def read() -> None:
        try:
            for line in _lines(source, encoding):
                loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except RuntimeError:
            return  # the loop is closed: nobody reads the lines any more

    threading.Thread(target=read, name="graph_voice.stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


def _lines(source: int, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    rest = ""
    while True:
        try:
            piece = os.read(source, 65536)
        except OSError:
            piece = b""  # the terminal is gone
        *whole, rest = (rest + decoder.decode(piece, final=not piece)).split("\n")
        yield from whole
        if not piece:
            break
    if rest:
        yield rest
