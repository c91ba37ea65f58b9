"""Derived DICOM series, judged by pydicom, SimpleITK and dcmtk."""

import shutil
import subprocess
from datetime import UTC, datetime

import numpy as np
import pydicom
import pytest
import SimpleITK
from phantoms import OBLIQUE, head, write_series
from PIL import Image
from pydicom.uid import JPEG2000, ExplicitVRLittleEndian, JPEGLSNearLossless, MRImageStorage

import mrlift
from mrlift.errors import OutputError
from mrlift.inference.degradation import degrade
from mrlift.inference.pipeline import upscale
from mrlift.resampling import bicubic_up


def needs(tool):
    return pytest.mark.skipif(not shutil.which(tool), reason=f"needs {tool}, see .ci/run")


@pytest.fixture
def model(tiny_weights):
    return mrlift.load_model(tiny_weights)


@pytest.fixture
def derive(tmp_path, model):
    """Write a phantom series with the given attributes, upscale it, and return both folders."""

    def run(voxels=None, **options):
        write_series(tmp_path / "in", voxels, **options)
        mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out")
        return tmp_path / "in", tmp_path / "out"

    return run


def datasets(folder):
    return [pydicom.dcmread(f) for f in sorted(folder.iterdir())]


def itk_volume(folder):
    return SimpleITK.ReadImage([str(f) for f in sorted(folder.iterdir())])


def test_what_is_new_and_what_stays(derive):
    source, result = derive(
        SmallestImagePixelValue=0, LargestImagePixelValue=1, SeriesDescription="t1 tse",
        WindowCenter=400, WindowWidth=800, AcquisitionDate="20200102",
        AcquisitionMatrix=[0, 24, 20, 0],
    )  # fmt: skip
    before, after = datasets(source), datasets(result)
    assert len({d.SOPInstanceUID for d in [*before, *after]}) == 8
    assert len({d.SeriesInstanceUID for d in after}) == 1
    for old, new in zip(before, after, strict=True):
        for name in (
            "PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate",
            "AcquisitionDate", "ImageOrientationPatient", "SliceThickness", "AcquisitionMatrix",
            "BitsStored", "HighBit", "PixelRepresentation", "WindowCenter", "WindowWidth",
            "SOPClassUID", "Modality", "EchoTime",
        ):  # fmt: skip
            assert new[name].value == old[name].value, name
        assert new.SeriesInstanceUID != old.SeriesInstanceUID
        assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
        assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert new.SOPClassUID == MRImageStorage
        assert list(new.ImageType) == ["DERIVED", "SECONDARY", "M"]
        assert new.SeriesDescription == "t1 tse mrlift x2 RESEARCH"
        assert new.SeriesNumber == 1003
        assert new.ContentQualification == "RESEARCH"
        assert "tiny" in new.DerivationDescription
        assert mrlift.__version__ in new.DerivationDescription
        assert new.DerivationCodeSequence[0].CodeValue == "113085"
        (reference,) = new.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == old.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        (equipment,) = new.ContributingEquipmentSequence
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert (new.Rows, new.Columns) == (40, 48)
        np.testing.assert_allclose([float(v) for v in new.PixelSpacing], (0.4, 0.45))
        pixels = new.pixel_array
        assert new.SmallestImagePixelValue == pixels.min()
        assert new.LargestImagePixelValue == pixels.max()
        assert new.SeriesDate != "20200101"


def test_the_card_is_named_in_full(derive, model):
    _, result = derive()
    assert model.card.sha256 in datasets(result)[0].DerivationDescription


