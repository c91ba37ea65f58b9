"""Resampling against independent references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import grids, scales
from PIL import Image

from mrlift import resampling as rs


def noise(shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def matlab_matrix(size, target, step, width):
    """imresize by its definition, one output sample at a time, as a dense matrix."""

    def kernel(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    matrix = np.zeros((target, size))
    for o in range(target):
        u = (o + 0.5) * step - 0.5
        taps = [(i, kernel((u - i) / width)) for i in range(-4 * size, 5 * size)]
        total = sum(w for _, w in taps)
        for i, w in taps:
            mirrored = i % (2 * size)
            mirrored = mirrored if mirrored < size else 2 * size - 1 - mirrored
            matrix[o, mirrored] += w / total
    return matrix


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [5, 12, 17])
def test_bicubic_is_imresize(scale, size):
    image = noise((size, size + 1))
    up = [matlab_matrix(n, n * scale, 1 / scale, 1) for n in image.shape]
    np.testing.assert_allclose(rs.bicubic_up(image, scale), up[0] @ image @ up[1].T, atol=1e-12)
    down = [matlab_matrix(n, -(-n // scale), scale, scale) for n in image.shape]
    expected = down[0] @ image @ down[1].T
    np.testing.assert_allclose(rs.bicubic_down(image, scale), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_agrees_with_pillow_away_from_the_border(scale):
    """Pillow has the same kernel (a = -0.5, widened when shrinking) and another border rule."""
    image = noise((60, 72)).astype(np.float32)
    inner = (slice(8, -8), slice(8, -8))
    for ours, size in (
        (rs.bicubic_down(image, scale), (72 // scale, 60 // scale)),
        (rs.bicubic_up(image, scale), (72 * scale, 60 * scale)),
    ):
        theirs = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        trim = inner if ours.shape[0] > 60 else (slice(3, -3), slice(3, -3))
        np.testing.assert_allclose(ours[trim], theirs[trim], atol=1e-6)


@given(st.integers(3, 20), scales, grids, st.floats(-1e3, 1e3))
def test_constant_stays_constant(size, scale, grid, value):
    image = np.full((size, size), value)
    for change in (rs.bicubic_up, rs.bicubic_down):
        np.testing.assert_allclose(change(image, scale, grid), value, rtol=1e-12, atol=1e-12)


@given(st.integers(4, 20), scales, grids)
def test_sizes_are_inverse(size, scale, grid):
    assert rs.lr_size(rs.hr_size(size, scale, grid), scale, grid) == size


@given(scales, st.booleans(), st.integers(0, 5))
def test_flips_commute_with_every_degradation(scale, transpose, seed):
    image = noise((6 * scale, 6 * scale), seed)
    turned = image[::-1].T if transpose else image[:, ::-1]
    for change in (rs.bicubic_down, rs.bicubic_up, rs.kspace_down, rs.kspace_up):
        plain = change(image, scale)
        expected = plain[::-1].T if transpose else plain[:, ::-1]
        np.testing.assert_allclose(change(turned, scale), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("lr", [8, 9])
def test_kspace_samples_band_limited_images_on_the_edges_grid(scale, lr):
    """A cosine below both Nyquist limits, sampled at the voxel centres of either grid."""

    def sampled(count):
        at = (np.arange(count) + 0.5) / count
        rows = 1.5 + np.cos(2 * np.pi * 2 * at + 0.7)
        columns = 2.0 + np.sin(2 * np.pi * 3 * at - 0.3)
        return rows[:, None] * columns

    small, large = sampled(lr), sampled(lr * scale)
    np.testing.assert_allclose(rs.kspace_down(large, scale), small, atol=1e-12)
    np.testing.assert_allclose(rs.kspace_up(small, scale), large, atol=1e-12)


@given(scales, st.sampled_from((7, 8)), st.integers(0, 5))
def test_kspace_keeps_the_mean(scale, lr, seed):
    image = noise((lr * scale, lr * scale), seed)
    assert rs.kspace_down(image, scale).mean() == pytest.approx(image.mean())


def test_kspace_refuses_other_sizes():
    with pytest.raises(ValueError, match="multiple of scale 2"):
        rs.kspace_down(noise((9, 8)), 2)


@pytest.mark.parametrize("change", [rs.bicubic_up, rs.bicubic_down, rs.kspace_down])
def test_float32_stays_float32(change):
    image = noise((3, 12, 12)).astype(np.float32)
    assert change(image, 2).dtype == np.float32
    np.testing.assert_allclose(change(image, 2), change(image.astype(np.float64), 2), atol=1e-6)


def test_centroid_of_a_blob_stays_in_place():
    y, x = np.mgrid[:96, :108]
    blob = np.exp(-((y - 45.3) ** 2 + (x - 55.8) ** 2) / 60)

    def centroid(image, step):
        axes = [(np.arange(n) + 0.5) * step - 0.5 for n in image.shape]
        weights = image / image.sum()
        return np.array([weights.sum(1) @ axes[0], weights.sum(0) @ axes[1]])

    for scale in (2, 3, 4):
        for down in (rs.bicubic_down, rs.kspace_down):
            np.testing.assert_allclose(centroid(down(blob, scale), scale), (45.3, 55.8), atol=2e-3)
        np.testing.assert_allclose(
            centroid(rs.bicubic_up(blob, scale), 1 / scale), (45.3, 55.8), atol=2e-3
        )


def test_rescale_by_a_factor_keeps_the_field_of_view():
    image = noise((40, 30))
    assert rs.bicubic_rescale(image, 0.7).shape == (28, 21)
    np.testing.assert_allclose(rs.bicubic_rescale(image, 0.5), rs.bicubic_down(image, 2))
    np.testing.assert_allclose(rs.bicubic_rescale(image, 2.0), rs.bicubic_up(image, 2))


def test_rician_noise_has_the_distribution_of_magnitudes():
    """In air it is Rayleigh with mean sigma sqrt(pi/2); in strong signal it is Gaussian."""
    rng = np.random.default_rng(1)
    air = rs.rician_noise(np.zeros((400, 400)), 3.0, rng)
    assert air.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.01)
    tissue = rs.rician_noise(np.full((400, 400), 300.0), 3.0, rng)
    assert tissue.std() == pytest.approx(3.0, rel=0.01)
    assert tissue.mean() == pytest.approx(300.0, abs=0.1)
