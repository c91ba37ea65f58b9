"""Printing: results on stdout, progress and errors on stderr."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mrlift.volume import Volume

Degradation = Literal["kspace", "bicubic"]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="onnx, amx, winograd, ncnn or torch; default: the fastest here.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="UID",
        help="Which DICOM series of a folder with several; UID/2: its second stack or contrast.",
    ),
]
SliceAxis = Annotated[
    int | None,
    typer.Option("--slice-axis", min=0, max=2, help="Through-plane axis of a NIfTI file."),
]
Nifti = Annotated[
    bool,
    typer.Option("--nifti", help="Write NIfTI; adds .nii.gz to OUTPUT if it is not named so."),
]
Threads = Annotated[int, typer.Option("--threads", min=0, help="CPU threads; 0 takes all cores.")]


class Syntax(StrEnum):
    """Transfer syntaxes of DICOM output; every one is lossless."""

    explicit = "explicit"
    rle = "rle"
    jpeg_ls = "jpeg-ls"
    jpeg_2000 = "jpeg-2000"


TransferSyntax = Annotated[
    Syntax,
    typer.Option("--transfer-syntax", help="Compression of DICOM output, always lossless."),
]

UNBOUNDED = 1000  # columns


def errors() -> "Console":
    """The console on stderr. rich is imported when something is printed, not at start-up."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True)


def out() -> "Console":
    """The console on stdout."""
    from rich.console import Console

    return Console(soft_wrap=True)


def say(text: str) -> None:
    """A line on stdout, at once and as it is: rich would see markup and emoji in names of files."""
    typer.echo(text)


def show_table(table: "Table", *, markup: bool = True) -> None:
    """A table on stdout: folded where the terminal is narrow; a file or pipe has no width."""
    console = out()
    for column in table.columns:
        column.overflow = "fold"
    if not console.is_terminal:
        console.width = UNBOUNDED
    console.print(table, markup=markup, highlight=False)


def size_of(volume: "Volume") -> str:
    """Shape and spacing in words."""
    size = " x ".join(map(str, volume.voxels.shape))
    return f"{size} voxels of {' x '.join(f'{v:.4g}' for v in volume.spacing)} mm"


def fail(message: str, code: int) -> NoReturn:
    """Print an error and end."""
    from rich.text import Text

    errors().print(Text("Error: ", style="bold red") + Text(message, style="default"))
    sys.exit(code)


def print_json(value: Any) -> None:  # noqa: ANN401
    """One JSON document on stdout, never coloured or wrapped."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def progress(task: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time left; the yielded function takes (done, total)."""
    if quiet:
        yield lambda done, total: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=errors(),
    )
    with bar:
        row = bar.add_task(task, total=None)
        yield lambda done, total: bar.update(row, completed=done, total=total)
