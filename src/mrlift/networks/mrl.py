"""The multi-resolution learning network (MRL).

Residual units on the LR grid, one upsampled image per unit, a learned weighted sum.

Source: the paper "Magnetic resonance image super-resolution based on multi-resolution
learning" (Xia Hao, Cai Nian, Wang Ping, Wang Han, J. Guangdong Univ. Technol. 37(6):26-31,
2020, doi 10.12052/gdutxb.200011); equation numbers below are its own.
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from mrlift.networks.layers import bicubic_kernel, check_scale, he_start
from mrlift.resampling import Grid

Upsampling = Literal["multi", "double", "single"]

KERNELS: dict[Grid, dict[int, int]] = {
    # 9x9 as in the paper; on the edges grid the smallest kernel that holds the bicubic one.
    "paper": {2: 9, 3: 9, 4: 9},
    "edges": {2: 8, 3: 11, 4: 16},
}


class Unit(nn.Module):
    """One residual branch: ReLU, 3x3, ReLU, 3x3 (the two f_conv of eq. 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, u: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w)."""
        y: Tensor = self.second(torch.relu_(self.first(torch.relu(u))))
        return y


class MRL(nn.Module):
    """LR slices (b, 1, h, w), about [0, 1] -> SR slices (b, 1, H, W).

    Args:
        scale: 2, 3 or 4.
        units: number N of residual units.
        channels: kernels per convolution.
        grid: "edges" gives H = scale*h; "paper" gives H = (h - 1)*scale + 1.
        kernel: side of the transposed convolution; None takes 9 on the paper grid, and 8, 11
            or 16 on the edges grid.
        shared_units: one set of unit weights for all units, as in DRRN.
        upsampling: "multi" is eq. 3-4; "double" is f_dec(U_N) + f_dec(x) and "single" is
            f_dec(U_N): the ablations of section 3.3.

    Raises:
        ValueError: another scale, or a kernel that cannot give the grid's output size.
    """

    def __init__(
        self,
        scale: int,
        *,
        units: int = 9,
        channels: int = 128,
        grid: Grid = "edges",
        kernel: int | None = None,
        shared_units: bool = False,
        upsampling: Upsampling = "multi",
    ) -> None:
        super().__init__()
        check_scale(scale)
        kernel = kernel or KERNELS[grid][scale]
        twice_padding = kernel - (scale if grid == "edges" else 1)
        if twice_padding < 0 or twice_padding % 2:
            raise ValueError(f"a {kernel}x{kernel} kernel cannot give the {grid} grid at x{scale}")
        self.scale, self.grid, self.upsampling = scale, grid, upsampling
        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.units = nn.ModuleList(Unit(channels) for _ in range(1 if shared_units else units))
        self.depth = units
        self.deconv = nn.ConvTranspose2d(
            channels + (upsampling != "single"), 1, kernel, scale, padding=twice_padding // 2
        )
        self._padding = twice_padding // 2
        if upsampling == "multi":
            self.weights = nn.Parameter(torch.full((units,), 1.0 / units))
        self._initialise()

    def forward(self, x: Tensor) -> Tensor:
        """The super-resolved slices, with the weighted sum taken before the deconvolution.

        The deconvolution is linear, so sum_i lambda_i f_dec([U_i; x]) equals
        f_dec([sum_i lambda_i U_i; (sum_i lambda_i) x]) up to the bias, which is counted
        sum_i lambda_i times: one deconvolution instead of N.
        """
        if self.upsampling == "multi":
            fused = sum(w * u for w, u in zip(self.weights, self.features(x), strict=True))
            total = self.weights.sum()
            return self._deconvolve(fused, total * x, total * self._bias())
        *_, last = self.features(x)
        return self._deconvolve(last, x, self._bias())

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the losses see: y_hat (b, 1, H, W) and the y_i of eq. 3 as (b, N, H, W).

        For the ablations N = 0: their only loss is that of y_hat.
        """
        if self.upsampling != "multi":
            y_hat = self.forward(x)
            return y_hat, y_hat[:, :0]
        y = self._each_deconvolved(x)
        return (self.weights[:, None, None] * y).sum(dim=1, keepdim=True), y  # eq. 4

    def images(self, x: Tensor) -> Iterator[Tensor]:
        """y_1 ... y_N of eq. 3, each (b, 1, H, W), with a deconvolution each."""
        for u in self.features(x):
            yield self._deconvolve(u, x, self._bias())

    def features(self, x: Tensor, u_0: Tensor | None = None) -> Iterator[Tensor]:
        """U_1 ... U_N of eq. 1-2, each (b, c, h, w); `u_0` if it was computed before."""
        u = u_0 = self.head(x) if u_0 is None else u_0
        for i in range(self.depth):
            u = self.units[i % len(self.units)](u).add_(u_0)
            yield u

    @property
    def receptive_field(self) -> int:
        """LR samples to each side that one output sample depends on, at most."""
        reach = -(-(self.deconv.kernel_size[0] // 2) // self.scale)
        return 1 + 2 * self.depth + reach

    def _bias(self) -> Tensor:
        assert self.deconv.bias is not None
        return self.deconv.bias

    def _deconvolve(self, u: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        """f_dec(u) + f_dec(x) as one layer over the stacked channels (eq. 3)."""
        stacked = u if self.upsampling == "single" else torch.cat([u, x], dim=1)
        return nn.functional.conv_transpose2d(
            stacked, self.deconv.weight, bias, self.scale, self._padding
        )

    def _each_deconvolved(self, x: Tensor) -> Tensor:
        """All y_i (b, N, H, W): f_dec as a matrix product to k*k taps that are then added up.

        A training step takes a fifth less time than with N transposed convolutions, which PyTorch
        computes without oneDNN on a CPU. In mixed precision what is read from x itself stays in
        single precision: bfloat16 has 8 bits, and an image has more.
        """
        device, (*_, kernel) = x.device.type, self.deconv.kernel_size
        with torch.autocast(device, enabled=False):
            u_0 = self.head(x)
            of_x = nn.functional.conv_transpose2d(
                x, self.deconv.weight[-1:], self._bias(), self.scale, self._padding
            )
        if torch.is_autocast_enabled(device):
            u_0 = u_0.to(torch.get_autocast_dtype(device))
        taps = self.deconv.weight[:-1].flatten(1).t()  # (k*k, c)
        y = [
            nn.functional.fold(
                taps @ u.flatten(2),
                of_x.shape[2:],
                kernel,
                padding=self._padding,
                stride=self.scale,
            )
            for u in self.features(x, u_0)
        ]
        return torch.cat(y, dim=1) + of_x

    def _initialise(self) -> None:
        """He et al. 2015 for the convolutions, bicubic interpolation for the deconvolution.

        Its x channel starts as the bicubic kernel and its U channels at zero, so that the
        untrained network is bicubic interpolation.
        """
        he_start(self)
        nn.init.zeros_(self._bias())
        if self.upsampling == "single":
            nn.init.kaiming_normal_(self.deconv.weight, nonlinearity="linear")
            return
        nn.init.zeros_(self.deconv.weight)
        kernel = bicubic_kernel(self.scale, self.grid, self.deconv.kernel_size[0])
        with torch.no_grad():
            self.deconv.weight[-1, 0] = torch.from_numpy(kernel)
