"""What `upscale` keeps and how it scales."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import affines
from phantoms import head, head_volume
from test_patches import card

import mrlift
from mrlift.benchmark.comparison import compare
from mrlift.errors import InputError, ModelError
from mrlift.inference.degradation import degrade
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model
from mrlift.volume import Volume


def bicubic(scale=2):
    return Model(card(scale), bicubic_engine(scale))


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32", "float32", "float64"])
def test_dtype_stays(dtype):
    sr = upscale(head_volume((12, 14, 2), dtype=dtype, peak=200), 2, bicubic())
    assert sr.voxels.dtype == dtype
    assert sr.voxels.shape == (24, 28, 2)


@given(st.floats(1e-3, 1e4))
@settings(max_examples=20)
def test_intensities_scale(factor):
    """upscale(a x) = a upscale(x): the unit of the scanner means nothing."""
    model = mrlift.load_model()
    image = head((20, 24, 1))
    one = upscale(Volume(image, np.eye(4)), 2, model).voxels
    other = upscale(Volume(image * factor, np.eye(4)), 2, model).voxels
    np.testing.assert_allclose(other, one * factor, atol=2e-5 * one.max() * factor)


@given(affines(), st.integers(0, 2), st.sampled_from((2, 3, 4)))
def test_affine_moves_as_resized_says(affine, axis, scale):
    volume = Volume(head((6, 7, 5)), affine, axis)
    sr = upscale(volume, scale, bicubic(scale))
    expected = volume.resized(np.zeros(sr.voxels.shape), scale).affine
    np.testing.assert_allclose(sr.affine, expected)
    assert sr.voxels.shape[axis] == volume.voxels.shape[axis]


def test_time_points_are_done_one_by_one():
    """Also where they differ in brightness: the network is not linear."""
    model = mrlift.load_model()
    stack = np.stack([head((12, 14, 3), seed=s, peak=1000 / (1 + 9 * s)) for s in range(2)], -1)
    both = upscale(Volume(stack, np.eye(4)), 2, model).voxels
    for t in range(2):
        alone = upscale(Volume(stack[..., t], np.eye(4)), 2, model).voxels
        np.testing.assert_array_equal(both[..., t], alone)


def test_all_zero_series():
    sr = upscale(Volume(np.zeros((8, 8, 2), np.int16), np.eye(4)), 2, bicubic())
    assert not sr.voxels.any()


def test_overshoot_saturates():
    voxels = np.zeros((16, 16, 1), np.uint8)
    voxels[4:12, 4:12] = 255
    sr = upscale(Volume(voxels, np.eye(4)), 2, bicubic()).voxels
    assert sr.max() == 255
    assert sr[16, 16, 0] > 240


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_wide_integers_keep_their_digits(dtype):
    value = np.iinfo(dtype).max - 1
    constant = Volume(np.full((8, 8, 1), value, dtype), np.eye(4))
    assert np.abs(upscale(constant, 2, bicubic()).voxels.astype(float) - value).max() < 2e-7 * value


def test_scale_and_model_must_agree():
    with pytest.raises(ModelError, match="scale 3 was asked"):
        upscale(head_volume((8, 8, 1)), 3, bicubic(2))
    assert upscale(head_volume((8, 8, 1)), model=bicubic(3)).voxels.shape == (24, 24, 1)


def test_weights_that_do_not_fit_their_card_are_refused():
    with pytest.raises(ModelError, match="do not belong together"):
        upscale(head_volume((8, 8, 1)), 2, Model(card(2), bicubic_engine(3)))


def test_nan_is_refused():
    with pytest.raises(InputError, match="finite"):
        upscale(Volume(np.full((4, 4, 1), np.nan), np.eye(4)), 2, bicubic())


def test_progress_counts_slices():
    seen = []
    upscale(head_volume((8, 8, 3)), 2, bicubic(), progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_one_by_one_pixel():
    sr = upscale(Volume(np.full((1, 1, 1), 7, np.int16), np.eye(4)), 2, bicubic())
    assert (sr.voxels == 7).all()


@pytest.mark.parametrize(
    ("name", "decibel"), [("mrl-tiny-x2-bicubic", 35.261), ("mrl-fast-x2-bicubic", 35.346)]
)
def test_golden_numbers(sample, name, decibel):
    """Pinned: shipped weights on one real slice reduced twice, against the slice."""
    hr = mrlift.load(sample / "N2D_0193.dcm")
    sr = upscale(degrade(hr, 2, dtype=np.dtype(np.float32)), 2, name)
    assert compare(sr, hr).mean["psnr"] == pytest.approx(decibel, abs=0.002)
