"""Figures of every test slice, through the product's own `upscale`.

PSNR is given against the maximum of the series, and against 255 after truth and result were scaled
to that maximum and rounded to 8 bit; both of the whole slice and without a border of `scale`
pixels. SSIM takes the maximum of the series, a Gaussian window of 11 and the whole slice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.inference.card import Card
from mrlift.inference.degradation import degrade
from mrlift.inference.engines import Engine
from mrlift.inference.normalise import FOREGROUND_SHARE, foreground_share, series_scale
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.io import find_series, load
from mrlift.metrics import psnr, ssim
from mrlift.training.sources import Sources, load_sources, patient_of
from mrlift.volume import Volume

WHOLE = 1 << 14  # LR samples a side: slices are never cut into patches
BITS = 255
FIGURES = ("psnr", "psnr_inner", "psnr_8bit", "psnr_8bit_inner", "ssim")


@dataclass(frozen=True)
class Tests:
    """Series to report on: their folder, their paths, and what is known of their patients."""

    folder: Path
    paths: tuple[Path, ...]
    sources: Sources

    def name(self, path: Path) -> str:
        """A series' path below the folder, without suffix."""
        name = path.relative_to(self.folder).as_posix()
        return name.removesuffix(".gz").removesuffix(".nii")


def wrap(engine: Engine, scale: int, name: str) -> Model:
    """An engine as weights of the product: edges grid, bicubic reduction, slices as a whole.

    The engine sees a margin of 4 mirrored LR samples, as shipped weights do.
    """
    card = Card(
        name=name,
        network={"name": name},
        scale=scale,
        grid="edges",
        degradation="bicubic",
        normalisation="99.9th percentile of the non-zero voxels of the series",
        receptive_field=WHOLE,
        padding=4,
        spacing=(0.0, 0.0),
        training={},
        data=(),
        licence="",
        metrics={},
        sha256="",
    )
    return Model(card, engine, threads=1, core=WHOLE)


def find_tests(folder: Path, sheet: Path | None) -> Tests:
    """The series under a folder, by path; `sheet` is a `sources.toml` that names the patients.

    Raises:
        InputError: there is no series.
        ConfigError: the sheet has mistakes.
    """
    paths = tuple(find_series(folder))
    if not paths:
        raise InputError(f"Expected NIfTI files or DICOM series under {folder}, found none.")
    return Tests(folder, paths, load_sources(sheet, folder) if sheet else Sources(folder))


def pair(path: Path, scale: int) -> tuple[Volume, Volume]:
    """LR as the papers make it, in floats, and HR cropped to what LR covers."""
    hr = load(path)
    lr = degrade(hr, scale, "bicubic", dtype=np.dtype(np.float32))
    sizes = tuple(lr.voxels.shape[axis] * scale for axis in lr.in_plane_axes)
    return lr, hr.cropped((sizes[0], sizes[1]))


def evaluate(
    tests: Tests,
    model: Model,
    report: Callable[[str], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, Any]] | None:
    """For each series its name, patient, and lists over slices: their numbers and `FIGURES`.

    Slices with less than 12 % foreground are left out. None if `stop()` was true before the end.
    """
    results = []
    for path in tests.paths:
        if stop():
            return None
        name = tests.name(path)
        report(name)
        lr, hr = pair(path, model.card.scale)
        sr = upscale(lr, model.card.scale, model, whole=True)
        truth, result = hr.slices(), sr.slices()
        unit, peak = series_scale(truth), float(truth.max())
        kept = [i for i, a in enumerate(truth) if foreground_share(a, unit) >= FOREGROUND_SHARE]
        rows = [figures(truth[i], result[i], peak, model.card.scale) for i in kept]
        columns = {figure: [row[figure] for row in rows] for figure in FIGURES}
        patient = patient_of(path, hr, tests.sources)
        results.append({"series": name, "patient": patient, "slices": kept} | columns)
    return results


def figures(
    truth: NDArray[np.number], result: NDArray[np.number], peak: float, border: int
) -> dict[str, float]:
    """`FIGURES` of one slice; PSNR in dB."""
    inner = (slice(border, -border),) * 2
    coarse, coarse_result = (
        np.clip(np.rint(np.asarray(a, np.float64) * (BITS / peak)), 0, BITS)
        for a in (truth, result)
    )
    values = (
        psnr(truth, result, data_range=peak),
        psnr(truth[inner], result[inner], data_range=peak),
        psnr(coarse, coarse_result, data_range=BITS),
        psnr(coarse[inner], coarse_result[inner], data_range=BITS),
        ssim(truth, result, data_range=peak),
    )
    return {name: round(value, 5) for name, value in zip(FIGURES, values, strict=True)}
