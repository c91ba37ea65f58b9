"""Maps of residuals and spread: signed values in the image's unit, as NIfTI and as DICOM."""

import shutil
from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK
import standard
from multiframe import write_enhanced
from phantoms import head, head_volume, write_series
from test_derived import new_errors
from test_dicom_validator import found

import mrlift
from mrlift.errors import OutputError
from mrlift.volume import Derivation

# No attributes of the MR Image module: with them a series is of a Standard Extended SOP Class
# (PS3.2), as those of scanners that store a slope are.
RESCALE = {"(0028,1052)", "(0028,1053)", "(0028,1054)"}


def as_map(volume, quantity="residual", height=12.5, seed=0):
    """A map with both signs, fractions and a known peak, on the grid of a volume."""
    values = np.random.default_rng(seed).uniform(-1, 1, volume.voxels.shape)
    values = np.abs(values) if quantity == "spread" else values
    values *= height / np.abs(values).max()
    story = Derivation(f"mrlift {quantity} x2", "A map.", "weights", "0", quantity)
    return replace(volume, voxels=values.astype(np.float32), derivation=story)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_nifti_keeps_fractions_and_signs_whatever_the_source_was(tmp_path, dtype):
    mrlift.save(head_volume((12, 10, 3), dtype, peak=100), tmp_path / "a.nii.gz")
    source = mrlift.load(tmp_path / "a.nii.gz")
    residual = as_map(source)
    mrlift.save(residual, tmp_path / "b.nii.gz")
    back = mrlift.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(back.voxels, residual.voxels)
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-5)


@pytest.mark.parametrize("quantity", ["residual", "spread"])
@pytest.mark.parametrize("height", [0.02, 12.5, 40000.0])
@pytest.mark.parametrize("attributes", [{}, {"RescaleSlope": 3, "RescaleIntercept": -5}])
def test_dicom_keeps_values_to_a_step_of_16_bits(tmp_path, quantity, height, attributes):
    write_series(
        tmp_path / "in", WindowCenter=500, WindowWidth=900, SmallestImagePixelValue=0, **attributes
    )
    source = mrlift.load(tmp_path / "in")
    values = as_map(source, quantity, height)
    mrlift.save(values, tmp_path / "out")
    back = mrlift.load(tmp_path / "out")
    np.testing.assert_allclose(back.voxels, values.voxels, atol=height / 32767 * 0.51)
    np.testing.assert_allclose(back.affine, source.affine, atol=1e-6)
    headers = [pydicom.dcmread(f) for f in sorted((tmp_path / "out").iterdir())]
    (slope,) = {float(h.RescaleSlope) for h in headers}
    assert slope == pytest.approx(height / 32767, rel=1e-6)
    low = -height if quantity == "residual" else 0
    assert float(headers[0].WindowCenter) == pytest.approx((low + height) / 2, abs=1e-6 * height)
    assert float(headers[0].WindowWidth) == pytest.approx(height - low)
    assert "SmallestImagePixelValue" not in headers[0]
    assert f"mrlift {quantity} x2 RESEARCH" in headers[0].SeriesDescription
    files = [str(f) for f in sorted((tmp_path / "out").iterdir())]
    shown = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(files))
    np.testing.assert_allclose(
        np.moveaxis(shown, 0, 2).swapaxes(0, 1), values.voxels, atol=height / 3e4
    )


def test_a_map_of_nothing_can_be_written(tmp_path):
    write_series(tmp_path / "in")
    source = mrlift.load(tmp_path / "in")
    mrlift.save(as_map(source, height=0.0), tmp_path / "out")
    assert not mrlift.load(tmp_path / "out").voxels.any()


def test_maps_of_an_enhanced_object_are_nifti_only(tmp_path):
    write_enhanced(tmp_path / "a.dcm")
    values = as_map(mrlift.load(tmp_path / "a.dcm"))
    with pytest.raises(OutputError, match="NIfTI only"):
        mrlift.save(values, tmp_path / "b.dcm")
    mrlift.save(values, tmp_path / "b.nii.gz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.dcm", "b.nii.gz"]


@pytest.mark.parametrize("quantity", ["residual", "spread"])
def test_validators_find_no_new_error(tmp_path, quantity):
    old = write_series(tmp_path / "in", head((40, 36, 2)).round())[0]
    mrlift.save(as_map(mrlift.load(tmp_path / "in"), quantity), tmp_path / "out")
    new = tmp_path / "out" / "00001.dcm"
    if standard.FOLDER.is_dir():
        info = standard.dicom_info("MR Image Storage")
        tags = {tag for _, tag, _ in found(info, new) - found(info, old)}
        assert tags <= RESCALE
    if not shutil.which("dciodvfy"):
        pytest.skip("needs dciodvfy, see .ci/run")
    assert not new_errors(old, new)
