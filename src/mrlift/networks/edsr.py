"""EDSR-baseline: residual blocks without normalisation on the LR grid, then pixel shuffles.

Source: B. Lim, S. Son, H. Kim, S. Nah, K. M. Lee, "Enhanced deep residual networks for single image
super-resolution", CVPR Workshops 2017, sections 3.1-3.2 and table 1: 16 blocks of 64 channels.
"""

from torch import Tensor, nn

from mrlift.networks.layers import ImageConv, check_scale


class ResidualBlock(nn.Module):
    """3x3, ReLU, 3x3, and what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(channels), nn.ReLU(), _convolution(channels))

    def forward(self, u: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        y: Tensor = self.body(u)
        return u + y


class EDSR(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, scale*h, scale*w).

    Args:
        scale: 2, 3 or 4.
        blocks: residual blocks.
        channels: of each convolution.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int, *, blocks: int = 16, channels: int = 64) -> None:
        super().__init__()
        check_scale(scale)
        self.head = ImageConv(1, channels, 3, padding=1)
        self.body = nn.Sequential(
            *(ResidualBlock(channels) for _ in range(blocks)), _convolution(channels)
        )
        steps = {2: (2,), 3: (3,), 4: (2, 2)}[scale]
        up: list[nn.Module] = []
        for step in steps:
            up += [_convolution(channels, channels * step**2), nn.PixelShuffle(step)]
        self.tail = nn.Sequential(*up, ImageConv(channels, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        u = self.head(x)
        y: Tensor = self.tail(u + self.body(u))
        return y


def _convolution(channels: int, out: int | None = None) -> nn.Conv2d:
    return nn.Conv2d(channels, out or channels, 3, padding=1)
