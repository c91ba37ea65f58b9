"""The intensity scale of a series."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mrlift.inference.normalise import series_scale

KINDS = st.sampled_from([np.uint8, np.int16, np.uint16, np.float32, np.float64])


@given(
    KINDS.flatmap(
        lambda kind: arrays.arrays(kind, st.integers(1, 3000), elements=st.integers(0, 100))
    )
)
def test_it_is_the_percentile_of_what_is_not_zero(voxels):
    signal = voxels[voxels != 0]
    expected = np.percentile(signal, 99.9) if signal.size else 1.0
    assert series_scale(voxels) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 5000), st.integers(0, 99))
def test_it_grows_with_the_intensities(size, seed):
    voxels = np.random.default_rng(seed).random(size)
    assert series_scale(3 * voxels) == pytest.approx(3 * series_scale(voxels))


def test_it_is_positive_for_any_series():
    assert series_scale(np.zeros(5)) == 1.0
    assert series_scale(np.array([-3.0, -2.0])) == 3.0
