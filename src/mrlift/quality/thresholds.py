"""Where a figure becomes a finding. All numbers are in thresholds.json, with how they came about.

`python benchmarks/trust.py calibrate` writes that file from validation patients.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Thresholds:
    """The largest figures of a result that is consistent with its input.

    Attributes:
        beyond: share of tissue voxels whose residual exceeds three times the noise level.
        bias: relative difference in brightness.
        shift: displacement in LR voxels.
        structure: height of a smoothed residual, in robust standard deviations of it.
        spread: for each set of weights, the multiples of the spread within which 68 and 95 % of
            true errors lay.
        source: how they were found.
    """

    beyond: float
    bias: float
    shift: float
    structure: float
    spread: dict[str, dict[str, float]]
    source: dict[str, Any]

    def spread_factor(self, card: str, per_cent: int) -> float:
        """By what to multiply the spread; the largest of all for weights never calibrated."""
        known = self.spread.get(card)
        rows = [known] if known else list(self.spread.values())
        return max(row[str(per_cent)] for row in rows)


@cache
def thresholds() -> Thresholds:
    """Those that come with the package."""
    text = (files("mrlift.quality") / "thresholds.json").read_text(encoding="utf-8")
    return Thresholds(**json.loads(text))
