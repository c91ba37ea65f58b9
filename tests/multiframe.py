"""Generated Enhanced MR objects: one or several stacks and contrasts in one file."""

from pathlib import Path

import numpy as np
from phantoms import OBLIQUE, head
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian

ORIGIN = (-30.0, 12.0, 7.0)
# Of the MR pulse sequence module (PS3.3 C.8.13.4): what an original image must say.
PULSE = {
    "PulseSequenceName": "se", "MRAcquisitionType": "2D", "EchoPulseSequence": "SPIN",
    "MultipleSpinEcho": "NO", "MultiPlanarExcitation": "NO", "PhaseContrast": "NO",
    "TimeOfFlightContrast": "NO", "SteadyStatePulseSequence": "NONE",
    "EchoPlanarPulseSequence": "NO", "SaturationRecovery": "NO",
    "SpectrallySelectedSuppression": "NONE", "OversamplingPhase": "NONE",
    "GeometryOfKSpaceTraversal": "RECTILINEAR", "RectilinearPhaseEncodeReordering": "LINEAR",
    "SegmentedKSpaceTraversal": "SINGLE", "NumberOfKSpaceTrajectories": 1,
    }  # fmt: skip


def item(**attributes) -> Sequence:
    """A sequence of one item."""
    data = Dataset()
    for name, value in attributes.items():
        setattr(data, name, value)
    return Sequence([data])


def write_enhanced(
    file: Path,
    voxels: np.ndarray | None = None,
    *,
    contrasts=({},),
    order=None,
    spacing=(0.8, 0.9),
    step=4.0,
    signed=False,
    bits=12,
    slopes=None,
    syntax: UID = ExplicitVRLittleEndian,
    **attributes,
) -> Path:
    """Write an Enhanced MR object; `voxels` is (X, Y, Z), repeated times 1, 2, ... per contrast.

    A contrast is a dict of: stack, orientation, echo, kind, component, time, b, number (its factor
    on the voxels). Frames go position by position, contrasts inside, unless `order` permutes them.
    `slopes` is called with the frame's number and gives each frame a RescaleSlope; `attributes`
    are set on the object.
    """
    voxels = head((24, 20, 4)) if voxels is None else voxels
    file.parent.mkdir(parents=True, exist_ok=True)
    frames = [(k, c) for k in range(voxels.shape[2]) for c in range(len(contrasts))]
    frames = [frames[i] for i in order] if order is not None else frames
    kind = "<i2" if signed else "<u2"
    groups, planes = [], []
    for number, (k, c) in enumerate(frames):
        contrast = contrasts[c]
        slope = slopes(number) if slopes else None
        groups.append(_group(k, c, contrast, step, slope))
        planes.append((voxels[:, :, k].T * contrast.get("number", 1)).astype(kind))
    data = _object(file, spacing, step, syntax)
    data.Rows, data.Columns = voxels.shape[1], voxels.shape[0]
    data.NumberOfFrames = len(frames)
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits, bits - 1
    data.PixelRepresentation = int(signed)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    data.add_new("PixelData", "OW", np.stack(planes).tobytes())
    for name, value in attributes.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    if syntax.is_encapsulated:
        data.compress(syntax, generate_instance_uid=False)
    data.save_as(file, enforce_file_format=True)
    return file


def _acquisition() -> dict[str, Sequence]:
    """Macros that an original image has (PS3.3 A.36.2.4), with what they require."""
    region = item(CodeValue="69536005", CodingSchemeDesignator="SCT", CodeMeaning="Head")
    coil = {"ReceiveCoilName": "HEAD", "ReceiveCoilManufacturerName": "", "ReceiveCoilType": "HEAD"}
    return {
        "FrameAnatomySequence": item(FrameLaterality="U", AnatomicRegionSequence=region),
        "MRAveragesSequence": item(NumberOfAverages=1),
        "MRFOVGeometrySequence": item(
            InPlanePhaseEncodingDirection="ROW", MRAcquisitionFrequencyEncodingSteps=20,
            MRAcquisitionPhaseEncodingStepsInPlane=24, PercentSampling=100,
            PercentPhaseFieldOfView=100,
        ),
        "MRImagingModifierSequence": item(
            MagnetizationTransfer="NONE", BloodSignalNulling="NO", Tagging="NONE",
            TransmitterFrequency=63.8, PixelBandwidth=100.0,
        ),
        "MRModifierSequence": item(
            InversionRecovery="NO", FlowCompensation="NONE", Spoiling="NONE", T2Preparation="NO",
            SpectrallySelectedExcitation="NONE", SpatialPresaturation="NONE", PartialFourier="NO",
            ParallelAcquisition="NO",
        ),
        "MRReceiveCoilSequence": item(**coil, QuadratureReceiveCoil="NO"),
        "MRTransmitCoilSequence": item(
            TransmitCoilName="BODY", TransmitCoilManufacturerName="", TransmitCoilType="BODY"
        ),
        "MRTimingAndRelatedParametersSequence": item(
            RepetitionTime=500, FlipAngle=90, EchoTrainLength=1, RFEchoTrainLength=1,
            GradientEchoTrainLength=0, GradientOutputType="DB_DT", GradientOutput=1.0,
            SpecificAbsorptionRateSequence=item(
                SpecificAbsorptionRateDefinition="IEC_HEAD", SpecificAbsorptionRateValue=0.1
            ),
            OperatingModeSequence=item(OperatingModeType="GRADIENT", OperatingMode="IEC_NORMAL"),
        ),
    }  # fmt: skip


