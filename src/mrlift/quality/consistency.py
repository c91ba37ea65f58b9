"""Is a result one of its input? Degraded again, it must equal the input but for noise.

The residual of a right result is noise that the network has removed: white, small, without form. A
wrong one leaves structure: edges where it is shifted, the picture itself where it is scaled, a blob
where something was painted in. So the residual is smoothed, which takes noise away and leaves
structure, and fitted with what shifts and scaling would give.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrlift._version import __version__
from mrlift.errors import GeometryError
from mrlift.inference.card import Card
from mrlift.inference.degradation import degrade_slice
from mrlift.inference.normalise import FOREGROUND_LEVEL, series_scale
from mrlift.inference.traits import noise_level
from mrlift.quality.findings import Finding
from mrlift.quality.thresholds import thresholds
from mrlift.resampling import hr_size
from mrlift.volume import Derivation, Volume

SMOOTH = 1.0  # LR voxels: sigma of the Gaussian, about the size of what would be read as a lesion
WHITE = 1 / (2 * SMOOTH * np.sqrt(np.pi))  # what that Gaussian leaves of white noise
BEYOND = 3.0  # noise levels: white noise exceeds them in 0.3 % of voxels
NEVER = 2.0  # standard deviations of smoothed noise that are never worth a word
EDGES = 0.02  # of the smoothed picture's gradient: by so much sharpened edges may differ
BORDER = 4  # LR voxels at the border, where k-space wraps round and the network sees mirrored ones
LEAST = 1e-3  # of the series' scale: the noise level is taken to be no less
SAME_PLACE = 0.05  # voxels by which the affines may differ
NORMAL_MAD = 0.6745  # median absolute deviation of a normal distribution, in standard deviations

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Structure:
    """Where the smoothed residual is largest for its kind.

    Attributes:
        voxel: in LR, (x, y, z) or (x, y, z, t).
        height: of the smoothed residual, share of the series' scale; positive where SR is brighter.
        deviations: the same over what is usual there: a robust standard deviation of the smoothed
            residual, and more beside edges.
    """

    voxel: tuple[int, ...]
    height: float
    deviations: float


@dataclass(frozen=True)
class Consistency:
    """What a degraded result and its input have in common.

    All figures are those of tissue: where smoothed LR exceeds a tenth of its scale. Darker voxels
    hold the rectified noise of magnitude images, which no network can restore.

    Attributes:
        residual: degraded SR minus LR, float32, on the grid and in the units of LR.
        unit: the scale of LR, in its units.
        noise: the noise level of LR as estimated from itself, in its units.
        nrmse: root mean square of the residual over that of LR.
        bias: by how much SR is brighter than LR, a share.
        shift: of SR against LR along the two in-plane axes, in LR voxels.
        beyond: share of voxels whose residual exceeds three times the noise level.
        structure: where SR holds something that LR does not, or the other way round.
        findings: what exceeds the thresholds.
    """

    residual: Volume
    unit: float
    noise: float
    nrmse: float
    bias: float
    shift: tuple[float, float]
    beyond: float
    structure: Structure
    findings: tuple[Finding, ...]


def degraded(sr: Volume, card: Card) -> Iterator[Array]:
    """The slices of a result as the weights' training would have reduced them, without noise."""
    rng = np.random.default_rng(0)
    for image in sr.slices():
        hr = image.astype(np.float32)
        yield degrade_slice(hr, card.scale, card.degradation, card.grid, 0.0, rng).astype(float)


