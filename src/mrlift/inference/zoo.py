"""Weights: those shipped with the package and those in files."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mrlift.errors import ModelError
from mrlift.inference.card import Card, load_card, save_card, verify
from mrlift.inference.choice import CORES, REFERENCE, choose, open_engine
from mrlift.inference.degradation import Kind
from mrlift.inference.engines import Engine
from mrlift.inference.packing import PACKED, read_weights
from mrlift.inference.patches import CORE

SHIPPED = Path(__file__).parent.parent / "weights"
DEFAULTS: dict[Kind, dict[int, str]] = {
    "kspace": {2: "mrl-x2-kspace", 3: "mrl-x3-kspace", 4: "mrl-x4-kspace"},
    "bicubic": {2: "mrl-x2-bicubic", 3: "mrl-x3-bicubic", 4: "mrl-x4-bicubic"},
}
USUAL: Kind = "kspace"  # what real low-resolution scans are


log = logging.getLogger("mrlift")


@dataclass(frozen=True)
class Model:
    """Weights with their card, ready to run.

    Attributes:
        card: of the weights.
        engine: LR slices to SR slices; may be called by several threads at once.
        name: of the engine.
        threads: that the engine takes; 0 for all cores.
        core: LR samples a side of the largest patch that it is given, not counting overlap.
        reopen: the same engine with another count of threads; None if there is no other.
    """

    card: Card
    engine: Engine
    name: str = "own"
    threads: int = 0
    reopen: Callable[[int], Engine] | None = None
    core: int = CORE


def shipped_cards() -> list[Card]:
    """Cards of the weights in the package, by name."""
    return [load_card(path) for path in sorted(SHIPPED.glob("*.json"))]


def shipped_names() -> list[str]:
    """Names of the weights in the package."""
    return sorted(file.name.removesuffix(PACKED) for file in SHIPPED.glob(f"*{PACKED}"))


def save_weights(card: Card, weights: bytes, path: Path, *, overwrite: bool = False) -> None:
    """Write weights to `path` (.onnx) and their card beside it (.json): both, or neither.

    Raises:
        OutputError: one exists and `overwrite` is false, or cannot be written.
    """
    from mrlift.io import replacing  # here: what only loads weights need not import it

    with (
        replacing(path.with_suffix(".json"), overwrite=overwrite) as card_part,
        replacing(path, overwrite=overwrite) as part,
    ):
        part.write_bytes(weights)
        save_card(card, card_part)


def load_model(
    model: str | Path | None = None,
    *,
    scale: int | None = None,
    degradation: Kind | None = None,
    threads: int = 0,
    engine: str | None = None,
) -> Model:
    """Load weights and their card.

    Args:
        model: name of shipped weights, or path of an .onnx file with its card (.json) beside it;
            None takes the shipped ones for `scale` and `degradation`.
        scale: in-plane factor that the weights must have; None takes any, or 2 by default.
        degradation: what made the images low-resolution: "kspace", a coarser acquisition, or
            "bicubic", a reduction of finer images; None takes any, or "kspace" by default.
        threads: CPU threads; 0 takes all cores.
        engine: a name in `ENGINES`; None takes the fastest here, torch apart.

    Raises:
        ModelError: no such weights, damaged weights, weights of another scale or degradation, or an
            engine that is not installed or cannot run them.
    """
    card, weights = find_weights(model, scale, degradation)
    name = engine or choose(card, weights, threads)[0].engine
    try:
        opened = open_engine(name, weights, threads)
    except ModelError as error:
        if engine or name == REFERENCE:
            raise
        log.warning("The engine %s is not used: %s", name, error)
        name = REFERENCE  # it needs nothing but memory
        opened = open_engine(name, weights, threads)

    def reopen(count: int) -> Engine:
        return open_engine(name, weights, count)

    return Model(card, opened, name, threads, reopen, CORES.get(name, CORE))


def find_weights(
    model: str | Path | None, scale: int | None = None, degradation: Kind | None = None
) -> tuple[Card, bytes]:
    """The verified card of weights, and the content of their .onnx file.

    Arguments and errors are those of `load_model`.
    """
    path = _find(model, 2 if scale is None else scale, degradation or USUAL)
    card = load_card(path.with_name(path.name.removesuffix(PACKED)).with_suffix(".json"))
    weights = read_weights(path)
    verify(card, weights, path)
    if scale not in (None, card.scale):
        raise ModelError(
            f"{card.name} upscales {card.scale} times, but scale {scale} was asked. "
            f"Ask for scale {card.scale} or choose another model."
        )
    if model is not None and degradation not in (None, card.degradation):
        raise ModelError(
            f"{card.name} was trained for {card.degradation} degradation, but {degradation} was "
            "asked. Leave one of the two away."
        )
    return card, weights


def _find(model: str | Path | None, scale: int, degradation: Kind) -> Path:
    if model is None:
        shipped = DEFAULTS[degradation]
        if scale not in shipped:
            have = ", ".join(map(str, sorted(shipped)))
            raise ModelError(
                f"No weights for scale {scale} are shipped; available: {have}. "
                "Choose one of these, or give the path of weights of your own."
            )
        model = shipped[scale]
    path = Path(model)
    if path.suffix == ".onnx":
        return path
    names = shipped_names()
    if str(model) not in names:
        raise ModelError(
            f"No shipped weights are called {str(model)!r}; there are: {', '.join(names)}. "
            "For a file of your own give its path, which ends in .onnx."
        )
    return SHIPPED / f"{model}{PACKED}"
