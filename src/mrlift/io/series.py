"""Classic DICOM MR series: find them, choose one, read it.

A series is sorted by position along the slice normal (PS3.3 C.7.6.2); file names and
InstanceNumber are never used for geometry.
"""

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from mrlift.errors import InputError, MrliftError, SeriesChoiceError
from mrlift.io.stack import odd_facts, refuse_mixed, refuse_unsuitable, stacked
from mrlift.volume import Volume

LISTED = ("SeriesInstanceUID", "Modality", "SeriesDescription", "Rows", "Columns")
JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")  # not decoded by pydicom


@dataclass(frozen=True)
class SeriesSource:
    """The headers of a series without pixel data, in the order of the volume's slices.

    `residuals` (n, 3) is what each ImagePositionPatient differs from the regular stack, in mm
    (LPS): the scanner's rounding, given back when a derived series is written.
    """

    instances: tuple[FileDataset, ...]
    residuals: NDArray[np.float64]


@dataclass(frozen=True)
class SeriesSummary:
    """One line of a listing."""

    uid: str
    modality: str
    description: str
    instances: int
    rows: int
    columns: int


def read_headers(path: Path) -> list[FileDataset]:
    """Headers of the DICOM images in a folder (searched with its subfolders) or of one file.

    Files in a folder that are no DICOM images (a DICOMDIR, a presentation state, a licence) are
    passed over. A file that should be one (its name ends in .dcm, or it has the DICOM prefix) and
    cannot be read is an error: a slice less would go unnoticed.

    Raises:
        InputError: `path` does not exist or may not be read, a file is damaged, or there is no
            DICOM image.
    """
    try:
        path.stat()
        files = list(_files(path)) if path.is_dir() else [path]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(f"{path} may not be read: {error.strerror}.") from error
    headers = [header for header in map(_read_header, files) if header is not None]
    if not headers:
        raise InputError(
            f"{path}: expected a NIfTI file or a folder with DICOM images, found "
            f"{'an empty folder' if not files else f'{len(files)} file(s) of other kinds'}."
        )
    return headers


def list_series(headers: list[FileDataset]) -> list[SeriesSummary]:
    """The series among `headers`, ordered by UID."""
    groups = _by_series(headers)
    return [
        SeriesSummary(
            uid,
            str(group[0].get("Modality", "")),
            str(group[0].get("SeriesDescription", "")),
            len(group),
            int(group[0].get("Rows", 0)),
            int(group[0].get("Columns", 0)),
        )
        for uid, group in sorted(groups.items())
    ]


def load_series(path: Path, series: str | None = None) -> Volume:
    """Read one series as a volume with axes (column, row, slice).

    Args:
        path: a folder, or one file (a series of one slice).
        series: SeriesInstanceUID; needed where the folder holds several.

    Raises:
        SeriesChoiceError: several series and no choice, or no series of that UID.
        InputError: not a magnitude MR image series, or pixel data that cannot be decoded.
        GeometryError: the slices do not form one regular stack.
    """
    headers = _choose(read_headers(path), series)
    try:
        for header in headers:
            refuse_unsuitable(header)
        refuse_mixed(headers)
        headers, affine, residuals = stacked(headers)
        notes = tuple(odd_facts(headers[0]))
        rescales = [rescale_of(header) for header in headers]
    except MrliftError:
        raise
    except Exception as error:  # pydicom converts values only when they are asked for
        raise InputError(
            f"{path}: a DICOM header holds a malformed value ({_first_line(error)}). Repair it."
        ) from error
    planes = [_rescaled(_decode(h), *r) for h, r in zip(headers, rescales, strict=True)]
    voxels = np.stack(planes, axis=-1).transpose(1, 0, 2)
    return Volume(voxels, affine, 2, SeriesSource(tuple(headers), residuals), notes)


def rescale_of(header: Dataset) -> tuple[float, float]:
    """Slope and intercept of the modality transformation (PS3.3 C.11.1); a slope of 0 reads 1."""
    slope = float(header.get("RescaleSlope", 1) or 1)
    return slope, float(header.get("RescaleIntercept", 0) or 0)


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        yield from (Path(root) / name for name in sorted(names))


def _read_header(file: Path) -> FileDataset | None:
    """The data set of a DICOM image up to its pixel data, or None for any other file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
            kind = header.file_meta.get("MediaStorageSOPClassUID", header.get("SOPClassUID"))
            for name in LISTED:
                header.get(name)  # pydicom converts a value, or fails to, when it is asked for
        except InvalidDicomError as error:
            if file.suffix.lower() != ".dcm":
                return None
            raise InputError(
                f"{file} is no DICOM file in spite of its name: it is empty, damaged, or lacks the "
                "128-byte preamble with the letters DICM. Repair or remove it."
            ) from error
        except OSError as error:
            raise InputError(f"{file} may not be read: {error.strerror}.") from error
        except Exception as error:  # damaged files make the parser raise almost anything
            raise InputError(f"{file} is a damaged DICOM file: {_first_line(error)}.") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if kind is None or "SeriesInstanceUID" not in header:
        raise InputError(f"{file} is a DICOM file without its identity: damaged or truncated.")
    # Presentation states, structured reports and the like have no rows; an image that was cut
    # short has none either, but is called an image.
    return header if "Rows" in header or "Image" in kind.name else None


def _by_series(headers: list[FileDataset]) -> dict[str, list[FileDataset]]:
    groups: dict[str, list[FileDataset]] = {}
    for header in headers:
        groups.setdefault(str(header.SeriesInstanceUID), []).append(header)
    return groups


def _choose(headers: list[FileDataset], series: str | None) -> list[FileDataset]:
    groups = _by_series(headers)
    if series is None and len(groups) == 1:
        return headers
    if series in groups:
        return groups[series]
    lines = [
        f"  {s.uid}  {s.modality} {s.instances} x {s.columns}x{s.rows}"
        for s in list_series(headers)
    ]
    found = f"No series {series} here" if series else f"The folder holds {len(groups)} series"
    raise SeriesChoiceError("\n".join([f"{found}. Choose one with --series UID:", *lines]))


def _decode(header: FileDataset) -> NDArray[np.number]:
    """Stored pixel values (rows, columns) of one instance."""
    file = Path(str(header.filename))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if header.file_meta.TransferSyntaxUID in JPEG_LOSSLESS and find_spec("dicomsdl"):
                import dicomsdl

                pixels = np.array(dicomsdl.open(str(file)).pixelData(storedvalue=True))
            else:
                pixels = pydicom.dcmread(file).pixel_array
        except MemoryError:
            raise
        except Exception as error:  # the decoders raise almost anything on damaged data
            raise InputError(
                f"{file}: the pixel data cannot be decoded ({_first_line(error)}). The file is "
                "truncated or damaged, or uses a compression that is not supported."
            ) from error
    expected = (int(header.Rows), int(header.Columns))
    if pixels.shape != expected:
        raise InputError(f"{file}: expected {expected} pixels, found {pixels.shape}.")
    return pixels


def _rescaled(pixels: NDArray[np.number], slope: float, intercept: float) -> NDArray[np.number]:
    if (slope, intercept) == (1.0, 0.0):
        return pixels
    return (pixels * np.float64(slope) + intercept).astype(np.float32)


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
