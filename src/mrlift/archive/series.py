"""What is done with one series, in the process of a worker."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from mrlift._version import __version__
from mrlift.archive.bids import Name, sidecar
from mrlift.archive.task import Found, Order, Outcome, Settings, source_of
from mrlift.errors import InputError, ModelError, MrliftError, SeriesChoiceError
from mrlift.inference.pipeline import upscale
from mrlift.inference.zoo import Model, load_model
from mrlift.io import is_nifti, list_series, load, read_header, read_headers, replacing, save
from mrlift.io.durable import sync, sync_tree
from mrlift.io.facts import Facts, Selection, facts_of, is_ours
from mrlift.volume import Volume

OURS = "mrlift x"  # how the label of a derivation begins


def perform(order: Order) -> list[Outcome] | list[Found]:
    """Do what a task says; what is wrong with the series is an outcome, not an exception."""
    if order.task.job == "look":
        return look(source_of(order))
    try:
        return list(_parts(order))
    except Exception as error:  # of whatever kind: the next series has nothing to do with it
        return [_failure(error)]


def look(folder: Path) -> list[Found]:
    """The series whose files lie directly in a folder.

    One header is held at a time. A damaged file counts to the only series beside it, which it may
    be a slice of; beside several it stands for itself.
    """
    series: dict[str, list[str]] = {}
    skipped: dict[str, str] = {}
    damaged: dict[str, str] = {}
    try:
        entries = sorted(e.name for e in os.scandir(folder) if e.is_file() and e.name[0] != ".")
    except OSError as error:
        return [Found("", (), "", error=f"{folder} may not be read: {error.strerror}.")]
    for name in entries:
        if is_nifti(folder / name):
            continue
        try:
            header = read_header(folder / name)
        except InputError as error:
            damaged[name] = str(error)
            continue
        if header is None:
            continue
        uid = str(header.SeriesInstanceUID)
        series.setdefault(uid, []).append(name)
        if (modality := header.get("Modality", "unknown")) != "MR":
            skipped[uid] = f"modality {modality}"
    if len(series) == 1:
        (names,) = series.values()
        names += damaged
        damaged = {}
    return [
        *(
            Found(uid, tuple(sorted(names)), _mark(folder, names), skipped.get(uid, ""))
            for uid, names in series.items()
        ),
        *(Found(n, (n,), _mark(folder, [n]), error=text) for n, text in damaged.items()),
    ]


def _mark(folder: Path, names: list[str]) -> str:
    return fingerprint((name, (folder / name).stat()) for name in sorted(names))


def fingerprint(files: Iterable[tuple[str, os.stat_result]]) -> str:
    """Changes whenever one of the files does; nothing is opened."""
    facts = [(name, found.st_size, found.st_mtime_ns) for name, found in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def digest(files: list[Path]) -> str:
    """The SHA-256 of a file; of several, that of their own SHA-256 in hexadecimal, one a line."""
    sums = []
    for file in files:
        with file.open("rb") as content:
            sums.append(hashlib.file_digest(content, "sha256").hexdigest())
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()


def _parts(order: Order) -> Iterator[Outcome]:
    """Upscale a series, or each of the stacks, contrasts or time points that it holds."""
    task = order.task
    source = source_of(order)
    began = time.perf_counter()
    files = [source / name for name in sorted(task.names)] or [source]
    try:
        input_digest = digest(files)
    except OSError as error:
        raise InputError(f"{source} may not be read: {error.strerror}.") from error
    if input_digest == task.known:
        yield Outcome("unchanged")
        return
    try:
        yield _one(order, 0, task.uid, input_digest, began)
    except SeriesChoiceError:
        parts = list_series(read_headers(source, task.names))
        if len(parts) < 2:
            raise
        for number, part in enumerate(parts, start=1):
            try:
                yield _one(order, number, part.uid, input_digest, time.perf_counter())
            except MrliftError as error:
                yield replace(_failure(error), part=number, input_digest=input_digest)
    except MrliftError as error:
        yield replace(_failure(error), input_digest=input_digest)


def _one(order: Order, part: int, uid: str, input_digest: str, began: float) -> Outcome:
    """One volume in, one file or folder out."""
    task, settings = order.task, order.settings
    source = source_of(order)
    if task.uid:
        first = read_headers(source, task.names[:1])[0]
        if reason := _unwanted(facts_of(first), order.selection, ours=is_ours(first)):
            return Outcome("skipped", part, reason, input_digest=input_digest)
        volume = load(source, series=uid, names=task.names)
    else:
        volume = load(source)
        if reason := _unwanted(_facts_of_file(source, volume), order.selection, ours=_ours(volume)):
            return Outcome("skipped", part, reason, input_digest=input_digest)
    read = time.perf_counter()
    sr = upscale(volume, settings.scale, _model(settings))
    computed = time.perf_counter()
    name = part_name(task.output, part)
    output, mark = _write(order, sr, name)
    written = time.perf_counter()
    return Outcome(
        "done", part, "", "", input_digest, name, output, mark, sr.slice_count,
        (read - began, computed - read, written - computed),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _model(settings: Settings) -> Model:
    """The weights, read and verified once in a process."""
    model = load_model(settings.model, scale=settings.scale, threads=1, engine=settings.engine)
    if model.card.sha256 != settings.sha256:
        raise ModelError(
            f"This worker has other weights under the name {settings.card}. Install the same "
            f"version of mrlift on all of them; this one has {__version__}."
        )
    return model


def part_name(output: str, part: int) -> str:
    """The name of a part's output, before the suffix of a file."""
    if not part:
        return output
    stem = output.removesuffix(".nii.gz")
    return f"{stem}_{part}{output[len(stem) :]}"


