"""Run an engine on overlapping patches so that memory is bounded and the result is exact."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mrlift.errors import ModelError
from mrlift.inference.card import Card
from mrlift.inference.engines import Engine, Slices
from mrlift.resampling import hr_size

CORE = 256  # LR samples a side of a patch's own part; activations then stay below 300 MB


def upscale_slice(image: Slices, engine: Engine, card: Card, core: int = CORE) -> Slices:
    """One LR slice (h, w) -> SR (H, W).

    The slice is mirrored by `card.padding` samples, so that the border sees plausible tissue.
    Patches reach `card.receptive_field` samples beyond their own part; what they disagree on is
    cut away, so the result equals that of the whole slice but for rounding.

    Raises:
        ModelError: the engine's output has another size than the card says.
    """
    scale, pad, halo = card.scale, card.padding, card.receptive_field
    padded = np.pad(image, pad, mode="symmetric")
    height, width = image.shape
    result = np.empty(
        (hr_size(height, scale, card.grid), hr_size(width, scale, card.grid)), np.float32
    )
    for top, bottom in _parts(height, core):
        for left, right in _parts(width, core):
            # In padded coordinates the part begins at top + pad.
            first_row, first_column = max(0, top + pad - halo), max(0, left + pad - halo)
            patch = padded[first_row : bottom + pad + halo, first_column : right + pad + halo]
            sr = engine(np.ascontiguousarray(patch)[None])[0]
            expected = tuple(hr_size(n, scale, card.grid) for n in patch.shape)
            if sr.shape != expected:
                raise ModelError(
                    f"{card.name} made {sr.shape} of {patch.shape} where its card says {expected}: "
                    "weights and card do not belong together."
                )
            row, column = (top + pad - first_row) * scale, (left + pad - first_column) * scale
            target = result[top * scale : bottom * scale, left * scale : right * scale]
            target[...] = sr[row : row + target.shape[0], column : column + target.shape[1]]
    return result


def _parts(size: int, core: int) -> Iterator[tuple[int, int]]:
    """Equal parts of at most `core` samples."""
    count = -(-size // core)
    edges = [size * i // count for i in range(count + 1)]
    yield from pairwise(edges)
