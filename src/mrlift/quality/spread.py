"""The eight flips and transposes of a slice: their mean is a better result, their spread a doubt.

A network should not care which way round a head lies. Where it does, it is guessing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrlift._version import __version__
from mrlift.inference.card import Card
from mrlift.inference.pipeline import Progress, upscale
from mrlift.inference.zoo import Model
from mrlift.volume import Derivation, Volume, fit_dtype

Turn = Callable[[NDArray[np.number]], NDArray[np.number]]
WAYS = 8


@dataclass(frozen=True)
class Ensemble:
    """Eight results of one volume.

    Attributes:
        mean: of the eight, in the type of the volume.
        spread: their standard deviation in each voxel, float32, in the units of the volume.
    """

    mean: Volume
    spread: Volume


def ensemble(
    volume: Volume,
    model: Model,
    *,
    whole: bool | None = None,
    progress: Progress | None = None,
) -> Ensemble:
    """Upscale the eight flips and transposes of each slice and turn them back.

    Takes eight times as long as `upscale`, whose arguments these are; `progress` counts the slices
    of all eight.
    """
    exact = replace(volume, voxels=volume.voxels.astype(np.float32))
    mean: NDArray[np.number] = np.zeros(1, np.float32)
    squares: NDArray[np.number] = np.zeros(1, np.float32)
    single: Volume | None = None
    for count, (turn, back) in enumerate(_turns(volume.in_plane_axes)):
        turned = replace(exact, voxels=np.ascontiguousarray(turn(exact.voxels)))
        sr = upscale(turned, model=model, whole=whole, progress=_shifted(progress, count))
        single = single or sr
        values = back(sr.voxels)
        step = values - mean  # Welford's recurrence, since a sum of squares would lose digits
        mean = mean + step / np.float32(count + 1)
        squares = squares + step * (values - mean)
    assert single is not None
    spread = np.sqrt(squares / np.float32(WAYS))
    whole_mean = replace(
        single,
        voxels=fit_dtype(mean, volume.voxels.dtype),
        derivation=_mean_of(single.derivation),
    )
    doubt = _spread_of(model.card).after(volume.derivation)
    return Ensemble(whole_mean, replace(single, voxels=spread, derivation=doubt))


def _turns(axes: tuple[int, int]) -> Iterator[tuple[Turn, Turn]]:
    """The eight symmetries of the square on two axes, each with its inverse."""
    for flips in ((), axes[:1], axes[1:], axes):
        yield _flip(flips), _flip(flips)
        yield _flip_and_swap(flips, axes), _swap_and_flip(flips, axes)


def _flip(flips: tuple[int, ...]) -> Turn:
    return lambda voxels: np.flip(voxels, flips)


def _flip_and_swap(flips: tuple[int, ...], axes: tuple[int, int]) -> Turn:
    return lambda voxels: np.swapaxes(np.flip(voxels, flips), *axes)


def _swap_and_flip(flips: tuple[int, ...], axes: tuple[int, int]) -> Turn:
    return lambda voxels: np.flip(np.swapaxes(voxels, *axes), flips)


def _shifted(progress: Progress | None, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total: progress(count * total + done, WAYS * total)


def _mean_of(step: Derivation | None) -> Derivation:
    assert step is not None  # `upscale` tells what it did
    return replace(step, description=f"{step.description} Mean of eight flips and transposes.")


def _spread_of(card: Card) -> Derivation:
    return Derivation(
        label=f"mrlift spread x{card.scale}",
        description=(
            f"Spread map by mrlift {__version__}: the standard deviation of eight results of the "
            f"weights {card.name}, one for each flip and transpose of a slice. For research only; "
            "not for diagnosis."
        ),
        model=card.name,
        version=__version__,
        quantity="spread",
    )
