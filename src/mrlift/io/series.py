"""DICOM MR series, classic and Enhanced: find them, choose one, read it.

A series is sorted by position along the slice normal (PS3.3 C.7.6.2); file names and
InstanceNumber are never used for geometry.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID, MediaStorageDirectoryStorage

from mrlift.errors import InputError, MrliftError, SeriesChoiceError
from mrlift.io.limits import MAX_ELEMENTS, BoundedFile, refuse_oversize
from mrlift.io.parts import Part, choose_part, parts_of
from mrlift.io.pixels import (
    first_line,
    refuse_inflating,
    refuse_missing,
    stored_planes,
    stored_type,
)
from mrlift.io.stack import (
    odd_facts,
    refuse_mixed,
    refuse_other_modalities,
    refuse_unsuitable,
    stacked,
)
from mrlift.volume import Volume

PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)  # float, double, integer
LISTED = ("SeriesInstanceUID", "Modality", "SeriesDescription", "Rows", "Columns")


@dataclass(frozen=True)
class SeriesSource:
    """The headers of a series without pixel data, in the order of the volume's slices.

    `residuals` (n, 3) is what each ImagePositionPatient differs from the regular stack, in mm
    (LPS): the scanner's rounding, given back when a derived series is written.

    Where the slices are frames of an Enhanced MR object, that is `multiframe`, `indices` are the
    frames, counted from 0, and `instances` their headers in classic form.
    """

    instances: tuple[FileDataset, ...]
    residuals: NDArray[np.float64]
    multiframe: FileDataset | None = None
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class SeriesSummary:
    """One line of a listing."""

    uid: str
    modality: str
    description: str
    instances: int
    rows: int
    columns: int


def read_headers(path: Path, names: Sequence[str] | None = None) -> list[FileDataset]:
    """Headers of the DICOM images in a folder (searched with its subfolders) or of one file.

    `names` are the files of the folder to read, instead of all.

    Files in a folder that are no DICOM images (a DICOMDIR, a presentation state, a licence) are
    passed over. A file that should be one (its name ends in .dcm, or it has the DICOM prefix) and
    cannot be read is an error: a slice less would go unnoticed.

    Raises:
        InputError: `path` does not exist or may not be read, a file is damaged, or there is no
            DICOM image.
    """
    try:
        path.stat()
        if names is not None:
            files = [path / name for name in names]
        else:
            files = list(_files(path)) if path.is_dir() else [path]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(f"{path} may not be read: {error.strerror}.") from error
    headers = [header for header in map(read_header, files) if header is not None]
    if not headers:
        raise InputError(
            f"{path}: expected a NIfTI file or a folder with DICOM images, found "
            f"{'an empty folder' if not files else f'{len(files)} file(s) of other kinds'}."
        )
    return headers


def list_series(headers: list[FileDataset]) -> list[SeriesSummary]:
    """The series among `headers`, ordered by UID."""
    return [
        SeriesSummary(
            uid,
            str(frames[0].get("Modality", "")),
            " ".join(filter(None, (description, label))),
            len(frames),
            int(frames[0].get("Rows", 0)),
            int(frames[0].get("Columns", 0)),
        )
        for uid, frames, description, label in _rows(headers)
    ]


def _rows(headers: list[FileDataset]) -> Iterator[tuple[str, Sequence[FileDataset], str, str]]:
    """(what --series takes, images, description, what sets it off) of each part of each series."""
    for uid, group in sorted(_by_series(headers).items()):
        description = str(group[0].get("SeriesDescription", ""))
        try:
            parts = parts_of(group)
        except Exception:  # listed all the same; `load_series` says what is wrong
            parts = [Part(tuple(group))]
        for number, part in enumerate(parts, start=1):
            name = f"{uid}/{number}" if len(parts) > 1 else uid
            yield name, part.frames, description, part.label


def load_series(
    path: Path, series: str | None = None, names: Sequence[str] | None = None
) -> Volume:
    """Read one series as a volume with axes (column, row, slice).

    Args:
        path: a folder, or one file (a series of one slice).
        series: SeriesInstanceUID; needed where the folder holds several. UID/2 chooses the second
            of several stacks, contrasts or time points in one series.
        names: the files of the folder to read, instead of all with its subfolders.

    Raises:
        SeriesChoiceError: several series and no choice, or no series of that UID.
        InputError: not a magnitude MR image series, or pixel data that cannot be decoded.
        GeometryError: the slices do not form one regular stack.
    """
    uid, _, number = (series or "").partition("/")
    group = _choose(read_headers(path, names), uid)
    try:
        refuse_other_modalities(group)
        part = choose_part(parts_of(group), str(group[0].SeriesInstanceUID), number)
        for frame in part.frames:
            refuse_unsuitable(frame)
        refuse_mixed(list(part.frames))
        order, affine, residuals = stacked(list(part.frames))
        headers = [part.frames[i] for i in order]
        indices = tuple(part.indices[i] for i in order) if part.multiframe else ()
        notes = tuple(odd_facts(headers[0]))
        rescales = [rescale_of(header) for header in headers]
    except MrliftError:
        raise
    except Exception as error:  # pydicom converts values only when they are asked for
        raise InputError(
            f"{path}: a DICOM header holds a malformed value ({first_line(error)}). Repair it."
        ) from error
    source = SeriesSource(tuple(headers), residuals, part.multiframe, indices)
    return Volume(_voxels(path, source, rescales), affine, 2, source, notes)


def _voxels(
    path: Path, source: SeriesSource, rescales: list[tuple[float, float]]
) -> NDArray[np.number]:
    """Voxels (columns, rows, slices); integers unless a slice has a slope or an intercept."""
    first = source.instances[0]
    rows, columns = int(first.Rows), int(first.Columns)
    refuse_oversize(path, rows, columns, len(source.instances))
    for header in [source.multiframe] if source.multiframe else source.instances:
        refuse_missing(header)
    plain = all(rescale == (1.0, 0.0) for rescale in rescales)
    kind = stored_type(first) if plain else np.dtype(np.float32)
    voxels = np.empty((len(source.instances), rows, columns), kind)
    for k, pixels in _planes(source):
        voxels[k] = _rescaled(pixels, *rescales[k])
    return voxels.transpose(2, 1, 0)


def _planes(source: SeriesSource) -> Iterator[tuple[int, NDArray[np.number]]]:
    """(slice, stored values) of every slice, in the order of the files."""
    if source.multiframe is None:
        for k, header in enumerate(source.instances):
            yield from ((k, pixels) for _, pixels in stored_planes(header))
    else:
        slices = {index: k for k, index in enumerate(source.indices)}
        for index, pixels in stored_planes(source.multiframe, source.indices):
            yield slices[index], pixels


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


def read_header(file: Path) -> FileDataset | None:
    """The data set of a DICOM image up to its pixel data, or None for any other file.

    Raises:
        InputError: it should be one and cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            refuse_inflating(file)
            header = _parsed(file)
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
        except InputError:
            raise
        except Exception as error:  # damaged files make the parser raise almost anything
            raise InputError(f"{file} is a damaged DICOM file: {first_line(error)}.") from error
    if kind == MediaStorageDirectoryStorage:
        return None
    if not (kind and header.get("SeriesInstanceUID") and header.file_meta.get("TransferSyntaxUID")):
        raise InputError(
            f"{file} is a DICOM file without SOP class, series or transfer syntax: damaged or "
            "truncated. Get a complete copy."
        )
    syntax = header.file_meta.TransferSyntaxUID
    if not (isinstance(syntax, UID) and syntax.is_transfer_syntax):
        found = syntax if isinstance(syntax, UID) and syntax.is_valid else "a malformed one"
        raise InputError(
            f"{file}: expected a standard transfer syntax, found {found}. Convert it, for "
            "instance with dcmconv of dcmtk."
        )
    # Presentation states, structured reports and the like have no rows; an image that was cut
    # short has none either, but is called an image.
    return header if "Rows" in header or "Image" in getattr(kind, "name", "Image") else None


