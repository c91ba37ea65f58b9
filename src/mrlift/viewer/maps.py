"""What the page shows beside a series and its result, on grids that `Volume.resized` gives."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import GeometryError, InputError
from mrlift.inference.degradation import Kind, degrade
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.resampling import Grid, bicubic_up, hr_size
from mrlift.volume import Volume, fit_dtype

SCALES = (2, 3, 4)
GRIDS: tuple[Grid, ...] = ("edges", "paper")
APART = 0.05  # of a voxel of the result: headers round positions


def relation(lr: Volume, sr: Volume) -> tuple[int, Grid]:
    """The scale and the grid on which `sr` is `lr` at a higher in-plane resolution.

    Raises:
        InputError: it is not: sizes, place or time points differ.
    """
    sr = replace(sr, slice_axis=lr.slice_axis)
    fits = False
    for scale in SCALES:
        for grid in GRIDS:
            try:
                wanted = lr.resized(sr.voxels, scale, grid).affine
            except (GeometryError, ValueError):  # ValueError: 3-D beside 4-D
                continue
            fits = True
            corners = np.array(np.meshgrid(*([0, n - 1] for n in sr.voxels.shape[:3]))).reshape(
                3, -1
            )
            moved = (wanted - sr.affine)[:3] @ np.vstack([corners, np.ones(8)])
            if np.abs(moved).max() <= APART * min(sr.spacing):
                return scale, grid
    sizes = [
        " x ".join(
            str(hr_size(n, scale) if axis in lr.in_plane_axes else n)
            for axis, n in enumerate(lr.voxels.shape)
        )
        for scale in SCALES
    ]
    found = " x ".join(map(str, sr.voxels.shape))
    raise InputError(
        "The second series is not the first at 2, 3 or 4 times its in-plane resolution: "
        + (
            "its size fits, but it lies elsewhere in the patient. "
            if fits
            else f"expected {', '.join(sizes[:-1])} or {sizes[-1]} voxels, found {found}. "
        )
        + "Give the low-resolution series first and its result second."
    )


def bicubic(lr: Volume, scale: int, grid: Grid) -> Volume:
    """`lr` interpolated onto the grid of a result, in its own type."""
    stack = lr.slices()
    planes = [
        fit_dtype(bicubic_up(plane.astype(np.float32), scale, grid), lr.voxels.dtype)
        for plane in stack
    ]
    return lr.resized(lr.voxels_from_slices(np.stack(planes)), scale, grid)


def residual(lr: Volume, sr: Volume, scale: int, grid: Grid, kind: Kind) -> Volume:
    """The result, degraded as `kind` says, minus the input: float32 on the grid of `lr`.

    What is left over is what the result claims and the input does not show.
    """
    sr = replace(sr, slice_axis=lr.slice_axis)
    small = degrade(sr, scale, kind, grid=grid, dtype=np.dtype(np.float32))
    return replace(lr, voxels=small.voxels - lr.voxels.astype(np.float32))


def spread(lr: Volume, model: Model, progress: Callable[[int, int], None]) -> Volume:
    """How much the result depends on which way up the network sees the slices.

    Args:
        lr: the series.
        model: the weights.
        progress: called with (slices done, slices in all).

    Returns:
        The standard deviation over the eight flips and transposes of each slice, float32, in the
        units of `lr`, on the grid of the result.
    """
    axes = lr.in_plane_axes
    voxels = lr.voxels.astype(np.float32)
    total = 8 * lr.slice_count
    reference: NDArray[np.float32] | None = None
    for turn in range(8):
        flipped = tuple(axis for bit, axis in enumerate(axes) if turn >> bit & 1)
        turned = np.flip(voxels, flipped)
        turned = np.swapaxes(turned, *axes) if turn & 4 else turned

        def step(done: int, count: int, before: int = turn) -> None:
            progress(before * count + done, total)

        result = upscale(replace(lr, voxels=turned), None, model, progress=step).voxels
        result = np.swapaxes(result, *axes) if turn & 4 else result
        sr = np.flip(result, flipped).astype(np.float32)
        if reference is None:
            # Sums of small differences from the first keep their figures in float32.
            reference = sr
            first, second = np.zeros_like(reference), np.zeros_like(reference)
            continue
        difference = sr - reference
        first += difference
        second += difference**2
    deviation = np.sqrt(np.maximum(second / 8 - (first / 8) ** 2, 0))
    return lr.resized(deviation, model.card.scale, model.card.grid)
