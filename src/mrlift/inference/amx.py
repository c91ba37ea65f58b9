"""The network on the matrix units (AMX) of server processors: what amx.c computes, strip by strip.

The library beside this file is compiled where the package is built on Linux for x86-64 with a C
compiler; elsewhere, and on processors without AMX, there is no such engine.
"""

import ctypes
from concurrent.futures import Future
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import ModelError
from mrlift.graph import Array, Parts, parts, read_graph
from mrlift.inference.engines import Engine, flags
from mrlift.inference.strips import Passage, Slice, Strip, address

LIBRARY = "libamx.so"
AREA = 1536 * 128  # LR samples of a strip times channels; with the weights of a layer 1.4 MB
BLOCK = 32  # channels and pixels of a block, PIXELS and KERNELS in amx.c
STACKS = 2  # of rows: a convolution reads one and writes the other
TAPS = 16  # columns of the largest transposed convolution
Halves = NDArray[np.uint16]  # bfloat16 values as bits: hi and lo, see amx.c
Kept = tuple[Halves, Halves]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled part, or None where it was not built or the processor has no AMX."""
    file = Path(__file__).with_name(LIBRARY)
    if not (file.exists() and {"amx_bf16", "amx_tile", "avx512_bf16"} <= flags()):
        return None
    loaded = ctypes.CDLL(str(file))
    if not loaded.mrlift_amx_allow():
        return None
    at, whole = ctypes.c_void_p, ctypes.c_int
    loaded.mrlift_amx_head.argtypes = [at, at, at, whole, whole, ctypes.c_long, at]
    loaded.mrlift_amx_convolve.argtypes = [
        *(at, at, at, whole, whole, ctypes.c_long, at),
        *(at, at, at, ctypes.c_float, whole, at),
    ]
    loaded.mrlift_amx_deconvolve.argtypes = [
        *(at, at, at, whole, whole, whole, whole, whole, ctypes.c_long, at),
    ]
    return loaded


def amx_engine(weights: bytes, threads: int = 0) -> Engine:
    """Convolutions on AMX, each product as three of bfloat16 (see amx.c), sums in float32.

    Args:
        weights: content of an .onnx file of a multi-resolution learning network.
        threads: threads within one call; 0 takes all cores.

    Raises:
        ModelError: it cannot run here, or these are of another network or one that does not fit.
    """
    compiled = library()
    if compiled is None:
        raise ModelError(
            "The engine amx needs a processor with AMX, Linux, and a package that was built where "
            "there is a C compiler."
        )
    network = parts(read_graph(weights))
    if len(network.head[1]) % BLOCK or network.deconvolution.shape[-1] not in (8, 9, 11, TAPS):
        raise ModelError(
            f"The engine amx runs networks whose channels are a multiple of {BLOCK} and whose "
            f"transposed convolution is 8, 9, 11 or {TAPS} wide; this one has "
            f"{len(network.head[1])} and {network.deconvolution.shape[-1]}."
        )
    return _Amx(compiled, network).engine(threads)


class _Buffers:
    """Stacks of rows with the room around them that amx.c reads."""

    def __init__(self, rows: int, stride: int, channels: int) -> None:
        pixels = rows * stride
        self.stacks = [
            np.zeros((BLOCK + 2 + pixels, 2, channels), np.uint16) for _ in range(STACKS)
        ]
        self.stride = stride

    def rows(self, stack: int, first: int, last: int) -> Halves:
        """Rows [first, last) of a stack as (pixels, 2, channels)."""
        return self.stacks[stack][1 + first * self.stride : 1 + last * self.stride]

    def end(self, stack: int, rows: int) -> None:
        """Put the zero pixel behind the last row that pads its right."""
        self.stacks[stack][1 + rows * self.stride] = 0


Free = SimpleQueue[_Buffers]


class _Amx(Passage[tuple[Slice, Free], Kept]):
    """One network, its weights as amx.c wants them, and the passage of slices through it."""

    def __init__(self, compiled: ctypes.CDLL, network: Parts) -> None:
        super().__init__(network, max(1, AREA // len(network.head[1])))
        self.compiled = compiled
        weight, bias = network.head
        self.head = np.ascontiguousarray(weight.reshape(-1, 9).T, np.float32), _float32(bias)
        self.layers = [(packed(w), _float32(b)) for unit in network.units for w, b in unit]
        self.shares = network.shares
        columns = np.zeros((self.channels + 1, self.kernel, TAPS), np.float32)
        columns[..., : self.kernel] = network.deconvolution[:, 0]
        columns[-1] *= network.total
        self.columns = columns

    def begin(
        self, image: Array, cut: list[Strip], threads: int
    ) -> tuple[tuple[Slice, Free], list[Kept]]:
        """The slice, buffers for the strips that are under way, a row of zeros for each layer."""
        stride = image.shape[1] + 1
        most = max(strip.end[k] - strip.begin[k] for strip in cut for k in (0, -1)) + 3
        free: Free = SimpleQueue()
        for _ in range(min(threads, len(cut))):
            free.put(_Buffers(most, stride, self.channels))
        zero = np.zeros((stride, 2, self.channels), np.uint16)
        return (Slice(image, cut, threads, self.channels), free), [(zero, zero)] * self.units

    def through(
        self,
        shared: tuple[Slice, Free],
        strip: Strip,
        kept: list[Future[Kept]],
        following: list[Future[Kept]],
    ) -> tuple[int, Array]:
        """One strip through all units, see `Passage.through`."""
        slice_, free = shared
        buffers = free.get()
        try:
            self._head(slice_, strip, buffers)
            for unit in range(self.units):
                keep = self._unit(unit, slice_, strip, buffers, kept[unit].result())
                if unit + 1 < self.units:
                    following[unit].set_result(keep)
            result = self._deconvolved(slice_, strip)
            following[-1].set_result(keep)  # only now: the rows of the sum are free again
            return result
        finally:
            free.put(buffers)

    def _unit(self, unit: int, slice_: Slice, strip: Strip, buffers: _Buffers, above: Kept) -> Kept:
        """Both convolutions of a unit; takes and returns what lies above the rows of each."""
        first, second = 2 * unit, 2 * unit + 1
        keep = self._complete(first, strip, buffers, above[0])
        self._convolve(first, slice_, strip, buffers)
        keep_too = self._complete(second, strip, buffers, above[1])
        self._convolve(second, slice_, strip, buffers)
        return keep, keep_too

    def _complete(self, layer: int, strip: Strip, buffers: _Buffers, above: Halves) -> Halves:
        """Put what lies around a layer's rows around them; returns what the next strip needs."""
        stack, top = layer % STACKS, strip.top
        bottom = top + strip.end[layer] - strip.begin[layer]
        buffers.rows(stack, 0, top)[:] = above
        if strip.final:
            buffers.rows(stack, bottom, bottom + 1)[:] = 0
        buffers.end(stack, bottom + strip.final)
        return buffers.rows(stack, bottom - 2, bottom).copy()

    def _convolve(self, layer: int, slice_: Slice, strip: Strip, buffers: _Buffers) -> None:
        """Convolution `layer` of the units, which makes layer + 1."""
        weights, bias = self.layers[layer]
        unit, second = divmod(layer, 2)
        begin, end = strip.begin[layer + 1], strip.end[layer + 1]
        for row, last in pieces(slice_, begin, end) if second else [(begin, end)]:
            source = buffers.rows(layer % STACKS, row - begin, row - begin + 1)
            to = strip.top + row - begin
            target = buffers.rows((layer + 1) % STACKS, to, to + 1)
            self.compiled.mrlift_amx_convolve(
                address(source), address(weights), address(bias), self.channels, slice_.stride,
                (last - row) * slice_.stride, address(target),
                slice_.above(row) if second else None, address(self.head[0]), address(self.head[1]),
                self.shares[unit], unit == 0, address(slice_.sum[row % slice_.ring]),
            )  # fmt: skip

    def _head(self, slice_: Slice, strip: Strip, buffers: _Buffers) -> None:
        begin, end = strip.begin[0], strip.end[0]
        target = buffers.rows(0, strip.top, strip.top + 1)
        self.compiled.mrlift_amx_head(
            slice_.above(begin), address(self.head[0]), address(self.head[1]), self.channels,
            slice_.stride, (end - begin) * slice_.stride, address(target),
        )  # fmt: skip

    def _deconvolved(self, slice_: Slice, strip: Strip) -> tuple[int, Array]:
        """The transposed convolution of the rows whose sum is complete."""
        begin, end = strip.begin[-1], strip.end[-1]
        height, across = (
            (n - 1) * self.scale + self.kernel for n in (end - begin, slice_.stride - 1)
        )
        result = np.zeros(height * across + TAPS, np.float32)
        for row, last in pieces(slice_, begin, end):
            self.compiled.mrlift_amx_deconvolve(
                address(slice_.sum[row % slice_.ring]), slice_.above(row + 1),
                address(self.columns), self.channels, slice_.stride, last - row, self.kernel,
                self.scale, across, address(result, (row - begin) * self.scale * across),
            )  # fmt: skip
        part = result[: height * across].reshape(height, across)
        return begin * self.scale, part[:, self.cut : across - self.cut]


