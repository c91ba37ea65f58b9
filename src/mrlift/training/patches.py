"""Pairs of LR and HR patches from a slice store.

Reduction and resizing are linear along each axis. Each pair is therefore cut out of its whole
slice S by two matrices an axis: HR = H S H'^T and LR = L S L'^T hold a few rows of the matrices
that `mrlift.resampling` stands for. The LR patch is exactly a part of the reduced slice, without
borders of its own and without reducing all of it.

Item k of batch n depends on the seed, n and k alone: a run that is resumed, or divided among
processes, sees what an unbroken single one would.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.inference.degradation import Kind, degrade_slice
from mrlift.inference.normalise import foreground_share
from mrlift.resampling import (
    Grid,
    bicubic_down,
    bicubic_rescale,
    bicubic_up,
    filled_size,
    hr_size,
    kspace_resize,
    lr_size,
    rician_noise,
)
from mrlift.training.config import Recipe
from mrlift.training.store import SliceStore, Split

PAPER = {2: (14, 11), 3: (10, 7), 4: (8, 6)}  # section 3.1: LR samples a side, and between patches
TRIES = 10  # draws before a patch with much air is taken after all
TISSUE = 0.5  # least foreground of a patch at a random place
USUAL = 0.02  # RMSE of bicubic interpolation of a slice that weighs 1 where slices are balanced
LEAST = 0.002  # RMSE below which a slice weighs no more: it is nearly empty
CACHED = 64  # pairs of matrices, about 1 MB each
Image = NDArray[np.float32]
Rows = tuple[int, NDArray[np.float32]]  # first source sample, and weights from there on


@dataclass(frozen=True)
class Place:
    """Where a pair comes from: slice, how it is turned, then sized, then the LR corner."""

    series: int
    index: int
    factors: tuple[float, float]  # of the turned slice's rows and columns
    turn: tuple[bool, bool, bool]  # flip rows, flip columns, then transpose
    corner: tuple[int, int]


class Batch(NamedTuple):
    """LR (b, 1, h, w) and HR patches (b, 1, H, W); weights (b,) where slices are balanced."""

    lr: Image
    hr: Image
    weight: Image | None


class PatchSampler:
    """Draws batches of patches, float32.

    With `data.lr_step` = 0 places are random, and those that are mostly air are drawn again;
    otherwise they are all places of a regular grid, in a new order for each epoch. Slices are
    flipped and transposed at random before they are reduced, so LR and HR always share a grid.

    Raises:
        InputError: no slice of the part is as large as a patch.
    """

    def __init__(self, store: SliceStore, recipe: Recipe, split: Split = "train") -> None:
        self.store, self.recipe = store, recipe
        self.scale, self.grid = recipe.network.scale, recipe.network.grid
        self.size, self.step = recipe.data.lr_patch, recipe.data.lr_step
        self.side = hr_size(self.size, self.scale, self.grid)
        sizes = recipe.data.rescale
        pairs = list(product(sizes, sizes)) if recipe.data.stretch else [(f, f) for f in sizes]
        # series, factors, LR shape
        self._sets: list[tuple[int, tuple[float, float], tuple[int, int]]] = []
        counts = []
        for series in store.of(split):
            slices, height, width = store.shapes[series]
            for factors in pairs:
                shape = (self._lr_length(height, factors[0]), self._lr_length(width, factors[1]))
                if min(shape) >= self.size:
                    self._sets.append((series, factors, shape))
                    counts.append(slices * (math.prod(self._grid(shape)) if self.step else 1))
        if not counts:
            raise InputError(
                f"Every slice to {split} on is smaller than a patch of {self.side} HR samples a "
                "side. Lower data.lr_patch, or use larger images."
            )
        self._ends = np.cumsum(counts)
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, np.int64))
        self._missed: dict[tuple[int, int], float] = {}  # RMSE of series and slice

    def __len__(self) -> int:
        """Places on the regular grid; or, where places are random, slices times sizes."""
        return int(self._ends[-1])

    def draw(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of process `rank` of `world` in the batch of training step `step`."""
        batch, seed = self.recipe.training.batch, self.recipe.training.seed
        places, pairs = [], []
        for item in range(rank, batch, world):
            rng = np.random.default_rng([seed, step, item])
            for _ in range(TRIES):
                place = self._regular(step * batch + item, rng) if self.step else self._random(rng)
                lr, hr = self.pair(place, rng)
                if self.step or foreground_share(hr[::4, ::4]) > TISSUE:
                    break
            places.append(place)
            pairs.append((lr, hr))
        lrs, hrs = (np.stack(patches)[:, None] for patches in zip(*pairs, strict=True))
        if not self.recipe.training.balance:
            return Batch(lrs, hrs, None)
        weights = [USUAL / max(self._rmse(p.series, p.index), LEAST) for p in places]
        return Batch(lrs, hrs, np.array(weights, np.float32))

    def pair(self, place: Place, rng: np.random.Generator) -> tuple[Image, Image]:
        """The LR and HR patch of a place; `rng` draws the noise."""
        lengths = self.store.shapes[place.series][1:]
        lengths = lengths[::-1] if place.turn[2] else lengths
        kind = self.recipe.data.degradation
        rows, columns = (
            _cut(n, factor, self.scale, self.grid, kind, start, self.size)
            for n, factor, start in zip(lengths, place.factors, place.corner, strict=True)
        )
        spans = [
            (min(a for a, _ in axis), max(a + m.shape[1] for a, m in axis))
            for axis in (rows, columns)
        ]
        part = self._read(place, lengths, spans)
        lr, hr = (
            _apply(part, *((a - spans[i][0], m) for i, (a, m) in enumerate(axes)))
            for axes in zip(rows, columns, strict=True)
        )
        low, high = self.recipe.data.noise
        return (rician_noise(lr, rng.uniform(low, high), rng) if high else lr), hr

    def _rmse(self, series: int, index: int) -> float:
        """What bicubic interpolation misses of a slice, at its own size and without noise."""
        if (series, index) not in self._missed:
            lr, hr = whole_pair(self.store, self.recipe, series, index)
            error = bicubic_up(lr, self.scale, self.grid) - hr
            self._missed[series, index] = float(np.sqrt(np.square(error).mean()))
        return self._missed[series, index]

    def _read(self, place: Place, lengths: tuple[int, ...], spans: list[tuple[int, int]]) -> Image:
        """A rectangle of the turned slice; only what is needed leaves the disk."""
        flips = list(place.turn[:2])
        if place.turn[2]:
            lengths, spans = lengths[::-1], spans[::-1]
        window = [
            slice(n - b, n - a) if flip else slice(a, b)
            for n, (a, b), flip in zip(lengths, spans, flips, strict=True)
        ]
        part = self.store.read(place.series, place.index, *window)
        part = part[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
        return part.T if place.turn[2] else part

    def _random(self, rng: np.random.Generator) -> Place:
        turn = _turn(rng)
        chosen, index = self._find(int(rng.integers(len(self))))
        series, factors, shape = self._sets[chosen]
        if turn[2]:
            factors, shape = factors[::-1], shape[::-1]
        top, left = (int(rng.integers(n - self.size + 1)) for n in shape)
        return Place(series, index, factors, turn, (top, left))

    def _regular(self, item: int, rng: np.random.Generator) -> Place:
        epoch, position = divmod(item, len(self))
        if self._order[0] != epoch:
            shuffled = np.random.default_rng([self.recipe.training.seed, epoch])
            self._order = (epoch, shuffled.permutation(len(self)))
        chosen, rest = self._find(int(self._order[1][position]))
        series, factors, shape = self._sets[chosen]
        down, across = self._grid(shape)
        index, rest = divmod(rest, down * across)
        row, column = divmod(rest, across)
        turn = _turn(rng)
        corner = (row * self.step, column * self.step)
        if turn[2]:
            factors, corner = factors[::-1], corner[::-1]
        return Place(series, index, factors, turn, corner)

    def _find(self, item: int) -> tuple[int, int]:
        """Which set an item is of, and its number therein."""
        chosen = int(np.searchsorted(self._ends, item, side="right"))
        return chosen, item - (int(self._ends[chosen - 1]) if chosen else 0)

    def _grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Places per axis of a regular grid: floor((n - m) / step) + 1."""
        down, across = ((n - self.size) // self.step + 1 for n in shape)
        return down, across

    def _lr_length(self, length: int, factor: float) -> int:
        sized = math.ceil(length * factor - 1e-9)
        filled = filled_size(sized, self.scale, self.grid)
        return lr_size(filled, self.scale, self.grid) if filled > 0 else 0


def whole_pair(
    store: SliceStore, recipe: Recipe, series: int, index: int, sigma: float = 0.0, seed: int = 0
) -> tuple[Image, Image]:
    """A slice at its own size, as far as whole LR samples fill it: LR (h, w) and HR (H, W).

    `sigma` is that of the Rician noise, of which `seed` draws one.
    """
    scale, grid, hr = recipe.network.scale, recipe.network.grid, store.read(series, index)
    height, width = (filled_size(n, scale, grid) for n in hr.shape)
    hr = np.ascontiguousarray(hr[:height, :width])
    rng = np.random.default_rng(seed)
    return degrade_slice(hr, scale, recipe.data.degradation, grid, sigma, rng), hr


def _turn(rng: np.random.Generator) -> tuple[bool, bool, bool]:
    flip_rows, flip_columns, transpose = (bool(v) for v in rng.integers(2, size=3))
    return flip_rows, flip_columns, transpose


def _apply(part: Image, rows: Rows, columns: Rows) -> Image:
    (top, down), (left, across) = rows, columns
    part = part[top : top + down.shape[1], left : left + across.shape[1]]
    return down @ (part @ across.T)


def _cut(
    length: int, factor: float, scale: int, grid: Grid, kind: Kind, start: int, size: int
) -> tuple[Rows, Rows]:
    """The rows of both matrices for a patch of `size` LR samples from `start` on."""
    low, high = _matrices(length, factor, scale, grid, kind)
    return (
        _trimmed(low[start : start + size]),
        _trimmed(high[start * scale : start * scale + hr_size(size, scale, grid)]),
    )


def _trimmed(rows: NDArray[np.float32]) -> Rows:
    used = np.flatnonzero(rows.any(axis=0))
    return int(used[0]), rows[:, used[0] : used[-1] + 1]


@lru_cache(CACHED)
def _matrices(
    length: int, factor: float, scale: int, grid: Grid, kind: Kind
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """L (m, length) and H (M, length) of an axis, found by what becomes of single samples.

    The second in-plane axis has one sample, which every kernel leaves as it is.
    """
    samples = np.eye(length)[:, :, None]
    sized = samples if factor == 1.0 else bicubic_rescale(samples, factor)[..., :1]
    sized = sized[:, : filled_size(sized.shape[1], scale, grid)]
    reduced = (
        bicubic_down(sized, scale, grid)
        if kind == "bicubic"
        else kspace_resize(sized, sized.shape[1] // scale, 1)
    )
    low, high = (np.ascontiguousarray(m[..., 0].T, dtype=np.float32) for m in (reduced, sized))
    return low, high
