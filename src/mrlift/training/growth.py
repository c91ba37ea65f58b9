"""Start a large MRL network from a trained smaller one without changing its output.

Pixels seen count for more than capacity early in training, and a small network sees ten times as
many per minute. Following the idea of Net2Net (Chen, Goodfellow and Shlens, ICLR 2016), new
channels start with random inputs and zero weights towards everything that existed before; new
units copy the last one and enter the sum with weight zero.
"""

import torch
from torch import Tensor

from mrlift.errors import ModelError
from mrlift.networks.mrl import MRL


@torch.no_grad()
def grow(large: MRL, small: dict[str, Tensor]) -> None:
    """Load the state of a smaller `small` network into `large`, keeping its function.

    Raises:
        ModelError: `small` is not an MRL network that fits into `large`.
    """
    state = large.state_dict()
    old_units = 1 + max(int(k.split(".")[1]) for k in small if k.startswith("units."))
    for name, new in state.items():
        parts = name.split(".")
        if parts[0] == "units":
            parts[1] = str(min(int(parts[1]), old_units - 1))
        old = small.get(".".join(parts))
        if old is None or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
            raise ModelError(f"The smaller network does not fit: {name} is {tuple(new.shape)}.")
        if name == "weights":
            new.zero_()
            new[: len(old)] = old
        elif parts[0] == "deconv" and new.dim() == 4:
            if old.shape[2:] != new.shape[2:]:
                continue  # another scale: the deconvolution starts as bicubic interpolation
            new[:-1] = 0
            new[: len(old) - 1] = old[:-1]
            new[-1] = old[-1]  # the x channel comes last
        elif new.dim() == 4:
            new[: old.shape[0], old.shape[1] :] = 0
            new[: old.shape[0], : old.shape[1]] = old
        else:
            new[: len(old)] = old
    large.load_state_dict(state)
