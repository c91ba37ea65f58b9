"""NIfTI in and out."""

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import affines
from phantoms import head, head_volume

import mrlift
from mrlift.errors import InputError
from mrlift.inference.degradation import degrade
from mrlift.volume import Volume


def write(path, data, affine=None, **fields):
    image = nibabel.Nifti1Image(data, np.diag([-0.9, -0.8, 4.0, 1.0]) if affine is None else affine)
    for name, value in fields.items():
        image.header[name] = value
    image.to_filename(path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(5, 6, 4), (5, 6, 4, 3)])
def test_round_trip(tmp_path, suffix, dtype, shape):
    voxels = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    source = write(tmp_path / f"a{suffix}", voxels)
    volume = mrlift.load(source)
    assert volume.voxels.dtype == dtype
    mrlift.save(volume, tmp_path / f"b{suffix}")
    again = mrlift.load(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(again.voxels, voxels)
    assert again.voxels.dtype == dtype
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-5)


@given(affine=affines())
def test_any_affine_survives_in_both_forms(tmp_path_factory, affine):
    path = tmp_path_factory.mktemp("nifti") / "a.nii"
    mrlift.save(Volume(np.ones((3, 4, 2), np.int16), affine), path)
    image = nibabel.load(path)
    np.testing.assert_allclose(image.header.get_sform(), affine, atol=1e-3, rtol=1e-4)
    # The quaternion's float32 resolves rotations near 180 degrees to about 6e-4 rad only.
    np.testing.assert_allclose(image.header.get_qform(), affine, atol=7.0 * 1.5e-3, rtol=1e-4)


def test_slope_and_intercept_are_applied_and_fitted_again(tmp_path):
    stored = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nibabel.Nifti1Image(stored, np.eye(4))
    image.header.set_slope_inter(0.25, 10.0)
    image.to_filename(tmp_path / "a.nii")
    # nibabel's in-memory image ignores the slope, so write the header's bytes by hand.
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.25, 10.0], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(raw)
    reference = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    volume = mrlift.load(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.voxels, reference)
    mrlift.save(volume, tmp_path / "b.nii")
    again = nibabel.load(tmp_path / "b.nii")
    assert again.get_data_dtype() == np.int16
    step = float(reference.max() - reference.min()) / 65000
    np.testing.assert_allclose(np.asarray(again.dataobj), reference, atol=step)


def test_codes_and_units_stay_and_display_range_goes(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 4, 2), np.int16), np.eye(4))
    image.set_sform(np.eye(4), 4)
    image.set_qform(np.eye(4), 2)
    image.header.set_xyzt_units("mm", "sec")
    image.header["cal_max"] = 500
    image.to_filename(tmp_path / "a.nii")
    mrlift.save(mrlift.load(tmp_path / "a.nii"), tmp_path / "b.nii")
    header = nibabel.load(tmp_path / "b.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 4)
    assert header.get_xyzt_units() == ("mm", "sec")
    assert float(header["cal_max"]) == 0


def test_time_axis_keeps_its_step(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 4, 2, 5), np.int16), np.eye(4))
    image.header.set_zooms((1, 1, 1, 2.5))
    image.to_filename(tmp_path / "a.nii")
    mrlift.save(mrlift.load(tmp_path / "a.nii"), tmp_path / "b.nii")
    assert nibabel.load(tmp_path / "b.nii").header.get_zooms()[3] == 2.5


def test_disagreeing_forms_are_named(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 4, 2), np.int16), np.eye(4))
    image.set_qform(np.diag([2.0, 2, 2, 1]), 1)
    image.set_sform(np.eye(4), 2)
    image.to_filename(tmp_path / "a.nii")
    (note,) = mrlift.load(tmp_path / "a.nii").notes
    assert "qform" in note
    assert "sform" in note


@pytest.mark.parametrize(
    ("zooms", "axis"), [((1, 1, 5), 2), ((5, 1, 1), 0), ((1, 4, 1), 1), ((1, 1, 1), 2)]
)
def test_slice_axis_is_the_thick_one(tmp_path, zooms, axis):
    write(tmp_path / "a.nii", np.ones((3, 4, 5), np.int16), np.diag([*map(float, zooms), 1]))
    assert mrlift.load(tmp_path / "a.nii").slice_axis == axis


