"""Reading and writing series: `load` and `save` go by what a path holds."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom.uid import EnhancedMRImageStorage

from mrlift.errors import InputError, OutputError
from mrlift.io.atomic import refuse_existing, replacing
from mrlift.io.derived import SYNTAXES, save_series
from mrlift.io.series import (
    SeriesSource,
    SeriesSummary,
    list_series,
    load_series,
    read_header,
    read_headers,
)
from mrlift.volume import Volume

__all__ = [
    "SYNTAXES",
    "SeriesSource",
    "SeriesSummary",
    "check_format",
    "check_output",
    "find_series",
    "is_nifti",
    "list_series",
    "load",
    "nifti_name",
    "read_header",
    "read_headers",
    "refuse_existing",
    "replacing",
    "save",
]


SUFFIXES = (".nii", ".nii.gz")
FOREIGN = (".mha", ".mhd", ".nrrd", ".nhdr", ".mgz", ".mgh", ".img", ".hdr", ".mnc", ".png")


def is_nifti(path: Path | str) -> bool:
    """Whether a name is that of a NIfTI file."""
    return str(path).lower().endswith(SUFFIXES)


def nifti_name(path: Path) -> Path:
    """`path`, with .nii.gz added where it is not the name of a NIfTI file."""
    return path if is_nifti(path) else path.with_name(f"{path.name}.nii.gz")


def is_dicom(path: Path) -> bool:
    """Whether a file has the DICOM prefix (PS3.10 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def load(
    path: str | Path,
    *,
    series: str | None = None,
    names: Sequence[str] | None = None,
    slice_axis: int | None = None,
) -> Volume:
    """Read a NIfTI file, or a DICOM folder or file.

    Args:
        path: what to read.
        series: SeriesInstanceUID, for a folder with several DICOM series; UID/2 for the second of
            several stacks, contrasts or time points in one series.
        names: the files of a DICOM folder to read, instead of all with its subfolders.
        slice_axis: the through-plane axis of a NIfTI file, 0 to 2; None takes the one that its
            header names, else the clearly thickest, else the last.

    Raises:
        InputError: missing, damaged, or not a magnitude MR series; `GeometryError` and
            `SeriesChoiceError` are its special cases.
    """
    path = Path(path)
    nifti = is_nifti(path) and not path.is_dir()
    if nifti and series is not None:
        raise InputError(f"{path} is a NIfTI file: a series can be chosen in DICOM folders only.")
    if nifti:
        from mrlift.io.nifti import load_nifti  # here: nibabel takes a tenth of a second

        volume = load_nifti(path)
    else:
        volume = load_series(path, series, names)
    if slice_axis is not None:
        if not nifti:
            raise InputError(f"{path}: the slice axis of a DICOM series is given by its headers.")
        volume = replace(volume, slice_axis=slice_axis)
    if volume.voxels.dtype.kind == "f" and not np.isfinite(volume.voxels).all():
        bad = int(np.count_nonzero(~np.isfinite(volume.voxels)))
        raise InputError(
            f"{path}: expected finite voxels, found {bad} that are NaN or infinite. "
            "Replace them (0 in air) and try again."
        )
    return volume


def check_output(source: Path, path: Path, *, overwrite: bool) -> None:
    """Say before any work whether `path` may be written for a series from `source`.

    Raises:
        OutputError: it exists or cannot be written, is of another format, or is or lies where the
            source is.
    """
    if path.suffix.lower() in FOREIGN:
        raise OutputError(f"{path}: mrlift writes .nii, .nii.gz and DICOM, not {path.suffix}.")
    here, there = source.resolve(), path.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise OutputError(
            f"The output {path} and the input {source} are one or lie within each other. Choose a "
            "place beside the input."
        )
    refuse_existing(path, overwrite=overwrite, folder=_is_folder_name(path))


def check_format(
    volume: Volume, path: Path, transfer_syntax: str = "explicit", *, is_map: bool = False
) -> None:
    """Say before any work whether a volume, once derived, could be saved in the format of `path`.

    With `is_map` it is a map on the same slices, see `Derivation.quantity`.

    Raises:
        OutputError: DICOM without a DICOM source of as many slices, several slices into one
            file, or a transfer syntax that is unknown or asked of NIfTI.
    """
    if transfer_syntax not in SYNTAXES:
        raise OutputError(
            f"Expected a transfer syntax of {', '.join(SYNTAXES)}, found {transfer_syntax!r}."
        )
    if is_nifti(path):
        if transfer_syntax != "explicit":
            raise OutputError(f"{path}: NIfTI has no transfer syntax. Leave --transfer-syntax out.")
        return
    if not isinstance(volume.source, SeriesSource):
        raise OutputError(
            f"{path}: a DICOM series can only be derived from a DICOM series. Give a name that "
            "ends in .nii or .nii.gz, or pass --nifti."
        )
    if volume.slice_count != len(volume.source.instances):
        raise OutputError(
            f"The volume has {volume.slice_count} slices, the DICOM series it came from "
            f"{len(volume.source.instances)}: their headers cannot be matched. Write NIfTI "
            "(--nifti)."
        )
    multiframe = volume.source.multiframe
    if multiframe is not None and multiframe.get("SOPClassUID") != EnhancedMRImageStorage:
        name = getattr(multiframe.get("SOPClassUID"), "name", "an object without SOPClassUID")
        raise OutputError(f"{path}: no series is derived from {name}. Write NIfTI (--nifti).")
    if multiframe is not None and is_map:
        raise OutputError(
            f"{path}: maps of an Enhanced MR object are written as NIfTI only. Give a name that "
            "ends in .nii.gz."
        )
    if volume.slice_count > 1 and multiframe is None and not _is_folder_name(path):
        raise OutputError(
            f"{path} names one file, but the series has {volume.slice_count} slices. "
            "Give the name of a folder."
        )


def _is_folder_name(path: Path) -> bool:
    return not is_nifti(path) and path.suffix.lower() != ".dcm"


def save(
    volume: Volume,
    path: str | Path,
    *,
    overwrite: bool = False,
    transfer_syntax: str = "explicit",
    as_of: datetime | None = None,
    work: Path | None = None,
) -> None:
    """Write a volume; the result appears whole or not at all.

    A `path` that ends in .nii or .nii.gz gives a NIfTI file, any other a new folder with a derived
    DICOM series, or for a single slice or an Enhanced MR object and a name that ends in .dcm one
    file.

    Args:
        volume: what to write.
        path: where.
        overwrite: replace what is there.
        transfer_syntax: of DICOM: explicit, rle, jpeg-ls or jpeg-2000, all of them lossless.
        as_of: what DICOM is to state as the time of derivation. UIDs then follow from the content:
            the same volume gives the same files. None is now, with new UIDs.
        work: where to keep what is unfinished, on the same file system; None is beside `path`.

    Raises:
        OutputError: `path` exists and `overwrite` is false, it cannot be written, or a DICOM
            series is asked of a volume that did not come from one.
    """
    path = Path(path)
    is_map = volume.derivation is not None and bool(volume.derivation.quantity)
    check_format(volume, path, transfer_syntax, is_map=is_map)
    nifti = is_nifti(path)
    if volume.derivation is None and not nifti:
        raise OutputError("mrlift did nothing to this DICOM series: copy its files instead.")
    folder = _is_folder_name(path)
    with replacing(path, overwrite=overwrite, folder=folder, work=work) as part:
        if nifti:
            from mrlift.io.nifti import save_nifti

            save_nifti(volume, part)
        else:
            save_series(volume, part, SYNTAXES[transfer_syntax], as_of)


def find_series(folder: Path) -> list[Path]:
    """The paths under `folder` that `load` can be tried on, sorted.

    They are NIfTI files, and folders that directly hold a DICOM file. Hidden ones are passed over:
    they are unfinished, or the operating system's.

    Raises:
        InputError: `folder` is not a folder, or something in it may not be read.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder with series, found {folder}.")
    try:
        files = [
            p
            for p in folder.rglob("*")
            if p.is_file() and not any(n.startswith(".") for n in p.relative_to(folder).parts)
        ]
        return sorted({p if is_nifti(p) else p.parent for p in files if is_nifti(p) or is_dicom(p)})
    except OSError as error:
        raise InputError(f"{error.filename} may not be read: {error.strerror}.") from error
