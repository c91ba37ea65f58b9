"""A slice passed through all layers of the network in strips of rows.

Memory decides how fast convolutions are, so a strip is no larger than what a core's cache holds.
Each layer keeps the last two rows that it saw: nothing is computed twice, and the zero padding of
the slice's border is exact. Several threads work on strips one after the other, each a unit behind
the one before. The idea is that of the line buffers of streaming image processors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrlift.graph import Array, Parts
from mrlift.inference.engines import Engine, Slices, cores

Shared = TypeVar("Shared")  # what all strips of a slice share
Kept = TypeVar("Kept")  # what a unit keeps of a strip for the next one


@dataclass(frozen=True)
class Strip:
    """Rows [begin, end) that each of the 2N + 1 layers makes; `final` reaches the last row."""

    begin: tuple[int, ...]
    end: tuple[int, ...]
    final: bool

    @property
    def top(self) -> int:
        """Rows that a layer has kept from above: two, but for the one of zeros above the slice."""
        return 2 if self.begin[0] else 1


def strips(height: int, width: int, units: int, area: int, tile: int = 1) -> list[Strip]:
    """How a slice is cut. Layer l lags l + 1 rows behind the slice until its end is known.

    Args:
        height: of the slice, LR samples.
        width: of the slice.
        units: N.
        area: LR samples that a strip should have.
        tile: rows that are computed together.
    """
    layers = 2 * units + 1
    rows = tile * max(1, round(area / (width * tile)))
    count = max(1, round(height / rows))
    if tile > 1:  # all but the first and the last are whole tiles high then
        rows = tile * -(-height // (count * tile))
        ends = [rows * k + units for k in range(1, count)]
    else:
        ends = [height * k // count + units for k in range(1, count)]
    ends = [e for e in ends if layers + 1 < e < height]
    result, begin = [], (0,) * layers
    for e in ends:
        end = tuple(e - 1 - layer for layer in range(layers))
        result.append(Strip(begin, end, final=False))
        begin = end
    return [*result, Strip(begin, (height,) * layers, final=True)]


class Slice:
    """What the strips of one slice share: its samples, and the sum of the U_i in a ring of rows.

    A row begins with a zero, the padding of its own left and of the right of the row above.

    Args:
        image: (h, w).
        cut: its strips.
        threads: that work on them.
        channels: of the sum.
        behind: pixels of the sum that may be read behind its end.
        lead: rows of zeros above the slice and its padding that may be read.
    """

    def __init__(
        self,
        image: Array,
        cut: list[Strip],
        threads: int,
        channels: int,
        behind: int = 0,
        lead: int = 0,
    ) -> None:
        height, width = image.shape
        self.stride, self.lead = width + 1, lead
        self.samples = np.zeros((lead + height + 2) * self.stride + 2, np.float32)
        rows = self.samples[1:-1].reshape(-1, self.stride)
        rows[lead + 1 : -1, 1:] = image
        self.ring = max(  # no strip ends before the one above, so at most `threads` are under way
            cut[min(i + threads, len(cut)) - 1].end[0] - strip.begin[-1]
            for i, strip in enumerate(cut)
        )
        pixels = np.empty((self.ring * self.stride + behind, channels), np.float32)
        self.sum = pixels[: self.ring * self.stride].reshape(self.ring, self.stride, channels)

    def above(self, row: int) -> int:
        """Address of the first sample, a zero, of the row above `row`."""
        return address(self.samples, 1 + (self.lead + row) * self.stride)


def address(array: NDArray[Any], offset: int = 0) -> int:
    """Of an element of a contiguous array."""
    return int(array.ctypes.data + offset * array.itemsize)


class Passage(ABC, Generic[Shared, Kept]):
    """One network and the passage of slices through it; subclasses do the arithmetic.

    Args:
        network: the weights.
        area: LR samples of a strip.
        tile: rows that are computed together.
    """

    def __init__(self, network: Parts, area: int, tile: int = 1) -> None:
        self.units, self.channels = len(network.units), len(network.head[1])
        self.scale, self.cut = network.scale, network.cut
        self.kernel = network.deconvolution.shape[-1]
        self.bias = float(network.bias.item())
        self.area, self.tile = area, tile

    @abstractmethod
    def begin(self, image: Array, cut: list[Strip], threads: int) -> tuple[Shared, list[Kept]]:
        """What all strips of a slice (h, w) share, and what each unit keeps above its first row."""

    @abstractmethod
    def through(
        self,
        shared: Shared,
        strip: Strip,
        kept: list[Future[Kept]],
        following: list[Future[Kept]],
    ) -> tuple[int, Array]:
        """One strip through all units: the first HR row that it adds to, and what it adds.

        Waits for `kept` of a unit before the unit and sets `following` after it.
        """

    def engine(self, threads: int) -> Engine:
        """The network as an engine on so many threads; 0 takes all cores."""
        workers = threads or cores()

        def run(slices: Slices) -> Slices:
            with ThreadPoolExecutor(workers) as pool:
                started = [self._start(image, pool, workers) for image in slices]
                try:
                    return np.stack([finish() for finish in started])
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise

        return run

    def _start(self, image: Array, pool: ThreadPoolExecutor, threads: int) -> Callable[[], Array]:
        """Hand the strips of a slice (h, w) to `pool`; the result is called for (H, W)."""
        height, width = image.shape
        cut = strips(height, width, self.units, self.area, self.tile)
        shared, first = self.begin(image, cut, threads)
        kept: list[Future[Kept]] = []
        for value in first:
            kept.append(Future())
            kept[-1].set_result(value)
        works = []
        for strip in cut:
            following: list[Future[Kept]] = [Future() for _ in range(self.units)]
            works.append(pool.submit(self._run, shared, strip, kept, following))
            kept = following

        def finish() -> Array:
            size = (height - 1) * self.scale + self.kernel
            rows = np.full((size, self.width(width)), self.bias, np.float32)
            for work in works:
                top, part = work.result()
                rows[top : top + len(part)] += part
            return rows[self.cut : size - self.cut]

        return finish

    def width(self, width: int) -> int:
        """HR samples over `width` LR samples, without what the deconvolution drops."""
        return int((width - 1) * self.scale + self.kernel - 2 * self.cut)

    def _run(
        self,
        shared: Shared,
        strip: Strip,
        kept: list[Future[Kept]],
        following: list[Future[Kept]],
    ) -> tuple[int, Array]:
        try:
            return self.through(shared, strip, kept, following)
        except BaseException as error:
            for future in following:  # the next strip waits for these
                if not future.done():
                    future.set_exception(error)
            raise
