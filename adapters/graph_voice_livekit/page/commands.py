"""`graph-voice serve`: the live page."""

import asyncio
import contextlib
import logging
import socket as sockets
import sys
import webbrowser
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from aiohttp import web
from rich.console import Console

from graph_voice.cli.options import SPEAK, USERDATA
from graph_voice.drawing import agents_of, to_svg
from graph_voice.errors import GraphVoiceError
from graph_voice.launch.loading import load_graph
from graph_voice.testing.recorded.thread import is_url
from graph_voice_livekit.console.live_page import PORT
from graph_voice_livekit.console.setup import Choices
from graph_voice_livekit.page.observer import ObserverAccess, RoomObserver
from graph_voice_livekit.page.parts import Shelf, others_beside
from graph_voice_livekit.page.replay import Replay, ReplayError
from graph_voice_livekit.page.room import CLIENT, RoomAccess
from graph_voice_livekit.page.save import TestWriter
from graph_voice_livekit.page.server import LOCAL_HOSTS, make_app, new_token
from graph_voice_livekit.page.thread import load_thread

__all__ = ["ServeError", "serve"]

DEFAULT_GRAPH = "graphs/customer_service.py:graph"
_GRACE = 5.0
"""Seconds in which open calls end when the server does."""


class ServeError(GraphVoiceError, OSError):
    """The page can't be served."""


