"""A study's report as one self-contained HTML file, and as a text table."""

import base64
import math
import numbers
import os
import pathlib
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from logitlab.report.claims import Verdict
from logitlab.report.judging import outcome
from logitlab.train.files import as_path, write_file

_SYMBOLS = {
    "reproduced": "✓",
    "not reproduced": "✗",
    "undecided": "~",
    "not tested": "○",
    "not judged": "○",
}
_CLASSES = {
    "reproduced": "yes",
    "not reproduced": "no",
    "undecided": "open",
    "not tested": "open",
    "not judged": "open",
}
_KINDS = {  # of claims; the others are named by their references
    "paper": "",
    "theorem": "",
    "prototype": "",
    "own": "own expectation",
    "question": "open question",
}

_STYLE = """
:root { color-scheme: light dark; --text: #1c1c1c; --soft: #5c5c5c; --line: #d9d9d9;
  --page: #fff; --shade: #f5f5f5; --yes: #05603f; --yes-bg: #dcf3e8; --no: #8f2a00;
  --no-bg: #fde5da; --open: #4a4a4a; --open-bg: #e8e8e8; }
@media (prefers-color-scheme: dark) { :root { --text: #e8e8e8; --soft: #a8a8a8;
  --line: #3d3d3d; --page: #161616; --shade: #222; --yes: #8fe3bd; --yes-bg: #0f3a29;
  --no: #ffb899; --no-bg: #4d1c08; --open: #cfcfcf; --open-bg: #383838; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); margin: 0 auto;
  background: var(--page); max-width: 70rem; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
.outcome { font-size: 1.1rem; font-weight: 600; margin: 0 0 1rem; }
.summary { max-width: 45rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .5rem .75rem .5rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
thead th { color: var(--soft); font-weight: 600; border-bottom-width: 2px; }
tbody th { font-weight: 400; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.note { color: var(--soft); font-size: .85rem; display: block; }
.badge { display: inline-block; padding: .1rem .55rem; border-radius: .3rem;
  font-weight: 600; white-space: nowrap; print-color-adjust: exact;
  -webkit-print-color-adjust: exact; }
.yes { color: var(--yes); background: var(--yes-bg); }
.no { color: var(--no); background: var(--no-bg); }
.open { color: var(--open); background: var(--open-bg); }
figure { margin: 0 0 2rem; break-inside: avoid; }
figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: .4rem; padding: .75rem; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem;
  max-width: 45rem; }
.facts { width: auto; }
.facts th { color: var(--soft); padding-right: 2rem; }
summary { cursor: pointer; }
pre { background: var(--shade); padding: 1rem; border-radius: .4rem; overflow-x: auto;
  font-size: .8rem; }
tr { break-inside: avoid; }
@media screen and (max-width: 45rem) {
  figure img { max-width: none; width: 44rem; }
  .claims thead { display: none; }
  .claims tr { display: block; border-bottom: 1px solid var(--line); padding: .5rem 0; }
  .claims th, .claims td { display: block; border: 0; padding: .15rem 0; }
  .claims tbody th { font-weight: 600; }
  .claims td[data-label]::before { content: attr(data-label) ": "; color: var(--soft); }
}
@media print { body { max-width: none; padding: 0; font-size: 10pt; }
  pre { white-space: pre-wrap; } }
"""


def write_page(
    path: str | os.PathLike,
    *,
    title: str,
    summary: str,
    verdicts: Sequence[Verdict],
    figures: Mapping[str, pathlib.Path],
    captions: Mapping[str, str] | None = None,
    config_json: str,
    environment: Mapping[str, str],
    arms: Sequence[Mapping[str, Any]],
) -> None:
    """Writes report.html, whole or not at all; figures and styles are inside it.

    Args:
      path: of the page.
      title: of the study.
      summary: what was done; an empty line separates paragraphs.
      verdicts: on the claims of the study.
      figures: name -> PNG file.
      captions: name of a figure -> what it shows; a figure without one gets its name.
      config_json: the config that was run.
      environment: versions, devices and whatever else the numbers depend on.
      arms: the rows of a table, column -> value; None and NaN show as a dash.
    """
    captions = captions or {}
    parts = [
        f'<p class="outcome">{escape(outcome(verdicts))}</p>',
        *(
            f'<p class="summary">{escape(paragraph)}</p>'
            for paragraph in summary.split("\n\n")
            if paragraph.strip()
        ),
    ]
    if verdicts:
        parts += ["<h2>Claims</h2>", _claims(verdicts)]
    if figures:
        parts += ["<h2>Figures</h2>"]
        for name, file in figures.items():
            parts.append(_figure(name, as_path(file), captions.get(name, name)))
    if arms:
        parts += ["<h2>Arms</h2>", _arms(arms)]
    if environment:
        parts += ["<h2>Environment</h2>", _facts(environment)]
    parts += [
        "<h2>Config</h2>",
        "<details><summary>What was run, as JSON</summary>",
        f"<pre>{escape(config_json)}</pre></details>",
    ]
    page = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(parts))
    write_file(path, page)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def verdict_table(verdicts: Sequence[Verdict], width: int | None = None) -> str:
    """The verdicts as a table for the terminal, with the outcome as its last line.

    Args:
      verdicts: one row each.
      width: in characters; the terminal's by default. Long text is wrapped to it, but
        no column gets narrower than 8.
    """
    width = width or shutil.get_terminal_size().columns
    rows = [("verdict", "claim", "reference", "ours", "tolerance")]
    for v in verdicts:
        reason = f" ({v.reason})" if v.reason else ""
        verdict = f"{_SYMBOLS[v.verdict]} {v.label}"
        rows.append((verdict, v.text, _reference(v), v.measured + reason, v.tolerance))
    lines = _laid_out(rows, width)
    return "\n".join([*lines, "", *textwrap.wrap(outcome(verdicts), max(8, width))])


