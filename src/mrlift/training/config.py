"""A training recipe: one complete TOML file, read into frozen dataclasses."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mrlift.config import from_table, load_toml
from mrlift.errors import ConfigError


@dataclass(frozen=True)
class NetworkConfig:
    """Arguments of `mrlift.networks.MRL` and the file name under which it is known."""

    name: Literal["mrl"] = "mrl"
    scale: int = 2
    units: int = 9
    channels: int = 128
    grid: Literal["edges", "paper"] = "edges"
    shared_units: bool = False
    upsampling: Literal["multi", "double", "single"] = "multi"


@dataclass(frozen=True)
class DataConfig:
    """Which slices are learned from, and how LR is made from HR."""

    degradation: Literal["bicubic"] = "bicubic"
    lr_patch: int = 32  # side of an LR patch, LR samples
    rescale: tuple[float, ...] = (1.0,)  # each slice is also learned at these sizes
    foreground: float = 0.12  # least share of a slice above 0.1 of its series' scale
    validation: tuple[str, ...] = ()  # patients held out
    exclude: dict[str, tuple[int, int]] = field(default_factory=dict)  # series -> slices [a, b)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, budget."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    weight_decay: float = 1e-4
    momentum: float = 0.9  # sgd only
    warmup: float = 0.02  # share of the budget with a rising learning rate, then a cosine to zero
    loss: Literal["absolute", "squared"] = "absolute"
    clip: float = 1.0  # global gradient norm
    batch: int = 8
    lr_pixels: float = 12e6  # budget: LR pixels seen
    ema: float = 0.999  # decay per step of the averaged weights that are exported
    seed: int = 0


@dataclass(frozen=True)
class CardConfig:
    """What the weights will say of themselves besides what is known from the run."""

    name: str = "unnamed"
    licence: str = "not stated"
    sources: tuple[str, ...] = ()  # training data with their licences


@dataclass(frozen=True)
class Recipe:
    """The whole file.

    Raises:
        ConfigError: a value outside of its range.
    """

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    card: CardConfig = CardConfig()

    def __post_init__(self) -> None:
        network, data, training = self.network, self.data, self.training
        ranges = {
            "network.scale must be 2, 3 or 4": network.scale in (2, 3, 4),
            "network.units and channels must be positive": min(network.units, network.channels) > 0,
            "data.lr_patch must be at least 8": data.lr_patch >= 8,
            "data.rescale must hold factors between 0.1 and 2": all(
                0.1 <= f <= 2 for f in data.rescale
            ),
            "training.batch and lr_pixels must be positive": training.batch > 0
            and training.lr_pixels > 0,
            "training.warmup must be in [0, 1)": 0 <= training.warmup < 1,
            "training.ema must be in [0, 1)": 0 <= training.ema < 1,
        }
        for rule, holds in ranges.items():
            if not holds:
                raise ConfigError(f"{rule}.")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown or ill-typed entry.
    """
    return load_toml(path, Recipe)


def recipe_from(table: dict[str, Any]) -> Recipe:
    """A `Recipe` from the nested dictionary that TOML (or a checkpoint) holds."""
    return from_table(Recipe, table)
