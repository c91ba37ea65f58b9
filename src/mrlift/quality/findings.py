"""What is worth a warning, in plain words."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "place", "shift", "bias", "structure", "noise-level", "interpolated", "spacing", "matrix",
    "noise", "brightness", "contrast", "foreground",
]  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One reason not to believe a result as it is.

    Attributes:
        kind: which test gave it.
        text: what was found, what is usual, and what to do.
    """

    kind: Kind
    text: str
