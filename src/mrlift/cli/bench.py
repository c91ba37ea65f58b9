"""`mrlift bench`: measurements that anyone can repeat."""

import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Degradation, Threads, errors, out

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
    degradation: Annotated[
        Degradation | None,
        typer.Option("--degradation", help="How LR is made; default: as in the weights' training."),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            "--noise",
            min=0.0,
            help="Rician, share of the 99.9th percentile; default: 0.01 with kspace, else none.",
        ),
    ] = None,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Reduce every series under DATA, upscale it, and compare with plain interpolation.

    With k-space cut, zero-filled (sinc) interpolation is measured beside bicubic. PSNR and SSIM use
    the maximum of the series; slices with less than 12 % foreground are left out; the overall mean
    is over series.
    """
    import numpy as np
    from rich.markup import escape
    from rich.table import Column, Table

    from mrlift.benchmark.quality import as_json, measure
    from mrlift.inference.zoo import load_model
    from mrlift.io import refuse_existing, replacing

    loaded = load_model(model, scale=scale, degradation=degradation, threads=threads)
    kind = degradation or loaded.card.degradation
    sigma = (0.01 if kind == "kspace" else 0.0) if noise is None else noise
    if json:
        refuse_existing(json, overwrite=True)
    progress = errors()

    def show(r: "SeriesQuality") -> None:
        progress.print(f"{r.series}  {r.gain:+.2f} dB", markup=False, highlight=False)

    results = measure(data, loaded, kind, sigma, show)
    columns = ["psnr_bicubic", "psnr_sinc", "psnr", "gain", "ssim_bicubic", "ssim_sinc", "ssim"]
    heads = ["bicubic dB", "sinc dB", "mrlift dB", "gain", "SSIM bicubic", "SSIM sinc", "SSIM"]
    if kind != "kspace":
        columns, heads = (
            [v for v, c in zip(values, columns, strict=True) if "sinc" not in c]
            for values in (columns, heads)
        )
    formats = [".4f" if c.startswith("ssim") else "+.2f" if c == "gain" else ".2f" for c in columns]
    table = Table(Column("series", overflow="fold"), "slices", *heads)

    def add(name: str, slices: int, values: list[float]) -> None:
        cells = (format(v, f) for v, f in zip(values, formats, strict=True))
        table.add_row(escape(name), str(slices), *cells)

    rows = [[getattr(r, c) for c in columns] for r in results]
    for r, values in zip(results, rows, strict=True):
        add(r.series, r.slices, values)
    table.add_section()
    add("mean over series", sum(r.slices for r in results), np.mean(rows, axis=0).tolist())
    out().print(table)
    if json:
        command = "mrlift " + " ".join(Path(a).name if os.sep in a else a for a in sys.argv[1:])
        content = json_module.dumps(as_json(results, loaded, kind, sigma, command), indent=2)
        with replacing(json, overwrite=True) as part:
            part.write_text(content + "\n", encoding="utf-8")
