"""The paper's loss: every y_i and their weighted sum are compared with the HR patch (eq. 5-7).

A network without `outputs` has y_hat alone; so have `sum` and `decibels`, for the end of training,
when the y_i have helped and y_hat is what counts.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

FLOOR = 1e-6  # mean squared error that is good enough, 60 dB: else empty patches would lead


def absolute(y: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, summed over the images of a pixel stack (b, k, H, W)."""
    return (y - target).abs().mean(dim=(0, 2, 3)).sum()


def squared(y: Tensor, target: Tensor) -> Tensor:
    """Half the squared error summed over pixels, per batch item: eq. 6 and 7 as printed."""
    return 0.5 * torch.square(y - target).sum() / len(y)


def decibels(y: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each patch in dB, mean over patches: minus their mean PSNR."""
    error = torch.square(y - target).mean(dim=(1, 2, 3))
    return 10 * torch.log10(error + FLOOR).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "absolute": absolute,
    "squared": squared,
    "sum": squared,
    "decibels": decibels,
}
ALONE = ("sum", "decibels")  # of y_hat only: L_sum of eq. 7, and its logarithm


def is_fused(loss: str, *, mixed: bool) -> bool:
    """Whether a loss takes y_hat by one deconvolution instead of N, as those of `ALONE` can.

    In mixed precision that one would read x in bfloat16, which `MRL.outputs` does not.
    """
    return loss in ALONE and not mixed


class Objective(nn.Module):
    """Network and loss as one module, so that its forward pass can be shared among processes.

    Eq. 5: the sum of the losses of y_hat and of all y_i. Those of `ALONE` are of y_hat.
    """

    def __init__(self, network: nn.Module, loss: str) -> None:
        super().__init__()
        self.network, self.name, self.loss = network, loss, LOSSES[loss]

    def forward(self, lr: Tensor, hr: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of a batch of LR (b, 1, h, w) and HR patches (b, 1, H, W).

        `weight` (b,) is that of the squared errors of each patch.
        """
        mixed = torch.is_autocast_enabled(lr.device.type)
        if is_fused(self.name, mixed=mixed) or not hasattr(self.network, "outputs"):
            return self._loss(self.network(lr), hr, weight)
        y_hat, each = self.network.outputs(lr)  # type: ignore[operator]
        loss = self._loss(y_hat, hr, weight)
        return loss if self.name in ALONE else loss + self._loss(each, hr, weight)

    def _loss(self, y: Tensor, hr: Tensor, weight: Tensor | None) -> Tensor:
        if weight is None:
            return self.loss(y, hr)
        root = weight.sqrt()[:, None, None, None]
        return self.loss(y * root, hr * root)
