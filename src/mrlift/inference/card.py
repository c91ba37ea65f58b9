"""The card that weights carry: what they are, what they were trained on, how to feed them."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mrlift.errors import ModelError
from mrlift.inference.degradation import Kind
from mrlift.resampling import Grid


@dataclass(frozen=True)
class Card:
    """Everything that inference needs to know about a file of weights.

    Attributes:
        name: unique among the shipped weights, such as "mrl-x2-bicubic".
        network: constructor arguments and the name of the network.
        scale: in-plane factor.
        grid: "edges" or "paper", see `mrlift.resampling`.
        degradation: how LR was made from HR in training.
        normalisation: rule for the value that the network sees as 1.0.
        receptive_field: LR samples that one output sample depends on, to each side.
        padding: LR samples mirrored around a slice before the network sees it.
        spacing: smallest and largest in-plane spacing of HR in training, mm.
        training: budget, recipe, loss, and everything else worth knowing.
        data: sources of the training data with their licences.
        licence: of the weights.
        metrics: figures with the name of the data they were measured on.
        sha256: of the .onnx file.
        seen: range of the LR series in training, smallest and largest: "matrix" in samples a side,
            and the figures of `mrlift.inference.traits`. Empty where nobody has measured it.
    """

    name: str
    network: dict[str, Any]
    scale: int
    grid: Grid
    degradation: Kind
    normalisation: str
    receptive_field: int
    padding: int
    spacing: tuple[float, float]
    training: dict[str, Any]
    data: tuple[str, ...]
    licence: str
    metrics: dict[str, float]
    sha256: str
    seen: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    @property
    def denoises(self) -> bool:
        """Whether the network has learned to remove noise: its LR images had more than HR."""
        return bool(max(self.training.get("noise", (0.0,))) > 0)


def save_card(card: Card, path: Path) -> None:
    """Write a card as JSON."""
    text = json.dumps(dataclasses.asdict(card), indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def load_card(path: Path) -> Card:
    """Read a card.

    Raises:
        ModelError: it is missing, is not JSON, or its keys are not those of `Card`.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        card = Card(**values)
        card = dataclasses.replace(
            card,
            spacing=(card.spacing[0], card.spacing[1]),
            data=tuple(card.data),
            seen={name: (low, high) for name, (low, high) in card.seen.items()},
        )
        if (
            card.scale < 2
            or card.grid not in ("edges", "paper")
            or card.degradation not in ("bicubic", "kspace")
            or card.receptive_field < 0
            or card.padding < 0
        ):
            raise ValueError("scale, grid, degradation, receptive_field or padding make no sense")
    except OSError as error:
        raise ModelError(
            f"The card {path} cannot be read: {error.strerror}. Weights without a card are not "
            "used, since nothing says how; `mrlift export` writes both."
        ) from error
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise ModelError(f"{path} is not a card of mrlift: {error}.") from error
    return card


def verify(card: Card, weights: bytes, path: Path) -> None:
    """Check that weights, the content of the .onnx file in `path`, are those of the card.

    Raises:
        ModelError: their sha256 differs.
    """
    digest = hashlib.sha256(weights).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"{path} does not match its card: expected sha256 {card.sha256[:12]}..., found "
            f"{digest[:12]}.... Fetch or export both again."
        )
