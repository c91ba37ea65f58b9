"""A training recipe: one complete TOML file, read into frozen dataclasses.

An unknown key is an error that names the nearest known one; a missing key takes the default
written here.
"""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

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
    """How pairs of LR and HR patches are made from the slices of a store."""

    degradation: Literal["bicubic", "kspace"] = "bicubic"
    noise: tuple[float, ...] = (0.0, 0.0)  # Rician, share of the series' scale, drawn from [a, b]
    lr_patch: int = 32  # side of an LR patch, LR samples
    lr_step: int = 0  # between patches of a regular grid, LR samples; 0: random places
    rescale: tuple[float, ...] = (1.0,)  # each slice is also learned at these sizes


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, budget."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 5e-4
    schedule: Literal["cosine", "steps"] = "cosine"  # to zero, or tenths of the rate
    warmup: float = 0.02  # cosine: share of the budget with a rising learning rate
    step: float = 0.2  # steps: share of the budget after which the rate is divided by 10
    weight_decay: float = 1e-4
    momentum: float = 0.9  # sgd only
    loss: Literal["absolute", "squared"] = "absolute"
    clip: float = 1.0  # global gradient norm; 0 does not clip
    clip_by_rate: bool = False  # clip at clip / learning rate, as VDSR and DRRN do
    batch: int = 8
    lr_pixels: float = 12e6  # budget: LR pixels seen
    epochs: int = 0  # budget instead: passes over the regular grid; 0 counts lr_pixels
    ema: float = 0.999  # decay per step of the averaged weights that are exported
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

    network: NetworkConfig = NetworkConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    card: CardConfig = CardConfig()

    def __post_init__(self) -> None:
        network, data, training = self.network, self.data, self.training
        ranges = {
            "network.scale must be 2, 3 or 4": network.scale in (2, 3, 4),
            "network.units and channels must be positive": min(network.units, network.channels) > 0,
            "k-space degradation exists on the edges grid only": data.degradation == "bicubic"
            or network.grid == "edges",
            "data.noise must hold two shares, 0 <= a <= b < 1": len(data.noise) == 2
            and 0 <= data.noise[0] <= data.noise[1] < 1,
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
            "training.clip must not be negative": training.clip >= 0,
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
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error
    try:
        return recipe_from(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def recipe_from(table: dict[str, Any]) -> Recipe:
    """A `Recipe` from the nested dictionary that TOML (or a checkpoint) holds."""
    refuse_unknown([f.name for f in dataclasses.fields(Recipe)], table, "")
    sections = get_type_hints(Recipe).items()
    return Recipe(
        **{name: read_section(kind, table.get(name, {}), name) for name, kind in sections}
    )


def read_section(kind: type, table: Any, section: str) -> Any:  # noqa: ANN401
    """A frozen dataclass from a TOML table.

    Raises:
        ConfigError: an unknown key, or a value of another type than the default's.
    """
    if not isinstance(table, dict):
        raise ConfigError(f"{section} = {table!r}: expected a table, [{section}].")
    refuse_unknown([f.name for f in dataclasses.fields(kind)], table, section)
    defaults = kind()
    values = {}
    for key, value in table.items():
        default = getattr(defaults, key)
        allowed = getattr(get_type_hints(kind)[key], "__args__", ())
        if allowed and isinstance(default, str) and value not in allowed:
            raise ConfigError(
                f"{section}.{key} = {value!r}: expected one of {', '.join(map(repr, allowed))}."
            )
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(default, tuple) and isinstance(value, list):
            value = tuple(value)
            if default and not all(type(v) in (int, float) for v in value):
                raise ConfigError(f"{section}.{key} = {list(value)}: expected numbers.")
        if type(value) is not type(default):
            raise ConfigError(
                f"{section}.{key} = {value!r}: expected {type(default).__name__}, "
                f"found {type(value).__name__}."
            )
        values[key] = value
    return kind(**values)


def refuse_unknown(known: list[str], table: dict[str, Any], section: str) -> None:
    """Name a key that does not exist, and the nearest that does.

    Raises:
        ConfigError: there is one.
    """
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            where = f"[{section}]" if section else "the top level"
            raise ConfigError(f"Unknown key {key!r} in {where}. {hint}")
