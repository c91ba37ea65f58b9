"""Skipping air: all of the object is computed, nothing of it changes, no seam shows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import head
from test_patches import card

import mrlift
from mrlift.inference.air import BLEND, MARGIN, cover, grown, network_share, object_mask
from mrlift.inference.choice import installed
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.normalise import series_scale
from mrlift.inference.patches import upscale_slice
from mrlift.inference.zoo import shipped_names
from mrlift.metrics import psnr
from mrlift.resampling import rician_noise

NAMES = shipped_names()


def noisy_head(sigma, seed=0, shape=(150, 140)):
    small = head((shape[0] - 60, shape[1] - 50, 1), seed)[:, :, 0] / 1000
    image = np.pad(small, ((35, 25), (20, 30)))
    return rician_noise(image, sigma, np.random.default_rng(seed)).astype(np.float32)


masks = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99), st.floats(0, 0.05))


@given(masks, st.integers(1, 12))
def test_parts_cover_the_mask_and_do_not_meet(shape, gap):
    height, width, seed, share = shape
    mask = np.random.default_rng(seed).random((height, width)) < share
    count = np.zeros(mask.shape, int)
    for part in cover(mask, gap):
        count[part.top : part.bottom, part.left : part.right] += 1
    assert (count[mask] == 1).all()
    assert count.max() <= 1


@given(masks, st.integers(0, 6))
def test_grown_is_the_square_around_each_sample(shape, by):
    height, width, seed, share = shape
    mask = np.random.default_rng(seed).random((height, width)) < share
    expected = np.zeros_like(mask)
    for row, column in np.argwhere(mask):
        expected[max(0, row - by) : row + by + 1, max(0, column - by) : column + by + 1] = True
    np.testing.assert_array_equal(grown(mask, by), expected)


def test_dark_tissue_and_holes_are_object():
    image = np.zeros((80, 80), np.float32)
    image[20:60, 20:60] = 0.5
    image[30:50, 30:50] = 0.0  # a ventricle as dark as air
    image[60:70, 30:50] = 0.04  # 4 % of the scale: tissue next to the noise
    mask = object_mask(image)
    assert mask[20:70, 30:50].all()
    assert not mask[:10].any()


def test_bright_air_is_object():
    image = np.random.default_rng(0).random((60, 60), dtype=np.float32) * 0.1
    assert object_mask(image).all()


def test_share_falls_from_one_to_zero():
    image = np.zeros((60, 60), np.float32)
    image[30, 30] = 1
    share = network_share(object_mask(image))
    inside = grown(image > 0, MARGIN)
    assert (share[inside] == 1).all()
    assert (share[~grown(inside, BLEND + 2)] == 0).all()
    assert np.abs(np.diff(share[30])).max() <= 1 / (BLEND + 1) + 1e-6


@given(
    st.integers(1, 60), st.integers(1, 60), st.sampled_from(("edges", "paper")), st.integers(0, 9)
)
def test_with_bicubic_as_the_network_nothing_changes(height, width, grid, seed):
    rng = np.random.default_rng(seed)
    image = rng.random((height, width), dtype=np.float32) * (rng.random((height, width)) < 0.01)
    engine, one = bicubic_engine(2, grid), card(2, grid)
    whole = upscale_slice(image, engine, one)
    np.testing.assert_allclose(upscale_slice(image, engine, one, whole=False), whole, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sigma", [0.0, 0.005, 0.01])
def test_the_object_stays_the_same(name, sigma):
    """To 1e-5 of full scale, for all shipped weights, with and without noise in the air."""
    # The quickest for all weights where it runs; without the measurement that chooses for each.
    engine = next(e for e in ("amx", "winograd", "onnx") if e in installed())
    model = mrlift.load_model(name, engine=engine)
    image = noisy_head(sigma)
    whole = upscale_slice(image, model.engine, model.card)
    part = upscale_slice(image, model.engine, model.card, whole=False)
    scale = model.card.scale
    inside = object_mask(image).repeat(scale, 0).repeat(scale, 1)
    assert 0.2 < inside.mean() < 0.8
    assert np.abs(whole - part)[inside].max() <= 1e-5


def test_no_seam_shows_in_the_noise_around_the_object():
    """Where the network gives way, steps between neighbours are those of the noise beside it."""
    model = mrlift.load_model("mrl-fast-x2-bicubic")
    image = noisy_head(0.01)
    sr = upscale_slice(image, model.engine, model.card, whole=False)
    inside = object_mask(image)

    def band(first, last):
        ring = grown(inside, last) & ~grown(inside, first)
        return ring.repeat(2, 0).repeat(2, 1)[:, 1:]

    steps = np.abs(np.diff(sr, axis=1))
    border, air = steps[band(0, BLEND + 1)], steps[band(BLEND + 2, BLEND + 9)]
    assert border.mean() == pytest.approx(air.mean(), rel=0.35)
    assert border.max() < 2 * air.max()


def test_the_sample_series_is_the_same_inside(sample):
    model = mrlift.load_model("mrl-tiny-x2-bicubic")
    volume = mrlift.load(sample / "N2D_0193.dcm")
    whole, part = (mrlift.upscale(volume, model=model, whole=w) for w in (True, False))
    image = volume.slices()[0] / series_scale(volume.voxels)
    inside = object_mask(image.astype(np.float32)).repeat(2, 0).repeat(2, 1)
    a, b = whole.slices()[0][inside], part.slices()[0][inside]
    assert psnr(a, b, data_range=float(a.max())) > 80
