"""ESPCN: three convolutions on the LR grid and a pixel shuffle.

Source: W. Shi et al., "Real-time single image and video super-resolution using an efficient
sub-pixel convolutional neural network", CVPR 2016, section 3.1 and the tanh of section 3.2.
"""

from torch import Tensor, nn

from mrlift.networks.layers import ImageConv, check_scale


class ESPCN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, scale*h, scale*w).

    Args:
        scale: 2, 3 or 4.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int) -> None:
        super().__init__()
        check_scale(scale)
        self.layers = nn.Sequential(
            ImageConv(1, 64, 5, padding=2),
            nn.Tanh(),
            nn.Conv2d(64, 32, 3, padding=1),
            nn.Tanh(),
            ImageConv(32, scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        y: Tensor = self.layers(x)
        return y
