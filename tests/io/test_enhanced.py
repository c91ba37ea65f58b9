"""Enhanced MR objects, in and out."""

import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK
from multiframe import item, write_enhanced
from phantoms import head, write_series
from pydicom.uid import (
    EnhancedMRImageStorage,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    RLELossless,
)
from test_derived import needs, new_errors

import mrlift
from mrlift.errors import GeometryError, InputError, OutputError, SeriesChoiceError
from mrlift.inference.degradation import degrade
from mrlift.inference.pipeline import upscale

SAGITTAL = (0, 1, 0, 0, 0, -1)


@pytest.fixture
def model(tiny_weights):
    return mrlift.load_model(tiny_weights)


@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
def test_every_frame_is_read_and_placed_as_in_the_classic_series(tmp_path, order):
    voxels = head((24, 20, 4)).round()
    write_enhanced(tmp_path / "e" / "a.dcm", voxels, order=order)
    write_series(tmp_path / "c", voxels)
    enhanced, classic = mrlift.load(tmp_path / "e"), mrlift.load(tmp_path / "c")
    np.testing.assert_array_equal(enhanced.voxels, classic.voxels)
    np.testing.assert_allclose(enhanced.affine, classic.affine, atol=1e-6)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_frames(tmp_path, syntax):
    voxels = head((40, 36, 3)).round()
    write_enhanced(tmp_path / "a.dcm", voxels, syntax=syntax, order=(1, 2, 0))
    np.testing.assert_array_equal(mrlift.load(tmp_path / "a.dcm").voxels, voxels)


@needs("dcmconv")
@pytest.mark.parametrize("option", ["+tb", "+td", "+ti"])
def test_other_encodings(tmp_path, option):
    voxels = head((24, 20, 3)).round()
    file = write_enhanced(tmp_path / "a.dcm", voxels)
    subprocess.run(["dcmconv", option, file, file], check=True)
    np.testing.assert_array_equal(mrlift.load(file).voxels, voxels)


@needs("dcmcjpeg")
@pytest.mark.parametrize("contrasts", [({},), ({"echo": 5}, {"echo": 9, "number": 2})])
def test_jpeg_lossless_frames(tmp_path, contrasts):
    voxels = head((24, 20, 3)).round()
    file = write_enhanced(tmp_path / "a.dcm", voxels, contrasts=contrasts)
    subprocess.run(["dcmcjpeg", "+e1", file, file], check=True)
    part = "1.2.3.5/2" if len(contrasts) > 1 else None
    loaded = mrlift.load(file, series=part).voxels
    np.testing.assert_array_equal(loaded, voxels * len(contrasts))


def test_slopes_of_frames(tmp_path):
    voxels = head((10, 12, 3)).round()
    write_enhanced(tmp_path / "a.dcm", voxels, slopes=lambda n: 0.5 + n)
    expected = voxels * (0.5 + np.arange(3))
    np.testing.assert_allclose(mrlift.load(tmp_path / "a.dcm").voxels, expected, rtol=1e-6)


SEPARATE = {
    "stacks": [{"stack": "1"}, {"stack": "2", "orientation": SAGITTAL}],
    "echoes": [{"echo": 10}, {"echo": 80}],
    "components": [{}, {"component": "PHASE", "kind": "P"}],
    "times": [{"time": 1}, {"time": 2}],
    "weightings": [{"b": 0}, {"b": 1000}],
}


@pytest.mark.parametrize("case", SEPARATE)
def test_several_contrasts_are_separated_and_chosen(tmp_path, case):
    first, second = SEPARATE[case]
    voxels = head((12, 10, 3), peak=400).round()
    contrasts = [first, second | {"number": 2}]
    file = write_enhanced(tmp_path / "a.dcm", voxels, contrasts=contrasts)
    with pytest.raises(SeriesChoiceError, match=r"(?s)2 stacks.*1\.2\.3\.5/1.*1\.2\.3\.5/2"):
        mrlift.load(file)
    np.testing.assert_array_equal(mrlift.load(file, series="1.2.3.5/1").voxels, voxels)
    if case == "components":
        with pytest.raises(InputError, match="ComplexImageComponent PHASE"):
            mrlift.load(file, series="1.2.3.5/2")
    else:
        np.testing.assert_array_equal(mrlift.load(file, series="1.2.3.5/2").voxels, 2 * voxels)
    with pytest.raises(SeriesChoiceError, match=r"No part 3"):
        mrlift.load(file, series="1.2.3.5/3")


def test_two_objects_in_one_series_are_two_parts(tmp_path):
    voxels = head((12, 10, 3), peak=400).round()
    for number in (1, 2):
        write_enhanced(
            tmp_path / "s" / f"{number}.dcm", number * voxels, InstanceNumber=number,
            contrasts=[{"time": number}], SOPInstanceUID=f"1.2.3.5.{number}",
        )  # fmt: skip
    with pytest.raises(SeriesChoiceError, match=r"(?s)/1  3 slices, time 1.*/2  3 slices, time 2"):
        mrlift.load(tmp_path / "s")
    loaded = mrlift.load(tmp_path / "s", series="1.2.3.5/2")
    np.testing.assert_array_equal(loaded.voxels, 2 * voxels)


