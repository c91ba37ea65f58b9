"""SPAN: attention without parameters, from the very features that it weighs.

Source: C. Wan et al., "Swift parameter-free attention network for efficient super-resolution",
CVPR Workshops 2024 (first of the challenge NTIRE 2024 on efficient super-resolution): sections 3.1
to 3.3. 52 channels and 6 blocks are SPAN, 48 channels are its SPAN-S.
"""

import torch
from torch import Tensor, nn

from mrlift.networks.layers import ImageConv, check_scale

GAIN = 2  # how much wider a convolution is while it is trained


class ReparameterisedConv(nn.Module):
    """A 3x3 convolution that is learned as 1x1, 3x3, 1x1 in a row beside another 1x1.

    There is no nonlinearity between them, so all are one 3x3 kernel. It is worked out before each
    pass in training, which is less work than running the parts, and once for inference.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(channels, out, 1)
        self.parts = nn.ModuleList(
            [
                nn.Conv2d(channels, channels * GAIN, 1),
                nn.Conv2d(channels * GAIN, out * GAIN, 3),
                nn.Conv2d(out * GAIN, out, 1),
            ]
        )
        self._merged: tuple[Tensor, Tensor] | None = None

    def forward(self, u: Tensor) -> Tensor:
        """(b, channels, h, w) -> (b, out, h, w)."""
        weight, bias = self._merged or self.merged()
        mixed = torch.is_autocast_enabled(u.device.type) and u.shape[1] > 1  # not on an image
        with torch.autocast(u.device.type, enabled=mixed):
            return nn.functional.conv2d(u, weight, bias, padding=1)

    def merged(self) -> tuple[Tensor, Tensor]:
        """Kernel (out, channels, 3, 3) and bias (out) of the one convolution."""
        with torch.autocast(self.skip.weight.device.type, enabled=False):
            (first, b_1), (second, b_2), (third, b_3), (skip, b_skip) = (
                (part.weight, part.bias) for part in [*self.parts, self.skip]
            )
            inner = torch.einsum("mihw,ic->mchw", second, first[:, :, 0, 0])
            weight = torch.einsum("om,mchw->ochw", third[:, :, 0, 0], inner)
            weight = weight + nn.functional.pad(skip, (1, 1, 1, 1))
            carried = second.sum(dim=(2, 3)) @ b_1 + b_2
            bias = third[:, :, 0, 0] @ carried + b_3 + b_skip
        return weight, bias

    def train(self, mode: bool = True) -> "ReparameterisedConv":
        """As of any module; for inference the kernel is worked out once."""
        super().train(mode)
        with torch.no_grad():
            self._merged = None if mode else self.merged()
        return self


class Block(nn.Module):
    """Three convolutions; their result weighs itself and what came in (eq. 4 to 7)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ReparameterisedConv(channels, channels) for _ in range(3))

    def forward(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """(b, c, h, w) -> the block's output, and its first convolution's."""
        silu = nn.functional.silu
        first = self.convs[0](u)
        last = self.convs[2](silu(self.convs[1](silu(first))))
        return (last + u) * (torch.sigmoid(last) - 0.5), first


class SPAN(nn.Module):
    """LR slices (b, 1, h, w) -> SR slices (b, 1, scale*h, scale*w).

    Args:
        scale: 2, 3 or 4.
        channels: of each convolution.
        blocks: attention blocks.

    Raises:
        ValueError: another scale.
    """

    def __init__(self, scale: int, *, channels: int = 52, blocks: int = 6) -> None:
        super().__init__()
        check_scale(scale)
        self.head = ReparameterisedConv(1, channels)
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.tail = ReparameterisedConv(channels, channels)
        self.fuse = nn.Conv2d(4 * channels, channels, 1)
        self.up = nn.Sequential(ImageConv(channels, scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """(b, 1, h, w) -> (b, 1, H, W)."""
        u = shallow = self.head(x)
        outputs = []
        for block in self.blocks:
            u, inner = block(u)
            outputs.append(u)
        y: Tensor = self.up(self.fuse(torch.cat([shallow, self.tail(u), outputs[0], inner], 1)))
        return y
