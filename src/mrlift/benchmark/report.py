"""One HTML file with everything: no script, nothing from elsewhere, for screens and for paper."""

from html import escape
from string import Template

from mrlift.benchmark.figures import Picture
from mrlift.benchmark.results import Results
from mrlift.benchmark.tables import Table

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mrlift: the paper's tables, measured again</title>
<style>
:root {
  color-scheme: light dark;
  --ground: #ffffff; --ink: #1c2430; --soft: #5d6878; --line: #dfe4ea; --band: #f5f7f9;
  --mark: #d55e00; --good: #00704f; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181e; --ink: #e4e8ed; --soft: #9aa5b3; --line: #2d3540; --band: #1b2128;
    --mark: #ff9d52; --good: #56c7a0; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 76rem; padding: 2.5rem 1.5rem 4rem; background: var(--ground);
  color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .6rem; }
p { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
figure { margin: 1.2rem 0; }
figure svg { width: 100%; height: auto; }
figcaption { max-width: 52rem; }
.wide { overflow-x: auto; margin: 1.2rem 0 1.8rem; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .38rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; border-bottom: 2px solid var(--line); }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
.words td, .words th { text-align: left; white-space: normal; }
tbody tr:nth-child(even) { background: var(--band); }
.best td { font-weight: 700; }
.yes { color: var(--good); font-weight: 600; white-space: nowrap; }
.no { color: var(--bad); font-weight: 600; white-space: nowrap; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); }
@media print {
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; }
  table { font-size: 6.5pt; } th, td { padding: .12rem .25rem; }
  .wide { overflow: visible; break-inside: avoid; }
  figure svg { max-height: 150mm; }
  @page { size: A4 landscape; margin: 12mm; }
}
</style>
</head>
<body>
<header>
<h1>The paper's tables, measured again</h1>
<p class="soft">Magnetic resonance image super-resolution by multi-resolution learning (Xia, Cai,
Wang, Wang; 2020) and the networks that it was compared with, trained and tested by one protocol.
mrlift $version, commit $commit, $date.</p>
</header>
<main>
$body
</main>
<footer><p class="soft">Written by <code>mrlift bench render</code> from JSON files that say
how each was measured. $machines Not a medical device; nothing here is for diagnosis.</p></footer>
</body>
</html>
""")

PROTOCOL = """<h2>How</h2>
<p>Every network saw the same slices, patches, augmentations and number of HR pixels, with one
optimiser recipe (AdamW, cosine schedule, squared error, averaged weights). Only the learning rate
is each network's own, chosen on held-out patients. The test patients were never trained or tuned
on. LR is HR reduced by bicubic interpolation. Equal budget is not convergence: see the
learning curves.</p>
"""
ORDER = (
    ("Quality against time", ("quality-time", "summary")),
    ("Table 2: quality", ("table2-x2", "table2-x3", "table2-x4")),
    ("Table 1: upsampling", ("table1",)),
    ("Table 3: time", ("table3",)),
    ("Figure 3: by eye", ("figure3",)),
    ("The paper's claims", ("claims",)),
    ("Training", ("curves", "training")),
    ("PSNR by other conventions", ("metrics-x2", "metrics-x3", "metrics-x4")),
)


def html(results: Results, tables: dict[str, Table], pictures: dict[str, Picture]) -> str:
    """The whole page."""
    parts = []
    for title, names in ORDER:
        content = [_figure(pictures[n]) for n in names if n in pictures]
        content += [_table(tables[n]) for n in names if n in tables]
        if content:
            parts.append(f"<h2>{title}</h2>\n" + "\n".join(content))
    parts.insert(1, PROTOCOL)
    records = [r for q in results.quality.values() for r in q.records]
    records += [*results.times.values(), *([results.figure] if results.figure else [])]
    newest = max(records, key=lambda r: str(r["date"]))
    machines = sorted({str(r["machine"]) for r in records})
    return PAGE.substitute(
        version=escape(str(newest["version"])),
        commit=escape(str(newest["commit"])),
        date=escape(str(newest["date"])),
        machines=escape(f"Measured on: {'; '.join(machines)}."),
        body="\n".join(parts),
    )


def _figure(picture: Picture) -> str:
    return f"<figure>{picture.svg}<figcaption>{escape(picture.caption)}</figcaption></figure>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(c)}</th>" for c in table.columns)
    rows = []
    for number, row in enumerate(table.rows):
        cells = "".join(_cell(c) for c in row)
        rows.append(f"<tr{' class=best' if number in table.best else ''}>{cells}</tr>")
    kind = ' class="words"' if table.words else ""
    return (
        f'<div class="wide"><table{kind}><caption>{escape(table.caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    mark = {"holds": " class=yes", "does not hold": " class=no"}.get(text, "")
    return f"<td{mark}>{escape(text)}</td>"
