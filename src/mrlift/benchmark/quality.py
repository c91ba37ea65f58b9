"""PSNR and SSIM of the product's own path against bicubic interpolation, series by series.

Each HR series is reduced, given to `upscale` as a user would, and compared slice by slice with
what it was. PSNR and SSIM take the maximum of the series as data range; slices with less than
12 % foreground are left out; the mean of a series is over its slices, the overall mean is over
series.
"""

import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mrlift._version import __version__
from mrlift.benchmark.comparison import compare
from mrlift.errors import InputError
from mrlift.inference.degradation import degrade
from mrlift.inference.engines import processor
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.io import find_series, load
from mrlift.resampling import bicubic_up
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

    @property
    def gain(self) -> float:
        """PSNR above bicubic interpolation, dB."""
        return self.psnr - self.psnr_bicubic


def series_quality(name: str, volume: Volume, model: Model) -> SeriesQuality:
    """Reduce, upscale and compare one series; LR stays in floats, as the papers have it."""
    scale, grid = model.card.scale, model.card.grid
    lr = degrade(volume, scale, grid=grid, dtype=np.dtype(np.float32))
    plain = lr.voxels_from_slices(bicubic_up(lr.slices().astype(np.float32), scale, grid))
    ours = compare(upscale(lr, scale, model), volume)
    bicubic = compare(lr.resized(plain, scale, grid), volume)
    return SeriesQuality(
        name,
        len(ours.rows),
        ours.mean["psnr"],
        bicubic.mean["psnr"],
        ours.mean["ssim"],
        bicubic.mean["ssim"],
    )


def measure(
    folder: Path, model: Model, report: Callable[[SeriesQuality], None] | None = None
) -> list[SeriesQuality]:
    """`series_quality` of every series under `folder`, in the order of their paths.

    Raises:
        InputError: there is no series, or one of them cannot be measured.
    """
    results = []
    for path in find_series(folder):
        name = path.relative_to(folder).as_posix().removesuffix(".gz").removesuffix(".nii")
        results.append(series_quality(name, load(path), model))
        if report:
            report(results[-1])
    if not results:
        raise InputError(f"Expected NIfTI files or DICOM series under {folder}, found none.")
    return results


def as_json(results: list[SeriesQuality], model: Model, command: str) -> dict[str, Any]:
    """The results with everything needed to place and repeat them."""
    return {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": machine(),
        "version": __version__,
        "model": model.card.name,
        "sha256": model.card.sha256,
        "scale": model.card.scale,
        "degradation": "bicubic",
        "mean_gain": float(np.mean([r.gain for r in results])),
        "series": [asdict(r) | {"gain": r.gain} for r in results],
    }


def machine() -> str:
    """Processor and number of cores, for the record."""
    return f"{processor()}, {os.cpu_count()} cores"


def commit() -> str:
    """The version of the source that runs, for the record."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parent,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()
