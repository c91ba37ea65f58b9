"""NIfTI-1 and NIfTI-2 files, .nii and .nii.gz, 3-D and 4-D."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from mrlift.errors import InputError
from mrlift.io.limits import DEFLATE_RATIO, refuse_oversize, refuse_short
from mrlift.volume import Volume, fit_dtype

UNITS = {1: 1e3, 2: 1.0, 3: 1e-3}  # xyzt_units of metres, mm, micrometres -> mm
# NIfTI cannot hold half-precision floats, and few tools read its 128-bit ones.
STORABLE: dict[str, np.dtype] = {
    "float16": np.dtype(np.float32),
    "float128": np.dtype(np.float64),
    "longdouble": np.dtype(np.float64),
}
READ_ERRORS = (
    ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, zlib.error,
)  # fmt: skip
MAX_OFFSET = 2**28  # bytes before the voxels: header and extensions
CHUNK = 2**20  # bytes that are decompressed at once to see the checksum
DISAGREEMENT = 1e-3  # mm between qform and sform over one voxel's step that is worth a warning
CLEARLY_THICKER = 1.2  # ratio of spacings from which the thickest axis is the slice axis


@dataclass(frozen=True)
class NiftiSource:
    """The header of the file, and the type in which its values were stored."""

    header: nibabel.Nifti1Header
    stored: np.dtype
    scaled: bool  # the file had a slope or intercept
    unit: float  # of the file's lengths, mm


def load_nifti(path: Path) -> Volume:
    """Read a NIfTI file.

    Integer files without slope and intercept keep their type; scaled ones become float32.

    Raises:
        InputError: not a NIfTI file, truncated, 2-D, complex or colour.
    """
    try:
        image = nibabel.load(path)
        if not isinstance(image, nibabel.Nifti1Image):
            raise InputError(f"{path} is not a NIfTI file but {type(image).__name__}.")
        header = image.header
        stored = header.get_data_dtype()
        if stored.kind not in "iuf" or len(image.shape) not in (3, 4):
            raise InputError(
                f"{path}: expected a 3-D or 4-D series of real numbers, found shape {image.shape} "
                f"of {stored}. Convert colour or complex data to magnitudes and stack 2-D images."
            )
        _refuse_impossible(path, image)
        proxy: Any = image.dataobj
        scaled = (proxy.slope, proxy.inter) != (1.0, 0.0)
        voxels = np.asarray(image.dataobj)
        _check_sum(path, int(proxy.offset) + voxels.size * stored.itemsize)
        unit = UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
        notes = tuple(_notes(image))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: {error.strerror}.") from error
    except READ_ERRORS as error:
        raise InputError(
            f"{path} cannot be read as NIfTI: {_reason(error)}. The file is damaged or truncated."
        ) from error
    if scaled:
        voxels = voxels.astype(np.float32)
    if voxels.dtype.itemsize > 8:
        voxels = voxels.astype(np.float64)  # the 128-bit floats of few files and no camera
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    source = NiftiSource(header, stored.newbyteorder("="), scaled, unit)
    affine = np.diag([unit, unit, unit, 1.0]) @ np.asarray(image.affine, dtype=np.float64)
    return Volume(voxels, affine, _slice_axis(header, affine), source, notes)


def _refuse_impossible(path: Path, image: nibabel.Nifti1Image) -> None:
    """Refuse a header that claims more than the file can hold, or than mrlift takes on."""
    shape = tuple(int(n) for n in image.shape)
    refuse_oversize(path, shape[0], shape[1], math.prod(shape[2:]))
    proxy: Any = image.dataobj
    offset = float(proxy.offset)
    if not 0 <= offset <= MAX_OFFSET:
        raise InputError(f"{path}: voxels cannot begin at byte {offset:g}. Repair vox_offset.")
    needed = math.prod(shape) * image.header.get_data_dtype().itemsize
    compressed = path.name.lower().endswith(".gz")
    refuse_short(path, needed + int(offset), ratio=DEFLATE_RATIO if compressed else 1)


def _check_sum(path: Path, length: int) -> None:
    """Read a .gz stream of `length` bytes to its end, where its checksum is.

    nibabel stops at the last voxel, and takes flipped bits for intensities. What follows the voxels
    is read for as long as they are, so that a stream without end cannot keep us.

    Raises:
        OSError, EOFError, zlib.error: it is damaged.
    """
    if not path.name.lower().endswith(".gz"):
        return
    with gzip.open(path) as stream:
        left = 2 * length
        while left > 0 and (part := stream.read(CHUNK)):
            left -= len(part)


def save_nifti(volume: Volume, path: Path) -> None:
    """Write `volume` to `path`, in the stored type of its source where it came from NIfTI.

    Maps (`Derivation.quantity`) keep their own type.

    qform and sform are both set to the volume's affine, their codes and the units are kept; slope,
    intercept and display range are reset to fit the new values.
    """
    source = volume.source if isinstance(volume.source, NiftiSource) else None
    header = source.header.copy() if source else nibabel.Nifti1Header()
    voxels = volume.voxels
    is_map = volume.derivation is not None and bool(volume.derivation.quantity)
    stored = source.stored if source and not is_map else voxels.dtype
    stored = STORABLE.get(stored.name, stored)
    if stored.kind in "iu" and voxels.dtype.kind == "f" and not (source and source.scaled):
        voxels = fit_dtype(voxels, stored)
    header.set_data_dtype(stored)
    header.set_slope_inter(None, None)  # nibabel fits them where float values go into integers
    header["cal_min"] = header["cal_max"] = 0
    if volume.derivation:
        header["descrip"] = volume.derivation.label[:79].encode()
    image = type_for(header)(voxels, None, header)
    q_code, s_code = (int(header[f"{form}form_code"]) for form in "qs")
    if source is None:
        q_code = s_code = 1
        image.header.set_xyzt_units("mm")
    unit = 1.0 if source is None else source.unit
    affine = np.diag([1 / unit, 1 / unit, 1 / unit, 1.0]) @ volume.affine
    image.set_sform(affine, s_code or q_code)
    image.set_qform(affine, q_code or s_code, strip_shears=True)
    # Without a name for it, the slice axis might be guessed otherwise from the new spacings.
    frequency, phase, _ = image.header.get_dim_info()
    rest = [None if axis == volume.slice_axis else axis for axis in (frequency, phase)]
    image.header.set_dim_info(rest[0], rest[1], volume.slice_axis)
    if path.name.lower().endswith(".gz"):
        # Level 1: half the time of the default for files a few per cent larger. No name and no
        # time in the header, so that equal volumes give equal files.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as file:
            image.to_stream(file)
    else:
        with path.open("wb") as file:
            image.to_stream(file)


def type_for(header: nibabel.Nifti1Header) -> type[nibabel.Nifti1Image]:
    """The image class that goes with a header: NIfTI-2 stays NIfTI-2."""
    two = isinstance(header, nibabel.Nifti2Header)
    return nibabel.Nifti2Image if two else nibabel.Nifti1Image


def _slice_axis(header: nibabel.Nifti1Header, affine: NDArray[np.float64]) -> int:
    """The header's own word, else the clearly thickest axis, else the last."""
    named = header.get_dim_info()[2]
    if named is not None:
        return int(named)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    thickest = int(np.argmax(spacing))
    others = np.delete(spacing, thickest)
    return thickest if spacing[thickest] > CLEARLY_THICKER * others.max() else 2


def _notes(image: nibabel.Nifti1Image) -> list[str]:
    header = image.header
    qform, q_code = header.get_qform(coded=True)
    sform, s_code = header.get_sform(coded=True)
    if q_code == 0 and s_code == 0:
        return ["Neither qform nor sform is set: position and orientation are unknown."]
    if qform is None or sform is None:
        return []
    apart = float(np.abs(qform - sform).max())
    if apart > DISAGREEMENT:
        return [
            f"qform and sform disagree by up to {apart:.3g} (mm, or mm per voxel): "
            f"the sform (code {s_code}) is used, the qform (code {q_code}) is replaced by it."
        ]
    return []


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
