"""What a series is, as far as its headers say, and whether a selection fits it."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from pydicom.dataset import Dataset

Contrast = Literal["T1", "T2", "T2_STAR", "PROTON_DENSITY", "FLUID_ATTENUATED", "DIFFUSION"]
OURS = "mrlift"  # Manufacturer in the ContributingEquipmentSequence of what `mrlift.io` derives

# Thresholds in ms that keep the usual clinical protocols apart; between T1 and T2 lies proton
# density. Inversion times above LONG_TI null fluid, shorter ones sharpen T1 or null fat.
SHORT_TR, LONG_TE, LONG_TE_GRADIENT, LONG_TI = 1200.0, 60.0, 12.0, 1500.0


@dataclass(frozen=True)
class Facts:
    """What selections ask for.

    Attributes:
        description: SeriesDescription.
        contrast: as `contrast_of` says.
        spacing: the larger in-plane spacing, mm; None where it is not stated.
    """

    description: str
    contrast: Contrast | None
    spacing: float | None


@dataclass(frozen=True)
class Selection:
    """Which series; what is not stated fits every series."""

    description: tuple[str, ...] = ()  # shell patterns for SeriesDescription, case ignored
    contrast: tuple[Contrast, ...] = ()
    spacing: tuple[float, float] = (0.0, float("inf"))  # in-plane, mm; the larger of the two

    def fits(self, facts: Facts) -> bool:
        """Whether a series is one of those."""
        described = not self.description or any(
            fnmatchcase(facts.description.lower(), pattern.lower()) for pattern in self.description
        )
        low, high = self.spacing
        spaced = (
            low <= facts.spacing <= high
            if facts.spacing is not None
            else (low, high) == Selection().spacing
        )
        return described and spaced and (not self.contrast or facts.contrast in self.contrast)


def facts_of(header: Dataset) -> Facts:
    """Facts of a series by the header of one of its instances, classic or enhanced."""
    spacing = None
    for item in _with_groups(header):
        if item.get("PixelSpacing"):
            spacing = max(float(v) for v in item.PixelSpacing)
            break
    return Facts(str(header.get("SeriesDescription", "")), contrast_of(header), spacing)


def is_ours(header: Dataset) -> bool:
    """Whether mrlift derived an instance, on this machine or another."""
    return any(
        str(item.get("Manufacturer", "")) == OURS
        for item in header.get("ContributingEquipmentSequence", None) or []
    )


def contrast_of(header: Dataset) -> Contrast | None:
    """The contrast of an image in terms of AcquisitionContrast (PS3.3 MR Image Description Macro).

    Enhanced MR states it. Classic MR does not: it is estimated from echo, repetition and
    inversion time, which is right for common protocols and no more than that. None where it
    cannot be told.
    """
    stated = str(header.get("AcquisitionContrast", ""))
    if stated and stated not in ("MIXED", "UNKNOWN"):
        return next((known for known in get_args(Contrast) if known == stated), None)
    if header.get("DiffusionBValue"):
        return "DIFFUSION"
    te, tr, ti = (_number(header, name) for name in ("EchoTime", "RepetitionTime", "InversionTime"))
    if te is None or tr is None:
        return None
    if ti is not None and ti > LONG_TI:
        return "FLUID_ATTENUATED" if te >= LONG_TE else "T1"
    sequence = header.get("ScanningSequence") or []
    sequence = [sequence] if isinstance(sequence, str) else list(sequence)
    if "GR" in sequence and "SE" not in sequence:
        return "T2_STAR" if te >= LONG_TE_GRADIENT else "T1"
    if te >= LONG_TE:
        return "T2"
    return "T1" if tr < SHORT_TR or (ti or 0) > 0 else "PROTON_DENSITY"


def _with_groups(header: Dataset) -> list[Dataset]:
    """A header, and what an enhanced one says of all its frames or of its first."""
    found = [header]
    for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for item in list(header.get(name, None) or [])[:1]:
            found += list(item.get("PixelMeasuresSequence", None) or [])[:1]
    return found


def _number(header: Dataset, name: str) -> float | None:
    value = header.get(name)
    return None if value in (None, "") else float(value)
