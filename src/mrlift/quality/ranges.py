"""Is a series of the kind that the weights were trained on? Warnings in plain words."""

from collections.abc import Iterator

from mrlift.inference.card import Card
from mrlift.inference.traits import traits
from mrlift.quality.findings import Finding, Kind
from mrlift.volume import Volume

MARGIN = 0.2  # of a limit, by which a series may lie outside before it is named
WORDS: dict[Kind, tuple[str, str, str]] = {
    "noise": ("noise", "noisier", "calmer"),
    "brightness": ("median brightness of tissue", "brighter", "darker"),
    "contrast": ("contrast between tissues", "richer in contrast", "flatter"),
    "foreground": ("share of the picture that is tissue", "larger", "smaller"),
}


def out_of_range(volume: Volume, card: Card) -> tuple[Finding, ...]:
    """Where `volume` lies outside of what the weights of `card` were trained on.

    Cards name the spacing; the rest only where their `seen` tells the range.
    """
    return (*_spacing(volume, card), *_matrix(volume, card), *_look(volume, card))


def _spacing(volume: Volume, card: Card) -> Iterator[Finding]:
    low, high = card.spacing
    steps = [volume.spacing[axis] / card.scale for axis in volume.in_plane_axes]
    if _outside(min(steps), low, high) or _outside(max(steps), low, high):
        found = " x ".join(f"{s:.2g}" for s in steps)
        yield Finding(
            "spacing",
            f"The result has voxels of {found} mm; {card.name} was trained on {low:.2g} to "
            f"{high:.2g} mm. Structures have another size in voxels than it knows: believe its "
            "detail less, or train weights on such images.",
        )


def _matrix(volume: Volume, card: Card) -> Iterator[Finding]:
    if "matrix" not in card.seen:
        return
    low, high = card.seen["matrix"]
    sizes = [volume.voxels.shape[axis] for axis in volume.in_plane_axes]
    if _outside(min(sizes), low, high) or _outside(max(sizes), low, high):
        yield Finding(
            "matrix",
            f"The slices have {sizes[0]} x {sizes[1]} voxels; {card.name} was trained on images of "
            f"{low:.0f} to {high:.0f} a side: the field of view, the resolution or the organ is "
            "another. Compare the result with plain interpolation.",
        )


def _look(volume: Volume, card: Card) -> Iterator[Finding]:
    known: list[Kind] = [kind for kind in WORDS if kind in card.seen]
    if not known:
        return
    found = traits(volume.slices())
    for kind in known:
        low, high = card.seen[kind]
        value = found[kind]
        if _outside(value, low, high):
            what, more, less = WORDS[kind]
            yield Finding(
                kind,
                f"The series is {more if value > high else less} than those that {card.name} was "
                f"trained on ({what}: {value:.3f}, there {low:.3f} to {high:.3f}). Its result may "
                "be worse than the card's figures; compare it with plain interpolation.",
            )


def _outside(value: float, low: float, high: float) -> bool:
    return value < low * (1 - MARGIN) or value > high * (1 + MARGIN)
