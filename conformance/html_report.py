"""The run as one HTML page: no scripts, no files beside it, light and dark."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape

from conformance.report import Run, grouped, number, verdict_of, worst
from conformance.results import FAIL, INFINITE, PASS, Result, StageError
from conformance.tolerances import TOLERANCES

#: Ends of the logarithmic scale of the error bars.
LOWEST, HIGHEST = 1e-9, 1.0

_STYLE = """
:root { color-scheme: light dark; --page: #fbfaf8; --card: #fff; --ink: #22252a; --soft: #6b7280; --line: #e3e1dc;
  --good: #2f7d4f; --good-bar: #7fbf95; --bad: #b3261e; --bad-bar: #e0736c; --bad-soft: #fdeceb; --mark: #22252a; }
@media (prefers-color-scheme: dark) { :root { --page: #17191d; --card: #1f2228; --ink: #e6e6e3; --soft: #9aa1ac;
  --line: #343841; --good: #7fcf9b; --good-bar: #3f7d57; --bad: #ff8b82; --bad-bar: #a8443d; --bad-soft: #3a2224;
  --mark: #e6e6e3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2.5rem 1.25rem 5rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
.headline { display: inline-block; margin: .6rem 0 0; padding: .35rem .9rem; border-radius: 999px; font-weight: 600;
  border: 1.5px solid currentColor; } .pass { color: var(--good); } .fail { color: var(--bad); }
.soft { color: var(--soft); } code { font: 12.5px/1.5 ui-monospace, monospace; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; overflow: hidden; }
th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--soft); }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); vertical-align: middle; }
tr:last-child td { border-bottom: 0; } td.n, th.n, span.n { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; } tr.bad td { background: var(--bad-soft); }
details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; }
details > table { border: 0; border-top: 1px solid var(--line); border-radius: 0 0 8px 8px; }
summary { padding: .5rem .8rem; cursor: pointer; } details.bad { border-color: var(--bad); }
.wrong { margin: 0; padding: .5rem .8rem; color: var(--bad); font-weight: 600; }
.bar { position: relative; width: 11rem; height: .8rem; border-radius: 3px; background:
  repeating-linear-gradient(90deg, var(--line) 0 1px, transparent 1px calc(100% / 9)); }
.bar i { position: absolute; inset: 2px auto 2px 0; border-radius: 3px; background: var(--good-bar); }
tr.bad .bar i { background: var(--bad-bar); } .bar b { position: absolute; top: -2px; bottom: -2px; width: 2px;
  background: var(--mark); } .first { display: inline-block; margin-left: .5rem; padding: 0 .45rem; border-radius: 4px;
  background: var(--bad); color: var(--card); font: 600 .72rem/1.5 system-ui, sans-serif; }
