"""Imports what each job of a worker needs. LiveKit's fork server does so once, and its job processes share it.

Nothing of it starts a thread or opens a connection. What is not installed is left out.
"""

import contextlib
import importlib

for name in ("graph_voice_livekit.worker.server", "langchain.chat_models", "langchain_core.tracers.langchain"):
    with contextlib.suppress(ImportError):
        importlib.import_module(name)
