"""Iterative back-projection: make a result agree with its input to the noise level.

What the degraded result lacks or has too much, beyond 2.5 noise levels, is interpolated and added;
what lies within is left, since it is noise that the network has removed. Source: Irani and
Peleg, "Improving resolution by image registration", CVGIP 53(3):231-239, 1991.
"""

from dataclasses import replace

import numpy as np

from mrlift.inference.card import Card
from mrlift.inference.degradation import degrade_slice
from mrlift.inference.normalise import series_scale
from mrlift.inference.traits import noise_level
from mrlift.quality.consistency import LEAST
from mrlift.resampling import bicubic_up, kspace_up
from mrlift.volume import Volume, fit_dtype

WITHIN = 2.5  # noise levels: below the three beyond which the check counts a voxel
ROUNDS = 20  # a few suffice where k-space was cut; bicubic interpolation closes in by a third each
NEAR = 0.01  # noise levels of excess that are left


def back_project(lr: Volume, sr: Volume, card: Card) -> Volume:
    """`sr`, changed until its degraded voxels lie within 2.5 noise levels of `lr`.

    Integers are rounded, so that the agreement holds to half a unit.
    """
    stack, results = lr.slices(), sr.slices()
    limit = WITHIN * max(noise_level(stack), LEAST * series_scale(stack))
    rng = np.random.default_rng(0)
    fixed = np.empty_like(results)
    for index, low in enumerate(stack):
        high = results[index].astype(np.float64)
        for _ in range(ROUNDS):
            reduced = degrade_slice(high, card.scale, card.degradation, card.grid, 0.0, rng)
            residual = low - reduced
            excess = residual - np.clip(residual, -limit, limit)
            if np.abs(excess).max() <= NEAR * limit:
                break
            if card.degradation == "kspace":
                high = high + kspace_up(excess, card.scale)
            else:
                high = high + bicubic_up(excess, card.scale, card.grid)
        fixed[index] = fit_dtype(high, results.dtype)
    assert sr.derivation is not None
    told = f"{sr.derivation.description} Back-projected to agree with the source to the noise."
    return replace(
        sr,
        voxels=sr.voxels_from_slices(fixed),
        derivation=replace(sr.derivation, description=told),
    )
