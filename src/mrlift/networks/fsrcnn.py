"""FSRCNN(56, 12, 4): shrink, map, expand on the LR grid, then a transposed convolution.

Source: C. Dong, C. C. Loy, X. Tang, "Accelerating the super-resolution convolutional neural
network", ECCV 2016, section 3.2.
"""

from torch import Tensor, nn

from mrlift.networks.layers import ImageConv, check_scale, deconvolution, he_start
from mrlift.resampling import Grid


class FSRCNN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, H, W).

    Args:
        scale: 2, 3 or 4.
        features: channels d before and after the mapping.
        shrunk: channels s of the mapping.
        mappings: its convolutions m.
        grid: where SR samples lie.

    Raises:
        ValueError: another scale.
    """

    def __init__(
        self,
        scale: int,
        *,
        features: int = 56,
        shrunk: int = 12,
        mappings: int = 4,
        grid: Grid = "edges",
    ) -> None:
        super().__init__()
        check_scale(scale)
        layers: list[nn.Module] = [ImageConv(1, features, 5, padding=2), nn.PReLU(features)]
        layers += [nn.Conv2d(features, shrunk, 1), nn.PReLU(shrunk)]
        for _ in range(mappings):
            layers += [nn.Conv2d(shrunk, shrunk, 3, padding=1), nn.PReLU(shrunk)]
        layers += [nn.Conv2d(shrunk, features, 1), nn.PReLU(features)]
        self.layers = nn.Sequential(*layers)
        self.deconv = deconvolution(features, 1, 9, scale, grid)
        he_start(self)
        nn.init.normal_(self.deconv.weight, std=0.001)  # their section 3.3

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        y: Tensor = self.deconv(self.layers(x))
        return y
