"""The ensemble, what a scanner measured, and what weights have seen."""

from dataclasses import replace

import numpy as np
import pytest
from phantoms import head_volume

from mrlift.inference.engines import bicubic_engine
from mrlift.inference.pipeline import upscale
from mrlift.inference.traits import traits
from mrlift.inference.zoo import SHIPPED, Model, load_card, load_model
from mrlift.quality import crop_to_acquired, effective_resolution, ensemble, out_of_range
from mrlift.resampling import kspace_resize

NETWORK = "mrl-tiny-x2-bicubic"
CARD = load_card(SHIPPED / "mrl-fast-x2-bicubic.json")


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_an_engine_that_does_not_care_has_no_spread(slice_axis):
    volume = replace(head_volume((20, 24, 16), np.float32), slice_axis=slice_axis)
    model = Model(CARD, bicubic_engine(2))
    both = ensemble(volume, model)
    single = upscale(volume, model=model)
    np.testing.assert_allclose(both.mean.voxels, single.voxels, atol=1e-2)
    np.testing.assert_allclose(both.spread.voxels, 0, atol=1e-2)
    np.testing.assert_array_equal(both.spread.affine, single.affine)


def test_mean_and_spread_are_those_of_the_eight():
    model = load_model(NETWORK, engine="onnx")
    volume = head_volume((24, 20, 2), np.float32)
    both = ensemble(volume, model)
    results = []
    for transpose in (False, True):
        for flips in ((), (0,), (1,), (0, 1)):
            turned = np.flip(volume.voxels, flips)
            turned = np.swapaxes(turned, 0, 1) if transpose else turned
            sr = upscale(replace(volume, voxels=turned.copy()), model=model).voxels
            results.append(np.flip(np.swapaxes(sr, 0, 1) if transpose else sr, flips))
    np.testing.assert_allclose(both.mean.voxels, np.mean(results, axis=0), rtol=1e-3, atol=0.05)
    np.testing.assert_allclose(both.spread.voxels, np.std(results, axis=0), rtol=1e-2, atol=0.05)
    assert both.spread.voxels.max() > 0.1


def test_flipping_the_input_flips_the_ensemble():
    model = load_model(NETWORK, engine="onnx")
    volume = head_volume((24, 20, 2), np.int16)
    seen = []
    one = ensemble(volume, model, progress=lambda done, total: seen.append((done, total)))
    other = ensemble(replace(volume, voxels=volume.voxels[::-1].copy()), model)
    assert np.abs(one.mean.voxels[::-1].astype(int) - other.mean.voxels).max() <= 1
    assert one.mean.voxels.dtype == np.int16
    assert one.spread.voxels.dtype == np.float32
    assert seen[-1] == (16, 16)
    assert seen == sorted(seen)
    assert "Mean of eight" in one.mean.derivation.description
    assert one.spread.derivation.quantity == "spread"


def test_an_interpolated_series_is_named_and_taken_back():
    measured = head_volume((128, 96, 4), np.float32)
    noisy = measured.voxels + np.random.default_rng(0).normal(0, 20, measured.voxels.shape)
    stored = np.moveaxis(kspace_resize(np.moveaxis(noisy, 2, 0), 128, 144), 0, 2)
    volume = measured.refitted(np.abs(stored).astype(np.int16))
    found = effective_resolution(volume)
    assert found.stored == (128, 144)
    assert found.acquired[0] == 128
    assert found.acquired[1] == pytest.approx(96, abs=6)
    (finding,) = found.findings
    assert f"acquired 128x{found.acquired[1]}, stored 128x144" in finding.text
    assert "--crop-spectrum" in finding.text
    small = crop_to_acquired(volume)
    assert small.voxels.shape == (*found.acquired, 4)
    assert small.voxels.dtype == np.int16
    assert effective_resolution(small).findings == ()
    assert "empty part of k-space" in small.derivation.description


def test_a_series_of_full_spectrum_is_left_alone(sample):
    from mrlift.io import load

    volume = load(sample)
    assert effective_resolution(volume).findings == ()
    assert crop_to_acquired(volume) is volume


def test_the_field_of_view_stays_when_a_volume_is_refitted():
    volume = head_volume((40, 48, 3))
    small = volume.refitted(np.zeros((30, 20, 3), np.int16))
    for corner, other in (((-0.5, -0.5, 0), (-0.5, -0.5, 0)), ((39.5, 47.5, 2), (29.5, 19.5, 2))):
        there = volume.affine @ [*corner, 1]
        np.testing.assert_allclose(small.affine @ [*other, 1], there, atol=1e-9)


def ranged(**seen):
    return replace(CARD, seen=seen, spacing=(0.4, 0.5))


def test_what_lies_within_the_range_draws_no_warning():
    volume = head_volume((64, 64, 3), np.float32)
    mine = {name: (value, value) for name, value in traits(volume.slices()).items()}
    assert out_of_range(volume, ranged(matrix=(64, 64), **mine)) == ()
    assert out_of_range(volume, ranged()) == ()


@pytest.mark.parametrize("name", ["noise", "brightness", "contrast", "foreground"])
@pytest.mark.parametrize("times", [0.5, 2.0])
def test_each_figure_outside_is_named(name, times):
    volume = head_volume((64, 64, 3), np.float32)
    value = traits(volume.slices())[name] * times
    (finding,) = out_of_range(volume, ranged(**{name: (value, value)}))
    assert finding.kind == name
    assert CARD.name in finding.text


def test_spacing_and_matrix_outside_are_named():
    volume = head_volume((64, 48, 3), np.float32)
    kinds = [
        f.kind for f in out_of_range(volume, replace(ranged(matrix=(100, 200)), spacing=(1, 2)))
    ]
    assert kinds == ["spacing", "matrix"]


def test_every_shipped_card_tells_what_it_has_seen():
    for file in SHIPPED.glob("*.json"):
        seen = load_card(file).seen
        assert set(seen) == {"matrix", "noise", "brightness", "contrast", "foreground"}, file.name
        assert all(low <= high for low, high in seen.values())
