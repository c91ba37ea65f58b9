"""`mrlift evaluate`: how near a result is to the truth."""

import math
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import Json, print_json, say, show_table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    sr: Annotated[Path, typer.Argument(help="The result.")],
    hr: Annotated[Path, typer.Argument(help="The truth on the same grid.")],
    data_range: Annotated[
        float | None,
        typer.Option("--data-range", help="Peak for PSNR and SSIM; default: maximum of HR."),
    ] = None,
    foreground: Annotated[
        float,
        typer.Option("--foreground", min=0.0, max=1.0, help="Least foreground of a slice."),
    ] = 0.12,
    json: Json = False,
) -> None:
    """Print PSNR (dB), SSIM and NRMSE of each slice and their means.

    Slices of HR with a smaller share of foreground than --foreground are left out: foreground is
    what is brighter than a tenth of the 99.9th percentile. HR may have up to 3 more voxels a side
    than SR, as after `mrlift degrade` of an odd size; they are left out too.
    """
    from mrlift.benchmark.comparison import compare
    from mrlift.io import load

    result = compare(load(sr), load(hr), data_range=data_range, foreground=foreground)
    if json:
        # JSON has no infinity: identical slices have a PSNR of null.
        rows = [
            {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in row.items()}
            for row in (*result.rows, result.mean)
        ]
        print_json({"data_range": result.data_range, "slices": rows[:-1], "mean": rows[-1]})
        return
    from rich.table import Table

    table = Table("slice", "PSNR dB", "SSIM", "NRMSE")
    for row in (*result.rows, result.mean):
        table.add_row(
            str(row.get("slice", "mean")),
            f"{row['psnr']:.3f}",
            f"{row['ssim']:.5f}",
            f"{row['nrmse']:.5f}",
            end_section=row is result.rows[-1],
        )
    show_table(table)
    say(f"data range {result.data_range:g}")
