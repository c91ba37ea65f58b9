"""From folders of series to a slice store."""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrlift.errors import ConfigError, InputError
from mrlift.inference.normalise import FOREGROUND_SHARE, foreground_share, series_scale
from mrlift.io import find_series, is_nifti, list_series, load, read_headers, replacing
from mrlift.spectrum import crop_spectrum, filled
from mrlift.training.sources import NAME, Sources, contrast_of, load_sources, patient_of
from mrlift.training.store import Record, Split, StoreWriter, new_store
from mrlift.volume import Volume

SMALLEST = 32  # samples a side; no patch fits into less


@dataclass(frozen=True)
class Rules:
    """What is kept, and how patients are divided.

    Args:
        foreground: least share of a slice that is brighter than 0.1 of its series' 99.9th
            percentile; slices with less are left out.
        crop_spectrum: bring scanner-interpolated series back to the matrix that was measured.
        validation: share of the patients held out, if no sources.toml names them.
        test: share of the patients set aside for reporting.
        seed: of the division.
    """

    foreground: float = FOREGROUND_SHARE
    crop_spectrum: bool = False
    validation: float = 0.1
    test: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.foreground, self.validation, self.test)
        if not all(0 <= s < 1 for s in shares) or self.validation + self.test >= 1:
            raise InputError(
                "foreground, validation and test are shares in [0, 1), and some patients must be "
                "left to train on."
            )


@dataclass(frozen=True)
class Outcome:
    """What became of the series found: those stored, and why others were left out.

    `doubtful` are patients known by the names of NIfTI files alone, with the number of folders that
    such files lie in: they may be several people.
    """

    records: list[Record]
    skipped: dict[str, str]
    doubtful: dict[str, int]


