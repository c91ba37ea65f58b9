"""Generated volumes and DICOM series, small and known in every voxel."""

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage

from mrlift.volume import Volume

OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)  # two perpendicular unit vectors, exact decimals


def head(shape=(40, 48, 5), seed=0, peak=1000.0):
    """A smooth ellipse with structure inside and air around, (X, Y, Z), non-negative."""
    rng = np.random.default_rng(seed)
    x, y = (np.linspace(-1, 1, n) for n in shape[:2])
    inside = (x[:, None] / 0.8) ** 2 + (y[None] / 0.85) ** 2 < 1
    planes = []
    for _ in range(shape[2]):
        a, b, c, d = rng.uniform(2, 9, 4)
        texture = np.sin(a * x[:, None] + b * y[None]) * np.cos(c * x[:, None] - d * y[None])
        planes.append(inside * (0.55 + 0.4 * texture))
    return (peak * np.stack(planes, axis=-1)).clip(0)


def head_volume(shape=(40, 48, 5), dtype=np.int16, affine=None, **kind):
    """`head` as a volume of 0.9 x 0.8 x 4 mm voxels."""
    affine = np.diag([-0.9, -0.8, 4.0, 1.0]) if affine is None else affine
    return Volume(head(shape, **kind).astype(dtype), affine)


def write_series(
    folder: Path,
    voxels: np.ndarray | None = None,
    *,
    spacing=(0.8, 0.9),
    step=4.0,
    orientation=OBLIQUE,
    series="1.2.3.4",
    signed=False,
    bits=12,
    syntax: UID = ExplicitVRLittleEndian,
    order=None,
    **attributes,
) -> list[Path]:
    """Write a classic MR series; `voxels` is (X, Y, Z). Returns the files in slice order.

    `attributes` are set on every instance; a callable is called with the slice index.
    """
    voxels = head((24, 20, 4)) if voxels is None else voxels
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.reshape(orientation, (2, 3))
    normal = np.cross(row, column)
    names = list(order) if order is not None else list(range(voxels.shape[2]))
    files = []
    for k in range(voxels.shape[2]):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = UID(f"{series}.{k + 1}")
        meta.TransferSyntaxUID = syntax
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID = "1.2.3", series
        data.FrameOfReferenceUID = "1.2.3.9"
        data.Modality, data.PatientName, data.PatientID = "MR", "Phantom^Anna", "P1"
        data.PatientBirthDate, data.PatientSex = "", "O"
        data.StudyDate, data.StudyTime, data.StudyID = "20200101", "120000", "1"
        data.AccessionNumber, data.ReferringPhysicianName = "", ""
        data.Manufacturer, data.SeriesNumber, data.InstanceNumber = "ACME", 3, names[k] + 1
        data.ImageType = ["ORIGINAL", "PRIMARY", "M"]
        data.ScanningSequence, data.SequenceVariant = "SE", "NONE"
        data.ScanOptions, data.MRAcquisitionType = "", "2D"
        data.EchoTime, data.RepetitionTime, data.EchoTrainLength = 10, 500, 1
        data.PatientPosition = "HFS"
        data.PositionReferenceIndicator, data.Laterality = "", ""
        data.SliceThickness = step
        data.ImagePositionPatient = [round(float(v), 8) for v in (-30, 12, 7) + k * step * normal]
        data.ImageOrientationPatient = list(orientation)
        data.PixelSpacing = list(spacing)
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.Rows, data.Columns = voxels.shape[1], voxels.shape[0]
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
        data.PixelRepresentation = int(signed)
        kind = "<i2" if signed else "<u2"
        data.PixelData = np.ascontiguousarray(voxels[:, :, k].T.astype(kind)).tobytes()
        data["PixelData"].VR = "OW"
        for name, value in attributes.items():
            value = value(k) if callable(value) else value
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)
        files.append(folder / f"{names[k]:03d}.dcm")
        data.save_as(files[-1])
    return files


# Run in a process of its own, defines peak(): its largest memory, bytes. Not from getrusage, whose
# peak includes that of the process which started this one.
PEAK = """
def peak():
    import re
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024
"""
