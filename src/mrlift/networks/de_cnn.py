"""de-CNN: a transposed convolution to the HR grid, then a deep residual network there.

Source: O. Oktay et al., "Multi-input cardiac image super-resolution using convolutional neural
networks", MICCAI 2016, in two dimensions and with the depth that the paper of the
multi-resolution network implies when it calls it as deep as its own 20 layers.
"""

import torch
from torch import Tensor, nn

from mrlift.networks.layers import ImageConv, bicubic_kernel, check_scale, deconvolution, he_start
from mrlift.resampling import Grid


class DeCNN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, H, W).

    Args:
        scale: 2, 3 or 4.
        depth: convolutions after the transposed one; 7 is Oktay's own count.
        channels: of each.
        grid: where SR samples lie.

    Raises:
        ValueError: another scale.
    """

    def __init__(
        self, scale: int, *, depth: int = 20, channels: int = 64, grid: Grid = "edges"
    ) -> None:
        super().__init__()
        check_scale(scale)
        self.deconv = deconvolution(1, 1, 9, scale, grid)
        layers: list[nn.Module] = [ImageConv(1, channels, 3, padding=1), nn.ReLU()]
        for _ in range(depth - 2):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
        self.residual = nn.Sequential(*layers, ImageConv(channels, 1, 3, padding=1))
        self._start(scale, grid)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        up: Tensor = self.deconv(x)
        residual: Tensor = self.residual(up)
        return up + residual

    def _start(self, scale: int, grid: Grid) -> None:
        """Bicubic interpolation, as far as 9x9 taps hold it, and no residual."""
        he_start(self.residual)
        nn.init.zeros_(self.residual[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.deconv.bias)  # type: ignore[arg-type]
        kernel = bicubic_kernel(scale, grid, 9, int(self.deconv.padding[0]))
        with torch.no_grad():
            self.deconv.weight[0, 0] = torch.from_numpy(kernel)
