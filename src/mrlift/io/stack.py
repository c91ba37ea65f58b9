"""What makes DICOM instances one regular stack of magnitude images, and its affine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    MRImageStorage,
)

from mrlift.errors import GeometryError, InputError

READ = (MRImageStorage, EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_DIRECTION = 1e-4  # largest difference between direction cosines within one series
UNIT = 1e-3  # largest departure of the cosines from unit length and from a right angle
SAME_POSITION = 1e-3  # mm along the normal
REGULAR = 0.05  # share of the slice distance by which a slice may lie off the regular stack

NOT_MAGNITUDE = {
    "P": "phase", "PHASE": "phase", "PHASE MAP": "phase", "PHASE_MAP": "phase",
    "SW_P": "phase",
    "R": "real part", "REAL": "real part", "I": "imaginary part", "IMAGINARY": "imaginary part",
    "ADC": "parametric map", "FA": "parametric map", "TRACEW": "parametric map",
    "T1 MAP": "parametric map", "T2 MAP": "parametric map", "T2_STAR MAP": "parametric map",
    "B0 MAP": "parametric map", "VELOCITY": "velocity map", "LOCALIZER": "localiser",
}  # fmt: skip
NEEDED = (
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
    "SOPInstanceUID", "StudyInstanceUID", "BitsAllocated", "BitsStored", "PixelRepresentation",
)  # fmt: skip


def image_type(header: Dataset) -> list[str]:
    """The values of ImageType; pydicom gives a bare string where there is only one."""
    value = header.get("ImageType") or []
    return [value] if isinstance(value, str) else [str(v) for v in value]


def refuse_other_modalities(headers: list[FileDataset]) -> None:
    """Refuse a series of anything but MR.

    Raises:
        InputError: it is; the message names a file and its modality.
    """
    for header in headers:
        modality = header.get("Modality", "unknown")
        if modality != "MR":
            file = Path(str(header.filename))
            raise InputError(f"{file}: expected an MR image, found modality {modality}.")


def refuse_unsuitable(header: FileDataset) -> None:
    """Refuse what is not one grey magnitude MR image with a place.

    Raises:
        InputError: colour, another object, frames without a place, phase, maps, mosaics.
        GeometryError: no position, orientation or spacing.
    """
    file = Path(str(header.filename))
    photometric = header.get("PhotometricInterpretation")
    if header.get("SamplesPerPixel", 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(
            f"{file}: expected one grey value per pixel, found a colour image ({photometric}). "
            "Colour maps cannot be sharpened."
        )
    sop_class = header.get("SOPClassUID", header.file_meta.get("MediaStorageSOPClassUID"))
    if sop_class not in READ:
        name = getattr(sop_class, "name", sop_class)
        raise InputError(
            f"{file}: expected MR Image Storage or Enhanced MR Image Storage, found {name}. Send "
            "the images themselves."
        )
    if int(header.get("NumberOfFrames", 1) or 1) > 1:
        raise InputError(
            f"{file}: several frames in a classic MR image, which says where one frame is only. "
            "Convert it with dcm2niix and give the NIfTI file."
        )
    kinds = [value.upper() for value in image_type(header)]
    if "MOSAIC" in kinds or _holds_tiles(header):
        raise InputError(
            f"{file}: a Siemens mosaic, many slices tiled in one image. Convert it with dcm2niix "
            "and give the NIfTI file."
        )
    if (component := header.get("ComplexImageComponent", "MAGNITUDE")) != "MAGNITUDE":
        raise InputError(
            f"{file}: expected a magnitude image, found ComplexImageComponent {component}."
        )
    for kind in kinds[2:]:
        if kind in NOT_MAGNITUDE:
            raise InputError(
                f"{file}: expected a magnitude image, found a {NOT_MAGNITUDE[kind]} "
                f"(ImageType {'/'.join(kinds)})."
            )
    if header.get("HighBit") is not None and header.HighBit != header.get("BitsStored", 0) - 1:
        raise InputError(
            f"{file}: HighBit {header.HighBit} does not go with BitsStored "
            f"{header.get('BitsStored')}: the pixels are shifted or hold overlays. Rewrite it with "
            "its pixels in the low bits."
        )
    missing = [name for name in NEEDED if header.get(name) is None]
    if missing:
        raise GeometryError(
            f"{file}: the header lacks {', '.join(missing)}, without which nothing can be placed."
        )


def _holds_tiles(header: Dataset) -> bool:
    """Whether Siemens' NumberOfImagesInMosaic says so; some tools drop MOSAIC from ImageType."""
    try:
        block = header.private_block(0x0019, "SIEMENS MR HEADER")
        return 0x0A in block and int(block[0x0A].value) > 1
    except (KeyError, TypeError, ValueError):
        return False


