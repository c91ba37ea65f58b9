"""How much of k-space a series fills, and back to the matrix that was measured.

Scanners often interpolate: they measure a coarse matrix, surround it with zeros in k-space and
store a finer one. Beyond the measured part there is nothing to see, and nothing to learn from.
"""

import numpy as np
from numpy.typing import NDArray

from mrlift.resampling import kspace_resize

STRETCH = 0.08  # of the half axis: what is compared below and above each frequency
DROP = 5.0  # dB between the two at the edge of a measured region; natural spectra fall by 2 to 4
SEARCHED = (0.3, 0.96)  # of Nyquist: below, a natural fall can be as steep; above, filters end
FILLED = 0.9  # readout filters fall off from here, so more counts as all
SAMPLE = 32  # slices that the spectrum is averaged over


def filled(stack: NDArray[np.number]) -> tuple[float, float]:
    """The share of k-space, per in-plane axis, that slices (n, H, W) were measured on.

    The power spectrum along an axis, averaged over the rest, ends in a cliff where a scanner went
    over to zeros. The magnitude leaves a little power beyond it, so the cliff is looked for, not
    emptiness.

    Returns:
        Shares in (0.3, 1] for rows and columns; 1.0 where there is no cliff below 0.9 of Nyquist.
    """
    middle = stack[len(stack) // 4 : max(1, 3 * len(stack) // 4)]
    sample = middle[:: max(1, len(middle) // SAMPLE)].astype(np.float32)
    return _filled(sample, -2), _filled(sample, -1)


def measured_size(size: int, share: float) -> int:
    """Samples of the measured matrix along an axis of `size` stored ones; even, as matrices are."""
    return size if share == 1.0 else min(size, 2 * round(size * share / 2))


def crop_spectrum(stack: NDArray[np.number], shares: tuple[float, float]) -> NDArray[np.float32]:
    """Slices (n, H, W) at the matrix that was measured, over the same field of view.

    Negative lobes beside sharp edges are set to zero: the result is a magnitude.
    """
    height, width = (measured_size(n, s) for n, s in zip(stack.shape[1:], shares, strict=True))
    slices = [kspace_resize(s.astype(np.float32), height, width) for s in stack]
    return np.maximum(np.stack(slices), 0)


def _filled(sample: NDArray[np.float32], axis: int) -> float:
    x = np.moveaxis(sample, axis, -1)
    window = np.hanning(x.shape[-1] + 2)[1:-1].astype(np.float32)  # an object cut by the border
    power = np.square(np.abs(np.fft.rfft(x * window, axis=-1))).mean(axis=(0, 1))
    if len(power) < 32 or power.max() == 0:
        return 1.0  # too short an axis to tell
    level = 10 * np.log10(power + 1e-12 * power.max())
    width = round(STRETCH * len(level))
    first, last = (round(share * len(level)) for share in SEARCHED)
    drops = [level[k - width : k].mean() - level[k : k + width].mean() for k in range(first, last)]
    edge = (first + int(np.argmax(drops))) / (len(level) - 1)
    return edge if max(drops) >= DROP and edge < FILLED else 1.0
