"""Comparison of results with the truth, and the quality benchmark."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import affines
from phantoms import head, head_volume
from test_patches import card

import mrlift
from mrlift.benchmark.comparison import compare
from mrlift.benchmark.quality import as_json, measure, series_quality
from mrlift.errors import GeometryError, InputError
from mrlift.inference.degradation import degrade
from mrlift.inference.engines import bicubic_engine
from mrlift.inference.zoo import Model
from mrlift.metrics import nrmse, psnr, ssim
from mrlift.quality import ensemble
from mrlift.resampling import kspace_down
from mrlift.volume import Volume


def test_figures_are_those_of_the_metrics():
    hr = head_volume((40, 48, 3), dtype=np.float64)
    sr = Volume(hr.voxels + np.random.default_rng(0).normal(0, 20, hr.voxels.shape), hr.affine)
    result = compare(sr, hr)
    assert result.data_range == hr.voxels.max()
    for row, a, b in zip(result.rows, hr.slices(), sr.slices(), strict=True):
        assert row["psnr"] == psnr(a, b, data_range=hr.voxels.max())
        assert row["ssim"] == ssim(a, b, data_range=hr.voxels.max())
        assert row["nrmse"] == nrmse(a, b)
    assert result.mean["psnr"] == pytest.approx(np.mean([r["psnr"] for r in result.rows]))


def test_air_is_left_out():
    hr = head_volume((40, 48, 4))
    hr.voxels[..., 1] = 0
    assert [row["slice"] for row in compare(hr, hr).rows] == [0, 2, 3]
    with pytest.raises(InputError, match="foreground"):
        compare(hr, hr, foreground=1.0)


def test_leftover_rows_of_a_reduction_are_left_out():
    hr = head_volume((41, 49, 3))
    lr = degrade(hr, 2)
    assert lr.voxels.shape == (20, 24, 3)
    sr = mrlift.upscale(lr)
    assert len(compare(sr, hr).rows) == 3


@given(affines(), st.sampled_from((0, 1, 2)))
def test_a_shift_of_half_a_voxel_is_refused(affine, axis):
    hr = Volume(head((20, 20, 2)), affine)
    moved = affine.copy()
    moved[:3, 3] += 0.5 * affine[:3, axis]
    with pytest.raises(GeometryError, match=r"0\.5 voxels apart"):
        compare(Volume(hr.voxels, moved), hr)


@pytest.mark.parametrize("shape", [(20, 20, 3), (16, 20, 2), (20, 24, 2)])
def test_other_sizes_are_refused(shape):
    with pytest.raises(GeometryError):
        compare(head_volume((20, 20, 2)), head_volume(shape))


def test_slices_smaller_than_the_window_are_refused():
    with pytest.raises(InputError, match="11x11"):
        compare(head_volume((10, 20, 2)), head_volume((10, 20, 2)))


def test_a_folder_without_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="found none"):
        measure(tmp_path, mrlift.load_model(), "bicubic", 0.0)


def test_quality_on_the_paper_grid():
    model = Model(card(2, "paper"), bicubic_engine(2, "paper"))
    result = series_quality("a", head_volume((40, 48, 2)), model, "bicubic", 0.0)
    assert result.gain == pytest.approx(0, abs=1e-3)


def test_degrade_keeps_place_type_and_labels():
    hr = head_volume((40, 48, 3), dtype=np.uint16)
    for kind in ("bicubic", "kspace"):
        lr = degrade(hr, 2, kind)
        assert lr.voxels.dtype == np.uint16
        np.testing.assert_allclose(lr.spacing, np.array(hr.spacing) * (2, 2, 1))
        outer = [-0.5, -0.5, 0, 1]
        np.testing.assert_allclose(lr.affine @ outer, hr.affine @ outer)
        assert kind in lr.derivation.description
    plain = degrade(hr, 2, "kspace", dtype=np.dtype("float64")).slices()
    np.testing.assert_allclose(plain[0], kspace_down(hr.slices()[0].astype(np.float32), 2))


def test_kspace_has_one_grid():
    with pytest.raises(InputError, match="edges grid only"):
        degrade(head_volume((40, 48, 2)), 2, "kspace", grid="paper")


def test_noise_is_seeded():
    hr = head_volume((40, 48, 2), dtype=np.float32)
    one, same, other = (degrade(hr, 2, noise=0.02, seed=s).voxels for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    clean = degrade(hr, 2).voxels
    assert np.std(one - clean) == pytest.approx(0.02 * 1000, rel=0.3)


def test_quality_of_a_folder(tmp_path):
    for seed, name in enumerate(("a", "b")):
        mrlift.save(head_volume((64, 72, 3), seed=seed), tmp_path / f"{name}.nii.gz")
    model = mrlift.load_model()
    results = measure(tmp_path, model, "bicubic", 0.0)
    assert [r.series for r in results] == ["a", "b"]
    for r in results:
        assert r.slices == 3
        assert r.gain == r.psnr - r.psnr_bicubic
        assert r.ssim > 0.8
    record = json.loads(json.dumps(as_json(results, model, "bicubic", 0.0, "command")))
    assert record["mean_gain"] == pytest.approx(np.mean([r.gain for r in results]))
    assert record["machine"]
    assert record["commit"]
    assert record["sha256"] == model.card.sha256
    assert (record["degradation"], record["noise"]) == ("bicubic", 0.0)


def test_kspace_is_also_measured_against_zero_filling(tmp_path):
    """On a smooth image zero filling is all but exact, which bicubic interpolation is not."""
    mrlift.save(head_volume((64, 72, 3)), tmp_path / "a.nii.gz")
    model = Model(card(2, "edges"), bicubic_engine(2, "edges"))
    (quiet,) = measure(tmp_path, model, "kspace", 0.0)
    assert quiet.psnr_sinc > quiet.psnr_bicubic
    assert quiet.ssim_sinc is not None
    assert quiet.gain == pytest.approx(0, abs=0.05)
    (noisy,) = measure(tmp_path, model, "kspace", 0.05)
    assert noisy.psnr_sinc < quiet.psnr_sinc - 3
    (plain,) = measure(tmp_path, model, "bicubic", 0.0)
    assert plain.psnr_sinc is None


def test_the_real_sample_gains(sample):
    """The shipped weights on three real slices that were kept out of training."""
    whole = mrlift.load(sample)
    hr = Volume(whole.voxels[..., 8:11], whole.affine)
    result = series_quality("sample", hr, mrlift.load_model(degradation="bicubic"), "bicubic", 0.0)
    assert result.gain > 1.5
    assert result.ssim > result.ssim_bicubic


def test_the_ensemble_is_the_mean_of_eight(tmp_path):
    """What `upscale --ensemble` writes is what is measured."""
    mrlift.save(head_volume((64, 72, 3)), tmp_path / "a.nii.gz")
    model = mrlift.load_model("mrl-tiny-x2-bicubic", engine="onnx")
    (one,) = measure(tmp_path, model, "bicubic", 0.0)
    (eight,) = measure(tmp_path, model, "bicubic", 0.0, turned=True)
    assert eight.psnr_bicubic == one.psnr_bicubic
    lr = degrade(mrlift.load(tmp_path / "a.nii.gz"), 2, dtype=np.dtype(np.float32))
    mean = ensemble(lr, model).mean
    assert eight.psnr == compare(mean, mrlift.load(tmp_path / "a.nii.gz")).mean["psnr"]
    assert eight.psnr != one.psnr
    assert as_json([eight], model, "bicubic", 0.0, "command", turned=True)["ensemble"]