def _parsed(file: Path) -> FileDataset:
    count = 0

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal count
        count += 1
        if count > MAX_ELEMENTS:
            raise InputError(
                f"{file}: more than {MAX_ELEMENTS:,} elements before the pixel data. It is damaged."
            )
        return tag in PIXELS

    with BoundedFile(file) as stream:
        header = read_partial(stream, stop_when=at_pixels)
    if not isinstance(header, FileDataset):
        raise InvalidDicomError
    header.filename = str(file)
    return header


def _by_series(headers: list[FileDataset]) -> dict[str, list[FileDataset]]:
    groups: dict[str, list[FileDataset]] = {}
    for header in headers:
        groups.setdefault(str(header.SeriesInstanceUID), []).append(header)
    return groups


def _choose(headers: list[FileDataset], uid: str) -> list[FileDataset]:
    groups = _by_series(headers)
    if not uid and len(groups) == 1:
        return headers
    if uid in groups:
        return groups[uid]
    lines = [
        f"  {s.uid}  {s.modality} {s.instances} x {s.columns}x{s.rows}"
        for s in list_series(headers)
    ]
    found = f"No series {uid} here" if uid else f"The folder holds {len(groups)} series"
    raise SeriesChoiceError("\n".join([f"{found}. Choose one with --series UID:", *lines]))


def _rescaled(pixels: NDArray[np.number], slope: float, intercept: float) -> NDArray[np.number]:
    if (slope, intercept) == (1.0, 0.0):
        return pixels
    return (pixels * np.float64(slope) + intercept).astype(np.float32)