def consistency(lr: Volume, sr: Volume, card: Card) -> Consistency:
    """Degrade `sr` as `card` says and compare it with `lr`.

    Raises:
        GeometryError: `sr` has not `card.scale` times the size of `lr`.
    """
    sr = replace(sr, slice_axis=lr.slice_axis)
    _refuse_other_size(lr, sr, card)
    stack = lr.slices()
    unit = series_scale(stack)
    noise = max(noise_level(stack), LEAST * unit)
    magnitude = card.degradation == "kspace" and stack.min() >= 0
    fit, residuals, smoothed, usual, inside = _Fit(), [], [], [], []
    for image, low in zip(degraded(sr, card), stack, strict=True):
        whole = image > 0  # a negative lobe beside an edge was cut off or turned round in LR
        image, low = (np.abs(image) if magnitude else image) / unit, low / unit
        smooth, expected = _smooth(image - low), _smooth(low)
        tissue = _within(whole & (expected > FOREGROUND_LEVEL))
        fit.add(expected + smooth, smooth, tissue)
        residuals.append((image - low).astype(np.float32))
        smoothed.append(smooth.astype(np.float32))
        usual.append(EDGES * _smooth(_steepness(expected)).astype(np.float32))
        inside.append(tissue)
    residual, tissue = np.stack(residuals), np.stack(inside)
    picked = residual[tissue] if tissue.any() else residual.ravel()
    power = float(np.mean(np.square(stack[tissue] / unit))) if tissue.any() else 1.0
    scaled = lr.voxels_from_slices(residual * np.float32(unit))
    shift, bias = fit.solve()
    result = Consistency(
        residual=replace(lr, voxels=scaled, derivation=_residual_of(card).after(lr.derivation)),
        unit=unit,
        noise=noise,
        nrmse=float(np.sqrt(np.mean(np.square(picked)) / power)),
        bias=bias,
        shift=shift,
        beyond=float(np.mean(np.abs(picked) > BEYOND * noise / unit)),
        structure=_structure(lr, np.stack(smoothed), np.stack(usual), tissue),
        findings=(),
    )
    return replace(result, findings=tuple(_findings(result, lr, sr, card)))


class _Fit:
    """Least squares of the smoothed residual on the picture's gradients and the picture itself."""

    def __init__(self) -> None:
        self.normal, self.right = np.zeros((3, 3)), np.zeros(3)

    def add(self, picture: Array, residual: Array, inside: NDArray[np.bool_]) -> None:
        if min(picture.shape) < 2:
            return
        columns = np.stack([a[inside] for a in (*np.gradient(picture), picture)])
        self.normal += columns @ columns.T
        self.right += columns @ residual[inside]

    def solve(self) -> tuple[tuple[float, float], float]:
        """The shift in LR voxels, and the share by which SR is brighter."""
        rows, columns, share = np.linalg.lstsq(self.normal, self.right, rcond=None)[0]
        # SR's residual is share * SR: seen from LR it is share / (1 - share).
        return (float(-rows), float(-columns)), float(share / (1 - share))


def _structure(
    lr: Volume,
    smoothed: NDArray[np.float32],
    usual: NDArray[np.float32],
    inside: NDArray[np.bool_],
) -> Structure:
    """`usual` is what edges add to the standard deviation, which is found here."""
    picked = smoothed[inside]
    deviation = float(np.median(np.abs(picked))) / NORMAL_MAD if picked.size else 0.0
    expected = np.maximum(usual + deviation, LEAST * WHITE)
    score = np.where(inside, np.abs(smoothed) / expected, 0)
    at = int(np.argmax(score))
    numbers = lr.voxels_from_slices(np.arange(score.size).reshape(score.shape))
    voxel = np.argwhere(numbers == at)[0]
    return Structure(tuple(int(v) for v in voxel), float(smoothed.flat[at]), float(score.flat[at]))


