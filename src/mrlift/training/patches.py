"""Random LR/HR patch pairs.

Batch k depends on the seed and on k alone: a run that is resumed sees what an unbroken one would.
"""

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.inference.normalise import foreground_share
from mrlift.resampling import bicubic_down, hr_size
from mrlift.training.config import Recipe
from mrlift.training.slices import Slice

MARGIN = 3  # LR samples around a patch that the widened bicubic kernel (radius 2) reaches into
TRIES = 10  # draws before a patch with much air is taken after all


class PatchSampler:
    """Draws batches of (LR, HR) patches, float32 (b, 1, h, w) and (b, 1, H, W).

    Flips and transposition are applied to HR before it is degraded, so LR and HR always share
    their grid. Patches that are mostly air are drawn again.

    Raises:
        InputError: every slice is smaller than a patch.
    """

    def __init__(self, slices: list[Slice], recipe: Recipe) -> None:
        self.scale, self.grid = recipe.network.scale, recipe.network.grid
        self.patch, self.batch = recipe.data.lr_patch, recipe.training.batch
        self.seed = recipe.training.seed
        margin = MARGIN * self.scale
        self.side = hr_size(self.patch, self.scale, self.grid) + 2 * margin
        fits = [s.image for s in slices if min(s.image.shape) + 2 * margin >= self.side]
        if not fits:
            raise InputError(
                f"All slices are smaller than a patch: {self.side - 2 * margin} HR samples a side "
                "are needed. Lower data.lr_patch, or train on larger images."
            )
        self.images = [np.pad(image, margin, mode="symmetric") for image in fits]

    def draw(self, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The batch of training step `step`."""
        rng = np.random.default_rng([self.seed, step])
        hr = np.stack([self._crop(rng) for _ in range(self.batch)])[:, None]
        lr = bicubic_down(hr, self.scale, self.grid)
        inner = slice(MARGIN, -MARGIN)
        outer = slice(MARGIN * self.scale, -MARGIN * self.scale)
        return (
            np.ascontiguousarray(lr[..., inner, inner]),
            np.ascontiguousarray(hr[..., outer, outer]),
        )

    def _crop(self, rng: np.random.Generator) -> NDArray[np.float32]:
        for _ in range(TRIES):
            image = self.images[rng.integers(len(self.images))]
            top, left = (int(rng.integers(n - self.side + 1)) for n in image.shape)
            crop = image[top : top + self.side, left : left + self.side]
            if foreground_share(crop[::4, ::4]) > 0.5:
                break
        flip_rows, flip_columns, transpose = rng.integers(2, size=3)
        crop = crop[:: 1 - 2 * flip_rows, :: 1 - 2 * flip_columns]
        return crop.T if transpose else crop
