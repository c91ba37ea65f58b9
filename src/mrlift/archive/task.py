"""What the client tells a worker and what it hears back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mrlift.io.facts import Selection

Job = Literal["look", "series"]
HIDDEN = ".mrlift"  # the folder in an archive that holds the ledger and what is unfinished

# Errors of the surroundings rather than of the series: worth another try.
TRANSIENT = ("crash", "memory", "timeout", "OutputError", "OSError", "fault")
# Of these, what ended a process: such a series is set aside, not only failed.
POISON = ("crash", "memory", "timeout", "worker died")


@dataclass(frozen=True)
class Settings:
    """What is the same for all series of an archive, on its first run and on every later one.

    Attributes:
        source: absolute path.
        dest: absolute path.
        model: name of shipped weights, or absolute path of an .onnx file.
        card: name of the weights.
        sha256: of the weights.
        engine: that runs them; the same everywhere, since two differ by 1e-4. Empty where it is
            to be chosen on the first run.
        scale: in-plane factor.
        nifti: write NIfTI whatever was read.
        transfer_syntax: of DICOM.
        bids: source is a BIDS data set, dest becomes a derivative of it.
        created: seconds since 1970; what derived DICOM states as the time of derivation.
    """

    source: str
    dest: str
    model: str
    card: str
    sha256: str
    engine: str
    scale: int
    nifti: bool
    transfer_syntax: str
    bids: bool
    created: float


@dataclass(frozen=True)
class Limits:
    """What one series may take.

    Attributes:
        timeout: seconds.
        memory: bytes; 0 takes what the Dask worker may have.
    """

    timeout: float = 3600.0
    memory: int = 0


@dataclass(frozen=True)
class Task:
    """One piece of work for one worker.

    Attributes:
        job: "look" lists the series of a DICOM folder, "series" upscales one.
        path: of a NIfTI file or a DICOM folder, relative to the source.
        uid: as in `Found`; empty for NIfTI and for "look".
        names: files of the series within `path`; empty for NIfTI.
        fingerprint: of names, sizes and times of the files.
        output: relative to the destination, and free or of this archive, so that it may be
            replaced; of several parts the name without their numbers.
        known: input digest from which `output` was made that is there now, or empty.
        work: folder for what is unfinished.
    """

    job: Job
    path: str
    uid: str = ""
    names: tuple[str, ...] = ()
    fingerprint: str = ""
    output: str = ""
    known: str = ""
    work: str = ""


@dataclass(frozen=True)
class Found:
    """A DICOM series in a folder, or a file that is damaged or of another modality.

    Attributes:
        uid: SeriesInstanceUID; for a damaged file its name.
        names: its files.
        fingerprint: as in `Task`.
        skip: why it is left alone; empty if it is not.
        error: what is wrong with it; empty if nothing is known to be.
    """

    uid: str
    names: tuple[str, ...]
    fingerprint: str
    skip: str = ""
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a series, or of one of its parts.

    Attributes:
        status: "unchanged" is done before, from input of the same content.
        part: number of the stack, contrast or time point, counted from 1; 0 for the only one.
        error: kind of error, or why it was skipped in few words.
        reason: what was expected, found and can be done.
        input_digest: SHA-256 of the file, or of the SHA-256 of all files in order of their names.
        output: path relative to the destination.
        output_digest: as `input_digest`.
        output_mark: fingerprint of what was written, as in `Task`.
        slices: number of slices.
        seconds: for reading, computing and writing.
    """

    status: Literal["done", "unchanged", "skipped", "failed", "quarantined"]
    part: int = 0
    error: str = ""
    reason: str = ""
    input_digest: str = ""
    output: str = ""
    output_digest: str = ""
    output_mark: str = ""
    slices: int = 0
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Order:
    """A task with all that a worker needs for it."""

    task: Task
    settings: Settings
    selection: Selection


def source_of(order: Order) -> Path:
    """The absolute path that a task is about."""
    return Path(order.settings.source) / order.task.path
