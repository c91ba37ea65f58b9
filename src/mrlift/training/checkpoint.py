"""A run's state in one file, written to a temporary name and renamed."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mrlift.errors import ModelError
from mrlift.training.config import Recipe, recipe_from

NAME = "checkpoint.pt"


@dataclass
class Checkpoint:
    """Everything that training needs to go on as if it had not stopped."""

    recipe: Recipe
    step: int
    network: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    history: list[dict[str, float]]
    facts: dict[str, Any] = field(default_factory=dict)  # of the training data, for the card


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace the checkpoint of `folder` in one rename."""
    temporary = folder / f".{NAME}.part"
    torch.save(vars(checkpoint) | {"recipe": asdict(checkpoint.recipe)}, temporary)
    temporary.replace(folder / NAME)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a run's folder or checkpoint file, on whatever device it was written.

    Raises:
        ModelError: no checkpoint there, or not one of ours.
    """
    file = path / NAME if path.is_dir() else path
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        return Checkpoint(**state | {"recipe": recipe_from(state["recipe"])})
    except FileNotFoundError as error:
        raise ModelError(f"No checkpoint at {file}. Give the folder of a training run.") from error
    except (KeyError, TypeError, RuntimeError, OSError, EOFError, UnpicklingError) as error:
        raise ModelError(f"{file} is not an mrlift checkpoint, or it is damaged.") from error