def test_private_icon_and_overlay_data_is_dropped(tmp_path, model):
    def spoil(k):
        del k
        icon = pydicom.Dataset()
        icon.Rows = icon.Columns = 1
        return pydicom.Sequence([icon])

    files = write_series(tmp_path / "in", IconImageSequence=spoil)
    for file in files:
        data = pydicom.dcmread(file)
        data.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "secret")
        data.add_new(0x60003000, "OW", b"\0\0")
        item = pydicom.Dataset()
        item.private_block(0x0029, "ACME", create=True).add_new(0x10, "LO", "secret")
        data.RequestAttributesSequence = pydicom.Sequence([item])
        data.save_as(file)
    mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out")
    for data in datasets(tmp_path / "out"):
        assert "IconImageSequence" not in data
        assert not [e for e in data.iterall() if e.tag.is_private or e.tag.group == 0x6000]


@pytest.mark.parametrize("index", [(5, 9, 2), (20, 3, 0), (11, 17, 3)])
def test_a_marker_is_at_the_same_physical_point(derive, index):
    """A bright blob found by SimpleITK in source and result, to a fiftieth of a voxel."""
    shape = (30, 26, 4)
    x, y = np.ogrid[: shape[0], : shape[1]]
    voxels = np.zeros(shape)
    voxels[:, :, index[2]] = 900 * np.exp(-((x - index[0]) ** 2 + (y - index[1]) ** 2) / 5)

    def centroid(folder):
        image = itk_volume(folder)
        weights = SimpleITK.GetArrayFromImage(image).T.astype(float)
        weights[weights < 9] = 0
        grid = np.indices(weights.shape).reshape(3, -1)
        mean = (grid * weights.ravel()).sum(axis=1) / weights.sum()
        return np.array(image.TransformContinuousIndexToPhysicalPoint(mean.tolist()))

    source, result = derive(voxels)
    np.testing.assert_allclose(centroid(source), centroid(result), atol=0.02)


def test_simpleitk_sees_the_field_of_view_where_it_was(derive):
    source, result = (itk_volume(folder) for folder in derive(head((21, 33, 3))))
    for corner in ((-0.5, -0.5, 0), (20.5, 32.5, 2), (-0.5, 32.5, 1)):
        # Outer edges are at -1/2 and n - 1/2 on either grid.
        doubled = [2 * v + 0.5 for v in corner[:2]] + [corner[2]]
        np.testing.assert_allclose(
            source.TransformContinuousIndexToPhysicalPoint(corner),
            result.TransformContinuousIndexToPhysicalPoint(doubled),
            atol=1e-5,
        )


@pytest.mark.parametrize(
    ("signed", "bits", "low", "high"), [(False, 12, 0, 4095), (True, 16, -32768, 32767)]
)
def test_stored_values_saturate_and_never_wrap(derive, signed, bits, low, high):
    voxels = np.zeros((20, 20, 2))
    voxels[6:13, 6:13] = high
    voxels[:, 15:] = low
    _, result = derive(voxels, signed=signed, bits=bits)
    pixels = np.stack([d.pixel_array for d in datasets(result)])
    assert pixels.max() == high
    assert pixels.min() == low
    assert (pixels[:, 16:24, 16:24] > 0.9 * high).all()


def test_rescaled_series_keeps_its_slopes(derive):
    voxels = head((20, 24, 3)).round()
    source, result = derive(voxels, RescaleSlope=lambda k: 0.5 + k, RescaleIntercept=-2)
    assert [d.RescaleSlope for d in datasets(result)] == [0.5, 1.5, 2.5]
    before, after = mrlift.load(source), mrlift.load(result)
    # The model is untrained, so the values must be those of bicubic interpolation, up
    # to half a stored step and the rounding of its weights to float16.
    expected = np.stack([bicubic_up(p, 2) for p in before.slices()], axis=-1)
    expected = expected.clip(min=-2)
    assert (np.abs(after.voxels - expected) <= np.array([0.5, 1.5, 2.5]) * 0.5 + 0.4).all()


def test_the_same_work_done_twice_gives_new_uids(derive, tmp_path, model):
    """Two instances with other times must never share a UID."""
    source, result = derive()
    mrlift.save(upscale(mrlift.load(source), 2, model), tmp_path / "again")
    uids = {d.SOPInstanceUID for f in (result, tmp_path / "again") for d in datasets(f)}
    assert len(uids) == 8


