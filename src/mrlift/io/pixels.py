"""Stored pixel values of DICOM images, slice by slice, checked before they are decoded."""

import io
import warnings
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from mrlift.errors import InputError
from mrlift.io.limits import (
    DEFLATE_RATIO,
    BoundedFile,
    codestream_size,
    inflated_limit,
    refuse_short,
)

# 8 and 12 bit lossy, and lossless JPEG: pydicom has no permissive decoder for them.
JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
PIXEL_FACTS = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


def stored_planes(
    header: FileDataset, indices: tuple[int, ...] = (0,)
) -> Iterator[tuple[int, NDArray[np.number]]]:
    """(frame, stored values of shape (rows, columns)) for the wanted frames of one object.

    Frames come in ascending order; one at a time is in memory.

    Args:
        header: the object without its pixel data.
        indices: the wanted frames, counted from 0.

    Raises:
        InputError: pixel data that is missing, truncated, of another size than the header says,
            or of a compression that cannot be decoded.
    """
    file = Path(str(header.filename))
    expected = (int(header.Rows), int(header.Columns))
    wanted = sorted(indices)
    decode = _encapsulated if header.file_meta.TransferSyntaxUID.is_encapsulated else _native
    frames = decode(file, header, wanted)
    for index in wanted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels = next(frames)
            except (InputError, MemoryError):
                raise
            except StopIteration as error:
                raise InputError(
                    f"{file}: the pixel data ends before frame {index + 1}. The file is truncated."
                ) from error
            except Exception as error:  # the decoders raise almost anything on damaged data
                raise InputError(
                    f"{file}: the pixel data cannot be decoded ({first_line(error)}). The file is "
                    "truncated or damaged, or uses a compression that is not supported."
                ) from error
        if pixels.shape != expected:
            raise InputError(f"{file}: expected {expected} pixels, found {pixels.shape}.")
        yield index, pixels


def refuse_inflating(file: Path) -> None:
    """Refuse a deflated data set that grows too much, by inflating it piece by piece.

    Raises:
        InputError: it grows beyond `inflated_limit`.
    """
    with file.open("rb") as stream:
        start = stream.read(2048)
        if DeflatedExplicitVRLittleEndian.encode() not in start:
            return
        most = inflated_limit(file.stat().st_size)
        # (0002,0000) is the first element, 12 bytes long; its value counts from there (PS3.10 7.1).
        stream.seek(144 + int.from_bytes(start[140:144], "little"))
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        try:
            while piece := inflate.unconsumed_tail or stream.read(2**16):
                size += len(inflate.decompress(piece, 2**20))
                if size > most:
                    raise InputError(
                        f"{file}: a deflated data set that grows beyond {most:,} bytes. Inflate it "
                        "first, for instance with dcmconv +te of dcmtk."
                    )
        except zlib.error:
            return  # named when it is read


def refuse_missing(header: FileDataset) -> None:
    """Refuse an object whose file cannot hold the pixels that its header claims.

    Raises:
        InputError: it cannot, or the pixels are of an odd width.
    """
    file = Path(str(header.filename))
    bits = int(header.BitsAllocated)
    if bits not in (8, 16, 32):
        raise InputError(f"{file}: expected 8, 16 or 32 bits allocated, found {bits}.")
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        frames = int(header.get("NumberOfFrames", 1) or 1)
        ratio = DEFLATE_RATIO if syntax.is_deflated else 1
        needed = int(header.Rows) * int(header.Columns) * frames * bits // 8
        refuse_short(file, needed, ratio=ratio)


def _native(file: Path, header: FileDataset, wanted: list[int]) -> Iterator[NDArray[np.number]]:
    # pydicom reads single frames from a file, but not from a deflated one.
    deflated = header.file_meta.TransferSyntaxUID.is_deflated
    yield from iter_pixels(pydicom.dcmread(file) if deflated else file, indices=wanted)


def _encapsulated(
    file: Path, header: FileDataset, wanted: list[int]
) -> Iterator[NDArray[np.number]]:
    """Each frame as an image of its own: offsets and sizes of a decoder are not to be trusted."""
    with BoundedFile(file) as stream:
        data = pydicom.dcmread(stream).PixelData
    count = int(header.get("NumberOfFrames", 1) or 1)
    expected = (int(header.Rows), int(header.Columns))
    chosen = set(wanted)
    for index, frame in enumerate(generate_frames(data, number_of_frames=count)):
        if index not in chosen:
            continue
        claimed = codestream_size(frame)
        if claimed not in (None, expected):
            raise InputError(
                f"{file}: expected {expected} pixels (rows, columns), found a compressed image of "
                f"{claimed}. The file is damaged."
            )
        yield _decoded(_single(header, frame))


def _single(header: FileDataset, frame: bytes) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(header.file_meta.TransferSyntaxUID)
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for name in PIXEL_FACTS:
        if name in header:
            image.add(header[name])
    image.PixelData = encapsulate([frame])
    return image


def _decoded(image: FileDataset) -> NDArray[np.number]:
    if image.file_meta.TransferSyntaxUID not in JPEG or not find_spec("dicomsdl"):
        return image.pixel_array
    import dicomsdl

    buffer = io.BytesIO()
    image.SOPClassUID = image.SOPInstanceUID = "1.2"  # a file needs some
    image.save_as(buffer, enforce_file_format=True)
    return np.array(dicomsdl.open_memory(buffer.getvalue()).pixelData(storedvalue=True))


def stored_type(header: Dataset) -> np.dtype[np.signedinteger] | np.dtype[np.unsignedinteger]:
    """The integer type of an image's stored values."""
    sign = "i" if header.PixelRepresentation else "u"
    return np.dtype(f"{sign}{int(header.BitsAllocated) // 8}")


def first_line(error: Exception) -> str:
    """What an error says, short enough for a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return told.rstrip(".")