def refuse_mixed(headers: list[FileDataset]) -> None:
    """Refuse a series whose instances differ in orientation, size, spacing, echo or pixel type.

    Raises:
        GeometryError: they do; the message names the values.
    """
    facts: tuple[tuple[str, Callable[[FileDataset], object]], ...] = (
        ("sizes", lambda h: (int(h.Columns), int(h.Rows))),
        ("pixel spacings", lambda h: tuple(round(float(v), 5) for v in h.PixelSpacing)),
        ("echo times", lambda h: str(h.get("EchoTime", ""))),
        ("photometric interpretations", lambda h: str(h.PhotometricInterpretation)),
        ("pixel types", lambda h: (h.BitsAllocated, h.BitsStored, h.PixelRepresentation)),
    )
    orientation = np.asarray(headers[0].ImageOrientationPatient, float)
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


def stacked(
    headers: list[FileDataset],
) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
    """The order of `headers` along the normal, the RAS+ affine of the stack, and the residuals.

    Residuals (n, 3) are ImagePositionPatient minus the regular stack, mm, LPS.

    Raises:
        GeometryError: gaps, several slices at one position, a sheared or irregular stack.
    """
    first = headers[0]
    row, column = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
    normal = np.cross(row, column)
    lengths = np.linalg.norm([row, column], axis=1)
    if not (np.abs([*(lengths - 1), row @ column]) < UNIT).all():
        raise GeometryError(
            "ImageOrientationPatient does not hold two perpendicular unit vectors. Repair it."
        )
    row_spacing, column_spacing = (float(v) for v in first.PixelSpacing)
    if not (row_spacing > 0 and column_spacing > 0):
        raise GeometryError(f"PixelSpacing {first.PixelSpacing} is not positive. Repair it.")
    positions = np.array([np.asarray(h.ImagePositionPatient, float) for h in headers])
    order = np.argsort(positions @ normal, kind="stable")
    positions = positions[order]
    _refuse_uneven(np.diff(positions @ normal))
    if len(headers) > 1:
        step = (positions[-1] - positions[0]) / (len(headers) - 1)
    else:
        distance = first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0
        step = normal * float(distance)
    residuals = positions - (positions[0] + np.arange(len(headers))[:, None] * step)
    _refuse_irregular(step, normal, residuals)
    lps = np.eye(4)
    lps[:3] = np.column_stack([row * column_spacing, column * row_spacing, step, positions[0]])
    return [int(i) for i in order], LPS_TO_RAS @ lps, residuals


def _refuse_uneven(steps: NDArray[np.float64]) -> None:
    if steps.size == 0:
        return
    same = int(np.count_nonzero(steps < SAME_POSITION))
    if same:
        raise GeometryError(
            f"The {steps.size + 1} slices stand at only {steps.size + 1 - same} positions: several "
            "echoes, time points or copies in one series. Split it so that each position occurs "
            "once."
        )
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > REGULAR * usual)
    if wrong.size:
        k = int(wrong[0])
        raise GeometryError(
            f"Slices {k + 1} and {k + 2} are {steps[k]:.4g} mm apart, the others {usual:.4g} mm: "
            "the series has a gap or an uneven step. Add the missing slice or split the series."
        )


def _refuse_irregular(
    step: NDArray[np.float64], normal: NDArray[np.float64], residuals: NDArray[np.float64]
) -> None:
    distance = float(np.linalg.norm(step))
    tilt = float(np.linalg.norm(step - normal * (step @ normal)))
    if tilt > REGULAR * distance:
        raise GeometryError(
            f"Each slice is shifted sideways by {tilt:.3g} mm against the one before: the stack is "
            "sheared (a tilted gantry?). Resample it to a regular grid first."
        )
    away = np.linalg.norm(residuals, axis=1)
    if away.max() > REGULAR * distance:
        raise GeometryError(
            f"Slice {int(away.argmax()) + 1} lies {away.max():.3g} mm away from where a regular "
            "stack has it. Split the series, or resample it to a regular grid first."
        )


def odd_facts(first: FileDataset) -> Iterator[str]:
    """What a user should know about a series that is read all the same."""
    # Frequency rows, frequency columns, phase rows, phase columns; unused ones are 0.
    matrix = [int(v) for v in first.get("AcquisitionMatrix", None) or []]
    if len(matrix) == 4:
        rows, columns = max(matrix[0], matrix[2]), max(matrix[1], matrix[3])
        # Some scanners name the two the wrong way round, which is no interpolation.
        swapped = (rows, columns) == (int(first.Columns), int(first.Rows))
        if not swapped and (0 < rows < int(first.Rows) or 0 < columns < int(first.Columns)):
            yield (
                f"The scanner interpolated this series: acquired {columns}x{rows}, stored "
                f"{int(first.Columns)}x{int(first.Rows)} (columns x rows). Its true resolution is "
                "lower than its matrix."
            )
    if first.PhotometricInterpretation == "MONOCHROME1":
        yield "MONOCHROME1: low values are shown bright."
