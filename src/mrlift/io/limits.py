"""How much a file may claim before it is believed: checked before memory is taken."""

import io
import struct
from pathlib import Path

from mrlift.errors import InputError

MAX_PIXELS = 2**26  # of one slice: 8192 x 8192; scanners stop at 1024 x 1024
MAX_VOXELS = 2**31  # of one series: 4 GiB at 16 bits
MAX_ELEMENTS = 10_000  # of one data set, without those in sequences; scanners write hundreds
INFLATED = (2**23, 20, 2**29)  # bytes always, times the file, and at most, of a deflated data set
DEFLATE_RATIO = 1032  # no deflate stream grows more than this (zlib's technical details)


class BoundedFile(io.BufferedReader):
    """A file that never sets memory aside for more than it holds.

    pydicom asks for as many bytes as an element claims, up to 4 GiB, and Python takes the memory
    before it reads.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(str(path)))  # whose name pydicom joins with text
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file, but no more than is left."""
        if size is not None and size > 2**16:
            size = min(size, max(self._size - self.tell(), 0))
        return super().read(size)


def refuse_oversize(path: Path, rows: int, columns: int, slices: int) -> None:
    """Refuse a series whose headers claim more voxels than mrlift takes on.

    Raises:
        InputError: they do.
    """
    pixels = rows * columns
    if pixels > MAX_PIXELS or pixels * slices > MAX_VOXELS:
        raise InputError(
            f"{path}: the header claims {slices:,} slices of {columns} x {rows} pixels; the limit "
            f"is {MAX_PIXELS:,} pixels a slice and {MAX_VOXELS:,} voxels in all. Repair the "
            "header, or split the series."
        )


def refuse_short(path: Path, needed: int, *, ratio: int = 1) -> None:
    """Refuse a file that cannot hold the `needed` bytes which its header claims.

    Args:
        path: an existing file.
        needed: bytes of pixels.
        ratio: how much the file may be compressed.

    Raises:
        InputError: it is too small.
    """
    size = path.stat().st_size
    if needed > (size + 64) * ratio:
        raise InputError(
            f"{path}: the header claims {needed:,} bytes of pixels, but the file holds "
            f"{size:,}. It is damaged or truncated: get a complete copy."
        )


def codestream_size(data: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream claims, or None.

    Sources: ITU-T T.81 B.2.2 (SOFn), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ).
    """
    if data[:4] == b"\xff\x4f\xff\x51" and len(data) >= 24:
        x1, y1, x0, y0 = struct.unpack(">4I", data[8:24])
        return y1 - y0, x1 - x0
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">2H", data[at + 5 : at + 9])
            return rows, columns
        else:
            at += 2 + max(length, 2)
    return None


def inflated_limit(size: int) -> int:
    """Bytes to which a deflated data set of `size` bytes may grow; MR images grow 2 to 6 times."""
    always, times, most = INFLATED
    return min(max(always, times * size), most)
