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
    degradation: Annotated[
        Degradation,
        typer.Option("--degradation", help="What made LR coarse; the residual of SR assumes it."),
    ] = "kspace",
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
    """Show a series beside bicubic interpolation and its result in the browser; upscale it there.

    Serves a page to this machine alone until Ctrl-C. Files that are dropped on the page stay on
    this machine and are removed when the page is closed. Needs the extra "view".
    """
    need_starlette()
    from mrlift.viewer.app import Settings
    from mrlift.viewer.server import Server, refuse_missing_page

    refuse_missing_page()
    given = _given(paths or [], degradation, series, slice_axis)
    server = Server(Settings(given, threads, max_upload * 10**6), port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    say(f"{server.url}\nCtrl-C ends the server.")
    if browser:
        import webbrowser

        webbrowser.open(server.door().as_uri())
    server.run()


def _given(
    paths: list[Path], degradation: Degradation, series: str | None, slice_axis: int | None
) -> "Given | None":
    """What is to be shown at once."""
    if len(paths) > 2:
        raise typer.BadParameter(f"Expected a series and its result, found {len(paths)} paths.")
    if not paths:
        return None
    from mrlift.io import load
    from mrlift.viewer.app import Given
    from mrlift.viewer.maps import relation

    lr = load(paths[0], series=series, slice_axis=slice_axis)
    sr = load(paths[1]) if len(paths) == 2 else None
    if sr is not None:
        relation(lr, sr)
    return Given(paths[0].resolve().name, lr, sr, degradation)


def need_starlette() -> None:
    """End with a clear message where the extra is not installed."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"This command needs {', '.join(missing)}. Install it with: pip install 'mrlift[view]'"
        )
