"""Filled k-space and the way back to the measured matrix."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mrlift.resampling import kspace_resize
from mrlift.spectrum import crop_spectrum, filled, measured_size


def acquired(shape, stored, noise=0.03, seed=0):
    """Slices of discs of all sizes, measured on a matrix and zero-filled to another, magnitudes."""
    rng = np.random.default_rng(seed)
    height, width = shape
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    head = np.hypot(y / 0.8, x / 0.84) < 1
    slices = []
    for _ in range(8):
        tissue = np.full(head.shape, 0.6)
        for _ in range(60):
            (v, u), r, level = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.05, 0.4) ** 2, rng.random()
            tissue[np.hypot(y - v, x - u) < r] = level
        measured = kspace_resize(head * tissue, height, width)
        noise_here = rng.normal(0, noise, (2, height, width))
        whole = kspace_resize(measured + noise_here[0], *stored)
        slices.append(np.hypot(whole, kspace_resize(noise_here[1], *stored)))
    return np.stack(slices)


@settings(max_examples=8)
@given(st.integers(58, 85), st.booleans(), st.integers(0, 99))
def test_the_edge_of_the_measured_part_is_found(percent, rows, seed):
    stored = 128
    measured = round(stored * percent / 100)
    shape = (measured, stored) if rows else (stored, measured)
    shares = filled(acquired(shape, (stored, stored), seed=seed))
    assert shares[0 if rows else 1] == pytest.approx(measured / stored, abs=0.035)
    assert shares[1 if rows else 0] == 1.0


@settings(max_examples=4)
@given(st.integers(0, 99), st.floats(0.01, 0.06))
def test_a_full_spectrum_is_not_flagged(seed, noise):
    assert filled(acquired((128, 144), (128, 144), noise, seed)) == (1.0, 1.0)


def test_cropping_brings_back_what_was_measured():
    rng = np.random.default_rng(1)
    measured = 1 + 0.1 * rng.random((3, 96, 128))
    stored = np.stack([kspace_resize(m, 128, 128) for m in measured])
    back = crop_spectrum(stored, (0.75, 1.0))
    assert back.shape == (3, 96, 128)
    # But for the Nyquist row, of which zero-filling keeps a half at each end.
    np.testing.assert_allclose(back.mean(axis=(1, 2)), measured.mean(axis=(1, 2)), rtol=1e-5)
    assert np.abs(back - measured).max() < 0.02


@given(st.integers(32, 600), st.floats(0.3, 1.0))
def test_measured_sizes_are_even_and_no_larger(size, share):
    measured = measured_size(size, share)
    assert measured <= size
    assert measured == size or measured % 2 == 0


def test_too_short_and_empty_axes_tell_nothing():
    assert filled(np.zeros((3, 128, 128))) == (1.0, 1.0)
    assert filled(np.random.default_rng(0).random((3, 40, 40))) == (1.0, 1.0)


def test_the_sample_is_fully_measured(sample):
    import mrlift

    assert filled(mrlift.load(sample).slices()) == (1.0, 1.0)