def _within(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the border of the slice."""
    inner = np.zeros_like(mask)
    inner[BORDER:-BORDER, BORDER:-BORDER] = mask[BORDER:-BORDER, BORDER:-BORDER]
    return inner


def _steepness(picture: Array) -> Array:
    """The length of the gradient, per voxel."""
    if min(picture.shape) < 2:
        return np.zeros_like(picture)
    steep: Array = np.hypot(*np.gradient(picture))
    return steep


def _findings(found: Consistency, lr: Volume, sr: Volume, card: Card) -> Iterator[Finding]:
    limits = thresholds()
    apart = _apart(lr, sr, card)
    if apart > SAME_PLACE:
        yield Finding(
            "place",
            f"By their headers the two lie up to {apart:.2g} LR voxels apart in the patient. One "
            "of them was moved; use files as mrlift wrote them.",
        )
    if found.beyond > limits.beyond:
        yield Finding(
            "noise-level",
            f"{found.beyond:.1%} of the tissue differs from LR by more than three times the noise "
            f"({limits.beyond:.1%} would be unusual): SR was not made from this LR, or with other "
            f"weights than {card.name}. Check that the files belong together.",
        )
    steps = [lr.spacing[axis] for axis in lr.in_plane_axes]
    if (far := float(np.hypot(*found.shift))) > limits.shift:
        names = ["XYZ"[axis] for axis in lr.in_plane_axes]
        told = " and ".join(
            f"{s:+.2f} LR voxels ({s * step:+.2f} mm) along {name}"
            for s, step, name in zip(found.shift, steps, names, strict=True)
        )
        yield Finding(
            "shift",
            f"SR lies {told} beside LR, {far:.2f} voxels in all (up to {limits.shift:.2g} is "
            "usual). Its anatomy is not where its header says; do not measure places in it.",
        )
    if abs(found.bias) > limits.bias:
        word = "brighter" if found.bias > 0 else "darker"
        yield Finding(
            "bias",
            f"SR is {abs(found.bias):.1%} {word} than LR (up to {limits.bias:.1%} is usual). "
            "Intensities were scaled; do not compare them with other series.",
        )
    spot = found.structure
    floor = NEVER * WHITE * found.noise / found.unit
    if spot.deviations > limits.structure and abs(spot.height) > floor:
        word = "brighter" if spot.height > 0 else "darker"
        yield Finding(
            "structure",
            f"At LR voxel {spot.voxel} SR holds a structure that LR does not: {word} by "
            f"{abs(spot.height):.1%} of the series' scale over some {2.4 * SMOOTH:.0f} voxels, "
            f"{spot.deviations:.0f} times the usual difference (up to {limits.structure:.0f} is "
            "usual). Look at it in LR before you believe it.",
        )


def _refuse_other_size(lr: Volume, sr: Volume, card: Card) -> None:
    wanted = list(lr.voxels.shape)
    for axis in lr.in_plane_axes:
        wanted[axis] = hr_size(wanted[axis], card.scale, card.grid)
    if list(sr.voxels.shape) != wanted:
        raise GeometryError(
            f"LR of {lr.voxels.shape} voxels becomes {tuple(wanted)} with {card.name}; found SR of "
            f"{sr.voxels.shape}. Give the pair that belongs together, or --model for its weights."
        )


def _apart(lr: Volume, sr: Volume, card: Card) -> float:
    """The largest distance between where SR's voxels are and where LR says they are, LR voxels."""
    wanted = lr.resized(sr.voxels, card.scale, card.grid)
    corners = np.array([[0.0, 0, 0, 1], [*sr.voxels.shape[:3], 1.0]]).T
    there = np.linalg.inv(lr.affine) @ (wanted.affine - sr.affine) @ corners
    return float(np.abs(there).max())


def _residual_of(card: Card) -> Derivation:
    return Derivation(
        label=f"mrlift residual x{card.scale}",
        description=(
            f"Residual map by mrlift {__version__}: the result of the weights {card.name}, reduced "
            f"again ({card.degradation}), minus the source. For research only; not for diagnosis."
        ),
        model=card.name,
        version=__version__,
        quantity="residual",
    )


def _smooth(image: Array) -> Array:
    """A Gaussian of SMOOTH voxels, mirrored at the borders."""
    reach = int(np.ceil(3 * SMOOTH))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTH) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        pad = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
        padded, size = np.pad(image, pad, mode="symmetric"), image.shape[axis]
        image = sum(t * np.take(padded, range(k, k + size), axis) for k, t in enumerate(taps))
    return image
