"""Where a secret could be read: in a checkpoint file, in what a tracer is told. And a cipher against it."""

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from langchain_core.callbacks import AsyncCallbackHandler


class Gcm:
    """A cipher, as LangGraph's `EncryptedSerializer` takes it."""

    def __init__(self) -> None:
        self._key = AESGCM(AESGCM.generate_key(256))

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        nonce = os.urandom(12)
        return "gcm", nonce + self._key.encrypt(nonce, plaintext, None)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return self._key.decrypt(ciphertext[:12], ciphertext[12:], None)


class Watcher(AsyncCallbackHandler):
    """Every run, as a tracer gets it: as JSON, and printed."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.names: list[str] = []

    def note(self, name: str, *found: Any) -> None:
        self.names.append(name)
        self.seen += [json.dumps(value, default=str) for value in found] + [repr(value) for value in found]

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.note("chain", inputs, kwargs.get("metadata"))

    async def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.note("chain", outputs)

    async def on_chain_error(self, error: BaseException, **kwargs: Any) -> None:
        self.note("chain error", error)

    async def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        self.note("tool", input_str, kwargs.get("inputs"), kwargs.get("metadata"))

    async def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        self.note("tool", output)

    async def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
        self.note("tool error", error, str(error))

    async def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self.note("prompt", messages)


def sqlite_bytes(path: Path) -> bytes:
    found = b""
    for name in path.parent.iterdir():
        found += name.read_bytes()
    with sqlite3.connect(path) as database:
        for table in ("checkpoints", "writes"):
            for row in database.execute(f"select * from {table}"):
                found += b"|".join(v if isinstance(v, bytes) else str(v).encode() for v in row)
    database.close()
    return found
