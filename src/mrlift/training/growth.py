"""Start a network from a trained one: a larger MRL network without changing its output.

Pixels seen count for more than capacity early in training, and a small network sees ten times as
many per minute. Following the idea of Net2Net (Chen, Goodfellow and Shlens, ICLR 2016), new
channels start with random inputs and zero weights towards everything that existed before; new
units copy the last one and enter the sum with weight zero.

Other networks take over every layer that has the same shape, but for a transposed convolution
with another stride: its taps lie elsewhere.
"""

import torch
from torch import nn

from mrlift.errors import ModelError
from mrlift.networks.mrl import MRL


@torch.no_grad()
def begin_from(network: nn.Module, trained: nn.Module) -> None:
    """Start `network` from `trained`, of the same class.

    Raises:
        ModelError: they are of different classes, or as `grow` says.
    """
    if isinstance(network, MRL) and isinstance(trained, MRL):
        grow(network, trained)
        return
    if type(network) is not type(trained):
        ours, theirs = type(network).__name__, type(trained).__name__
        raise ModelError(f"A network {theirs} cannot start a network {ours}.")
    known = trained.state_dict()
    strides = _strides(trained)
    elsewhere = {layer for layer, stride in _strides(network).items() if strides[layer] != stride}
    for name, new in network.state_dict().items():
        fits = name in known and known[name].shape == new.shape
        if fits and name.rpartition(".")[0] not in elsewhere:
            new.copy_(known[name])


def _strides(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of the transposed convolutions, by name."""
    layers = network.named_modules()
    return {name: m.stride for name, m in layers if isinstance(m, nn.ConvTranspose2d)}


@torch.no_grad()
def grow(large: MRL, small: MRL) -> None:
    """Copy a smaller or equal network into `large`, keeping its function.

    At another scale the features are kept and the deconvolution starts as bicubic interpolation.

    Raises:
        ModelError: `small` is larger, or of another kind than `large`.
    """
    kinds = [(n.upsampling, n.grid, len(n.units) == n.depth) for n in (small, large)]
    sizes = [(n.depth, n.head.out_channels) for n in (small, large)]
    shared = len(large.units) < large.depth
    if (
        kinds[0] != kinds[1]
        or any(a > b for a, b in zip(*sizes, strict=True))
        or (sizes[0][0] < sizes[1][0] and (shared or large.upsampling != "multi"))
    ):
        raise ModelError(
            f"A network of {sizes[0]} units and channels ({kinds[0]}) cannot start one of "
            f"{sizes[1]} ({kinds[1]}). Start from an equal or smaller one of the same kind; units "
            "can be added to the multi-resolution network without shared weights only."
        )
    same_scale = small.scale == large.scale
    known = small.state_dict()
    for name, new in large.state_dict().items():
        parts = name.split(".")
        if parts[0] == "units":
            parts[1] = str(min(int(parts[1]), len(small.units) - 1))
        old = known[".".join(parts)]
        if name == "weights":
            new.zero_()
            new[: len(old)] = old
        elif parts[0] == "deconv" and new.dim() == 4:
            if not same_scale:
                continue
            last = int(large.upsampling != "single")  # the x channel comes last
            new.zero_()
            new[: len(old) - last] = old[: len(old) - last]
            new[len(new) - last :] = old[len(old) - last :]
        elif new.dim() == 4:
            new[: old.shape[0], old.shape[1] :] = 0
            new[: old.shape[0], : old.shape[1]] = old
        else:
            new[: len(old)] = old
