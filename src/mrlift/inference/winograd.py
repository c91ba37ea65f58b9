"""The network in Winograd's convolutions on any x86-64 with AVX2: what winograd.c computes.

The libraries beside this file are compiled where the package is built on Linux for x86-64 with a C
compiler; elsewhere, and on processors without AVX2, there is no such engine.
"""

import ctypes
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import ModelError
from mrlift.graph import Array, Parts, parts, read_graph
from mrlift.inference.engines import TILE, Engine, cores, flags
from mrlift.inference.strips import Passage, Slice, Strip, address

# The longest vectors first: what each library needs, as Linux names it.
LIBRARIES = {
    "libwinograd512.so": {"avx512f", "fma"},
    "libwinograd256.so": {"avx2", "fma"},
}
AREA = 16384 * 128  # LR samples of a strip times channels: each of three such arrays has 8 MB
BLOCK = 32  # channels are a multiple
TOGETHER = 8  # threads at most that share a layer; beyond, strips and slices go side by side
Rows = NDArray[np.float32]  # (rows, padded width, channels)
Kept = tuple[Rows, Rows]


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled part, or None where it was not built or the processor cannot run it."""
    able = flags()
    files = (Path(__file__).with_name(name) for name, needs in LIBRARIES.items() if needs <= able)
    file = next((file for file in files if file.exists()), None)
    if file is None:
        return None
    loaded = ctypes.CDLL(str(file))
    at, whole, long, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_float
    loaded.mrlift_winograd_scratch.restype = long
    loaded.mrlift_winograd_kernels_size.restype = long
    loaded.mrlift_winograd_kernels.argtypes = [at, whole, whole, at, at]
    loaded.mrlift_winograd_head.argtypes = [at, at, at, whole, long, long, long, at, at]
    loaded.mrlift_winograd_convolve.argtypes = [
        *(at, at, at, whole, long, long, at, at, long, at, at, real, whole, at, at, at),
    ]
    loaded.mrlift_winograd_deconvolve.argtypes = [
        *(at, at, long, at, at, whole, long, long, whole, whole, long, at, at),
    ]
    loaded.mrlift_winograd_images_scratch.restype = long
    loaded.mrlift_winograd_images.argtypes = [at, at, at, whole, long, long, long, at, at, at]
    loaded.mrlift_winograd_points.argtypes = [
        *(at, at, whole, long, long, long, long, at, at, at, at),
    ]
    loaded.mrlift_winograd_gradient.argtypes = [at, at, whole, long, long, long, at, at]
    loaded.mrlift_winograd_taps.argtypes = [at, whole, long, at, at]
    return loaded


def divides(channels: int) -> bool:
    """Whether so many channels can be computed."""
    return channels % BLOCK == 0 and (channels <= 64 or channels % 64 == 0)


def winograd_engine(weights: bytes, threads: int = 0) -> Engine:
    """Winograd convolutions in single precision (see winograd.c).

    Args:
        weights: content of an .onnx file of a multi-resolution learning network.
        threads: threads within one call; 0 takes all cores.

    Raises:
        ModelError: it cannot run here, or these are of another network or one that does not fit.
    """
    compiled = library()
    if compiled is None:
        raise ModelError(
            "The engine winograd needs a processor with AVX2 and FMA, Linux, and a package that "
            "was built where there is a C compiler."
        )
    network = parts(read_graph(weights))
    channels = len(network.head[1])
    if not divides(channels):
        raise ModelError(
            f"The engine winograd runs networks of {BLOCK} channels or a multiple of 64; this one "
            f"has {channels}."
        )
    return _Winograd(compiled, network, threads or cores()).engine(threads)


class _Buffers:
    """Two stacks of rows, of which a convolution reads one and writes the other.

    Their last row stays zero, and so does what surrounds the slice's columns. The last but one
    takes what is of no use.
    """

    def __init__(self, rows: int, stride: int, channels: int) -> None:
        self.stacks = [np.zeros((rows, stride, channels), np.float32) for _ in range(2)]


Free = SimpleQueue[_Buffers]


class _Winograd(Passage[tuple[Slice, Free], Kept]):
    """One network, its weights transformed, and the passage of slices through it."""

    def __init__(self, compiled: ctypes.CDLL, network: Parts, threads: int) -> None:
        super().__init__(network, max(1, AREA // len(network.head[1])), TILE)
        self.compiled = compiled
        self.panel = int(compiled.mrlift_winograd_panel())
        weight, bias = network.head
        self.head = np.ascontiguousarray(weight.reshape(-1, 9).T, np.float32), _float32(bias)
        self.together = min(threads, TOGETHER)
        self.hands = ThreadPoolExecutor(max(1, threads))
        self.scratch: SimpleQueue[Array] = SimpleQueue()
        convolutions = [layer for unit in network.units for layer in unit]
        # One array for all: the system gives large ones in large pages, which takes half the time.
        points = np.empty(
            (len(convolutions), compiled.mrlift_winograd_kernels_size(self.channels)), np.float32
        )
        # Begun here, awaited where a layer is first needed: meanwhile others read what to upscale.
        self.layers = [
            (self.hands.submit(self._transformed, weight, into), _float32(bias))
            for (weight, bias), into in zip(convolutions, points, strict=True)
        ]
        self.shares = network.shares
        size = self.kernel**2
        taps = np.zeros((self.channels + 1, -(-size // self.panel) * self.panel), np.float32)
        taps[:, :size] = network.deconvolution.reshape(self.channels + 1, size)
        self.taps = _paneled(taps[:-1], self.panel), taps[-1] * network.total

    def engine(self, threads: int) -> Engine:
        """The network as an engine: up to `TOGETHER` threads share a layer, 0 takes all cores."""
        workers = threads or cores()
        return super().engine(-(-workers // self.together))

    def _transformed(self, weight: Array, points: Array) -> Array:
        """Weights (out, in, 3, 3) as convolve reads them, in `points`."""
        taps, counter = _float32(weight.transpose(1, 2, 3, 0)), np.zeros(1, np.int64)
        self.compiled.mrlift_winograd_kernels(
            address(taps), self.channels, False, address(points), address(counter)
        )
        return points

    def begin(
        self, image: Array, cut: list[Strip], threads: int
    ) -> tuple[tuple[Slice, Free], list[Kept]]:
        """The slice, buffers for the strips that are under way, zeros above each layer."""
        stride = 2 - (-image.shape[1] // TILE) * TILE
        most = max(strip.end[k] - strip.begin[k] for strip in cut for k in (0, -1)) + 2
        free: Free = SimpleQueue()
        for _ in range(min(threads, len(cut))):
            free.put(_Buffers(most, stride, self.channels))
        zeros = np.zeros((2, stride, self.channels), np.float32)
        behind = int(self.compiled.mrlift_winograd_behind())
        slice_ = Slice(image, cut, threads, self.channels, behind, TILE)
        return (slice_, free), [(zeros, zeros)] * self.units

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
                above = kept[unit].result()
                keep = (
                    self._convolve(2 * unit, slice_, strip, buffers, above[0]),
                    self._convolve(2 * unit + 1, slice_, strip, buffers, above[1]),
                )
                if unit + 1 < self.units:
                    following[unit].set_result(keep)
            result = self._deconvolved(slice_, strip)
            following[-1].set_result(keep)  # only now: the rows of the sum are free again
            return result
        finally:
            free.put(buffers)

    def _head(self, slice_: Slice, strip: Strip, buffers: _Buffers) -> None:
        begin, end = strip.begin[0], strip.end[0]
        rows, (weights, bias) = _rows(buffers.stacks[0])[: end - begin], self.head

        def work(_: Array, counter: int) -> None:
            self.compiled.mrlift_winograd_head(
                slice_.above(begin), address(weights), address(bias), self.channels,
                slice_.stride, slice_.stride - 1, end - begin, address(rows), counter,
            )  # fmt: skip

        self._share(work)

    def _convolve(
        self, layer: int, slice_: Slice, strip: Strip, buffers: _Buffers, above: Rows
    ) -> Rows:
        """Convolution `layer` of the units, which makes layer + 1.

        Takes the two rows of its input above the strip, returns those for the next one.
        """
        source, target = buffers.stacks[layer % 2], buffers.stacks[(layer + 1) % 2]
        made = strip.end[layer] - strip.begin[layer]
        begin, end = strip.begin[layer + 1], strip.end[layer + 1]
        # Tiles lie alike however a slice is cut: where `strips` has the later strips begin, which
        # for those of the first one is above the slice.
        lead = (begin + layer + 2 - self.units) % TILE
        # The rows of `above` are the two before those of `source`; zeros lie around the slice.
        known = np.concatenate([_rows(above), _rows(source)[:made]])
        known = known[2 - strip.top :][: end - begin + 2]
        nothing, waste = _rows(source)[-1:], _rows(target)[-2:-1]
        rows = np.concatenate([nothing.repeat(lead), known, nothing.repeat(TILE)])
        to = np.concatenate([waste.repeat(lead), _rows(target)[: end - begin]])
        transforming, bias = self.layers[layer]
        weights = transforming.result()
        unit, second = divmod(layer, 2)
        sums = _rows(slice_.sum)[np.arange(begin, end) % slice_.ring]
        sums = np.concatenate([waste.repeat(lead), sums])

        def work(scratch: Array, counter: int) -> None:
            self.compiled.mrlift_winograd_convolve(
                address(rows), address(weights), address(bias), self.channels,
                slice_.stride - 1, len(to), address(to),
                slice_.above(begin - lead) if second else None, slice_.stride,
                address(self.head[0]), address(self.head[1]), self.shares[unit], unit == 0,
                address(sums), address(scratch), counter,
            )  # fmt: skip

        self._share(work)
        return source[made - 2 : made].copy()

    def _deconvolved(self, slice_: Slice, strip: Strip) -> tuple[int, Array]:
        """The transposed convolution of the rows whose sum is complete."""
        begin, end = strip.begin[-1], strip.end[-1]
        height, across = (
            (n - 1) * self.scale + self.kernel for n in (end - begin, slice_.stride - 1)
        )
        sums = _rows(slice_.sum)[np.arange(begin, end) % slice_.ring]
        weights, of_slice = self.taps

        def rows(first: int, last: int) -> tuple[int, Array]:
            scratch = np.empty(2 * self.panel * len(of_slice), np.float32)
            part = np.zeros(((last - first - 1) * self.scale + self.kernel, across), np.float32)
            self.compiled.mrlift_winograd_deconvolve(
                address(sums, first), slice_.above(begin + first + 1), slice_.stride,
                address(weights), address(of_slice), self.channels, slice_.stride - 1,
                last - first, self.kernel, self.scale, across, address(scratch), address(part),
            )  # fmt: skip
            return first * self.scale, part

        # Cut alike for any count of threads, as the order of sums decides over the last bit.
        bounds = np.linspace(0, end - begin, min(TOGETHER, end - begin) + 1).astype(int)
        result = np.zeros((height, across), np.float32)
        for top, part in self.hands.map(rows, bounds[:-1].tolist(), bounds[1:].tolist()):
            result[top : top + len(part)] += part
        return begin * self.scale, result[:, self.cut : across - self.cut]

    def _share(self, work: Callable[[Array, int], None]) -> None:
        """Have some threads do it, with memory of their own and a counter for what is next."""
        counter = np.zeros(1, np.int64)

        def hand() -> None:
            try:
                scratch = self.scratch.get_nowait()
            except Empty:
                size = self.compiled.mrlift_winograd_scratch(self.channels)
                scratch = np.zeros(size, np.float32)
            work(scratch, address(counter))
            self.scratch.put(scratch)

        others = [self.hands.submit(hand) for _ in range(self.together - 1)]
        hand()
        for other in others:
            other.result()


def _paneled(matrix: Array, panel: int) -> Array:
    """(..., depth, columns) as (..., columns / panel, depth, panel)."""
    *outer, depth, columns = matrix.shape
    split = matrix.reshape(*outer, depth, columns // panel, panel)
    return _float32(np.swapaxes(split, -3, -2))


def _rows(array: Rows) -> NDArray[np.uint64]:
    """Addresses of the first axis."""
    return (address(array) + array.strides[0] * np.arange(len(array))).astype(np.uint64)


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, np.float32)
