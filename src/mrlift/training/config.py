"""A training recipe: one complete TOML file, read into frozen dataclasses."""

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, make_dataclass
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, Literal, get_type_hints

from torch import nn

from mrlift.config import from_table, load_toml
from mrlift.errors import ConfigError
from mrlift.networks import NETWORKS
from mrlift.resampling import Grid


@dataclass(frozen=True)
class NetworkConfig:
    """A network by its name in `NETWORKS`; the subclass of each holds its own arguments too."""

    name: str = "mrl"
    scale: int = 2
    grid: Grid = "edges"

    @staticmethod
    def variant(table: dict[str, Any]) -> type["NetworkConfig"]:
        """The class that has what the constructor of the network in `table` takes.

        Raises:
            ConfigError: there is no network of that name.
        """
        name = table.get("name", "mrl")
        if name not in NETWORKS:
            near = difflib.get_close_matches(str(name), NETWORKS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(NETWORKS)}."
            raise ConfigError(f"network.name = {name!r}: there is no such network. {hint}")
        return _config_of(NETWORKS[name])


@cache
def _config_of(network: Callable[..., nn.Module]) -> type[NetworkConfig]:
    """`NetworkConfig` with a field for each keyword of a network's constructor."""
    made_by = network.__init__ if isinstance(network, type) else network  # type: ignore[misc]
    hints = get_type_hints(made_by)
    own = [
        (p.name, hints.get(p.name, type(p.default)), field(default=p.default))
        for p in signature(network).parameters.values()
        if p.kind is Parameter.KEYWORD_ONLY and p.name != "grid"
    ]
    return make_dataclass("NetworkConfig", own, bases=(NetworkConfig,), frozen=True)


@dataclass(frozen=True)
class DataConfig:
    """How pairs of LR and HR patches are made from the slices of a store."""

    degradation: Literal["bicubic", "kspace"] = "bicubic"
    noise: tuple[float, float] = (0.0, 0.0)  # Rician, share of the series' scale, drawn from [a, b]
    lr_patch: int = 32  # side of an LR patch, LR samples
    lr_step: int = 0  # between patches of a regular grid, LR samples; 0: random places
    rescale: tuple[float, ...] = (1.0,)  # each slice is also learned at these sizes
    stretch: bool = False  # rows and columns may take different ones of these


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, budget."""

    optimiser: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"  # to zero, or tenths of the rate
    warmup: float = 0.02  # cosine: share of the budget with a rising learning rate
    step: float = 0.2  # steps: share of the budget after which the rate is divided by 10
    weight_decay: float = 1e-4
    momentum: float = 0.9  # sgd and muon
    loss: Literal["absolute", "squared", "sum", "decibels"] = "absolute"
    balance: bool = False  # squared errors of a slice count by 1 / RMSE of bicubic interpolation
    clip: float = 1.0  # global gradient norm; 0 does not clip
    clip_by_rate: bool = False  # clip at clip / learning rate, as VDSR and DRRN do
    batch: int = 8
    lr_pixels: float = 12e6  # budget: LR pixels seen
    epochs: int = 0  # budget instead: passes over the regular grid; 0 counts lr_pixels
    ema: float = 0.999  # decay per step of the averaged weights that are exported
    precision: Literal["mixed", "single"] = "mixed"  # bfloat16 products where the device has units
    seed: int = 0


@dataclass(frozen=True)
class CardConfig:
    """What the weights will say of themselves besides what is known from the run."""

    name: str = "unnamed"
    licence: str = "not stated"


@dataclass(frozen=True)
class Recipe:
    """The whole file.

    Raises:
        ConfigError: a value outside of its range.
    """

    network: NetworkConfig = field(default_factory=lambda: NetworkConfig.variant({})())
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    card: CardConfig = CardConfig()

    def __post_init__(self) -> None:
        network, data, training = self.network, self.data, self.training
        ranges = {
            "network.scale must be 2, 3 or 4": network.scale in (2, 3, 4),
            "whole numbers in [network] must be positive": all(
                v > 0 for v in asdict(network).values() if type(v) is int
            ),
            "k-space degradation exists on the edges grid only": data.degradation == "bicubic"
            or network.grid == "edges",
            "data.noise must hold shares 0 <= a <= b < 1": 0 <= data.noise[0] <= data.noise[1] < 1,
            "data.lr_patch must be at least 8": data.lr_patch >= 8,
            "data.lr_step must not be negative": data.lr_step >= 0,
            "data.rescale must hold factors between 0.1 and 2": bool(data.rescale)
            and all(0.1 <= f <= 2 for f in data.rescale),
            "training.batch and lr_pixels must be positive": training.batch > 0
            and training.lr_pixels > 0,
            "training.epochs needs a regular grid, data.lr_step": training.epochs == 0
            or (training.epochs > 0 and data.lr_step > 0),
            "training.warmup must be in [0, 1)": 0 <= training.warmup < 1,
            "training.step must be in (0, 1]": 0 < training.step <= 1,
            "training.balance needs squared errors: loss = 'squared' or 'sum'": not training.balance
            or training.loss in ("squared", "sum"),
            "training.clip must not be negative": training.clip >= 0,
            "training.ema must be in [0, 1)": 0 <= training.ema < 1,
        }
        for rule, holds in ranges.items():
            if not holds:
                raise ConfigError(f"{rule}.")


def known_recipes() -> dict[str, Path]:
    """The recipes that come with mrlift, by name: in the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    homes = (package / "recipes", package.parents[1] / "recipes")
    return dict(sorted((file.stem, file) for home in homes for file in home.glob("*-x?*.toml")))


def load_recipe(path: Path) -> Recipe:
    """Read a recipe: a file, or one of `known_recipes` by its name.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown or ill-typed entry.
    """
    if path.exists() and not path.is_dir():
        return load_toml(path, Recipe)
    known = known_recipes()
    if str(path) not in known:
        raise ConfigError(
            f"There is no recipe {path}. Give a TOML file or a name: {', '.join(known)}."
        )
    return load_toml(known[str(path)], Recipe)


def recipe_from(table: dict[str, Any]) -> Recipe:
    """A `Recipe` from the nested dictionary that TOML (or a checkpoint) holds."""
    return from_table(Recipe, table)
