r"""What files do not say of themselves: collection, licence, patient and split, in `sources.toml`.

validation = ["patient20"]  # optional: patients that are not trained on

[[source]]
match = "open_ms/*"         # of paths relative to the folder; the first match counts
name = "Longitudinal MS lesion MRI, Lesjak et al. 2017"
licence = "CC BY 4.0"
patient = '(patient\d+)'    # optional: a regular expression on that path
exclude = [160, 224]        # optional: slices [a, b) that are left out
"""

import re
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from mrlift.config import load_toml
from mrlift.errors import ConfigError
from mrlift.io import SeriesSource
from mrlift.volume import Volume

NAME = "sources.toml"
SPLIT = "split.toml"  # written by `mrlift data download --split`: test series by their folder
CONTRASTS = {  # the first whose pattern is found in a name; letters before would be a word's end
    "FLAIR": r"flair",
    "T1Gd": r"(?<![a-z])t1w?[-_ ]?(gd|ce|c\b|\+c|post|km)|post[-_ ]?t1|\+ ?gd",
    "T1": r"(?<![a-z])t1(?!\d)|mprage|spgr|bravo|tfl",
    "T2": r"(?<![a-z])t2(?!\d)",
    "PD": r"(?<![a-z])pd|proton",
    "DWI": r"dwi|diff|trace",
}


@dataclass(frozen=True)
class Source:
    """A collection of series and what holds for all of them."""

    match: str = "**"
    name: str = "not stated"
    licence: str = "not stated"
    url: str = ""
    patient: str = ""
    exclude: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        try:
            re.compile(self.patient)
        except re.error as error:
            raise ConfigError(f"source.patient = {self.patient!r}: {error}.") from error


@dataclass(frozen=True)
class Sheet:
    """The content of a `sources.toml`."""

    source: tuple[Source, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sources:
    """A sheet, the folder that its patterns are relative to, and the split beside it."""

    folder: Path
    sheet: Sheet = Sheet()
    test_series: tuple[str, ...] = ()  # paths below the folder

    def of(self, path: Path) -> Source:
        """The first source that matches a series' path, else one that states nothing."""
        names = (self.relative(path), f"{self.relative(path)}/")  # "a/**" is a folder a as well
        matching = (s for s in self.sheet.source if any(fnmatch(name, s.match) for name in names))
        return next(matching, Source())

    def relative(self, path: Path) -> str:
        """A series' path below the folder."""
        return path.absolute().relative_to(self.folder.absolute()).as_posix()  # links stay links


def load_sources(file: Path, folder: Path) -> Sources:
    """Read a `sources.toml` whose patterns are relative to `folder`, and the split in there.

    Raises:
        ConfigError: one cannot be read, or holds an unknown or ill-typed entry.
    """
    return Sources(folder, load_toml(file, Sheet), _test_series(folder / SPLIT))


def patient_of(path: Path, volume: Volume, sources: Sources) -> str:
    """The source's pattern if it has one, else PatientID, else what the file name begins with.

    A NIfTI name begins with its patient up to the first underscore, as in BIDS. Where that is a
    contrast (`flair.nii`, `T1_brain.nii`), the folder that the file is in is the patient.

    Raises:
        ConfigError: the source's pattern is not in the path.
    """
    pattern = sources.of(path).patient
    if pattern:
        relative = sources.relative(path)
        found = re.search(pattern, relative)
        if not found:
            raise ConfigError(
                f"The pattern {pattern!r} names no patient in {relative}. Correct `patient` in "
                f"{NAME}, or narrow its `match`."
            )
        return found.group(1) if found.groups() else found.group()
    if isinstance(volume.source, SeriesSource):
        return str(volume.source.instances[0].get("PatientID", ""))
    name = path.name.split(".")[0].split("_")[0]
    is_contrast = any(re.fullmatch(f"(?:{p})w?", name.lower()) for p in CONTRASTS.values())
    return path.absolute().parent.name if is_contrast else name


def contrast_of(path: Path, volume: Volume) -> str:
    """FLAIR, T1Gd, T1, T2, PD or DWI by the series' description or file name, else "other"."""
    text = path.name
    if isinstance(volume.source, SeriesSource):
        header = volume.source.instances[0]
        text = f"{header.get('SeriesDescription', '')} {header.get('ProtocolName', '')}"
    found = (name for name, pattern in CONTRASTS.items() if re.search(pattern, text.lower()))
    return next(found, "other")


def _test_series(file: Path) -> tuple[str, ...]:
    if not file.is_file():
        return ()
    try:
        return tuple(tomllib.loads(file.read_text(encoding="utf-8"))["test"]["series"])
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ConfigError(f"{file}: expected TOML with a list test.series.") from error
