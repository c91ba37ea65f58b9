"""`mrlift check`: whether a result can be trusted; and what `upscale` shares with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrlift.cli.console import (
    Degradation,
    Json,
    Overwrite,
    Series,
    SliceAxis,
    print_json,
    say,
    show_table,
)

if TYPE_CHECKING:
    from mrlift.quality import Check

Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE.html", help="Write pictures and figures as one page."),
]
Identified = Annotated[
    bool,
    typer.Option("--identified", help="Let the report name the patient and the files."),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="End with exit code 7 where there is a warning.")
]
Residual = Annotated[
    Path | None,
    typer.Option("--residual", metavar="OUTPUT", help="Also write degraded SR minus LR, a map."),
]
CropSpectrum = Annotated[
    bool,
    typer.Option(
        "--crop-spectrum",
        help="First take an interpolated input back to the matrix that was measured.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(check)


def check(
    lr: Annotated[Path, typer.Argument(help="The input: NIfTI, or a DICOM folder or file.")],
    sr: Annotated[Path, typer.Argument(help="What `mrlift upscale` made of it.")],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="The weights that made SR."),
    ] = None,
    degradation: Annotated[
        Degradation | None,
        typer.Option("--degradation", help="As given to `upscale`; default: kspace."),
    ] = None,
    series: Series = None,
    slice_axis: SliceAxis = None,
    crop_spectrum: CropSpectrum = False,
    report: Report = None,
    identified: Identified = False,
    residual: Residual = None,
    strict: Strict = False,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say what speaks against believing SR, by degrading it again.

    Also: whether LR was interpolated by the scanner, and whether it is of the kind that the weights
    were trained on. The weights are those that `upscale` takes for the scale between the two,
    unless --model or --degradation says otherwise.
    """
    from mrlift.inference.zoo import find_weights
    from mrlift.io import check_format, check_output, load, save
    from mrlift.quality import check as check_volumes
    from mrlift.quality import crop_to_acquired, scale_between

    check_report(report, overwrite=overwrite)
    if residual:
        check_output(lr, residual, overwrite=overwrite)
    low = load(lr, series=series, slice_axis=slice_axis)
    low = crop_to_acquired(low) if crop_spectrum else low
    if residual:
        check_format(low, residual, is_map=True)
    high = load(sr)
    card, _ = find_weights(model, scale_between(low, high), degradation)
    checked = check_volumes(low, high, card)
    if residual:
        save(checked.consistency.residual, residual, overwrite=overwrite)
    if report:
        from mrlift.quality.report import write_report

        names = (str(lr), str(sr)) if identified else None
        write_report(report, checked, low, high, names=names, overwrite=overwrite)
    if json:
        print_json(checked.as_json())
    else:
        show(checked)
    end_if_strict(checked, strict=strict)


def check_report(report: Path | None, *, overwrite: bool) -> None:
    """Say before any work whether the report can be written."""
    from mrlift.errors import OutputError
    from mrlift.io import refuse_existing

    if report is None:
        return
    if report.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"{report}: the report is a page; give a name that ends in .html.")
    refuse_existing(report, overwrite=overwrite)


def show(checked: "Check") -> None:
    """Figures with what is usual, then the warnings."""
    from rich.table import Table

    table = Table("test", "found", "usual", "")
    for row in checked.rows():
        table.add_row(row.name, row.found, row.usual, "ok" if row.passed else "warning")
    show_table(table)
    tell(checked)


def tell(checked: "Check") -> None:
    """The warnings, or that there are none."""
    for finding in checked.findings:
        say(f"Warning ({finding.kind}): {finding.text}")
    if checked.passed:
        say("Nothing speaks against this result. That does not prove its fine detail.")


def end_if_strict(checked: "Check", *, strict: bool) -> None:
    """Raise where --strict asks for it."""
    from mrlift.errors import QualityError

    if strict and not checked.passed:
        kinds: Any = ", ".join(f.kind for f in checked.findings)
        raise QualityError(
            f"--strict: expected no warning, found {len(checked.findings)} ({kinds}). What was "
            "asked for is written; look at it before you use it."
        )
