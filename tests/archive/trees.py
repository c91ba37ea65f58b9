"""Trees of real small series: the sample series, what MRLIFT_DATA has, and cut-outs of both."""

import gzip
import os
import shutil
import sys
from pathlib import Path

import nibabel
import numpy as np
import pydicom

import mrlift

ROOT = Path(__file__).parent.parent.parent
SIDE, SLICES = 64, 4


def real_series(folder, count, seed=0):
    """Write `count` series: a third DICOM, slices of samples/t1w, the rest cut-outs as NIfTI.

    With MRLIFT_DATA the cut-outs are of the volumes in its train/, and the DICOM series in its
    dicom/ are copied beside, except those in failing/.
    """
    chance = np.random.default_rng(seed)
    files = sorted((ROOT / "samples" / "t1w").glob("*.dcm"))
    volumes = _volumes()
    for number in range(count):
        if number % 3 == 0:
            first = int(chance.integers(0, len(files) - 2))
            _dicom_cut(files[first : first + 2], folder / "dicom" / f"{number:04d}", number, chance)
        else:
            volume = volumes[number % len(volumes)]
            target = folder / "nifti" / f"{number % 7}" / f"{number:04d}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            _nifti_cut(volume, target, chance)
    if more := _data("dicom"):
        for part in sorted(p for p in more.iterdir() if p.is_dir() and p.name != "failing"):
            shutil.copytree(part, folder / "more" / part.name)


def _data(name):
    folder = os.environ.get("MRLIFT_DATA")
    path = Path(folder) / name if folder else None
    return path if path and path.is_dir() else None


def _volumes():
    train = _data("train")
    if train:
        return [nibabel.load(file) for file in sorted((train / "open_ms").glob("*T1W.nii.gz"))]
    volume = mrlift.load(ROOT / "samples" / "t1w")
    return [nibabel.Nifti1Image(volume.voxels, volume.affine)]


def _nifti_cut(image, target, chance):
    shape = image.shape[:3]
    start = [int(chance.integers(n // 4, max(3 * n // 4 - size, n // 4 + 1)))
             for n, size in zip(shape, (SIDE, SIDE, SLICES), strict=True)]  # fmt: skip
    x, y, z = start
    nibabel.save(image.slicer[x : x + SIDE, y : y + SIDE, z : z + SLICES], target)


def _dicom_cut(files, folder, number, chance):
    """A window of some slices, with identity and place of its own."""
    folder.mkdir(parents=True)
    x, y = (int(v) for v in chance.integers(60, 160, 2))
    for k, file in enumerate(files):
        data = pydicom.dcmread(file)
        data.decompress(generate_instance_uid=False)
        pixels = data.pixel_array[y : y + SIDE, x : x + SIDE]
        row, column = np.reshape([float(v) for v in data.ImageOrientationPatient], (2, 3))
        height, width = (float(v) for v in data.PixelSpacing)
        moved = np.array(data.ImagePositionPatient, float) + row * x * width + column * y * height
        data.ImagePositionPatient = [f"{v:.8g}" for v in moved]
        data.Rows, data.Columns = pixels.shape
        data.PixelData = np.ascontiguousarray(pixels).tobytes()
        data.SeriesInstanceUID = f"1.2.826.0.1.3680043.8.498.7.{number}"
        data.SOPInstanceUID = f"{data.SeriesInstanceUID}.{k + 1}"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(folder / file.name)


def typed():
    """The command that runs as anyone would type it, without paths of this machine."""
    data = "MRLIFT_DATA=DATA " if os.environ.get("MRLIFT_DATA") else ""
    words = (Path(w).name if Path(w).is_absolute() else w for w in sys.argv[1:])
    return " ".join([f"{data}python benchmarks/{Path(sys.argv[0]).name}", *words])


def break_nifti(file, kind):
    """Spoil a NIfTI file in one of the ways that happen."""
    whole = file.read_bytes()
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "cut short":
        file.write_bytes(whole[: len(whole) // 2])
    elif kind == "flipped bits":
        at = len(whole) // 2
        file.write_bytes(
            whole[:at] + bytes(b ^ 0xFF for b in whole[at : at + 64]) + whole[at + 64 :]
        )
    elif kind == "another format":
        file.write_bytes(gzip.compress(b"no image at all" * 99))
    elif kind == "not finite":
        image = nibabel.load(file)
        voxels = np.asarray(image.dataobj, np.float32)
        voxels[0, 0, 0] = np.nan
        nibabel.save(nibabel.Nifti1Image(voxels, image.affine), file)
    else:
        raise ValueError(kind)


def break_dicom(folder, kind):
    """Spoil a DICOM series of a folder."""
    first, *_, last = sorted(folder.iterdir())
    data = pydicom.dcmread(last)
    if kind == "cut short":
        last.write_bytes(last.read_bytes()[:-3000])
    elif kind == "damaged header":
        whole = last.read_bytes()
        last.write_bytes(whole[:160] + b"\xff" * 40 + whole[200:])
    elif kind == "two sizes":
        data.Rows, data.PixelData = SIDE // 2, data.PixelData[: len(data.PixelData) // 2]
        data.save_as(last)
    elif kind == "phase image":
        for file in (first, last):
            data = pydicom.dcmread(file)
            data.ImageType = ["ORIGINAL", "PRIMARY", "P"]
            data.save_as(file)
    elif kind == "no position":
        del data.ImagePositionPatient
        data.save_as(last)
    else:
        raise ValueError(kind)


NIFTI_FAULTS = ("empty", "cut short", "flipped bits", "another format", "not finite")
DICOM_FAULTS = ("cut short", "damaged header", "two sizes", "phase image", "no position")
