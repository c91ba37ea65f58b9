"""Low-resolution series from high-resolution ones, as training and measurements see them."""

import dataclasses
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrlift._version import __version__
from mrlift.errors import InputError
from mrlift.inference.normalise import series_scale
from mrlift.resampling import Grid, bicubic_down, filled_size, kspace_down, rician_noise
from mrlift.volume import Derivation, Volume, fit_dtype

Kind = Literal["bicubic", "kspace"]


def degrade_slice(
    hr: NDArray[np.float32],
    scale: int,
    kind: Kind,
    grid: Grid,
    sigma: float,
    rng: "np.random.Generator",
) -> NDArray[np.float32]:
    """One LR slice (h, w) from an HR slice (H, W) that whole LR samples fill.

    `sigma` is that of the Rician noise in the slice's own units; 0 adds none.
    """
    lr = bicubic_down(hr, scale, grid) if kind == "bicubic" else kspace_down(hr, scale)
    return rician_noise(lr, sigma, rng) if sigma else lr


def degrade(
    volume: Volume,
    scale: int,
    kind: Kind = "bicubic",
    *,
    grid: Grid = "edges",
    noise: float = 0.0,
    seed: int = 0,
    dtype: np.dtype | None = None,
) -> Volume:
    """The volume at 1/scale of its in-plane resolution.

    Args:
        volume: the HR series; sizes that are no multiple of `scale` are cropped at the far edges.
        scale: in-plane factor.
        kind: "bicubic" (MATLAB's imresize) or "kspace" (the central part of k-space, edges only).
        grid: where LR samples lie, see `mrlift.resampling`.
        noise: standard deviation of Rician noise as a share of the series' 99.9th percentile.
        seed: of the noise.
        dtype: of the result; None keeps that of the volume, rounded and clipped.

    Raises:
        InputError: slices smaller than one LR voxel, or k-space on the paper grid.
    """
    if kind == "kspace" and grid != "edges":
        raise InputError("Cropping k-space gives LR samples on the edges grid only.")
    height, width = (
        filled_size(volume.voxels.shape[axis], scale, grid) for axis in volume.in_plane_axes
    )
    if not (height and width):
        raise InputError(
            f"Slices of {volume.slices().shape[1:]} voxels cannot be reduced {scale}x."
        )
    volume = volume.cropped((height, width))
    stack = volume.slices()
    sigma = noise * series_scale(stack)
    rng = np.random.default_rng(seed)
    dtype = dtype or volume.voxels.dtype
    reduced = []
    for image in stack:
        lr = degrade_slice(image.astype(np.float32), scale, kind, grid, sigma, rng)
        reduced.append(fit_dtype(lr, dtype))
    small = volume.resized(volume.voxels_from_slices(np.stack(reduced)), Fraction(1, scale), grid)
    label = f"mrlift degraded /{scale}"
    description = (
        f"Reduced {scale} times in-plane by mrlift {__version__}: {kind}, Rician noise {noise:g} "
        f"of the 99.9th percentile (seed {seed}). For research only; not for diagnosis."
    )
    step = Derivation(label, description, f"degrade {kind}", __version__)
    return dataclasses.replace(small, derivation=step.after(volume.derivation))
