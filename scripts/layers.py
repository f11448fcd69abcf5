"""The packages as a picture: what each is for, what it imports, and whether anything looks upwards.

    python scripts/layers.py            rooms, arrows, upward arrows, circles, large and small files
    python scripts/layers.py --table    the table of CONTRIBUTING.md
    python scripts/layers.py --write    put that table into CONTRIBUTING.md
    python scripts/layers.py --check    exits with 1 when CONTRIBUTING.md is out of date (a test does the same)

A *room* is a module or a package directly inside `graph_voice` or `graph_voice_livekit`. An *arrow* means that one room
imports something from another; type-checking and local imports count. The order of the layers is that of the contracts
in pyproject.toml, which `lint-imports` enforces (`make check`).
"""

import argparse
import ast
import sys
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- layers: python scripts/layers.py --write -->", "<!-- end of the layers -->"
PACKAGES = {"graph_voice": ROOT / "graph_voice", "graph_voice_livekit": ROOT / "adapters" / "graph_voice_livekit"}
SMALL, LARGE = 60, 400
"""Lines."""

Graph = Mapping[str, Collection[str]]


@dataclass(frozen=True)
class House:
    """One of the two import packages."""

    name: str
    layers: list[list[str]]
    """Rooms by layer, from the top down. Rooms of one layer do not import each other."""
    modules: Graph
    """Module -> what it imports from the same package."""

    @property
    def rooms(self) -> dict[str, set[str]]:
        """Room -> the rooms that it imports."""
        found: dict[str, set[str]] = {}
        for module, imported in self.modules.items():
            if module != self.name:
                mine = found.setdefault(self.room(module), set())
                mine |= {self.room(other) for other in imported if other != self.name} - {self.room(module)}
        return found

    def room(self, module: str) -> str:
        return module.split(".")[1]

    @property
    def upward(self) -> list[tuple[str, str]]:
        """Arrows that the order of the layers forbids."""
        depth = {room: at for at, layer in enumerate(self.layers) for room in layer}
        return [
            (room, other)
            for room, imported in sorted(self.rooms.items())
            for other in sorted(imported)
            if room in depth and other in depth and depth[other] <= depth[room]
        ]

    @property
    def circles(self) -> list[set[str]]:
        """Modules that import each other, directly or through others."""
        return circles({m: i for m, i in self.modules.items() if m != self.name})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--table", action="store_true", help="print the table of CONTRIBUTING.md")
    how.add_argument("--write", action="store_true", help="write it there")
    how.add_argument("--check", action="store_true", help="exit with 1 when it is out of date there")
    options = parser.parse_args()
    if options.table:
        print(table())
    elif options.write:
        PAGE.write_text(page(PAGE.read_text()))
    elif options.check:
        if page(PAGE.read_text()) != PAGE.read_text():
            print("CONTRIBUTING.md is out of date: python scripts/layers.py --write")
            return 1
    else:
        for house in houses():
            print("\n".join(measured(house)), end="\n\n")
    return 0


def houses() -> list[House]:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"].get("importlinter", {})
    contracts = [contract for contract in linter.get("contracts", ()) if contract["type"] == "layers"]
    for path in PACKAGES.values():
        sys.path.insert(0, str(path.parent))
    found = []
    for name in PACKAGES:
        graph = grimp.build_graph(name, include_external_packages=False, cache_dir=None)
        modules = {m: sorted(graph.find_modules_directly_imported_by(m)) for m in sorted(graph.modules)}
        layers = next((c["layers"] for c in contracts if name in c.get("containers", ())), [])
        found.append(House(name, [_rooms(layer) for layer in layers], modules))
    return found


def _rooms(layer: str) -> list[str]:
    """The rooms in import-linter's notation: `a | b` are in one layer, `(a)` is optional."""
    return [room.strip(" ()") for room in layer.replace(":", "|").split("|")]


def circles(graph: Graph) -> list[set[str]]:
    reach = {node: _reached(graph, node) for node in graph}
    groups = {frozenset(m for m in reach[node] if node in reach[m]) for node in graph}
    return sorted((set(group) for group in groups if group), key=lambda group: (-len(group), min(group)))


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += graph.get(node, ())
    return found


def measured(house: House) -> Iterator[str]:
    rooms = house.rooms
    yield f"{house.name}: {len(rooms)} rooms, {sum(map(len, rooms.values()))} arrows"
    yield f"  upward arrows: {_listed(f'{a} -> {b}' for a, b in house.upward) if house.layers else 'no contract'}"
    yield f"  circles: {_listed(f'{len(c)} modules ({min(c)} ...)' for c in house.circles)}"
    folder = PACKAGES[house.name]
    lines = {p.relative_to(folder).as_posix(): len(p.read_text().splitlines()) for p in folder.rglob("*.py")}
    largest = max(lines, key=lambda name: lines[name])
    flat = [name for name in lines if "/" not in name]
    small = [name for name, count in lines.items() if count < SMALL and not name.endswith("__init__.py")]
    yield f"  files: {len(lines)}, {len(flat)} of them flat; {sum(lines.values())} lines"
    yield f"  largest: {largest} ({lines[largest]})"
    yield f"  past {LARGE} lines: {_listed(f'{n} ({c})' for n, c in sorted(lines.items()) if c > LARGE)}"
    yield f"  under {SMALL} lines: {len(small)}"


def _listed(items: Iterable[str]) -> str:
    found = list(items)
    return f"{len(found)}: {', '.join(found)}" if found else "0"


def table() -> str:
    """From the top down: each package, its sentence, and the packages below that it imports."""
    parts = []
    for house in houses():
        rows = [f"**`{house.name}`**", "", *picture(house), "", "| package | what it is | imports |", "|---|---|---|"]
        for layer in house.layers:
            for room in layer:
                imported = sorted(house.rooms.get(room, ()), key=lambda other: _depth(house, other))
                rows.append(f"| `{room}` | {sentence(_path(house, room))} | {', '.join(imported) or '-'} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def picture(house: House) -> list[str]:
    """The rooms as a Mermaid flowchart, without arrows that a longer path implies."""
    rooms = house.rooms
    arrows = [
        f"    {room} --> {other}"
        for room, imported in sorted(rooms.items())
        for other in sorted(imported)
        if not any(other in _reached(rooms, between) for between in imported - {other})
    ]
    return ["```mermaid", "flowchart TD", *arrows, "```"]


def _path(house: House, room: str) -> Path:
    folder = PACKAGES[house.name] / room
    return folder if folder.is_dir() else folder.with_suffix(".py")


def _depth(house: House, room: str) -> tuple[int, str]:
    return next((at for at, layer in enumerate(house.layers) if room in layer), -1), room


def sentence(path: Path) -> str:
    """The first sentence of the docstring of a package (its folder) or a module, as one line of a table."""
    path = path / "__init__.py" if path.is_dir() else path
    said = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(said.split("\n\n")[0].split()).removeprefix("Public. ").replace("|", "\\|")


def page(text: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main())