def test_slice_axis_that_the_header_names(tmp_path):
    image = nibabel.Nifti1Image(np.ones((3, 4, 5), np.int16), np.diag([1.0, 1, 4, 1]))
    image.header.set_dim_info(freq=1, phase=2, slice=0)
    image.to_filename(tmp_path / "a.nii")
    assert mrlift.load(tmp_path / "a.nii").slice_axis == 0


def test_the_slice_axis_survives_saving(tmp_path):
    """Reduced in-plane, the middle axis would look like the thick one."""
    write(tmp_path / "a.nii", head((24, 24, 24)).astype(np.int16), np.diag([1.0, 1.3, 1.2, 1]))
    volume = mrlift.load(tmp_path / "a.nii")
    assert volume.slice_axis == 2
    mrlift.save(degrade(volume, 2), tmp_path / "b.nii")
    assert mrlift.load(tmp_path / "b.nii").slice_axis == 2
    chosen = mrlift.load(tmp_path / "a.nii", slice_axis=0)
    assert degrade(chosen, 2).voxels.shape == (24, 12, 12)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_other_units_are_read_as_mm_and_written_back(tmp_path, unit, factor):
    affine = np.diag([0.9 * factor, 0.8 * factor, 4 * factor, 1])
    image = nibabel.Nifti1Image(np.ones((4, 4, 2), np.int16), affine)
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii")
    volume = mrlift.load(tmp_path / "a.nii")
    assert volume.spacing == pytest.approx((0.9, 0.8, 4))
    mrlift.save(volume, tmp_path / "b.nii")
    again = nibabel.load(tmp_path / "b.nii")
    assert again.header.get_xyzt_units()[0] == unit
    np.testing.assert_allclose(again.affine, affine, rtol=1e-6)


def test_an_unknown_place_is_not_made_known(tmp_path):
    image = nibabel.Nifti1Image(np.ones((4, 4, 2), np.int16), None)
    image.header.set_zooms((0.9, 0.8, 4))
    image.to_filename(tmp_path / "a.nii")
    volume = mrlift.load(tmp_path / "a.nii")
    assert "unknown" in volume.notes[0]
    mrlift.save(volume, tmp_path / "b.nii")
    header = nibabel.load(tmp_path / "b.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    np.testing.assert_allclose(header.get_zooms(), (0.9, 0.8, 4), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "longdouble"])
def test_types_that_nifti_cannot_hold_are_widened_or_narrowed(tmp_path, dtype):
    mrlift.save(Volume(np.ones((2, 3, 4), dtype), np.eye(4)), tmp_path / "a.nii")
    assert mrlift.load(tmp_path / "a.nii").voxels.dtype.itemsize in (4, 8)


def test_upper_case_suffix_is_compressed_too(tmp_path):
    mrlift.save(head_volume((4, 5, 2)), tmp_path / "A.NII.GZ")
    assert (tmp_path / "A.NII.GZ").read_bytes()[:2] == b"\x1f\x8b"
    assert mrlift.load(tmp_path / "A.NII.GZ").voxels.shape == (4, 5, 2)


def test_nifti2_stays_nifti2(tmp_path):
    nibabel.Nifti2Image(np.ones((3, 4, 2), np.int16), np.eye(4)).to_filename(tmp_path / "a.nii")
    mrlift.save(mrlift.load(tmp_path / "a.nii"), tmp_path / "b.nii")
    assert isinstance(nibabel.load(tmp_path / "b.nii"), nibabel.Nifti2Image)


def test_equal_volumes_give_equal_files(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        mrlift.save(head_volume(), tmp_path / name)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_big_endian_files_are_read(tmp_path):
    voxels = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.Nifti1Image(voxels, np.eye(4), header).to_filename(tmp_path / "a.nii")
    volume = mrlift.load(tmp_path / "a.nii")
    assert volume.voxels.dtype == np.dtype("int16")
    np.testing.assert_array_equal(volume.voxels, voxels)
    mrlift.save(volume, tmp_path / "b.nii")
    np.testing.assert_array_equal(mrlift.load(tmp_path / "b.nii").voxels, voxels)


@given(st.data())
@settings(max_examples=60)
def test_a_flipped_bit_in_a_compressed_file_never_passes_for_an_intensity(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bits") / "a.nii.gz"
    volume = Volume(np.arange(720, dtype=np.int16).reshape(12, 10, 6), np.eye(4))
    mrlift.save(volume, path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = mrlift.load(path)
    except InputError:
        return
    assert np.array_equal(found.voxels, volume.voxels)
