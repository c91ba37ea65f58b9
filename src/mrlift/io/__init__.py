"""Reading and writing series: `load` and `save` go by what a path holds."""

from pathlib import Path

import numpy as np

from mrlift.errors import InputError, OutputError
from mrlift.io.atomic import refuse_existing, replacing
from mrlift.io.derived import save_series
from mrlift.io.nifti import SUFFIXES, load_nifti, save_nifti
from mrlift.io.series import SeriesSummary, list_series, load_series, read_headers
from mrlift.volume import Volume

__all__ = [
    "SeriesSummary",
    "check_output",
    "find_series",
    "is_nifti",
    "list_series",
    "load",
    "read_headers",
    "refuse_existing",
    "replacing",
    "save",
]


def is_nifti(path: Path) -> bool:
    """Whether a name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def load(path: str | Path, *, series: str | None = None) -> Volume:
    """Read a NIfTI file, or a DICOM folder or file.

    Args:
        path: what to read.
        series: SeriesInstanceUID, for a folder with several DICOM series.

    Raises:
        InputError: missing, damaged, or not a magnitude MR series; `GeometryError` and
            `SeriesChoiceError` are its special cases.
    """
    path = Path(path)
    nifti = is_nifti(path) and not path.is_dir()
    volume = load_nifti(path) if nifti else load_series(path, series)
    if volume.voxels.dtype.kind == "f" and not np.isfinite(volume.voxels).all():
        bad = int(np.count_nonzero(~np.isfinite(volume.voxels)))
        raise InputError(
            f"{path}: expected finite voxels, found {bad} that are NaN or infinite. "
            "Replace them (0 in air) and try again."
        )
    return volume


def check_output(source: Path, path: Path, *, overwrite: bool) -> None:
    """Say before any work whether `path` could be written for a volume from `source`.

    Raises:
        OutputError: as `save` would, where that can be known already.
    """
    if is_nifti(source) and not source.is_dir() and not is_nifti(path):
        raise OutputError(
            f"{path}: a NIfTI file can only become NIfTI. Give a name that ends in .nii or .nii.gz."
        )
    refuse_existing(path, overwrite=overwrite)


def save(volume: Volume, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a volume; the result appears whole or not at all.

    A `path` that ends in .nii or .nii.gz gives a NIfTI file, any other a new folder with a derived
    DICOM series, or for a single slice and a name that ends in .dcm one file.

    Raises:
        OutputError: `path` exists and `overwrite` is false, it cannot be written, or a DICOM
            series is asked of a volume that did not come from one.
    """
    path = Path(path)
    nifti = is_nifti(path)
    folder = not nifti and path.suffix.lower() != ".dcm"
    with replacing(path, overwrite=overwrite, folder=folder) as part:
        (save_nifti if nifti else save_series)(volume, part)


def find_series(folder: Path) -> list[Path]:
    """The paths under `folder` that `load` can be tried on, sorted.

    They are NIfTI files, and folders with files that end in .dcm.

    Raises:
        InputError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder with series, found {folder}.")
    nifti = [p for p in folder.rglob("*") if p.is_file() and is_nifti(p)]
    dicom = {p.parent for p in folder.rglob("*.dcm") if p.is_file()}
    return sorted([*nifti, *dicom])
