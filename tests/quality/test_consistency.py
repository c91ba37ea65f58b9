"""A right result passes at the level of noise; each kind of wrong one is named for what it is."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import head_volume

from mrlift.errors import GeometryError
from mrlift.inference.degradation import degrade
from mrlift.inference.normalise import series_scale
from mrlift.inference.traits import noise_level, traits
from mrlift.inference.zoo import SHIPPED, load_card
from mrlift.quality import back_project, check, consistency, scale_between
from mrlift.quality.thresholds import thresholds
from mrlift.resampling import rician_noise

CARDS = {
    kind: replace(load_card(SHIPPED / f"mrl-x2-{kind}.json"), seen={})
    for kind in ("kspace", "bicubic")
}


def pair(kind, noise=0.01, seed=0, dtype=np.float32):
    """A phantom as the perfect result, and the input that it would have been made from."""
    hr = head_volume((160, 160, 3), dtype, np.diag([-0.8, -0.8, 4.0, 1.0]), seed=seed)
    return degrade(hr, 2, kind, noise=noise, seed=seed), hr


def shifted(volume, by):
    spectrum = np.fft.fft(volume.voxels.astype(float), axis=0)
    ramp = np.exp(-2j * np.pi * np.fft.fftfreq(volume.voxels.shape[0]) * by)[:, None, None]
    return replace(volume, voxels=np.fft.ifft(spectrum * ramp, axis=0).real.astype(np.float32))


def painted(volume, height):
    y, x = np.mgrid[:160, :160]
    disc = (np.hypot(y - 80, x - 60) < 3.5).astype(np.float32)
    voxels = volume.voxels.copy()
    voxels[:, :, 1] += height * disc
    return replace(volume, voxels=voxels)


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_a_right_result_passes_at_any_noise(kind, noise):
    lr, hr = pair(kind, noise)
    found = consistency(lr, hr, CARDS[kind])
    assert found.findings == ()
    assert found.beyond <= 0.01
    assert found.residual.voxels.shape == lr.voxels.shape
    np.testing.assert_array_equal(found.residual.affine, lr.affine)


def test_the_residual_is_the_noise_that_was_added():
    clean, hr = pair("bicubic", 0.0)
    lr, _ = pair("bicubic", 0.02)
    found = consistency(lr, hr, CARDS["bicubic"])
    np.testing.assert_allclose(found.residual.voxels, clean.voxels - lr.voxels, atol=0.01)


@pytest.mark.parametrize("kind", CARDS)
def test_a_shift_is_named_and_measured(kind):
    lr, hr = pair(kind)
    found = consistency(lr, shifted(hr, 0.5), CARDS[kind])
    assert "shift" in {f.kind for f in found.findings}
    assert found.shift == pytest.approx((0.25, 0.0), abs=0.04)
    assert "along X" in next(f.text for f in found.findings if f.kind == "shift")


@pytest.mark.parametrize("kind", CARDS)
@given(share=st.sampled_from([-0.03, -0.02, 0.02, 0.03]))
def test_a_scaling_is_named_and_measured(kind, share):
    lr, hr = pair(kind)
    found = consistency(lr, replace(hr, voxels=hr.voxels * np.float32(1 + share)), CARDS[kind])
    assert found.bias == pytest.approx(share, abs=0.003)
    (text,) = (f.text for f in found.findings if f.kind == "bias")
    assert ("brighter" if share > 0 else "darker") in text
    assert "shift" not in {f.kind for f in found.findings}


@pytest.mark.parametrize("kind", CARDS)
@pytest.mark.parametrize("height", [300, -300])
def test_a_painted_lesion_is_found_where_it_is(kind, height):
    lr, hr = pair(kind)
    found = consistency(lr, painted(hr, height), CARDS[kind])
    assert "structure" in {f.kind for f in found.findings}
    assert np.abs(np.subtract(found.structure.voxel, (40, 30, 1))).max() <= 1
    assert np.sign(found.structure.height) == np.sign(height)


def test_another_image_is_beyond_the_noise():
    lr, _ = pair("kspace", seed=0)
    _, other = pair("kspace", seed=1)
    found = consistency(lr, other, CARDS["kspace"])
    assert "noise-level" in {f.kind for f in found.findings}
    assert found.beyond > 0.3


def test_a_moved_header_is_named():
    lr, hr = pair("bicubic")
    affine = hr.affine.copy()
    affine[0, 3] += 1.0
    found = consistency(lr, replace(hr, affine=affine), CARDS["bicubic"])
    assert found.findings == () or found.findings[0].kind == "place"
    assert "place" in {f.kind for f in found.findings}


def test_series_in_other_units_give_the_same_figures():
    lr, hr = pair("kspace")
    times = [replace(v, voxels=v.voxels * np.float32(64)) for v in (lr, hr)]
    one, other = consistency(lr, hr, CARDS["kspace"]), consistency(*times, CARDS["kspace"])
    for name in ("nrmse", "bias", "beyond"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-6)
    assert other.noise == pytest.approx(64 * one.noise, rel=1e-4)


def test_what_is_no_pair_is_refused():
    lr, hr = pair("bicubic")
    with pytest.raises(GeometryError, match="found SR of"):
        consistency(lr, hr.cropped((150, 160)), CARDS["bicubic"])
    assert scale_between(lr, hr) == 2
    for one, other in ((lr, lr), (hr, lr), (lr, hr.cropped((150, 160)))):
        with pytest.raises(GeometryError, match="Give LR first"):
            scale_between(one, other)


def test_an_empty_series_draws_no_warning_and_no_error():
    lr = replace(pair("bicubic")[0], voxels=np.zeros((80, 80, 3), np.uint16))
    sr = replace(pair("bicubic")[1], voxels=np.zeros((160, 160, 3), np.uint16))
    assert consistency(lr, sr, CARDS["bicubic"]).findings == ()


def test_a_check_tells_all_as_plain_values():
    lr, hr = pair("kspace")
    facts = check(lr, hr, CARDS["kspace"]).as_json()
    assert facts["passed"] is True
    assert facts["stored"] == [80, 80]
    assert [type(v) for v in facts["shift"]] == [float, float]
    assert check(lr, painted(hr, 400), CARDS["kspace"]).passed is False


@pytest.mark.parametrize("kind", CARDS)
def test_back_projection_leaves_nothing_beyond_the_noise(kind):
    lr, hr = pair(kind, 0.005)
    wrong = painted(shifted(hr, 0.3), 300)
    derived = replace(wrong, derivation=consistency(lr, hr, CARDS[kind]).residual.derivation)
    fixed = back_project(lr, derived, CARDS[kind])
    assert consistency(lr, fixed, CARDS[kind]).beyond < 0.001
    assert consistency(lr, wrong, CARDS[kind]).beyond > 0.02
    assert "Back-projected" in fixed.derivation.description


def test_back_projection_leaves_a_right_result_alone():
    lr, hr = pair("kspace", 0.0, dtype=np.int16)
    derived = replace(hr, derivation=consistency(lr, hr, CARDS["kspace"]).residual.derivation)
    np.testing.assert_array_equal(back_project(lr, derived, CARDS["kspace"]).voxels, hr.voxels)


@given(sigma=st.sampled_from([5.0, 10.0, 20.0, 40.0]))
def test_noise_is_found_in_smooth_tissue(sigma):
    smooth = head_volume((128, 128, 3), np.float64).slices()
    rng = np.random.default_rng(int(sigma))
    assert noise_level(rician_noise(smooth, sigma, rng)) == pytest.approx(sigma, rel=0.35)


def test_noise_of_a_series_that_was_filled_up_with_zeros():
    """Interpolation spreads noise over neighbours, where differences no longer see it."""
    from mrlift.resampling import kspace_resize

    rng = np.random.default_rng(0)
    measured = rician_noise(head_volume((160, 112, 3), np.float64).slices(), 20.0, rng)
    stored = np.abs(kspace_resize(measured, 160, 160))
    assert noise_level(stored) == pytest.approx(20, rel=0.4)


def test_traits_do_not_depend_on_the_unit():
    stack = head_volume((96, 96, 3), np.float32).slices()
    one, other = traits(stack), traits(stack * np.float32(8))
    assert one == pytest.approx(other, rel=1e-5)
    assert 0 < one["brightness"] < 1
    assert traits(np.zeros((2, 32, 32)))["contrast"] == 0.0
    assert series_scale(stack) > 0


def test_thresholds_tell_where_they_come_from():
    limits = thresholds()
    assert limits.source["command"].startswith("python benchmarks/trust.py calibrate")
    assert limits.spread
    assert limits.spread_factor("weights of my own", 95) == max(
        row["95"] for row in limits.spread.values()
    )