def test_small_irregularities_of_position_are_kept(derive):
    """The scanner's rounding of 0.02 mm comes back, with the shift of half a voxel."""
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    off = [0.0, 0.02, -0.015, 0.0]
    source, result = derive(
        ImagePositionPatient=lambda k: [float(v) for v in (4 * k + off[k]) * normal]
    )
    row, column = np.reshape(OBLIQUE, (2, 3))
    moved = -0.25 * (0.9 * row + 0.8 * column)
    for old, new in zip(datasets(source), datasets(result), strict=True):
        expected = np.array(old.ImagePositionPatient, float) + moved
        np.testing.assert_allclose(np.array(new.ImagePositionPatient, float), expected, atol=1e-6)


def test_times_are_in_the_zone_of_the_source(derive):
    _, result = derive(TimezoneOffsetFromUTC="-0930", InstanceCreatorUID="1.2.3")
    data = datasets(result)[0]
    written = datetime.strptime(f"{data.SeriesDate}{data.SeriesTime}-0930", "%Y%m%d%H%M%S.%f%z")
    assert abs((datetime.now(UTC) - written).total_seconds()) < 120
    assert "InstanceCreatorUID" not in data


def test_every_step_of_a_history_is_told(derive, tmp_path, model):
    source, _ = derive(DerivationDescription="Motion corrected.")
    lr = degrade(mrlift.load(source), 2, noise=0.01, seed=4)
    mrlift.save(upscale(lr, 2, model), tmp_path / "both")
    data = datasets(tmp_path / "both")[0]
    for words in ("Motion corrected.", "Reduced 2 times", "seed 4", "Super-resolved 2 times"):
        assert words in data.DerivationDescription


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless])
def test_lossy_compression_of_the_source_is_told(tmp_path, model, syntax):
    files = write_series(tmp_path / "in", head((72, 64, 2)).round())
    for file in files:
        data = pydicom.dcmread(file)
        options = {"j2k_cr": [8]} if syntax == JPEG2000 else {"jls_error": 3}
        data.compress(syntax, generate_instance_uid=False, **options)
        for name in ("LossyImageCompression", "LossyImageCompressionRatio"):
            data.pop(name, None)
        data.save_as(file)
    mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out")
    data = datasets(tmp_path / "out")[0]
    assert data.LossyImageCompression == "01"
    assert data.LossyImageCompressionRatio > 1
    assert data.LossyImageCompressionMethod.startswith("ISO_")


