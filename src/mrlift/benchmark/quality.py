"""PSNR and SSIM of the product's own path against plain interpolation, series by series.

Each HR series is reduced as the weights expect it, given to `upscale` as a user would, and
compared slice by slice with what it was; so are bicubic interpolation and, where k-space was cut,
what scanners do: filling it up with zeros (sinc interpolation). PSNR and SSIM take the maximum of
the series as data range; slices with less than 12 % foreground are left out; the mean of a series
is over its slices, the overall mean is over series.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift._version import __version__
from mrlift.benchmark.comparison import compare
from mrlift.errors import InputError
from mrlift.inference.degradation import Kind, degrade
from mrlift.inference.engines import processor
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.io import find_series, load
from mrlift.quality import ensemble
from mrlift.resampling import bicubic_up, kspace_up
from mrlift.volume import Volume


@dataclass(frozen=True)
class SeriesQuality:
    """Means over the slices of one series; PSNR in dB."""

    series: str
    slices: int
    psnr: float
    psnr_bicubic: float
    ssim: float
    ssim_bicubic: float
    psnr_sinc: float | None = None
    ssim_sinc: float | None = None

    @property
    def gain(self) -> float:
        """PSNR above bicubic interpolation, dB."""
        return self.psnr - self.psnr_bicubic


def series_quality(
    name: str, volume: Volume, model: Model, kind: Kind, noise: float, *, turned: bool = False
) -> SeriesQuality:
    """Reduce, upscale and compare one series; LR stays in floats, as the papers have it.

    With `turned` what is compared is the mean of the eight flips and transposes.
    """
    scale, grid = model.card.scale, model.card.grid
    lr = degrade(volume, scale, kind, grid=grid, noise=noise, dtype=np.dtype(np.float32))

    def means(up: Callable[[NDArray[np.float32], int], NDArray[np.floating]]) -> dict[str, float]:
        slices = up(lr.slices().astype(np.float32), scale)
        return compare(lr.resized(lr.voxels_from_slices(slices), scale, grid), volume).mean

    sr = ensemble(lr, model).mean if turned else upscale(lr, scale, model)
    ours = compare(sr, volume)
    bicubic = means(partial(bicubic_up, grid=grid))
    sinc = means(kspace_up) if kind == "kspace" else {}
    return SeriesQuality(
        name,
        len(ours.rows),
        ours.mean["psnr"],
        bicubic["psnr"],
        ours.mean["ssim"],
        bicubic["ssim"],
        sinc.get("psnr"),
        sinc.get("ssim"),
    )


def measure(
    folder: Path,
    model: Model,
    kind: Kind,
    noise: float,
    report: Callable[[SeriesQuality], None] = lambda _: None,
    *,
    turned: bool = False,
) -> list[SeriesQuality]:
    """`series_quality` of every series under `folder`, in the order of their paths.

    Args:
        folder: HR series that the weights were not trained on.
        model: weights to measure.
        kind: how LR is made.
        noise: Rician, standard deviation as a share of the series' 99.9th percentile.
        report: is given each result as it comes.
        turned: compare the mean of the eight flips and transposes; takes eight times as long.

    Raises:
        InputError: there is no series, or one of them cannot be measured.
    """
    results = []
    for path in find_series(folder):
        name = path.relative_to(folder).as_posix().removesuffix(".gz").removesuffix(".nii")
        results.append(series_quality(name, load(path), model, kind, noise, turned=turned))
        report(results[-1])
    if not results:
        raise InputError(f"Expected NIfTI files or DICOM series under {folder}, found none.")
    return results


def as_json(
    results: list[SeriesQuality],
    model: Model,
    kind: Kind,
    noise: float,
    command: str,
    *,
    turned: bool = False,
) -> dict[str, Any]:
    """The results with everything needed to place and repeat them."""
    return {
        **circumstances(command),
        "model": model.card.name,
        "sha256": model.card.sha256,
        "scale": model.card.scale,
        "degradation": kind,
        "noise": noise,
        "ensemble": turned,
        "mean_gain": float(np.mean([r.gain for r in results])),
        "series": [asdict(r) | {"gain": r.gain} for r in results],
    }


def circumstances(command: str) -> dict[str, Any]:
    """What every file of results says of how it came about."""
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "machine": machine(),
        "version": __version__,
    }


def machine() -> str:
    """Processor and number of cores, for the record."""
    return f"{processor()}, {os.cpu_count()} cores"


def _commit() -> str:
    """The version of the source that runs, for the record."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()
