"""The one place of grids: MATLAB-convention bicubic, k-space truncation, Rician noise.

Two relations between a low-resolution (LR) grid of m samples and a high-resolution (HR) grid
exist, for an integer scale n:

`edges`
    The outer edges of the first and last samples coincide; HR has n*m samples. HR sample o
    sits at LR coordinate (o + 1/2)/n - 1/2. The product's default.
`paper`
    HR sample n*k sits on LR sample k; HR has (m - 1)*n + 1 samples.

All functions work on the last two axes, in float32 or float64 as given (integers are computed
in float64), and never clip.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Grid = Literal["edges", "paper"]
Image = NDArray[np.floating]
IMAGE_AXES = (-2, -1)


def cubic(x: NDArray[np.floating]) -> NDArray[np.float64]:
    """Keys' cubic convolution kernel with a = -0.5, supported on [-2, 2].

    Source: R. Keys, IEEE Trans. ASSP 29(6):1153-1160, 1981; the kernel of MATLAB's imresize.
    """
    t = np.abs(np.asarray(x, dtype=np.float64))
    inner = (1.5 * t - 2.5) * t * t + 1.0
    outer = ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0.0))


def hr_size(lr_size: int, scale: int, grid: Grid = "edges") -> int:
    """Number of HR samples over `lr_size` LR samples."""
    return lr_size * scale if grid == "edges" else (lr_size - 1) * scale + 1


def lr_size(hr_size: int, scale: int, grid: Grid = "edges") -> int:
    """Number of LR samples over `hr_size` HR samples (rounded up, as imresize does)."""
    return -(-hr_size // scale) if grid == "edges" else (hr_size - 1) // scale + 1


def filled_size(size: int, scale: int, grid: Grid = "edges") -> int:
    """The largest HR size up to `size` that whole LR samples fill."""
    return size - size % scale if grid == "edges" else (size - 1) // scale * scale + 1


def bicubic_up(image: Image, scale: int, grid: Grid = "edges") -> Image:
    """Bicubic interpolation, (..., h, w) -> (..., H, W) with H, W from `hr_size`."""
    for axis in IMAGE_AXES:
        size = hr_size(image.shape[axis], scale, grid)
        image = _resample(image, axis, _positions(size, 1.0 / scale, grid), width=1.0)
    return image


def bicubic_down(image: Image, scale: int, grid: Grid = "edges") -> Image:
    """Bicubic reduction with the kernel widened by `scale` (MATLAB's antialiasing).

    (..., H, W) -> (..., h, w) with h, w from `lr_size`; a constant image stays constant.
    """
    for axis in IMAGE_AXES:
        size = lr_size(image.shape[axis], scale, grid)
        image = _resample(image, axis, _positions(size, float(scale), grid), width=float(scale))
    return image


def bicubic_rescale(image: Image, factor: float) -> Image:
    """Resize by any positive factor on the edges grid, as imresize(image, factor) does."""
    width = max(1.0, 1.0 / factor)
    for axis in IMAGE_AXES:
        size = int(np.ceil(image.shape[axis] * factor - 1e-9))
        image = _resample(image, axis, _positions(size, 1.0 / factor, "edges"), width=width)
    return image


def _positions(size: int, step: float, grid: Grid) -> NDArray[np.float64]:
    """Source coordinates of `size` target samples that lie `step` source samples apart."""
    index = np.arange(size, dtype=np.float64)
    return (index + 0.5) * step - 0.5 if grid == "edges" else index * step


def _resample(image: Image, axis: int, at: NDArray[np.float64], width: float) -> Image:
    """Weighted sum of the source samples near each position, mirrored at the borders.

    A loop over the few taps keeps memory at one output image, where a dense matrix of a
    4096-sample axis would not.
    """
    source = np.moveaxis(np.asarray(image), axis, -1)
    if not np.issubdtype(source.dtype, np.floating):
        source = source.astype(np.float64)
    first = np.floor(at - 2 * width).astype(np.int64) + 1
    offsets = first[:, None] + np.arange(int(np.ceil(4 * width)) + 1)
    weights = cubic((at[:, None] - offsets) / width)
    weights /= weights.sum(axis=1, keepdims=True)
    count = source.shape[-1]
    folded = np.mod(offsets, 2 * count)
    index = np.where(folded < count, folded, 2 * count - 1 - folded)  # half-sample symmetric
    result = np.zeros((*source.shape[:-1], len(at)), dtype=source.dtype)
    for tap in np.flatnonzero(np.any(weights != 0, axis=0)):
        result += source[..., index[:, tap]] * weights[:, tap].astype(source.dtype)
    return np.moveaxis(result, -1, axis)


def kspace_down(image: Image, scale: int) -> Image:
    """Keep the central 1/scale of k-space per axis: what a scanner with a coarser matrix measures.

    H and W must be multiples of `scale`; see `kspace_resize`.
    """
    height, width = image.shape[-2:]
    if height % scale or width % scale:
        raise ValueError(f"{height}x{width} samples are no multiple of scale {scale}")
    return kspace_resize(image, height // scale, width // scale)


def kspace_up(image: Image, scale: int) -> Image:
    """Zero-filled (sinc) interpolation onto the edges grid: the counterpart of `kspace_down`."""
    height, width = image.shape[-2:]
    return kspace_resize(image, height * scale, width * scale)


def kspace_resize(image: Image, height: int, width: int) -> Image:
    """Cut or zero-fill k-space to (height, width) over the same field of view.

    A phase ramp moves the samples from the corner-aligned grid of a plain crop to the edges
    grid. The result is real: the lone Nyquist row of an even size keeps half of what its two
    ends sum up to. The mean is preserved.
    """
    return _fourier_resize(_fourier_resize(image, -2, height), -1, width)


def _fourier_resize(image: Image, axis: int, size: int) -> Image:
    source = np.moveaxis(np.asarray(image), axis, -1)
    dtype = source.dtype if np.issubdtype(source.dtype, np.floating) else np.dtype(np.float64)
    old = source.shape[-1]
    if size == old:
        return np.asarray(image, dtype=dtype)
    kept = min(old, size)
    frequency = np.arange(kept // 2 + 1)
    # Target sample o sits at source coordinate (o + 1/2) * old/size - 1/2.
    shift = 0.5 * old / size - 0.5
    ramp = np.exp(2j * np.pi * frequency * shift / old)
    spectrum = np.fft.rfft(source.astype(np.float64), axis=-1)[..., : kept // 2 + 1] * ramp
    if kept % 2 == 0:
        # The Nyquist term stands for +f and -f together; going up, each keeps one half, and
        # going down the two halves meet again. rfft counts -f by itself in the longer spectrum.
        spectrum[..., -1] = spectrum[..., -1].real if size < old else spectrum[..., -1] * 0.5
    padded = np.zeros((*source.shape[:-1], size // 2 + 1), dtype=np.complex128)
    padded[..., : kept // 2 + 1] = spectrum
    result = np.fft.irfft(padded, n=size, axis=-1) * (size / old)
    return np.moveaxis(result.astype(dtype, copy=False), -1, axis)


# The type in quotes: to name it would load numpy.random at every start.
def rician_noise(image: Image, sigma: float, rng: "np.random.Generator") -> Image:
    """Magnitude of `image` plus complex Gaussian noise of standard deviation `sigma` per channel.

    `sigma` is in the image's own units. Source: Gudbjartsson and Patz, Magn Reson Med
    34:910-914, 1995. The sign of the image is lost, as in a magnitude reconstruction.
    """
    real = image + rng.normal(0.0, sigma, image.shape)
    imaginary = rng.normal(0.0, sigma, image.shape)
    return np.hypot(real, imaginary).astype(image.dtype, copy=False)
