"""Write a derived DICOM MR series (PS3.3 C.8.3.1 MR Image, C.7.6.1.1.3 derivation).

Patient, study, frame of reference, acquisition facts and dates are kept; identity, geometry,
pixel facts and provenance are new.
"""

import re
import warnings
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

from mrlift.errors import InputError
from mrlift.io.series import SeriesSource, rescale_of
from mrlift.io.stack import LPS_TO_RAS, image_type
from mrlift.volume import Derivation, Volume, fit_range

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
SERIES_NUMBER_STEP = 1000  # keeps the derived series apart from the scanner's own numbers


def save_series(volume: Volume, path: Path) -> None:
    """Write every slice of `volume` as one MR Image Storage file.

    Args:
        volume: what to write; it came from a DICOM series and mrlift derived it.
        path: an existing folder, or for a single slice a file that ends in .dcm.

    Raises:
        InputError: the source's header holds a value that cannot be written.
    """
    source, derivation = volume.source, volume.derivation
    assert isinstance(source, SeriesSource)  # `mrlift.io.save` has checked both
    assert derivation is not None
    now = _now(source.instances[0])
    series_uid = generate_uid(prefix=None)
    stack = np.moveaxis(volume.voxels, volume.slice_axis, 0)
    for index, (original, plane) in enumerate(zip(source.instances, stack, strict=True)):
        file = path / f"{index + 1:05d}.dcm" if path.is_dir() else path
        try:
            dataset = _derived(original, derivation, now)
            dataset.SeriesInstanceUID = series_uid
            _set_geometry(dataset, volume, index, source.residuals[index])
            _set_pixels(dataset, original, plane.T)
            dataset.InstanceNumber = index + 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # values of the source that bend their VR
                dataset.save_as(file, enforce_file_format=True)
        except OSError:
            raise
        except Exception as error:  # pydicom converts values only when they are copied
            raise InputError(
                f"{Path(str(original.filename))}: its header cannot be carried over ({error}). "
                "Repair it, or write NIfTI."
            ) from error


def _derived(original: FileDataset, derivation: Derivation, now: datetime) -> FileDataset:
    """A copy of the header with new identity and provenance."""
    dataset = FileDataset("", {}, preamble=b"\0" * 128)
    for element in original:
        tag = element.tag
        if not (tag.is_private or tag.element == 0 or 0x5000 <= tag.group < 0x7000):
            dataset.add(deepcopy(element))
    dataset.walk(_remove_private)
    for name in DROPPED:
        if name in dataset:
            delattr(dataset, name)
    _set_identity(dataset, original, derivation, now)
    _set_provenance(dataset, original, derivation, now)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta = meta
    return dataset


def _remove_private(dataset: Dataset, element: DataElement) -> None:
    if element.tag.is_private:
        del dataset[element.tag]


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
    rest = image_type(original)[2:] or ["OTHER"]
    dataset.ImageType = ["DERIVED", "SECONDARY", *rest]


def _set_provenance(
    dataset: Dataset, original: FileDataset, derivation: Derivation, now: datetime
) -> None:
    earlier = str(original.get("DerivationDescription", ""))
    story = derivation.description
    if earlier:
        story = f"{earlier[: max(0, 1000 - len(story))]} Then: {story}"
    dataset.DerivationDescription = story[:1024]  # ST
    codes = list(dataset.get("DerivationCodeSequence", None) or [])
    dataset.DerivationCodeSequence = Sequence([*codes, _code("113085", "Spatial resampling")])
    reference = Dataset()
    reference.ReferencedSOPClassUID = original.SOPClassUID
    reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = Sequence(
        [_code("121322", "Source image for image processing operation")]
    )
    dataset.SourceImageSequence = Sequence([reference])
    equipment = Dataset()
    equipment.Manufacturer = "mrlift"
    equipment.ManufacturerModelName = derivation.model[:64]
    equipment.SoftwareVersions = derivation.version
    equipment.ContributionDateTime = now.strftime("%Y%m%d%H%M%S.%f")
    equipment.ContributionDescription = derivation.description[:1024]
    equipment.PurposeOfReferenceCodeSequence = Sequence([_code("109102", "Processing Equipment")])
    before = list(dataset.get("ContributingEquipmentSequence", None) or [])
    dataset.ContributingEquipmentSequence = Sequence([*before, equipment])
    dataset.ContentQualification = "RESEARCH"
    method = LOSSY_METHODS.get(original.file_meta.TransferSyntaxUID)
    if method and dataset.get("LossyImageCompression") != "01":
        pixels = original.Rows * original.Columns * original.BitsAllocated / 8
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionMethod = method
        size = Path(str(original.filename)).stat().st_size  # little else than the pixels
        dataset.LossyImageCompressionRatio = _ds(round(pixels / size, 1))


def _set_geometry(
    dataset: Dataset, volume: Volume, index: int, residual: NDArray[np.float64]
) -> None:
    lps = LPS_TO_RAS @ volume.affine
    row, column, step, origin = lps[:3].T
    dataset.PixelSpacing = [_ds(np.linalg.norm(column)), _ds(np.linalg.norm(row))]
    dataset.ImagePositionPatient = [_ds(v) for v in origin + index * step + residual]


def _set_pixels(dataset: Dataset, original: Dataset, plane: NDArray[np.number]) -> None:
    """Stored values with the source's own slope, width and signedness; clipped, not wrapped."""
    slope, intercept = rescale_of(original)
    bits, signed = int(original.BitsStored), bool(original.PixelRepresentation)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    stored = plane
    if (slope, intercept) != (1.0, 0.0):
        stored = (plane.astype(np.float64) - intercept) / slope
    kind = np.dtype(f"<{'i' if signed else 'u'}{int(original.BitsAllocated) // 8}")
    pixels = np.ascontiguousarray(fit_range(stored, low, high).astype(kind))
    dataset.Rows, dataset.Columns = pixels.shape
    smallest = "SS" if signed else "US"
    for name, value in (
        ("SmallestImagePixelValue", pixels.min()),
        ("LargestImagePixelValue", pixels.max()),
    ):
        if name in dataset:
            dataset[name] = DataElement(dataset[name].tag, smallest, int(value))
    for name in ("SmallestPixelValueInSeries", "LargestPixelValueInSeries"):
        if name in dataset:
            delattr(dataset, name)  # of the source series; not known before the last slice
    dataset.add_new("PixelData", "OB" if kind.itemsize == 1 else "OW", pixels.tobytes())


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _now(original: Dataset) -> datetime:
    """The time in the zone that the headers speak of, else in this machine's."""
    offset = str(original.get("TimezoneOffsetFromUTC", "")).strip()
    if re.fullmatch(r"[+-][0-9]{4}", offset):
        return datetime.now(datetime.strptime(offset, "%z").tzinfo)
    return datetime.now().astimezone()


def _ds(value: float | np.floating) -> DSfloat:
    return DSfloat(float(value), auto_format=True)
