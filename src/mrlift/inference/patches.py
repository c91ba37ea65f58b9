"""Run an engine on overlapping patches so that memory is bounded and the result is exact."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from mrlift.errors import ModelError
from mrlift.inference.air import REACH, Part, cover, network_share, object_mask
from mrlift.inference.card import Card
from mrlift.inference.engines import TILE, Engine, Slices
from mrlift.resampling import bicubic_up, hr_size

CORE = 256  # LR samples a side of a patch's own part; activations then stay below 300 MB


def upscale_slice(
    image: Slices, engine: Engine, card: Card, core: int = CORE, *, whole: bool = True
) -> Slices:
    """One LR slice (h, w) -> SR (H, W).

    The slice is mirrored by `card.padding` samples, so that the border sees plausible tissue.
    Patches reach `card.receptive_field` samples beyond their own part; what they disagree on is
    cut away, so the result equals that of the whole slice but for rounding.

    Unless `whole`, air is interpolated (see `air`); inside the object the result stays the same to
    1e-5 of the series' scale, which is 1.0 here.

    Raises:
        ModelError: the engine's output has another size than the card says.
    """
    padded = np.pad(image, card.padding, mode="symmetric")
    everything = Part(0, image.shape[0], 0, image.shape[1])
    if whole:
        return _region(padded, everything, card.padding, engine, card, core)
    share = network_share(object_mask(image))
    parts = cover(share > 0, card.receptive_field)
    reach = card.receptive_field if card.denoises else REACH  # noise is judged by its surroundings
    result = bicubic_up(image, card.scale, card.grid).astype(np.float32, copy=False)
    for part in parts:
        sr = _region(padded, part, reach, engine, card, core)
        _blend(result, sr, share, part, card.scale)
    return result


def _blend(result: Slices, sr: Slices, share: Slices, part: Part, scale: int) -> None:
    """Put a part into the interpolated slice, by the share of its LR samples."""
    target = result[part.top * scale :, part.left * scale :][: sr.shape[0], : sr.shape[1]]
    weight = share[part.top : part.bottom, part.left : part.right]
    weight = weight.repeat(scale, axis=0).repeat(scale, axis=1)[: sr.shape[0], : sr.shape[1]]
    # Not a sum where the network has all: it must be the network's to the last bit.
    target[...] = np.where(weight == 1, sr, target + weight * (sr - target))


def _region(
    padded: Slices, part: Part, reach: int, engine: Engine, card: Card, core: int
) -> Slices:
    """The SR of a part of a slice that was mirrored by `card.padding`, from patches of it.

    `reach` is how many samples around the part the network sees at least, as far as there are any.
    """
    pad, halo, scale = card.padding, card.receptive_field, card.scale
    above, left_of = (_at_tile(at + pad - reach) for at in (part.top, part.left))
    seen = padded[above : part.bottom + pad + reach, left_of : part.right + pad + reach]
    size = part.bottom - part.top, part.right - part.left
    result = np.empty([hr_size(n, scale, card.grid) for n in size], np.float32)
    for top, bottom in _parts(size[0], core):
        for left, right in _parts(size[1], core):
            # In coordinates of `seen` the patch's own part begins here.
            own_row, own_column = part.top + pad - above + top, part.left + pad - left_of + left
            first_row, first_column = _at_tile(own_row - halo), _at_tile(own_column - halo)
            patch = seen[
                first_row : own_row + bottom - top + halo,
                first_column : own_column + right - left + halo,
            ]
            sr = engine(np.ascontiguousarray(patch)[None])[0]
            expected = tuple(hr_size(n, scale, card.grid) for n in patch.shape)
            if sr.shape != expected:
                raise ModelError(
                    f"{card.name} made {sr.shape} of {patch.shape} where its card says {expected}: "
                    "weights and card do not belong together."
                )
            row, column = (own_row - first_row) * scale, (own_column - first_column) * scale
            target = result[top * scale : bottom * scale, left * scale : right * scale]
            target[...] = sr[row : row + target.shape[0], column : column + target.shape[1]]
    return result


def _at_tile(sample: int) -> int:
    """The last beginning of a tile up to a sample: tiles of patches lie as those of the slice."""
    return max(0, sample) // TILE * TILE


def _parts(size: int, core: int) -> Iterator[tuple[int, int]]:
    """Equal parts of at most `core` samples."""
    count = -(-size // core)
    edges = [size * i // count for i in range(count + 1)]
    yield from pairwise(edges)
