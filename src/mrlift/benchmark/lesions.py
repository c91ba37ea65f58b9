"""What becomes of small lesions: inserted into real slices, degraded, upscaled and measured.

A lesion is an irregular ellipsoid of 2 to 6 mm, centred on a slice, added to real tissue with a
known contrast; voxels at its border hold their share of it, in-plane and through the slice. The
series is degraded and upscaled with and without lesions, with the same noise. What the two differ
by is what was made of them, so anatomy does not disturb the measure. Invented structures are
counted in the series without lesions: blobs in the result that the truth does not have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.inference.degradation import Kind, degrade
from mrlift.inference.normalise import FOREGROUND_LEVEL, series_scale
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.io import find_series, load
from mrlift.resampling import Grid, bicubic_up, filled_size
from mrlift.volume import Volume

DIAMETERS = (2.0, 3.0, 4.0, 6.0)  # mm in-plane
CONTRAST = 0.3  # of the tissue around; bright and dark in turn
APART = 16.0  # mm between the centres of two lesions
AROUND = 8.0  # mm: side of the window that tissue is judged by
CALM = 25.0  # per cent of tissue, the calmest, that lesions are put into
FINE = 9  # samples along a voxel's side that its share is found by
LOBES = 0.15  # of the radius, by which the outline is irregular
PER_SLICE = 8
FAINT = 0.1  # contrast from which a blob counts as an invented structure
REACH = 3.0  # mm around a lesion that still count as its picture
BLOBS = (2.0, 4.0, 6.0)  # mm: sizes that invented structures are looked for in

Array = NDArray[np.float64]
Method = Callable[[Volume], Volume]  # LR to SR


@dataclass(frozen=True)
class Lesion:
    """One inserted lesion.

    Attributes:
        slice_index: of the stack.
        centre: row and column, voxels, with fractions.
        diameter: mm, of the circle that the outline wavers around.
        height: added to tissue where a voxel is all lesion, in the units of the image.
        share: of each voxel of the slice that is lesion, (H, W).
    """

    slice_index: int
    centre: tuple[float, float]
    diameter: float
    height: float
    share: Array

    @property
    def window(self) -> tuple[slice, slice]:
        """The part of the slice that holds its picture, at least where its share is not zero."""
        rows, columns = np.nonzero(self.share)
        return slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)


def shape_of(
    size: tuple[int, int],
    centre: tuple[float, float],
    diameter: float,
    spacing: tuple[float, float],
    thickness: float,
    rng: np.random.Generator,
) -> Array:
    """The share of each voxel (H, W) that an irregular ellipsoid fills, 0 to 1."""
    radius = diameter / 2
    phases, weights = rng.uniform(0, 2 * np.pi, 3), rng.uniform(-1, 1, 3)
    share = np.zeros(size)
    reach = [int(np.ceil(radius * (1 + 2 * LOBES) / s)) + 1 for s in spacing]
    first = [max(0, int(c) - r) for c, r in zip(centre, reach, strict=True)]
    last = [min(n, int(c) + r + 1) for n, c, r in zip(size, centre, reach, strict=True)]
    y, x = (
        ((np.arange(FINE * (b - a)) + 0.5) / FINE + a - 0.5 - c) * s
        for a, b, c, s in zip(first, last, centre, spacing, strict=True)
    )
    far, angle = np.hypot(y[:, None], x), np.arctan2(y[:, None], x)
    waves = sum(
        w * np.cos((k + 2) * angle + p)
        for k, (w, p) in enumerate(zip(weights, phases, strict=True))
    )
    outline = radius * (1 + LOBES * waves / 2)
    depth = diameter * np.sqrt(np.clip(1 - (far / outline) ** 2, 0, 1))
    through = np.minimum(1, depth / thickness)
    blocks = through.reshape(last[0] - first[0], FINE, last[1] - first[1], FINE)
    share[first[0] : last[0], first[1] : last[1]] = blocks.mean(axis=(1, 3))
    return share


def place(volume: Volume, rng: np.random.Generator, contrast: float = CONTRAST) -> list[Lesion]:
    """Lesions for each slice of a volume, in calm tissue, well apart; sizes and signs in turn."""
    stack, unit = volume.slices().astype(np.float64), series_scale(volume.slices())
    first, second = volume.in_plane_axes
    spacing = volume.spacing[first], volume.spacing[second]
    thickness = volume.spacing[volume.slice_axis]
    kinds = [(d, sign) for d in DIAMETERS for sign in (1, -1)]
    lesions: list[Lesion] = []
    for index, image in enumerate(stack):
        mean, calm = tissue(image, unit, spacing)
        spots = np.argwhere(calm)
        rng.shuffle(spots)
        taken: list[NDArray[np.intp]] = []
        for spot in spots:
            if len(taken) == PER_SLICE:
                break
            if any(np.hypot(*((spot - t) * spacing)) < APART for t in taken):
                continue
            taken.append(spot)
            diameter, sign = kinds[len(lesions) % len(kinds)]
            row, column = (float(v) for v in spot + rng.uniform(-0.5, 0.5, 2))
            share = shape_of(image.shape, (row, column), diameter, spacing, thickness, rng)
            height = sign * contrast * float(mean[tuple(spot)])
            lesions.append(Lesion(index, (row, column), diameter, height, share))
    return lesions


def tissue(
    image: Array, unit: float, spacing: tuple[float, float]
) -> tuple[Array, NDArray[np.bool_]]:
    """The local mean of a slice, and where it is calm tissue that lesions can be put into."""
    sides = [max(1, round(AROUND / s)) for s in spacing]
    mean, square = _box(image, sides), _box(image * image, sides)
    rough = np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1e-9)
    inside = (mean > 0.2 * unit) & (mean < 0.9 * unit)
    border = [round(AROUND / s) for s in spacing]
    inside[: border[0]] = inside[-border[0] :] = False
    inside[:, : border[1]] = inside[:, -border[1] :] = False
    if not inside.any():
        return mean, inside
    return mean, inside & (rough <= np.percentile(rough[inside], CALM))


def insert(volume: Volume, lesions: Sequence[Lesion]) -> Volume:
    """The volume with all lesions added, as float32."""
    stack = volume.slices().astype(np.float32)
    for lesion in lesions:
        stack[lesion.slice_index] += (lesion.height * lesion.share).astype(np.float32)
    return replace(volume, voxels=volume.voxels_from_slices(stack))


def measure_lesion(
    lesion: Lesion, difference: Array, spacing: tuple[float, float]
) -> dict[str, float]:
    """What is left of a lesion in the difference (H, W) between results with and without it.

    Returns:
        volume: the area above half of the inserted one's peak, over the same of the inserted one,
            minus 1; -1 where so much is reached nowhere.
        contrast: the mean over voxels that are more than half as much lesion as the fullest, over
            the same of the inserted one, minus 1.
        amount: the sum over all voxels around, over the same of the inserted one, minus 1.
    """
    rows, columns = lesion.window
    grow = [round(REACH / s) for s in spacing]
    around = (
        slice(max(0, rows.start - grow[0]), rows.stop + grow[0]),
        slice(max(0, columns.start - grow[1]), columns.stop + grow[1]),
    )
    truth = lesion.share[around]
    found = difference[around] / lesion.height
    core = truth > truth.max() / 2
    area = np.count_nonzero(_finer(found) > truth.max() / 2)
    wanted = np.count_nonzero(_finer(truth) > truth.max() / 2)
    return {
        "volume": area / wanted - 1,
        "contrast": float(found[core].mean() / truth[core].mean()) - 1,
        "amount": float(found.sum() / truth.sum()) - 1,
    }


def invented(
    truth: Array, result: Array, unit: float, spacing: tuple[float, float]
) -> tuple[int, float]:
    """Blobs of a result (H, W) that the truth lacks, and the area of tissue searched, cm^2.

    A blob is an extreme of the difference of two Gaussians, at least as strong as that of a disc of
    a tenth of the tissue's contrast; the truth lacks it where it has none half as strong within a
    radius.
    """
    mean = _box(truth, [max(1, round(AROUND / s)) for s in spacing])
    inside = mean > 2 * FOREGROUND_LEVEL * unit
    count = 0
    for size in BLOBS:
        limit = FAINT * _response(size, spacing)
        seen, real = (_blob(p, size, spacing) / np.maximum(mean, 1e-9) for p in (result, truth))
        reach = [max(1, round(size / 2 / s)) for s in spacing]
        for sign in (1, -1):
            strong = (sign * seen >= limit) & (seen * sign == _most(sign * seen, reach))
            count += int(
                np.count_nonzero(strong & inside & (_most(sign * real, reach) < limit / 2))
            )
    return count, float(np.count_nonzero(inside)) * spacing[0] * spacing[1] / 100


def measure_series(
    hr: Volume,
    methods: dict[str, Method],
    scale: int,
    kind: Kind,
    grid: Grid,
    noise: float,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """For each method, one row for each lesion, and what it invents in the series without any."""
    height, width = (filled_size(hr.voxels.shape[a], scale, grid) for a in hr.in_plane_axes)
    hr = hr.cropped((height, width))
    spacing = hr.spacing[hr.in_plane_axes[0]], hr.spacing[hr.in_plane_axes[1]]
    lesions = place(hr, np.random.default_rng(seed))
    real = np.dtype(np.float32)
    low = [
        degrade(v, scale, kind, grid=grid, noise=noise, seed=seed, dtype=real)
        for v in (insert(hr, []), insert(hr, lesions))
    ]
    truth, unit = hr.slices().astype(np.float64), series_scale(hr.slices())
    results: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        without, with_lesions = (method(v).slices().astype(np.float64) for v in low)
        rows = [
            {"diameter": x.diameter, "sign": int(np.sign(x.height))}
            | measure_lesion(x, (with_lesions - without)[x.slice_index], spacing)
            for x in lesions
        ]
        found = [invented(t, r, unit, spacing) for t, r in zip(truth, without, strict=True)]
        results[name] = {
            "lesions": rows,
            "invented": sum(f[0] for f in found),
            "tissue_cm2": sum(f[1] for f in found),
        }
    return results


def measure(
    path: Path,
    models: Sequence[Model],
    slices: int,
    noise: float,
    seed: int,
    report: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """`measure_series` of every series under `path`, put together for each method.

    Args:
        path: a folder of HR series that the weights were not trained on, or one series.
        models: beside bicubic interpolation, which is measured for each degradation and scale.
        slices: of each series, evenly from its middle, where there is tissue on all sides.
        noise: Rician, for weights of k-space; share of the 99.9th percentile.
        seed: of places, shapes and noise.
        report: is given a line for each series and degradation.

    Raises:
        InputError: there is no series.
    """
    paths = find_series(path) if path.is_dir() else [path]
    if not paths:
        raise InputError(f"Expected NIfTI files or DICOM series under {path}, found none.")
    kinds: dict[tuple[Kind, int, Grid], list[Model]] = {}
    for model in models:
        card = model.card
        kinds.setdefault((card.degradation, card.scale, card.grid), []).append(model)
    results: dict[str, dict[str, Any]] = {}
    for number, series in enumerate(paths):
        hr = middle_slices(load(series), slices)
        for (kind, scale, grid), group in kinds.items():
            methods = {f"bicubic, x{scale} {kind}": _bicubic(scale, grid)}
            methods |= {m.card.name: partial(upscale, model=m) for m in group}
            level = noise if kind == "kspace" else 0.0
            found = measure_series(hr, methods, scale, kind, grid, level, seed + number)
            for name, result in found.items():
                whole = results.setdefault(
                    name, {"method": name, "lesions": [], "invented": 0, "tissue_cm2": 0.0}
                )
                for key, value in result.items():
                    whole[key] += value
            report(f"{series.name}: x{scale} {kind} done")
    return [
        r | {"table": summary(r["lesions"]), "lesions": len(r["lesions"])} for r in results.values()
    ]


def middle_slices(volume: Volume, count: int) -> Volume:
    """At most `count` slices, evenly from the middle of a volume, as a volume of their own.

    Their distance in the affine stays that of neighbours: they are measured one by one.
    """
    total = volume.voxels.shape[volume.slice_axis]
    chosen = np.unique(np.linspace(0.3 * total, 0.75 * total, count).astype(int))
    return replace(volume, voxels=np.take(volume.voxels, chosen, volume.slice_axis))


def _bicubic(scale: int, grid: Grid) -> Method:
    def method(lr: Volume) -> Volume:
        slices = bicubic_up(lr.slices().astype(np.float32), scale, grid)
        return lr.resized(lr.voxels_from_slices(slices), scale, grid)

    return method


def summary(rows: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Mean and standard deviation of each figure, by diameter and sign."""
    table = []
    for diameter in sorted({r["diameter"] for r in rows}):
        for sign in (1, -1):
            group = [r for r in rows if r["diameter"] == diameter and r["sign"] == sign]
            if not group:
                continue
            line: dict[str, float] = {"diameter": diameter, "sign": sign, "lesions": len(group)}
            for figure in ("volume", "contrast", "amount"):
                values = [r[figure] for r in group]
                line[figure] = float(np.mean(values))
                line[f"{figure}_deviation"] = float(np.std(values))
            line["lost"] = float(np.mean([r["contrast"] < -0.5 for r in group]))
            table.append(line)
    return table