def _group(k, c, contrast, step, slope) -> Dataset:
    orientation = contrast.get("orientation", OBLIQUE)
    row, column = np.reshape(orientation, (2, 3))
    position = np.array(ORIGIN) + k * step * np.cross(row, column)
    group = Dataset()
    group.FrameContentSequence = item(
        StackID=contrast.get("stack", "1"), InStackPositionNumber=k + 1,
        DimensionIndexValues=[c + 1, k + 1], TemporalPositionIndex=contrast.get("time", 1),
        FrameAcquisitionDateTime="20200101120000", FrameReferenceDateTime="20200101120000",
        FrameAcquisitionDuration=1.0,
    )  # fmt: skip
    group.PlanePositionSequence = item(ImagePositionPatient=[round(float(v), 8) for v in position])
    group.PlaneOrientationSequence = item(ImageOrientationPatient=list(orientation))
    group.MREchoSequence = item(EffectiveEchoTime=float(contrast.get("echo", 10)))
    group.MRImageFrameTypeSequence = item(
        FrameType=["ORIGINAL", "PRIMARY", contrast.get("kind", "M"), "NONE"],
        PixelPresentation="MONOCHROME", VolumetricProperties="VOLUME",
        VolumeBasedCalculationTechnique="NONE",
        ComplexImageComponent=contrast.get("component", "MAGNITUDE"),
        AcquisitionContrast="T1",
    )  # fmt: skip
    if "b" in contrast:
        group.MRDiffusionSequence = item(
            DiffusionBValue=float(contrast["b"]), DiffusionDirectionality="ISOTROPIC"
        )
    group.PixelValueTransformationSequence = item(
        RescaleSlope=slope or 1, RescaleIntercept=0, RescaleType="US"
    )
    return group


def _object(file, spacing, step, syntax) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = UID("1.2.3.5.1")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax.is_encapsulated else syntax
    data = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    facts = {
        "SOPClassUID": EnhancedMRImageStorage, "SOPInstanceUID": "1.2.3.5.1",
        "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.5",
        "FrameOfReferenceUID": "1.2.3.9", "Modality": "MR", "PatientName": "Phantom^Anna",
        "PatientID": "P1", "PatientBirthDate": "", "PatientSex": "O", "StudyDate": "20200101",
        "StudyTime": "120000", "StudyID": "1", "AccessionNumber": "", "ReferringPhysicianName": "",
        "SeriesNumber": 5, "InstanceNumber": 1, "PatientPosition": "HFS",
        "SeriesDate": "20200101", "SeriesTime": "120000", "PositionReferenceIndicator": "",
        "Manufacturer": "ACME", "ManufacturerModelName": "M", "DeviceSerialNumber": "1",
        "SoftwareVersions": "1", "ContentDate": "20200101", "ContentTime": "120000",
        "AcquisitionDateTime": "20200101120000", "AcquisitionDuration": 1.0,
        "AcquisitionNumber": 1, "ContentQualification": "PRODUCT", "ApplicableSafetyStandardAgency":
        "IEC", "MagneticFieldStrength": 1.5, "ResonantNucleus": "1H", "KSpaceFiltering": "NONE",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "NONE"], "PixelPresentation": "MONOCHROME",
        "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE",
        "ComplexImageComponent": "MAGNITUDE", "AcquisitionContrast": "T1",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BurnedInAnnotation": "NO", "LossyImageCompression": "00", "PresentationLUTShape":
        "IDENTITY", "AcquisitionContextSequence": Sequence(),
    }  # fmt: skip
    for name, value in (facts | PULSE).items():
        setattr(data, name, value)
    data.DimensionOrganizationSequence = item(DimensionOrganizationUID="1.2.3.8")
    pointers = Sequence()
    for pointer in (0x00209056, 0x00209057):
        (index,) = item(
            DimensionOrganizationUID="1.2.3.8", DimensionIndexPointer=pointer,
            FunctionalGroupPointer=0x00209111,
        )  # fmt: skip
        pointers.append(index)
    data.DimensionIndexSequence = pointers
    (shared,) = item(
        PixelMeasuresSequence=item(
            SliceThickness=step, SpacingBetweenSlices=step, PixelSpacing=list(spacing)
        ),
        **_acquisition(),
    )
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    return data
