"""`mrlift bench`: measurements that anyone can repeat."""

import json as json_module
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Degradation, Threads, errors, say, show_table
from mrlift.cli.train import need

if TYPE_CHECKING:
    from mrlift.benchmark.quality import SeriesQuality

bench = typer.Typer(
    help="Measure quality and speed, here and on your data.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Precision(StrEnum):
    """Of products in training."""

    mixed = "mixed"
    single = "single"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    from mrlift.cli import tables  # noqa: F401 # adds to it

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
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble",
            help="As of `upscale`: mean of eight flips and transposes; takes 8 times as long.",
        ),
    ] = False,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Reduce every series under DATA, upscale it, and compare.

    With k-space cut, zero-filled (sinc) interpolation is measured beside bicubic. PSNR and SSIM use
    the maximum of the series; slices with less than 12 % foreground are left out; the overall mean
    is over series.
    """
    import numpy as np
    from rich.markup import escape
    from rich.table import Column, Table

    from mrlift.benchmark.quality import as_json, measure
    from mrlift.inference.zoo import load_model
    from mrlift.io import refuse_existing

    loaded = load_model(model, scale=scale, degradation=degradation, threads=threads)
    kind = degradation or loaded.card.degradation
    sigma = (0.01 if kind == "kspace" else 0.0) if noise is None else noise
    if json:
        refuse_existing(json, overwrite=True)
    progress = errors()

    def show(r: "SeriesQuality") -> None:
        progress.print(f"{r.series}  {r.gain:+.2f} dB", markup=False, highlight=False)

    results = measure(data, loaded, kind, sigma, show, turned=ensemble)
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
    show_table(table)
    if json:
        record = as_json(results, loaded, kind, sigma, command_line(), turned=ensemble)
        write_json(json, record)


@bench.command()
def training(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, or a name such as cpu-x2.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="STORE", help="Made by `mrlift data prepare`.")
    ],
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="Instead of the recipe's.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Measurements of each.")] = 7,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Compare training steps of RECIPE with bare convolutions.

    Both run forward and backward, in turn, and medians are compared; the step includes drawing
    patches, the loss and the optimiser. Needs `pip install mrlift[train]`.
    """
    need("torch", "h5py", "tensorboard")
    import tempfile
    from dataclasses import asdict, replace

    import torch

    from mrlift.benchmark.quality import circumstances
    from mrlift.io import refuse_existing
    from mrlift.training.config import load_recipe
    from mrlift.training.store import SliceStore
    from mrlift.training.throughput import measure

    if json:
        refuse_existing(json, overwrite=True)
    if threads:
        torch.set_num_threads(threads)
    settings = load_recipe(recipe)
    if precision:
        settings = replace(settings, training=replace(settings.training, precision=precision.value))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(settings, SliceStore(data), Path(folder), rounds)
    say(
        f"step {found.step_seconds:.3f} s, {found.step_rate:.1f} GFLOP/s; bare stack "
        f"{found.bare_seconds:.3f} s, {found.bare_rate:.1f} GFLOP/s; ratio {found.ratio:.1%}"
    )
    if json:
        kind = settings.training.precision
        facts = {"recipe": recipe.name, "precision": kind, "rounds": rounds}
        facts["threads"] = torch.get_num_threads()
        record = circumstances(command_line()) | facts | asdict(found) | {"ratio": found.ratio}
        write_json(json, record)


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
    """Time every engine on slices of 64 to 512 samples a side.

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
    engines = {name: open_engine(name, weights, threads) for name in names}
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
                bench_speed.peak_megabytes(str(model or card.name), name, side, threads)
                if own
                else None
            )
            eager = row["ratio_vs_eager_torch"]
            table.add_row(
                str(side), name + ("*" if name == default else ""), f"{row['seconds']:.3f}",
                f"{eager:.2f}" if eager else "-", f"{row['ratio_vs_matmul']:.2f}",
                f"{row['difference']:.1g}", str(row["peak_megabytes"] or "-"),
            )  # fmt: skip
        results.append(result)
        errors().print(f"LR {side}: {count} rounds done", highlight=False)
    show_table(table)
    growth = bench_speed.growth(results, default)
    say(f"* taken by default. Seconds per pixel, largest size over LR 128: {growth:.2f}")
    if json:
        record = bench_speed.as_json(results, card, command_line(), threads)
        write_json(json, record)
    if picture:
        with replacing(picture, overwrite=True) as part:
            bench_speed.draw(results, part)


@bench.command()
def lesions(
    data: Annotated[
        Path,
        typer.Option("--data", envvar="MRLIFT_DATA", help="Folder with HR series, or one file."),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME|PATH", help="Weights; repeatable; default: x2."),
    ] = None,
    slices: Annotated[
        int, typer.Option("--slices", min=1, help="Of each series, evenly from its middle.")
    ] = 12,
    noise: Annotated[
        float, typer.Option("--noise", min=0.0, help="Rician, with kspace weights.")
    ] = 0.01,
    seed: Annotated[int, typer.Option("--seed", help="Of places, shapes and noise.")] = 0,
    threads: Threads = 0,
    json: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Insert lesions of 2 to 6 mm, degrade, upscale; see what is left.

    Printed for each size, bright and dark: bias of volume, contrast and amount beside bicubic
    interpolation, and the share that lost more than half of its contrast; then invented structures
    in the same slices without lesions.
    """
    from rich.table import Column, Table

    from mrlift.benchmark import lesions as bench_lesions
    from mrlift.benchmark.quality import circumstances
    from mrlift.inference.zoo import load_model
    from mrlift.io import refuse_existing

    if json:
        refuse_existing(json, overwrite=True)
    names: list[str | None] = list(model) if model else [None]
    models = [load_model(name, threads=threads) for name in names]
    progress = errors()
    results = bench_lesions.measure(
        data, models, slices, noise, seed, lambda line: progress.print(line, highlight=False)
    )
    table = Table(
        Column("method", no_wrap=True),
        "mm",
        "",
        "lesions",
        "volume",
        "contrast",
        "amount",
        "half lost",
    )
    for result in results:
        for line in result["table"]:
            table.add_row(
                result["method"], f"{line['diameter']:g}", "bright" if line["sign"] > 0 else "dark",
                f"{line['lesions']:.0f}",
                *(f"{line[k]:+.0%}" for k in ("volume", "contrast", "amount")),
                f"{line['lost']:.0%}",
            )  # fmt: skip
        table.add_section()
    show_table(table)
    for result in results:
        say(
            f"{result['method']}: {result['invented']} invented structures in "
            f"{result['tissue_cm2']:.0f} cm2 of tissue"
        )
    if json:
        facts = {"data": data.name, "slices": slices, "noise": noise, "seed": seed}
        weights = {"models": {m.card.name: {"sha256": m.card.sha256} for m in models}}
        settings = {"contrast": bench_lesions.CONTRAST, "faint": bench_lesions.FAINT}
        record = circumstances(command_line()) | facts | settings | weights | {"methods": results}
        write_json(json, record)


def command_line() -> str:
    """The command as typed, with names of files in place of paths."""
    return "mrlift " + " ".join(Path(a).name if os.sep in a else a for a in sys.argv[1:])


def write_json(file: Path, record: dict[str, object]) -> None:
    """Write a result whole or not at all."""
    from mrlift.io import replacing

    with replacing(file, overwrite=True) as part:
        part.write_text(json_module.dumps(record, indent=2) + "\n", encoding="utf-8")