def _reference(verdict: Verdict) -> str:
    """What stands beside a claim: its source, and its kind, unless the source says."""
    return ": ".join(filter(None, (_KINDS[verdict.kind], verdict.cited)))


def text_table(rows: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Rows as a table for the terminal, numbers to four digits.

    Args:
      rows: of the same columns; empty gives an empty string.
      width: as for :func:`verdict_table`.
    """
    if not rows:
        return ""
    width = width or shutil.get_terminal_size().columns
    cells = [tuple(map(_plain, row.values())) for row in rows]
    return "\n".join(_laid_out([tuple(rows[0]), *cells], width))


def _plain(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _laid_out(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lines of a table whose first row is its header."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(c, w) for c, w in zip(row, widths, strict=True)]
        for i in range(max(map(len, cells))):
            line = [(c[i] if i < len(c) else "") for c in cells]
            padded = (f"{c:<{w}}" for c, w in zip(line, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
        if row is rows[0]:
            lines.append("  ".join("-" * w for w in widths))
    return lines


def _claims(verdicts: Sequence[Verdict]) -> str:
    body = []
    for v in verdicts:
        kind = _KINDS[v.kind]
        kind = f'<span class="note">{kind}</span>' if kind else ""
        reason = f'<span class="note">{escape(v.reason)}</span>' if v.reason else ""
        badge = f"{_SYMBOLS[v.verdict]} {escape(v.label)}"
        body.append(
            f'<tr><th scope="row">{kind}{escape(v.text)}</th>'
            f'<td data-label="Reference">{escape(v.cited)}</td>'
            f'<td data-label="Ours">{escape(v.measured)}{reason}</td>'
            f'<td data-label="Tolerance">{escape(v.tolerance)}</td>'
            f'<td><span class="badge {_CLASSES[v.verdict]}">{badge}</span></td></tr>'
        )
    ours = "Ours: median [min, max] or mean ± standard error"
    names = ("Claim", "Reference", ours, "Tolerance", "Verdict")
    return _table("claims", [(name, "") for name in names], body)


def _figure(name: str, file: pathlib.Path, caption: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><div class="wide"><img alt="{escape(name)}" '
        f'src="data:image/png;base64,{data}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _arms(arms: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in arms for name in row))
    aligned = {
        name: ' class="number"'
        for name in columns
        if all(row.get(name) is None or _is_number(row[name]) for row in arms)
    }
    body = []
    for row in arms:
        cells = (
            f"<td{aligned.get(name, '')}>{escape(_cell(row.get(name)))}</td>"
            for name in columns
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    return _table("arms", [(name, aligned.get(name, "")) for name in columns], body)


def _facts(environment: Mapping[str, str]) -> str:
    body = []
    for name, value in environment.items():
        cells = f'<th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td>'
        body.append(f"<tr>{cells}</tr>")
    return f'<table class="facts"><tbody>{"".join(body)}</tbody></table>'


def _table(kind: str, columns: Sequence[tuple[str, str]], body: Sequence[str]) -> str:
    """A table that scrolls by itself; ``columns`` are (name, attributes)."""
    head = "".join(
        f'<th scope="col"{a}>{escape(str(name))}</th>' for name, a in columns
    )
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    # NumPy's numbers are registered with the numbers module; bool is a word here.
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None or (_is_number(value) and math.isnan(value)):
        return "–"
    if _is_number(value) and not isinstance(value, numbers.Integral):
        return f"{value:.4g}"
    return str(value)
