"""`mrlift train` and `mrlift export`: weights of one's own."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import Overwrite, say
from mrlift.errors import ConfigError, OutputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)
    app.command()(export)


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, see recipes/.")],
    data: Annotated[
        Path,
        typer.Option("--data", envvar="MRLIFT_DATA", help="Folder with NIfTI or DICOM series."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the run.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="RUN",
            help="Begin with the weights of another run, of a network of equal or smaller size.",
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="MINUTES", help="Stop after this time.")
    ] = None,
) -> None:
    """Train a network on the series under DATA as RECIPE says.

    A checkpoint is saved every five minutes, on SIGTERM and at the end; `--resume` goes on from
    it. Needs `pip install mrlift[train]`.
    """
    need_torch()
    from mrlift.training.config import load_recipe
    from mrlift.training.loop import Run
    from mrlift.training.slices import load_slices

    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    settings = load_recipe(recipe)
    if resume and start:
        raise ConfigError("--start begins a new run and --resume goes on with one: pass one.")
    if (output / "checkpoint.pt").exists() and not resume:
        raise ConfigError(f"{output} holds a run already. Pass --resume to go on with it.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot create {output}: {error.strerror}.") from error
    training, validation = load_slices(data, settings.data)
    say(f"{len(training)} slices to train on, {len(validation)} to validate on")
    run = Run(settings, training, validation, output, resume=resume, start=start)

    def show(row: dict[str, float]) -> None:
        say(
            f"step {row['step']:.0f}/{run.steps}  loss {row['loss']:.5f}  learning rate "
            f"{row['learning_rate']:.2e}  {row['pixels_per_second']:.0f} LR pixels/s  "
            f"validation {row['gain']:+.3f} dB over bicubic"
        )

    finished = run.train(minutes=budget, report=show, stop=lambda: bool(stopped))
    say("Finished." if finished else f"Stopped; go on with --resume -o {output}")


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="An .onnx file.")],
    overwrite: Overwrite = False,
) -> None:
    """Write the weights of RUN as ONNX with their card (.json) beside it.

    Needs `pip install mrlift[train]`.
    """
    need_torch()
    from mrlift.io import refuse_existing
    from mrlift.training.checkpoint import load_checkpoint
    from mrlift.training.export import export as write

    if output.suffix != ".onnx":
        raise OutputError(f"Expected a name that ends in .onnx, found {output}.")
    for file in (output, output.with_suffix(".json")):
        refuse_existing(file, overwrite=overwrite)
    card = write(load_checkpoint(run), output)
    say(f"{output}: {card.name}, sha256 {card.sha256[:12]}")


def need_torch() -> None:
    """End with a clear message where torch is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("torch", "onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: pip install 'mrlift[train]'"
        )
