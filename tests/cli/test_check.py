"""`mrlift check`, and what `upscale` shares with it, as a user runs them."""

import json
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from phantoms import head, head_volume, write_series
from test_commands import run

import mrlift
from mrlift.inference.degradation import degrade

FAST = ("--model", "mrl-tiny-x2-bicubic", "--engine", "onnx")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A truth as the result, and what it is reduced to as the input."""
    folder = tmp_path_factory.mktemp("check")
    hr = head_volume((160, 160, 3), np.int16, np.diag([-1.2, -1.2, 4.0, 1.0]))
    mrlift.save(hr, folder / "sr.nii.gz")
    mrlift.save(degrade(hr, 2, "kspace", noise=0.01), folder / "lr.nii.gz")
    for name, voxels in {
        "bright": hr.voxels * 1.03,
        "moved": np.roll(hr.voxels, 1, axis=0),
        "other": head_volume((160, 160, 3), seed=7).voxels,
    }.items():
        mrlift.save(replace(hr, voxels=np.rint(voxels).astype(np.int16)), folder / f"{name}.nii.gz")
    return folder


def kinds(done):
    return {w["kind"] for w in json.loads(done.stdout)["warnings"]}


def test_check_prints_figures_and_passes_what_is_consistent(folder):
    done = run("check", folder / "lr.nii.gz", folder / "sr.nii.gz")
    assert done.returncode == 0, done.stderr
    assert "brightness" in done.stdout
    assert "Warning (shift)" not in done.stdout
    facts = json.loads(run("check", folder / "lr.nii.gz", folder / "sr.nii.gz", "--json").stdout)
    assert facts["model"] == "mrl-x2-kspace"
    assert facts["beyond_noise"] < 0.01


@pytest.mark.parametrize(
    ("name", "kind"), [("bright", "bias"), ("moved", "shift"), ("other", "noise-level")]
)
def test_faults_are_named_and_strict_ends_with_7(folder, name, kind):
    pair = folder / "lr.nii.gz", folder / f"{name}.nii.gz"
    done = run("check", *pair, "--json")
    assert done.returncode == 0
    assert kind in kinds(done)
    done = run("check", *pair, "--strict")
    assert done.returncode == 7
    assert f"Warning ({kind})" in done.stdout
    assert "--strict" in done.stderr


def test_what_is_no_pair_is_refused(folder):
    done = run("check", folder / "sr.nii.gz", folder / "lr.nii.gz")
    assert done.returncode == 2
    assert "Give LR first" in done.stderr
    done = run("check", folder / "lr.nii.gz", folder / "sr.nii.gz", "--model", "mrl-x3-kspace")
    assert done.returncode == 4


def test_residual_and_report(folder, tmp_path):
    pair = folder / "lr.nii.gz", folder / "moved.nii.gz"
    options = ("--residual", tmp_path / "r.nii.gz", "--report", tmp_path / "r.html")
    assert run("check", *pair, *options).returncode == 0
    residual, lr = mrlift.load(tmp_path / "r.nii.gz"), mrlift.load(pair[0])
    assert residual.voxels.dtype == np.float32
    assert residual.voxels.min() < -10
    np.testing.assert_allclose(residual.affine, lr.affine, atol=1e-5)
    page = (tmp_path / "r.html").read_text()
    assert "shift" in page
    assert "moved" not in page
    assert str(folder) not in page
    before = page
    assert run("check", *pair, *options).returncode == 3
    assert (tmp_path / "r.html").read_text() == before
    assert run("check", *pair, "--report", tmp_path / "r.txt").returncode == 3


def test_upscale_writes_all_it_is_asked_for(tmp_path):
    write_series(tmp_path / "s", head((64, 56, 3)))
    done = run(
        "upscale", tmp_path / "s", "-o", tmp_path / "sr", *FAST, "--ensemble", "--consistent",
        "--report", tmp_path / "r.html", "--identified", "--residual", tmp_path / "residual",
        "--spread", tmp_path / "spread", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["quality"]["model"] == "mrl-tiny-x2-bicubic"
    assert "Phantom^Anna" in (tmp_path / "r.html").read_text()
    sr = mrlift.load(tmp_path / "sr")
    for name, shape in (("residual", (64, 56, 3)), ("spread", (128, 112, 3))):
        data = pydicom.dcmread(tmp_path / name / "00001.dcm")
        assert list(data.ImageType) == ["DERIVED", "SECONDARY", "OTHER", name.upper()]
        assert f"mrlift {name} x2 RESEARCH" in data.SeriesDescription
        assert data.PixelRepresentation == 1
        volume = mrlift.load(tmp_path / name)
        assert volume.voxels.shape == shape
    assert mrlift.load(tmp_path / "spread").voxels.min() >= 0
    np.testing.assert_allclose(mrlift.load(tmp_path / "spread").affine, sr.affine, atol=1e-4)
    said = pydicom.dcmread(tmp_path / "sr" / "00001.dcm").DerivationDescription
    assert "Mean of eight" in said
    assert "Back-projected" in said


def test_upscale_strict_writes_and_warns(tmp_path):
    mrlift.save(head_volume((64, 64, 2), affine=np.diag([9.0, 9.0, 9.0, 1.0])), tmp_path / "a.nii")
    done = run("upscale", tmp_path / "a.nii", "-o", tmp_path / "b.nii", *FAST, "--strict")
    assert done.returncode == 7
    assert "Warning (spacing)" in done.stdout
    assert (tmp_path / "b.nii").exists()


def test_spread_needs_the_ensemble(tmp_path):
    mrlift.save(head_volume((64, 64, 2)), tmp_path / "a.nii")
    done = run(
        "upscale", tmp_path / "a.nii", "-o", tmp_path / "b.nii", "--spread", tmp_path / "c.nii"
    )
    assert done.returncode == 2
    assert "--ensemble" in done.stderr
    assert not (tmp_path / "b.nii").exists()


def test_an_interpolated_series_is_cropped_on_request(tmp_path):
    rng = np.random.default_rng(0)
    noisy = head((96, 96, 4)) + rng.normal(0, 20, (96, 96, 4))
    from mrlift.resampling import kspace_resize

    stored = np.abs(np.moveaxis(kspace_resize(np.moveaxis(noisy, 2, 0), 144, 96), 0, 2))
    mrlift.save(mrlift.Volume(stored.astype(np.int16), np.eye(4)), tmp_path / "a.nii")
    strict = run("upscale", tmp_path / "a.nii", "-o", tmp_path / "b.nii", *FAST, "--strict")
    assert "stored 144x96" in strict.stdout
    done = run("upscale", tmp_path / "a.nii", "-o", tmp_path / "c.nii", *FAST, "--crop-spectrum")
    assert done.returncode == 0, done.stderr
    sr = mrlift.load(tmp_path / "c.nii")
    assert sr.voxels.shape[0] < 220
    assert sr.spacing[0] * sr.voxels.shape[0] == pytest.approx(144)
    again = run(
        "check", tmp_path / "a.nii", tmp_path / "c.nii", "--crop-spectrum", *FAST[:2], "--json"
    )
    assert not kinds(again) & {"interpolated", "shift", "bias", "place", "noise-level"}
