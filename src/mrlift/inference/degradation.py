"""Low-resolution series from high-resolution ones, as training and measurements see them."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

import numpy as np

from mrlift._version import __version__
from mrlift.inference.normalise import series_scale
from mrlift.resampling import Image, bicubic_down, kspace_down, rician_noise
from mrlift.volume import Derivation, Volume, fit_dtype

Kind = Literal["bicubic", "kspace"]
DEGRADATIONS: dict[Kind, Callable[[Image, int], Image]] = {
    "bicubic": bicubic_down,
    "kspace": kspace_down,
}


def cropped_to_multiple(volume: Volume, scale: int) -> Volume:
    """Without the last in-plane rows and columns that do not fill an LR voxel."""
    sizes = list(volume.voxels.shape[:3])
    for axis in volume.in_plane_axes:
        sizes[axis] -= sizes[axis] % scale
    return volume.cropped(sizes)


def degrade(
    volume: Volume,
    scale: int,
    kind: Kind = "bicubic",
    *,
    noise: float = 0.0,
    seed: int = 0,
    dtype: np.dtype | None = None,
) -> Volume:
    """The volume at 1/scale of its in-plane resolution, on the edges grid.

    Args:
        volume: the HR series; sizes that are no multiple of `scale` are cropped at the far edges.
        scale: in-plane factor.
        kind: "bicubic" (MATLAB's imresize) or "kspace" (the central part of k-space).
        noise: standard deviation of Rician noise as a share of the series' 99.9th percentile.
        seed: of the noise.
        dtype: of the result; None keeps that of the volume, rounded and clipped.
    """
    volume = cropped_to_multiple(volume, scale)
    stack = volume.slices()
    sigma = noise * series_scale(stack)
    rng = np.random.default_rng(seed)
    dtype = dtype or volume.voxels.dtype
    reduced = []
    for image in stack:
        lr = DEGRADATIONS[kind](image.astype(np.float32), scale)
        lr = rician_noise(lr, sigma, rng) if sigma else lr
        reduced.append(fit_dtype(lr, dtype))
    small = volume.resized(volume.voxels_from_slices(np.stack(reduced)), Fraction(1, scale))
    label = f"mrlift degraded /{scale}"
    description = (
        f"Reduced {scale} times in-plane by mrlift {__version__}: {kind}, Rician noise {noise:g} "
        "of the 99.9th percentile. For research only; not for diagnosis."
    )
    return dataclasses.replace(
        small, derivation=Derivation(label, description, f"degrade {kind}", __version__)
    )
