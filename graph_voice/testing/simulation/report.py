"""What a simulation has found, as one object: counted, written for people and programs, and read again."""

import json
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from graph_voice.testing.simulation.report_html import html
from graph_voice.testing.simulation.report_markdown import markdown
from graph_voice.testing.simulation.results import Results
from graph_voice.testing.simulation.scenario import ScenarioError

__all__ = ["Report"]


class Report(Results):
    """What `simulate` returns.

    A run passes when the final state is as expected, the invariants hold, and no judge says "fail". "maybe" fails no
    run, and does not count as passed in the judge's own rate.
    """

    def markdown(self, earlier: Results | None = None) -> str:
        """The report for people, as Markdown; with an earlier one, what has changed since."""
        return markdown(self, earlier)

    def html(self, earlier: Results | None = None) -> str:
        """The report as one HTML page, without scripts and without anything from the network."""
        return html(self, earlier)

    def json_text(self) -> str:
        """The report as JSON, which `Report.read` reads."""
        counted = {"passed": self.rate.passed, "total": self.rate.total, "interval": list(self.rate.interval)}
        return json.dumps({**counted, **self.model_dump(mode="json")}, indent=2, ensure_ascii=False) + "\n"

    def write(self, folder: str | Path, earlier: Results | None = None) -> list[Path]:
        """Write `report.md`, `report.json` and `report.html` into a folder, which is made."""
        where = Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        made = {
            "report.md": self.markdown(earlier),
            "report.json": self.json_text(),
            "report.html": self.html(earlier),
        }
        for name, text in made.items():
            (where / name).write_text(text, encoding="utf-8")
        return [where / name for name in made]

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """A report that was written as JSON. Raises `ScenarioError` when it is none."""
        try:
            return cls.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ScenarioError(f"{path}: can't be read: {error.strerror or error}.") from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise ScenarioError(f"{path} is not a report.json of `graph-voice simulate`.") from error

    def require(self, pass_rate: float = 1.0) -> Self:
        """For tests: raise `AssertionError`, with the report, when fewer runs passed. Returns the report."""
        __tracebackhide__ = True
        if not self.runs or self.rate.share < pass_rate:
            raise AssertionError(f"{self.rate} of the calls passed; {pass_rate:.0%} is required.\n\n{self.markdown()}")
        return self
