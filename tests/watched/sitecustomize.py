"""In another process, by PYTHONPATH: writes down, and refuses, what would leave this machine."""

import os
import sys
from typing import Any

FILE = os.environ["OUTBOUND_CALLS"]
LOCAL = ("127.", "localhost", "::1", "0.0.0.0")


def watch(event: str, args: Any) -> None:
    if event == "socket.connect":
        address = args[1]
        host = address[0] if isinstance(address, tuple) else "localhost"  # a path: a Unix socket
    elif event == "socket.getaddrinfo":
        host = args[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    if host and not str(host).startswith(LOCAL):
        with open(FILE, "a") as file:
            file.write(f"{event} {host}\n")
        raise OSError(f"{host} is not on this machine")


with open(FILE, "a") as file:
    file.write("watching\n")
sys.addaudithook(watch)
