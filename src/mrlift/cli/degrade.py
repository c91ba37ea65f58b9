"""`mrlift degrade`: make a low-resolution series from a high-resolution one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import Overwrite, Series, out


class Kind(StrEnum):
    """How resolution is lost."""

    bicubic = "bicubic"
    kspace = "kspace"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(degrade)


def degrade(
    input: Annotated[Path, typer.Argument(help="A NIfTI file, or a DICOM folder or file.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A .nii or .nii.gz file, or a new DICOM folder."),
    ],
    scale: Annotated[int, typer.Option("--scale", min=2, help="In-plane factor.")] = 2,
    kind: Annotated[
        Kind,
        typer.Option("--kind", help="bicubic: MATLAB's imresize. kspace: a coarser acquisition."),
    ] = Kind.bicubic,
    noise: Annotated[
        float,
        typer.Option("--noise", min=0.0, help="Rician noise, share of the 99.9th percentile."),
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the noise.")] = 0,
    series: Series = None,
    overwrite: Overwrite = False,
) -> None:
    """Write INPUT at 1/SCALE of its in-plane resolution to OUTPUT.

    Rows and columns at the far edges that do not fill a low-resolution voxel are left out first.
    """
    from mrlift.inference import degradation
    from mrlift.io import check_output, load, save

    check_output(input, output, overwrite=overwrite)
    volume = load(input, series=series)
    lr = degradation.degrade(volume, scale, kind.value, noise=noise, seed=seed)
    save(lr, output, overwrite=overwrite)
    size = " x ".join(map(str, lr.voxels.shape))
    spacing = " x ".join(f"{v:.4g}" for v in lr.spacing)
    out().print(f"{output}: {size} voxels of {spacing} mm", highlight=False)
