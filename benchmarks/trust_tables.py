"""Write the tables of docs/explanation/trust.md and lesions.md from benchmarks/results.

python benchmarks/trust_tables.py            # rewrites what has changed
python benchmarks/trust_tables.py --check    # names what is out of date; exit code 1 if any is
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGES = ("trust", "lesions")
MARK = re.compile(r"(<!-- (\w+): benchmarks/trust_tables.py -->\n).*?(<!-- end -->)", re.DOTALL)
LIMITS = (
    ("beyond", "tissue beyond three noise levels", "{:.2%}", "patient"),
    ("bias", "difference in brightness", "{:.2%}", "scale"),
    ("shift", "shift, LR voxels", "{:.3f}", "shift"),
    ("structure", "unusual spot, times the usual", "{:.1f}", None),
)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def origin(record: dict) -> str:
    """Where the figures come from."""
    sizes = f"Slices: {record['slices']}.\n" if isinstance(record["slices"], str) else ""
    parts = [m.get("measured", record) for m in record.get("models", {}).values()] or [record]
    told = (
        f"`{m['command']}`; {m['machine']}, commit {m['commit']}, {m['date']}.\n" for m in parts
    )
    return "\n" + "\n".join(dict.fromkeys(told)) + sizes


def limits() -> str:
    """Thresholds between right results and faults."""
    record = json.loads((RESULTS / "trust-calibration.json").read_text())
    rows = [r for m in record["models"].values() for r in m["series"]]
    lines = []
    for key, name, form, fault in LIMITS:
        worst = max(r["real"][key] for r in rows)
        lesions = [
            x[key]
            for r in rows
            for x in r["lesions"]
            if (x["diameter"], x["contrast"]) == (4.0, 0.3)
        ]
        planted = [r["faults"][fault][key] for r in rows] if fault else lesions
        mildest = min(planted) if fault else sorted(planted)[len(planted) // 10]
        cells = (worst, mildest, record["thresholds"][key])
        lines.append([name, *(form.format(v) for v in cells)])
    heads = ["figure", "worst right result", "mildest fault", "threshold"]
    return table(heads, lines) + origin(record)


def detection() -> str:
    """Pass and detection rates on series that nothing was calibrated on."""
    record = json.loads((RESULTS / "trust-test.json").read_text())
    rows = []
    for name, model in record["models"].items():
        found = model["all"]
        rates = [f"{found['detected'][k]:.0%}" for k in ("shift", "scale", "patient")]
        rows.append([f"`{name}`", f"{found['passed']} of {found['series']}", *rates])
    heads = [
        "weights", "right results that pass", "shifted by half a voxel", "scaled by 2 %",
        "another patient",
    ]  # fmt: skip
    return table(heads, rows) + origin(record)


def painted() -> str:
    """Detection rates of lesions painted into results."""
    record = json.loads((RESULTS / "trust-test.json").read_text())
    first = next(iter(record["models"].values()))["all"]["lesions_detected"]
    heads = ["weights", *(f"{x['diameter']:g} mm, {x['contrast']:.0%}" for x in first)]
    rows = [
        [f"`{name}`", *(f"{x['detected']:.0%}" for x in model["all"]["lesions_detected"])]
        for name, model in record["models"].items()
    ]
    count = first[0]["lesions"]
    return table(heads, rows) + f"\n{count} lesions in each cell, half of them dark.\n"


def gains() -> str:
    """What --ensemble and --consistent do to the PSNR, and what the spread is worth."""
    record = json.loads((RESULTS / "trust-test.json").read_text())
    rows = []
    for name, model in record["models"].items():
        found = model["all"]
        values = [r["ensemble_gain"] for r in model["series"]]
        rows.append(
            [
                f"`{name}`",
                f"{found['ensemble_gain']:+.3f} dB ({min(values):+.3f} to {max(values):+.3f})",
                f"{found['consistent_gain']:+.4f} dB",
                *(f"{found['within'][k]:.0%}" for k in ("1", "2", "3", "5")),
                *(f"{found['within_calibrated'][k]:.1%}" for k in ("68", "95")),
                f"{found['rank_correlation']:.2f}",
            ]
        )
    heads = [
        "weights", "`--ensemble`", "`--consistent`", "within 1 x spread", "2 x", "3 x", "5 x",
        "within the factor for 68 %", "for 95 %", "rank correlation",
    ]  # fmt: skip
    return table(heads, rows)


def factors() -> str:
    """The multiples of the spread that hold 68 and 95 % of errors."""
    record = json.loads((RESULTS / "trust-calibration.json").read_text())
    rows = [
        [f"`{name}`", *(f"{row[p]:.1f}" for p in ("68", "95"))]
        for name, row in record["thresholds"]["spread"].items()
    ]
    return table(["weights", "68 % of true errors lie within", "95 %"], rows)


def lesions() -> str:
    """What becomes of inserted lesions."""
    record = json.loads((RESULTS / "lesions.json").read_text())
    rows = []
    for result in record["methods"]:
        for line in result["table"]:
            spread = [f"{line[k]:+.0%} ± {line[k + '_deviation']:.0%}" for k in FIGURES]
            rows.append(
                [
                    f"`{result['method']}`"
                    if result["method"].startswith("mrl")
                    else result["method"],
                    f"{line['diameter']:g} mm {'bright' if line['sign'] > 0 else 'dark'}",
                    f"{line['lesions']:.0f}",
                    *spread,
                    f"{line['lost']:.0%}",
                ]
            )
    heads = ["method", "lesions", "number", "volume", "contrast", "amount", "lost half"]
    return table(heads, rows) + origin(record)


FIGURES = ("volume", "contrast", "amount")


def invented() -> str:
    """Structures that the truth does not have."""
    record = json.loads((RESULTS / "lesions.json").read_text())
    rows = [
        [
            r["method"],
            str(r["invented"]),
            f"{r['tissue_cm2']:.0f} cm²",
            f"{100 * r['invented'] / r['tissue_cm2']:.2f}",
        ]
        for r in record["methods"]
    ]
    return table(["method", "invented", "in tissue of", "per 100 cm²"], rows)


TABLES = {f.__name__: f for f in (limits, detection, painted, gains, factors, lesions, invented)}


def main() -> int:
    """Write, or with --check only compare."""
    stale = []
    for name in PAGES:
        file = ROOT / "docs/explanation" / f"{name}.md"
        before = file.read_text(encoding="utf-8")
        after = MARK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], before)
        if before != after:
            stale.append(file)
            print(file.relative_to(ROOT))
            if "--check" not in sys.argv:
                file.write_text(after, encoding="utf-8")
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
