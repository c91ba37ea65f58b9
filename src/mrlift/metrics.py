"""PSNR, SSIM and NRMSE. The data range is always the caller's to state.

All take the truth first, work on arrays of one shape and compute in float64.
"""

import math

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.number]

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(truth: Image, image: Image, *, data_range: float) -> float:
    """Peak signal-to-noise ratio, 10 log10(data_range^2 / MSE) in dB; infinite where equal."""
    error = mse(truth, image)
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def mse(truth: Image, image: Image) -> float:
    """Mean squared error."""
    difference = np.subtract(truth, image, dtype=np.float64)
    return float(np.mean(difference * difference))


def nrmse(truth: Image, image: Image) -> float:
    """Root mean squared error over the root mean square of the truth; infinite for truth 0."""
    power = float(np.mean(np.square(truth, dtype=np.float64)))
    return math.sqrt(mse(truth, image) / power) if power else math.inf


def ssim(truth: Image, image: Image, *, data_range: float) -> float:
    """Mean structural similarity of two 2-D images of at least 11x11.

    Gaussian window of 11 samples with sigma 1.5, K1 = 0.01, K2 = 0.03, population covariance,
    mean over the positions where the window fits. Source: Wang et al., IEEE Trans. Image
    Process. 13(4):600-612, 2004.
    """
    x, y = np.asarray(truth, np.float64), np.asarray(image, np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    cov = _blur(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_y + c2)
    return float(np.mean(luminance * structure))


def _blur(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian window, only where it fits: (H, W) -> (H - 10, W - 10)."""
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        size = image.shape[axis] - WINDOW + 1
        if size < 1:
            raise ValueError(f"SSIM needs images of at least {WINDOW}x{WINDOW}, not {image.shape}")
        parts = (np.take(image, range(k, k + size), axis) * tap for k, tap in enumerate(taps))
        image = np.sum(list(parts), axis=0)
    return image