def _box(image: Array, sides: Sequence[int]) -> Array:
    """The mean over a window of odd sides, mirrored at the border."""
    for axis, side in enumerate(sides):
        reach = side // 2
        pad = [(reach + 1, reach) if a == axis else (0, 0) for a in (0, 1)]
        total = np.cumsum(np.pad(image, pad, mode="symmetric"), axis=axis)
        size = image.shape[axis]
        upper = np.take(total, range(2 * reach + 1, 2 * reach + 1 + size), axis)
        image = (upper - np.take(total, range(size), axis)) / (2 * reach + 1)
    return image


def _gaussian(image: Array, sigma: float, spacing: tuple[float, float]) -> Array:
    """A Gaussian of `sigma` mm."""
    frequencies = [np.fft.fftfreq(n, s) for n, s in zip(image.shape, spacing, strict=True)]
    squared = frequencies[0][:, None] ** 2 + frequencies[1] ** 2
    blurred: Array = np.fft.ifft2(
        np.fft.fft2(image) * np.exp(-2 * (np.pi * sigma) ** 2 * squared)
    ).real
    return blurred


def _blob(image: Array, size: float, spacing: tuple[float, float]) -> Array:
    """The difference of two Gaussians that answers most to discs of `size` mm."""
    return _gaussian(image, size / 4, spacing) - _gaussian(image, size / 2, spacing)


