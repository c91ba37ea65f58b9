"""`mrlift bench`: measurements that anyone can repeat."""

import json as json_module
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Threads, errors, out, say

if TYPE_CHECKING:
    from mrlift.benchmark.quality import SeriesQuality

bench = typer.Typer(help="Measure quality on data of your own, and speed.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(bench, name="bench")


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
        content = json_module.dumps(as_json(results, loaded, _command()), indent=2)
        with replacing(json, overwrite=True) as part:
            part.write_text(content + "\n", encoding="utf-8")


def _command() -> str:
    return "mrlift " + " ".join(Path(a).name if os.sep in a else a for a in sys.argv[1:])


@bench.command()
def speed(
    model: Annotated[str | None, typer.Option("--model", metavar="NAME|PATH")] = None,
    size: Annotated[
        list[int] | None, typer.Option("--size", min=16, help="LR samples a side; repeatable.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Runs of small slices.")] = 7,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Also draw seconds over pixels, a PNG.")
    ] = None,
) -> None:
    """Time every engine on slices of 64, 128, 256 and 512 samples a side, in turn.

    Beside them the paper's network as it is written, in eager torch with nine deconvolutions, if
    torch is installed; and the rate of a plain matrix product. Nothing else should run meanwhile.
    """
    from rich.table import Table

    from mrlift.benchmark import speed as bench_speed
    from mrlift.inference.choice import CANDIDATES, choose, installed, open_engine
    from mrlift.inference.engines import cores
    from mrlift.inference.zoo import find_weights
    from mrlift.io import refuse_existing, replacing

    card, weights = find_weights(model)
    threads = threads or cores()
    for file in (json, picture):
        if file:
            refuse_existing(file, overwrite=True)
    default = choose(card, weights, threads)[0].engine
    names = list(installed())
    engines = {name: open_engine(name, weights, card.sha256, threads) for name in names}
    if "torch" in engines:
        from mrlift.networks.engine import paper_engine

        engines[bench_speed.EAGER] = paper_engine(weights, card.network, threads)
    else:
        errors().print("torch is not installed: no comparison with the paper's own form.")
    results = []
    table = Table("LR", "engine", "seconds", "vs eager torch", "vs matmul", "differs by", "MB")
    for side in size or bench_speed.SIZES:
        count = bench_speed.rounds_for(side, rounds)
        result = bench_speed.measure_size(engines, default, card, side, count)
        for name, row in result["engines"].items():
            own = name in CANDIDATES
            row["peak_megabytes"] = (
                bench_speed.peak_megabytes(str(weights), name, side, threads) if own else None
            )
            eager = row["ratio_vs_eager_torch"]
            table.add_row(
                str(side), name + ("*" if name == default else ""), f"{row['seconds']:.3f}",
                f"{eager:.2f}" if eager else "-", f"{row['ratio_vs_matmul']:.2f}",
                f"{row['difference']:.1g}", str(row["peak_megabytes"] or "-"),
            )  # fmt: skip
        results.append(result)
        errors().print(f"LR {side}: {count} rounds done", highlight=False)
    out().print(table)
    growth = bench_speed.growth(results, default)
    say(f"* taken by default. Seconds per pixel, largest size over LR 128: {growth:.2f}")
    if json:
        record = bench_speed.as_json(results, card, _command(), threads)
        with replacing(json, overwrite=True) as part:
            part.write_text(json_module.dumps(record, indent=2) + "\n", encoding="utf-8")
    if picture:
        with replacing(picture, overwrite=True) as part:
            bench_speed.draw(results, part)
