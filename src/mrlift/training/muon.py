"""Momentum, orthogonalised: an optimiser for the kernels between stacks of channels.

Sources: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the
length of a step is that of J. Liu et al., "Muon is scalable for LLM training", arXiv 2502.16982.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LENGTH = 0.2  # root mean square of a step at rate 1, about that of Adam
SMALLEST = 1e-3  # singular values below, of a matrix of norm 1, are not brought up to 1
NOTHING = 1e-7  # norm of a momentum without gradients for a while, as in torch.optim.Muon


class Muon(torch.optim.AdamW):
    """Moves each kernel along the nearest semi-orthogonal matrix of its momentum.

    The momentum of a kernel (out, in, k, k), taken as a matrix (out, in*k*k), is U S V^T; the step
    is U V^T. Directions that the gradients seldom point to are learned as fast as the others. So
    move the kernels with several channels at both ends; AdamW moves all other weights.

    `torch.optim.Muon` takes matrices alone, and finds U V^T by products in bfloat16, which take
    most of the time on a CPU. Here it comes from the eigenvectors of the (out, out) product.

    Args:
        network: whose weights are to be moved.
        lr: rate of all; with `LENGTH` that of Adam suits the kernels.
        momentum: decay of the kernels' mean gradient, used as Nesterov does.
        weight_decay: of all, as in AdamW.
    """

    def __init__(
        self, network: nn.Module, *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        weights = list(network.parameters())
        groups = [
            {"params": [w for w in weights if _joins_stacks(w)]},
            {"params": [w for w in weights if not _joins_stacks(w)]},
        ]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, fused=True)
        self.momentum = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move all weights; the kernels' gradients are gone then.

        Raises:
            torch.linalg.LinAlgError: a momentum has no eigenvectors that LAPACK finds.
        """
        kernels = self.param_groups[0]
        for kernel in kernels["params"]:
            if kernel.grad is None:
                continue
            state = self.state[kernel]
            if not state:  # AdamW asks all states for their steps when it is resumed
                state |= {"step": torch.zeros(()), "mean": torch.zeros_like(kernel)}
            state["step"] += 1
            state["mean"].lerp_(kernel.grad, 1 - self.momentum)
            ahead = kernel.grad.lerp(state["mean"], self.momentum)
            way = orthogonalised(ahead.flatten(1))
            kernel.mul_(1 - kernels["lr"] * kernels["weight_decay"])
            length = kernels["lr"] * LENGTH * max(way.shape) ** 0.5
            kernel.add_(way.reshape_as(kernel), alpha=-length)
            kernel.grad = None  # AdamW leaves what has none alone
        super().step(closure)


def orthogonalised(matrix: Tensor) -> Tensor:
    """U V^T of a matrix (m, n) = U S V^T; what is too small of S stays smaller than 1.

    So does all of it where the matrix is next to nothing, as where a unit has fallen silent.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    matrix = matrix / (matrix.norm() + NOTHING)
    product = matrix @ matrix.T
    # Added before, not after: where most of it has no gradient, LAPACK finds NaN as eigenvalues.
    product.diagonal().add_(SMALLEST**2)
    squares, vectors = torch.linalg.eigh(product)
    whitening: Tensor = (vectors * squares.clamp(min=SMALLEST**2).rsqrt()) @ vectors.T
    return whitening @ matrix


def _joins_stacks(weight: Tensor) -> bool:
    return weight.ndim == 4 and min(weight.shape[:2]) > 1
