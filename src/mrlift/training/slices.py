"""HR slices held in memory, normalised per series, with the patient each belongs to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.inference.normalise import foreground_share, series_scale
from mrlift.io import SeriesSource, find_series, load
from mrlift.resampling import bicubic_rescale
from mrlift.training.config import DataConfig
from mrlift.volume import Volume


@dataclass(frozen=True)
class Slice:
    """One HR slice (H, W), float32, 1.0 at the series' 99.9th percentile."""

    image: NDArray[np.float32]
    series: str
    patient: str
    spacing: float  # mm, the larger of the two in-plane


def patient_of(path: Path, volume: Volume) -> str:
    """PatientID of a DICOM series; of a NIfTI file its name up to the first underscore."""
    if isinstance(volume.source, SeriesSource):
        return str(volume.source.instances[0].get("PatientID", ""))
    return path.name.split(".")[0].split("_")[0]


def slices_of(volume: Volume) -> NDArray[np.float32]:
    """All slices (n, H, W) of a volume, normalised by the series' scale."""
    stack = volume.slices().astype(np.float32)
    return stack / np.float32(series_scale(stack))


def load_slices(folder: Path, config: DataConfig) -> tuple[list[Slice], list[Slice]]:
    """Training and validation slices of every series under `folder`.

    Slices with less foreground than `config.foreground` are left out, as are those that
    `config.exclude` names by series. Training slices come at every size of `config.rescale`.

    Raises:
        InputError: no series, or none left to train or to validate on.
    """
    training: list[Slice] = []
    validation: list[Slice] = []
    for path in find_series(folder):
        name = path.name.split(".")[0]
        first, end = config.exclude.get(name, (0, 0))
        volume = load(path)
        patient = patient_of(path, volume)
        spacing = max(volume.spacing[axis] for axis in volume.in_plane_axes)
        for index, image in enumerate(slices_of(volume)):
            if first <= index < end or foreground_share(image) < config.foreground:
                continue
            if patient in config.validation:
                validation.append(Slice(image, name, patient, spacing))
                continue
            for factor in config.rescale:
                sized = image if factor == 1.0 else bicubic_rescale(image, factor)
                sized = np.ascontiguousarray(sized)
                training.append(Slice(sized, name, patient, spacing / factor))
    for part, found in (("train", training), ("validate", validation)):
        if not found:
            raise InputError(
                f"No slices to {part} on under {folder}: expected NIfTI or DICOM series of "
                f"patients {'in' if part == 'validate' else 'outside'} {list(config.validation)}."
            )
    return training, validation


def facts(slices: list[Slice]) -> dict[str, Any]:
    """What a card says of the training data."""
    spacings = [s.spacing for s in slices]
    return {
        "spacing": [round(min(spacings), 3), round(max(spacings), 3)],
        "patients": len({s.patient for s in slices}),
        "series": len({s.series for s in slices}),
        "slices": len(slices),
    }
