"""`upscale`: normalise, run the network slice by slice, restore intensities, dtype, geometry."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrlift._version import __version__
from mrlift.errors import InputError, ModelError
from mrlift.inference.card import Card
from mrlift.inference.degradation import Kind
from mrlift.inference.normalise import series_scale
from mrlift.inference.patches import upscale_slice
from mrlift.inference.zoo import Model, load_model
from mrlift.resampling import hr_size
from mrlift.volume import Derivation, Volume, fit_dtype

Progress = Callable[[int, int], None]


def upscale(
    volume: Volume,
    scale: int | None = None,
    model: str | Path | Model | None = None,
    *,
    degradation: Kind | None = None,
    threads: int = 0,
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
    stack = volume.slices()
    # Each time point has its own unit, so that it comes out as it would alone.
    units = [series_scale(part) for part in np.split(stack, math.prod(volume.voxels.shape[3:]))]
    each = len(stack) // len(units)
    height, width = (hr_size(n, card.scale, card.grid) for n in stack.shape[1:])
    result = np.empty((len(stack), height, width), volume.voxels.dtype)
    for index, image in enumerate(stack):
        unit = units[index // each]
        normalised = (image / unit).astype(np.float32)
        sr = upscale_slice(normalised, model.engine, card)
        result[index] = fit_dtype(sr * np.float64(unit), volume.voxels.dtype)
        if progress:
            progress(index + 1, len(stack))
    resized = volume.resized(volume.voxels_from_slices(result), card.scale, card.grid)
    return dataclasses.replace(resized, derivation=_derivation(card).after(volume.derivation))


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
