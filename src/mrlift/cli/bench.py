"""`mrlift bench`: measurements that anyone can repeat."""

import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Threads, errors, out

if TYPE_CHECKING:
    from mrlift.benchmark.quality import SeriesQuality

bench = typer.Typer(help="Measure quality on data of your own.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(bench, name="bench")


@bench.callback()
def _group() -> None:
    """Keep `quality` a subcommand while it is the only one."""


@bench.command()
def quality(
    data: Annotated[
        Path,
        typer.Option("--data", envvar="MRLIFT_DATA", help="Folder with HR series."),
    ],
    scale: Annotated[
        int | None, typer.Option("--scale", help="In-plane factor; default: the model's, or 2.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="NAME|PATH")] = None,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Reduce every series under DATA, upscale it, and compare with bicubic interpolation.

    PSNR and SSIM use the maximum of the series; slices with less than 12 % foreground are left
    out; the overall mean is over series.
    """
    import numpy as np
    from rich.markup import escape
    from rich.table import Column, Table

    from mrlift.benchmark.quality import as_json, measure
    from mrlift.inference.zoo import load_model
    from mrlift.io import refuse_existing, replacing

    loaded = load_model(model, scale=scale, threads=threads)
    if json:
        refuse_existing(json, overwrite=True)
    progress = errors()

    def show(r: "SeriesQuality") -> None:
        progress.print(f"{r.series}  {r.gain:+.2f} dB", markup=False, highlight=False)

    results = measure(data, loaded, show)
    table = Table(
        Column("series", overflow="fold"),
        "slices",
        "bicubic dB",
        "mrlift dB",
        "gain",
        "SSIM bicubic",
        "SSIM",
    )
    for r in results:
        table.add_row(
            escape(r.series), str(r.slices), f"{r.psnr_bicubic:.2f}", f"{r.psnr:.2f}",
            f"{r.gain:+.2f}", f"{r.ssim_bicubic:.4f}", f"{r.ssim:.4f}",
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "mean over series",
        str(sum(r.slices for r in results)),
        *(f"{np.mean([getattr(r, k) for r in results]):.2f}" for k in ("psnr_bicubic", "psnr")),
        f"{np.mean([r.gain for r in results]):+.2f}",
        *(f"{np.mean([getattr(r, k) for r in results]):.4f}" for k in ("ssim_bicubic", "ssim")),
    )
    out().print(table)
    if json:
        command = "mrlift " + " ".join(Path(a).name if os.sep in a else a for a in sys.argv[1:])
        content = json_module.dumps(as_json(results, loaded, command), indent=2)
        with replacing(json, overwrite=True) as part:
            part.write_text(content + "\n", encoding="utf-8")
