"""All tests of a result at once."""

from dataclasses import dataclass
from typing import Any

from mrlift.inference.card import Card
from mrlift.quality.consistency import Consistency, consistency
from mrlift.quality.findings import Finding
from mrlift.quality.ranges import out_of_range
from mrlift.quality.resolution import Resolution, effective_resolution
from mrlift.volume import Volume


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
