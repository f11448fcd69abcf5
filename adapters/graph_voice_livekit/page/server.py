"""The page's HTTP server: its files, its WebSocket, and who may open it."""

import asyncio
import hmac
import ipaddress
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web

from graph_voice_livekit.page.connection import PageConnection, SaveTestHook, close_socket
from graph_voice_livekit.page.limits import Places
from graph_voice_livekit.page.observer import RoomObserver
from graph_voice_livekit.page.parts import Shelf
from graph_voice_livekit.page.replay import Replay
from graph_voice_livekit.page.room import RoomAccess
from graph_voice_livekit.page.watching import watch

__all__ = ["LOCAL_HOSTS", "make_app", "new_token"]

STATIC = Path(__file__).parent / "static"
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_FRAME = 64 * 1024
"""Bytes of the largest frame that a page may send."""
_PAGES = 32
"""Pages that may be open beyond those with a call."""
_HEARTBEAT = 15.0
"""Seconds after which a page that answers no ping is gone."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
        "connect-src 'self'{rooms}; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def new_token() -> str:
    """A secret for the page's address."""
    return secrets.token_urlsafe(18)


def make_app(
    shelf: Shelf,
    *,
    max_calls: int = 8,
    token: str | None = None,
    hosts: frozenset[str] = LOCAL_HOSTS,
    replay: Replay | None = None,
    save: SaveTestHook | None = None,
    livekit: RoomAccess | None = None,
    observer: RoomObserver | None = None,
) -> web.Application:
    """The application that serves the page.

    Args:
        shelf: the graphs.
        max_calls: how many calls there may be at once.
        token: what the page's address must have as `?token=`. None: nothing.
        hosts: the names under which the page may be opened, without a port. Others are refused: a page of the web
            that resolves its own name to this machine is not ours.
        replay: a stored call that the page plays, instead of holding one.
        save: writes a call as a test, and returns where. The page then has a button for it.
        livekit: the server whose rooms carry the sound. None: the page's WebSocket does.
        observer: watches the call that the pages show, instead of having their own. It must run beside this.
    """
    rooms = f" {livekit.origins}" if livekit is not None else ""
    headers = {name: value.replace("{rooms}", rooms) for name, value in _HEADERS.items()}

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        _check(request, hosts, token)
        response = await handler(request)
        if not response.prepared:
            response.headers.update(headers)
        return response

    app = web.Application(middlewares=[guard], client_max_size=1024)
    open_pages: dict[web.WebSocketResponse, Callable[[], None]] = {}
    places = Places(max_calls)
    endings: set[asyncio.Task[None]] = set()

    async def index(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(STATIC / "index.html")

    async def call(request: web.Request) -> web.StreamResponse:
        if len(open_pages) >= max_calls + _PAGES:
            raise web.HTTPServiceUnavailable(text="too many pages are open")
        socket = web.WebSocketResponse(max_msg_size=_FRAME, heartbeat=_HEARTBEAT, compress=False)
        await socket.prepare(request)
        transport = request.transport
        abort = open_pages[socket] = transport.abort if transport is not None else lambda: None
        try:
            if observer is not None:
                await watch(socket, observer)
                return socket
            page = PageConnection(
                socket, abort, shelf, places, endings, replays=replay is not None, save=save, livekit=livekit
            )
            await page.run()
        finally:
            del open_pages[socket]
        return socket

    async def stored(request: web.Request) -> web.StreamResponse:
        if replay is None:
            raise web.HTTPNotFound
        parts = await shelf.load()
        return web.json_response(replay.shown(parts.svg, parts.agents))

    async def sound(request: web.Request) -> web.StreamResponse:
        if replay is None or replay.sound is None:
            raise web.HTTPNotFound
        return web.FileResponse(replay.sound)

    async def client(request: web.Request) -> web.StreamResponse:
        if livekit is None:
            raise web.HTTPNotFound
        return web.FileResponse(livekit.client)

    async def close(app: web.Application) -> None:
        why = "the server ends"
        await asyncio.gather(*(close_socket(s, abort, WSCloseCode.GOING_AWAY, why) for s, abort in open_pages.items()))

    async def ended(app: web.Application) -> None:
        await asyncio.gather(*endings, return_exceptions=True)

    app.router.add_get("/", index)
    app.router.add_get("/call", call)
    app.router.add_get("/replay.json", stored)
    app.router.add_get("/replay.wav", sound)
    app.router.add_get("/livekit-client.js", client)
    app.router.add_static("/static/", STATIC)
    app.on_shutdown.append(close)
    app.on_cleanup.append(ended)
    return app


def _check(request: web.Request, hosts: frozenset[str], token: str | None) -> None:
    """Raise HTTP 403 unless a browser of this machine, or one with the token, asks for our own page."""
    if not _is_ours(_host(f"//{request.headers.get('Host', '')}"), hosts):
        raise web.HTTPForbidden(text="This page is not served under that name.")
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise web.HTTPForbidden(text="Another site can't use this page.")
    if request.path == "/call" and origin is None:
        raise web.HTTPForbidden(text="A browser says where it comes from.")
    # The page's own files hold nothing secret, and their addresses carry no token.
    if token is not None and not request.path.startswith("/static/"):
        given = request.query.get("token", "")
        if not hmac.compare_digest(given.encode(), token.encode()):
            raise web.HTTPForbidden(text="The page's address lacks its token: copy it whole from the terminal.")


def _host(netloc: str) -> str:
    try:
        return (urlsplit(netloc).hostname or "").lower()
    except ValueError:
        return ""


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    if host in hosts:
        return True
    if hosts is LOCAL_HOSTS or hosts == LOCAL_HOSTS:
        return False
    try:  # an address of this machine: nobody can make it resolve to another one
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
