"""Outputs appear whole or not at all: write under a temporary name, then rename."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mrlift.errors import OutputError

OURS = re.compile(r"[0-9]{5}\.dcm")  # how a derived series names its files


def refuse_existing(path: Path, *, overwrite: bool, folder: bool = False) -> None:
    """Check before any work that `path` may be written as a file, or as a folder.

    Raises:
        OutputError: it exists and `overwrite` is false; it is of the other kind, or a folder that
            holds anything but a derived series; its own folder is missing or read-only.
    """
    parent = path.absolute().parent
    try:
        exists = os.path.lexists(path)
        if not parent.is_dir():
            raise OutputError(f"The folder {parent} does not exist. Create it first.")
        if exists and not overwrite:
            raise OutputError(f"{path} exists already. Choose another name or pass --overwrite.")
        if exists and path.is_dir() != folder:
            found, wanted = ("folder", "file") if path.is_dir() else ("file", "folder")
            raise OutputError(f"{path} is a {found}; it is not replaced by a {wanted}.")
        if exists and folder and not all(OURS.fullmatch(p.name) for p in path.iterdir()):
            raise OutputError(
                f"{path} holds other files than a derived series; it is not replaced. Choose "
                "another name, or remove it yourself."
            )
        # Asking the file system is the only test that holds for root, ACLs and read-only mounts.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise OutputError(
            f"Cannot write into {parent}: {error.strerror}. Choose a folder with write access."
        ) from error


@contextmanager
def replacing(
    path: Path, *, overwrite: bool = False, folder: bool = False, work: Path | None = None
) -> Iterator[Path]:
    """Give a temporary file or folder; rename it to `path` when the block ends well.

    It lies in the folder `work`, of the same file system, or else beside `path`.

    The temporary name keeps the suffixes of `path`. After an error nothing is left behind and
    what stood at `path` before is untouched.

    Raises:
        OutputError: as `refuse_existing` says, or the operating system refuses.
    """
    refuse_existing(path, overwrite=overwrite, folder=folder)
    try:
        beside = work or path.absolute().parent
        unfinished = Path(tempfile.mkdtemp(prefix=".mrlift-", dir=beside))
    except OSError as error:
        raise OutputError(f"Cannot write beside {path}: {error.strerror}.") from error
    part = unfinished / path.name
    try:
        if folder:
            part.mkdir()
        yield part
        _replace(part, path, unfinished / "replaced")
    except OSError as error:
        raise OutputError(
            f"Writing {path} failed: {_reason(error)}. Nothing was left behind. "
            "Free some space or choose another place."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _reason(error: BaseException | None) -> str:
    """The operating system's words; pydicom wraps them in an error without any of its own."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        error = error.__cause__ or error.__context__
    return "the operating system refused"


def _replace(part: Path, path: Path, aside: Path) -> None:
    if path.is_dir():
        path.rename(aside)  # a folder cannot be renamed over a folder that holds files
        try:
            part.rename(path)
        except OSError:
            aside.rename(path)
            raise
    else:
        part.replace(path)
