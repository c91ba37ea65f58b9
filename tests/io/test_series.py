"""DICOM series in."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK
from phantoms import OBLIQUE, head, write_series
from pydicom import config
from pydicom.uid import (
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

import mrlift
from mrlift.errors import GeometryError, InputError, SeriesChoiceError


def itk(files):
    return SimpleITK.ReadImage([str(f) for f in files])


def itk_affine_ras(image):
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1, -1, 1, 1]) @ affine


def test_voxels_and_place_agree_with_simpleitk(tmp_path):
    files = write_series(tmp_path / "s")
    volume, image = mrlift.load(tmp_path / "s"), itk(files)
    np.testing.assert_array_equal(volume.voxels, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine_ras(image), atol=1e-6)


def test_real_series_agrees_with_simpleitk(sample):
    volume, image = mrlift.load(sample), itk(sorted(sample.glob("*.dcm")))
    np.testing.assert_array_equal(volume.voxels, SimpleITK.GetArrayFromImage(image).T)
    np.testing.assert_allclose(volume.affine, itk_affine_ras(image), atol=1e-3)
    assert volume.voxels.shape == (274, 384, 20)
    assert volume.voxels.dtype == np.int16


def test_order_of_files_and_numbers_does_not_matter(tmp_path):
    voxels = head((16, 12, 6))
    write_series(tmp_path / "a", voxels)
    write_series(tmp_path / "b", voxels, order=(3, 5, 0, 4, 1, 2))
    a, b = mrlift.load(tmp_path / "a"), mrlift.load(tmp_path / "b")
    np.testing.assert_array_equal(a.voxels, b.voxels)
    np.testing.assert_allclose(a.affine, b.affine)


@pytest.mark.parametrize(
    "syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless, ImplicitVRLittleEndian]
)
@pytest.mark.parametrize("signed", [False, True])
def test_transfer_syntaxes(tmp_path, syntax, signed):
    voxels = head((72, 64, 3)).round() - (300 if signed else 0)
    bits = 16 if signed else 12
    files = write_series(tmp_path / "s", voxels, signed=signed, bits=bits)
    for file in files:
        data = pydicom.dcmread(file)
        if syntax.is_compressed:
            data.compress(syntax, generate_instance_uid=False)
        else:
            data.file_meta.TransferSyntaxUID = syntax
        data.save_as(file, implicit_vr=syntax.is_implicit_VR, little_endian=True)
    volume = mrlift.load(tmp_path / "s")
    np.testing.assert_array_equal(volume.voxels, voxels.astype(np.int16 if signed else np.uint16))


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="makes its files with dcmtk")
@pytest.mark.parametrize("options", [["+e1"], ["+el", "+sv", "4"], ["+el", "+sv", "7"]])
@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_lossless(tmp_path, options, signed):
    voxels = head((24, 20, 3)).round() - (300 if signed else 0)
    files = write_series(tmp_path / "s", voxels, signed=signed, bits=16)
    for file in files:
        subprocess.run(["dcmcjpeg", *options, file, f"{file}.jpg"], check=True)
        shutil.move(f"{file}.jpg", file)
    assert pydicom.dcmread(files[0]).file_meta.TransferSyntaxUID.is_compressed
    volume = mrlift.load(tmp_path / "s")
    np.testing.assert_array_equal(volume.voxels, voxels.astype(np.int16 if signed else np.uint16))


@pytest.mark.skipif(not shutil.which("dcmconv"), reason="makes its files with dcmtk")
@pytest.mark.parametrize("option", ["+tb", "+td"])
def test_big_endian_and_deflated(tmp_path, option):
    voxels = head((24, 20, 3)).round()
    for file in write_series(tmp_path / "s", voxels):
        subprocess.run(["dcmconv", option, file, file], check=True)
    first = pydicom.dcmread(next((tmp_path / "s").iterdir()))
    assert (first.file_meta.TransferSyntaxUID == ExplicitVRBigEndian) == (option == "+tb")
    np.testing.assert_array_equal(mrlift.load(tmp_path / "s").voxels, voxels.astype(np.uint16))


@pytest.mark.skipif(not shutil.which("dcmcjpeg"), reason="makes its files with dcmtk")
@pytest.mark.parametrize(("option", "bits"), [("+eb", 8), ("+ee", 12)])
def test_lossy_jpeg_is_read_as_dcmtk_reads_it(tmp_path, option, bits):
    (file,) = write_series(tmp_path / "s", head((24, 20, 1), peak=250).round(), bits=bits)
    subprocess.run(["dcmcjpeg", option, file, file], check=True)
    loaded = mrlift.load(file)
    subprocess.run(["dcmdjpeg", file, tmp_path / "plain.dcm"], check=True)
    expected = pydicom.dcmread(tmp_path / "plain.dcm").pixel_array.T[:, :, None]
    np.testing.assert_allclose(loaded.voxels.astype(float), expected, atol=1)


def test_rescale_is_applied_slice_by_slice(tmp_path):
    voxels = head((10, 12, 3)).round()
    write_series(tmp_path / "s", voxels, RescaleSlope=lambda k: 0.5 + k, RescaleIntercept=-2)
    expected = voxels * (0.5 + np.arange(3)) - 2
    np.testing.assert_allclose(mrlift.load(tmp_path / "s").voxels, expected, rtol=1e-6)


def test_one_slice(tmp_path):
    (file,) = write_series(tmp_path / "s", head((10, 12, 1)), SpacingBetweenSlices=5.5)
    for path in (file, tmp_path / "s"):
        assert mrlift.load(path).spacing == pytest.approx((0.9, 0.8, 5.5))


def test_several_series_are_listed_and_chosen(tmp_path):
    write_series(tmp_path / "d" / "a", series="1.2.3.4", SeriesDescription="t1")
    write_series(tmp_path / "d" / "b", head((8, 8, 2)), series="1.2.3.5")
    with pytest.raises(SeriesChoiceError, match=r"(?s)2 series.*--series.*1\.2\.3\.4.*1\.2\.3\.5"):
        mrlift.load(tmp_path / "d")
    with pytest.raises(SeriesChoiceError, match=r"No series 9\.9"):
        mrlift.load(tmp_path / "d", series="9.9")
    assert mrlift.load(tmp_path / "d", series="1.2.3.5").voxels.shape == (8, 8, 2)


def test_other_files_in_the_folder_are_passed_over(tmp_path):
    write_series(tmp_path / "s")
    (tmp_path / "s" / "README.txt").write_text("hello")
    (tmp_path / "s" / "empty").touch()
    assert mrlift.load(tmp_path / "s").slice_count == 4


REFUSED = {
    "CT": ({"Modality": "CT"}, InputError, "expected an MR image, found modality CT"),
    "colour": (
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0},
        InputError,
        "colour image",
    ),
    "phase": ({"ImageType": ["ORIGINAL", "PRIMARY", "P"]}, InputError, "phase"),
    "real": ({"ImageType": ["ORIGINAL", "PRIMARY", "R"]}, InputError, "real part"),
    "map": ({"ImageType": ["DERIVED", "PRIMARY", "ADC"]}, InputError, "parametric map"),
    "mosaic": ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, InputError, "mosaic"),
    "frames": ({"NumberOfFrames": 4}, InputError, "several frames in a classic"),
    "localiser": (
        {"ImageOrientationPatient": lambda k: [1, 0, 0, 0, 1, 0] if k else list(OBLIQUE)},
        GeometryError,
        "different orientations",
    ),
    "echoes": ({"EchoTime": lambda k: 10 + k % 2}, GeometryError, "mixes echo times: 10.*, 11"),
    "sizes": ({"Rows": lambda k: 20 - k % 2}, GeometryError, "mixes sizes"),
    "no position": ({"ImagePositionPatient": None}, GeometryError, "lacks ImagePositionPatient"),
    "zero spacing": ({"PixelSpacing": [0, 0]}, GeometryError, "not positive"),
    "copies": ({"ImagePositionPatient": [0, 0, 0]}, GeometryError, "only 1 positions"),
    "bad cosines": ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, GeometryError, "unit vect"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(tmp_path, case):
    attributes, error, message = REFUSED[case]
    write_series(tmp_path / "s", **attributes)
    with pytest.raises(error, match=message):
        mrlift.load(tmp_path / "s")


@pytest.mark.parametrize("damage", [b"", b"x" * 140, None])
def test_a_damaged_slice_at_the_end_is_not_passed_over(tmp_path, damage):
    files = write_series(tmp_path / "s")
    content = files[-1].read_bytes()
    files[-1].write_bytes(content[128:] if damage is None else damage)
    with pytest.raises(InputError, match=r"003\.dcm"):
        mrlift.load(tmp_path / "s")


def test_a_header_that_is_damaged_is_called_so(tmp_path):
    """Not by what breaks in pydicom when it joins the name of an open file with text."""
    (file,) = write_series(tmp_path / "s")[:1]
    content = file.read_bytes()
    file.write_bytes(content[:160] + b"\xff" * 40 + content[200:])
    with pytest.raises(InputError, match=r"000\.dcm.*damaged") as caught:
        mrlift.load(file)
    assert "Path" not in str(caught.value)


def test_a_presentation_state_is_passed_over(tmp_path):
    files = write_series(tmp_path / "s")
    state = pydicom.dcmread(files[0])
    for name in ("Rows", "Columns", "PixelData"):
        delattr(state, name)
    kind = "1.2.840.10008.5.1.4.1.1.11.1"
    state.SOPClassUID = state.file_meta.MediaStorageSOPClassUID = kind
    state.Modality, state.SeriesInstanceUID = "PR", "1.2.9"
    state.save_as(tmp_path / "s" / "state.dcm")
    assert mrlift.load(tmp_path / "s").slice_count == 4


@pytest.mark.parametrize(
    "values",
    [
        {"ImagePositionPatient": [1, 2]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1]},
        {"PixelSpacing": [1]},
        {"RescaleSlope": "1\\2"},
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_malformed_values_are_named(tmp_path, values):
    config.settings.writing_validation_mode = config.IGNORE
    try:
        write_series(tmp_path / "s", **values)
    finally:
        config.settings.writing_validation_mode = None
    with pytest.raises(InputError, match="malformed"):
        mrlift.load(tmp_path / "s")


def test_a_mosaic_is_recognised_without_the_word(tmp_path):
    file = write_series(tmp_path / "s")[0]
    data = pydicom.dcmread(file)
    data.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", 36)
    data.save_as(file)
    with pytest.raises(InputError, match="Siemens mosaic"):
        mrlift.load(tmp_path / "s")


@pytest.mark.parametrize("syntax", [b"1.2.840.10008.1.2\\1", b"1.2.3.4.5.6.7.8.9.1", b"1.2.840.1"])
def test_an_unknown_transfer_syntax_is_named(tmp_path, syntax):
    file = write_series(tmp_path / "s", head((8, 6, 1)))[0]
    content = file.read_bytes()
    at = content.index(b"1.2.840.10008.1.2.1\0")
    file.write_bytes(content[:at] + syntax.ljust(20, b"\0") + content[at + 20 :])
    with pytest.raises(InputError, match=r"standard transfer syntax|damaged"):
        mrlift.load(file)


def test_one_valued_image_type(tmp_path):
    write_series(tmp_path / "s", ImageType="ORIGINAL")
    assert mrlift.load(tmp_path / "s").slice_count == 4


@pytest.mark.parametrize(
    "position",
    [
        lambda k: [0, 0, 3.0 * k if k < 10 else 30 + 3.14 * (k - 10)],
        lambda k: [25.0 if k in (9, 10) else 0.0, 0, 3.0 * k],
    ],
)
def test_slices_off_the_regular_stack_are_named(tmp_path, position):
    voxels = head((6, 6, 20))
    flat = (1, 0, 0, 0, 1, 0)
    write_series(tmp_path / "s", voxels, orientation=flat, ImagePositionPatient=position)
    with pytest.raises(GeometryError, match="where a regular stack has it"):
        mrlift.load(tmp_path / "s")


def test_a_gap_is_named(tmp_path):
    files = write_series(tmp_path / "s", head((8, 8, 7)), step=3.0)
    files[3].unlink()
    with pytest.raises(GeometryError, match=r"Slices 3 and 4 are 6 mm apart, the others 3 mm"):
        mrlift.load(tmp_path / "s")


def test_a_tilted_stack_is_named(tmp_path):
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    tilted = normal + 0.3 * np.array(OBLIQUE[:3])
    write_series(tmp_path / "s", ImagePositionPatient=lambda k: [float(v) for v in 4 * k * tilted])
    with pytest.raises(GeometryError, match="sheared"):
        mrlift.load(tmp_path / "s")


def test_truncated_pixels_are_named(tmp_path):
    files = write_series(tmp_path / "s")
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-300])
    with pytest.raises(InputError, match=r"001\.dcm.*truncated"):
        mrlift.load(tmp_path / "s")


def test_interpolated_by_the_scanner_is_noted(tmp_path):
    write_series(tmp_path / "s", AcquisitionMatrix=[0, 12, 10, 0])
    (note,) = mrlift.load(tmp_path / "s").notes
    assert "acquired 12x10, stored 24x20" in note


def test_phase_encoding_along_columns_is_read_the_right_way_round(tmp_path):
    write_series(tmp_path / "s", AcquisitionMatrix=[10, 0, 0, 12])
    (note,) = mrlift.load(tmp_path / "s").notes
    assert "acquired 12x10, stored 24x20" in note
