"""The intensity scale of a series, and what counts as foreground on that scale."""

import numpy as np
from numpy.typing import NDArray

PERCENTILE = 99.9
FOREGROUND_LEVEL = 0.1  # of the series' scale; air in magnitude images lies well below
FOREGROUND_SHARE = 0.12  # of a slice's pixels; slices with less say little about tissue


def series_scale(voxels: NDArray[np.number]) -> float:
    """The value that the network sees as 1.0: the 99.9th percentile of the non-zero voxels.

    A percentile instead of the maximum, since single bright vessel voxels vary between series.
    Always positive and proportional to the intensities; 1.0 for an empty series.
    """
    signal = voxels[voxels != 0]
    if signal.size == 0:
        return 1.0
    # numpy.percentile would import numpy.ma, which takes as long as reading a small series.
    rank, share = divmod(PERCENTILE / 100 * (signal.size - 1), 1)
    ranks = (int(rank), min(int(rank) + 1, signal.size - 1))
    low, high = np.partition(signal, ranks)[list(ranks)].astype(np.float64)
    scale = float(low + (high - low) * share)
    return scale if scale > 0 else float(np.abs(signal).max())


def foreground_share(image: NDArray[np.number], unit: float = 1.0) -> float:
    """Share of pixels brighter than a tenth of the series' scale `unit`, 0 to 1."""
    return float(np.mean(image > FOREGROUND_LEVEL * unit))
