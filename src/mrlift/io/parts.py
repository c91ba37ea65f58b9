"""What separates the images of one series: stacks, echoes, diffusion weightings, time points.

Rules for frames of Enhanced MR objects and for classic images are the same, except that frames of
several stacks or orientations are always separated; a classic series with several orientations is
a localiser and is refused as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset

from mrlift.errors import InputError, SeriesChoiceError
from mrlift.io.enhanced import frames_of, is_multiframe
from mrlift.io.stack import SAME_DIRECTION, SAME_POSITION, image_type


@dataclass(frozen=True)
class Part:
    """Images of one series that can make a volume: one stack, contrast and time.

    Attributes:
        frames: classic headers, one an image.
        multiframe: the object without its pixel data, where the images are frames of one.
        indices: which of its frames they are, counted from 0.
        label: what sets the part off from the others of its series; empty for the only one.
    """

    frames: tuple[FileDataset, ...]
    multiframe: FileDataset | None = None
    indices: tuple[int, ...] = ()
    label: str = ""


def parts_of(headers: list[FileDataset]) -> list[Part]:
    """The parts of one series, objects in the order of InstanceNumber.

    Raises:
        InputError: classic and multi-frame images in one series, or an object without usable
            functional groups.
    """
    multiframe = [h for h in headers if is_multiframe(h)]
    if 0 < len(multiframe) < len(headers):
        raise InputError(
            f"The series mixes {len(multiframe)} multi-frame objects with "
            f"{len(headers) - len(multiframe)} classic images. Put them into folders of their own."
        )
    parts, facts = [], []
    if not multiframe:
        headers = sorted(headers, key=lambda h: _instance_number(h))
        for indices, shared in _groups(headers, classic=True):
            parts.append(Part(tuple(headers[i] for i in indices)))
            facts.append(shared)
    for header in sorted(multiframe, key=lambda h: (_instance_number(h), str(h.SOPInstanceUID))):
        frames = frames_of(header)
        for indices, shared in _groups(frames, classic=False):
            parts.append(Part(tuple(frames[i] for i in indices), header, tuple(indices)))
            facts.append(shared)
    differ = [name for name in facts[0] if len({fact[name] for fact in facts}) > 1]
    return [
        replace(part, label=", ".join(f"{name} {fact[name] or 'none'}" for name in differ))
        for part, fact in zip(parts, facts, strict=True)
    ]


def choose_part(parts: list[Part], uid: str, number: str) -> Part:
    """The only part, or the one that `number` (from 1) names.

    Raises:
        SeriesChoiceError: several parts and no number, or no part of that number.
    """
    if not number and len(parts) == 1:
        return parts[0]
    if number.isdecimal() and 1 <= int(number[:9]) <= len(parts):
        return parts[int(number[:9]) - 1]
    found = (
        f"No part {number} in series {uid}."
        if number
        else (f"Series {uid} holds {len(parts)} stacks, contrasts or time points.")
    )
    lines = [
        f"  {uid}/{k}  {len(part.frames)} slices, {part.label or 'all'}"
        for k, part in enumerate(parts, start=1)
    ]
    raise SeriesChoiceError("\n".join([f"{found} Choose one with --series UID/NUMBER:", *lines]))


def _instance_number(header: Dataset) -> int:
    return int(header.get("InstanceNumber") or 0)


def _kind(frame: Dataset) -> str:
    return "/".join([*image_type(frame)[2:], str(frame.get("ComplexImageComponent", ""))]).strip(
        "/"
    )


def _numbers(*names: str) -> Callable[[Dataset], str]:
    def text(frame: Dataset) -> str:
        value = next((v for name in names if (v := frame.get(name)) is not None), None)
        return "" if value is None else " ".join(f"{float(v):g}" for v in np.atleast_1d(value))

    return text


# What can set images of one position apart, likeliest first. Only as many are used as it takes,
# for they may differ from slice to slice as well.
FACTS: dict[str, Callable[[Dataset], str]] = {
    "stack": lambda frame: str(frame.get("StackID", "")),
    "kind": _kind,
    "echo time": _numbers("EchoTime"),
    "b-value": _numbers("DiffusionBValue"),
    "diffusion": lambda frame: str(frame.get("DiffusionDirectionality", "")),
    "gradient": _numbers("DiffusionGradientOrientation"),
    "time": _numbers("TemporalPositionIndex", "TemporalPositionIdentifier"),
    "trigger delay": _numbers("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "acquisition": _numbers("FrameAcquisitionNumber", "AcquisitionNumber"),
}
SEPARATE_FRAMES = ("orientation", "stack", "kind")  # whether positions coincide or not


def _groups(frames: list[FileDataset], *, classic: bool) -> list[tuple[list[int], dict[str, str]]]:
    """Indices of images that belong together, by first image, and the facts of that image."""
    facts = {"orientation": _orientations(frames)}
    facts |= {name: [fact(frame) for frame in frames] for name, fact in FACTS.items()}
    used = [] if classic else [facts[name] for name in SEPARATE_FRAMES]
    localiser = classic and len(set(facts["orientation"])) > 1
    for name in [] if localiser else FACTS:
        if not any(_overlap([frames[i] for i in g]) for g in _split(len(frames), used)):
            break
        used.append(facts[name])
    return [
        (group, {name: values[group[0]] for name, values in facts.items()})
        for group in _split(len(frames), used)
    ]


def _split(count: int, facts: list[list[str]]) -> list[list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index in range(count):
        groups.setdefault(tuple(values[index] for values in facts), []).append(index)
    return list(groups.values())


def _orientations(frames: list[FileDataset]) -> list[str]:
    """The orientation of each frame in words, the same for all within the tolerance."""
    seen: list[NDArray[np.float64]] = []
    words = []
    for frame in frames:
        cosines = np.asarray(frame.get("ImageOrientationPatient") or np.zeros(6), float)
        same = [k for k, other in enumerate(seen) if np.abs(cosines - other).max() < SAME_DIRECTION]
        if not same:
            seen.append(cosines)
            same = [len(seen) - 1]
        words.append(" ".join(f"{v:.4g}" for v in seen[same[0]]))
    return words


def _overlap(frames: list[FileDataset]) -> bool:
    """Whether two of the frames, of one orientation, stand at one position."""
    cosines = frames[0].get("ImageOrientationPatient")
    if cosines is None or any(f.get("ImagePositionPatient") is None for f in frames):
        return False  # refused later, by name
    row, column = np.asarray(cosines, float).reshape(2, 3)
    positions = np.array([np.asarray(f.ImagePositionPatient, float) for f in frames])
    steps = np.diff(np.sort(positions @ np.cross(row, column)))
    return bool((steps < SAME_POSITION).any())
