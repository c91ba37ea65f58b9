"""Write the tables of docs/explanation/speed.md from benchmarks/results.

python benchmarks/speed_tables.py            # rewrites what has changed
python benchmarks/speed_tables.py --check    # says whether it is out of date, with exit code 1
"""

import json
import re
import sys
from pathlib import Path

from trust_tables import origin, table

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/explanation/speed.md"
MACHINES = ("frontier", "frontier-avx2")
MARK = re.compile(r"(<!-- (\w+): benchmarks/speed_tables.py -->\n).*?(<!-- end -->)", re.DOTALL)


def read(name: str) -> dict:
    """A file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def engines() -> str:
    """Every engine on every size, the full network."""
    record = read("speed-mrl-x2-kspace")
    rows = [
        [
            f"{size['lr']} x {size['lr']}",
            name + (" (default)" if name == size["default_engine"] else ""),
            f"{row['seconds']:.3f}",
            f"{row['ratio_vs_eager_torch']:.2f}",
            f"{row['ratio_vs_matmul']:.2f}",
            f"{row['difference']:.0e}",
            str(row["peak_megabytes"] or "-"),
        ]
        for size in record["sizes"]
        for name, row in size["engines"].items()
    ]
    heads = [
        "LR slice", "engine", "seconds", "times as fast as eager torch", "times the matrix product",
        "differs from it by", "peak MB",
    ]  # fmt: skip
    rate = ", ".join(f"{s['matmul_gflops']:.0f}" for s in record["sizes"])
    growth = record["growth_of_seconds_per_pixel"]
    beside = next(r for r in map(read, MACHINES) if r["machine"] == record["machine"])
    side, peak = next(iter(beside["peak_megabytes"].items()))
    return (
        table(heads, rows)
        + f"\nThe matrix product ran at {rate} GFLOP/s beside these sizes. Seconds per pixel at "
        f"the largest size are {growth:.2f} times those at 128 x 128. "
        f"A slice of {side} x {side} LR samples peaks at {peak} MB.\n" + told(record)
    )


def frontier() -> str:
    """Gain against CPU time of the three sizes of network, on processors with and without AMX."""
    return "\n".join(_frontier(read(name)) for name in MACHINES)


def _frontier(record: dict) -> str:
    rows = []
    for scale, models in record["scales"].items():
        for row in models:
            gains = [
                f"{read(f'quality-{name}')['mean_gain']:+.2f} dB"
                for name in (row["model"], row["model"].replace("kspace", "bicubic"))
            ]
            rows.append(
                [
                    f"x{scale}",
                    f"`{row['model']}`",
                    f"{row['multiply_adds']:,}",
                    row["engine"],
                    f"{row['cpu_seconds']:.3f}",
                    f"1/{1 / row['share_of_full']:.1f}",
                    f"{row['cpu_seconds_onnx']:.3f}",
                    f"1/{1 / row['share_of_full_onnx']:.1f}",
                    *gains,
                ]
            )
    heads = [
        "scale", "weights", "multiply-adds per LR pixel", "engine", "CPU seconds",
        "of the full network's", "in ONNX Runtime", "of the full network's", "gain, k-space",
        "gain, bicubic",
    ]  # fmt: skip
    return table(heads, rows) + told(record)


def small() -> str:
    """What sizes, branches and a teacher gave at equal budgets."""
    record = read("small")
    costs = {name: row for name, row in record["rows"].items() if "multiply_adds" in row}
    rows = []
    for name, row in record["rows"].items():
        cost = costs.get(name) or costs[name.rsplit(" ", 1)[0] + " plain"]  # merged afterwards
        rows.append(
            [
                f"`{name}`" if name.startswith("mrl") else name,
                f"{cost['multiply_adds']:,}",
                f"{cost['cpu_seconds']:.2f}",
                f"{row['lr_pixels'] / 1e6:.1f}",
                f"{row['gain_before']:+.2f}",
                f"{row['gain']:+.2f}",
            ]
        )
    heads = [
        "channels x units", "multiply-adds per LR pixel", "CPU seconds", "million LR pixels",
        "validation gain before, dB", "after, dB",
    ]  # fmt: skip
    return table(heads, rows) + told(record)


def starts() -> str:
    """How long a command takes before it computes."""
    told_of = []
    for record in map(read, MACHINES):
        found = record["starts"]
        half = found.get("half_of_turns_beyond_arithmetic", [])
        told_of.append(
            f"`mrlift --help` takes {found['help']:.2f} s. `mrlift upscale` of one slice takes "
            f"{found['one_slice']:.2f} s, {found['one_slice_beyond_arithmetic']:.2f} s beyond its "
            "arithmetic"
            + (f"; half of the turns lie between {half[0]:.2f} and {half[1]:.2f}" if half else "")
            + ".\n"
            + told(record)
        )
    return "\n".join(told_of)


def air() -> str:
    """What skipping air gains on the sample series."""
    rows = []
    for file in sorted(RESULTS.glob("air-*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        rows.append(
            [
                f"`{record['model']}`",
                f"{record['seconds_whole']:.2f}",
                f"{record['seconds_without_air']:.2f}",
                f"{record['gain']:.2f}",
                f"{record['figures_whole']['psnr_inside']:.3f}",
                f"{record['figures_without_air']['psnr_inside']:.3f}",
            ]
        )
    heads = [
        "weights", "seconds, everywhere", "without air", "times as fast",
        "PSNR inside, everywhere", "without air",
    ]  # fmt: skip
    return table(heads, rows) + told(record)


def told(record: dict) -> str:
    """Command, machine, commit and date."""
    return origin({"slices": 0} | record)


TABLES = {f.__name__: f for f in (engines, frontier, small, starts, air)}


def main() -> int:
    """Write, or with --check only compare."""
    before = PAGE.read_text(encoding="utf-8")
    after = MARK.sub(lambda m: m[1] + TABLES[m[2]]() + m[3], before)
    if before == after:
        return 0
    print(PAGE.relative_to(ROOT))
    if "--check" in sys.argv:
        return 1
    PAGE.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