.wide { overflow-x: auto; }
"""


def page(run: Run) -> str:
    """The whole document."""
    verdict = "pass" if run.passed else "fail"
    subject = "one checkpoint on one's own recordings" if run.own else "every head of every family"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Conformance: {escape(run.headline)}</title><style>{_STYLE}</style>",
        f"<h1>wav2vec 2.0 conformance</h1><div class='soft'>{subject}, against a float64 reference</div>",
        f"<div class='headline {verdict}'>{escape(run.headline)}</div>",
        "<h2>Summary</h2>",
        _overview(run),
        f"<p class='soft'>Bars are logarithmic, from {LOWEST:.0e} to {HIGHEST:.0f}, a line for every factor of 10; the "
        "dark mark is the tolerance. An error is the largest difference over the largest expected value.</p>",
        *_failures(run),
        "<h2>Every check, stage by stage</h2>",
        *(_group(backend, check, results) for (backend, check), results in grouped(run.results).items()),
        "<h2>Tolerances</h2>",
        _tolerances(),
        "<h2>Environment</h2>",
        _table(("", ""), [(escape(name), escape(text)) for name, text in run.environment.items()]),
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _failures(run: Run) -> list[str]:
    if not run.failures:
        return []
    return ["<h2>What is wrong</h2>", *(_result(result, shown=index < 3) for index, result in enumerate(run.failures))]


def _overview(run: Run) -> str:
    rows = []
    for (backend, check), results in grouped(run.results).items():
        shown = worst(results)
        telling = shown.telling
        verdict = verdict_of(results)
        cells = (
            f"<td>{escape(backend)}<td>{escape(check)}<td class=n>{len(results)}<td>{_code(shown.case)}"
            f"<td>{_code(telling.name)}<td class=n>{number(telling.error)}<td>{_bar(telling)}"
            f"<td class=n>{number(telling.limit)}<td>{_verdict(verdict)}"
        )
        rows.append(f"<tr class='{_colour(verdict)}'>{cells}</tr>")
    head = "<th>back end<th>check<th class=n>cases<th>nearest to its tolerance<th>stage<th class=n>max error<th>"
    return f"<div class=wide><table><tr>{head}<th class=n>tolerance<th>verdict</tr>{''.join(rows)}</table></div>"


def _group(backend: str, check: str, results: Sequence[Result]) -> str:
    """All results of a check, folded; each again folded unless it is the only one."""
    verdict = verdict_of(results)
    title = f"{escape(backend)} / {escape(check)} <span class=soft>{len(results)} cases</span> {_verdict(verdict)}"
    inner = "".join(_result(result, shown=len(results) == 1) for result in results)
    inner = f"<div style='padding:0 .8rem'>{inner}</div>"
    return f"<details class='{_colour(verdict)}'><summary>{title}</summary>{inner}</details>"


def _result(result: Result, *, shown: bool) -> str:
    telling = result.telling
    first = next((stage for stage in result.stages if stage.wrong), None)
    # Of arrays that must be equal bit for bit there is something to see in the wrong ones only.
    seen = [stage for stage in result.stages if stage.limit or stage.wrong]
    equal = len(result.stages) - len(seen)
    rows = "".join(_stage(stage, first=stage is first) for stage in seen)
    stages = f"<div class=wide><table>{rows}</table></div>" if rows else ""
    stages += f"<p class=soft style='margin:.5rem .8rem'>{equal} arrays equal, bit for bit</p>" if equal else ""
    wrong = ""
    if result.verdict != PASS:
        reason = f": {escape(result.explanation)}" if result.explanation else ""
        place = f"first wrong stage {_code(first.name)}" if first else "did not run"
        wrong = f"<p class=wrong>{place}{reason}</p>"
    facts = f"{number(telling.error)} of {number(telling.limit)}, {result.seconds:.1f} s"
    opened = " open" if shown and result.verdict == FAIL else ""
    return (
        f"<details class='{_colour(result.verdict)}'{opened}><summary>{_code(result.id)} "
        f"<span class=soft>{facts}</span> {_verdict(result.verdict)}</summary>{wrong}{stages}</details>"
    )


def _stage(stage: StageError, *, first: bool) -> str:
    mark = "<span class=first>first wrong stage</span>" if first else ""
    note = f" <span class=soft>{escape(stage.note)}</span>" if stage.note else ""
    return (
        f"<tr class='{'bad' if stage.wrong else ''}'><td>{_code(stage.name)}{mark}{note}<td>{_bar(stage)}"
        f"<td class=n>{number(stage.error)}<td class=n>{number(stage.limit)}</tr>"
    )


def _bar(stage: StageError) -> str:
    mark = f"<b style='left:{_position(stage.limit):.1f}%'></b>" if 0 < stage.limit < INFINITE else ""
    return f"<div class=bar><i style='width:{_position(stage.error):.1f}%'></i>{mark}</div>"


def _position(error: float) -> float:
    """Percent of the scale."""
    if not error > LOWEST:
        return 0.0
    if error >= HIGHEST:
        return 100.0
    return 100 * math.log(error / LOWEST) / math.log(HIGHEST / LOWEST)


def _code(name: str) -> str:
    """A name that may break into lines after its separators only."""
    return f"<code>{re.sub(r'(?<=[./_-])(?=[^./_-])', '<wbr>', escape(name))}</code>"


def _verdict(verdict: str) -> str:
    return f"<span class='{'fail' if verdict == FAIL else 'pass'}'>{verdict}</span>"


def _colour(verdict: str) -> str:
    return "bad" if verdict == FAIL else ""


def _tolerances() -> str:
    rows = [
        (
            f"{what}, {size}, {dtype}",
            f"<span class=n>{row.limit:.0e}</span>",
            ", ".join(f"{name} {error:.1e}" for name, error in row.measured.items()),
            escape(row.reason),
        )
        for (what, size, dtype), row in TOLERANCES.items()
    ]
    return _table(("what", "limit", "worst seen", "reason"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{name}" for name in head) if any(head) else ""
    body = "".join("<tr>" + "".join(f"<td>{cell}" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{top}</tr>{body}</table></div>"
