"""Results as `contest` and `timing` left them, and the statistics of them.

Means are over slices, as the paper's are, and over patients (the mean of the slices of each first),
since slices of one head are not independent. Intervals are 95 % bootstrap intervals of the mean:
slices, or patients, drawn again with a fixed seed. Gains are paired: each slice against
bicubic interpolation of the same slice. Several seeds of a network are averaged slice by slice.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError

DRAWS = 10_000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Mean:
    """A mean with its standard deviation and 95 % bootstrap interval."""

    value: float
    deviation: float
    low: float
    high: float


def mean(values: Values) -> Mean:
    """Of independent values (n,)."""
    rng = np.random.default_rng(0)
    drawn = np.concatenate(
        [rng.choice(values, (DRAWS // 10, len(values))).mean(axis=1) for _ in range(10)]
    )
    low, high = np.percentile(drawn, [2.5, 97.5])
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Mean(float(np.mean(values)), spread, float(low), float(high))


@dataclass(frozen=True)
class Quality:
    """All runs of a method at a scale."""

    method: str
    scale: int
    records: tuple[dict[str, Any], ...]

    def values(self, figure: str) -> Values:
        """A figure of each slice, the mean over seeds."""
        seeds = [np.concatenate([s[figure] for s in r["test"]]) for r in self.records]
        return np.asarray(np.mean(seeds, axis=0), dtype=np.float64)

    @cached_property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each slice."""
        test = self.records[0]["test"]
        return np.concatenate([np.repeat(s["patient"], len(s["slices"])) for s in test])

    def by_patient(self, values: Values) -> Values:
        """The mean over the slices of each patient."""
        return np.array([values[self.patients == p].mean() for p in np.unique(self.patients)])

    @property
    def parameters(self) -> int | None:
        """Numbers that are learned, as counted in training; None for interpolation."""
        count: int | None = self.records[0].get("parameters")
        return count


@dataclass(frozen=True)
class Results:
    """Everything in a folder of results.

    Attributes:
        quality: by method and scale.
        times: by scale and HR size.
        figure: what Figure 3 shows, if it was made.
    """

    quality: dict[tuple[str, int], Quality]
    times: dict[tuple[int, int], dict[str, Any]]
    figure: dict[str, Any] | None

    def methods(self, scale: int) -> list[str]:
        """With a result at a scale, by mean PSNR, the best last; ablations are left out."""
        names = [m for m, s in self.quality if s == scale and not is_ablation(m)]
        return sorted(names, key=lambda m: float(np.mean(self.quality[m, scale].values("psnr"))))

    def gain(self, method: str, scale: int, over: str = "bicubic", figure: str = "psnr") -> Values:
        """A figure of each slice above that of another method."""
        one, other = self.quality[method, scale], self.quality[over, scale]
        return one.values(figure) - other.values(figure)


def is_ablation(method: str) -> bool:
    """Whether a method belongs to Table 1 alone."""
    return method in ("mrl-single", "mrl-double")


def load_results(folder: Path) -> Results:
    """Read a folder.

    Raises:
        InputError: it holds no results, damaged ones, or some that were measured on other slices
            than the others.
    """
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    try:
        for file in sorted((folder / "quality").glob("*.json")):
            record = json.loads(file.read_text(encoding="utf-8"))
            found.setdefault((record["method"], record["scale"]), []).append(record)
        times = [_load(file) for file in sorted((folder / "time").glob("*.json"))]
        figure = _load(folder / "figure3.json") if (folder / "figure3.json").exists() else None
        quality = {key: Quality(*key, tuple(records)) for key, records in found.items()}
        _check_slices(quality)
        results = Results(quality, {(t["scale"], t["hr"]): t for t in times}, figure)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{folder} holds damaged results: {error!r}.") from error
    if not (quality or times or figure):
        raise InputError(
            f"There are no results in {folder}. Expected the folder of `mrlift bench table2`."
        )
    return results


def _load(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record


def _check_slices(quality: dict[tuple[str, int], Quality]) -> None:
    """Pairs of slices are subtracted from each other: they must be the same ones."""
    first: dict[int, tuple[str, list[Any]]] = {}
    for (method, scale), entry in quality.items():
        for record in entry.records:
            slices = [(s["series"], s["slices"]) for s in record["test"]]
            name, expected = first.setdefault(scale, (method, slices))
            if slices != expected:
                raise InputError(
                    f"{method} and {name} at x{scale} were tested on different slices. Remove the "
                    "results of one of them and run it again."
                )
    for method, scale in quality:
        if ("bicubic", scale) not in quality:
            raise InputError(
                f"There is a result of {method} but none of bicubic interpolation at x{scale}."
            )
