"""`upscale`: normalise, run the network slice by slice, restore intensities, dtype, geometry."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from mrlift._version import __version__
from mrlift.errors import InputError, ModelError
from mrlift.inference.card import Card
from mrlift.inference.degradation import Kind
from mrlift.inference.engines import Engine, cores
from mrlift.inference.normalise import series_scale
from mrlift.inference.patches import upscale_slice
from mrlift.inference.zoo import Model, load_model
from mrlift.resampling import hr_size
from mrlift.volume import Derivation, Volume, fit_dtype

ROWS = 256  # SR rows that are brought back to the source's type at once
INSIDE = 8  # threads within one slice, at most
SHARE = 4096  # LR samples of a slice for each of them, at least
Progress = Callable[[int, int], None]


def upscale(
    volume: Volume,
    scale: int | None = None,
    model: str | Path | Model | None = None,
    *,
    degradation: Kind | None = None,
    threads: int = 0,
    whole: bool | None = None,
    progress: Progress | None = None,
) -> Volume:
    """The volume at `scale` times its in-plane resolution.

    Args:
        volume: what to sharpen; any intensity unit.
        scale: in-plane factor; None takes that of `model`, or 2.
        model: a loaded model, the name of shipped weights, or the path of an .onnx file; None
            takes the shipped ones for `scale` and `degradation`.
        degradation: what made the volume low-resolution, see `load_model`.
        threads: CPU threads; 0 takes all cores.
        whole: run the network on air too, instead of interpolating there; inside the object the
            two agree to 1e-5 of the series' scale. None does so only for weights that remove noise:
            air that kept its noise would show around the object.
        progress: called with (slices done, slices in all).

    Returns:
        A volume of the same dtype with moved affine and a `derivation`. Integers are rounded and
        clipped to their type; floats keep the small over- and undershoot of the network.

    Raises:
        ModelError: no weights for this scale, or damaged weights.
        InputError: voxels that are NaN or infinite.
    """
    if not isinstance(model, Model):
        model = load_model(model, scale=scale, degradation=degradation, threads=threads)
    card = model.card
    if scale not in (None, card.scale):
        raise ModelError(f"{card.name} upscales {card.scale} times, but scale {scale} was asked.")
    if not np.isfinite(volume.voxels).all():
        raise InputError("Expected finite voxels, found some that are NaN or infinite.")
    whole = card.denoises if whole is None else whole
    stack = volume.slices()
    # Each time point has its own unit, so that it comes out as it would alone.
    units = [series_scale(part) for part in np.split(stack, math.prod(volume.voxels.shape[3:]))]
    each = len(stack) // len(units)
    height, width = (hr_size(n, card.scale, card.grid) for n in stack.shape[1:])
    result = np.empty((len(stack), height, width), volume.voxels.dtype)
    workers, engine = _side_by_side(model, len(stack), stack[0].size)

    def one(index: int) -> None:
        unit = units[index // each]
        normalised = (stack[index] / unit).astype(np.float32)
        sr = upscale_slice(normalised, engine, card, model.core, whole=whole)
        for first in range(0, height, ROWS):  # in float64, so a few rows at a time
            rows = slice(first, first + ROWS)
            result[index, rows] = fit_dtype(sr[rows] * np.float64(unit), volume.voxels.dtype)

    for done in _each(one, len(stack), workers):
        if progress:
            progress(done, len(stack))
    resized = volume.resized(volume.voxels_from_slices(result), card.scale, card.grid)
    return dataclasses.replace(resized, derivation=_derivation(card).after(volume.derivation))


def _side_by_side(model: Model, slices: int, pixels: int) -> tuple[int, Engine]:
    """How many slices to work on at once, and an engine with its share of the threads.

    Threads inside a slice share its memory, but beyond some thousand LR samples for each, or some
    eight of them, they wait for each other more than they work.
    """
    threads = model.threads or cores()
    inside = max(1, min(threads, INSIDE, round(pixels / SHARE)))
    workers = min(threads // inside, slices)
    if workers <= 1 or model.reopen is None:
        return 1, model.engine
    return workers, model.reopen(threads // workers)


def _each(work: Callable[[int], None], count: int, workers: int) -> Iterator[int]:
    """Do `work` for each index; yields how many are done."""
    if workers == 1:
        for index in range(count):
            work(index)
            yield index + 1
        return
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, index) for index in range(count)]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                yield done
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _derivation(card: Card) -> Derivation:
    return Derivation(
        label=f"mrlift x{card.scale}",
        description=(
            f"Super-resolved {card.scale} times in-plane by mrlift {__version__} with the network "
            f"weights {card.name} (sha256 {card.sha256}), grid {card.grid}, trained on "
            f"{card.degradation} degradation. Details below the resolution of the source are "
            "estimated, not measured. For research only; not for diagnosis."
        ),
        model=card.name,
        version=__version__,
    )
