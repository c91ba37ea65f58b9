"""Write a derived DICOM MR series (PS3.3 C.8.3.1 MR Image, C.7.6.1.1.3 derivation).

Patient, study, frame of reference, acquisition facts and dates are kept; identity, geometry,
pixel facts and provenance are new. A classic series gives one file a slice, an Enhanced MR object
gives one object.
"""

import hashlib
import uuid
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from mrlift.errors import InputError, OutputError
from mrlift.io.derived_enhanced import derived_object
from mrlift.io.pixels import first_line
from mrlift.io.provenance import (
    decimal,
    derived_header,
    now_in_zone_of,
    reference_to,
    set_derivation,
    set_map,
    set_pixels,
    stored_values,
)
from mrlift.io.series import SeriesSource
from mrlift.io.stack import LPS_TO_RAS, image_type
from mrlift.volume import Volume

SYNTAXES = {
    "explicit": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}


def save_series(
    volume: Volume,
    path: Path,
    syntax: UID = ExplicitVRLittleEndian,
    as_of: datetime | None = None,
) -> None:
    """Write `volume` as MR Image Storage, one file a slice, or as one Enhanced MR object.

    Args:
        volume: what to write; it came from a DICOM series and mrlift derived it.
        path: an existing folder, or for a single slice or object a file that ends in .dcm.
        syntax: the transfer syntax; one of `SYNTAXES`.
        as_of: the time of derivation to state; UIDs then follow from the content. None is now,
            with new UIDs.

    Raises:
        InputError: the source's header holds a value that cannot be written.
        OutputError: the pixels do not fit the compression.
    """
    source = volume.source
    assert isinstance(source, SeriesSource)  # `mrlift.io.save` has checked it
    now = now_in_zone_of(source.multiframe or source.instances[0], as_of)
    series_uid = _uid_of(volume, now, syntax) if as_of else generate_uid(prefix=None)
    count = 1 if source.multiframe else len(source.instances)
    peak = float(np.abs(volume.voxels).max())
    for index in range(count):
        file = path / f"{index + 1:05d}.dcm" if path.is_dir() else path
        original = source.multiframe or source.instances[index]
        try:
            if source.multiframe is not None:
                dataset = derived_object(volume, now)
            else:
                dataset = _derived_image(volume, index, now, peak)
            dataset.SeriesInstanceUID = series_uid
            dataset.InstanceNumber = index + 1
            if as_of:
                uid = _named_uid(f"{series_uid} {index}")
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # values of the source that bend their VR
                _compress(dataset, syntax)
                dataset.save_as(file, enforce_file_format=True)
        except (OSError, OutputError, MemoryError):
            raise
        except Exception as error:  # pydicom converts values only when they are copied
            raise InputError(
                f"{Path(str(original.filename))}: its header cannot be carried over ({error}). "
                "Repair it, or write NIfTI (--nifti)."
            ) from error


def _derived_image(volume: Volume, index: int, now: datetime, peak: float) -> FileDataset:
    """One slice as a classic MR image; `peak` is the largest magnitude of the whole series."""
    source, derivation = volume.source, volume.derivation
    assert isinstance(source, SeriesSource)
    assert derivation is not None
    original = source.instances[index]
    dataset = derived_header(original, derivation, now)
    dataset.ImageType = ["DERIVED", "SECONDARY", *(image_type(original)[2:] or ["OTHER"])]
    set_derivation(dataset, [original], derivation, [reference_to(original)])
    row, column, step, origin = (LPS_TO_RAS @ volume.affine)[:3].T
    dataset.PixelSpacing = [decimal(np.linalg.norm(column)), decimal(np.linalg.norm(row))]
    position = origin + index * step + source.residuals[index]
    dataset.ImagePositionPatient = [decimal(v) for v in position]
    plane = np.moveaxis(volume.voxels, volume.slice_axis, 0)[index].T
    if derivation.quantity:
        set_map(dataset, plane, peak, derivation.quantity)
    else:
        set_pixels(dataset, stored_values(plane, original))
    return dataset


def _uid_of(volume: Volume, now: datetime, syntax: UID) -> UID:
    """The UID of a derived series that differs wherever a byte of its files does."""
    source, derivation = volume.source, volume.derivation
    assert isinstance(source, SeriesSource)
    assert derivation is not None
    headers = source.instances if source.multiframe is None else (source.multiframe,)
    facts = [
        now.isoformat(), syntax, derivation.version, derivation.description,
        *(header.SOPInstanceUID for header in headers), *map(str, source.indices),
        hashlib.sha256(np.ascontiguousarray(volume.voxels).tobytes()).hexdigest(),
    ]  # fmt: skip
    return _named_uid(" ".join(facts))


def _named_uid(name: str) -> UID:
    """A UID from a name-based UUID (PS3.5 B.2; RFC 9562 version 5)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}")


def _compress(dataset: FileDataset, syntax: UID) -> None:
    if not syntax.is_encapsulated:
        return
    try:
        dataset.compress(syntax, generate_instance_uid=False)
    except Exception as error:  # the encoders raise almost anything
        raise OutputError(
            f"{dataset.BitsStored}-bit pixels cannot be written as {syntax.name} "
            f"({first_line(error)}). Choose another transfer syntax."
        ) from error
