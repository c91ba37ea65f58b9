"""A derived Enhanced MR object (PS3.3 A.36.2) from one stack of a source object.

Frames keep their order, stacks and dimensions; each says from which frame it came. Only what the
header's functional groups say of pixels, places and origin is changed.
"""

from datetime import datetime

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from mrlift.io.provenance import (
    decimal,
    derived_header,
    reference_to,
    set_derivation,
    set_pixels,
    stored_values,
)
from mrlift.io.series import SeriesSource
from mrlift.io.stack import LPS_TO_RAS, image_type
from mrlift.volume import Volume

# The MR pulse sequence module (PS3.3 C.8.13.4), optional in a derived object: dciodvfy takes it for
# an error there. The source object, which every frame refers to, has it.
PULSE_SEQUENCE = (
    "PulseSequenceName", "MRAcquisitionType", "EchoPulseSequence", "MultipleSpinEcho",
    "MultiPlanarExcitation", "PhaseContrast", "VelocityEncodingAcquisitionSequence",
    "TimeOfFlightContrast", "ArterialSpinLabelingContrast", "SteadyStatePulseSequence",
    "EchoPlanarPulseSequence", "SaturationRecovery", "SpectrallySelectedSuppression",
    "OversamplingPhase", "GeometryOfKSpaceTraversal", "RectilinearPhaseEncodeReordering",
    "SegmentedKSpaceTraversal", "CoverageOfKSpace", "NumberOfKSpaceTrajectories",
)  # fmt: skip


def derived_object(volume: Volume, now: datetime) -> FileDataset:
    """All slices of `volume` as the frames of one object."""
    source, derivation = volume.source, volume.derivation
    assert isinstance(source, SeriesSource)  # `mrlift.io.save` has checked both
    assert derivation is not None
    original = source.multiframe
    assert original is not None
    slices = [int(k) for k in np.argsort(source.indices)]  # in the order of the source's frames
    dataset = derived_header(original, derivation, now)
    dataset.ImageType = _derived_type(image_type(original))
    for name in PULSE_SEQUENCE:
        dataset.pop(name, None)
    shared = _shared(dataset)
    groups = [dataset.PerFrameFunctionalGroupsSequence[source.indices[k]] for k in slices]
    dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    dataset.NumberOfFrames = len(groups)
    for item in (shared, *groups):
        if frame_type := item.get("MRImageFrameTypeSequence"):
            frame_type[0].FrameType = _derived_type(list(frame_type[0].get("FrameType") or []))
    _set_geometry(dataset, volume, slices)
    before = list(shared.get("DerivationImageSequence") or [])
    shared.pop("DerivationImageSequence", None)
    for k, group in zip(slices, groups, strict=True):
        item = Dataset()
        earlier = [*before, *(group.get("DerivationImageSequence") or [])]
        set_derivation(item, earlier, derivation, [reference_to(original, source.indices[k] + 1)])
        group.DerivationImageSequence = Sequence([item])
    _set_evidence(dataset, original)
    _close_dimensions(groups)
    planes = np.moveaxis(volume.voxels, volume.slice_axis, 0)
    set_pixels(dataset, np.stack([stored_values(planes[k].T, source.instances[k]) for k in slices]))
    return dataset


def _shared(dataset: Dataset) -> Dataset:
    """The shared functional groups; some vendors write none."""
    return next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), Dataset())


def _derived_type(values: list[str]) -> list[str]:
    """Value 4 tells what was derived (PS3.3 C.8.16.1.4)."""
    return ["DERIVED", "PRIMARY", values[2] if len(values) > 2 else "OTHER", "RESAMPLED"]


def _set_geometry(dataset: FileDataset, volume: Volume, slices: list[int]) -> None:
    source = volume.source
    assert isinstance(source, SeriesSource)
    shared = _shared(dataset)
    groups = dataset.PerFrameFunctionalGroupsSequence
    row, column, step, origin = (LPS_TO_RAS @ volume.affine)[:3].T
    spacing = [decimal(np.linalg.norm(column)), decimal(np.linalg.norm(row))]
    for item in (shared, *groups):
        if measures := item.get("PixelMeasuresSequence"):
            measures[0].PixelSpacing = spacing
    positions = [[decimal(v) for v in origin + k * step + source.residuals[k]] for k in slices]
    for group, position in zip(groups, positions, strict=True):
        holder = group if group.get("PlanePositionSequence") else shared
        holder.PlanePositionSequence[0].ImagePositionPatient = position
    # Not of this IOD, but where a vendor wrote them readers look there first.
    if "PixelSpacing" in dataset:
        dataset.PixelSpacing = spacing
    if "ImagePositionPatient" in dataset:
        dataset.ImagePositionPatient = positions[0]


def _set_evidence(dataset: Dataset, original: Dataset) -> None:
    """SourceImageEvidenceSequence (PS3.3 C.8.13.1): every object that a frame was made from."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = original.SOPClassUID
    instance.ReferencedSOPInstanceUID = original.SOPInstanceUID
    series.SeriesInstanceUID = original.SeriesInstanceUID
    series.ReferencedSOPSequence = Sequence([instance])
    study.StudyInstanceUID = original.StudyInstanceUID
    study.ReferencedSeriesSequence = Sequence([series])
    dataset.SourceImageEvidenceSequence = Sequence([study])


def _close_dimensions(groups: list[Dataset]) -> None:
    """DimensionIndexValues count from 1 without holes (PS3.3 C.7.6.17), also in a part."""
    contents = [content[0] for g in groups if (content := g.get("FrameContentSequence"))]
    values = [np.atleast_1d(c.get("DimensionIndexValues") or []).tolist() for c in contents]
    if not values or not values[0] or len({len(v) for v in values}) > 1:
        return
    ranks = [
        {v: k for k, v in enumerate(sorted(set(column)), 1)} for column in zip(*values, strict=True)
    ]
    for content, row in zip(contents, values, strict=True):
        content.DimensionIndexValues = [rank[v] for rank, v in zip(ranks, row, strict=True)]
