"""What a derived DICOM header keeps, drops and says of its origin, classic or Enhanced.

Sources: PS3.3 C.7.6.1.1.3 (derivation), C.7.5.1 (contributing equipment), C.12.1 (SOP common).
"""

import re
from copy import deepcopy
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import DSfloat

from mrlift.io.pixels import stored_type
from mrlift.io.series import rescale_of
from mrlift.volume import Derivation, fit_range

# What describes the old pixels, or where and by whom the old instance was stored.
DROPPED = (
    "InstanceCreatorUID", "EncryptedAttributesSequence", "SOPInstanceStatus",
    "SOPAuthorizationDateTime", "RetrieveAETitle", "RetrieveURL", "InstanceAvailability",
    "PixelData", "FloatPixelData", "DoubleFloatPixelData", "IconImageSequence", "NumberOfFrames",
    "DigitalSignaturesSequence", "MACParametersSequence", "DataSetTrailingPadding",
    "PixelAspectRatio", "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
)  # fmt: skip
LOSSY_METHODS = {  # transfer syntax -> LossyImageCompressionMethod (PS3.3 C.7.6.1.1.5.1)
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
# What is true of a picture's values and not of a map made from it.
OF_THE_PICTURE = (
    "WindowCenterWidthExplanation", "VOILUTSequence", "ModalityLUTSequence",
    "RealWorldValueMappingSequence", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SmallestImagePixelValue", "LargestImagePixelValue",
)  # fmt: skip
MAP_STEPS = 32767  # of a signed 16-bit integer
SERIES_NUMBER_STEP = 1000  # keeps the derived series apart from the scanner's own numbers


def derived_header(original: FileDataset, derivation: Derivation, now: datetime) -> FileDataset:
    """A copy of the header with new identity, equipment and honesty about compression."""
    dataset = FileDataset("", {}, preamble=b"\0" * 128)
    for element in original:
        tag = element.tag
        # 50xx are curves, 60xx overlays; 5200 holds the frames.
        if not (tag.is_private or tag.element == 0 or tag.group >> 8 in (0x50, 0x60)):
            dataset.add(deepcopy(element))
    dataset.walk(_remove_private)
    if not original.file_meta.TransferSyntaxUID.is_little_endian:
        dataset.walk(_swap_words)
    for name in DROPPED:
        if name in dataset:
            delattr(dataset, name)
    _set_identity(dataset, original, derivation, now)
    _set_equipment(dataset, derivation, now)
    _set_lossy(dataset, original)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def _remove_private(dataset: Dataset, element: DataElement) -> None:
    if element.tag.is_private:
        del dataset[element.tag]


def _swap_words(_: Dataset, element: DataElement) -> None:
    """What pydicom leaves undone: the bytes of OW stay as in the file (PS3.5 6.2)."""
    if element.VR == "OW" and element.value:
        element.value = np.frombuffer(element.value, "<u2").byteswap().tobytes()


def _set_identity(
    dataset: Dataset, original: Dataset, derivation: Derivation, now: datetime
) -> None:
    date, clock = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    dataset.SOPInstanceUID = generate_uid(prefix=None)
    dataset.SeriesNumber = int(original.get("SeriesNumber") or 0) + SERIES_NUMBER_STEP
    suffix = f" {derivation.label} RESEARCH"
    name = str(original.get("SeriesDescription", "")) or str(original.get("ProtocolName", "MR"))
    dataset.SeriesDescription = (name[: 64 - len(suffix)] + suffix).strip()  # LO: 64 characters
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = date
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = clock
    dataset.ContentQualification = "RESEARCH"


def _set_equipment(dataset: Dataset, derivation: Derivation, now: datetime) -> None:
    equipment = Dataset()
    equipment.Manufacturer = "mrlift"
    equipment.ManufacturerModelName = derivation.model[:64]
    equipment.SoftwareVersions = derivation.version
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f")
    equipment.ContributionDescription = derivation.description[:1024]
    equipment.PurposeOfReferenceCodeSequence = Sequence([_code("109102", "Processing Equipment")])
    before = list(dataset.get("ContributingEquipmentSequence", None) or [])
    dataset.ContributingEquipmentSequence = Sequence([*before, equipment])


def _set_lossy(dataset: Dataset, original: FileDataset) -> None:
    method = LOSSY_METHODS.get(original.file_meta.TransferSyntaxUID)
    if method and dataset.get("LossyImageCompression") != "01":
        pixels = original.Rows * original.Columns * original.BitsAllocated / 8
        pixels *= int(original.get("NumberOfFrames", 1) or 1)
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = method
        size = Path(str(original.filename)).stat().st_size  # little else than the pixels
        dataset.LossyImageCompressionRatio = decimal(round(pixels / size, 1))


def set_derivation(
    item: Dataset, earlier: list[Dataset], derivation: Derivation, sources: list[Dataset]
) -> None:
    """DerivationDescription, DerivationCodeSequence and SourceImageSequence of `item`.

    Args:
        item: a data set, or an item of DerivationImageSequence.
        earlier: what told the source's own derivation, whose words and codes go first.
        derivation: what mrlift did.
        sources: references to the images it did it to.
    """
    told = " ".join(filter(None, (str(e.get("DerivationDescription", "")) for e in earlier)))
    story = derivation.description
    if told:
        story = f"{told[: max(0, 1000 - len(story))]} Then: {story}"
    item.DerivationDescription = story[:1024]  # ST
    codes = [c for e in earlier for c in e.get("DerivationCodeSequence", None) or []]
    item.DerivationCodeSequence = Sequence([*codes, _code("113085", "Spatial resampling")])
    item.SourceImageSequence = Sequence(sources)


def reference_to(original: Dataset, frame: int | None = None) -> Dataset:
    """A reference to a source image, or to one of its frames, counted from 1."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = original.SOPClassUID
    reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
    if frame is not None:
        reference.ReferencedFrameNumber = frame
    reference.PurposeOfReferenceCodeSequence = Sequence(
        [_code("121322", "Source image for image processing operation")]
    )
    return reference


def stored_values(plane: NDArray[np.number], original: Dataset) -> NDArray[np.number]:
    """Values as the source stores them: its slope, width and signedness; clipped, not wrapped."""
    slope, intercept = rescale_of(original)
    bits, signed = int(original.BitsStored), bool(original.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = plane
    if (slope, intercept) != (1.0, 0.0):
        stored = (plane.astype(np.float64) - intercept) / slope
    return np.ascontiguousarray(fit_range(stored, low, high).astype(stored_type(original)))


def set_pixels(dataset: Dataset, pixels: NDArray[np.number]) -> None:
    """Pixel data of shape (rows, columns) or (frames, rows, columns), and what is told of it."""
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    smallest = "SS" if dataset.PixelRepresentation else "US"
    for name, value in (
        ("SmallestImagePixelValue", pixels.min()),
        ("LargestImagePixelValue", pixels.max()),
    ):
        if name in dataset:
            dataset[name] = DataElement(dataset[name].tag, smallest, int(value))
    for name in ("SmallestPixelValueInSeries", "LargestPixelValueInSeries"):
        if name in dataset:
            delattr(dataset, name)  # of the source series; not known before the last slice
    kind = "OB" if pixels.itemsize == 1 else "OW"
    dataset.add_new("PixelData", kind, pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())


def set_map(dataset: Dataset, plane: NDArray[np.number], peak: float, quantity: str) -> None:
    """Pixels of a map in the picture's unit: signed 16 bit with the slope that fits `peak`.

    One slope serves the whole series, so that viewers show its slices alike. The window covers
    what the quantity can be: both signs, or from zero where it is never negative.
    """
    for name in OF_THE_PICTURE:
        if name in dataset:
            delattr(dataset, name)
    # MR's own words for value 3 (PS3.3 C.8.3.1.1.1) have none for maps; value 4 is free.
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER", quantity.upper()]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    slope = decimal(peak / MAP_STEPS or 1.0)
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, decimal(0), "US"
    low = -peak if quantity == "residual" else 0.0
    dataset.WindowCenter, dataset.WindowWidth = decimal((low + peak) / 2), decimal(peak - low or 1)
    dataset.VOILUTFunction = "LINEAR_EXACT"  # a LINEAR window may not be narrower than 1
    stored = fit_range(plane / float(slope), -MAP_STEPS, MAP_STEPS).astype(np.int16)
    set_pixels(dataset, np.ascontiguousarray(stored))


def now_in_zone_of(original: Dataset, as_of: datetime | None = None) -> datetime:
    """The time, or `as_of`, in the zone that the headers speak of, else in this machine's."""
    offset = str(original.get("TimezoneOffsetFromUTC", "")).strip()
    if re.fullmatch(r"[+-][0-9]{4}", offset):
        zone = datetime.strptime(offset, "%z").tzinfo
        return as_of.astimezone(zone) if as_of else datetime.now(zone)
    return as_of or datetime.now().astimezone()


def decimal(value: float | np.floating) -> DSfloat:
    """A decimal string of at most 16 characters."""
    return DSfloat(float(value), auto_format=True)


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
