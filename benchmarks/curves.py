"""Draw the learning curves of training runs: gains over HR pixels seen.

    python benchmarks/curves.py benchmarks/results/curves docs/images

The folder holds the `curves.csv` of each run under the name of its recipe. A run that was started
from another one goes on where that one was; `STARTS` says from which. What `mrlift bench quality`
found on the test series at the end of a run of the full network is in `candidates/RUN`, and of a
shipped set in `results`. The second picture has the networks of `results/size-*.json` (size.py) and
of the runs in `LONG`: the shipped one and larger ones grown from it, from there on.
"""

import csv
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

mpl.rcParams["svg.hashsalt"] = "mrlift"  # the same curves make the same file

STARTS = {
    "first-x2-fast": "first-x2-tiny",
    "first-x2": "first-x2-fast",
    "first-x2-kspace": "first-x2",
    "long-x2": "first-x2",
    "long-x2-kspace": "first-x2-kspace",
    "final-x2": "long-x2",
    "final-x2-kspace": "long-x2-kspace",
    "last-x2-kspace": "final-x2-kspace",
    "again-x2-kspace": "last-x2-kspace",
    "last-x4": "final-x4",
    "again-x4": "last-x4",
    "muon-x2": "final-x2",
    "muon-x3": "final-x3",
    "muon-x4": "again-x4",
    "squared-x3": "muon-x3",
    "squared-x4": "muon-x4",
    "more-x2": "muon-x2",
    "more-x4": "squared-x4",
    "further-x4": "more-x4",
    "sum-x2": "more-x2",
    "sum-x4": "further-x4",
    "balanced-x2": "sum-x2",
    "balanced-x4": "sum-x4",
    "varied-x2": "balanced-x2",
    "varied-x3": "squared-x3",
    "further-x3": "varied-x3",
    "anew-x3": "varied-x2",
    "longer-x3": "anew-x3",
    "deeper-x3": "anew-x3",
    "anew-x4": "longer-x3",
    "muon-x2-kspace": "again-x2-kspace",
    "anew-x3-kspace": "muon-x2-kspace",
    "anew-x4-kspace": "muon-x2-kspace",
    "longer-x3-kspace": "anew-x3-kspace",
    "longer-x4-kspace": "anew-x4-kspace",
    "cpu-x3": "cpu-x2",
    "cpu-x4": "cpu-x2",
    "cpu-x2-kspace": "cpu-x2",
    "cpu-x3-kspace": "cpu-x2-kspace",
    "cpu-x4-kspace": "cpu-x2-kspace",
    "tiny-x2": "first-x2-tiny",
    "tiny-x2-kspace": "first-x2-tiny",
}
for kind in ("", "-kspace"):
    STARTS |= {f"final-x3{kind}": f"final-x2{kind}", f"final-x4{kind}": f"final-x3{kind}"}
    STARTS |= {f"fast-x2{kind}": f"tiny-x2{kind}"}
    STARTS |= {f"muon-fast-x2{kind}": f"fast-x2{kind}"}
    for run in ("fast", "tiny", "muon-fast"):
        STARTS |= {f"{run}-x{n}{kind}": f"{run}-x2{kind}" for n in (3, 4)}
SHIPPED = (
    *("balanced-x2", "anew-x3", "balanced-x4"),
    *("again-x2-kspace", "longer-x3-kspace", "longer-x4-kspace"),
)
LAST = (
    *("longer", "anew", "varied", "balanced", "sum", "further", "more"),
    *("squared", "muon", "again", "last", "final"),
)
# Not on the way to what is shipped: given up for a new start, or a new start that did no better.
LEFT = ("further-x3", "longer-x3", "anew-x4", "final-x3-kspace", "final-x4-kspace")
LONG = {"128x9": "longer-x3", "128x12": "deeper-x3"}  # begun with the same weights
FULL = "128 channels x 9 units"
SIZES = {
    FULL: LAST,
    "the same, by cpu-...": ("cpu",),
    "64 x 4": ("muon-fast", "fast"),
    "32 x 4": ("tiny",),
}


def scale_of(name: str) -> int:
    """In-plane factor in a recipe's name."""
    return int(name.split("-x")[1][0])


