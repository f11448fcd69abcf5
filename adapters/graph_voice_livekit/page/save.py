"""The page's button "Save as test": the call so far as a pytest file."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from langchain_core.messages import ToolMessage

from graph_voice import Conversation
from graph_voice.testing.recorded import from_messages, recorded_test
from graph_voice_livekit.page.parts import Shelf

__all__ = ["TestWriter"]


class TestWriter:
    """Writes calls into a folder, each into a file of its own.

    The call is played again once, in a thread, to see that it goes as it did. Its tools answer as they did then:
    nothing acts a second time.

    Args:
        shelf: the graphs.
        folder: where the files are written.
    """

    __test__ = False

    def __init__(self, shelf: Shelf, folder: Path | None = None) -> None:
        self._shelf, self._folder = shelf, folder or Path("tests")

    async def __call__(self, graph: str, conversation: Conversation[Any]) -> str:
        """Write the call. Returns the file's path. Raises `RecordError`, or `OSError`."""
        handoffs = {handoff["tool_call_id"] for handoff in conversation.handoffs}
        messages = list(conversation.messages)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        tools = sorted({str(m.name) for m in results if m.name and m.tool_call_id not in handoffs})
        name = re.sub(r"\W+", "_", f"{graph}_{conversation.thread_id[:8]}").lower()
        path = self._shelf.path_of(graph)
        given = self._shelf.choices.userdata if graph == self._shelf.first else None

        def made() -> str:
            userdata = json.loads(given) if given is not None else None
            return recorded_test(from_messages(messages, name=name), graph=path, userdata=userdata, mock=tools)

        text = await asyncio.to_thread(made)
        file = self._folder / f"test_{name}.py"
        self._folder.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return str(file)