def test_other_files_are_never_overwritten(derive, tmp_path, model):
    source, result = derive()
    derived = upscale(mrlift.load(source), 2, model)
    mrlift.save(derived, result, overwrite=True)  # a derived series gives way to another
    (result / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        mrlift.save(derived, result, overwrite=True)
    assert (result / "thesis.txt").read_text() == "mine"
    result.rename(tmp_path / "x.nii")
    with pytest.raises(OutputError, match="is a folder"):
        mrlift.save(derived, tmp_path / "x.nii", overwrite=True)


def test_one_slice_into_one_file(tmp_path, model):
    (file,) = write_series(tmp_path / "in", head((20, 24, 1)))
    derived = upscale(mrlift.load(file), 2, model)
    mrlift.save(derived, tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").pixel_array.shape == (48, 40)


def test_several_slices_do_not_fit_into_one_file(tmp_path, model):
    write_series(tmp_path / "in")
    with pytest.raises(OutputError, match="4 slices"):
        mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out.dcm")
    assert not (tmp_path / "out.dcm").exists()


def test_a_transfer_syntax_that_does_not_fit(tmp_path, model):
    """openjpeg refuses images of less than 32 x 32 pixels."""
    write_series(tmp_path / "in", head((12, 10, 2)))
    small = upscale(mrlift.load(tmp_path / "in"), 2, model)
    with pytest.raises(OutputError, match=r"JPEG 2000.*Choose another"):
        mrlift.save(small, tmp_path / "out", transfer_syntax="jpeg-2000")
    with pytest.raises(OutputError, match="Expected a transfer syntax of explicit, rle"):
        mrlift.save(small, tmp_path / "out", transfer_syntax="gif")
    assert not (tmp_path / "out").exists()


def test_dicom_needs_a_dicom_source(tmp_path):
    volume = mrlift.Volume(np.zeros((4, 4, 2), np.int16), np.eye(4))
    with pytest.raises(OutputError, match="only be derived from a DICOM series"):
        mrlift.save(volume, tmp_path / "out")


def test_lossy_origin_stays_visible(tmp_path, model):
    files = write_series(tmp_path / "in", LossyImageCompression="01", LossyImageCompressionRatio=9)
    mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out")
    assert len(files) == 4
    assert datasets(tmp_path / "out")[0].LossyImageCompression == "01"


@needs("dcmconv")
@pytest.mark.parametrize("option", ["+tb", "+td", "+ti"])
def test_a_source_in_another_encoding(tmp_path, model, option):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.LUTData = [2, 0, 16], b"\x01\x00\x02\x00"
    table["LUTData"].VR = "OW"
    files = write_series(tmp_path / "in", VOILUTSequence=pydicom.Sequence([table]))
    mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "plain")
    for file in files:
        subprocess.run(["dcmconv", option, file, file], check=True)
    mrlift.save(upscale(mrlift.load(tmp_path / "in"), 2, model), tmp_path / "out")
    for old, new in zip(datasets(tmp_path / "plain"), datasets(tmp_path / "out"), strict=True):
        assert new.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert new.PixelData == old.PixelData
        assert new.VOILUTSequence == old.VOILUTSequence
        assert new.ImagePositionPatient == old.ImagePositionPatient


@needs("dciodvfy")
def test_dciodvfy_finds_no_new_error(derive, sample, tmp_path, model):
    source, result = derive()
    mrlift.save(upscale(mrlift.load(sample), 2, model), tmp_path / "real")
    mrlift.save(degrade(mrlift.load(source), 2), tmp_path / "low")
    for before, after in (
        (source, result),
        (source, tmp_path / "low"),
        (sample, tmp_path / "real"),
    ):
        for old, new in zip(sorted(before.glob("*.dcm")), sorted(after.iterdir()), strict=True):
            assert not new_errors(old, new)


def new_errors(old, new):
    """What dciodvfy holds against one file and not against the other."""
    return _verified(new) - _verified(old)


def _verified(file):
    done = subprocess.run(["dciodvfy", file], capture_output=True, text=True, errors="replace")
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


@needs("dcmdump")
def test_dcmtk_reads_it(derive):
    _, result = derive()
    for file in sorted(result.iterdir()):
        text = subprocess.run(["dcmdump", file], capture_output=True, text=True, check=True).stdout
        assert "=MRImageStorage" in text
        assert "[DERIVED\\SECONDARY\\M]" in text
        assert "W:" not in text


@needs("dcm2pnm")
def test_dcmtk_shows_the_same_pixels(derive, tmp_path):
    _, result = derive()
    first = sorted(result.iterdir())[0]
    picture = tmp_path / "a.pgm"
    pixels = pydicom.dcmread(first).pixel_array
    window = ["+Ww", str((int(pixels.max()) + 1) / 2), str(int(pixels.max()) + 1)]
    subprocess.run(["dcm2pnm", *window, "+opb", first, picture], check=True, capture_output=True)
    shown = np.asarray(Image.open(picture), dtype=float)
    assert shown.shape == pixels.shape
    np.testing.assert_allclose(shown / shown.max(), pixels / pixels.max(), atol=0.01)
