"""Momentum, orthogonalised: an optimiser for the kernels between stacks of channels.

Sources: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the
length of a step is that of J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

LENGTH = 0.2  # root mean square of a step at rate 1, about that of Adam
SMALLEST = 1e-3  # singular values below, of a matrix of norm 1, are not brought up to 1


class Muon(torch.optim.Optimizer):
    """Moves each kernel along the nearest semi-orthogonal matrix of its momentum.

    The momentum of a kernel (out, in, k, k), taken as a matrix (out, in*k*k), is U S V^T; the step
    is U V^T. Directions that the gradients seldom point to are learned as fast as the others.

    `torch.optim.Muon` takes matrices alone, and finds U V^T by products in bfloat16, which take
    most of the time on a CPU. Here it comes from the eigenvectors of the (out, out) product.

    Args:
        params: kernels, each with two dimensions or more.
        lr: rate; with `LENGTH` that of Adam suits.
        momentum: decay of the mean gradient, used as Nesterov does.
        weight_decay: as in AdamW.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move the kernels that have gradients."""
        assert closure is None
        for group in self.param_groups:
            momentum, rate = group["momentum"], group["lr"]
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                mean = state.setdefault("mean", torch.zeros_like(kernel))
                mean.lerp_(kernel.grad, 1 - momentum)
                ahead = kernel.grad.lerp(mean, momentum)
                way = orthogonalised(ahead.flatten(1))
                kernel.mul_(1 - rate * group["weight_decay"])
                kernel.add_(way.reshape_as(kernel), alpha=-rate * LENGTH * max(way.shape) ** 0.5)


class MuonWithAdam(torch.optim.Optimizer):
    """`Muon` for kernels between stacks of channels, AdamW for all other weights, as one.

    The first and the last layer, which have one image at an end, and biases are for AdamW.

    Args:
        network: whose weights are to be moved.
        lr: rate of both.
        weight_decay: of both.
    """

    def __init__(self, network: nn.Module, lr: float, weight_decay: float) -> None:
        kernels = [p for p in network.parameters() if _joins_stacks(p)]
        others = [p for p in network.parameters() if not _joins_stacks(p)]
        self._parts = (
            Muon(kernels, lr, weight_decay=weight_decay),
            torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay, fused=True),
        )

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Those of both."""
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for part in self._parts:
            part.zero_grad(set_to_none)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all weights."""
        assert closure is None
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """What both have learned of the gradients."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def orthogonalised(matrix: Tensor) -> Tensor:
    """U V^T of a matrix (m, n) = U S V^T; what is too small of S stays smaller than 1."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    matrix = matrix / matrix.norm().clamp(min=torch.finfo(matrix.dtype).tiny)
    product = matrix @ matrix.T
    # Added before, not after: where most of it has no gradient, LAPACK finds NaN as eigenvalues.
    product.diagonal().add_(SMALLEST**2)
    squares, vectors = torch.linalg.eigh(product)
    whitening: Tensor = (vectors * squares.clamp(min=SMALLEST**2).rsqrt()) @ vectors.T
    return whitening @ matrix


def _joins_stacks(weight: Tensor) -> bool:
    return weight.ndim == 4 and min(weight.shape[:2]) > 1
