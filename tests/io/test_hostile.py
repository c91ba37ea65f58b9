"""Mutated files of every kind: a volume, or an error of ours; benchmarks/fuzz.py tries more."""

import contextlib
import gzip
import importlib.util
import io
import json
import subprocess
import sys
import warnings

import nibabel
import numpy as np
import pydicom
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from multiframe import write_enhanced
from phantoms import PEAK, head, write_series
from pydicom import config
from pydicom.encaps import generate_frames

import mrlift
from mrlift.errors import InputError
from mrlift.inference.degradation import degrade
from mrlift.io.limits import codestream_size


def _fuzz():
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "benchmarks/fuzz.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = _fuzz()
KINDS = [kind for kind in FUZZ.SEEDS if kind != "dicom JPEG lossless"]  # its seed needs dcmtk
changes = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 2**16), st.integers(0, 255)),
        st.tuples(st.just("insert"), st.integers(0, 2**16), st.binary(min_size=1, max_size=8)),
        st.tuples(st.just("remove"), st.integers(0, 2**16), st.integers(1, 64)),
        st.tuples(st.just("cut"), st.integers(0, 2**16), st.just(0)),
        st.tuples(
            st.just("number"), st.integers(0, 2**16), st.sampled_from((2**16 - 1, 2**31, 2**32 - 1))
        ),
    ),
    min_size=1,
    max_size=5,
)


def changed(content, steps):
    data = bytearray(content)
    for kind, at, value in steps:
        at %= len(data) + 1
        if kind == "set":
            data[at : at + 1] = bytes([value])
        elif kind == "insert":
            data[at:at] = value
        elif kind == "remove":
            del data[at : at + value]
        elif kind == "cut":
            del data[at:]
        else:
            data[at : at + 4] = value.to_bytes(4, "little")
    return bytes(data)


