"""Draw the learning curves of training runs: validation gain over HR pixels seen.

    python benchmarks/curves.py benchmarks/results/curves docs/images/curves.svg

The folder holds the `curves.csv` of each run under the name of its recipe. A run that was started
from another one goes on where that one was; `STARTS` says from which.
"""

import csv
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

STARTS = {
    "cpu-x2-fast": "cpu-x2-tiny",
    "cpu-x2": "cpu-x2-fast",
    "cpu-x2-kspace": "cpu-x2",
    "cpu-x3": "cpu-x2",
    "cpu-x4": "cpu-x3",
    "cpu-x3-kspace": "cpu-x2-kspace",
    "cpu-x4-kspace": "cpu-x3-kspace",
}
SCALES = {2: "x2", 3: "x3", 4: "x4"}


def scale_of(name: str) -> int:
    """In-plane factor in a recipe's name."""
    return int(name.split("-x")[1][0])


def read(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """HR pixels seen, in millions, and gain in dB, of one run."""
    with (folder / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    unit = scale_of(name) ** 2 / 1e6
    return [float(r["lr_pixels"]) * unit for r in rows], [float(r["gain"]) for r in rows]


def before(folder: Path, name: str) -> float:
    """HR pixels, in millions, that the runs before saw."""
    parent = STARTS.get(name)
    return read(folder, parent)[0][-1] + before(folder, parent) if parent else 0.0


def draw(folder: Path, target: Path) -> None:
    """One panel a degradation; colours are scales."""
    names = sorted(file.stem for file in folder.glob("*.csv"))
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
    for panel, kind in zip(panels, ("bicubic", "kspace"), strict=True):
        for name in names:
            if name.endswith("kspace") != (kind == "kspace"):
                continue
            pixels, gains = read(folder, name)
            offset = before(folder, name)
            panel.plot(
                [offset + p for p in pixels], gains, marker=".", label=name.removeprefix("cpu-"),
                color=f"C{scale_of(name) - 2}", alpha={"tiny": 0.4, "fast": 0.7}.get(name[7:], 1),
            )  # fmt: skip
        panel.set_title(f"{kind} degradation")
        panel.set_xlabel("HR pixels seen, millions, with the runs started from")
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    panels[0].set_ylabel("validation PSNR gain over bicubic, dB")
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
