"""The worker of docs/livekit.md, as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import AgentServer

from graph_voice_livekit import create_server

PAGE = Path(__file__).parents[3] / "docs" / "livekit.md"
SNIPPET, *OTHERS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_worker_of_the_page_can_be_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "my_agent.py").write_text(SNIPPET)
    monkeypatch.chdir(tmp_path)
    started: list[AgentServer] = []
    names: dict[str, Any] = {"__name__": "__main__", "create_server": create_server}
    monkeypatch.setattr("livekit.agents.cli.run_app", started.append)
    # Functions of `__main__` can't be pickled from here, so the module is imported under its own name as well.
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_agent  # type: ignore[import-not-found]

    exec(
        SNIPPET.replace("tts=make_tts, call=describe_call", "tts=my.make_tts, call=my.describe_call"),
        names | {"my": my_agent},
    )
    assert len(started) == 1


@pytest.mark.parametrize("snippet", OTHERS)
def test_every_other_snippet_of_the_page_runs(snippet: str) -> None:
    names: dict[str, Any] = {}
    exec(snippet, names)
    if "desk" in names:
        assert names["desk"].ways["nurse"].on_interruption == "complete"