def read(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """HR pixels seen, in millions, and gain in dB, of one run."""
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    unit = scale_of(name) ** 2 / 1e6
    return [float(r["lr_pixels"]) * unit for r in rows], [float(r["gain"]) for r in rows]


def chain(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """The same, after what the runs before saw; their points too if they are of this problem."""
    pixels, gains = read(folder, name)
    parent = STARTS.get(name)
    if parent is None:
        return pixels, gains
    seen, earlier = chain(folder, parent)
    pixels = [seen[-1] + p for p in pixels]
    same = scale_of(parent) == scale_of(name)
    if same and parent.endswith("kspace") == name.endswith("kspace"):
        return seen + pixels, earlier + gains
    return pixels, gains


def tests(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """HR pixels seen and gain on the test series, at the end of a run and of those before."""
    scale, kind = name.split("-")[1], "kspace" if name.endswith("kspace") else "bicubic"
    file = f"quality-mrl-{scale}-{kind}.json"
    ended = folder.parent if name in SHIPPED else folder.parents[1] / "candidates" / name
    parent = STARTS.get(name, "")
    same = parent.endswith(name.partition("-")[2])
    pixels, gains = tests(folder, parent) if same else ([], [])
    if (ended / file).exists():
        pixels.append(chain(folder, name)[0][-1])
        gains.append(json.loads((ended / file).read_text())["mean_gain"])
    return pixels, gains


def draw(folder: Path, target: Path) -> None:
    """A panel for each degradation and scale; colours are sizes."""
    figure, rows = plt.subplots(
        2, 3, figsize=(10, 6), sharex=True, sharey="row", layout="constrained"
    )
    for row, kind in zip(rows, ("", "-kspace"), strict=True):
        for panel, scale in zip(row, (2, 3, 4), strict=True):
            for label, runs in SIZES.items():
                names = [f"{run}-x{scale}{kind}" for run in runs]
                there = (n for n in names if (folder / f"{n}.csv").exists())
                name = next(n for n in there if n not in LEFT)
                panel.plot(*chain(folder, name), marker=".", label=label)
                if label == FULL:
                    panel.plot(*tests(folder, name), "kD", fillstyle="none", label="the same, test")
                    for left in LEFT:
                        if left.partition("-")[2] == name.partition("-")[2]:
                            panel.plot(*chain(folder, left), "C0:")
                            panel.plot(*tests(folder, left), "kD", fillstyle="none")
            panel.set_title(f"x{scale}, {'k-space' if kind else 'bicubic'}")
            panel.grid(alpha=0.3)
        row[0].set_ylabel("gain over bicubic, dB")
    lines = rows[1][2].get_legend_handles_labels()
    figure.legend(*lines, frameon=False, loc="outside upper center", ncols=5)
    rows[1][1].set_xlabel("HR pixels seen, millions, with those of the runs started from")
    figure.savefig(target, metadata={"Date": None})


def draw_sizes(folder: Path, target: Path) -> None:
    """Networks of several sizes from the shipped set on, and where all of them began.

    A panel for each record of size.py, and one for runs with whole recipes.
    """
    records = sorted(folder.parent.glob("size-*.json"))
    wide = len(records) + 1
    figure, panels = plt.subplots(1, wide, figsize=(4 * wide, 3.5), layout="constrained")
    for panel, record in zip(panels, records, strict=False):
        unit = scale_of(record.stem) ** 2 / 1e6
        for size, run in json.loads(record.read_text())["sizes"].items():
            pixels = [int(lr_pixels) * unit for lr_pixels in run["on_the_way"]]
            panel.plot(pixels, run["on_the_way"].values(), marker=".", label=size)
            panel.axhline(run["before"], color="k", linestyle=":", linewidth=1)
        panel.set_title(f"{record.stem.split('-')[1]}, bicubic")
    for size, name in LONG.items():
        panels[-1].plot(*read(folder, name), marker=".", label=size)
        panels[-1].axhline(read(folder, STARTS[name])[1][-1], color="k", linestyle=":", linewidth=1)
    panels[-1].set_title("x3, bicubic, six times as long")
    for panel in panels:
        panel.grid(alpha=0.3)
    panels[wide // 2].set_xlabel("HR pixels seen since the shipped weights, millions")
    panels[0].set_ylabel("gain over bicubic, dB")
    panels[0].legend(frameon=False, loc="lower right", title="channels x units")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    curves, images = map(Path, sys.argv[1:])
    draw(curves, images / "learning.svg")
    draw_sizes(curves, images / "size.svg")
