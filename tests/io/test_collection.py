"""Real series of many vendors, where MRLIFT_DATA has them in dicom/: each is upscaled or refused.

The table in docs/reference/dicom-conformance.md says the same.
"""

import shutil

import numpy as np
import pytest
from test_derived import new_errors
from test_foreign_tools import itk_volume

import mrlift
from mrlift.inference.pipeline import upscale
from mrlift.io import list_series, read_headers

# folder -> how many slices are read, or what the refusal says; "#N" names a part of the series.
OUTCOMES = {
    "ge/anatomical/001": 4,
    "ge/anatomical/001_implicit": 4,
    "ge/anatomical/001_single_slice": 1,
    "generic/anatomical/001": 4,
    "generic/anatomical/001_implicit": 4,
    "generic/anatomical/002_non_isotropic": 4,
    "generic/compressed/001": 4,
    "generic/compressed_j2k/001": 4,
    "generic/compressed_jpeg/001": 4,
    "generic/compressed_jpegls/001": 4,
    "generic/compressed_rle/001": 4,
    "generic/rgb/001": "one grey value per pixel",
    "hitachi/anatomical/001": 4,
    "hitachi/anatomical/001_implicit": 4,
    "hyperfine/anatomical/001": 8,
    "philips/anatomical/001": 4,
    "philips/anatomical/001_implicit": 4,
    "philips/anatomical/002": r"(?s)--series UID/NUMBER.*kind SW_M.*kind SW_P",
    "philips/anatomical/002#1": 4,
    "philips/anatomical/002#2": "found a phase",
    "philips_enhanced/anatomical/001": 8,
    "philips_enhanced/anatomical/001_implicit": 8,
    "siemens/anatomical/001": 4,
    "siemens/anatomical/001_implicit": 4,
    "siemens/fmri_classic/001": r"(?s)--series UID/NUMBER.*acquisition 1.*acquisition 2",
    "siemens/fmri_classic/001#1": 4,
    "siemens/fmri_classic/001#2": 4,
    "siemens/fmri_classic/001_implicit": r"(?s)--series UID/NUMBER.*acquisition 1",
    "siemens_multiframe/anatomical/001": 8,
    "failing/gantrytilting/001": "modality CT",
    "failing/notavolume/001": "modality CT",
    "failing/slicecount/001": 2,
    "failing/sliceincrement/001": "modality CT",
    "failing/sliceincrement/002": "modality CT",
    "failing/sliceorientation/001": "different orientations",
}


@pytest.fixture
def collection(data):
    root = data / "dicom"
    if not root.is_dir():
        pytest.skip("MRLIFT_DATA has no folder dicom/")
    return root


def test_every_folder_has_an_outcome(collection):
    folders = {p.parent.relative_to(collection) for p in collection.rglob("*") if p.is_file()}
    assert {str(f) for f in folders} - {"."} == {name for name in OUTCOMES if "#" not in name}


@pytest.mark.parametrize("name", OUTCOMES)
def test_upscaled_or_refused_with_a_reason(collection, tmp_path, tiny_weights, name):
    folder, _, part = name.partition("#")
    source, outcome = collection / folder, OUTCOMES[name]
    series = f"{_uid(source)}/{part}" if part else None
    if isinstance(outcome, str):
        with pytest.raises(mrlift.InputError, match=outcome):
            mrlift.load(source, series=series)
        return
    volume = mrlift.load(source, series=series)
    assert volume.slice_count == outcome
    sr = upscale(volume, 2, mrlift.load_model(tiny_weights))
    mrlift.save(sr, tmp_path / "out")
    again = mrlift.load(tmp_path / "out")
    for corner in ((-0.5, -0.5, 0), (*(n - 0.5 for n in volume.voxels.shape[:2]), outcome - 1)):
        doubled = (2 * corner[0] + 0.5, 2 * corner[1] + 0.5, corner[2])
        place = volume.affine @ (*corner, 1)
        np.testing.assert_allclose(again.affine @ (*doubled, 1), place, atol=1e-3)
    image = itk_volume(tmp_path / "out")
    np.testing.assert_allclose(image.GetSpacing()[:2], sr.spacing[:2], atol=1e-4)
    if shutil.which("dciodvfy"):
        old = volume.source.multiframe or volume.source.instances[0]
        assert not new_errors(old.filename, tmp_path / "out" / "00001.dcm")


def _uid(folder):
    return list_series(read_headers(folder))[0].uid.partition("/")[0]