def serve(
    graph: Annotated[
        str | None,
        typer.Argument(
            metavar="GRAPH",
            help="path.py:attribute, as in langgraph.json.",
            show_default=DEFAULT_GRAPH,
        ),
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="Type only: no speech models are loaded.")] = False,
    llm: Annotated[str | None, typer.Option(help="The model, as for `talk`.")] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server; --llm names its model.")] = None,
    stt_model: Annotated[Path | None, typer.Option(help="Folder of a Whisper model in CTranslate2 format.")] = None,
    voice: Annotated[Path | None, typer.Option("--voice", help="A piper voice, .onnx.")] = None,
    language: Annotated[str, typer.Option(help="What is spoken, as a language code.")] = "en",
    speak: Annotated[list[str] | None, typer.Option(metavar="NODE", help=SPEAK)] = None,
    userdata: Annotated[str | None, typer.Option(metavar="JSON", help=USERDATA)] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Where to listen. Any other than this machine's own needs the token in the address.")
    ] = "127.0.0.1",
    max_calls: Annotated[int, typer.Option(min=1, help="Calls at once.")] = 8,
    replay: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Play a stored call, instead of holding one: a folder of `demo`, or with --thread a SQLite file or "
            "postgresql://...",
        ),
    ] = None,
    thread: Annotated[str | None, typer.Option(metavar="ID", help="The name of the call in --replay's store.")] = None,
    livekit: Annotated[
        bool,
        typer.Option(
            "--livekit",
            help="The sound goes through a room of the LiveKit server that LIVEKIT_URL, LIVEKIT_API_KEY and "
            "LIVEKIT_API_SECRET name.",
        ),
    ] = False,
    livekit_client: Annotated[
        Path, typer.Option(metavar="FILE", help="LiveKit's client for browsers, from npm's livekit-client.")
    ] = CLIENT,
    observers: Annotated[
        bool, typer.Option(help="Tell others in the room what the page is told, and LiveKit's `lk.agent.session`.")
    ] = False,
    watch: Annotated[
        str | None,
        typer.Option(
            metavar="ROOM",
            help="Watch the call in this room of the LiveKit server, unseen, instead of holding one. Any LiveKit agent "
            "may hold it; GRAPH is drawn.",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
) -> None:
    """Talk to a graph in the browser, and watch what it does.

    A page on this machine: the graph with its active agent, what was said, heard and cut off, tools, times.
    """
    console = Console(highlight=False)
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for name in ("livekit", "livekit.agents", "faster_whisper", "graph_voice"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if watch is not None:
        if livekit or observers or text or replay is not None:
            raise ServeError("--watch shows a call of others: leave out --livekit, --observers, --text and --replay.")
        observer = _observer(ObserverAccess.of(), watch, graph)
        unused = Shelf(Choices(graph or DEFAULT_GRAPH), text_only=True)
        page = _Page(console, f"Room: {watch}", host, port, open_browser)
        page.serve(observer.run, unused, max_calls=max_calls, observer=observer)
        return
    graph = graph or DEFAULT_GRAPH
    choices = Choices(graph, llm, base_url, stt_model, voice, language, speak=speak or (), userdata=userdata)
    if livekit and (text or replay is not None):
        raise ServeError("--livekit is for calls with speech: leave out --text and --replay.")
    if observers and not livekit:
        raise ServeError("--observers are in a LiveKit room: add --livekit.")
    access = RoomAccess.of(client=livekit_client, watched=observers) if livekit else None
    stored = _in_folder(replay, thread)
    shelf = Shelf(choices, text_only=text or replay is not None, others=others_beside(Path.cwd()))
    with console.status("Loading the graph..."):
        model, stored = asyncio.run(_load(shelf, stored, replay, thread))
    page = _Page(console, f"Model: {model}", host, port, open_browser)
    page.serve(shelf.preload, shelf, max_calls=max_calls, replay=stored, save=TestWriter(shelf), livekit=access)


def _observer(access: ObserverAccess, room: str, graph: str | None) -> RoomObserver:
    if graph is None:
        return RoomObserver(access, room)
    loaded = load_graph(graph)
    return RoomObserver(access, room, to_svg(loaded), agents_of(loaded))


@dataclass(frozen=True)
class _Page:
    """Where the page is served, and what is printed of it."""

    console: Console
    shows: str
    host: str
    port: int
    open_browser: bool

    def serve(self, beside: Callable[[], Coroutine[Any, Any, None]], shelf: Shelf, **options: Any) -> None:
        """Serve until Ctrl-C; `beside` runs meanwhile."""
        listening = _listen(self.host, self.port)
        token = None if self.host in LOCAL_HOSTS else new_token()
        address = _address(self.host, listening.getsockname()[1], token)
        self.console.print(f"{self.shows}. Press Ctrl-C to end.\n\n  {address}\n", soft_wrap=True)
        hosts = LOCAL_HOSTS if token is None else LOCAL_HOSTS | {self.host.lower(), sockets.gethostname().lower()}
        app = make_app(shelf, token=token, hosts=hosts, **options)
        if self.open_browser:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(app, listening, beside))


def _in_folder(replay: str | None, thread: str | None) -> Replay | None:
    """The stored call, if a folder holds it."""
    folder = Path(replay) if replay is not None and not is_url(replay) else None
    if thread is not None and (replay is None or (folder is not None and folder.is_dir())):
        raise ReplayError("--thread names a call in a store: --replay calls.db, or --replay postgresql://...")
    if folder is not None and not folder.exists():
        raise ReplayError(
            f"--replay: there is no {folder}. Name a folder that `graph-voice demo` has written, or a store with "
            "--thread: a SQLite file, or postgresql://..."
        )
    return Replay.load(folder) if folder is not None and folder.is_dir() else None


async def _load(
    shelf: Shelf, stored: Replay | None, replay: str | None, thread: str | None
) -> tuple[str, Replay | None]:
    """The model's name, and the stored call that is played, if any."""
    parts = await shelf.load()
    if replay is not None and stored is None:
        stored = await load_thread(replay, thread, parts)
    return parts.model.name, stored


def _listen(host: str, port: int) -> sockets.socket:
    """A socket that listens, before anything is promised."""
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    listening = sockets.socket(family, sockets.SOCK_STREAM)
    listening.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # a browser that is faster than the server waits
    except OSError as error:
        listening.close()
        raise ServeError(
            f"Port {port} of {host} can't be used ({error.strerror or error}). Choose another one: --port 0."
        ) from error
    return listening


def _address(host: str, port: int, token: str | None) -> str:
    shown = sockets.gethostname() if host in ("0.0.0.0", "::") else host
    name = f"[{shown}]" if ":" in shown else shown
    return f"http://{name}:{port}/" + (f"?token={token}" if token is not None else "")


async def _serve(
    app: web.Application, listening: sockets.socket, beside: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    running = asyncio.create_task(beside())
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        await asyncio.Event().wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runner.cleanup()
