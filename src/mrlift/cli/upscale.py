"""`mrlift upscale`: the main job."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.check import (
    CropSpectrum,
    Identified,
    Report,
    Residual,
    Strict,
    check_report,
    end_if_strict,
    tell,
)
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

if TYPE_CHECKING:
    from mrlift.inference.zoo import Model
    from mrlift.quality import Check
    from mrlift.volume import Volume


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
    ensemble: Annotated[
        bool,
        typer.Option(
            "--ensemble", help="Mean of eight flips and transposes; takes 8 times as long."
        ),
    ] = False,
    consistent: Annotated[
        bool,
        typer.Option("--consistent", help="Make the result agree with INPUT to the noise level."),
    ] = False,
    crop_spectrum: CropSpectrum = False,
    report: Report = None,
    identified: Identified = False,
    residual: Residual = None,
    spread: Annotated[
        Path | None,
        typer.Option(
            "--spread", metavar="OUTPUT", help="With --ensemble: also write the eight's spread."
        ),
    ] = None,
    strict: Strict = False,
    nifti: Nifti = False,
    transfer_syntax: TransferSyntax = Syntax.explicit,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write INPUT at SCALE times its in-plane resolution to OUTPUT.

    The format stays the same. A DICOM series becomes a derived MR series in the same study, classic
    or Enhanced as it was; --nifti, or OUTPUT ending in .nii or .nii.gz, gives NIfTI from either.
    The result appears whole or not at all.

    --report, --residual and --strict test the result as `mrlift check` does.
    """
    from mrlift.inference.zoo import load_model

    began = time.perf_counter()
    if spread and not ensemble:
        raise typer.BadParameter(
            "the spread is that of --ensemble: give both.", param_hint="--spread"
        )
    # What reads images is imported while weights are unpacked: most of what a start takes.
    with ThreadPoolExecutor(1) as beside:
        beside.submit(import_module, "mrlift.io")
        loaded = load_model(
            model, scale=scale, degradation=degradation, threads=threads, engine=engine
        )
    from mrlift.io import check_format, check_output, load, nifti_name, save

    output = nifti_name(output) if nifti else output
    maps = [m for m in (residual, spread) if m]
    for path in (output, *maps):
        check_output(input, path, overwrite=overwrite)
    check_report(report, overwrite=overwrite)
    volume = load(input, series=series, slice_axis=slice_axis)
    check_format(volume, output, transfer_syntax.value)
    for path in maps:
        check_format(volume, path, is_map=True)
    if crop_spectrum:
        from mrlift.quality import crop_to_acquired

        volume = crop_to_acquired(volume)
    names = (str(input), str(output)) if identified else None
    result = _Result(volume, loaded, ensemble=ensemble, consistent=consistent)
    quiet = json or (volume.slice_count == 1 and not ensemble)  # nothing would move
    with progress(f"x{loaded.card.scale} {loaded.card.name}", quiet=quiet) as step:
        result.compute(whole=whole, progress=step)
    sr = result.sr
    checked = result.checked() if report or residual or strict else None
    save(sr, output, overwrite=overwrite, transfer_syntax=transfer_syntax.value)
    if spread and result.spread:
        save(result.spread, spread, overwrite=overwrite)
    if checked and residual:
        save(checked.consistency.residual, residual, overwrite=overwrite)
    if checked and report:
        result.write_report(report, checked, names, overwrite=overwrite)
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
        print_json(facts | ({"quality": checked.as_json()} if checked else {}))
    else:
        for note in volume.notes:
            say(f"Note: {note}")
        say(f"{output}: {size_of(sr)}, {seconds:.1f} s")
        if checked:
            tell(checked)
    if checked:
        end_if_strict(checked, strict=strict)


class _Result:
    """What is computed of a volume, and what its report needs."""

    def __init__(
        self, volume: "Volume", model: "Model", *, ensemble: bool, consistent: bool
    ) -> None:
        self.volume, self.model = volume, model
        self.ensemble, self.consistent = ensemble, consistent
        self.spread: Volume | None = None

    def compute(self, *, whole: bool | None, progress: Callable[[int, int], None]) -> None:
        from mrlift.inference import pipeline

        if self.ensemble or self.consistent:
            from mrlift import quality
        if self.ensemble:
            both = quality.ensemble(self.volume, self.model, whole=whole, progress=progress)
            self.sr, self.spread = both.mean, both.spread
        else:
            self.sr = pipeline.upscale(
                self.volume, model=self.model, whole=whole, progress=progress
            )
        if self.consistent:
            self.sr = quality.back_project(self.volume, self.sr, self.model.card)

    def checked(self) -> "Check":
        from mrlift import quality

        return quality.check(self.volume, self.sr, self.model.card)

    def write_report(
        self, path: Path, checked: "Check", names: tuple[str, str] | None, *, overwrite: bool
    ) -> None:
        from mrlift.quality.report import Spread, shown_slices, spread_of, write_report

        shown = shown_slices(checked, self.volume)
        if self.spread:
            planes = self.spread.slices()[[s.index for s in shown]]
            spread = Spread(planes, whole=True)
        else:
            spread = spread_of(self.volume, self.model, shown)
        write_report(
            path, checked, self.volume, self.sr, spread=spread, names=names, overwrite=overwrite
        )
