"""Slice-by-slice comparison of a result with the truth."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import GeometryError, InputError
from mrlift.inference.normalise import FOREGROUND_SHARE, foreground_share, series_scale
from mrlift.metrics import WINDOW, nrmse, psnr, ssim
from mrlift.volume import Volume

SAME_PLACE = 0.05  # voxels by which the two grids may differ anywhere
SPARE = 3  # voxels a side that HR may have more, left over by a reduction of up to 4 times


@dataclass(frozen=True)
class Comparison:
    """Figures of the compared slices: rows with slice, psnr (dB), ssim and nrmse."""

    data_range: float
    rows: tuple[dict[str, float], ...]

    @property
    def mean(self) -> dict[str, float]:
        """Means over the slices."""
        names = ("psnr", "ssim", "nrmse")
        return {name: float(np.mean([row[name] for row in self.rows])) for name in names}


def compare(
    sr: Volume,
    hr: Volume,
    *,
    data_range: float | None = None,
    foreground: float = FOREGROUND_SHARE,
) -> Comparison:
    """PSNR, SSIM and NRMSE of every slice of `hr` with enough foreground.

    Args:
        sr: the result.
        hr: the truth; up to 3 voxels a side more than `sr` are left out.
        data_range: peak of PSNR and SSIM; None takes the maximum of `hr`.
        foreground: least share of a slice above a tenth of the 99.9th percentile of `hr`.

    Raises:
        GeometryError: the two are not on the same grid.
        InputError: no slice has enough foreground, or slices smaller than SSIM's window.
    """
    hr = _on_grid_of(sr, hr)
    truth, result = hr.slices(), sr.slices()
    peak = float(truth.max()) if data_range is None else data_range
    if peak <= 0:
        raise InputError(f"The data range must be positive, found {peak:g}. Pass --data-range.")
    unit = series_scale(truth)
    rows = tuple(
        {"slice": index, **_figures(a, b, peak)}
        for index, (a, b) in enumerate(zip(truth, result, strict=True))
        if foreground_share(a, unit) >= foreground
    )
    if not rows:
        raise InputError(
            f"No slice has a foreground of {foreground:.0%} or more. Pass a lower --foreground."
        )
    return Comparison(peak, rows)


def _figures(
    truth: NDArray[np.number], result: NDArray[np.number], peak: float
) -> dict[str, float]:
    return {
        "psnr": psnr(truth, result, data_range=peak),
        "ssim": ssim(truth, result, data_range=peak),
        "nrmse": nrmse(truth, result),
    }


def _on_grid_of(sr: Volume, hr: Volume) -> Volume:
    hr = replace(hr, slice_axis=sr.slice_axis)
    first, second = (sr.voxels.shape[axis] for axis in sr.in_plane_axes)
    whole = hr.voxels.shape
    hr = hr.cropped((first, second))
    if hr.voxels.shape != sr.voxels.shape or np.max(np.subtract(whole, hr.voxels.shape)) > SPARE:
        raise GeometryError(
            f"Expected two volumes of one size, found {sr.voxels.shape} and {whole}."
        )
    if min(first, second) < WINDOW:
        raise InputError(f"SSIM needs slices of {WINDOW}x{WINDOW} or more: {first}x{second} found.")
    corner = np.array([*sr.voxels.shape[:3], 1.0])
    origin = np.array([0.0, 0.0, 0.0, 1.0])
    inverse = np.linalg.inv(hr.affine)
    apart = max(float(np.abs(inverse @ sr.affine @ v - v).max()) for v in (corner, origin))
    if apart > SAME_PLACE:
        raise GeometryError(
            f"The two volumes lie up to {apart:.3g} voxels apart in the patient. Compare results "
            "with the truth that they were made from."
        )
    return hr
