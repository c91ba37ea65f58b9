"""`mrlift degrade`: make a low-resolution series from a high-resolution one."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import Json, Overwrite, Series, SliceAxis, print_json, say, size_of


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
    slice_axis: SliceAxis = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INPUT at 1/SCALE of its in-plane resolution to OUTPUT.

    Rows and columns at the far edges that do not fill a low-resolution voxel are left out first.
    """
    from mrlift.inference import degradation
    from mrlift.io import check_format, check_output, load, save

    check_output(input, output, overwrite=overwrite)
    volume = load(input, series=series, slice_axis=slice_axis)
    check_format(volume, output)
    lr = degradation.degrade(volume, scale, kind.value, noise=noise, seed=seed)
    save(lr, output, overwrite=overwrite)
    if json:
        print_json(
            {
                "output": str(output),
                "scale": scale,
                "kind": kind.value,
                "noise": noise,
                "shape": list(lr.voxels.shape),
                "spacing_mm": [round(v, 6) for v in lr.spacing],
            }
        )
    else:
        say(f"{output}: {size_of(lr)}")
