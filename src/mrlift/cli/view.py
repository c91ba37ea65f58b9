"""`mrlift view`: the browser viewer."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mrlift.cli.console import Degradation, Series, SliceAxis, Threads, say
from mrlift.errors import ConfigError

if TYPE_CHECKING:
    from mrlift.viewer.app import Given


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(view)


def view(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[LR [SR]]",
            help="A NIfTI file or a DICOM folder, and its result if there is one.",
        ),
    ] = None,
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
    threads: Threads = 0,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port on loopback; 0 takes a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page, or print its address.")
    ] = True,
    max_upload: Annotated[
        int, typer.Option("--max-upload", metavar="MB", min=1, help="Largest upload, 10^6 bytes.")
    ] = 2000,
) -> None:
    """Show a series beside bicubic and its result in the browser.

    Serves a page to this machine alone until Ctrl-C. Files that are dropped on the page stay on
    this machine and are removed when the page is closed. Needs the extra "view".
    """
    need_starlette()
    from mrlift.viewer.app import Settings
    from mrlift.viewer.server import Server, refuse_missing_page

    refuse_missing_page()
    if paths and len(paths) > 2:
        raise typer.BadParameter(f"Expected a series and its result, found {len(paths)} paths.")
    given = None
    if paths:
        given = _given(paths, model, degradation, series, slice_axis)
    own = Path(model) if model and model.endswith(".onnx") else None
    server = Server(Settings(given, own, threads, max_upload * 10**6), port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    say(f"{server.url}\nCtrl-C ends the server.")
    if browser:
        import webbrowser

        webbrowser.open(server.door().as_uri())
    server.run()


def _given(
    paths: list[Path],
    model: str | None,
    degradation: Degradation | None,
    series: str | None,
    slice_axis: int | None,
) -> "Given":
    """What is to be shown at once."""
    from mrlift.inference.zoo import find_weights
    from mrlift.io import load
    from mrlift.quality import scale_between
    from mrlift.viewer.app import Given
    from mrlift.viewer.cases import Result

    lr = load(paths[0], series=series, slice_axis=slice_axis)
    result = None
    if len(paths) == 2:
        sr = load(paths[1], slice_axis=slice_axis)
        card, _ = find_weights(model, scale_between(lr, sr), degradation)
        result = Result.of(lr, sr, card, new=False)
    return Given(paths[0].resolve().name, lr, result)


def need_starlette() -> None:
    """End with a clear message where the extra is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: pip install 'mrlift[view]'"
        )
