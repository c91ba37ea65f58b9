"""Volume: voxels, where they are in the patient, and what the file said. No I/O."""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import GeometryError, InputError


@dataclass(frozen=True)
class Derivation:
    """What mrlift did to a volume, in the words that headers carry.

    Attributes:
        label: a few words for titles, such as "mrlift x2".
        description: the whole story in one paragraph of at most 1024 characters.
        model: name of the weights, or of the method where there are none.
        version: of mrlift.
        quantity: what the voxels measure if they are no picture, such as "residual"; files then
            keep them as signed fractions of the picture's unit, whatever the source's type.
    """

    label: str
    description: str
    model: str
    version: str
    quantity: str = ""

    def after(self, earlier: "Derivation | None") -> "Derivation":
        """This step told after the earlier ones, so that no step is lost."""
        if earlier is None:
            return self
        return replace(
            self,
            label=f"{earlier.label}, {self.label}",
            description=f"{earlier.description} Then: {self.description}",
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """A regular stack of slices, or a time series of such stacks.

    Attributes:
        voxels: (X, Y, Z) or (X, Y, Z, T), integer or floating, in the units of the source after
            its slope and intercept.
        affine: (4, 4) float64; maps voxel indices to mm, RAS+ (x to the right, y to anterior, z to
            superior), referring to voxel centres.
        slice_axis: the through-plane axis, 0 to 2; the other two are in-plane.
        source: what the file said, kept for writing; only `mrlift.io` looks inside.
        notes: what is odd about the input, in plain words.
        derivation: what mrlift did to it; None for a volume as read.

    Raises:
        InputError: wrong number of dimensions, complex or colour values.
        GeometryError: an affine that is singular, not finite, or of no sensible size.
    """

    voxels: NDArray[np.number]
    affine: NDArray[np.float64]
    slice_axis: int = 2
    source: object | None = None
    notes: tuple[str, ...] = ()
    derivation: Derivation | None = None

    def __post_init__(self) -> None:
        if self.voxels.ndim not in (3, 4) or 0 in self.voxels.shape:
            raise InputError(
                f"Expected a 3-D or 4-D volume, found shape {self.voxels.shape}. "
                "Stack 2-D images along a third axis first."
            )
        if self.voxels.dtype.kind not in "iuf":
            raise InputError(
                f"Expected integer or floating magnitudes, found voxels of type "
                f"{self.voxels.dtype}. Convert complex data to magnitude and colour to grey."
            )
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("Expected a finite 4x4 affine in mm. Repair the file's geometry.")
        if self.slice_axis not in (0, 1, 2):
            raise InputError(f"The slice axis must be 0, 1 or 2, found {self.slice_axis}.")
        steps = np.linalg.norm(affine[:3, :3], axis=0)
        if not (steps > 1e-6).all() or np.abs(affine).max() > 1e9:
            raise GeometryError(
                f"Spacings of {', '.join(f'{v:.3g}' for v in steps)} mm or a place beyond 1e9 mm "
                "are not those of an image. Repair the file's geometry."
            )
        if abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * steps.prod():
            raise GeometryError(
                "The affine is singular: two axes point the same way or a spacing is zero. "
                "Repair the file's geometry."
            )
        object.__setattr__(self, "affine", affine)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distances between voxel centres along X, Y, Z in mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def in_plane_axes(self) -> tuple[int, int]:
        """The two axes that are not the slice axis."""
        first, second = (axis for axis in range(3) if axis != self.slice_axis)
        return first, second

    @property
    def slice_count(self) -> int:
        """Number of 2-D slices, over all time points."""
        return int(np.prod(self.voxels.shape)) // self._plane_size()

    def slices(self) -> NDArray[np.number]:
        """All slices as (n, H, W), time point by time point; H and W are `in_plane_axes`.

        A view where the memory layout allows it.
        """
        order = (*range(3, self.voxels.ndim), self.slice_axis, *self.in_plane_axes)
        stack = np.transpose(self.voxels, order)
        flat: NDArray[np.number] = stack.reshape(-1, *stack.shape[-2:])
        return flat

    def voxels_from_slices(self, stack: NDArray[np.number]) -> NDArray[np.number]:
        """The inverse of `slices` for a stack (n, H', W') of another in-plane size."""
        times = self.voxels.shape[3:]
        full = stack.reshape(*times, self.voxels.shape[self.slice_axis], *stack.shape[-2:])
        order = np.argsort((*range(3, self.voxels.ndim), self.slice_axis, *self.in_plane_axes))
        voxels: NDArray[np.number] = np.transpose(full, order)
        return voxels

    def resized(
        self, voxels: NDArray[np.number], scale: int | Fraction, grid: str = "edges"
    ) -> "Volume":
        """The volume that holds `voxels`, whose in-plane spacing is 1/scale of this one's.

        Here and in `refitted` an affine changes, and nowhere else. On the "edges" grid the outer
        edge of the first voxel stays where it is: M' = M diag(1/scale), t' = t + M (1/scale - 1)/2
        on the scaled axes. On the "paper" grid the centre of the first voxel stays: t' = t. Use
        Fraction(1, n) for a volume reduced n times.

        Raises:
            GeometryError: `voxels` has another size than this scale and grid give.
        """
        scale = Fraction(scale)
        for axis, (old, new) in enumerate(zip(self.voxels.shape, voxels.shape, strict=True)):
            wanted = Fraction(old)
            if axis in self.in_plane_axes:
                wanted = old * scale if grid == "edges" else (old - 1) * scale + 1
            if not (wanted <= new < wanted + 1 if scale < 1 else new == wanted):
                raise GeometryError(
                    f"Axis {axis} of {old} voxels at scale {scale} on the {grid} grid: expected "
                    f"{float(wanted):g} voxels, found {new}."
                )
        steps = np.ones(3)
        steps[list(self.in_plane_axes)] = float(1 / scale)
        moved = (steps - 1) / 2 if grid == "edges" else np.zeros(3)
        return self._moved(voxels, steps, moved)

    def refitted(self, voxels: NDArray[np.number]) -> "Volume":
        """The volume that holds `voxels` of any in-plane size over the same field of view.

        The outer edges stay where they are, as on the "edges" grid.
        """
        steps = np.ones(3)
        for axis in self.in_plane_axes:
            steps[axis] = self.voxels.shape[axis] / voxels.shape[axis]
        return self._moved(voxels, steps, (steps - 1) / 2)

    def cropped(self, sizes: tuple[int, int]) -> "Volume":
        """The leading voxels along `in_plane_axes`; the first voxel stays where it is."""
        leading = [slice(None)] * self.voxels.ndim
        for axis, size in zip(self.in_plane_axes, sizes, strict=True):
            leading[axis] = slice(size)
        return replace(self, voxels=self.voxels[tuple(leading)])

    def _moved(
        self, voxels: NDArray[np.number], steps: NDArray[np.float64], moved: NDArray[np.float64]
    ) -> "Volume":
        """Steps longer by `steps`, the first voxel moved by `moved` old voxels."""
        affine = self.affine.copy()
        affine[:3, 3] += self.affine[:3, :3] @ moved
        affine[:3, :3] *= steps
        return replace(self, voxels=voxels, affine=affine)

    def _plane_size(self) -> int:
        first, second = self.in_plane_axes
        return int(self.voxels.shape[first] * self.voxels.shape[second])


def fit_range(values: NDArray[np.number], low: int, high: int) -> NDArray[np.float64]:
    """Rounded and clipped to [low, high], as float64: overshoot saturates, it never wraps."""
    top = float(high)
    if int(top) > high:
        top = float(np.nextafter(top, 0))  # 2**63 - 1 has no float64 of its own
    clipped: NDArray[np.float64] = np.clip(np.rint(values, dtype=np.float64), float(low), top)
    return clipped


def fit_dtype(values: NDArray[np.number], dtype: np.dtype) -> NDArray[np.number]:
    """`values` as `dtype`; integers are rounded and clipped to the type's range."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return fit_range(values, int(limits.min), int(limits.max)).astype(dtype)
