"""`mrlift upscale`: the main job."""

import time
from pathlib import Path
from typing import Annotated

import typer

from mrlift.cli.console import (
    Degradation,
    Engine,
    Json,
    Nifti,
    Overwrite,
    Series,
    SliceAxis,
    Syntax,
    Threads,
    TransferSyntax,
    print_json,
    progress,
    say,
    size_of,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(upscale)


def upscale(
    input: Annotated[Path, typer.Argument(help="A NIfTI file, or a DICOM folder or file.")],
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="A .nii or .nii.gz file, or a new DICOM folder."),
    ],
    scale: Annotated[
        int | None, typer.Option("--scale", help="In-plane factor; default: the model's, or 2.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME|PATH", help="Shipped weights, or an .onnx file."),
    ] = None,
    degradation: Annotated[
        Degradation | None,
        typer.Option(
            "--degradation",
            help="What made INPUT coarse: kspace, a scan of few samples (default), or bicubic, a "
            "finer image that was reduced.",
        ),
    ] = None,
    series: Series = None,
    slice_axis: SliceAxis = None,
    threads: Threads = 0,
    engine: Engine = None,
    whole: Annotated[
        bool | None,
        typer.Option(
            "--whole/--skip-air",
            help="Run the network on air too, or interpolate there; default: interpolate, unless "
            "the weights remove noise.",
        ),
    ] = None,
    nifti: Nifti = False,
    transfer_syntax: TransferSyntax = Syntax.explicit,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INPUT at SCALE times its in-plane resolution to OUTPUT, in the same format.

    A DICOM series becomes a derived MR series in the same study, classic or Enhanced as it was;
    --nifti, or OUTPUT ending in .nii or .nii.gz, gives NIfTI from either. The result appears whole
    or not at all.
    """
    from mrlift.inference import pipeline
    from mrlift.inference.zoo import load_model
    from mrlift.io import check_format, check_output, load, nifti_name, save

    began = time.perf_counter()
    loaded = load_model(model, scale=scale, degradation=degradation, threads=threads, engine=engine)
    output = nifti_name(output) if nifti else output
    check_output(input, output, overwrite=overwrite)
    volume = load(input, series=series, slice_axis=slice_axis)
    check_format(volume, output, transfer_syntax.value)
    with progress(f"x{loaded.card.scale} {loaded.card.name}", quiet=json) as step:
        sr = pipeline.upscale(volume, scale, loaded, whole=whole, progress=step)
    save(sr, output, overwrite=overwrite, transfer_syntax=transfer_syntax.value)
    seconds = time.perf_counter() - began
    facts = {
        "output": str(output),
        "model": loaded.card.name,
        "engine": loaded.name,
        "scale": loaded.card.scale,
        "shape": list(sr.voxels.shape),
        "spacing_mm": [round(v, 6) for v in sr.spacing],
        "slices": sr.slice_count,
        "seconds": round(seconds, 3),
        "notes": list(volume.notes),
    }
    if json:
        print_json(facts)
        return
    for note in volume.notes:
        say(f"Note: {note}")
    say(f"{output}: {size_of(sr)}, {seconds:.1f} s")