def prepare(
    folders: list[Path],
    store: Path,
    rules: Rules,
    *,
    sources: Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Write the slices of every series under `folders` into a new store.

    One series at a time is held in memory. A series that cannot be used is left out, with its
    reason in the outcome.

    Args:
        folders: where to look for NIfTI files and DICOM series.
        store: file to write.
        rules: what is kept.
        sources: a `sources.toml` for all folders; None takes that in, or above, each series'
            own folder, up to the one given.
        overwrite: whether `store` may exist.
        report: is told the name of each series before it is read.

    Raises:
        InputError: nothing usable was found, or no patient would be left to train on.
        ConfigError: a `sources.toml` has mistakes, or holds out a patient who has no series.
    """
    skipped: dict[str, str] = {}
    named: dict[str, Split] = {}
    tested: set[str] = set()  # names of series
    guessed: dict[str, set[Path]] = {}  # patients by names of files, and the folders of these
    with (
        replacing(store, overwrite=overwrite) as part,
        new_store(part, foreground=rules.foreground, seed=rules.seed) as writer,
    ):
        for folder in folders:
            known: dict[Path, Sources] = {}
            for path, series in _found(folder, skipped):
                name = _name(path, folder, series)
                report(name)
                about = _sources(path, folder, sources, known)
                named.update(dict.fromkeys(about.sheet.validation, "validation"))
                named.update(dict.fromkeys(about.sheet.test, "test"))
                if about.relative(path) in about.test_series:
                    tested.add(name)
                try:
                    _add(writer, name, path, load(path, series=series), about, rules)
                except InputError as error:
                    skipped[name] = str(error)
                    continue
                if is_nifti(path) and not about.of(path).patient:
                    home = path.absolute().parent
                    guessed.setdefault(writer.records[-1].patient, set()).add(home)
        if not writer.records:
            raise InputError(
                f"No usable series under {', '.join(map(str, folders))}; expected NIfTI files or "
                "DICOM series of magnitude MR images." + _first_reason(skipped)
            )
        _check_names(named, {r.patient for r in writer.records})
        others = {r.patient for r in writer.records if r.name not in tested}
        parts = divide(others, rules, named)
        writer.split(["test" if r.name in tested else parts[r.patient] for r in writer.records])
        if not any(r.split == "train" for r in writer.records):
            raise InputError("Every patient is held out; leave some to train on.")
    doubtful = {
        patient: len(homes)
        for patient, homes in guessed.items()
        if len(homes) > 1 and patient not in Path(os.path.commonpath(homes)).parts  # as of sessions
    }
    return Outcome(writer.records, skipped, doubtful)


def divide(patients: set[str], rules: Rules, named: dict[str, Split]) -> dict[str, Split]:
    """The part of each patient: as named, or else by a seeded order of all patients.

    A patient's place in that order depends on its name and the seed alone. Shares are rounded up,
    as far as one patient is left to train on.
    """
    if not named:
        order = sorted(
            patients, key=lambda p: hashlib.sha256(f"{rules.seed}:{p}".encode()).digest()
        )
        free = len(order) - 1
        held = min(math.ceil(rules.validation * len(order)), free)
        aside = min(math.ceil(rules.test * len(order)), free - held)
        named = dict.fromkeys(order[:held], "validation")
        named |= dict.fromkeys(order[held : held + aside], "test")
    return {patient: named.get(patient, "train") for patient in patients}


def _found(folder: Path, skipped: dict[str, str]) -> Iterator[tuple[Path, str | None]]:
    for path in find_series(folder):
        if is_nifti(path):
            yield path, None
            continue
        try:
            uids = [summary.uid for summary in list_series(read_headers(path))]
        except InputError as error:
            skipped[_name(path, folder, None)] = str(error)
            continue
        for uid in uids:
            yield path, uid if len(uids) > 1 else None


def _add(
    writer: StoreWriter, name: str, path: Path, volume: Volume, about: Sources, rules: Rules
) -> None:
    source = about.of(path)
    stack: NDArray[np.number] = volume.slices()
    if min(stack.shape[1:]) < SMALLEST:
        raise InputError(f"Slices of {stack.shape[1]}x{stack.shape[2]} are too small.")
    shares = filled(stack)
    first, second = (volume.spacing[axis] for axis in volume.in_plane_axes)
    crop = rules.crop_spectrum and min(shares) < 1
    if crop:
        old = stack.shape
        stack = crop_spectrum(stack, shares)
        first, second = first * old[1] / stack.shape[1], second * old[2] / stack.shape[2]
    unit = series_scale(stack)
    start, end = source.exclude
    kept = [
        index
        for index, image in enumerate(stack)
        if not start <= index < end and foreground_share(image, unit) >= rules.foreground
    ]
    if not kept:
        raise InputError(
            f"No slice has {rules.foreground:.0%} foreground, brighter than a tenth of the series' "
            "99.9th percentile."
        )
    writer.add(
        stack[kept],
        unit,
        name=name,
        patient=patient_of(path, volume, about),
        source=source.name,
        licence=source.licence,
        contrast=contrast_of(path, volume),
        spacing=(first, second),
        filled=shares,
        cropped=crop,
        slices=tuple(kept),
    )


def _check_names(named: dict[str, Split], patients: set[str]) -> None:
    """Whom a misspelt name was to hold out would else be trained on."""
    missing = sorted(set(named) - patients)
    if missing:
        raise ConfigError(
            f"There is no usable series of {', '.join(missing)}, to be held out by `validation` or "
            f"`test` in {NAME}. Correct or remove these names; the patients found are "
            f"{', '.join(sorted(patients))}."
        )


def _sources(path: Path, folder: Path, given: Path | None, known: dict[Path, Sources]) -> Sources:
    """The sources.toml that holds for a series."""
    home = folder
    file = given
    if given is None:
        above = [p for p in (path, *path.parents) if p.is_dir() and p.is_relative_to(folder)]
        home = next((p for p in above if (p / NAME).is_file()), folder)
        file = home / NAME if (home / NAME).is_file() else None
    if home not in known:
        known[home] = load_sources(file, home) if file else Sources(home)
    return known[home]


def _name(path: Path, folder: Path, series: str | None) -> str:
    stem = path.relative_to(folder).as_posix().removesuffix(".gz").removesuffix(".nii")
    return stem if series is None else f"{stem}:{series}"


def _first_reason(skipped: dict[str, str]) -> str:
    name = next(iter(skipped), None)
    return "" if name is None else f" {len(skipped)} were left out, such as {name}: {skipped[name]}"
