"""BIDS: which files of a data set are processed, and how their derivatives are named.

Names and keys follow the Brain Imaging Data Structure, version `BIDS`.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from mrlift._version import __version__
from mrlift.archive.task import HIDDEN, Settings
from mrlift.errors import InputError, OutputError
from mrlift.io import replacing
from mrlift.io.facts import Contrast
from mrlift.volume import Volume

BIDS = "1.10.0"
CONTRASTS: dict[str, Contrast] = {
    "T1w": "T1", "T2w": "T2", "FLAIR": "FLUID_ATTENUATED", "PDw": "PROTON_DENSITY",
    "T2starw": "T2_STAR", "inplaneT1": "T1", "inplaneT2": "T2",
}  # fmt: skip
SUFFIXES = (*CONTRASTS, "PDT2", "angio", "FLASH", "T2star", "PD")  # magnitudes in anat
DESCRIPTION = "dataset_description.json"
SUMMARY = "summary.html"
README = """# Super-resolved anatomical images

Written by mrlift. Each image is an image of the source data set (see DatasetLinks in
dataset_description.json) at a higher in-plane resolution, in the same place. Detail below the
resolution of the source is estimated, not measured. For research only; not for diagnosis.
"""


@dataclass(frozen=True)
class Name:
    """A file's path in a data set, taken apart: folder/ENTITIES_SUFFIX.EXTENSION."""

    folder: str
    entities: tuple[str, ...]
    suffix: str

    @classmethod
    def of(cls, path: str) -> Self:
        """Take a relative path apart."""
        folder, _, name = path.rpartition("/")
        *entities, suffix = name.split(".")[0].split("_")
        return cls(folder, tuple(entities), suffix)

    @property
    def contrast(self) -> Contrast | None:
        """What the suffix says of it."""
        return CONTRASTS.get(self.suffix)

    @property
    def magnitude(self) -> bool:
        """Whether it is an image that mrlift processes."""
        other = any(e.startswith("part-") and e != "part-mag" for e in self.entities)
        return self.suffix in SUFFIXES and not other

    def derived(self, scale: int) -> str:
        """The path of the derivative; res and desc come last, as the standard orders them."""
        added = (f"res-SRx{scale}", "desc-superres")
        return f"{self.folder}/{'_'.join((*self.entities, *added, self.suffix))}.nii.gz"


def is_bids(folder: Path) -> bool:
    """Whether a folder is a BIDS data set."""
    try:
        values = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "BIDSVersion" in values


def participants(folder: Path) -> list[str]:
    """Labels of the participants, sorted.

    Raises:
        InputError: the folder may not be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name[4:] for e in entries if e.name.startswith("sub-") and e.is_dir())
    except OSError as error:
        raise InputError(f"{folder} may not be read: {error.strerror}.") from error


def images(folder: Path, labels: list[str]) -> Iterator[os.DirEntry[str]]:
    """The magnitude images in anat of participants, one folder at a time."""
    for label in labels:
        for session in _sessions(folder / f"sub-{label}"):
            if not (session / "anat").is_dir():
                continue
            with os.scandir(session / "anat") as entries:
                files = sorted((e for e in entries if e.is_file()), key=lambda e: e.name)
            for entry in files:
                if entry.name.endswith((".nii", ".nii.gz")) and Name.of(entry.name).magnitude:
                    yield entry


def _sessions(subject: Path) -> list[Path]:
    return [subject, *sorted(p for p in subject.glob("ses-*") if p.is_dir())]


def sidecar(settings: Settings, path: str, volume: Volume) -> dict[str, Any]:
    """The JSON beside the derivative of the image at a path in the source."""
    first, second = (f"{volume.spacing[axis]:.4g}" for axis in volume.in_plane_axes)
    story = volume.derivation.description if volume.derivation else ""
    original = _json_beside(Path(settings.source), Name.of(path))
    return {
        "Description": story,
        "Sources": [f"bids:raw:{path}"],
        "SpatialReference": "orig",
        "Resolution": {
            f"SRx{settings.scale}": f"{settings.scale} times the in-plane resolution of the "
            f"source: {first} x {second} mm in-plane, slices as they were."
        },
        "SkullStripped": bool(original.get("SkullStripped", False)),
        "GeneratedBy": [_generator(settings)],
    }


def _json_beside(source: Path, name: Name) -> dict[str, Any]:
    """What the source's own sidecar says; nothing if there is none that can be read."""
    file = source / name.folder / f"{'_'.join((*name.entities, name.suffix))}.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _generator(settings: Settings) -> dict[str, str]:
    return {
        "Name": "mrlift",
        "Version": __version__,
        "Description": f"Weights {settings.card}, sha256 {settings.sha256}.",
    }


def refuse_foreign(dest: Path) -> None:
    """Refuse to write into a data set that something else has made.

    Raises:
        OutputError: it is one.
    """
    try:
        known = json.loads((dest / DESCRIPTION).read_text(encoding="utf-8"))
        names = [tool.get("Name") for tool in known.get("GeneratedBy", [])]
    except FileNotFoundError:
        names = ["mrlift"]
    except (OSError, ValueError, AttributeError):
        names = []
    if "mrlift" not in names:
        raise OutputError(
            f"{dest} is a data set that mrlift did not make. Choose a folder of its own, such as "
            "derivatives/mrlift."
        )


def prepare(settings: Settings) -> None:
    """Make the destination a derivative data set."""
    dest, source = Path(settings.dest), Path(settings.source)
    description = {
        "Name": "Super-resolved anatomical images",
        "BIDSVersion": BIDS,
        "DatasetType": "derivative",
        "GeneratedBy": [_generator(settings)],
        "SourceDatasets": [{"URL": os.path.relpath(source, dest)}],
        "DatasetLinks": {"raw": os.path.relpath(source, dest)},
    }
    files = {
        DESCRIPTION: json.dumps(description, indent=2) + "\n",
        "README.md": README,
        ".bidsignore": f"{SUMMARY}\n{HIDDEN}\n",
    }
    for name, text in files.items():
        with replacing(dest / name, overwrite=True) as file:
            file.write_text(text, encoding="utf-8")