def test_a_classic_series_of_magnitude_and_phase_is_separated_too(tmp_path):
    voxels = head((12, 10, 6), peak=400).round()
    write_series(
        tmp_path / "s", voxels, InstanceNumber=lambda k: k,
        ImagePositionPatient=lambda k: [0, 0, 4.0 * (k % 3)], orientation=(1, 0, 0, 0, 1, 0),
        ImageType=lambda k: ["ORIGINAL", "PRIMARY", "M" if k < 3 else "P"],
    )  # fmt: skip
    with pytest.raises(SeriesChoiceError, match=r"(?s)kind M.*kind P"):
        mrlift.load(tmp_path / "s")
    loaded = mrlift.load(tmp_path / "s", series="1.2.3.4/1")
    np.testing.assert_array_equal(loaded.voxels, voxels[:, :, :3])
    with pytest.raises(InputError, match="phase"):
        mrlift.load(tmp_path / "s", series="1.2.3.4/2")


REFUSED = {
    "a hole": ({"order": (0, 1, 3)}, GeometryError, "slices|apart"),
    "same place": ({"contrasts": [{}, {}]}, GeometryError, "stand at only 4 positions"),
    "frames missing": ({"NumberOfFrames": 9}, InputError, "groups for 9 frames, found 4"),
    "huge": ({"Rows": 65535, "Columns": 65535}, InputError, r"65535 x 65535 pixels; the limit"),
    "more pixels than the file": ({"Rows": 2000}, InputError, "claims .* bytes of pixels"),
    "a piece": (
        {"ConcatenationUID": "1.2", "InConcatenationTotalNumber": 3}, InputError, "concatenation",
    ),
    "shifted bits": ({"HighBit": 15}, InputError, "HighBit 15 does not go with BitsStored 12"),
    "phase": ({"contrasts": [{"component": "PHASE"}]}, InputError, "PHASE"),
    "no measures": (
        {"SharedFunctionalGroupsSequence": None}, GeometryError, "lacks PixelSpacing",
    ),
    "colour": (
        {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, InputError, "colour",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(tmp_path, case):
    options, error, message = REFUSED[case]
    if case == "a hole":
        voxels = head((12, 10, 6))
        options = {"voxels": voxels, "order": (0, 1, 2, 4, 5)}
    file = write_enhanced(tmp_path / "a.dcm", **options)
    with pytest.raises(error, match=message):
        mrlift.load(file)


def test_classic_and_enhanced_in_one_series_are_not_mixed(tmp_path):
    write_series(tmp_path / "s", series="1.2.3.5")
    write_enhanced(tmp_path / "s" / "e.dcm")
    with pytest.raises(InputError, match="mixes 1 multi-frame objects with 4 classic images"):
        mrlift.load(tmp_path / "s")


def test_what_is_new_and_what_stays(tmp_path, model):
    source = write_enhanced(
        tmp_path / "in.dcm", order=(2, 0, 3, 1), slopes=lambda n: 0.5 + n, SeriesDescription="t1"
    )
    volume = mrlift.load(source)
    mrlift.save(upscale(volume, 2, model), tmp_path / "out.dcm")
    old, new = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "out.dcm")
    assert new.SOPClassUID == EnhancedMRImageStorage
    for name in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "StudyDate", "EchoTime"):
        assert new.get(name) == old.get(name), name
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert new[name].value != old[name].value
    assert list(new.ImageType) == ["DERIVED", "PRIMARY", "M", "RESAMPLED"]
    assert new.SeriesDescription == "t1 mrlift x2 RESEARCH"
    assert new.ContentQualification == "RESEARCH"
    assert (new.NumberOfFrames, new.Rows, new.Columns) == (4, 40, 48)
    shared = new.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    np.testing.assert_allclose([float(v) for v in shared.PixelSpacing], (0.4, 0.45))
    assert shared.SliceThickness == 4
    evidence = new.SourceImageEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    row, column = np.reshape(volume.source.instances[0].ImageOrientationPatient, (2, 3))
    for number, (before, after) in enumerate(
        zip(old.PerFrameFunctionalGroupsSequence, new.PerFrameFunctionalGroupsSequence, strict=True)
    ):
        assert after.FrameContentSequence == before.FrameContentSequence
        assert after.PixelValueTransformationSequence == before.PixelValueTransformationSequence
        moved = np.subtract(
            after.PlanePositionSequence[0].ImagePositionPatient,
            before.PlanePositionSequence[0].ImagePositionPatient,
        )
        np.testing.assert_allclose(moved, -0.25 * (0.9 * row + 0.8 * column), atol=1e-6)
        derivation = after.DerivationImageSequence[0]
        assert model.card.sha256 in derivation.DerivationDescription
        assert derivation.DerivationCodeSequence[0].CodeValue == "113085"
        assert derivation.SourceImageSequence[0].ReferencedFrameNumber == number + 1
        kind = after.MRImageFrameTypeSequence[0].FrameType
        assert list(kind) == ["DERIVED", "PRIMARY", "M", "RESAMPLED"]


def test_one_of_several_contrasts_becomes_one_object(tmp_path):
    voxels = head((12, 10, 3), peak=400).round()
    contrasts = [{"echo": 10}, {"echo": 80, "number": 2}]
    file = write_enhanced(tmp_path / "a.dcm", voxels, contrasts=contrasts)
    low = degrade(mrlift.load(file, series="1.2.3.5/2"), 2)
    mrlift.save(low, tmp_path / "b.dcm")
    new = pydicom.dcmread(tmp_path / "b.dcm")
    assert new.NumberOfFrames == 3
    for k, group in enumerate(new.PerFrameFunctionalGroupsSequence, start=1):
        assert group.MREchoSequence[0].EffectiveEchoTime == 80
        assert list(group.FrameContentSequence[0].DimensionIndexValues) == [1, k]
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        assert reference.ReferencedFrameNumber == 2 * k
    again = mrlift.load(tmp_path / "b.dcm")
    np.testing.assert_array_equal(again.voxels, low.voxels)
    np.testing.assert_allclose(again.affine, low.affine, atol=1e-6)


def test_an_earlier_derivation_is_told_first(tmp_path):
    file = write_enhanced(tmp_path / "a.dcm")
    data = pydicom.dcmread(file)
    for group in data.PerFrameFunctionalGroupsSequence:
        group.DerivationImageSequence = item(DerivationDescription="Motion corrected.")
    data.save_as(file)
    mrlift.save(degrade(mrlift.load(file), 2), tmp_path / "b.dcm")
    group = pydicom.dcmread(tmp_path / "b.dcm").PerFrameFunctionalGroupsSequence[0]
    (derivation,) = group.DerivationImageSequence
    assert derivation.DerivationDescription.startswith("Motion corrected. Then: Reduced 2 times")


@pytest.mark.parametrize("value", [None, []])
def test_an_object_without_shared_groups(tmp_path, value):
    file = write_enhanced(tmp_path / "a.dcm")
    data = pydicom.dcmread(file)
    measures = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    for group in data.PerFrameFunctionalGroupsSequence:
        group.PixelMeasuresSequence = measures
    data.SharedFunctionalGroupsSequence = pydicom.Sequence()
    if value is None:
        del data.SharedFunctionalGroupsSequence
    data.save_as(file)
    low = degrade(mrlift.load(file), 2)
    mrlift.save(low, tmp_path / "b.dcm")
    np.testing.assert_allclose(mrlift.load(tmp_path / "b.dcm").affine, low.affine, atol=1e-6)
    assert ("SharedFunctionalGroupsSequence" in pydicom.dcmread(tmp_path / "b.dcm")) == (
        value is not None
    )


def test_private_data_inside_frames_is_dropped(tmp_path):
    file = write_enhanced(tmp_path / "a.dcm")
    data = pydicom.dcmread(file)
    for group in data.PerFrameFunctionalGroupsSequence:
        block = group.private_block(0x2005, "ACME", create=True)
        block.add_new(0x0F, "SQ", item(PatientName="secret"))
    data.save_as(file)
    mrlift.save(degrade(mrlift.load(file), 2), tmp_path / "b.dcm")
    result = pydicom.dcmread(tmp_path / "b.dcm")
    assert not [e for e in result.iterall() if e.tag.is_private]


def test_converted_objects_are_read_but_only_nifti_is_derived(tmp_path):
    file = write_enhanced(tmp_path / "a.dcm", SOPClassUID=LegacyConvertedEnhancedMRImageStorage)
    low = degrade(mrlift.load(file), 2)
    with pytest.raises(OutputError, match=r"Legacy Converted.*--nifti"):
        mrlift.save(low, tmp_path / "b")
    mrlift.save(low, tmp_path / "b.nii")


def test_an_object_whose_class_only_the_file_knows_gives_nifti(tmp_path):
    low = degrade(mrlift.load(write_enhanced(tmp_path / "a.dcm")), 2)
    del low.source.multiframe.SOPClassUID
    with pytest.raises(OutputError, match=r"without SOPClassUID.*--nifti"):
        mrlift.save(low, tmp_path / "b")


@needs("dciodvfy")
@pytest.mark.parametrize("contrasts", [({},), ({"echo": 10}, {"echo": 80})])
def test_dciodvfy_finds_no_new_error(tmp_path, model, contrasts):
    file = write_enhanced(tmp_path / "in" / "a.dcm", contrasts=contrasts)
    part = "1.2.3.5/1" if len(contrasts) > 1 else None
    sr = upscale(mrlift.load(file, series=part), 2, model)
    mrlift.save(sr, tmp_path / "out")
    assert not new_errors(file, tmp_path / "out" / "00001.dcm")


def test_simpleitk_and_dcmtk_read_it(tmp_path, model):
    file = write_enhanced(tmp_path / "in" / "a.dcm")
    sr = upscale(mrlift.load(file), 2, model)
    mrlift.save(sr, tmp_path / "out")
    image = SimpleITK.ReadImage(str(tmp_path / "out" / "00001.dcm"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, sr.voxels)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ affine, sr.affine, atol=1e-5)