def _write(order: Order, volume: Volume, name: str) -> tuple[str, str]:
    """Write the result to disk, not only to the machine's cache; its digest and its mark."""
    task, settings = order.task, order.settings
    target, work = Path(settings.dest) / name, Path(task.work)
    target.parent.mkdir(parents=True, exist_ok=True)
    if settings.bids:
        text = json.dumps(sidecar(settings, task.path, volume), indent=2) + "\n"
        with replacing(_sidecar_of(target), overwrite=True, work=work) as file:
            file.write_text(text, encoding="utf-8")
    save(
        volume, target, overwrite=True, transfer_syntax=settings.transfer_syntax,
        as_of=datetime.fromtimestamp(settings.created, UTC), work=work,
    )  # fmt: skip
    if target.is_dir():
        sync_tree(target)
        return digest(sorted(target.iterdir())), output_mark(settings, name)
    sync(target)
    sync(target.parent)
    return digest([target]), output_mark(settings, name)


def output_mark(settings: Settings, name: str) -> str:
    """The fingerprint of an output, with its JSON where it has one; empty if it is not there."""
    target = Path(settings.dest) / name
    try:
        if target.is_dir():
            with os.scandir(target) as entries:
                return fingerprint(sorted((e.name, e.stat()) for e in entries))
        files = [target, _sidecar_of(target)] if settings.bids else [target]
        return fingerprint((file.name, file.stat()) for file in files)
    except OSError:
        return ""


def _sidecar_of(target: Path) -> Path:
    return target.with_name(target.name.removesuffix(".nii.gz") + ".json")


def _unwanted(facts: Facts, selection: Selection, *, ours: bool) -> str:
    """Why a series is left alone; empty if it is not."""
    if ours:
        return "made by mrlift"
    return "" if selection.fits(facts) else "not selected"


def _ours(volume: Volume) -> bool:
    header = getattr(volume.source, "header", None)
    return header is not None and header["descrip"].item().startswith(OURS.encode())


def _facts_of_file(source: Path, volume: Volume) -> Facts:
    """NIfTI states little: the file's name stands for the description, BIDS names the contrast."""
    spacing = max(volume.spacing[axis] for axis in volume.in_plane_axes)
    return Facts(source.name, Name.of(source.name).contrast, spacing)


def _failure(error: Exception) -> Outcome:
    """An outcome that tells of an error; what mrlift did not foresee is not quoted."""
    if isinstance(error, MrliftError):
        return Outcome("failed", error=type(error).__name__, reason=str(error))
    if isinstance(error, MemoryError):
        return Outcome("failed", error="memory", reason="It needs more memory than there is.")
    if isinstance(error, OSError):
        reason = f"The operating system refused: {error.strerror}."
        return Outcome("failed", error="OSError", reason=reason)
    return Outcome("failed", error="fault", reason=f"A fault of mrlift: {type(error).__name__}.")


def output_of(settings: Settings, path: str, uid: str) -> str:
    """Where the result of a series goes, relative to the destination."""
    if settings.bids:
        return Name.of(path).derived(settings.scale)
    if not uid:
        return path
    # A UID of other characters than PS3.5 allows could lead out of the folder.
    plain = uid if set(uid) <= set("0123456789.") and uid.strip(".") == uid and uid else None
    name = plain or hashlib.sha256(uid.encode()).hexdigest()[:32]
    return f"{path}/{name}{'.nii.gz' if settings.nifti else ''}"
