"""The pictures of docs/benchmarks.md."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "graph_voice"  # the same rows make the same file
mpl.rcParams["svg.fonttype"] = "none"

import matplotlib.pyplot as plt  # noqa: E402

from benchmarks.concurrency import BOUND  # noqa: E402
from benchmarks.garbage import MODES  # noqa: E402
from benchmarks.part import Row  # noqa: E402
from benchmarks.ways import Way  # noqa: E402

__all__ = ["PICTURES", "draw"]

COLORS = {
    Way.PLAIN: "#4d4d4d",
    Way.ADAPTER: "#e08214",
    Way.ADAPTER_MEMORY: "#b35806",
    Way.ADAPTER_SQLITE: "#7f3b08",
    Way.OURS: "#80cdc1",
    Way.OURS_SQLITE: "#01665e",
    Way.OURS_POSTGRES: "#35978f",
}
STYLES = {Way.ADAPTER_MEMORY: ":", Way.ADAPTER_SQLITE: "--", Way.OURS: ":", Way.OURS_POSTGRES: "--"}
MARKERS = (("p50", "o", "median"), ("p99", "D", "99th percentile"), ("max", "|", "longest"))
TICKS = [value * power for power in (0.1, 1, 10, 100, 1000) for value in (1, 2, 5)]


def _named(rows: Sequence[Row], way: Way) -> list[Row]:
    return [row for row in rows if row["way"] == way.value and "note" not in row]


def _plain_ticks(axis: Any, low: float, high: float) -> None:
    shown = [tick for tick in TICKS if low * 0.7 <= tick <= high * 1.4]
    axis.set_ticks(shown, [f"{tick:g}" for tick in shown])
    axis.set_minor_locator(mpl.ticker.NullLocator())


def turns(rows: Sequence[Row], axes: Any) -> None:
    """The time to the first chunk, by the length of the history."""
    seen: list[float] = []
    for way in Way:
        own = _named(rows, way)
        if own:
            items, median = [row["items"] for row in own], [row["chunk_ms_p50"] for row in own]
            seen += median
            axes.plot(
                items, median, marker="o", markersize=4, color=COLORS[way], ls=STYLES.get(way, "-"), label=way.value
            )
    axes.set(xscale="log", yscale="log", xlabel="items in the history", ylabel="first chunk, median, ms")
    sizes = sorted({row["items"] for row in rows})
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    _plain_ticks(axes.yaxis, min(seen), max(seen))


def disk(rows: Sequence[Row], axes: Any) -> None:
    """The size of the file, by turns."""
    for row in rows:
        step = max(1, row["turns"] // 50)
        x = [1 + step * n for n in range(len(row["sizes"]))]
        ours = row["way"] == Way.OURS_SQLITE.value
        style = "--" if ours and row["turn"] != "words" else "-"
        axes.plot(
            x,
            [size / 1e6 for size in row["sizes"]],
            color=COLORS[Way(row["way"])],
            ls=style,
            label=f"{row['way']}: {row['turn']}",
        )
    axes.set(yscale="log", xlabel="turns", ylabel="file on disk, MB")
    sizes = [size / 1e6 for row in rows for size in row["sizes"]]
    shown = [10.0**n for n in range(-3, 4) if min(sizes) * 0.5 <= 10.0**n <= max(sizes) * 2]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())


def concurrency(rows: Sequence[Row], axes: Any) -> None:
    """Lateness, by the number of conversations."""
    for way in (Way.PLAIN, Way.ADAPTER, Way.OURS_SQLITE):
        for collector, style in (("on", "-"), ("off", "--")):
            own = [row for row in _named(rows, way) if row["collector"] == collector]
            if own:
                axes.plot(
                    [row["conversations"] for row in own],
                    [row["late_ms_p95"] for row in own],
                    marker="o",
                    markersize=4,
                    color=COLORS[way],
                    ls=style,
                    label=way.value if collector == "on" else f"{way.value}, collector off",
                )
    axes.axhline(BOUND, color="#c0392b", lw=1)
    axes.annotate("20 ms", (1, BOUND), xycoords=("axes fraction", "data"), xytext=(-4, 3), textcoords="offset points",
                  ha="right", color="#c0392b", fontsize=8)  # fmt: skip
    axes.set(yscale="log", xlabel="conversations on one core", ylabel="token late by, 95th percentile, ms")
    late = [row["late_ms_p95"] for row in rows]
    _plain_ticks(axes.yaxis, min(late), max(late))
    axes.set_xlim(left=0)


def gaps(rows: Sequence[Row], axes: Any) -> None:
    """The time to the first word, and the longest silence after it."""
    scenes = list(dict.fromkeys(row["turn"] for row in rows))
    colors = {"LiveKit agents": COLORS[Way.PLAIN], "LLMAdapter": COLORS[Way.ADAPTER]}
    ways = list(dict.fromkeys(row["way"] for row in rows))
    height = 0.8 / len(ways)
    for number, way in enumerate(ways):
        own = [row for row in rows if row["way"] == way]
        y = [scene + (number - (len(ways) - 1) / 2) * height for scene in range(len(scenes))]
        first = [row["first_word_s"] for row in own]
        silence = [row["silence_s"] for row in own]
        color = colors.get(way, COLORS[Way.OURS_SQLITE])
        axes.barh(y, first, height * 0.9, color=color, label=f"{way}: to the first word")
        axes.barh(y, silence, height * 0.9, left=first, color=color, alpha=0.45, label="longest silence after it")
    axes.set_yticks(range(len(scenes)), [scene.replace(", ", ",\n") for scene in scenes])
    axes.invert_yaxis()
    axes.set_xlabel("seconds of silence")


def garbage(rows: Sequence[Row], axes: Any) -> None:
    """Median, 99th percentile and longest, for each way to run the collector."""
    own = _named(rows, Way.OURS_SQLITE)
    sizes = sorted({row["items"] for row in own})
    labels, number = [], 0
    for size in sizes:
        for row in (row for row in own if row["items"] == size):
            axes.plot([row["text_ms_p50"], row["text_ms_max"]], [number, number], color="#b0b0b0", lw=1, zorder=1)
            for column, marker, name in MARKERS:
                axes.scatter(
                    row[f"text_ms_{column}"],
                    number,
                    marker=marker,
                    s=70 if marker == "|" else 28,
                    color=COLORS[Way.OURS_SQLITE],
                    alpha=0.55 if column == "p99" else 1,
                    label=name if number == 0 else None,
                    zorder=2,
                )
            labels.append(f"{size:,} items: {MODES[row['mode']]}")
            number += 1
    axes.set_yticks(range(number), labels)
    axes.invert_yaxis()
    axes.set(xlabel="caller's text to the first words, ms")
    axes.set_xlim(0, 1.05 * max(row["text_ms_max"] for row in own))


PICTURES: Mapping[str, tuple[Callable[[Sequence[Row], Any], None], str, tuple[float, float]]] = {
    "turns": (turns, "First chunk out of llm_node", (7.5, 4.2)),
    "disk": (disk, "What a call takes on disk", (7.5, 3.8)),
    "concurrency": (concurrency, "How late tokens are at 20 a second", (7.5, 4.2)),
    "gaps": (gaps, "Silences that the caller hears", (8.5, 5.6)),
    "garbage": (garbage, "graph_voice, SQLite: one call in a process, four ways to run the collector", (8.5, 4.2)),
}


def draw(rows: Mapping[str, Sequence[Row]], folder: Path, suffix: str = "svg") -> list[Path]:
    """Draw the results of these parts: `bench_<part>.<suffix>` in the folder."""
    made = []
    for part, (drawn, title, size) in PICTURES.items():
        if not rows.get(part):
            continue
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        drawn(rows[part], axes)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x" if part in ("gaps", "garbage") else "y", color="#e5e5e5", lw=0.6)
        axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        path = folder / f"bench_{part}.{suffix}"
        figure.savefig(path, dpi=110, metadata={"Date": None} if suffix == "svg" else None)
        plt.close(figure)
        made.append(path)
    return made