@pytest.fixture(scope="module")
def seeds():
    return {kind: FUZZ.SEEDS[kind][0]() for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(steps=changes)
@settings(max_examples=60)
def test_a_mutated_file_gives_a_result_or_an_error_of_ours(tmp_path_factory, seeds, kind, steps):
    _, name, prepare = FUZZ.SEEDS[kind]
    data = changed(seeds[kind], steps)
    work = tmp_path_factory.mktemp("mutated")
    (work / "in").mkdir()
    (work / "in" / name).write_bytes(prepare(data) if prepare else data)
    outcome, story = FUZZ.attempt(work, work / "in" / name)
    assert not outcome.startswith("failure"), story


@given(steps=changes)
@settings(max_examples=100)
def test_one_mutated_slice_among_others(phantom, steps):
    folder, file, content = phantom
    file.write_bytes(changed(content, steps))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(mrlift.MrliftError):
            mrlift.load(folder)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    files = write_series(folder)
    return folder, files[1], files[1].read_bytes()


def huge_enhanced(folder):
    return write_enhanced(folder / "a.dcm", Rows=65535, Columns=65535)


def huge_classic(folder):
    return write_series(folder / "s", head((8, 6, 1)), Rows=65535, Columns=65535)[0]


def many_pixels(folder):
    """Within the limit of one slice, but not in the file."""
    return write_series(folder / "s", head((8, 6, 1)), Rows=8192, Columns=8192)[0]


def huge_codestream(folder):
    """The header is modest, the compressed image claims 65535 x 65535."""
    (file,) = write_series(folder / "s", head((40, 36, 1)).round(), bits=16)
    data = pydicom.dcmread(file)
    data.compress("1.2.840.10008.1.2.4.90", generate_instance_uid=False)
    at = data.PixelData.index(b"\xff\x4f\xff\x51") + 8
    data.PixelData = data.PixelData[:at] + b"\0\0\xff\xff" * 2 + data.PixelData[at + 8 :]
    data.save_as(file)
    return file


def huge_nifti(folder, suffix=".nii"):
    image = nibabel.Nifti1Image(np.zeros((8, 6, 4), np.int16), np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[42:48] = np.array([32767, 32767, 10000], "<i2").tobytes()
    path = folder / f"a{suffix}"
    path.write_bytes(gzip.compress(bytes(raw)) if suffix == ".nii.gz" else bytes(raw))
    return path


def long_nifti(folder):
    """Within the limit of voxels; the gzip file cannot hold as many."""
    image = nibabel.Nifti1Image(np.zeros((8, 6, 4), np.int16), np.eye(4))
    raw = bytearray(image.to_bytes())
    raw[42:48] = np.array([8000, 8000, 30], "<i2").tobytes()
    (folder / "a.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    return folder / "a.nii.gz"


def gzipped_huge_nifti(folder):
    return huge_nifti(folder, ".nii.gz")


def bomb(folder):
    """A deflated data set of 600 MB in a file of 600 kB."""
    content = FUZZ.data_set()
    path = folder / "a.dcm"
    path.write_bytes(FUZZ.deflated(content + bytes(600_000_000)))
    return path


def zeros(folder):
    """40 MB of elements (0000,0000) without a value, which would take half a minute to parse."""
    path = folder / "a.dcm"
    path.write_bytes(FUZZ.classic("1.2.840.10008.1.2.1")[:500] + bytes(40_000_000))
    return path


CLAIMS = {
    huge_enhanced: "65535 x 65535 pixels; the limit is",
    huge_classic: "65535 x 65535 pixels; the limit is",
    many_pixels: "claims 134,217,728 bytes of pixels, but the file holds",
    huge_codestream: r"compressed image of \(65535, 65535\)",
    huge_nifti: "10,000 slices of 32767 x 32767 pixels; the limit is",
    gzipped_huge_nifti: "the limit is",
    long_nifti: "bytes of pixels, but the file holds",
    bomb: "a deflated data set that grows beyond",
    zeros: "more than 10,000 elements",
}


@pytest.mark.parametrize("make", CLAIMS, ids=lambda m: m.__name__)
def test_claims_are_refused_before_memory_is_taken(tmp_path, make):
    """In a process of its own that may take little more than Python itself needs."""
    path = make(tmp_path)
    with pytest.raises(InputError, match=CLAIMS[make]):
        mrlift.load(path)
    code = (
        f"{PEAK}import sys, mrlift, mrlift.io\n"
        "before = peak()\n"
        "try:\n    mrlift.load(sys.argv[1])\n"
        "except mrlift.InputError:\n"
        "    print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert int(done.stdout) < 60e6, done.stderr


def test_sizes_of_codestreams():
    for syntax, size in (("1.2.840.10008.1.2.4.80", (6, 8)), ("1.2.840.10008.1.2.4.90", (32, 32))):
        data = pydicom.dcmread(io.BytesIO(FUZZ.classic(syntax)))
        (frame,) = generate_frames(data.PixelData, number_of_frames=1)
        assert codestream_size(frame) == size
    assert codestream_size(b"no image") is None
    assert codestream_size(b"\xff\xd8\xff") is None


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..\\evil", "a/b", "evil\0x"])
def test_names_from_files_never_leave_the_output_folder(tmp_path, name):
    config.settings.writing_validation_mode = config.IGNORE
    try:
        write_series(
            tmp_path / "keep" / "in", SeriesDescription=name, ProtocolName=name, PatientID=name,
            StudyID=name, InstanceNumber=lambda k: k,
        )  # fmt: skip
    finally:
        config.settings.writing_validation_mode = None
    before = set(tmp_path.rglob("*"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mrlift.save(degrade(mrlift.load(tmp_path / "keep" / "in"), 2), tmp_path / "keep" / "out")
    new = set(tmp_path.rglob("*")) - before
    expected = [f"{k:05d}.dcm" for k in range(1, 5)]
    assert sorted(str(p.relative_to(tmp_path / "keep" / "out")) for p in new) == [".", *expected]


def test_the_documented_count_is_that_of_the_results():
    record = json.loads((ROOT / "benchmarks/results/fuzz.json").read_text())
    assert record["failures"] == 0
    page = (ROOT / "docs/reference/dicom-conformance.md").read_text()
    assert f"{record['inputs']:,} mutated files" in page
    for outcome, count in record["outcomes"].items():
        assert f"| {outcome} | {count:,} |" in page
