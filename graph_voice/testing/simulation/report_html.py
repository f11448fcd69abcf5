"""A report as one HTML page: no scripts, nothing from the network."""

from html import escape

from graph_voice.testing.simulation.compare import Comparison, compare
from graph_voice.testing.simulation.lines import CALLER, Line
from graph_voice.testing.simulation.results import Rate, Results, Run

__all__ = ["html"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e3e6ec; --page: #f6f7f9; --card: #fff;
  --good: #16794c; --bad: #b42318; --odd: #9a6700; --caller: #e8f0fe; --agent: #f1f3f6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2c3340; --page: #12161d;
  --card: #1a2029; --good: #4cc38a; --bad: #ff7a6e; --odd: #e0b252; --caller: #1f2f4d; --agent: #242b36; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem }
.soft { color: var(--soft) } .passed { color: var(--good) } .failed { color: var(--bad) } .error { color: var(--odd) }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.25rem }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; margin-top: 1.25rem }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3 }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; overflow: hidden }
th, td { text-align: left; padding: .5rem .75rem; border-top: 1px solid var(--line); vertical-align: middle }
th { border-top: 0; color: var(--soft); font-weight: 500; font-size: .85rem }
th:first-child { width: 36% }
th:not(:first-child), .n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.bar { position: relative; height: .55rem; min-width: 9rem; border-radius: 1rem; background: var(--line) }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 1rem; background: var(--good) }
.bar u { position: absolute; top: -.25rem; height: 1.05rem; border: solid var(--ink); border-width: 0 2px;
  opacity: .55 }
details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; margin-top: .6rem }
summary { cursor: pointer; padding: .6rem 1rem } summary .why { display: block; color: var(--soft); font-size: .9rem }
.call { padding: .25rem 1rem 1rem } .call ul { margin: .25rem 0 .75rem; padding-left: 1.2rem }
.l { display: grid; grid-template-columns: 4rem minmax(0, 1fr); gap: .6rem; margin-top: .35rem }
.l time { color: var(--soft); font-size: .8rem; text-align: right; padding-top: .3rem;
  font-variant-numeric: tabular-nums }
.l p { margin: 0; justify-self: start; max-width: 46rem; padding: .25rem .7rem; border-radius: 8px;
  background: var(--agent); overflow-wrap: anywhere }
