"""All tests of a result at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mrlift.errors import GeometryError
from mrlift.inference.card import Card
from mrlift.quality.consistency import Consistency, consistency
from mrlift.quality.findings import Finding
from mrlift.quality.ranges import out_of_range
from mrlift.quality.resolution import Resolution, effective_resolution
from mrlift.quality.thresholds import thresholds
from mrlift.volume import Volume


@dataclass(frozen=True)
class Row:
    """One figure as people read it."""

    name: str
    found: str
    usual: str
    passed: bool
    meaning: str


@dataclass(frozen=True)
class Check:
    """What is known of a result without the truth.

    Attributes:
        card: of the weights that made it.
        consistency: with the input.
        resolution: of the input.
        findings: everything worth a warning.
    """

    card: Card
    consistency: Consistency
    resolution: Resolution
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether there is nothing to warn of."""
        return not self.findings

    def rows(self) -> tuple[Row, ...]:
        """The figures in words, each with what is usual."""
        found, limits = self.consistency, thresholds()
        warned = {f.kind for f in self.findings}
        shift = float(np.hypot(*found.shift))
        spot = found.structure
        acquired, stored = (
            f"{a} x {b}" for a, b in (self.resolution.acquired, self.resolution.stored)
        )
        return (
            Row(
                "tissue beyond the noise",
                f"{found.beyond:.2%}",
                f"up to {limits.beyond:.2%}",
                "noise-level" not in warned,
                "Share of tissue voxels that differ from the input by more than three times its "
                "noise once the result is reduced again.",
            ),
            Row(
                "brightness",
                f"{found.bias:+.2%}",
                f"within {limits.bias:.2%}",
                "bias" not in warned,
                "By how much the result as a whole is brighter than the input.",
            ),
            Row(
                "shift",
                f"{shift:.3f} LR voxels",
                f"up to {limits.shift:.3f}",
                not {"shift", "place"} & warned,
                "How far the anatomy lies beside that of the input.",
            ),
            Row(
                "added or lost structure",
                f"{spot.deviations:.1f}",
                f"up to {limits.structure:.1f}",
                "structure" not in warned,
                f"The most unusual spot, at LR voxel {spot.voxel}, against what is usual there: "
                f"{spot.height:+.1%} of the scale.",
            ),
            Row(
                "residual",
                f"{found.nrmse:.2%} of the image",
                f"noise: {found.noise / found.unit:.2%} of the scale",
                True,
                "Root mean square of the difference, and the noise of the input as estimated from "
                "itself.",
            ),
            Row(
                "measured matrix",
                acquired,
                stored,
                "interpolated" not in warned,
                "The samples that the scanner measured, and those that the file holds.",
            ),
        )

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values; lengths in LR voxels, shares of 1."""
        found = self.consistency
        return {
            "passed": self.passed,
            "model": self.card.name,
            "degradation": self.card.degradation,
            "nrmse": found.nrmse,
            "bias": found.bias,
            "shift": list(found.shift),
            "beyond_noise": found.beyond,
            "noise": found.noise / found.unit,
            "structure": {
                "voxel": list(found.structure.voxel),
                "height": found.structure.height,
                "deviations": found.structure.deviations,
            },
            "acquired": list(self.resolution.acquired),
            "stored": list(self.resolution.stored),
            "warnings": [{"kind": f.kind, "text": f.text} for f in self.findings],
        }


def check(lr: Volume, sr: Volume, card: Card) -> Check:
    """Test `sr`, which the weights of `card` made from `lr`.

    Raises:
        GeometryError: the two are not a pair of this scale.
    """
    consistent = consistency(lr, sr, card)
    resolution = effective_resolution(lr)
    ranges = out_of_range(lr, card)
    return Check(
        card, consistent, resolution, (*consistent.findings, *resolution.findings, *ranges)
    )


def scale_between(lr: Volume, sr: Volume) -> int:
    """The in-plane factor from `lr` to `sr`, on either grid.

    Raises:
        GeometryError: there is none from 2 up.
    """
    pairs = [(lr.voxels.shape[axis], sr.voxels.shape[axis]) for axis in lr.in_plane_axes]
    scale = int(-(-pairs[0][1] // pairs[0][0]))
    if scale < 2 or any(new not in (old * scale, (old - 1) * scale + 1) for old, new in pairs):
        raise GeometryError(
            f"Expected SR of 2, 3 or 4 times the in-plane size of LR, found {lr.voxels.shape} and "
            f"{sr.voxels.shape}. Give LR first, then what was made of it."
        )
    return scale
