"""`mrlift info`: what an input is, and what is odd about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mrlift.cli.console import Json, Series, SliceAxis, out, print_json, say, show_table
from mrlift.errors import InputError

if TYPE_CHECKING:
    from mrlift.volume import Volume


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(info)


def info(
    input: Annotated[Path, typer.Argument(help="A NIfTI file, or a DICOM folder or file.")],
    series: Series = None,
    slice_axis: SliceAxis = None,
    json: Json = False,
) -> None:
    """Show geometry, type, series and what is odd about INPUT.

    A DICOM series that `upscale` would refuse is shown with the reason.
    """
    from dataclasses import asdict

    from mrlift.io import is_nifti, list_series, load, read_headers

    found = []
    if not is_nifti(input) or input.is_dir():
        found = list_series(read_headers(input))
    facts: dict[str, Any] = {"input": str(input), "series": [asdict(s) for s in found]}
    if series is not None or len(found) < 2:
        try:
            facts |= describe(load(input, series=series, slice_axis=slice_axis))
        except InputError as error:
            if not found:
                raise
            facts["refused"] = str(error)
    if json:
        print_json(facts)
    else:
        _print(facts)


def describe(volume: "Volume") -> dict[str, Any]:
    """Facts of a volume as plain values."""
    import nibabel

    return {
        "shape": list(volume.voxels.shape),
        "dtype": str(volume.voxels.dtype),
        "range": [float(volume.voxels.min()), float(volume.voxels.max())],
        "spacing_mm": [round(v, 6) for v in volume.spacing],
        "slice_axis": volume.slice_axis,
        "slices": volume.slice_count,
        "orientation": "".join(str(c) for c in nibabel.aff2axcodes(volume.affine)),
        "affine_ras": [[round(float(v), 6) for v in row] for row in volume.affine],
        "notes": list(volume.notes),
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = out()
    for s in facts["series"]:
        say(
            f"series {s['uid']}  {s['modality']}  {s['instances']} x {s['columns']}x{s['rows']}"
            f"  {s['description']}"
        )
    if "refused" in facts:
        say(f"refused: {facts['refused']}")
        return
    if "shape" not in facts:
        console.print("Choose one with --series UID to see its geometry.")
        return
    table = Table(show_header=False, box=None)
    low, high = facts["range"]
    for name, value in (
        ("voxels", " x ".join(map(str, facts["shape"])) + f", {facts['dtype']}"),
        ("values", f"{low:g} to {high:g}"),
        ("spacing", " x ".join(f"{v:.4g}" for v in facts["spacing_mm"]) + " mm"),
        ("slices", f"{facts['slices']} along axis {facts['slice_axis']}"),
        ("orientation", facts["orientation"]),
        ("odd", "\n".join(facts["notes"]) or "nothing"),
    ):
        table.add_row(name, Text(value))
    show_table(table)
