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
from mrlift.inference.degradation import Kind
from mrlift.io import SeriesSource, save
from mrlift.resampling import Grid
from mrlift.viewer import maps
from mrlift.volume import Volume

IMAGES = ("lr", "bicubic", "sr", "residual", "spread")
SHOWN = ("uint8", "int16", "uint16", "float32")  # stored as they are; others become float32
WINDOW = (0.5, 99.8)  # percentiles of the input that the page shows from black to white
RESIDUAL_RANGE = 99.5  # percentile of its size at which the colours saturate


@dataclass
class Case:
    """A series with what has been made of it.

    Attributes:
        name: what the user called it; shown, never used as a path.
        folder: for the files that the page fetches; removed by whoever made it.
        lr: the series.
        kind: the degradation that the residual assumes.
        sr: the result, on a grid of `scale` and `grid`.
        spread: standard deviation over the flips and transposes of the series.
        spread_model: name of the weights for which that was computed.
        card: of the weights that made it; None for a result that was given.
    """

    name: str
    folder: Path
    lr: Volume
    kind: Kind
    sr: Volume | None = None
    spread: Volume | None = None
    spread_model: str | None = None
    scale: int = 0
    grid: Grid = "edges"
    card: Card | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def set_result(self, sr: Volume, scale: int, grid: Grid, card: Card | None = None) -> None:
        """Take a result; what was made of an earlier one goes."""
        with self._lock:
            for name in IMAGES[1:]:
                (self.folder / f"{name}.nii").unlink(missing_ok=True)
            self.sr, self.scale, self.grid, self.card = sr, scale, grid, card
            self.spread = self.spread_model = None
            if card is not None:
                self.kind = card.degradation

    def set_spread(self, spread: Volume, model: str) -> None:
        """Take a spread that was computed for the weights called `model`."""
        with self._lock:
            (self.folder / "spread.nii").unlink(missing_ok=True)
            self.spread, self.spread_model = spread, model

    @property
    def is_dicom(self) -> bool:
        """Whether the series came from DICOM."""
        return isinstance(self.lr.source, SeriesSource)

    def facts(self) -> dict[str, Any]:
        """What the page must know before it fetches images, as plain values."""
        low, high = np.percentile(self.lr.voxels, WINDOW)
        images = {"lr": _geometry(self.lr)}
        if self.sr is not None:
            images["bicubic"] = images["sr"] = _geometry(self.sr)
        return {
            "name": self.name,
            "format": "DICOM" if self.is_dicom else "NIfTI",
            "notes": list(self.lr.notes),
            "images": images,
            "plane": _plane(self.lr),
            "axis": self.lr.slice_axis,
            "times": int(np.prod(self.lr.voxels.shape[3:])),
            "window": [float(low), max(float(high), float(low) + 1e-6)],
            "range": [float(self.lr.voxels.min()), float(self.lr.voxels.max())],
            "integer": self.lr.voxels.dtype.kind in "iu",
            "scale": self.scale,
            "degradation": self.kind,
            "model": self.card.name if self.card else None,
            "download": self.download_name() if self.card else None,
            "spread": self.spread_model,
        }

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

    def colours(self, name: str) -> dict[str, Any]:
        """The range of a map that its colours cover, with its unit and meaning.

        Raises:
            InputError: the case has no such map yet.
        """
        with self._lock:
            volume = self._volume(name)
        high = float(np.percentile(np.abs(volume.voxels), RESIDUAL_RANGE)) or 1e-6
        return {"low": -high if name == "residual" else 0.0, "high": high}

    def _volume(self, name: str) -> Volume:
        if name == "lr":
            return self.lr
        if self.sr is None:
            raise InputError("There is no result yet. Upscale the series first.")
        if name == "sr":
            return self.sr
        if name == "bicubic":
            return maps.bicubic(self.lr, self.scale, self.grid)
        if name == "residual":
            return maps.residual(self.lr, self.sr, self.scale, self.grid, self.kind)
        if self.spread is None:
            raise InputError("The spread has not been computed yet.")
        return self.spread

    def download_name(self) -> str:
        """The name under which the result is downloaded."""
        stem = self.name.removesuffix(".gz").removesuffix(".nii")
        return f"{stem}_x{self.scale}{'.zip' if self.is_dicom else '.nii.gz'}"

    def write_result(self) -> None:
        """Write what `result_file` names: a NIfTI file, or a derived DICOM series in one .zip.

        Raises:
            OutputError, InputError: as `mrlift.save`.
        """
        assert self.sr is not None
        if not self.is_dicom:
            save(self.sr, self.result_file, overwrite=True)
            return
        series = self.folder / "series"
        save(self.sr, series, overwrite=True)
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
