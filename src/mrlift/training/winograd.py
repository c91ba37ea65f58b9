"""3x3 convolutions in single precision on a CPU, forward and backward, with fewer multiplications.

Winograd's F(6x6, 3x3) takes 64 products for 36 results instead of 324: in the forward pass, for the
gradient of the images and, by the adjoint of the same steps, for that of the kernels. winograd.c
has them all, beside those of the engine of that name. Rounding differs from that of PyTorch: the
largest error is about 1e-5 of the largest result, that of direct convolutions 1e-6.
"""

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from mrlift.inference.winograd import divides, library

SIDE, TILE = 8, 6  # samples and results of a tile
_kept = threading.local()
PAD = 16  # numbers between points, which would else fall into the same lines of the cache


def quicken(network: nn.Module) -> int:
    """Have the 3x3 convolutions of a network on the CPU computed here, where that is possible.

    Parameters and their names stay as they are.

    Returns:
        How many these are: none where the compiled part is missing (see `inference.winograd`).
    """
    fit = [module for module in network.modules() if _fits(module)] if library() else []
    for module in fit:
        module.__class__ = WinogradConv2d
    return len(fit)


def _fits(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and (
        (module.kernel_size, module.stride, module.padding, module.dilation, module.groups)
        == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        and module.in_channels == module.out_channels
        and module.padding_mode == "zeros"
        and module.bias is not None
        and divides(module.in_channels)
    )


class WinogradConv2d(nn.Conv2d):
    """`nn.Conv2d` of 3x3 with as many channels out as in, (b, c, h, w) -> (b, c, h, w)."""

    def forward(self, images: Tensor) -> Tensor:
        """PyTorch's own where something else than single precision on the CPU is asked for."""
        plain = images.device.type == "cpu" and images.dtype == torch.float32
        if not plain or torch.is_autocast_enabled("cpu"):
            return super().forward(images)
        made: Tensor = _Convolution.apply(images, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


class _Convolution(torch.autograd.Function):
    """Images (b, c, h, w), kernels (c, c, 3, 3) and bias (c,) to images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        images = _channels_last(images)
        ctx.save_for_backward(images, kernels)
        return _convolved(images, kernels, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        images, kernels = ctx.saved_tensors
        gradient = _channels_last(gradients[0])
        needed, of_kernels, of_bias = ctx.needs_input_grad
        return (
            _convolved(gradient, kernels, None) if needed else None,
            _kernel_gradient(images, gradient) if of_kernels else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _convolved(images: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution plus bias or, without one, its adjoint: turned kernels, from out to in."""
    compiled = _library()
    batch, channels, height, width = images.shape
    taps = kernels.permute(0, 2, 3, 1) if bias is None else kernels.permute(1, 2, 3, 0)
    taps = taps.contiguous()
    points = _memory("points", compiled.mrlift_winograd_kernels_size(channels))
    out = torch.empty_like(images)
    added = torch.zeros(channels) if bias is None else bias

    def transform(counter: int) -> None:
        compiled.mrlift_winograd_image_kernels(
            taps.data_ptr(), channels, bias is None, points.data_ptr(), counter
        )

    def convolve(counter: int) -> None:
        scratch = _memory("scratch", compiled.mrlift_winograd_images_scratch(channels))
        compiled.mrlift_winograd_images(
            images.data_ptr(), points.data_ptr(), added.data_ptr(), channels, batch, height, width,
            out.data_ptr(), scratch.data_ptr(), counter,
        )  # fmt: skip

    _share(transform)
    _share(convolve)
    return out


def _kernel_gradient(images: Tensor, gradient: Tensor) -> Tensor:
    """Of the sum of `gradient` times the convolution, for each number of the kernels."""
    compiled = _library()
    batch, channels, height, width = images.shape
    tiles = batch * -(-height // TILE) * -(-width // TILE)
    behind = compiled.mrlift_winograd_behind()
    point = tiles * channels + PAD
    of_images = _memory("images", SIDE**2 * point)
    of_gradient = _memory("gradient", SIDE**2 * point + behind)
    rows = -(-channels // behind) * behind
    at_points = _memory("points", SIDE**2 * rows * channels)

    def transform(counter: int) -> None:
        scratch = _memory("scratch", SIDE**2 * channels)
        compiled.mrlift_winograd_points(
            images.data_ptr(), gradient.data_ptr(), channels, batch, height, width, point,
            of_images.data_ptr(), of_gradient.data_ptr(), scratch.data_ptr(), counter,
        )  # fmt: skip

    def multiply(counter: int) -> None:
        compiled.mrlift_winograd_gradient(
            of_images.data_ptr(), of_gradient.data_ptr(), channels, tiles, point, rows,
            at_points.data_ptr(), counter,
        )  # fmt: skip

    def back(counter: int) -> None:
        compiled.mrlift_winograd_taps(
            at_points.data_ptr(), channels, rows, taps.data_ptr(), counter
        )

    taps = torch.empty(channels, 3, 3, channels)
    for work in (transform, multiply, back):
        _share(work)
    return taps.permute(0, 3, 1, 2)


def _memory(name: str, size: int) -> Tensor:
    """At least so many numbers, of any value; the same ones for each call by this thread.

    New memory would be cleared by the system page by page, which takes longer than what is done
    with it.
    """
    kept: dict[str, Tensor] = _kept.__dict__
    if name not in kept or len(kept[name]) < size:
        kept[name] = torch.zeros(size)
    return kept[name]


def _share(work: Callable[[int], None]) -> None:
    """Have PyTorch's number of threads do it, with a counter for what is next."""
    counter = ctypes.c_long(0)
    threads = torch.get_num_threads()
    others = [_hands(threads).submit(work, ctypes.addressof(counter)) for _ in range(threads - 1)]
    work(ctypes.addressof(counter))
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _hands(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


def _library() -> ctypes.CDLL:
    compiled = library()
    assert compiled is not None  # or `quicken` would have left the network alone
    return compiled


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
