"""The slice store: HR slices of many series in one HDF5 file, read piece by piece.

    /0000, /0001, ...   uint16 (n, H, W), one chunk per slice; attributes as in `Record`
    attributes of /     version, foreground (the rule for slices), seed (of the split)

A stored value v means intensity v * slope + intercept; unsigned 16-bit sources are kept exactly.
What is read is divided by `unit`, the series' 99.9th percentile.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from mrlift.errors import InputError

VERSION = 1
FULL = 65535
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Record:
    """What the store knows of one series."""

    name: str
    patient: str
    split: Split
    source: str
    licence: str
    contrast: str
    spacing: tuple[float, float]  # mm between rows, between columns
    filled: tuple[float, float]  # share of k-space along rows' and columns' index as stored
    cropped: bool  # brought back to the measured matrix, so that what is here is filled
    slices: tuple[int, ...]  # of the source, those that were kept
    unit: float
    slope: float
    intercept: float

    @property
    def interpolated(self) -> bool:
        """Whether part of the k-space of what is here was never measured."""
        return not self.cropped and min(self.filled) < 1


class SliceStore:
    """A store that is open for reading.

    Args:
        path: what `mrlift data prepare` wrote.

    Raises:
        InputError: not a slice store, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Without a chunk cache memory does not grow with the number of series that are read.
            self._file = h5py.File(path, rdcc_nbytes=0)
            if self._file.attrs["version"] != VERSION:
                raise KeyError("version")
            self.keys = sorted(self._file)
            self.records = [_record(self._file[key]) for key in self.keys]
            self.shapes = [self._file[key].shape for key in self.keys]  # (n, H, W) each
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, FileNotFoundError):
                raise InputError(f"There is no slice store {path}.") from error
            raise InputError(
                f"{path} is not a slice store of this version, or it is damaged. Make one with: "
                "mrlift data prepare SOURCE -o STORE"
            ) from error

    def of(self, split: Split) -> list[int]:
        """Numbers of the series in a part of the store."""
        return [i for i, record in enumerate(self.records) if record.split == split]

    def read(
        self, series: int, index: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> NDArray[np.float32]:
        """A rectangle of slice `index` of a series, float32, 1.0 at the series' scale."""
        record = self.records[series]
        stored: NDArray[np.uint16] = self._file[self.keys[series]][index, rows, columns]
        slope, intercept = record.slope / record.unit, record.intercept / record.unit
        return stored * np.float32(slope) + np.float32(intercept)


class StoreWriter:
    """Adds series to a new store; see `new_store`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self.records: list[Record] = []

    def add(self, stack: NDArray[np.number], unit: float, **facts: Any) -> None:  # noqa: ANN401
        """Store slices (n, H, W); `facts` are the fields of `Record` that pixels do not give."""
        low, high = float(stack.min()), float(stack.max())
        exact = np.issubdtype(stack.dtype, np.integer) and low >= 0 and high <= FULL
        slope, intercept = (1.0, 0.0) if exact else ((high - low) / FULL or 1.0, low)
        record = Record(unit=unit, slope=slope, intercept=intercept, split="train", **facts)
        values = self._file.create_dataset(
            f"{len(self.records):05d}", stack.shape, np.uint16, chunks=(1, *stack.shape[1:])
        )
        for index, image in enumerate(stack):
            values[index] = image if exact else np.rint((image - intercept) / slope)
        _describe(values, record)
        self.records.append(record)

    def split(self, parts: list[Split]) -> None:
        """Say which part each series belongs to, in their order."""
        pairs = zip(self.records, parts, strict=True)
        self.records = [dataclasses.replace(record, split=part) for record, part in pairs]
        for index, record in enumerate(self.records):
            self._file[f"{index:05d}"].attrs["split"] = record.split


@contextmanager
def new_store(path: Path, **attributes: float) -> Iterator[StoreWriter]:
    """A writer to a file at `path`, which is complete when the block ends."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"version": VERSION} | attributes)
        yield StoreWriter(file)


def facts(store: SliceStore, split: Split) -> dict[str, Any]:
    """What a card says of the data in one part of a store."""
    chosen = store.of(split)
    records = [store.records[i] for i in chosen]
    spacings = [max(r.spacing) for r in records]
    return {
        "spacing": [round(min(spacings, default=0), 3), round(max(spacings, default=0), 3)],
        "patients": len({r.patient for r in records}),
        "series": len(records),
        "slices": sum(store.shapes[i][0] for i in chosen),
        "contrasts": sorted({r.contrast for r in records}),
        "sources": sorted({f"{r.source} ({r.licence})" for r in records}),
    }


def _describe(values: h5py.Dataset, record: Record) -> None:
    for field in dataclasses.fields(record):
        values.attrs[field.name] = getattr(record, field.name)


def _record(values: h5py.Dataset) -> Record:
    found: dict[str, Any] = {}
    for field in dataclasses.fields(Record):
        value = values.attrs[field.name]
        found[field.name] = tuple(value.tolist()) if isinstance(value, np.ndarray) else value
    if found["split"] not in get_args(Split) or len(found["slices"]) != len(values):
        raise ValueError("inconsistent")
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}
    return Record(**plain)
