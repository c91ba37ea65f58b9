"""A training recipe: one complete TOML file, read into frozen dataclasses.

An unknown key is an error that names the nearest known one; a missing key takes the default
written here.
"""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
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
                isinstance(f, float) and 0.1 <= f <= 2 for f in data.rescale
            ),
            "data.exclude must hold pairs of slice numbers": all(
                len(pair) == 2 and all(isinstance(n, int) for n in pair)
                for pair in data.exclude.values()
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
    _refuse_unknown(Recipe, table, "")
    sections = get_type_hints(Recipe).items()
    return Recipe(**{name: _section(kind, table.get(name, {}), name) for name, kind in sections})


def _section(kind: type, table: dict[str, Any], section: str) -> Any:  # noqa: ANN401
    if not isinstance(table, dict):
        raise ConfigError(f"{section} = {table!r}: expected a table, [{section}].")
    _refuse_unknown(kind, table, section)
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
        if type(value) is not type(default):
            raise ConfigError(
                f"{section}.{key} = {value!r}: expected {type(default).__name__}, "
                f"found {type(value).__name__}."
            )
        values[key] = value
    return kind(**values)


def _refuse_unknown(kind: type, table: dict[str, Any], section: str) -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
            where = f"[{section}]" if section else "the top level"
            raise ConfigError(f"Unknown key {key!r} in {where}. {hint}")
