"""Pictures for the report: slices as PNG, the right way up, with maps laid over them.

PNG is written here, since the base install holds no library for pictures and forty lines do.
Source: PNG (third edition), W3C 2025, 5.2 and 11.2.
"""

import base64
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrlift.volume import Volume

Picture = NDArray[np.uint8]  # (rows, columns) grey, or (rows, columns, 3)
Plane = NDArray[np.floating]

DIVERGING = ((33, 102, 222), (120, 120, 120), (226, 54, 40))  # darker, equal, brighter than LR
SEQUENTIAL = ((70, 20, 110), (210, 60, 80), (255, 210, 70))
SIDES = ("RL", "AP", "SI")  # where RAS+ coordinates are high, and where low
DIMMED = 0.75  # of the slice's brightness beneath a map


def png(picture: Picture) -> bytes:
    """A PNG file with 8 bits a channel, grey or RGB."""
    rows, columns = picture.shape[:2]
    colour = 2 if picture.ndim == 3 else 0
    lines = picture.reshape(rows, -1)
    # Filter 2 (up): each line minus the one above, which halves the file of a smooth slice.
    lines = np.diff(lines, axis=0, prepend=np.zeros((1, lines.shape[1]), np.uint8))
    raw = np.pad(lines, ((0, 0), (1, 0)), constant_values=2).tobytes()
    header = struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def data_url(picture: Picture) -> str:
    """A picture as text that stands in a page."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode("ascii")


def grey(plane: Plane, low: float, high: float) -> Picture:
    """Values as grey, black at `low` and white at `high`."""
    share = (plane - low) / (high - low if high > low else 1)
    levels: Picture = np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)
    return levels


def overlay(ground: Picture, values: Plane, limit: float, *, signed: bool) -> Picture:
    """A map over a grey slice of the same size; the stronger the value, the less shows through."""
    share = np.clip(values / (limit or 1), -1 if signed else 0, 1)
    colours = ramp(signed=signed)
    index = np.rint((share + 1) / 2 * 255 if signed else share * 255).astype(int)
    weight = np.sqrt(np.abs(share))[..., None]
    mixed = (1 - weight) * DIMMED * ground[..., None] + weight * colours[index]
    result: Picture = np.rint(mixed).astype(np.uint8)
    return result


def ramp(*, signed: bool) -> Picture:
    """The 256 colours of a map, (256, 3)."""
    stops = np.array(DIVERGING if signed else SEQUENTIAL, dtype=np.float64)
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, range(len(stops)), stops[:, c]) for c in range(3)]
    colours: Picture = np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
    return colours


@dataclass(frozen=True)
class View:
    """How slices of a volume are shown: superior or anterior up, the patient's right on the left.

    Attributes:
        swap: whether the first in-plane axis runs down the picture, not across.
        flips: which picture axes, rows and columns, run backwards.
        spacing: mm between rows, between columns.
        sides: what lies at the left, right, top and bottom.
    """

    swap: bool
    flips: tuple[int, ...]
    spacing: tuple[float, float]
    sides: str

    def of(self, plane: NDArray[np.number]) -> Plane:
        """A slice (h, w) of the volume as rows and columns of a picture."""
        shown = plane if self.swap else plane.T
        return np.ascontiguousarray(np.flip(shown, self.flips), dtype=np.float64)


def view_of(volume: Volume) -> View:
    """The view of a volume's slices. On both axes RAS+ coordinates fall: down and to the right."""
    axes = volume.in_plane_axes
    steps = volume.affine[:3, :3][:, list(axes)]
    world = [int(np.argmax(np.abs(steps[:, k]))) for k in (0, 1)]
    swap = world[0] > world[1]  # superior before anterior before right
    down, across = (0, 1) if swap else (1, 0)
    flips = tuple(k for k, a in enumerate((down, across)) if steps[world[a], a] > 0)
    spacing = volume.spacing[axes[down]], volume.spacing[axes[across]]
    return View(swap, flips, spacing, SIDES[world[across]] + SIDES[world[down]])
