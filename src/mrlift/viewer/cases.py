"""A case: one series, its result where there is one, and the images of both for the page."""

import shutil
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from mrlift.errors import InputError
from mrlift.inference.card import Card
from mrlift.io import SeriesSource, save
from mrlift.quality import Check, check
from mrlift.resampling import bicubic_up
from mrlift.volume import Volume, fit_dtype

IMAGES = ("lr", "bicubic", "sr", "residual", "spread")
SHOWN = ("uint8", "int16", "uint16", "float32")  # stored as they are; others become float32
WINDOW = (0.5, 99.8)  # percentiles of the input that the page shows from black to white
NOISES = 4.0  # noise levels at which the colours of the residual end
SPREAD_END = 99.5  # percentile of the spread at which its colours end
LEAST_SPREAD = 0.25  # noise levels; below, a spread is not worth strong colours


@dataclass(frozen=True)
class Result:
    """What was made of a series.

    Attributes:
        sr: the volume.
        card: of the weights that made it.
        check: what speaks against believing it.
        new: it was made here, and can be downloaded.
    """

    sr: Volume
    card: Card
    check: Check
    new: bool

    @classmethod
    def of(cls, lr: Volume, sr: Volume, card: Card, *, new: bool) -> "Result":
        """A result, checked against its input.

        Raises:
            GeometryError: the two are not a pair of these weights.
        """
        sr = replace(sr, slice_axis=lr.slice_axis)
        return cls(sr, card, check(lr, sr, card), new)


@dataclass
class Case:
    """A series with what has been made of it.

    Attributes:
        name: what the user called it; shown, never used as a path.
        folder: for the files that the page fetches; removed by whoever made it.
        lr: the series.
        result: of it, if there is one; `set_result` replaces it.
        spread: standard deviation of the result over the flips and transposes of the series.
    """

    name: str
    folder: Path
    lr: Volume
    result: Result | None = None
    spread: Volume | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def set_result(self, result: Result) -> None:
        """Take a result; what was made of an earlier one goes."""
        with self._lock:
            for name in IMAGES[1:]:
                (self.folder / f"{name}.nii").unlink(missing_ok=True)
            self.result, self.spread = result, None

    @property
    def is_dicom(self) -> bool:
        """Whether the series came from DICOM."""
        return isinstance(self.lr.source, SeriesSource)

    def facts(self) -> dict[str, Any]:
        """What the page must know before it fetches images, as plain values."""
        low, high = np.percentile(self.lr.voxels, WINDOW)
        facts: dict[str, Any] = {
            "name": self.name,
            "format": "DICOM" if self.is_dicom else "NIfTI",
            "notes": list(self.lr.notes),
            "images": {"lr": _geometry(self.lr)},
            "plane": _plane(self.lr),
            "axis": self.lr.slice_axis,
            "times": int(np.prod(self.lr.voxels.shape[3:])),
            "window": [float(low), max(float(high), float(low) + 1e-6)],
            "range": [float(self.lr.voxels.min()), float(self.lr.voxels.max())],
            "integer": self.lr.voxels.dtype.kind in "iu",
            "result": None,
        }
        if (result := self.result) is None:
            return facts
        facts["images"] |= dict.fromkeys(("bicubic", "sr"), _geometry(result.sr))
        facts["result"] = {
            "scale": result.card.scale,
            "model": result.card.name,
            "degradation": result.card.degradation,
            "noise": result.check.consistency.noise,
            "findings": [finding.text for finding in result.check.findings],
            "download": self.download_name() if result.new else None,
            "spread": self.spread is not None,
        }
        return facts

    def image(self, name: str) -> Path:
        """The NIfTI file of one of `IMAGES`, made when it is first asked for.

        Raises:
            InputError: the case has no such image yet.
        """
        with self._lock:
            path = self.folder / f"{name}.nii"
            if not path.exists():
                save(_displayable(self._volume(name)), path)
            return path

    def colours(self, name: str) -> dict[str, float]:
        """The values at which the colours of a map end.

        Raises:
            InputError: the case has no such map yet.
        """
        with self._lock:
            volume, result = self._volume(name), self.result
        assert result is not None  # else there was no map
        noise = result.check.consistency.noise
        if name == "residual":
            return {"low": -NOISES * noise, "high": NOISES * noise}
        end = float(np.percentile(volume.voxels, SPREAD_END))
        return {"low": 0.0, "high": max(LEAST_SPREAD * noise, end)}

    def _volume(self, name: str) -> Volume:
        if name == "lr":
            return self.lr
        if self.result is None:
            raise InputError("There is no result yet. Upscale the series first.")
        if name == "sr":
            return self.result.sr
        if name == "bicubic":
            return _bicubic(self.lr, self.result.card)
        if name == "residual":
            return self.result.check.consistency.residual
        if self.spread is None:
            raise InputError("The spread has not been computed yet.")
        return self.spread

    def download_name(self) -> str:
        """The name under which the result is downloaded."""
        assert self.result is not None
        stem = self.name.removesuffix(".gz").removesuffix(".nii")
        return f"{stem}_x{self.result.card.scale}{'.zip' if self.is_dicom else '.nii.gz'}"

    def write_result(self) -> None:
        """Write what `result_file` names: a NIfTI file, or a derived DICOM series in one .zip.

        Raises:
            OutputError, InputError: as `mrlift.save`.
        """
        assert self.result is not None
        if not self.is_dicom:
            save(self.result.sr, self.result_file, overwrite=True)
            return
        series = self.folder / "series"
        save(self.result.sr, series, overwrite=True)
        part = self.result_file.with_suffix(".part")
        stem = self.download_name().removesuffix(".zip")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for file in sorted(series.iterdir()):
                archive.write(file, f"{stem}/{file.name}")
        part.replace(self.result_file)
        shutil.rmtree(series)

    @property
    def result_file(self) -> Path:
        """Where the result to be downloaded is."""
        return self.folder / ("result.zip" if self.is_dicom else "result.nii.gz")


def _bicubic(lr: Volume, card: Card) -> Volume:
    """`lr` interpolated onto the grid of a result of these weights, in its own type."""
    planes = [
        fit_dtype(bicubic_up(plane.astype(np.float32), card.scale, card.grid), lr.voxels.dtype)
        for plane in lr.slices()
    ]
    return lr.resized(lr.voxels_from_slices(np.stack(planes)), card.scale, card.grid)


def _displayable(volume: Volume) -> Volume:
    """In a type that the page reads without loss of what it shows, and free of any header."""
    kind = volume.voxels.dtype
    voxels = volume.voxels if kind.name in SHOWN else volume.voxels.astype(np.float32)
    return replace(volume, voxels=voxels, source=None, derivation=None)


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "shape": list(volume.voxels.shape[:3]),
        "spacing": [round(v, 4) for v in volume.spacing],
    }


def _plane(volume: Volume) -> str:
    """The plane of the slices by the nearest axis of the patient."""
    axis = nibabel.io_orientation(volume.affine)[volume.slice_axis, 0]
    return ("sagittal", "coronal", "axial")[int(axis)]
