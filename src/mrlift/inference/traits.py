"""What a series is like in numbers: its noise, brightness and contrast, each a share of its scale.

Cards keep the range that these had over the training series, so that a series of another kind can
be named before its result is believed.
"""

import numpy as np
from numpy.typing import NDArray

from mrlift.inference.normalise import FOREGROUND_LEVEL, foreground_share, series_scale
from mrlift.spectrum import crop_spectrum, filled

DETAIL = np.array([1.0, -2.0, 1.0])  # second difference: flat and sloping tissue gives nothing
BLOCK = 8  # samples a side of the blocks that noise is measured in
FLAT = 10.0  # per cent of blocks, the calmest ones, that hold little but noise
CALMEST = 0.795  # of the true level: what that percentile of blocks is of white noise alone
INSIDE = 0.9  # share of a block that must be foreground
SAMPLED = 24  # slices, evenly spread, that the numbers are taken from


def noise_level(stack: NDArray[np.number]) -> float:
    """Standard deviation of the noise in the tissue of slices (n, h, w), in their own units.

    The second difference along rows and columns leaves noise and the finest structure; its root
    mean square over blocks of 8x8, at the tenth percentile of the blocks, is that of tissue with
    the least structure. Where the scanner has filled k-space up with zeros, the slices are taken
    back to the measured matrix first, on which noise is white. Exact for white noise on smooth
    tissue; in real series fine structure counts too, so that it reads up to twice the true level.
    0.0 where no block is all tissue.
    """
    sample = _sample(stack)
    unit, shares = series_scale(sample), filled(sample)
    stacks = [sample] if min(shares) == 1 else [sample, crop_spectrum(sample, shares)]
    return max(_calmest(s, unit) for s in stacks)


def traits(stack: NDArray[np.number]) -> dict[str, float]:
    """Figures of slices (n, h, w) that do not depend on their unit.

    Returns:
        noise: `noise_level` over the series' scale.
        brightness: the median of the foreground over the series' scale.
        contrast: the interquartile range of the foreground over its median.
        foreground: the share of voxels brighter than a tenth of the scale, over the slices that
            have any.
    """
    sample = _sample(stack)
    unit = series_scale(sample)
    inside = sample[sample > FOREGROUND_LEVEL * unit]
    if not len(inside):
        return dict.fromkeys(("noise", "brightness", "contrast", "foreground"), 0.0)
    low, middle, high = np.percentile(inside, (25, 50, 75))
    shares = [share for s in sample if (share := foreground_share(s, unit))]
    return {
        "noise": noise_level(stack) / unit,
        "brightness": float(middle) / unit,
        "contrast": float((high - low) / middle),
        "foreground": float(np.mean(shares)),
    }


def _calmest(stack: NDArray[np.number], unit: float) -> float:
    """The noise of the calmest blocks of all slices."""
    rms = np.concatenate([_block_noise(s.astype(np.float64), unit) for s in stack])
    return float(np.percentile(rms, FLAT)) / CALMEST if len(rms) else 0.0


def _sample(stack: NDArray[np.number]) -> NDArray[np.number]:
    """Slices spread evenly over the series, all of them where there are few."""
    if len(stack) <= SAMPLED:
        return stack
    evenly = np.linspace(0, len(stack) - 1, SAMPLED).round().astype(int)
    return np.take(stack, evenly, axis=0)


def _block_noise(image: NDArray[np.float64], unit: float) -> NDArray[np.float64]:
    """Root mean square of the detail of each block of `image` (h, w) that is all foreground."""
    height, width = (n // BLOCK * BLOCK for n in image.shape)
    if not (height and width):
        return np.empty(0)
    detail = image
    for axis in (0, 1):
        padded = np.pad(detail, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        detail = sum(
            weight * np.take(padded, range(k, k + image.shape[axis]), axis)
            for k, weight in enumerate(DETAIL)
        )
    power = _blocks(np.square(detail[:height, :width] / np.sum(DETAIL**2)))
    inside = _blocks((image[:height, :width] > FOREGROUND_LEVEL * unit).astype(np.float64))
    rms: NDArray[np.float64] = np.sqrt(power[inside >= INSIDE])
    return rms


def _blocks(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over blocks of BLOCK x BLOCK samples."""
    rows, columns = (n // BLOCK for n in image.shape)
    means: NDArray[np.float64] = image.reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3))
    return means
