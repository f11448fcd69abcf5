"""Play the comparison and write docs/comparison.md and the README's table: `python scripts/compare.py [--check]`.

With `--check` nothing is written, and it exits with 1 when they differ from what the run shows. Words choose rows whose
name contains one of them: these are printed, and nothing is written.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, README = ROOT / "docs" / "comparison.md", ROOT / "README.md"
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

import hypothesis  # noqa: E402, F401  # its pytest plugin, which the test kit loads, must be imported first
from comparison.page import README_BEGIN, README_END, observe, page, readme_table, rows  # noqa: E402
from comparison.rows import cells  # noqa: E402


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="write nothing; 1 when something is out of date")
    options.add_argument("words", nargs="*", help="only print the rows whose name contains one of these")
    chosen = options.parse_args()
    if chosen.words:
        for found in rows():
            if any(word in found.name for word in chosen.words):
                show(found)
        return 0
    seen = {found.name: observe(found) for found in rows()}
    written = {PAGE: page(seen), README: with_table(README.read_text(encoding="utf-8"), readme_table(seen))}
    stale = [p for p, text in written.items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    for path in stale:
        if not chosen.check:
            path.write_text(written[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)} {'is out of date' if chosen.check else 'written'}")
    return 1 if stale and chosen.check else 0


def with_table(readme: str, table: str) -> str:
    """The README with this table between its marks."""
    before, begin, rest = readme.partition(README_BEGIN)
    _, end, after = rest.partition(README_END)
    if not (begin and end):
        raise SystemExit(f"README.md lacks the marks {README_BEGIN} and {README_END}.")
    return before + table + after


def show(found) -> None:  # type: ignore[no-untyped-def]
    seen = observe(found)
    print(f"{found.name}: {found.feature}")
    for way, observation in seen.items():
        print(f"  {way}: {dict(observation)}")
    for column, cell in zip(("LiveKit agents", "LLMAdapter", "graph_voice"), cells(found, seen), strict=True):
        print(f"  -> {column}: {cell}")


if __name__ == "__main__":
    sys.exit(main())
