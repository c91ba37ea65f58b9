"""Derived series before the eyes of other programs: SimpleITK, dcm2niix, dcmtk, Orthanc."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from multiframe import write_enhanced
from phantoms import OBLIQUE, head, write_series
from PIL import Image
from test_derived import needs, new_errors

import mrlift
from mrlift.inference.pipeline import upscale

AXIAL = (1, 0, 0, 0, 1, 0)
CORONAL = (1, 0, 0, 0, 0, -1)
# What hospitals have in their archives. Sizes are (columns, rows, slices).
KINDS = {
    "plain 12 bit": {"orientation": AXIAL},
    "oblique": {"orientation": OBLIQUE},
    "coronal": {"orientation": CORONAL, "spacing": (1.0, 1.0)},
    "non-square pixels": {"spacing": (0.5, 1.25), "orientation": AXIAL},
    "signed 16 bit": {"signed": True, "bits": 16},
    "unsigned 16 bit": {"bits": 16},
    "signed 12 bit": {"signed": True},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1"},
    "odd sizes": {"size": (37, 29, 3)},
    "a slope": {"RescaleSlope": 0.5, "RescaleIntercept": 0, "RescaleType": "US"},
}
# pynetdicom puts a storescu of its own into the virtual environment.
SYSTEM = "/usr/bin:/usr/sbin:/usr/local/bin:/usr/local/sbin"
SYNTAXES = ("explicit", "rle", "jpeg-ls", "jpeg-2000")


@pytest.fixture(scope="module")
def model(tiny_weights):
    return mrlift.load_model(tiny_weights)


def write(folder, voxels, *, enhanced, **options):
    if not enhanced:
        return write_series(folder, voxels, **options)
    orientation = options.pop("orientation", OBLIQUE)
    slope = options.pop("RescaleSlope", None)
    for name in ("RescaleIntercept", "RescaleType"):
        options.pop(name, None)
    if options.get("PhotometricInterpretation") == "MONOCHROME1":
        options["PresentationLUTShape"] = "INVERSE"
    return [
        write_enhanced(
            folder / "a.dcm", voxels, contrasts=[{"orientation": orientation}],
            slopes=slope and (lambda _: slope), **options,
        )
    ]  # fmt: skip


def itk_volume(folder):
    files = [str(f) for f in sorted(folder.iterdir())]
    return SimpleITK.ReadImage(files if len(files) > 1 else files[0])


def itk_values(image, kind):
    """Voxels as SimpleITK reads them; it turns MONOCHROME1 round."""
    values = SimpleITK.GetArrayFromImage(image).T.astype(float)
    return 4095 - values if kind == "MONOCHROME1" else values


def itk_centroid(folder, kind):
    """Centre of gravity in mm, RAS, by SimpleITK."""
    image = itk_volume(folder)
    weights = itk_values(image, kind)
    mean = [float(v) for v in _mean_index(weights)]
    return np.array(image.TransformContinuousIndexToPhysicalPoint(mean)) * (-1, -1, 1)


def nifti_centroid(file):
    """The same by nibabel, in a NIfTI file."""
    image = nibabel.load(file)
    return (image.affine @ [*_mean_index(image.get_fdata()), 1])[:3]


def _mean_index(weights):
    grid = np.indices(weights.shape).reshape(3, -1)
    return (grid * weights.ravel()).sum(axis=1) / weights.sum()


def converted(folder, out):
    """What dcm2niix makes of a folder."""
    tool = pytest.importorskip("dcm2niix").bin
    out.mkdir()
    subprocess.run(
        [tool, "-z", "n", "-b", "n", "-f", "x", "-o", out, folder], check=True, capture_output=True
    )
    (file,) = out.glob("*.nii")
    return file


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_marker_stays_at_its_physical_point(tmp_path, model, kind, enhanced):
    """To 0.01 mm: by SimpleITK, and in what dcm2niix makes of the derived series."""
    options = dict(KINDS[kind])
    shape = options.pop("size", (40, 36, 3))
    at = (0.55 * shape[0], 0.45 * shape[1], 1)
    x, y = np.ogrid[: shape[0], : shape[1]]
    voxels = np.zeros(shape)
    voxels[:, :, at[2]] = 2000 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 9)
    write(tmp_path / "in", voxels.round(), enhanced=enhanced, **options)
    volume = mrlift.load(tmp_path / "in")
    mrlift.save(upscale(volume, 2, model), tmp_path / "out")
    known = (volume.affine @ [*at, 1])[:3]
    np.testing.assert_allclose(itk_centroid(tmp_path / "in", kind), known, atol=0.01)
    np.testing.assert_allclose(itk_centroid(tmp_path / "out", kind), known, atol=0.01)
    nifti = converted(tmp_path / "out", tmp_path / "nifti")
    np.testing.assert_allclose(nifti_centroid(nifti), known, atol=0.01)


@needs("dciodvfy")
@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_every_syntax(tmp_path, model, kind, syntax, enhanced):
    """Values, place and header by SimpleITK, dciodvfy and (what it can decode) dcmtk."""
    options = dict(KINDS[kind])
    voxels = head(options.pop("size", (40, 36, 3))).round()
    voxels -= 300 * options.get("signed", False)
    files = write(tmp_path / "in", voxels, enhanced=enhanced, **options)
    sr = upscale(mrlift.load(tmp_path / "in"), 2, model)
    mrlift.save(sr, tmp_path / "out", transfer_syntax=syntax)
    again = mrlift.load(tmp_path / "out")
    # Integers come back as they were; with a slope to half a step, clipped to what is stored.
    half_step = options.get("RescaleSlope", 0) / 2
    expected = sr.voxels.clip(min=0) if half_step else sr.voxels
    assert np.abs(again.voxels.astype(float) - expected).max() <= half_step
    image = itk_volume(tmp_path / "out")
    np.testing.assert_allclose(itk_values(image, kind), again.voxels, atol=1e-4)
    np.testing.assert_allclose(image.GetSpacing(), sr.spacing, atol=1e-6)
    results = sorted((tmp_path / "out").iterdir())
    if syntax == "explicit":
        assert not new_errors(files[0], results[0])
    text = subprocess.run(["dcmdump", results[0]], capture_output=True, text=True, check=True)
    assert "DERIVED" in text.stdout
    if syntax != "jpeg-2000":  # Debian's dcmtk has no decoder for it
        _same_picture(results[0], tmp_path / "a.pgm")


def _same_picture(file, picture):
    data = pydicom.dcmread(file)
    pixels = data.pixel_array
    pixels = pixels[0] if pixels.ndim == 3 else pixels
    tool = shutil.which("dcm2img") or shutil.which("dcmj2pnm")
    tool = {"1.2.840.10008.1.2.4.80": "dcml2pnm"}.get(data.file_meta.TransferSyntaxUID, tool)
    subprocess.run([tool, "+Wm", "+opb", file, picture], check=True, capture_output=True)
    shown = np.asarray(Image.open(picture), dtype=float)
    low, high = pixels.min(), pixels.max()
    expected = (pixels - float(low)) / (float(high) - low)
    if data.PhotometricInterpretation == "MONOCHROME1":
        expected = 1 - expected
    np.testing.assert_allclose(shown / 255, expected, atol=0.01)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    """An Orthanc on free loopback ports: (its address for REST, its DICOM port)."""
    program = shutil.which("Orthanc", path=SYSTEM)
    if not program or not shutil.which("storescu", path=SYSTEM):
        pytest.skip("needs orthanc and dcmtk, see .ci/run")
    folder = tmp_path_factory.mktemp("orthanc")
    http, dicom = (_free_port() for _ in range(2))
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "db"), "Plugins": [],
        "IndexDirectory": str(folder / "db"), "HttpPort": http, "HttpBindAddresses": ["127.0.0.1"],
        "DicomPort": dicom, "DicomAet": "ORTHANC", "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "log").open("w")
    process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    url = f"http://127.0.0.1:{http}"
    try:
        for _ in range(200):
            try:
                rest(url, "system")
                break
            except (OSError, urllib.error.URLError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield url, dicom
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def rest(url, path):
    with urllib.request.urlopen(f"{url}/{path}", timeout=10) as answer:
        body = answer.read()
        return json.loads(body) if "json" in answer.headers["Content-Type"] else body


def store(folder, port, *options):
    tool = shutil.which("storescu", path=SYSTEM)
    command = [tool, "-R", "-aec", "ORTHANC", *options, "+sd", "127.0.0.1", str(port), folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


OPTIONS = {"explicit": [], "rle": ["-xr"], "jpeg-ls": ["-xt"], "jpeg-2000": ["-xv"]}


@pytest.mark.parametrize("enhanced", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_orthanc_shows_a_new_series_in_the_same_study(tmp_path, model, orthanc, enhanced, syntax):
    url, port = orthanc
    for patient in rest(url, "patients"):
        request = urllib.request.Request(f"{url}/patients/{patient}", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()
    write(tmp_path / "in", head((40, 36, 3)).round(), enhanced=enhanced, SeriesDescription="t1")
    sr = upscale(mrlift.load(tmp_path / "in"), 2, model)
    mrlift.save(sr, tmp_path / "out", transfer_syntax=syntax)
    store(tmp_path / "in", port)
    store(tmp_path / "out", port, *OPTIONS[syntax])
    assert len(rest(url, "patients")) == 1
    assert len(rest(url, "studies")) == 1
    series = [rest(url, f"series/{s}") for s in rest(url, "series")]
    new = next(s for s in series if s["MainDicomTags"]["SeriesDescription"] != "t1")
    assert len(series) == 2
    assert new["MainDicomTags"]["SeriesDescription"] == "t1 mrlift x2 RESEARCH"
    results = {pydicom.dcmread(f).SOPInstanceUID for f in (tmp_path / "out").iterdir()}
    stored = [rest(url, f"instances/{i}") for i in new["Instances"]]
    assert {i["MainDicomTags"]["SOPInstanceUID"] for i in stored} == results
    if syntax != "jpeg-2000":  # Debian's Orthanc decodes what dcmtk does
        assert rest(url, f"instances/{new['Instances'][0]}/preview")[:4] == b"\x89PNG"
