"""Files that are on disk when a function returns, not only in the cache of the machine."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Force a file's content, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force the files of a folder, the folder, and its own name in its parent to disk."""
    for file in folder.iterdir():
        sync(file)
    sync(folder)
    sync(folder.parent)


def make_folder(folder: Path) -> None:
    """Create a folder for the eyes of this user only, unless it exists."""
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        sync(folder.parent)


def move(source: Path, target: Path) -> None:
    """Rename a file that is on disk already, on one file system."""
    source.replace(target)
    sync(target.parent)
