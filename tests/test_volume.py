"""Laws of geometry."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import affines, grids, scales, sizes

from mrlift.errors import GeometryError, InputError
from mrlift.resampling import hr_size
from mrlift.volume import Volume, fit_dtype


def volume(shape, affine, axis=2):
    return Volume(np.zeros(shape, np.int16), affine, axis)


def enlarged(v, scale, grid):
    shape = [
        hr_size(n, scale, grid) if axis in v.in_plane_axes else n
        for axis, n in enumerate(v.voxels.shape)
    ]
    return v.resized(np.zeros(shape, np.int16), scale, grid)


def world(v, index):
    return v.affine @ [*index, 1.0]


@given(affines(), st.tuples(sizes, sizes, sizes), st.integers(0, 2), scales)
def test_field_of_view_centre_stays(affine, shape, axis, scale):
    small = volume(shape, affine, axis)
    large = enlarged(small, scale, "edges")
    centres = [[(n - 1) / 2 for n in v.voxels.shape] for v in (small, large)]
    np.testing.assert_allclose(world(small, centres[0]), world(large, centres[1]), atol=1e-9)


@given(affines(), st.tuples(sizes, sizes, sizes), st.integers(0, 2), scales, st.data())
def test_every_corner_of_the_field_of_view_stays(affine, shape, axis, scale, data):
    """The outer corners, not only the centre: no flip, shear or half-voxel shift can hide."""
    small = volume(shape, affine, axis)
    large = enlarged(small, scale, "edges")
    ends = [data.draw(st.booleans()) for _ in range(3)]
    corner = [
        [(n - 0.5) if end else -0.5 for n, end in zip(v.voxels.shape, ends, strict=True)]
        for v in (small, large)
    ]
    np.testing.assert_allclose(world(small, corner[0]), world(large, corner[1]), atol=1e-9)


@given(affines(), st.tuples(sizes, sizes, sizes), st.integers(0, 2), scales)
def test_paper_grid_shares_its_samples(affine, shape, axis, scale):
    small = volume(shape, affine, axis)
    large = enlarged(small, scale, "paper")
    last = [n - 1 for n in shape]
    on_large = [k * scale if a in small.in_plane_axes else k for a, k in enumerate(last)]
    np.testing.assert_allclose(world(small, last), world(large, on_large), atol=1e-9)
    np.testing.assert_allclose(world(small, (0, 0, 0)), world(large, (0, 0, 0)), atol=1e-12)


@given(affines(), scales, grids)
def test_reduced_then_enlarged_is_the_same_place(affine, scale, grid):
    size = 6 * scale + (grid == "paper")
    large = volume((size, size, 3), affine)
    n = 6 + (grid == "paper")
    small = large.resized(np.zeros((n, n, 3), np.int16), Fraction(1, scale), grid)
    np.testing.assert_allclose(enlarged(small, scale, grid).affine, large.affine, atol=1e-9)
    np.testing.assert_allclose(small.spacing[2], large.spacing[2])


@given(st.integers(0, 2), st.sampled_from(((3, 4, 5), (3, 4, 5, 2))))
def test_slices_and_back(axis, shape):
    v = Volume(np.arange(np.prod(shape), dtype=np.int32).reshape(shape), np.eye(4), axis)
    assert v.slices().shape[0] == v.slice_count
    np.testing.assert_array_equal(v.voxels_from_slices(v.slices()), v.voxels)


def test_time_points_follow_each_other():
    v = Volume(np.zeros((2, 3, 4, 5)), np.eye(4))
    v.voxels[:, :, 1, 2] = 7
    assert list(np.flatnonzero(v.slices().max(axis=(1, 2)))) == [2 * 4 + 1]


def test_wrong_size_is_refused():
    with pytest.raises(GeometryError, match="expected 8 voxels, found 9"):
        volume((4, 4, 2), np.eye(4)).resized(np.zeros((9, 8, 2)), 2)


@pytest.mark.parametrize("shape", [(4, 4), (4,), (2, 2, 2, 2, 2), (0, 3, 3)])
def test_only_three_or_four_dimensions(shape):
    with pytest.raises(InputError, match="3-D or 4-D"):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_])
def test_only_real_numbers(dtype):
    with pytest.raises(InputError, match="integer or floating"):
        Volume(np.zeros((2, 2, 2), dtype), np.eye(4))


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.eye(3),
        np.diag([1e-300, 2, 1, 1]),
        np.diag([1e20, 2, 1, 1]),
    ],
)
def test_useless_affine_is_refused(affine):
    with pytest.raises(GeometryError):
        Volume(np.zeros((2, 2, 2)), affine)


INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@given(st.floats(-1e20, 1e20), st.sampled_from(INTEGERS), st.sampled_from(("f4", "f8")))
def test_integers_saturate(value, dtype, kind):
    value = np.array([value], kind)
    limits = np.iinfo(dtype)
    expected = min(max(int(np.rint(value)[0]), limits.min), limits.max)
    found = int(fit_dtype(value, np.dtype(dtype))[0])
    # The ends of 64-bit integers have no float64 of their own: the nearest one inside is taken.
    assert abs(found - expected) <= (2048 if limits.bits == 64 else 0)


def test_slice_axis_must_be_an_axis():
    with pytest.raises(InputError, match="slice axis"):
        Volume(np.zeros((2, 2, 2)), np.eye(4), 3)
