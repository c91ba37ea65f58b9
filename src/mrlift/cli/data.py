"""`mrlift data`: series and slices to train on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mrlift.cli import download
from mrlift.cli.console import Json, Overwrite, errors, print_json, say, show_table
from mrlift.cli.train import need

if TYPE_CHECKING:
    from mrlift.training.store import SliceStore

data = typer.Typer(
    help="Get series, and collect their slices to train on.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
download.register(data)
STORES = ("h5py",)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(data, name="data")


@data.command()
def prepare(
    sources: Annotated[list[Path], typer.Argument(help="Folders with NIfTI or DICOM series.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The store, an .h5 file.")],
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sources",
            metavar="FILE",
            help="Collections, licences, patients; default: sources.toml beside the series.",
        ),
    ] = None,
    crop_spectrum: Annotated[
        bool,
        typer.Option(
            "--crop-spectrum", help="Bring scanner-interpolated series to their acquired matrix."
        ),
    ] = False,
    foreground: Annotated[
        float, typer.Option("--foreground", help="Least share of a slice that is not air.")
    ] = 0.12,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of the patients to validate on.")
    ] = 0.1,
    test: Annotated[
        float, typer.Option("--test", help="Share of the patients to set aside for reporting.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the division of patients.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Collect the slices of all series under SOURCES in one file.

    Air is left out: slices of which less than 12 % is brighter than a tenth of the series' 99.9th
    percentile. Patients are divided by a seeded order of their names unless sources.toml names
    those to hold out. Needs `pip install mrlift[train]`.
    """
    need(*STORES)
    from rich.text import Text

    from mrlift.training.prepare import Rules
    from mrlift.training.prepare import prepare as write
    from mrlift.training.store import SliceStore

    rules = Rules(foreground, crop_spectrum, validation, test, seed)
    with errors().status("Looking for series ...") as status:
        outcome = write(
            sources,
            output,
            rules,
            sources=sheet,
            overwrite=overwrite,
            report=lambda name: status.update(Text(f"Reading {name}")),
        )
    for name, reason in outcome.skipped.items():
        errors().print(f"Left out {name}: {reason}", markup=False, highlight=False)
    for patient, folders in outcome.doubtful.items():
        errors().print(
            f"Files in {folders} folders count as one patient's, {patient}, by their names. If "
            "they are several people's, give `patient` in sources.toml, or what is validated on "
            "may be of people who were trained on.",
            markup=False,
            highlight=False,
        )
    store = SliceStore(output)
    say(
        f"{output}: {sum(n for n, _, _ in store.shapes)} slices of {len(store.records)} series, "
        f"{len(outcome.skipped)} series left out"
    )


@data.command()
def info(
    store: Annotated[Path, typer.Argument(help="Made by `mrlift data prepare`.")],
    json: Json = False,
) -> None:
    """Show the series of STORE: split, matrices, k-space, licences."""
    need(*STORES)
    from mrlift.training.store import SliceStore

    opened = SliceStore(store)
    if json:
        print_json(_as_json(opened))
        return
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(
        Column("series", overflow="fold"), "patient", "split", "contrast", "slices", "matrix",
        "spacing mm", "k-space filled", "licence",
    )  # fmt: skip
    for record, (slices, rows, columns) in zip(opened.records, opened.shapes, strict=True):
        share = " x ".join(f"{v:.0%}" for v in record.filled)
        note = " cropped" if record.cropped else " interpolated" if record.interpolated else ""
        table.add_row(
            escape(record.name), escape(record.patient), record.split, record.contrast,
            str(slices), f"{rows} x {columns}", " x ".join(f"{v:.2f}" for v in record.spacing),
            share + note, escape(record.licence),
        )  # fmt: skip
    table.add_section()
    for split in ("train", "validation", "test"):
        chosen = opened.of(split)
        if chosen:
            patients = len({opened.records[i].patient for i in chosen})
            count = sum(opened.shapes[i][0] for i in chosen)
            table.add_row(f"{len(chosen)} series", f"{patients}", split, "", str(count))
    show_table(table)


@data.command()
def patches(
    store: Annotated[Path, typer.Argument(help="Made by `mrlift data prepare`.")],
    scale: Annotated[int, typer.Option("--scale", min=2, max=4, help="In-plane factor.")] = 2,
    grid: Annotated[
        Literal["paper", "edges"],
        typer.Option("--grid", help="paper: HR samples lie on LR samples. edges: edges coincide."),
    ] = "paper",
    size: Annotated[
        int | None,
        typer.Option("--size", min=8, help="LR samples a side; default: the paper's 14, 10, 8."),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option("--step", min=1, help="LR samples between; default: the paper's 11, 7, 6."),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the number alone.")] = False,
) -> None:
    """Show how many patches a regular grid over STORE's slices gives."""
    need(*STORES)
    from mrlift.resampling import hr_size
    from mrlift.training.config import recipe_from
    from mrlift.training.patches import PAPER, PatchSampler
    from mrlift.training.store import SliceStore

    paper_size, paper_step = PAPER[scale]
    size, step = size or paper_size, step or paper_step
    recipe = recipe_from(
        {"network": {"scale": scale, "grid": grid}, "data": {"lr_patch": size, "lr_step": step}}
    )
    opened = SliceStore(store)
    number = len(PatchSampler(opened, recipe))
    if count:
        say(str(number))
        return
    side = hr_size(size, scale, grid)
    slices = sum(opened.shapes[i][0] for i in opened.of("train"))
    say(
        f"{number} samples of {slices} slices: LR {size} x {size}, HR {side} x {side}, "
        f"every {step} LR samples"
    )


def _as_json(store: "SliceStore") -> list[dict[str, object]]:
    from dataclasses import asdict

    return [
        asdict(record) | {"interpolated": record.interpolated, "shape": list(shape)}
        for record, shape in zip(store.records, store.shapes, strict=True)
    ]
