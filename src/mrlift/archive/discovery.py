"""What there is to do: a walk through the source that holds one folder's names at a time."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mrlift.archive import bids
from mrlift.archive.series import fingerprint
from mrlift.errors import InputError
from mrlift.io import is_nifti


@dataclass(frozen=True)
class Place:
    """A NIfTI file, or a folder that may hold DICOM files; or a folder that cannot be read.

    Attributes:
        path: relative to the source, with slashes; "." is the source itself.
        folder: it is a folder, which a worker has to look into.
        fingerprint: of a file; empty if it cannot be read.
        error: why a folder was not searched.
    """

    path: str
    folder: bool = False
    fingerprint: str = ""
    error: str = ""


def places(source: Path, labels: list[str] | None = None) -> Iterator[Place]:
    """Everything under `source`, sorted within each folder; of a BIDS data set its images.

    Hidden files and folders, and links to folders, are passed over. `labels` are those of the
    participants to take from a BIDS data set; None takes `source` as a plain tree.

    Raises:
        InputError: `source` is no folder, or may not be read.
    """
    try:
        os.scandir(source).close()
    except OSError as error:
        raise InputError(f"{source} cannot be searched: {error.strerror}.") from error
    if labels is None:
        yield from _tree(source)
        return
    for entry in bids.images(source, labels):
        path = Path(entry.path).relative_to(source).as_posix()
        yield Place(path, fingerprint=mark(entry))


def _tree(source: Path) -> Iterator[Place]:
    waiting = [source]
    while waiting:
        folder = waiting.pop()
        path = folder.relative_to(source).as_posix()
        try:
            with os.scandir(folder) as found:
                entries = sorted((e for e in found if e.name[0] != "."), key=lambda e: e.name)
        except OSError as error:
            yield Place(path, True, error=f"{folder} may not be read: {error.strerror}.")
            continue
        others = False
        folders = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(folder / entry.name)
            elif is_nifti(entry.name):  # a broken link too: the task says that it is one
                name = entry.name if path == "." else f"{path}/{entry.name}"
                yield Place(name, fingerprint=mark(entry))
            elif entry.is_file():
                others = True
        if others:
            yield Place(path, True)
        waiting += reversed(folders)


def mark(entry: os.DirEntry[str] | Path) -> str:
    """The fingerprint of a single file; empty if it cannot be read."""
    try:
        return fingerprint([(entry.name, entry.stat())])
    except OSError:
        return ""
