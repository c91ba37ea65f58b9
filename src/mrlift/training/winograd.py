"""3x3 convolutions in single precision on a CPU, forward and backward, with fewer multiplications.

Winograd's F(6x6, 3x3) takes 64 products for 36 results instead of 324: in the forward pass, for the
gradient of the images and, by the adjoint of the same steps, for that of the kernels. winograd.c
has them all, beside those of the engine of that name. Rounding differs from that of PyTorch: the
largest error is about 1e-5 of the largest result, that of direct convolutions 1e-6.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mrlift.inference.engines import TILE
from mrlift.inference.winograd import TOGETHER, divides, library

SIDE = 8  # samples of a tile
PAD = 16  # numbers between points, which would else fall into the same lines of the cache
_kept = threading.local()
Counter = Any  # what ctypes.byref gives


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
        fit = (
            images.device.type == self.weight.device.type == "cpu"
            and images.dtype == self.weight.dtype == torch.float32
            and images.ndim == 4
            and images.shape[1] == self.in_channels
            and not torch.is_autocast_enabled("cpu")
        )
        if not fit:
            return super().forward(images)
        made: Tensor = _Convolution.apply(images, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return made


class _Convolution(torch.autograd.Function):
    """Images (b, c, h, w), kernels (c, c, 3, 3) and bias (c,) to images."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:  # noqa: ANN401
        images = _channels_last(images)
        ctx.save_for_backward(images, kernels)
        return _convolved(images, kernels.permute(1, 2, 3, 0), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        images, kernels = ctx.saved_tensors
        gradient = _channels_last(gradient)
        of_images, of_kernels, of_bias = ctx.needs_input_grad
        return (
            _adjoint(gradient, kernels) if of_images else None,
            _kernel_gradient(images, gradient) if of_kernels else None,
            gradient.sum((0, 2, 3)) if of_bias else None,
        )


def _adjoint(gradient: Tensor, kernels: Tensor) -> Tensor:
    """The gradient of images: the convolution with turned kernels, from out to in."""
    nothing = gradient.new_zeros(gradient.shape[1])
    return _convolved(gradient, kernels.permute(0, 2, 3, 1), nothing, turned=True)


def _convolved(images: Tensor, taps: Tensor, bias: Tensor, *, turned: bool = False) -> Tensor:
    """With taps (in, 3, 3, out), or those in reverse order."""
    compiled = _library()
    batch, channels, height, width = images.shape
    taps, bias, out = taps.contiguous(), bias.contiguous(), torch.empty_like(images)
    points = _memory("points", compiled.mrlift_winograd_kernels_size(channels))

    def transform(counter: Counter) -> None:
        compiled.mrlift_winograd_kernels(
            taps.data_ptr(), channels, turned, points.data_ptr(), counter
        )

    def convolve(counter: Counter) -> None:
        scratch = _memory("scratch", compiled.mrlift_winograd_images_scratch(channels))
        compiled.mrlift_winograd_images(
            images.data_ptr(), points.data_ptr(), bias.data_ptr(), channels, batch, height, width,
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
    point = tiles * channels + PAD
    of_images = _memory("images", SIDE**2 * point)
    of_gradient = _memory("gradient", SIDE**2 * point)
    together = compiled.mrlift_winograd_behind()
    rows = -(-channels // together) * together
    at_points = _memory("points", SIDE**2 * rows * channels)
    taps = images.new_empty(channels, 3, 3, channels)  # (out, 3, 3, in)

    def transform(counter: Counter) -> None:
        scratch = _memory("scratch", SIDE**2 * channels)
        compiled.mrlift_winograd_points(
            images.data_ptr(), gradient.data_ptr(), channels, batch, height, width, point,
            of_images.data_ptr(), of_gradient.data_ptr(), scratch.data_ptr(), counter,
        )  # fmt: skip

    def multiply(counter: Counter) -> None:
        compiled.mrlift_winograd_gradient(
            of_images.data_ptr(), of_gradient.data_ptr(), channels, tiles, point, rows,
            at_points.data_ptr(), counter,
        )  # fmt: skip

    def transform_back(counter: Counter) -> None:
        compiled.mrlift_winograd_taps(
            at_points.data_ptr(), channels, rows, taps.data_ptr(), counter
        )

    for work in (transform, multiply, transform_back):
        _share(work)
    return taps.permute(0, 3, 1, 2)


def _memory(name: str, size: int) -> Tensor:
    """At least so many numbers, of any value; the same ones for each call by this thread.

    New memory would be cleared by the system page by page, which takes longer than what is done
    with it.
    """
    kept: dict[str, Tensor] = _kept.__dict__
    if name not in kept or len(kept[name]) < size:
        kept[name] = torch.zeros(size, dtype=torch.float32, device="cpu")
    return kept[name]


def _share(work: Callable[[Counter], None]) -> None:
    """Have PyTorch's number of threads do it, with a counter for what is next."""
    counter = ctypes.byref(ctypes.c_long(0))
    threads = min(torch.get_num_threads(), TOGETHER)
    others = [_hands(threads).submit(work, counter) for _ in range(threads - 1)]
    work(counter)
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _hands(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1)


os.register_at_fork(after_in_child=_hands.cache_clear)  # threads stay with the parent


def _library() -> ctypes.CDLL:
    compiled = library()
    assert compiled is not None  # or `quicken` would have left the network alone
    return compiled


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
