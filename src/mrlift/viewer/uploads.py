"""Files from the page, taken into a folder of their own under names of our own."""

import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from mrlift.errors import InputError, MrliftError
from mrlift.io import is_nifti

MAX_FILES = 20_000  # an Enhanced object is one file; classic series have hundreds
FORBIDDEN = re.compile(r"[\x00-\x1f\\:]")


class OversizeError(MrliftError):
    """More bytes or files than the server takes."""


class Upload:
    """One NIfTI file or the files of one DICOM folder, while they arrive.

    Args:
        name: what the user called the file or folder.
        folder: does not exist yet; holds the files.
        limit: bytes that all files together may have.
    """

    def __init__(self, name: str, folder: Path, limit: int) -> None:
        self.name = safe_name(name).name
        self.folder = folder
        self._limit = limit
        self._bytes = 0
        self._discarded = False
        self._files: dict[Path, PurePosixPath] = {}  # and what the user calls them
        folder.mkdir()

    async def receive(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write one file. Its name decides the suffix and nothing else.

        Raises:
            InputError: the name is no relative path, or the upload was discarded meanwhile.
            OversizeError: the limit is passed; what has arrived is of no use any more.
        """
        original = safe_name(name)
        if len(self._files) >= MAX_FILES:
            raise OversizeError(f"The folder holds more than {MAX_FILES:,} files.")
        file = self.folder / f"{len(self._files) + 1:05d}{_suffix(original)}"
        self._files[file] = original
        with file.open("wb") as out:
            async for chunk in chunks:
                if self._discarded:
                    raise InputError("The upload was cancelled. Choose the file again.")
                self.claim(self._bytes + len(chunk))
                self._bytes += len(chunk)
                out.write(chunk)

    def claim(self, size: int) -> None:
        """Refuse a size before or while it arrives.

        Raises:
            OversizeError: it is over the limit.
        """
        if size > self._limit:
            raise OversizeError(
                f"The upload is larger than the limit of {self._limit / 1e6:,.0f} MB. "
                "Raise it with `mrlift view --max-upload MB`, or give the path on the command line."
            )

    @property
    def path(self) -> Path:
        """What `mrlift.load` is to read.

        Raises:
            InputError: nothing has arrived, or several NIfTI files.
        """
        if not self._files:
            raise InputError("The upload is empty. Choose a NIfTI file or a DICOM folder.")
        nifti = [file for file in self._files if is_nifti(file)]
        if not nifti:
            return self.folder if len(self._files) > 1 else next(iter(self._files))
        if len(self._files) > 1:
            raise InputError(
                f"Expected one NIfTI file or one DICOM folder, found {len(self._files)} files of "
                f"which {len(nifti)} are NIfTI. Choose one."
            )
        return nifti[0]

    def in_words(self, error: Exception) -> str:
        """A message for the user, with the user's name for what we keep elsewhere."""
        text = str(error)
        for file, original in self._files.items():
            text = text.replace(str(file), str(original))
        return text.replace(str(self.folder), self.name)

    def discard(self) -> None:
        """Remove everything that arrived, and take no more."""
        self._discarded = True
        shutil.rmtree(self.folder, ignore_errors=True)


def safe_name(name: str) -> PurePosixPath:
    """A relative path that stays where it is.

    Raises:
        InputError: it is empty, absolute, climbs, or holds characters of other systems' paths.
    """
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or FORBIDDEN.search(name)
    if bad or not path.name or len(name) > 1024:
        raise InputError("Expected the name of a file within the chosen folder. Choose it again.")
    return path


def _suffix(path: PurePosixPath) -> str:
    for suffix in (".nii.gz", ".nii", ".dcm"):
        if path.name.lower().endswith(suffix):
            return suffix
    return ""
