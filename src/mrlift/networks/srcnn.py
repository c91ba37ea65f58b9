"""SRCNN: three convolutions on the interpolated image.

Source: C. Dong, C. C. Loy, K. He, X. Tang, "Image super-resolution using deep convolutional
networks", IEEE TPAMI 38(2):295-307, 2016, the network 9-1-5 of section 4.1.
"""

from torch import Tensor, nn

from mrlift.networks.layers import Bicubic, ImageConv, he_start
from mrlift.resampling import Grid


class SRCNN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, H, W).

    Convolutions are padded with zeros, where the source lets the image shrink.

    Args:
        scale: 2, 3 or 4.
        grid: of the interpolation that comes first.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int, *, grid: Grid = "edges") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ImageConv(1, 64, 9, padding=4),  # patch extraction
            nn.ReLU(),
            nn.Conv2d(64, 32, 1),  # non-linear mapping
            nn.ReLU(),
            ImageConv(32, 1, 5, padding=2),  # reconstruction
        )
        self.up = Bicubic(scale, grid)
        he_start(self)

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        y: Tensor = self.layers(self.up(x))
        return y
