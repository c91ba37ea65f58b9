"""Enhanced MR multi-frame objects (PS3.3 A.36.2) as a list of frames.

Each frame is shown as the header of a classic MR image, so that one set of rules judges both
kinds. Nothing is read from private elements.
"""

from pathlib import Path

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage

from mrlift.errors import InputError
from mrlift.io.limits import refuse_oversize

MULTIFRAME = (EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage)
# Of the object, for all of its frames.
COMMON = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID",
    "Modality", "PhotometricInterpretation", "SamplesPerPixel", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "ImageType", "ComplexImageComponent",
)  # fmt: skip
# Functional group macros (PS3.3 C.7.6.16.2 and C.8.13.5) whose attributes a frame is judged by.
MACROS = (
    "FrameContentSequence", "PlanePositionSequence", "PlaneOrientationSequence",
    "PixelMeasuresSequence", "MRImageFrameTypeSequence", "MREchoSequence", "MRDiffusionSequence",
    "CardiacSynchronizationSequence", "MRVelocityEncodingSequence", "MRFOVGeometrySequence",
    "PixelValueTransformationSequence", "TemporalPositionSequence",
)  # fmt: skip


def is_multiframe(header: FileDataset) -> bool:
    """Whether a header is that of an Enhanced MR object, converted ones included."""
    sop_class = header.get("SOPClassUID", header.file_meta.get("MediaStorageSOPClassUID"))
    return sop_class in MULTIFRAME


def frames_of(header: FileDataset) -> list[FileDataset]:
    """Each frame of an object as the header of a classic image.

    Raises:
        InputError: functional groups are missing or do not match NumberOfFrames, or the object is
            a piece of a concatenation.
    """
    file = Path(str(header.filename))
    groups = header.get("PerFrameFunctionalGroupsSequence") or []
    count = int(header.get("NumberOfFrames", 1) or 1)
    if len(groups) != count:
        raise InputError(
            f"{file}: expected functional groups for {count} frames, found {len(groups)}. The "
            "object is damaged, or no Enhanced MR object."
        )
    refuse_oversize(file, int(header.get("Rows", 0)), int(header.get("Columns", 0)), count)
    if int(header.get("InConcatenationTotalNumber", 1) or 1) > 1 or (
        "ConcatenationUID" in header and "InConcatenationTotalNumber" not in header
    ):
        raise InputError(
            f"{file}: one piece of an object that was split (a concatenation). Ask the sender for "
            "the object in one piece."
        )
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    return [_frame(header, [*shared, group]) for group in groups]


def _frame(header: FileDataset, groups: list[Dataset]) -> FileDataset:
    """The object's own attributes, overruled by shared groups and those by per-frame ones."""
    frame = FileDataset(header.filename or "", {}, file_meta=header.file_meta)
    items = [header, *(s[0] for g in groups for name in MACROS if (s := g.get(name)))]
    for name in COMMON:
        if name in header:
            frame.add(header[name])
    for item in items[1:]:
        for element in item:
            if not element.tag.is_private and element.VR != "SQ":
                frame.add(element)
    if "FrameType" in frame:
        # add_new replaces the element; assigning a value would change the object's own.
        frame.add_new("ImageType", "CS", frame.FrameType)
    if "EffectiveEchoTime" in frame:
        frame.add_new("EchoTime", "DS", f"{frame.EffectiveEchoTime:.6g}")
    _set_acquisition_matrix(frame)
    return frame


def _set_acquisition_matrix(frame: FileDataset) -> None:
    """AcquisitionMatrix from the MR FOV/Geometry macro (PS3.3 C.8.13.5.3)."""
    frequency = int(frame.get("MRAcquisitionFrequencyEncodingSteps", 0) or 0)
    phase = int(frame.get("MRAcquisitionPhaseEncodingStepsInPlane", 0) or 0)
    direction = frame.get("InPlanePhaseEncodingDirection")
    if frequency and phase and direction in ("ROW", "COLUMN"):
        # Phase encoded along a row counts columns.
        along_row = direction == "ROW"
        frame.AcquisitionMatrix = (
            [frequency, 0, 0, phase] if along_row else [0, frequency, phase, 0]
        )
