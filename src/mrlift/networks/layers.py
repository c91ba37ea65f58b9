"""What several papers share: ways from the LR grid to the HR grid, and a start for weights.

Every network meets both grids of `mrlift.resampling` by one of these:

- a transposed convolution has the padding, and for an odd kernel at an even scale the one extra
  row and column, that give the grid's output size;
- interpolation before the network is that of `bicubic_up`, to the last border sample;
- a pixel shuffle puts n x n samples onto each LR sample: the edges grid, and that alone.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mrlift.resampling import Grid, cubic

SCALES = (2, 3, 4)
BORDER = 2  # LR samples to each side that a bicubic kernel reaches


def check_scale(scale: int, allowed: tuple[int, ...] = SCALES) -> None:
    """Refuse other factors.

    Raises:
        ValueError: `scale` is not one of `allowed`.
    """
    if scale not in allowed:
        words = " or ".join(map(str, allowed)) if len(allowed) < 3 else "2, 3 or 4"
        raise ValueError(f"scale must be {words}, not {scale}")


class ImageConv(nn.Conv2d):
    """A convolution that reads or writes an image: in single precision also in mixed training.

    bfloat16 has 8 bits, and an image has more. Features may have fewer: many are summed up.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Conv2d`."""
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = super().forward(x.float())
        return y


class ImageDeconv(nn.ConvTranspose2d):
    """The same for a transposed convolution."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As `nn.ConvTranspose2d`."""
        with torch.autocast(x.device.type, enabled=False):
            y: Tensor = super().forward(x.float(), output_size)
        return y


def deconvolution(
    channels: int, out: int, kernel: int, scale: int, grid: Grid
) -> nn.ConvTranspose2d:
    """A transposed convolution with stride `scale` from `channels` to `out`, onto `grid`.

    Where the edges grid needs an odd sum, the kernel lies half an HR sample off-centre.
    """
    twice_padding = kernel - (scale if grid == "edges" else 1)
    padding = -(-twice_padding // 2)
    return ImageDeconv(
        channels, out, kernel, scale, padding=padding, output_padding=twice_padding % 2
    )


def bicubic_kernel(scale: int, grid: Grid, size: int, padding: int | None = None) -> np.ndarray:
    """The (size, size) transposed-convolution kernel of bicubic interpolation, float32.

    `padding` is that of the transposed convolution; None is for a kernel that lies in the centre.
    Where `size` is too small to hold all taps (9x9 at x3 and x4) each phase is renormalised, so
    that a constant image stays constant.
    """
    centre = (size - 1) / 2 if padding is None else padding
    if padding is not None and grid == "edges":
        centre += (scale - 1) / 2
    taps = cubic((np.arange(size) - centre) / scale)  # at LR samples from the kernel's centre
    phase = np.arange(size) % scale
    taps /= np.bincount(phase, weights=taps)[phase]
    return np.outer(taps, taps).astype(np.float32)


class Bicubic(nn.Module):
    """`mrlift.resampling.bicubic_up` of (b, 1, h, w), as one fixed transposed convolution."""

    def __init__(self, scale: int, grid: Grid = "edges") -> None:
        super().__init__()
        check_scale(scale)
        size = {"paper": 4 * scale - 1, "edges": 4 * scale - scale % 2}[grid]
        self.scale = scale
        own = (size - (scale if grid == "edges" else 1)) // 2
        self._padding = own + BORDER * scale
        kernel = torch.from_numpy(bicubic_kernel(scale, grid, size))
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W); borders are mirrored, their samples counted twice."""
        for axis in (2, 3):
            first, last = x.narrow(axis, 0, BORDER), x.narrow(axis, x.shape[axis] - BORDER, BORDER)
            x = torch.cat([first.flip(axis), x, last.flip(axis)], dim=axis)
        with torch.autocast(x.device.type, enabled=False):  # what is not learned stays exact
            return nn.functional.conv_transpose2d(
                x,
                self.kernel,  # type: ignore[arg-type]
                stride=self.scale,
                padding=self._padding,
            )


def he_start(network: nn.Module, nonlinearity: Literal["relu", "linear"] = "relu") -> None:
    """Start all convolutions as He et al. 2015 have it (the paper's reference 24), biases at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity=nonlinearity)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
