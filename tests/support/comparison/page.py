"""docs/comparison.md and the README's table, written from a run of all scenarios."""

import itertools
import json
from collections.abc import Mapping

from comparison import handoffs, platform, speech, tools
from comparison.app import Way
from comparison.rows import ROWS, Observation, Row, cells
from graph_voice.testing import run

__all__ = ["GROUPS", "README_BEGIN", "README_END", "Seen", "observe", "page", "readme_table", "rows"]

GROUPS = (handoffs.GROUP, tools.GROUP, speech.GROUP, platform.SPECULATION, platform.PLATFORM)
README_BEGIN = "<!-- from a run: python scripts/compare.py -->"
README_END = "<!-- end of the run -->"

Seen = Mapping[str, Mapping[Way, Observation]]
"""What was seen, by the row's name."""

HEAD = """\
# Comparison: LiveKit agents, `LLMAdapter`, graph_voice

Each cell is computed from a run: nobody wrote a cell by hand. One script of user turns and model replies is played on
three implementations of the same application, by a real `AgentSession` with a fake caller, fake voices and a virtual
clock. The scenarios are in [tests/support/comparison](../tests/support/comparison), one function for each row. A test
plays all of them, and fails if this page says something else. `python scripts/compare.py` writes the page again.

- **LiveKit agents** are written by hand as in LiveKit's own examples, livekit-agents {livekit}.
- **`LLMAdapter`** is livekit-plugins-langchain {plugin} around the equivalent LangGraph graph, used as in its
  documentation: with `create_agent`, and with several agents wired as langgraph-swarm does it. It runs without a
  checkpointer and with one. If the two differ, the cell gives both results. For nodes that write to the stream
  themselves, it also gives the result with `stream_mode="custom"`.
- **graph_voice** is `GraphAgent` around `create_voice_graph(...)`, or around the same LangGraph graph.

These conditions are the same for all. The model streams word by word, without delay unless the row says otherwise, and
refuses what OpenAI refuses. The voice speaks sentence by sentence, with 0.25 s a word and 0.2 s until its first sound.
The end of a turn is detected by voice activity. So the seconds compare the three with each other. They are no promise
about your models. `LLMAdapter` has no silence between a line and what follows it because it delays the line until then:
see when the line comes.

Two things are not in the tables: realtime (speech-to-speech) models, which LiveKit agents can use and the other two
can't; and what the code costs in milliseconds, for which see [benchmarks](benchmarks.md).
"""


def rows() -> list[Row]:
    """All rows, group by group."""
    return sorted(ROWS, key=lambda found: GROUPS.index(found.group))


def observe(found: Row) -> dict[Way, Observation]:
    """Play a row's script on each of its ways."""
    return {way: run(found.scenario(way), limit=600) for way in found.ways}  # type: ignore[arg-type]  # coroutines


def page(seen: Seen) -> str:
    """The whole page."""
    from importlib.metadata import version

    parts = [HEAD.format(livekit=version("livekit-agents"), plugin=version("livekit-plugins-langchain"))]
    for group, members in itertools.groupby(rows(), lambda found: found.group):
        listed = list(members)
        parts.append(f"## {group}\n")
        parts.append(_table(listed, seen))
        parts.append(_details(listed, seen))
    return "\n".join(parts)


def readme_table(seen: Seen) -> str:
    """The rows that stand in the README too, between its marks."""
    lines = ["| | LiveKit agents | `LLMAdapter` | `graph_voice` |", "|---|---|---|---|"]
    lines += [_line(found.short, cells(found, seen[found.name])) for found in rows() if found.short]
    return "\n".join([README_BEGIN, "", *lines, "", README_END])


def _table(listed: list[Row], seen: Seen) -> str:
    lines = ["| | LiveKit agents | `LLMAdapter` | graph_voice |", "|---|---|---|---|"]
    lines += [_line(found.feature, cells(found, seen[found.name])) for found in listed]
    return "\n".join([*lines, ""])


def _line(name: str, told: tuple[str, str, str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in (name, *told)) + " |"


def _details(listed: list[Row], seen: Seen) -> str:
    """What the cells were computed from."""
    lines = ["<details><summary>What was seen</summary>", ""]
    for found in listed:
        lines.append(f"- `{found.name}`")
        for way, observation in seen[found.name].items():
            lines.append(f"  - {way}: `{json.dumps(observation, ensure_ascii=False)}`")
    return "\n".join([*lines, "", "</details>", ""])
