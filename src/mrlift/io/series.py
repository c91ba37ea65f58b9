"""Classic DICOM MR series: find them, check them, stack them.

A series is sorted by position along the slice normal (PS3.3 C.7.6.2); file names and
InstanceNumber are never used for geometry.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import EnhancedMRImageStorage, MRImageStorage

from mrlift.errors import GeometryError, InputError, SeriesChoiceError
from mrlift.volume import Volume

log = logging.getLogger(__name__)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_DIRECTION = 1e-4  # largest difference between direction cosines within one series
SAME_POSITION = 1e-3  # mm along the normal
REGULAR = 0.05  # share of the slice distance by which one distance may differ from the others

JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")  # not decoded by pydicom

NOT_MAGNITUDE = {
    "P": "phase", "PHASE": "phase", "PHASE MAP": "phase", "PHASE_MAP": "phase",
    "R": "real part", "REAL": "real part", "I": "imaginary part", "IMAGINARY": "imaginary part",
    "ADC": "parametric map", "FA": "parametric map", "TRACEW": "parametric map",
    "T1 MAP": "parametric map", "T2 MAP": "parametric map", "T2_STAR MAP": "parametric map",
    "B0 MAP": "parametric map", "VELOCITY": "velocity map", "LOCALIZER": "localiser",
}  # fmt: skip


@dataclass(frozen=True)
class SeriesSource:
    """The headers of a series without pixel data, in the order of the volume's slices."""

    instances: tuple[FileDataset, ...]


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
    """Headers of the DICOM image files in a folder (searched with its subfolders) or of one file.

    Files in a folder that are not DICOM images (a DICOMDIR, a licence) are passed over.

    Raises:
        InputError: `path` does not exist, or there is no DICOM image in it.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist. Check the path.")
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
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
    for header in headers:
        _refuse_unsuitable(header)
    _refuse_mixed(headers)
    headers, affine = _stack(headers)
    first = headers[0]
    planes = [_decode(header) for header in headers]
    voxels = np.stack([_rescaled(h, p) for h, p in zip(headers, planes, strict=True)], axis=-1)
    return Volume(voxels.transpose(1, 0, 2), affine, 2, SeriesSource(tuple(headers)), _notes(first))


def rescale_of(header: Dataset) -> tuple[float, float]:
    """Slope and intercept of the modality transformation (PS3.3 C.11.1); a slope of 0 reads 1."""
    slope = float(header.get("RescaleSlope", 1) or 1)
    return slope, float(header.get("RescaleIntercept", 0) or 0)


def _read_header(file: Path) -> FileDataset | None:
    """The data set of a DICOM image up to its pixel data, or None for any other file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except InvalidDicomError:
            return None
        except Exception as error:  # damaged files make the parser raise almost anything
            raise InputError(f"{file} is a damaged DICOM file: {error}.") from error
    if header.file_meta.get("MediaStorageSOPClassUID", "") == "1.2.840.10008.1.3.10":
        return None  # DICOMDIR
    if "SeriesInstanceUID" not in header:
        return None
    return header


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