def pieces(slice_: Slice, begin: int, end: int) -> list[tuple[int, int]]:
    """Rows [begin, end) cut where the ring of sums begins anew."""
    inner = range(-(-(begin + 1) // slice_.ring) * slice_.ring, end, slice_.ring)
    return list(pairwise([begin, *inner, end]))


def packed(weight: Array) -> Halves:
    """Weights (out, in, 3, 3) as tiles, in the order in which amx.c reads them.

    A tile has, for each pair of 32 input channels, that pair for each of 16 kernels.
    """
    kernels, channels = weight.shape[:2]
    halves = np.stack(split(weight))  # (2, out, in, 3, 3)
    tiles = halves.reshape(2, kernels // BLOCK, 2, 16, channels // BLOCK, 16, 2, 9)
    return np.ascontiguousarray(tiles.transpose(1, 7, 4, 0, 2, 5, 3, 6))


def split(values: Array) -> tuple[Halves, Halves]:
    """The bits of hi and lo, bfloat16 numbers that sum up to `values` to 2^-16 of them."""
    hi = _bfloat16(_float32(values))
    return hi, _bfloat16(_float32(values) - _widened(hi))


def _bfloat16(values: Array) -> Halves:
    """Rounded to nearest, ties to even; finite values only."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _widened(halves: Halves) -> Array:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)
