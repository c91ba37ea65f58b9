"""What a scanner measured, and what it stored: series that were interpolated already."""

from dataclasses import dataclass, replace

import numpy as np

from mrlift._version import __version__
from mrlift.quality.findings import Finding
from mrlift.spectrum import crop_spectrum, filled, measured_size
from mrlift.volume import Derivation, Volume, fit_dtype


@dataclass(frozen=True)
class Resolution:
    """In-plane samples along the two in-plane axes, in the order of the voxels' axes.

    Attributes:
        acquired: that k-space was really measured on.
        stored: that the file holds.
    """

    acquired: tuple[int, int]
    stored: tuple[int, int]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """That the series is interpolated, if so, with what to do."""
        if self.acquired == self.stored:
            return ()
        acquired, stored = (f"{a}x{b}" for a, b in (self.acquired, self.stored))
        return (
            Finding(
                "interpolated",
                f"LR was interpolated already: acquired {acquired}, stored {stored}. The network "
                "has not seen such images; pass --crop-spectrum to go back to what was measured, "
                "and upscale from there.",
            ),
        )


def effective_resolution(volume: Volume) -> Resolution:
    """How much of k-space a series fills, as matrices; see `mrlift.spectrum.filled`."""
    stack = volume.slices()
    first, second = stack.shape[1:]
    shares = filled(stack)
    return Resolution(
        (measured_size(first, shares[0]), measured_size(second, shares[1])), (first, second)
    )


def crop_to_acquired(volume: Volume) -> Volume:
    """The volume at the matrix that was measured, over the same field of view.

    The volume itself where all of k-space is filled.
    """
    found = effective_resolution(volume)
    if found.acquired == found.stored:
        return volume
    shares = filled(volume.slices())
    stack = fit_dtype(crop_spectrum(volume.slices(), shares), volume.voxels.dtype)
    acquired, stored = (f"{a}x{b}" for a, b in (found.acquired, found.stored))
    step = Derivation(
        label="mrlift cropped",
        description=(
            f"Reduced from {stored} to the acquired {acquired} samples by mrlift {__version__}: "
            "the empty part of k-space was cut away."
        ),
        model="crop-spectrum",
        version=__version__,
    )
    small = volume.refitted(volume.voxels_from_slices(np.ascontiguousarray(stack)))
    return replace(small, derivation=step.after(volume.derivation))
