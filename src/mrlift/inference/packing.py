"""How the package keeps its weights: .onnx files with their bytes sorted, then deflated.

A packed file is a zlib stream (RFC 1950) of the bytes at even places of an .onnx file followed by
those at odd places. In float16 weights one of each two bytes holds sign and exponent, which take
few values, the other digits that look random; apart, the former shrink to less than half. Source:
the shuffle filter of HDF5, https://docs.hdfgroup.org/hdf5/develop/group___s_h_u_f_f_l_e.html.
"""

import zlib
from pathlib import Path

import numpy as np

from mrlift.errors import ModelError

PACKED = ".onnx.packed"  # how the names of packed files end


def pack(content: bytes) -> bytes:
    """Any bytes in less room, if they are float16 weights."""
    return zlib.compress(content[::2] + content[1::2], 9)


def unpack(packed: bytes) -> bytes:
    """What `pack` was given.

    Raises:
        ValueError: the bytes are not what `pack` gave.
    """
    stream = zlib.decompressobj()
    try:
        halves = np.frombuffer(stream.decompress(packed), np.uint8)
    except zlib.error as error:
        raise ValueError("not a zlib stream") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("cut off, or with something behind its end")
    content = np.empty(len(halves), np.uint8)
    even = (len(halves) + 1) // 2
    content[::2], content[1::2] = halves[:even], halves[even:]
    return content.tobytes()


def read_weights(path: Path) -> bytes:
    """The content of an .onnx file, or of one that is packed.

    Raises:
        ModelError: it cannot be read or unpacked.
    """
    try:
        content = path.read_bytes()
        return unpack(content) if path.name.endswith(PACKED) else content
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}. Install mrlift again.") from error