def _response(size: float, spacing: tuple[float, float]) -> float:
    """What `_blob` answers to a disc of `size` mm and height 1."""
    count = 32
    y, x = ((np.arange(count) - count // 2) * s for s in spacing)
    disc = (np.hypot(y[:, None], x) <= size / 2).astype(np.float64)
    return float(_blob(disc, size, spacing).max())


def _most(image: Array, reach: Sequence[int]) -> Array:
    """The largest value within `reach` rows and columns."""
    for axis, by in enumerate(reach):
        pad = [(by, by) if a == axis else (0, 0) for a in (0, 1)]
        padded, size = np.pad(image, pad, mode="edge"), image.shape[axis]
        parts = [np.take(padded, range(k, k + size), axis) for k in range(2 * by + 1)]
        image = np.maximum.reduce(parts)
    return image


def _finer(image: Array, times: int = 4) -> Array:
    """Linear interpolation to a finer grid, so that areas are not counted in whole voxels."""
    for axis in (0, 1):
        at = np.linspace(0, image.shape[axis] - 1, times * image.shape[axis])
        below = np.minimum(at.astype(int), image.shape[axis] - 2)
        weight = at - below if axis == 1 else (at - below)[:, None]
        lower, upper = np.take(image, below, axis), np.take(image, below + 1, axis)
        image = lower + weight * (upper - lower)
    return image