def _refuse_unsuitable(header: FileDataset) -> None:
    file = _file(header)
    modality = header.get("Modality", "unknown")
    if modality != "MR":
        raise InputError(f"{file}: expected an MR image, found modality {modality}.")
    if header.get("SamplesPerPixel", 1) != 1:
        raise InputError(
            f"{file}: expected one grey value per pixel, found a colour image "
            f"({header.get('PhotometricInterpretation')}). Colour maps cannot be sharpened."
        )
    sop_class = header.get("SOPClassUID", header.file_meta.get("MediaStorageSOPClassUID"))
    if sop_class == EnhancedMRImageStorage or int(header.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(
            f"{file}: a multi-frame object. Only classic single-frame MR images are read so far; "
            "convert it with dcm2niix and give the NIfTI file."
        )
    if sop_class != MRImageStorage:
        name = getattr(sop_class, "name", sop_class)
        raise InputError(f"{file}: expected MR Image Storage, found {name}.")
    kinds = [str(v).upper() for v in header.get("ImageType", None) or []]
    if "MOSAIC" in kinds:
        raise InputError(
            f"{file}: a Siemens mosaic, many slices tiled in one image. Convert it with dcm2niix "
            "and give the NIfTI file."
        )
    for kind in kinds[2:]:
        if kind in NOT_MAGNITUDE:
            raise InputError(
                f"{file}: expected a magnitude image, found a {NOT_MAGNITUDE[kind]} "
                f"(ImageType {'/'.join(kinds)})."
            )
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
    missing = [name for name in needed if header.get(name) is None]
    if missing:
        raise GeometryError(f"{file}: {', '.join(missing)} missing, so its place is unknown.")


def _refuse_mixed(headers: list[FileDataset]) -> None:
    first = headers[0]
    facts: tuple[tuple[str, Callable[[FileDataset], object]], ...] = (
        ("sizes", lambda h: (int(h.Columns), int(h.Rows))),
        ("pixel spacings", lambda h: tuple(round(float(v), 5) for v in h.PixelSpacing)),
        ("echo times", lambda h: str(h.get("EchoTime", ""))),
        ("pixel types", lambda h: (h.get("BitsAllocated"), h.get("PixelRepresentation"))),
    )
    orientation = np.asarray(first.ImageOrientationPatient, float)
    for header in headers:
        other = np.asarray(header.ImageOrientationPatient, float)
        if np.abs(other - orientation).max() > SAME_DIRECTION:
            raise GeometryError(
                "The slices have different orientations: a localiser or a radial series. "
                "Split the series by orientation."
            )
    for name, fact in facts:
        values = sorted({fact(h) for h in headers}, key=str)
        if len(values) > 1:
            raise GeometryError(
                f"The series mixes {name}: {', '.join(map(str, values[:4]))}. "
                "Split it into one series for each."
            )


def _stack(headers: list[FileDataset]) -> tuple[list[FileDataset], NDArray[np.float64]]:
    """Headers in order along the normal, and the RAS+ affine of the stack."""
    first = headers[0]
    row, column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    if not np.isfinite(normal).all() or abs(np.linalg.norm(normal) - 1) > 1e-2:
        raise GeometryError(
            "ImageOrientationPatient does not hold two perpendicular unit vectors. "
            "Repair the headers."
        )
    positions = np.array([np.asarray(h.ImagePositionPatient, float) for h in headers])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    headers, positions, along = [headers[i] for i in order], positions[order], along[order]
    steps = np.diff(along)
    _refuse_irregular(headers, steps)
    if len(headers) > 1:
        step = (positions[-1] - positions[0]) / (len(headers) - 1)
        tilt = float(np.linalg.norm(step - normal * (step @ normal)))
        if tilt > REGULAR * float(np.linalg.norm(step)):
            raise GeometryError(
                f"Each slice is shifted sideways by {tilt:.3g} mm against the one before: the "
                "stack is sheared (a tilted gantry?). Resample it to a regular grid first."
            )
    else:
        thickness = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0
        step = normal * float(thickness)
    row_spacing, column_spacing = (float(v) for v in first.PixelSpacing)
    if not (row_spacing > 0 and column_spacing > 0):
        raise GeometryError(f"PixelSpacing {first.PixelSpacing} is not positive. Repair it.")
    lps = np.eye(4)
    lps[:3] = np.column_stack([row * column_spacing, column * row_spacing, step, positions[0]])
    return headers, LPS_TO_RAS @ lps


def _refuse_irregular(headers: list[FileDataset], steps: NDArray[np.float64]) -> None:
    if steps.size == 0:
        return
    same = int(np.count_nonzero(steps < SAME_POSITION))
    if same:
        raise GeometryError(
            f"The {len(headers)} slices stand at only {len(headers) - same} positions: several "
            "echoes, time points or copies in one series. Split it so that each position occurs "
            "once."
        )
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > REGULAR * usual)
    if wrong.size:
        k = int(wrong[0])
        raise GeometryError(
            f"Slices {k + 1} and {k + 2} are {steps[k]:.4g} mm apart, the others {usual:.4g} mm: "
            f"the series has a gap or an uneven step. Add the missing slice or split the series."
        )


def _decode(header: FileDataset) -> NDArray[np.number]:
    """Stored pixel values (rows, columns) of one instance."""
    file = _file(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = _pixels(header)
        except Exception as error:  # the decoders raise almost anything on damaged data
            raise InputError(
                f"{file}: the pixel data cannot be decoded ({_first_line(error)}). The file is "
                "truncated or damaged, or uses a compression that is not supported."
            ) from error
    expected = (int(header.Rows), int(header.Columns))
    if pixels.shape != expected:
        raise InputError(f"{file}: expected {expected} pixels, found {pixels.shape}.")
    return pixels


def _pixels(header: FileDataset) -> NDArray[np.number]:
    if header.file_meta.TransferSyntaxUID in JPEG_LOSSLESS and find_spec("dicomsdl"):
        import dicomsdl

        return np.array(dicomsdl.open(str(_file(header))).pixelData(storedvalue=True))
    return pydicom.dcmread(_file(header)).pixel_array


def _file(header: FileDataset) -> Path:
    return Path(str(header.filename))


def _rescaled(header: FileDataset, pixels: NDArray[np.number]) -> NDArray[np.number]:
    slope, intercept = rescale_of(header)
    if (slope, intercept) == (1.0, 0.0):
        return pixels
    return (pixels * np.float64(slope) + intercept).astype(np.float32)


def _notes(first: FileDataset) -> tuple[str, ...]:
    return tuple(_odd_facts(first))


def _odd_facts(first: FileDataset) -> Iterator[str]:
    acquired = [int(v) for v in first.get("AcquisitionMatrix", None) or [] if int(v)]
    stored = int(first.Columns), int(first.Rows)
    if (
        len(acquired) == 2
        and min(acquired) > 0
        and acquired[0] * acquired[1] < 0.9 * (stored[0] * stored[1])
    ):
        yield (
            f"The scanner interpolated this series: acquired {acquired[0]}x{acquired[1]}, stored "
            f"{stored[0]}x{stored[1]}. Its true resolution is lower than its matrix."
        )
    if first.get("PhotometricInterpretation") == "MONOCHROME1":
        yield "MONOCHROME1: low values are shown bright."


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
