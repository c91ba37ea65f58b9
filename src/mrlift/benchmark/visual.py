"""What Figure 3 shows: the same part of two test slices by every method that was trained."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.benchmark.contest import Contest, trained
from mrlift.benchmark.evaluation import pair, wrap
from mrlift.benchmark.figures import pack
from mrlift.benchmark.protocol import exists, methods
from mrlift.benchmark.quality import circumstances
from mrlift.errors import ConfigError
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.normalise import FOREGROUND_SHARE, foreground_share, series_scale
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.volume import Volume

SIDE = 72  # HR samples a side of the part that is shown, if the slice has as many


def compare(contest: Contest, scale: int) -> dict[str, Any]:
    """Truth and results of two slices, fixed before any result: the middle ones of two series.

    The series are those a third and two thirds down the list of paths; the slice is the middle one
    of those with enough foreground, the part the one with the most detail in the truth.

    Raises:
        ConfigError: no network was trained at this scale.
    """
    models = {"bicubic": wrap(bicubic_engine(scale), scale, "bicubic")}
    for method in (m for m in methods() if exists(m, scale)):
        run = contest.folder / "runs" / f"{method}-x{scale}-s0"
        if (contest.folder / "quality" / f"{run.name}.json").exists():
            models[method] = trained(run, method)
    if len(models) == 1:
        raise ConfigError(f"No network was trained at x{scale} in {contest.folder}: run table2.")
    paths = contest.tests.paths
    chosen = dict.fromkeys((len(paths) // 3, 2 * len(paths) // 3))
    slices = [_slice(contest, number, scale, models) for number in chosen]
    return circumstances(contest.command) | {"scale": scale, "slices": slices}


def _slice(contest: Contest, number: int, scale: int, models: dict[str, Model]) -> dict[str, Any]:
    path = contest.tests.paths[number]
    name = contest.tests.name(path)
    lr, hr = pair(path, scale)
    stack = hr.slices()
    unit, peak = series_scale(stack), float(stack.max())
    kept = [i for i, a in enumerate(stack) if foreground_share(a, unit) >= FOREGROUND_SHARE]
    index = kept[len(kept) // 2]
    truth = stack[index] / peak
    side = min(SIDE, *truth.shape)
    top, left = busiest(truth, side)
    shown = {}
    for method, model in models.items():
        contest.report(f"figure 3, {method}: {name}")
        sr = upscale(_alone(lr, index), scale, model, whole=True).slices()[0] / peak
        part = pack(sr[top : top + side, left : left + side])
        shown[method] = {"psnr": _psnr(contest, method, scale, name, index), "part": part}
    return {
        "series": name,
        "slice": index,
        "window": [top, left, side],
        "truth": pack(truth),
        "methods": shown,
    }


def _psnr(contest: Contest, method: str, scale: int, series: str, index: int) -> float:
    """As the table counts it."""
    name = f"bicubic-x{scale}" if method == "bicubic" else f"{method}-x{scale}-s0"
    file = contest.folder / "quality" / f"{name}.json"
    test = json.loads(file.read_text(encoding="utf-8"))["test"]
    found = next(s for s in test if s["series"] == series)
    return float(found["psnr"][found["slices"].index(index)])


def _alone(volume: Volume, index: int) -> Volume:
    """One slice; its own 99.9th percentile stands for that of its series."""
    lone = [slice(None)] * volume.voxels.ndim
    axis = next(a for a in range(3) if a not in volume.in_plane_axes)
    lone[axis] = slice(index, index + 1)
    return Volume(volume.voxels[tuple(lone)], volume.affine, slice_axis=axis)


def busiest(image: NDArray[np.floating], side: int) -> tuple[int, int]:
    """Top left corner of the square with the largest sum of squared differences."""
    image = np.asarray(image, np.float64)
    energy = np.square(np.diff(image, axis=0))[:, :-1] + np.square(np.diff(image, axis=1))[:-1]
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    width = side - 1
    sums = total[width:, width:] - total[:-width, width:] - total[width:, :-width]
    sums += total[:-width, :-width]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(top), int(left)
