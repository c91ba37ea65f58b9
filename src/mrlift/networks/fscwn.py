"""FSCWN: a progressively wider residual network with fixed skip connections.

Source: J. Shi, Z. Li, S. Ying, C. Wang, Q. Liu, Q. Zhang, P. Yan, "MR image super-resolution via
wide residual networks with fixed skip connection", IEEE JBHI 23(3):1129-1140, 2019. The paper of
the multi-resolution network adds that it pools 2x2 and therefore upscales twice only. Neither gives
each layer; our reading: three residual blocks at each of the widths 64, 128 and 256, each of which
also sees the features of the one fixed shallow layer.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from mrlift.networks.layers import Bicubic, ImageConv, check_scale, he_start
from mrlift.resampling import Grid

SHALLOW = 128
WIDTHS = (64, 128, 256)


class WideBlock(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, to which the projected shallow features are added."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.fixed_skip = nn.Conv2d(SHALLOW, width, 1)

    def forward(self, u: Tensor, shallow: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, width, h, w)."""
        y: Tensor = self.second(torch.relu(self.first(torch.relu(u))))
        skip: Tensor = self.fixed_skip(shallow)
        return y + skip


class FSCWN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, H, W).

    Args:
        scale: 2 alone.
        blocks: residual blocks of each width.
        grid: of the interpolation that comes first; "edges" alone, since pooling halves HR.

    Raises:
        ValueError: another scale or grid.
    """

    def __init__(self, scale: int, *, blocks: int = 3, grid: Grid = "edges") -> None:
        super().__init__()
        check_scale(scale, (2,))
        if grid != "edges":
            raise ValueError("pooling by 2 needs an even HR size: the edges grid, not the paper's")
        self.up = Bicubic(scale, grid)
        self.shallow = ImageConv(1, SHALLOW, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        widths = [SHALLOW, *(width for width in WIDTHS for _ in range(blocks))]
        self.blocks = nn.ModuleList(WideBlock(before, width) for before, width in pairwise(widths))
        self.deconv = nn.ConvTranspose2d(WIDTHS[-1], SHALLOW, 4, 2, padding=1)
        self.last = ImageConv(SHALLOW, 1, 3, padding=1)
        he_start(self)
        nn.init.zeros_(self.last.weight)  # it starts as interpolation

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        up: Tensor = self.up(x)
        u = shallow = self.pool(self.shallow(up))
        for block in self.blocks:
            u = block(u, shallow)
        residual: Tensor = self.last(torch.relu(self.deconv(torch.relu(u))))
        return up + residual