.l.caller p { background: var(--caller); justify-self: end }
.l.act p { background: none; color: var(--soft); font-size: .88rem; padding-left: 0 } .l.fails p { color: var(--bad) }
.l b { font-size: .78rem; color: var(--soft); display: block; font-weight: 600 } s { color: var(--bad); opacity: .8 }
.v { font-size: .9rem }
"""


def html(report: Results, earlier: Results | None = None) -> str:
    """The whole report as a page. Calls that did not pass are open at their reasons; each has its transcript."""
    parts = [
        f"<h1>Simulated calls: {escape(report.graph)}</h1>",
        f'<p class="soft">{escape(_how(report))}</p>',
        _tiles(report),
        "<h2>Scenarios</h2>",
        _rates("scenario", report.scenarios),
    ]
    if report.judges:
        parts += ["<h2>Judges</h2>", _rates("judge", report.judges)]
    if earlier is not None:
        parts += ["<h2>Compared with the earlier report</h2>", _compared(compare(earlier, report))]
    if report.effects:
        rows = "".join(f'<tr><td>{escape(t)}</td><td class="n">{n}</td></tr>' for t, n in report.effects.items())
        parts += ["<h2>What the tools did</h2>", f"<table><tr><th>tool</th><th>times</th></tr>{rows}</table>"]
    if report.failures:
        parts += ["<h2>Calls that did not pass</h2>", *(_call(run) for run in report.failures)]
    if passed := [run for run in report.runs if run.passed]:
        parts += ["<h2>Calls that passed</h2>", *(_call(run) for run in passed)]
    title = f"Simulated calls: {escape(report.graph)}"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _how(report: Results) -> str:
    models = [f"{side}: {model}" for side, model in report.models.items() if model]
    return ", ".join([f"front end {report.front_end}", f"{report.clock} clock", f"seed {report.seed}", *models])


def _tiles(report: Results) -> str:
    low, high = report.rate.interval
    tiles = [
        (
            f"{report.rate.share:.0%}",
            f"passed, {report.rate.passed} of {report.rate.total} calls {report.stopped}".strip(),
        ),
        (f"{low:.0%} to {high:.0%}", "95% interval (Wilson)"),
    ]
    if report.latency:
        tiles.append((f"{report.latency['median']:.2f} s", f"to the first words; p95 {report.latency['p95']:.2f} s"))
    used = report.tokens
    total = sum(u.input + u.output for u in used.values())
    split = ", ".join(f"{side} {u.input + u.output:,}" for side, u in used.items() if u.input + u.output)
    tiles.append((f"{total:,}", f"tokens: {split}" if split else "tokens"))
    shown = "".join(
        f'<div class="card tile"><b>{escape(b)}</b><span class="soft">{escape(t)}</span></div>' for b, t in tiles
    )
    return f'<div class="tiles">{shown}</div>'


def _rates(what: str, rates: dict[str, Rate]) -> str:
    rows = "".join(_rate(name, rate) for name, rate in rates.items())
    return f"<table><tr><th>{what}</th><th></th><th>share</th><th>passed</th><th>95% interval</th></tr>{rows}</table>"


def _rate(name: str, rate: Rate) -> str:
    low, high = rate.interval
    bar = (
        f'<div class="bar"><i style="width:{rate.share:.1%}"></i>'
        f'<u style="left:{low:.1%};width:{high - low:.1%}"></u></div>'
    )
    return (
        f'<tr><td>{escape(name)}</td><td>{bar}</td><td class="n">{rate.share:.0%}</td>'
        f'<td class="n">{rate.passed} of {rate.total}</td><td class="n">{low:.0%} to {high:.0%}</td></tr>'
    )


def _compared(comparison: Comparison) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("", "before", "now", "difference", "95% interval", ""))
    rows = ""
    for name, *numbers, verdict in comparison.rows:
        shade = {"better": "passed", "worse": "failed"}.get(verdict, "soft")
        cells = "".join(f'<td class="n">{escape(number)}</td>' for number in numbers)
        rows += f'<tr><td>{escape(name)}</td>{cells}<td class="{shade}">{verdict}</td></tr>'
    return f"<table><tr>{head}</tr>{rows}</table>"


def _call(run: Run) -> str:
    why = "".join(f'<span class="why">{escape(reason)}</span>' for reason in run.reasons)
    ended = f"{run.ended or 'it did not begin'}; {run.turns} turns, {run.seconds:.0f} seconds"
    facts = [ended, *([run.manner] if run.manner else [])]
    verdicts = "".join(
        f'<li class="v"><span class="{_shade(v.verdict)}">{escape(v.judge)}: {v.verdict}</span> {escape(v.reason)}</li>'
        for v in run.verdicts
    )
    return (
        f'<details><summary><span class="{run.status}">{run.status}</span> {escape(run.name)}{why}</summary>'
        f'<div class="call"><p class="soft">{escape(". ".join(facts))}</p>'
        f"{f'<ul>{verdicts}</ul>' if verdicts else ''}{''.join(map(_line, run.lines))}</div></details>"
    )


def _shade(verdict: str) -> str:
    return {"pass": "passed", "fail": "failed", "n/a": "soft"}.get(verdict, "error")


def _line(line: Line) -> str:
    text = escape(line.text)
    if line.kind == "says":
        kind = "caller" if line.who == CALLER else "agent"
        cut = f" <s>{escape(line.unheard)}</s>" if line.unheard else ""
        name = "" if line.who == CALLER else f"<b>{escape(line.who)}</b>"
        said = f"{name}{text}{cut}"
    else:
        kind = "act fails" if line.kind == "fails" else "act"
        who = {"calls": f"{line.who} calls ", "note": "the caller " if line.who == CALLER else ""}.get(line.kind, "")
        said = f"{escape(who)}{text}"
    return f'<div class="l {kind}"><time>{line.at:.1f}s</time><p>{said}</p></div>'
