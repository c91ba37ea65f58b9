"""Where a slice holds nothing but air, and what to compute around the rest.

A patch that ends in air may end nearer to the object than the receptive field reaches: what the
network makes of air is small and fades with each layer. `REACH` is where the difference inside the
object falls below 1e-5 of full scale for shipped weights that keep noise; those that remove it need
all of their receptive field. The tests hold both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlift.inference.engines import Slices

Mask = NDArray[np.bool_]

LEVEL = 0.03  # of the series' scale, of a local mean: what stays below it for good is air
PEAK = 0.1  # of the series' scale: a single sample above it is no noise of air
WINDOW = 5  # samples a side of the local mean: it has a fifth of the noise of one sample
MARGIN = 4  # samples around the object that still belong to it
REACH = 8  # samples beyond BLEND that a patch which ends in air still reaches
BLEND = 4  # further samples over which the network gives way to interpolation


@dataclass(frozen=True)
class Part:
    """Rows [top, bottom) and columns [left, right) of a slice."""

    top: int
    bottom: int
    left: int
    right: int


def object_mask(image: Slices) -> Mask:
    """What is not air in a slice (h, w) on the series' scale, on the safe side.

    Object is what is bright, or bright in the mean of 5x5 samples; what lies between such samples
    both along its row and along its column (ventricles, sinuses, lungs, dark bone); and 4 samples
    around all that. Where the air itself is as bright as 3 % of the scale, all is object.
    """
    seen = (_mean(image) > LEVEL) | (image > PEAK)
    between = np.ones_like(seen)
    for axis in (0, 1):
        from_start = np.maximum.accumulate(seen, axis=axis)
        from_end = np.flip(np.maximum.accumulate(np.flip(seen, axis), axis=axis), axis)
        between &= from_start & from_end
    return grown(seen | between, MARGIN)


def grown(mask: Mask, by: int) -> Mask:
    """The mask with all samples that lie at most `by` rows and columns away."""
    for axis in (0, 1):
        result = mask.copy()
        for step in range(1, by + 1):
            ahead, behind = np.swapaxes(mask, 0, axis), np.swapaxes(result, 0, axis)
            behind[step:] |= ahead[:-step]
            behind[:-step] |= ahead[step:]
        mask = result
    return mask


def network_share(inside: Mask) -> Slices:
    """How much of each sample (h, w) is the network's: 1 on the object, falling to 0 around it."""
    share = inside.astype(np.float32)
    for step in range(1, BLEND + 1):
        share += grown(inside, step)
    return share / np.float32(BLEND + 1)


def cover(mask: Mask, gap: int) -> list[Part]:
    """The bounding box of `mask`, cut wherever `gap` or more rows or columns of it are empty."""
    return _boxes(mask, Part(0, mask.shape[0], 0, mask.shape[1]), gap)


def _boxes(mask: Mask, within: Part, gap: int) -> list[Part]:
    inner = mask[within.top : within.bottom, within.left : within.right]
    rows = _runs(np.any(inner, axis=1), gap)
    columns = _runs(np.any(inner, axis=0), gap)
    parts = [
        Part(within.top + top, within.top + bottom, within.left + left, within.left + right)
        for top, bottom in rows
        for left, right in columns
    ]
    if len(parts) <= 1:
        return parts
    return [box for part in parts for box in _boxes(mask, part, gap)]


def _runs(filled: NDArray[np.bool_], gap: int) -> list[tuple[int, int]]:
    """First and last plus one of each run of true values, runs less than `gap` apart as one."""
    at = np.flatnonzero(filled)
    if not len(at):
        return []
    breaks = np.flatnonzero(np.diff(at) > gap)
    first, last = at[np.r_[0, breaks + 1]], at[np.r_[breaks, len(at) - 1]] + 1
    return [(int(a), int(b)) for a, b in zip(first, last, strict=True)]


def _mean(image: Slices) -> Slices:
    """The mean of WINDOW x WINDOW samples, mirrored at the border."""
    reach = WINDOW // 2
    padded = np.pad(image, reach, mode="symmetric")
    height, width = image.shape
    rows = np.add.reduce([padded[k : k + height] for k in range(WINDOW)])
    mean: Slices = np.add.reduce([rows[:, k : k + width] for k in range(WINDOW)]) / WINDOW**2
    return mean
