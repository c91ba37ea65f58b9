"""One protocol for every network: the same data, patches, budget and optimiser for all.

What differs between networks is their architecture, the loss terms that the paper's network has for
its own images y_i, and the learning rate, which is chosen among `RATES` for each of them.
"""

from dataclasses import dataclass
from typing import Any

import torch

from mrlift.errors import ConfigError
from mrlift.networks import NETWORKS
from mrlift.resampling import Grid
from mrlift.training.config import Recipe, recipe_from
from mrlift.training.loop import build_network

SCALES = (2, 3, 4)
GRID: Grid = "edges"  # the product's; every network gives it
HR_PATCH = 72  # HR samples a side at every scale, so that a step sees as many HR pixels
BATCH = 4
RESCALE = (1.0, 0.7)  # each slice is also learned at these sizes
RATES = (5e-3, 1.5e-3, 5e-4)  # small networks want the first, deep ones the last
TRIAL_SHARE = 0.2  # of the budget, for each rate that is tried
CURVE = 12  # validations and checkpoints of a run
TRIAL_CURVE = 3  # of a trial
HR_PIXELS = 50e6

# The ablations of section 3.3 beside the network itself; every other row is a name in NETWORKS.
ABLATIONS = {
    "mrl-single": {"name": "mrl", "upsampling": "single"},
    "mrl-double": {"name": "mrl", "upsampling": "double"},
}


@dataclass(frozen=True)
class Budget:
    """What a whole table is made with.

    Attributes:
        hr_pixels: HR pixels that each network sees in training, not counting trials of rates.
        seeds: independent runs of each network, with the seeds 0, 1, ...
    """

    hr_pixels: float = HR_PIXELS
    seeds: int = 1

    def __post_init__(self) -> None:
        least = HR_PATCH**2 * BATCH * CURVE
        if self.hr_pixels < least or self.seeds < 1:
            raise ConfigError(
                f"Expected a budget of at least {least:g} HR pixels and one seed, found "
                f"{self.hr_pixels:g} and {self.seeds}."
            )


def methods() -> list[str]:
    """The rows of Table 2: every network there is."""
    return list(NETWORKS)


def exists(method: str, scale: int) -> bool:
    """Whether the architecture has this scale."""
    try:
        with torch.device("meta"):
            build_network(recipe(method, scale, RATES[0], HR_PIXELS, 0).network)
    except ConfigError:
        return False
    return True


def recipe(method: str, scale: int, rate: float, hr_pixels: float, seed: int) -> Recipe:
    """What a network is trained with; complete, as a recipe in a file is.

    Args:
        method: a name in `NETWORKS` or `ABLATIONS`.
        scale: in-plane factor.
        rate: learning rate.
        hr_pixels: budget.
        seed: of the weights' start and of the patches.
    """
    network: dict[str, Any] = {**ABLATIONS.get(method, {"name": method}), "scale": scale}
    return recipe_from(
        {
            "network": network | {"grid": GRID},
            "data": {
                "degradation": "bicubic",
                "lr_patch": HR_PATCH // scale,
                "rescale": RESCALE,
            },
            "training": {
                "optimiser": "adamw",
                "schedule": "cosine",
                "learning_rate": rate,
                "weight_decay": 1e-4,
                "loss": "squared",
                "clip": 0.0,  # Adam divides by the size of the gradient anyway
                "batch": BATCH,
                "lr_pixels": hr_pixels / scale**2,
                "ema": 0.999,
                "seed": seed,
            },
            "card": {"name": f"{method}-x{scale}"},
        }
    )
