"""`mrlift train` and `mrlift export`: weights of one's own."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer

from mrlift.cli.console import Overwrite, Threads, errors, say
from mrlift.errors import ConfigError, OutputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(train)
    app.command()(export)


def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, or a name such as cpu-x2.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="STORE", help="Made by `mrlift data prepare`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the run.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of the run.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--start",
            metavar="RUN|NAME|FILE",
            help="Begin with a run, shipped weights or an .onnx file, of equal or smaller size.",
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option("--budget", metavar="MINUTES", help="Stop after this time.")
    ] = None,
    every: Annotated[
        float, typer.Option("--every", metavar="MINUTES", min=0.0, help="Between checkpoints.")
    ] = 5.0,
    threads: Threads = 0,
) -> None:
    """Train a network on the slices of STORE as RECIPE says.

    A validation with a checkpoint, a row in curves.csv and in TensorBoard's file comes every five
    minutes, on SIGTERM and at the end; `--resume` goes on from the last as if nothing had happened.
    Under `torchrun` all processes share the batches. Needs `pip install mrlift[train]`.
    """
    need("torch", "h5py", "tensorboard")
    import torch

    from mrlift.training.config import load_recipe
    from mrlift.training.loop import Run
    from mrlift.training.store import SliceStore

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
    if threads:
        torch.set_num_threads(threads)
    with processes() as device:
        store = SliceStore(data)
        run = Run(settings, store, output, resume=resume, start=start, device=device)
        first = run.rank == 0
        with Status(show=first) as status:
            status.say(
                f"{run.facts['slices']} slices of {run.facts['patients']} patients to train on, "
                f"{run.steps} steps, {run.world} process{'es' * (run.world > 1)}, {device}"
            )
            finished = run.train(
                minutes=budget,
                every=60 * every,
                report=lambda row: status.say(line(row, run.steps)),
                progress=lambda row: status.update(line(row, run.steps)),
                stop=lambda: bool(stopped),
            )
            status.say("Finished." if finished else f"Stopped; go on with --resume -o {output}")


def line(row: dict[str, float], steps: int) -> str:
    """What a row of the curves says, for people."""
    left = timedelta(seconds=round(row["seconds_left"]))
    text = (
        f"step {row['step']:.0f}/{steps}  loss {row['loss']:.5f}  gradient "
        f"{row['gradient_norm']:.3g}  learning rate {row['learning_rate']:.2e}  "
        f"{row['pixels_per_second']:.0f} LR pixels/s  {left} left"
    )
    return text + (f"  validation {row['gain']:+.3f} dB over bicubic" if "gain" in row else "")


@contextmanager
def processes() -> Iterator[str]:
    """Join the processes that torchrun started, if it did; gives the device of this one."""
    import torch

    cuda = torch.cuda.is_available()
    local = os.environ.get("LOCAL_RANK")
    if local is None:
        yield "cuda" if cuda else "cpu"
        return
    if cuda:
        torch.cuda.set_device(int(local))
    torch.distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield f"cuda:{local}" if cuda else "cpu"
    finally:
        torch.distributed.destroy_process_group()


class Status:
    """Lines that stay, and on a terminal one below them that is rewritten."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._live = errors().status("Starting ...") if show else None

    def say(self, text: str) -> None:
        """Print a line."""
        if self._show:
            say(text)

    def update(self, text: str) -> None:
        """Replace the last line; not seen where the output is no terminal."""
        if self._live is not None:
            self._live.update(text)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="An .onnx file.")],
    overwrite: Overwrite = False,
) -> None:
    """Write the weights of RUN as ONNX with their card.

    Needs `pip install mrlift[train]`.
    """
    need("torch", "onnx", "onnxscript")
    from mrlift.io import refuse_existing
    from mrlift.training.checkpoint import load_checkpoint
    from mrlift.training.export import export as write

    if output.suffix != ".onnx":
        raise OutputError(f"Expected a name that ends in .onnx, found {output}.")
    for file in (output, output.with_suffix(".json")):
        refuse_existing(file, overwrite=overwrite)
    card = write(load_checkpoint(run), output)
    say(f"{output}: {card.name}, sha256 {card.sha256[:12]}")


def need(*modules: str) -> None:
    """End with a clear message where what the train extra brings is not installed."""
    from importlib.util import find_spec

    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: pip install 'mrlift[train]'"
        )
