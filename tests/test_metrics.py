"""Metrics against scikit-image."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import metrics as reference

from mrlift import metrics


def pair(seed, shape=(31, 40)):
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) * 900
    return truth, truth + rng.normal(0, 30, shape)


@given(st.integers(0, 50), st.floats(10, 5000))
def test_agree_with_scikit_image(seed, data_range):
    truth, image = pair(seed)
    assert metrics.psnr(truth, image, data_range=data_range) == pytest.approx(
        reference.peak_signal_noise_ratio(truth, image, data_range=data_range)
    )
    assert metrics.nrmse(truth, image) == pytest.approx(reference.normalized_root_mse(truth, image))
    assert metrics.ssim(truth, image, data_range=data_range) == pytest.approx(
        reference.structural_similarity(
            truth,
            image,
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        ),
        abs=1e-9,
    )


def test_unsigned_integers_do_not_wrap():
    truth, image = np.array([[3]], np.uint16), np.array([[5]], np.uint16)
    assert metrics.mse(truth, image) == 4
    assert metrics.mse(image, truth) == 4


def test_equal_images():
    truth, _ = pair(0)
    assert metrics.psnr(truth, truth, data_range=1) == math.inf
    assert metrics.nrmse(truth, truth) == 0
    assert metrics.ssim(truth, truth, data_range=900) == pytest.approx(1)


def test_empty_truth():
    assert metrics.nrmse(np.zeros((3, 3)), np.ones((3, 3))) == math.inf


def test_data_range_must_be_given():
    truth, image = pair(0)
    with pytest.raises(TypeError):
        metrics.psnr(truth, image)


def test_ssim_needs_its_window():
    with pytest.raises(ValueError, match="11x11"):
        metrics.ssim(np.zeros((10, 40)), np.zeros((10, 40)), data_range=1)
